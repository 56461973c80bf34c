"""Where the time of a training step goes: data, forward, backward, update; plain, compiled, and in less memory.

    python benchmarks/step_time.py dlsam/preprocessed/Dataset101_Hippocampus
    python benchmarks/step_time.py --device cuda --variants plain compiled FOLDER ...

Medians over steps on batches of the dataset's plan, each part waited for. `data` is the making of one batch in this
process alone: in training, loader processes make them beside the steps. On CUDA also the most memory that torch had
allocated. Results go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from statistics import median

import torch
from common import RESULTS, commit, hardware

from delightsam_pipeline.inference.device import Device, choose_device
from delightsam_pipeline.inference.model_folder import head_spec
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.preprocessing.store import Store
from delightsam_pipeline.training.averaging import Average
from delightsam_pipeline.training.compiling import compile_network
from delightsam_pipeline.training.economy import rehearse
from delightsam_pipeline.training.loading import Source, batches
from delightsam_pipeline.training.setup import parameter_groups
from delightsam_pipeline.training.step import LARGEST_GRADIENT, task_loss

PARTS = ("data", "forward", "backward", "update")
VARIANTS = ("plain", "compiled", "recomputed", "halves")


def now(device: Device) -> float:
    """Seconds, when the device has done all it was given."""
    if device.torch.type == "cuda":
        torch.cuda.synchronize(device.torch)
    return time.perf_counter()


def measure(store: Store, device: Device, variant: str, steps: int, warm: int) -> dict:
    """Median milliseconds of each part of a step."""
    torch.manual_seed(0)
    plan = store.plan
    model = DeLightSAM({"head": head_spec(plan)}).to(device.torch, memory_format=torch.channels_last).train()
    model.scope.recompute = variant in ("recomputed", "halves")
    model.scope.parts = 2 if variant == "halves" else 1
    optimizer = torch.optim.AdamW(parameter_groups(model, plan.training.weight_decay), lr=1e-4, fused=True)
    average = Average(model)
    loader = batches({"head": Source.of(store, list(store.cases))}, 0, 0, 0)
    begin = now(device)
    if variant == "compiled":

        def step(batch: dict, plan: Plan) -> None:
            task_loss(model, batch, plan, device)[0].backward()

        if not compile_network(model, lambda: rehearse(model, {"head": plan}, step)):
            return {"variant": variant, "failed": True}
    compiled_s = now(device) - begin
    rows = []
    for number in range(warm + steps):
        if number == warm and device.torch.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device.torch)
        times = [now(device)]
        batch = next(loader)
        times.append(now(device))
        with model.scope.step():
            optimizer.zero_grad(set_to_none=True)
            loss, _ = task_loss(model, batch, plan, device)
            times.append(now(device))
            loss.backward()
        times.append(now(device))
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        average.update(model, number + 1)
        times.append(now(device))
        rows.append([1000 * (after - before) for before, after in itertools.pairwise(times)])
    row = {part: round(median(values), 2) for part, values in zip(PARTS, zip(*rows[warm:], strict=True), strict=True)}
    row |= {"variant": variant, "step": round(sum(row[part] for part in PARTS[1:]), 2)}
    if variant == "compiled":
        row["compiling_s"] = round(compiled_s, 1)
    if device.torch.type == "cuda":
        row["peak_mb"] = round(torch.cuda.max_memory_allocated(device.torch) / 1e6)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="preprocessed datasets")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warm", type=int, default=3, help="steps before that are not counted")
    args = parser.parse_args()
    device = choose_device(args.device)
    rows = []
    print(f"{device.reason}; ms\ndataset  batch  size  variant  {'  '.join(PARTS)}  step")
    for folder in args.folders:
        store = Store.load(folder)
        plan = store.plan
        about = {"dataset": folder.name, "batch": plan.training.batch_size, "size": list(plan.patch_size)}
        for variant in args.variants:
            rows.append(about | measure(store, device, variant, args.steps, args.warm))
            print("  ".join(str(value) for value in rows[-1].values()), flush=True)
    record = {"hardware": hardware(), "device": device.reason, "threads": torch.get_num_threads()}
    record |= {"torch": torch.__version__, "commit": commit(), "rows": rows}
    file = RESULTS / f"step-time-{device.torch.type}.json"
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"written to {file}")


if __name__ == "__main__":
    main()
