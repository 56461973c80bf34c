"""What a method that learns almost nothing scores: one mask for every image, and one intensity threshold a class.

    python benchmarks/baselines.py --raw FOLDER --home WORK 102 106 107

For each dataset preprocessed in WORK, validation Dice on the images' own grids, as the package measures it, of
- the constant mask: where the class lies on average in the training cases, by relative position in the image;
- thresholding: one channel (or the mean of all) above or below one value, after the plan's normalisation.
Levels and thresholds are those of the best mean Dice on the training cases. Written to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import RESULTS, commit, hardware

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.checks import check_case
from delightsam_pipeline.data.dataset import Dataset, load_dataset
from delightsam_pipeline.data.splits import fold_cases
from delightsam_pipeline.evaluation.metrics import case_metrics
from delightsam_pipeline.evaluation.summary import CaseResult, summarise
from delightsam_pipeline.files import read_json, write_json
from delightsam_pipeline.paths import find_dataset
from delightsam_pipeline.plans.plan import Plan, load_plan
from delightsam_pipeline.preprocessing.normalisation import normalise
from delightsam_pipeline.preprocessing.resampling import resize

VOXELS = 100_000  # of each training case, for the search
LEVELS = np.linspace(0.02, 0.9, 45)  # of the mean mask
QUANTILES = np.linspace(0.005, 0.995, 100)  # of the intensities, as thresholds
VOLUME, PICTURE = (32, 96, 96), (1, 128, 128)  # sizes of the mean mask


@dataclass(frozen=True)
class Voxels:
    """What the search keeps of a training case: voxels drawn at random, n of a grid z y x.

    places : their flat indices [n]. labels : their label values [n]. features : their intensities [F, n].
    """

    shape: tuple[int, int, int]
    places: np.ndarray
    labels: np.ndarray
    features: np.ndarray


@dataclass(frozen=True)
class Rule:
    """Where values above (or not above) a level are the class; `feature` is the row of the values' array."""

    feature: int
    level: float
    above: bool

    def mask(self, values: np.ndarray) -> np.ndarray:
        """Booleans of the values' shape."""
        return (values > self.level) == self.above


def resized(volume: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """[z, y, x] -> float32 of another size, linear along every axis."""
    planes = resize(volume, size[1:])
    return resize(planes.reshape(len(planes), -1), (size[0], size[1] * size[2])).reshape(size)


def features(array: np.ndarray, plan: Plan) -> np.ndarray:
    """An image [C, z, y, x] -> normalised channels and, when there are several, their mean: [F, z, y, x]."""
    channels = normalise(array, plan.normalisation)
    return channels if len(channels) == 1 else np.concatenate([channels, channels.mean(axis=0, keepdims=True)])


def dice_above_and_below(values: np.ndarray, truth: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Dice [2, levels] of the masks `values > level` and `values <= level`; NaN where both masks are empty."""
    bins = np.searchsorted(levels, values, side="left")  # the number of levels that a value is above
    counts = np.stack([np.bincount(bins[chosen], minlength=len(levels) + 1) for chosen in (truth, ~truth)])
    below = counts.cumsum(axis=1)[:, :-1]
    hits, wrong = np.stack([counts.sum(axis=1, keepdims=True) - below, below], axis=1)
    with np.errstate(invalid="ignore"):
        return 2 * hits / (hits + wrong + truth.sum())


def best_rule(cases: Iterable[tuple[np.ndarray, np.ndarray]], levels: np.ndarray, below: bool) -> Rule:
    """The rule of the best mean Dice over cases (values [F, n], truth [n]); levels [F, L], ascending."""
    scores = [
        [dice_above_and_below(v, truth, row) for v, row in zip(values, levels, strict=True)] for values, truth in cases
    ]
    mean = np.nan_to_num(np.nanmean(scores, axis=0))[:, : 2 if below else 1]
    feature, side, level = np.unravel_index(mean.argmax(), mean.shape)
    return Rule(int(feature), float(levels[feature, level]), bool(side == 0))


def training_data(cases: Iterable[Case], dataset: Dataset, plan: Plan) -> tuple[list[Voxels], np.ndarray]:
    """Voxels of every training case, and the mean mask of every class [K, z, y, x] at the common size."""
    size, ids = VOLUME if plan.physical else PICTURE, plan.targets.ids
    random, drawn = np.random.default_rng(0), []
    mean = np.zeros((len(ids), *size))
    for case in cases:
        image, label = check_case(case, dataset)
        labels, values = label.array[0], features(image.array, plan)
        count = labels.size
        places = random.integers(0, count, VOXELS) if count > VOXELS else np.arange(count)
        drawn.append(Voxels(labels.shape, places, labels.ravel()[places], values.reshape(len(values), -1)[:, places]))
        mean += [resized(np.isin(labels, values), size) for values in ids]
    return drawn, mean / len(drawn)


def pairs(
    drawn: list[Voxels], ids: tuple[int, ...], ignore: int | None, mean: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(values [F, n], truth [n]) of every case for `best_rule`: the intensities, or the mean mask where it is given."""
    for case in drawn:
        values = case.features if mean is None else resized(mean, case.shape).ravel()[None, case.places]
        counted = case.labels != ignore if ignore is not None else slice(None)
        yield values[:, counted], np.isin(case.labels[counted], ids)


def learn(drawn: list[Voxels], means: np.ndarray, plan: Plan) -> dict[str, dict[str, Rule]]:
    """A rule for each class, for both methods."""
    pooled = np.concatenate([case.features for case in drawn], axis=1)
    quantiles, targets = np.quantile(pooled, QUANTILES, axis=1).T, plan.targets
    rules: dict[str, dict[str, Rule]] = {"constant_mask": {}, "threshold": {}}
    for name, ids, mean in zip(targets.classes, targets.ids, means, strict=True):
        constant = pairs(drawn, ids, targets.ignore, mean)
        rules["constant_mask"][name] = best_rule(constant, LEVELS[None], below=False)
        intensities = pairs(drawn, ids, targets.ignore, None)
        rules["threshold"][name] = best_rule(intensities, quantiles, below=True)
    return rules


def scored(cases: Iterable[Case], dataset: Dataset, plan: Plan, rules: dict, means: np.ndarray) -> dict[str, dict]:
    """Per method the package's summary of the validation cases."""
    targets, results = plan.targets, {method: [] for method in rules}
    ids = dict(zip(targets.classes, targets.ids, strict=True))
    for case in cases:
        image, label = check_case(case, dataset)
        reference, values = label.array[0], features(image.array, plan)
        for method in rules:
            metrics = {}
            for (name, numbers), mean in zip(ids.items(), means, strict=True):
                rule = rules[method][name]
                field = resized(mean, reference.shape) if method == "constant_mask" else values[rule.feature]
                mask = np.where(rule.mask(field), numbers[0], 0).astype(reference.dtype)
                metrics |= case_metrics(mask, reference, {name: numbers}, targets.ignore)
            results[method].append(CaseResult(case.name, metrics, case.name, case.name))
    return {method: summarise(rows, ids) for method, rows in results.items()}


def one(store: Path, raw: Path, fold: str) -> dict:
    """The record of one dataset."""
    plan, dataset, begin = load_plan(store / "plan.json"), load_dataset(raw), time.process_time()
    by_name = {case.name: case for case in dataset.cases}
    train, val = fold_cases(read_json(store / "splits_final.json"), fold, list(by_name))
    drawn, means = training_data([by_name[name] for name in train], dataset, plan)
    rules = learn(drawn, means, plan)
    summaries = scored([by_name[name] for name in val], dataset, plan, rules, means)
    record = {"fold": fold, "training_cases": len(train), "validation_cases": len(val)}
    record |= {"commit": commit(), "date": time.strftime("%Y-%m-%d"), "hardware": hardware()}
    for method, summary in summaries.items():
        record[method] = {
            "dice": summary["foreground_mean"]["Dice"],
            "classes": {name: summary["mean"][key]["Dice"] for key, name in summary["classes"].items()},
            "rules": {name: described(rule, method, dataset) for name, rule in rules[method].items()},
        }
    return record | {"cpu_s": round(time.process_time() - begin, 1)}


def described(rule: Rule, method: str, dataset: Dataset) -> str:
    """A rule in words."""
    if method == "constant_mask":
        return f"in more than {rule.level:.2f} of the training cases"
    names = [*dataset.channel_names, "mean of the channels"]
    return f"{names[rule.feature]} {'above' if rule.above else 'up to'} {rule.level:.3g} after normalisation"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--raw", type=Path, required=True, help="folder of raw datasets")
    parser.add_argument("--home", type=Path, required=True, help="where the datasets have been preprocessed")
    parser.add_argument("--fold", default="0")
    args = parser.parse_args()
    file = RESULTS / "baselines.json"
    records = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for name in args.datasets:
        store = find_dataset(name, [args.home / "preprocessed"], "preprocessed dataset", holds="plan.json")
        records[store.name] = one(store, find_dataset(store.name, [args.raw]), args.fold)
        write_json(file, dict(sorted(records.items())))
        found = ", ".join(f"{m} {records[store.name][m]['dice']:.3f}" for m in ("constant_mask", "threshold"))
        print(f"{store.name}: {found}", flush=True)


if __name__ == "__main__":
    main()
