"""What single decisions of a plan bring: plan with some of them set by hand, preprocess, train, validate.

    python benchmarks/plan_choices.py --raw RAW --work WORK --fold 2 --epochs 3 Dataset105_X --set patch_size=448x448

Without --set the plan stands as the rules make it. Appends a line of JSON to WORK/plan_choices.jsonl: the decisions,
mean validation Dice, GFLOP for one image of the plan's size, CPU seconds of preprocessing and of training.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from common import commit

from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.evaluation.summary import mean_dice
from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.model.costs import work
from delightsam_pipeline.plans.overrides import parse_overrides
from delightsam_pipeline.preprocessing.run import plan_dataset, preprocess
from delightsam_pipeline.preprocessing.store import Store
from delightsam_pipeline.training.loop import train
from delightsam_pipeline.training.setup import Options, start


def main() -> None:
    """Plan, preprocess, train, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="DECISION=VALUE", dest="overrides")
    parser.add_argument("--fold", default="2")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=12345)
    parser.add_argument("dataset")
    args = parser.parse_args()
    dataset = load_dataset(args.raw / args.dataset)
    name = "-".join([args.dataset, *(text.replace("=", "") for text in args.overrides)])
    folder, begin = args.work / "preprocessed" / name, time.process_time()
    plan = plan_dataset(dataset, folder, workers=1, overrides=parse_overrides(args.overrides))
    preprocess(dataset, plan, folder, workers=1)
    prepared = time.process_time()
    results = args.work / "results" / f"{name}-fold{args.fold}-seed{args.seed}"
    options = Options(args.fold, args.epochs, seed=args.seed, restart=True)
    run = start({args.dataset: Store.load(folder)}, results, options, choose_device("cpu"))
    train(run)
    summary = json.loads((results / "validation" / args.dataset / "summary.json").read_text(encoding="utf-8"))
    record = {
        "dataset": args.dataset,
        "set": args.overrides,
        "fold": args.fold,
        "seed": args.seed,
        "steps": run.progress.step,
        "batch_size": plan.training.batch_size,
        "patch_size": plan.patch_size,
        "scaling": plan.scaling,
        "dice": round(mean_dice(summary), 4),
        "gflop": round(sum(work(run.averaged_model(), args.dataset, *plan.patch_size).values()) / 1e9, 3),
        "preprocessing_cpu_seconds": round(prepared - begin, 1),
        "training_cpu_seconds": round(time.process_time() - prepared),
        "commit": commit(),
    }
    with open(args.work / "plan_choices.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    print(record)


if __name__ == "__main__":
    main()
