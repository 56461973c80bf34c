"""One model of several datasets against one for each, at equal total time; and a dataset added to a trained model.

    python benchmarks/joint_or_single.py --raw RAW --work WORK --time-budget 20m --cpus 0 --threads 1
    python benchmarks/joint_or_single.py --raw RAW --work WORK --time-budget 20m --add 106 101 102 103 104 105 107 108

The first trains one model of all datasets for the budget, and one of each for its share of the budget. The second
(`--add`) trains one model of the datasets for their part of the budget, has another dataset added to it as a new head,
trains that dataset alone for the same time, and predicts test images (held-out ones where there are none) through
every other head before and after: the SHA-256 of the masks must be the same. Writes a record of every training to
benchmarks/results/joint_or_single/; those that are there are not made again. training_tables.py makes tables of them.
"""

from __future__ import annotations

import hashlib
import itertools
from argparse import Namespace
from pathlib import Path

from real_datasets import measured
from runs import held_out, linked, once, options, parse, prepared, raw_dataset, trained, validation

from delightsam_pipeline.commands.common import duration
from delightsam_pipeline.data.dataset import Dataset

KIND = "joint_or_single"
EIGHT = [str(number) for number in range(101, 109)]


def key_of(what: str, datasets: list[Dataset], seconds: float, fold: str, seed: int) -> dict:
    """What names a training: joint, single, base (of what is added to) or added; its datasets, its time."""
    return {"what": what, "datasets": ids(datasets), "fold": fold, "seed": seed, "budget": f"{seconds:g}s"}


def ids(datasets: list[Dataset]) -> str:
    return "+".join(dataset.name.removeprefix("Dataset").split("_")[0] for dataset in datasets)


def model_of(key: dict, args: Namespace) -> Path:
    return args.work / KIND / "-".join(map(str, key.values())) / "model"


def fit(key: dict, datasets: list[Dataset], args: Namespace, *more: str) -> dict:
    """Train on datasets together for a time; what it cost, and the scores of every head trained."""
    stores, model = [prepared(dataset)[0] for dataset in datasets], model_of(key, args)
    length = ("--time-budget", key["budget"], *more)
    figures = trained(stores, key["fold"], key["seed"], model, args.device, *length)
    return figures | {"heads": {dataset.name: validation(model, dataset.name) for dataset in datasets}}


def train(what: str, datasets: list[Dataset], seconds: float, fold: str, seed: int, args: Namespace) -> Path:
    """A record of one training, unless it is there; the model's folder."""
    key = key_of(what, datasets, seconds, fold, seed)
    tell(once(KIND, key, lambda: fit(key, datasets, args), args))
    return model_of(key, args)


def tell(record: dict) -> None:
    for head, found in record["heads"].items():
        print(f"  {head}: Dice {found['mean']['Dice']:.4f}", flush=True)


def compare(names: list[str], fold: str, seed: int, args: Namespace) -> None:
    """One model for the whole budget, and one of each dataset for its share."""
    datasets, total = [raw_dataset(name, args) for name in names], duration(args.time_budget)
    train("joint", datasets, total, fold, seed, args)
    for dataset in datasets:
        train("single", [dataset], total / len(datasets), fold, seed, args)


def add(name: str, names: list[str], fold: str, seed: int, args: Namespace) -> None:
    """Add a dataset to a model of the others; train it alone as well; compare the others' masks before and after."""
    datasets, new = [raw_dataset(other, args) for other in names], raw_dataset(name, args)
    share = duration(args.time_budget) / (len(datasets) + 1)
    base = train("base", datasets, share * len(datasets), fold, seed, args)
    train("single", [new], share, fold, seed, args)
    key = key_of("added", [new], share, fold, seed) | {"base": ids(datasets)}

    def make() -> dict:
        figures = fit(key, [new], args, "--add-to", str(base))
        return figures | {"masks": {d.name: masks(d, fold, base, model_of(key, args), args) for d in datasets}}

    record = once(KIND, key, make, args)
    tell(record)
    for head, found in record["masks"].items():
        print(f"  {head}: {found['identical']} of {found['files']} masks are the same, byte for byte")


def masks(dataset: Dataset, fold: str, base: Path, added: Path, args: Namespace) -> dict:
    """How many masks of a dataset's test images are the same before and after."""
    files = sorted((dataset.folder / "imagesTs").glob("*"))
    if not files:
        files = [file for case in held_out(dataset, prepared(dataset)[0], fold) for file in case.images]
    digests = []
    for model in (base, added):
        folder = model.parent / "masks" / dataset.name
        images = linked(model.parent / "images" / dataset.name, files[: args.most])
        where = ("-i", str(images), "-o", str(folder), "-m", str(model), "--head", dataset.name)
        measured("dlsam_predict", *where, "--device", args.device)
        written = [file for file in sorted(folder.iterdir()) if file.name != "run.json"]
        digests.append({file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in written})
    before, after = digests
    same = [name for name in before if after.get(name) == before[name]]
    return {"files": len(before), "identical": len(same), "sha256": {"before": before, "after": after}}


def main() -> None:
    p = options(__doc__)
    p.add_argument("--time-budget", default="20m", help="of all together; a dataset's share is an equal part (20m)")
    p.add_argument("--add", metavar="DATASET", help="add this one to a model of the others instead")
    p.add_argument("--most", type=int, help="predict so many test files of a dataset at most, for a quick try")
    p.add_argument("datasets", nargs="*", help="101 to 108 when not given, less the one to add")
    args = parse(p)
    names = args.datasets or [name for name in EIGHT if name != args.add]
    for fold, seed in itertools.product(args.fold, args.seed):
        if args.add is None:
            compare(names, fold, seed, args)
        else:
            add(args.add, names, fold, seed, args)


if __name__ == "__main__":
    main()
