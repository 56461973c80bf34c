"""What the network costs: parameters and GFLOP part by part, and the time of one pass in its two forms.

    python benchmarks/network.py --sizes 224 448 --batches 1 --repeats 5 --threads 1

Times the training form in evaluation mode against the inference form, taking turns, after one pass each to warm up:
fp32 on a CPU, bf16 on a GPU that has it. On a CPU every setting runs in processes of its own, one with malloc as it
is and one with malloc keeping freed memory, which cannot be undone. Weights are random: what starts at zero is not
left there, so that nothing can be skipped. Everything is printed, and written as JSON to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch
from common import RESULTS, commit, hardware
from torch import nn

from delightsam_pipeline.inference.device import Device, choose_device, keep_freed_memory
from delightsam_pipeline.model.costs import SAM_VIT_H, parameters, work
from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec
from delightsam_pipeline.model.inference_form import prepare_for_inference

SIZES, BATCHES = (224, 448, 672, 896, 1024), (1, 8)
MODALITY, HEAD = "ultrasound", "head"


@dataclass(frozen=True)
class Setting:
    """What one process measures; `keep` is whether malloc keeps freed memory."""

    size: int
    batch: int
    keep: bool
    repeats: int
    threads: int
    device: str


def network(release: bool = False) -> DeLightSAM:
    """One controller and one head with a class: our form, or that of the authors' release."""
    if release:
        return DeLightSAM({HEAD: HeadSpec(MODALITY, 1, query=0)}, fit_windows=False, detail=False, joint=7)
    return DeLightSAM({HEAD: HeadSpec(MODALITY, 1)})


def costs(sizes: list[int]) -> dict:
    """Parameters, and GFLOP of one image by size, of both forms."""
    found = {}
    for name in ("ours", "release"):
        model = network(release=name == "release")
        gflop = {}
        for size in sizes:
            flop = work(model, HEAD, size, size)
            gflop[size] = {part: round(value / 1e9, 3) for part, value in [*flop.items(), ("all", sum(flop.values()))]}
        found[name] = {"parameters": parameters(model), "gflop": gflop}
    return found


def print_costs(found: dict, sizes: list[int]) -> None:
    for name, record in found.items():
        counts = record["parameters"]
        controller, head = counts["controllers"][MODALITY], counts["heads"][HEAD]
        shared = sum(value for value in counts.values() if isinstance(value, int))
        print(f"\n{name}: parameters {counts}")
        for number in (1, 6, 8):
            total = shared + number * (controller + head)
            print(f"  shared part and {number} x controller and head: {total:,}, {total / SAM_VIT_H:.2%} of SAM ViT-H")
        print("  GFLOP at  " + "".join(f"{part:>12}" for part in record["gflop"][sizes[0]]))
        for size, parts in record["gflop"].items():
            print(f"  {size:8d}  " + "".join(f"{value:12.3f}" for value in parts.values()))


def passes(setting: Setting) -> dict[str, dict[str, float]]:
    """Median seconds of one pass of both forms: by the clock, and of all cores together."""
    if setting.keep:
        keep_freed_memory()
    torch.set_num_threads(setting.threads)
    # choose_device would change malloc, and take bf16 on a processor that has it
    device = Device(torch.device("cpu"), False, "fp32") if setting.device == "cpu" else choose_device(setting.device)
    torch.manual_seed(0)
    model = network()
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    model = model.eval().to(device.torch, memory_format=torch.channels_last)
    forms = {"training": model, "inference": prepare_for_inference(model, MODALITY)}
    images = torch.randn(setting.batch, 3, setting.size, setting.size, device=device.torch)
    images = images.contiguous(memory_format=torch.channels_last)
    taken = {name: [] for name in forms}
    for _ in range(1 + setting.repeats):
        for name, form in forms.items():
            taken[name].append(_once(form, images, device))
    return {name: dict(zip(("wall_s", "cpu_s"), _medians(times[1:]), strict=True)) for name, times in taken.items()}


@torch.inference_mode()
def _once(form: nn.Module, images: torch.Tensor, device: Device) -> tuple[float, float]:
    wait = torch.cuda.synchronize if device.torch.type == "cuda" else lambda: None
    wait()
    wall, cpu = time.perf_counter(), time.process_time()
    with device.autocast():
        form(images, HEAD)
    wait()
    return time.perf_counter() - wall, time.process_time() - cpu


def _medians(times: list[tuple[float, float]]) -> list[float]:
    return [float(f"{median(column):.4g}") for column in zip(*times, strict=True)]


def measure(args: argparse.Namespace, device: str) -> list[dict]:
    """One record per size and batch, printed as they come."""
    print("\nseconds of one pass, by the clock / of all cores\n")
    print("  size  batch  malloc  training form       inference form      ratio of each")
    rows = []
    for size in args.sizes:
        for batch in args.batches:
            for keep in (False, True) if device == "cpu" else (False,):
                setting = Setting(size, batch, keep, args.repeats, args.threads, device)
                rows.append({"size": size, "batch": batch, "malloc_keeps": keep, **_in_a_process(setting)})
                print(_row(rows[-1]), flush=True)
            if device == "cpu":
                before, after = rows[-2]["training"], rows[-1]["inference"]
                ratios = " / ".join(f"{after[kind] / before[kind]:.2f}" for kind in ("wall_s", "cpu_s"))
                print(f"{'inference form, malloc keeps, against training form as is':66s}{ratios}", flush=True)
    return rows


def _in_a_process(setting: Setting) -> dict:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(passes, setting).result()


def _row(row: dict) -> str:
    before, after = row["training"], row["inference"]
    shown = [f"{times['wall_s']:.3f} / {times['cpu_s']:.3f}".ljust(18) for times in (before, after)]
    ratios = " / ".join(f"{after[kind] / before[kind]:.2f}" for kind in ("wall_s", "cpu_s"))
    malloc = "keeps" if row["malloc_keeps"] else "as is"
    return f"  {row['size']:4d}  {row['batch']:5d}  {malloc:6s}  {shown[0]}  {shown[1]}  {ratios}"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="sides of square images, multiples of 32")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--repeats", type=int, default=5, help="timed passes of each form (5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of a CPU (all cores)")
    parser.add_argument("--cpu", action="store_true", help="measure the CPU though there is a GPU")
    parser.add_argument("--output", type=Path, help="the record's file")
    return parser.parse_args()


def main() -> None:
    args = options()
    device = "cuda" if torch.cuda.is_available() and not args.cpu else "cpu"
    found = costs(args.sizes)
    print_costs(found, args.sizes)
    precision = "bf16" if device == "cuda" and choose_device(device).bf16 else "fp32"
    record = {
        "command": " ".join(["python benchmarks/network.py", *sys.argv[1:]]),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": {"python": sys.version.split()[0], **{name: version(name) for name in ("torch", "numpy")}},
        "hardware": hardware(),
        "device": device,
        "precision": precision,
        "threads": args.threads,
        "repeats": args.repeats,
        **found,
        "passes": measure(args, device),
    }
    file = args.output or RESULTS / f"network-{'gpu' if device == 'cuda' else f'cpu{args.threads}'}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {file}")


if __name__ == "__main__":
    main()
