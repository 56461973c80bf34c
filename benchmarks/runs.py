"""What the benchmarks of training share: options, pinning, records that are made once, our commands."""

from __future__ import annotations

import argparse
import csv
import os
import re
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common import RESULTS, commit, hardware
from real_datasets import measured

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.dataset import Dataset, load_dataset
from delightsam_pipeline.data.splits import fold_cases
from delightsam_pipeline.files import make_folder, read_json, write_json
from delightsam_pipeline.paths import find_dataset

KEPT = ("Dice", "HD95", "NSD")  # of a case's metrics, in records; what methods are compared by


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser with what every one of these benchmarks takes."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--raw", type=Path, required=True, help="folder of raw datasets")
    p.add_argument("--work", type=Path, required=True, help="where stores, models and masks go; kept between runs")
    p.add_argument("--fold", type=lambda text: text.split(","), default=["0"], help="one or several: 0,1")
    p.add_argument("--seed", type=lambda text: [int(n) for n in text.split(",")], default=[12345], help="such as 1,2")
    p.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    p.add_argument("--threads", type=int, help="threads of each process (default: as many as cores)")
    p.add_argument("--cpus", help="run on these cores alone, as 0 or 0,1 (Linux)")
    return p


def parse(p: argparse.ArgumentParser) -> argparse.Namespace:
    """The options; this process and all that it starts are pinned, and find data in the folders given."""
    args = p.parse_args()
    if args.cpus is not None:
        os.sched_setaffinity(0, {int(number) for number in args.cpus.split(",")})
    args.cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    args.threads = args.threads or args.cores
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(args.threads))
    args.raw, args.work = args.raw.resolve(), make_folder(args.work.resolve())
    os.environ |= threads | {"nnUNet_raw": str(args.raw), "DLSAM_HOME": str(args.work / "dlsam")}
    return args


def machine(args: argparse.Namespace) -> str:
    """What a record was measured on, as a part of its file's name: cpu1, or the GPU's name."""
    gpu = None if args.device == "cpu" else hardware()["gpu"]
    return re.sub(r"\W+", "_", gpu) if gpu else f"cpu{args.cores}"


def once(kind: str, key: dict[str, Any], make: Callable[[], dict[str, Any]], args: argparse.Namespace) -> dict:
    """The record benchmarks/results/KIND/KEY-MACHINE.json; if it is not there yet, `make` gives its figures."""
    name = "-".join([*(f"{k}{v}" if k in ("fold", "seed") else str(v) for k, v in key.items()), machine(args)])
    file = RESULTS / kind / f"{name}.json"
    if file.is_file():
        print(f"{file.stem}: there already")
        return read_json(file)
    print(f"{file.stem}: running", flush=True)
    about = {"commit": commit(), "date": time.strftime("%Y-%m-%d"), "threads": args.threads, "cores_used": args.cores}
    versions = {name: version(name) for name in ("torch", "numpy", "batchgenerators")}
    record = key | about | {"hardware": hardware(), "versions": versions} | make()
    make_folder(file.parent)
    write_json(file, record)
    return record


def raw_dataset(name: str, args: argparse.Namespace) -> Dataset:
    """The raw dataset that an id or a name means."""
    return load_dataset(find_dataset(name, [args.raw]))


def prepared(dataset: Dataset, *more: str, home: Path | None = None) -> tuple[Path, dict]:
    """Plan and preprocess a raw dataset, unless that stands; its store, and what the command cost."""
    root = (home or Path(os.environ["DLSAM_HOME"])) / "preprocessed"
    step = measured("dlsam_plan_and_preprocess", "-d", str(dataset.folder), "-o", str(root), "--no-report", *more)
    return root / dataset.name, cost(step)


def cost(step: dict) -> dict:
    """Seconds of a command; its text has folders of this machine in it."""
    return {"wall_s": step["wall_s"], "cpu_s": step["cpu_s"]}


def held_out(dataset: Dataset, store: Path, fold: str) -> list[Case]:
    """The raw cases that a fold validates on."""
    cases = {case.name: case for case in dataset.cases}
    return [cases[name] for name in fold_cases(read_json(store / "splits_final.json"), fold, list(cases))[1]]


def linked(folder: Path, files: Iterable[Path]) -> Path:
    """A folder that holds links to these files and nothing else."""
    make_folder(folder)
    for old in folder.iterdir():
        old.unlink()
    for file in files:
        (folder / file.name).symlink_to(file.resolve())
    return folder


def trained(stores: Iterable[Path], fold: str, seed: int, model: Path, device: str, *more: str) -> dict[str, Any]:
    """Train with dlsam_train, or take up a run that was cut off; what it cost.

    training_s is the run's own clock, validations on the way included and the last one not.
    """
    names = "+".join(map(str, stores))
    options = ("--seed", str(seed), "--device", device, "-o", str(model), *more)
    step = measured("dlsam_train", names, fold, *options)
    with open(model / "progress.csv", encoding="utf-8", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    return {"training_s": round(float(last["elapsed"]), 1), "iterations": int(last["step"])} | cost(step)


def validation(model: Path, head: str) -> dict[str, Any]:
    """The scores of a head's last validation, as records keep them."""
    return scores(read_json(model / "validation" / head / "summary.json"))


def scores(summary: dict) -> dict[str, Any]:
    """What records keep of a summary: enough to compare two methods case by case."""
    rows = [
        {"name": row["name"], "group": row["group"], "metrics": {key: kept(m) for key, m in row["metrics"].items()}}
        for row in summary["metric_per_case"]
    ]
    mean = {name: shortened(summary["foreground_mean"].get(name)) for name in KEPT}
    return {"mean": mean, "unit": summary.get("unit"), "classes": summary["classes"], "metric_per_case": rows}


def kept(metrics: dict) -> dict:
    return {name: shortened(metrics[name]) for name in KEPT}


def shortened(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
