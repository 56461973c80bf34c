"""What choices of the training recipe bring, at equal steps from nothing.

    python benchmarks/recipes.py --preprocessed FOLDER --work WORK --variant muon --fold 2 --epochs 4 Dataset101_X

Trains one model on a preprocessed dataset (or several, joined with +) with one variant, or with entries of the plan's
training set by hand (`--set learning_rate=0.002`), and appends a line of JSON to WORK/recipes.jsonl: mean validation
Dice at the end per dataset. Variants:

    own        the package's: AdamW, cosine, averaged weights, heads in turn
    poly       a polynomial decay of power 0.9 in place of the cosine
    noaverage  the last weights
    beta95     AdamW with a beta2 of 0.95
    muon       matrices by Muon, the rest by AdamW
    balance    heads drawn in proportion to the square root of their number of cases
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from common import commit

from delightsam_pipeline.evaluation.summary import mean_dice
from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.preprocessing.store import Store
from delightsam_pipeline.training import epoch, waiting
from delightsam_pipeline.training.averaging import Average
from delightsam_pipeline.training.loading import batches
from delightsam_pipeline.training.loop import train
from delightsam_pipeline.training.setup import Options, Run, parameter_groups, start

VARIANTS = ("own", "poly", "noaverage", "beta95", "muon", "balance")


class Both:
    """Several optimisers with one learning rate."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts, self.param_groups = parts, [group for part in parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Of all."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self) -> None:
        """Of all."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict:
        """Nothing: these runs do not go on."""
        return {}


def poly(base: float, progress: float, warmup: float) -> float:
    """In place of schedule.learning_rate."""
    if progress < warmup:
        return base * (0.01 + 0.99 * progress / warmup)
    return base * max(1e-3, (1 - min(1.0, (progress - warmup) / (1 - warmup))) ** 0.9)


def apply(variant: str, run: Run) -> None:
    """Change the run, or the package, to the variant."""
    training = next(iter(run.plans.values())).training
    groups = parameter_groups(run.model, training.weight_decay)
    if variant == "poly":
        epoch.learning_rate = poly
    if variant == "noaverage":
        run.average = Average(run.model, 0.0)
    if variant == "beta95":
        run.optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.95), fused=True)
    if variant == "muon":
        matrices = [p for p in groups[0]["params"] if p.ndim == 2]
        chosen = {id(p) for p in matrices}
        rest = [{**group, "params": [p for p in group["params"] if id(p) not in chosen]} for group in groups]
        rate = {"lr": training.learning_rate, "weight_decay": training.weight_decay}
        muon = torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", **rate)
        run.optimizer = Both(torch.optim.AdamW(rest, lr=training.learning_rate, fused=True), muon)
    if variant == "balance":
        waiting.batches = partial(batches, balance=0.5)


def main() -> None:
    """Train, validate, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preprocessed", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--variant", default="own", choices=VARIANTS)
    parser.add_argument("--set", action="append", default=[], metavar="ENTRY=VALUE", dest="entries")
    parser.add_argument("--fold", default="2")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=12345)
    parser.add_argument("dataset")
    args = parser.parse_args()
    stores = {name: _store(args.preprocessed / name, args.entries) for name in args.dataset.split("+")}
    name = "-".join([args.dataset, args.variant, *args.entries, f"fold{args.fold}", f"seed{args.seed}"])
    folder, begin = args.work / "runs" / name, time.process_time()
    run = start(stores, folder, Options(args.fold, args.epochs, seed=args.seed, restart=True), choose_device("cpu"))
    apply(args.variant, run)
    train(run)
    found = {h: json.loads((folder / "validation" / h / "summary.json").read_text(encoding="utf-8")) for h in stores}
    record = {
        "dataset": args.dataset,
        "variant": args.variant,
        "set": args.entries,
        "fold": args.fold,
        "seed": args.seed,
        "steps": run.progress.step,
        "dice": {head: round(mean_dice(summary), 4) for head, summary in found.items()},
        "loss": round(run.progress.history[-1]["mask_loss"], 4),
        "cpu_seconds": round(time.process_time() - begin),
        "commit": commit(),
    }
    with open(args.work / "recipes.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    print(record)


def _store(folder: Path, entries: list[str]) -> Store:
    """A store whose plan has some entries of its training changed."""
    store = Store.load(folder)
    training = store.plan.training
    for entry in entries:
        name, value = entry.split("=")
        training = training.model_copy(update={name: type(getattr(training, name))(float(value))})
    return replace(store, plan=store.plan.model_copy(update={"training": training}))


if __name__ == "__main__":
    main()
