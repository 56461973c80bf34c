"""Domain generalisation: train on the images of one domain, test on held-out ones of it and on those of another.

    python benchmarks/domains.py --raw RAW --work WORK --epochs 10 --fold 0,1 107 103
    python benchmarks/domains.py --raw RAW --work WORK --epochs 10 --fold 0,1 107+103 --set augmentation.colour=false

The domains of dataset 107 are its two endoscopy centres, told apart by the size of their pictures; those of 103 are
fluorescence (dark) and stained (bright) pictures. Of each domain a quarter is held out, another one for every two
folds: an even fold trains on the rest of the first domain, an odd one on that of the second, and both validate on the
quarter and on all of the other domain. Datasets after a + are trained in the same model, on their own folds; --set is
passed to dlsam_plan_and_preprocess for the first. The length is a number of epochs, so that other work on the machine
does not matter; an epoch has the steps of every joined dataset, so 107+103 needs half the epochs of 107 for as many
steps in all. Writes a record of every training, the lists of cases with it, to benchmarks/results/domains/; those
that are there are not made again. training_tables.py makes a table of them.
"""

from __future__ import annotations

import itertools
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
from runs import once, options, parse, prepared, raw_dataset, scores, trained

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.dataset import Dataset, load_dataset
from delightsam_pipeline.data.formats import read_case
from delightsam_pipeline.data.splits import Split, make_splits
from delightsam_pipeline.files import make_folder, read_json, write_json

KIND, PARTS = "domains", 4
# the mean of the darkest stained picture is 141, that of the brightest fluorescence one 57
BRIGHT = 100


def centre(case: Case) -> str:
    """Of a polyp picture: ClinicDB's have 384 x 288 pixels, ColonDB's 574 x 500."""
    return {384: "ClinicDB", 574: "ColonDB"}[read_case(case.images).array.shape[-1]]


def stain(case: Case) -> str:
    """Of a picture of nuclei: fluorescence is bright on black, a stain dark on white."""
    return "stained" if read_case(case.images).array.mean() > BRIGHT else "fluorescence"


RULES: dict[str, Callable[[Case], str]] = {"Dataset107_Polyp": centre, "Dataset103_Nuclei": stain}


def domains_of(dataset: Dataset) -> dict[str, list[str]]:
    """The names of the cases of each of two domains."""
    found: dict[str, list[str]] = {}
    for case in dataset.cases:
        found.setdefault(RULES[dataset.name](case), []).append(case.name)
    return dict(sorted(found.items()))


def domain_splits(domains: dict[str, list[str]]) -> list[Split]:
    """Folds 2 p and 2 p + 1 train on all but the quarter p of the first and of the second domain."""
    splits = []
    for part in range(PARTS):
        for source, other in itertools.permutations(domains):
            names = np.random.default_rng(0).permutation(domains[source])
            held = {str(name) for name in names[part::PARTS]}
            train = [name for name in domains[source] if name not in held]
            splits.append({"train": train, "val": sorted(held) + domains[other]})
    return splits


def copied(dataset: Dataset, splits: list[Split], root: Path) -> Dataset:
    """The dataset under another root, its files linked, with these splits."""
    folder = make_folder(root / dataset.name)
    for name in ("dataset.json", "imagesTr", "labelsTr"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(dataset.folder / name)
    write_json(folder / "splits_final.json", splits)
    return load_dataset(folder)


def run(names: list[str], fold: str, seed: int, args: Namespace) -> dict:
    """Train on one domain of the first dataset, and on the others beside it; the record."""
    first, *others = (raw_dataset(name, args) for name in names)
    domains = domains_of(first)
    setting = "+".join([first.name, *(dataset.name.removeprefix("Dataset").split("_")[0] for dataset in others)])
    setting = "-".join([setting, *(text.replace("=", "_") for text in args.overrides)])
    key = {"setting": setting, "fold": fold, "seed": seed, "epochs": f"{args.epochs}epochs"}
    work = args.work / KIND / setting.replace("+", "_with_")  # commands would take a + for two datasets

    def make() -> dict:
        more = [part for text in args.overrides for part in ("--set", text)]
        stores = [prepared(copied(first, domain_splits(domains), work / "raw"), *more, home=work)[0]]
        for other in others:
            five = make_splits([c.name for c in other.cases], {c.name: c.group for c in other.cases})
            folds = [five[number % len(five)] for number in range(2 * PARTS)]
            stores.append(prepared(copied(other, folds, work / "raw"), home=work)[0])
        model = work / f"fold{fold}-seed{seed}-{args.epochs}epochs"
        figures = trained(stores, fold, seed, model, args.device, "--epochs", str(args.epochs))
        summary = read_json(model / "validation" / first.name / "summary.json")
        source = list(domains)[int(fold) % 2]
        about = {"dataset": first.name, "with": [o.name for o in others], "set": args.overrides, "domains": domains}
        return about | {"trained_on": source} | figures | {"scores": by_domain(summary, domains)}

    return once(KIND, key, make, args)


def by_domain(summary: dict, domains: dict[str, list[str]]) -> dict[str, dict]:
    """The scores of the validated cases of each domain, and the mean of their Dice."""
    kept, found = scores(summary), {}
    for domain, names in domains.items():
        rows = [row for row in kept["metric_per_case"] if row["name"] in names]
        found[domain] = {"dice": mean_dice(rows), "metric_per_case": rows}
    return found


def mean_dice(rows: list[dict]) -> float:
    """Mean over cases and classes of every Dice that is defined."""
    values = [m["Dice"] for row in rows for m in row["metrics"].values() if m["Dice"] is not None]
    return round(float(np.mean(values)), 5)


def main() -> None:
    p = options(__doc__)
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--set", dest="overrides", action="append", default=[], metavar="DECISION=VALUE")
    p.add_argument("datasets", nargs="+", help="107 or 103, with others in the same model after a +")
    args = parse(p)
    for names, fold, seed in itertools.product(args.datasets, args.fold, args.seed):
        record = run(names.split("+"), fold, seed, args)
        for domain, found in record["scores"].items():
            count = len(found["metric_per_case"])
            print(f"  trained on {record['trained_on']}: Dice {found['dice']:.4f} on {count} cases of {domain}")


if __name__ == "__main__":
    main()
