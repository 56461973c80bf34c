"""Plan, train and score real raw datasets with the package's own commands, and record what came of it.

    python benchmarks/real_datasets.py --raw FOLDER --home WORK --time-budget 8m 101 103 101+103

For each dataset, and for several joined with + as one model: the three commands with no option beyond dataset, fold
and time budget; a JSON in benchmarks/results/ with hardware, versions, commands, times, CPU seconds, peak memory and
the validation scores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from common import RESULTS, commit, hardware


def measured(*command: str) -> dict:
    """Run one of our commands; wall and CPU seconds, and the largest resident memory of any command so far (MB)."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    module = command[0].removeprefix("dlsam_")
    subprocess.run([sys.executable, "-m", f"delightsam_pipeline.commands.{module}", *command[1:]], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "command": " ".join(command),
        "wall_s": round(time.monotonic() - begin, 1),
        "cpu_s": round(cpu, 1),
        "peak_mb": round(after.ru_maxrss / 1024),
    }


def one(datasets: str, fold: str, budget: str, home: Path) -> dict:
    """Run the chain on one dataset, or on several joined with + as one model; returns the record."""
    names = datasets.split("+")
    steps = [measured("dlsam_plan_and_preprocess", "-d", *names)]
    steps.append(measured("dlsam_train", datasets, fold, "--time-budget", budget))
    model = max((home / "results").glob(f"*/fold_{fold}/model.json"), key=lambda f: f.stat().st_mtime).parent
    heads = {}
    for name, head in zip(names, model.parent.name.split("+"), strict=True):
        heads[head] = scores(json.loads((model / "validation" / head / "summary.json").read_text(encoding="utf-8")))
        raw = Path(os.environ["nnUNet_raw"]) / head  # noqa: SIM112  nnU-Net's own spelling
        if any((raw / "imagesTs").glob("*")):
            steps.append(
                predicted(raw / "imagesTs", home / "predictions" / model.parent.name / head, model, head, name)
            )
    history = (model / "progress.csv").read_text(encoding="utf-8").splitlines()
    return {
        "dataset": datasets if len(names) > 1 else head,
        "fold": fold,
        "time_budget": budget,
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": {name: version(name) for name in ("torch", "numpy", "batchgenerators")},
        "hardware": hardware(),
        "steps": steps,
        "training_steps": int(history[-1].split(",")[history[0].split(",").index("step")]),
        "heads": heads,
    }


def scores(summary: dict) -> dict:
    """What a record keeps of a head's validation."""
    return {
        "validation_cases": len(summary["metric_per_case"]),
        "foreground_mean": {k: summary["foreground_mean"].get(k) for k in ("Dice", "IoU", "HD95", "NSD")},
        "classes": {name: summary["mean"][key]["Dice"] for key, name in summary["classes"].items()},
    }


def predicted(images: Path, output: Path, model: Path, head: str, dataset: str) -> dict:
    """Predict a dataset's test images through its own head; the step's figures."""
    options = ("-i", str(images), "-o", str(output), "-m", str(model), "--head", head)
    step = measured("dlsam_predict", *options)
    step["command"] = f"dlsam_predict -i {dataset}/imagesTs -o OUTPUT -m MODEL --head {head}"
    step["cases"] = len(json.loads((output / "run.json").read_text("utf-8"))["cases"])
    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--raw", type=Path, required=True, help="folder of raw datasets")
    parser.add_argument("--home", type=Path, required=True, help="where stores and models go")
    parser.add_argument("--fold", default="0")
    parser.add_argument("--time-budget", default="20m")
    args = parser.parse_args()
    os.environ |= {"nnUNet_raw": str(args.raw.resolve()), "DLSAM_HOME": str(args.home.resolve())}
    for dataset in args.datasets:
        record = one(dataset, args.fold, args.time_budget, args.home.resolve())
        device = "gpu" if record["hardware"]["gpu"] else f"cpu{record['hardware']['cores']}"
        RESULTS.mkdir(exist_ok=True)
        file = RESULTS / f"{record['dataset']}-fold{args.fold}-{args.time_budget}-{device}.json"
        file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        for head, found in record["heads"].items():
            print(f"{head}: validation Dice {found['foreground_mean']['Dice']:.3f}, written to {file}")


if __name__ == "__main__":
    main()
