"""The scores of many cases as one summary.json, in nnU-Net's structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from delightsam_pipeline.evaluation.intervals import FEWEST_GROUPS, LEVEL, RESAMPLES, mean_intervals
from delightsam_pipeline.evaluation.metrics import Ids, Metrics

MEASURES = ("Dice", "IoU", "HD95", "NSD", "Volume_pred", "Volume_ref")  # the metrics that are no counts
TRAINED_ON = "these cases were trained on, so the scores say nothing about new ones"  # a summary's `note`


@dataclass(frozen=True)
class CaseResult:
    """One case: its name, metrics per class as `case_metrics` returns them, and the two files compared.

    group : cases of one patient or video share it; None for a case on its own.
    """

    name: str
    metrics: Mapping[str, Metrics]
    reference_file: str
    prediction_file: str
    group: str | None = None


def summarise(
    cases: Sequence[CaseResult], labels: Mapping[str, Ids], unit: str | None = None, tolerance: float | None = None
) -> dict[str, Any]:
    """Everything about the cases, ready for JSON.

    unit : "mm" or "px", of distances. tolerance : of NSD, in that unit. Both None where no surfaces were measured.

    foreground_mean : each metric's mean over the classes of the class means.
    mean : per label key ("1", or "(1, 2)" for a region) each metric's mean over the cases where it is defined,
        n_cases, n_defined, n_false_positive_on_empty, the cases whose reference is empty and prediction is not,
        n_missed, the opposite, and n_not_annotated, the cases where it was not annotated, which no other number counts.
    intervals : of the means, in the same structure; None when there are fewer than ten groups (see `mean_intervals`).
    metric_per_case : what was measured, in the order of the cases.
    classes : from label key to name.

    What is not defined is None, never NaN.
    """
    keys = {name: label_key(ids) for name, ids in labels.items()}
    means = {name: _class_means([case.metrics[name] for case in cases]) for name in labels}
    groups = [case.name if case.group is None else case.group for case in cases]
    lengths = {"unit": unit, "volume_unit": {"mm": "ml", "px": "px"}[unit], "tolerance": tolerance} if unit else {}
    return {
        "foreground_mean": defined_means([mean["metrics"] for mean in means.values()]),
        "mean": {keys[name]: {**mean["metrics"], **mean["numbers"]} for name, mean in means.items()},
        "intervals": _intervals(cases, keys, groups),
        **lengths,
        "n_groups": len(set(groups)),
        "metric_per_case": [_row(case, group, keys) for case, group in zip(cases, groups, strict=True)],
        "classes": {key: name for name, key in keys.items()},
    }


def mean_dice(summary: Mapping[str, Any]) -> float | None:
    """Mean Dice (0 to 1) over the classes of their means; None when no class has one."""
    return summary["foreground_mean"].get("Dice")


def worst_cases(summary: Mapping[str, Any], most: int) -> list[tuple[str, float, dict[str, Any]]]:
    """(name, mean Dice over its classes, entry of metric_per_case) of the worst cases, worst first.

    A case where no class has a Dice (nothing there, nothing predicted) is right and comes last.
    """
    scored = []
    for row in summary["metric_per_case"]:
        dice = defined_means([row["metrics"][key] for key in row["metrics"]]).get("Dice")
        scored.append((row["name"], 1.0 if dice is None else dice, row))
    return sorted(scored, key=lambda case: case[1])[:most]


def results_of(summary: Mapping[str, Any]) -> list[CaseResult]:
    """The cases that a summary was made of."""
    names = summary["classes"]
    return [
        CaseResult(
            row["name"],
            {names[key]: metrics for key, metrics in row["metrics"].items()},
            row["reference_file"],
            row["prediction_file"],
            row.get("group"),
        )
        for row in summary["metric_per_case"]
    ]


def labels_of(summary: Mapping[str, Any]) -> dict[str, Ids]:
    """The label values of each class of a summary."""
    return {name: tuple(int(v) for v in key.strip("()").split(",") if v) for key, name in summary["classes"].items()}


def label_key(ids: Ids) -> str:
    """nnU-Net's name of a label or region."""
    return str(ids[0]) if len(ids) == 1 else str(tuple(ids))


def values_of(metrics: Sequence[Sequence[Metrics]], names: Sequence[str]) -> np.ndarray:
    """[cases, classes, metrics called `names`], NaN where not defined."""
    rows = [[[of_class[name] for name in names] for of_class in case] for case in metrics]
    return np.array(rows, dtype=float)  # None becomes NaN


def defined_means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Per metric the mean of the values that are defined, None without any."""
    result: dict[str, float | None] = {}
    for metric in rows[0] if rows else ():
        values = [row[metric] for row in rows if row[metric] is not None]
        result[metric] = sum(values) / len(values) if values else None
    return result


def _row(case: CaseResult, group: str, keys: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": case.name,
        "group": group,
        "metrics": {key: dict(case.metrics[name]) for name, key in keys.items()},
        "reference_file": case.reference_file,
        "prediction_file": case.prediction_file,
    }


def _intervals(cases: Sequence[CaseResult], keys: Mapping[str, str], groups: Sequence[str]) -> dict[str, Any] | None:
    if len(set(groups)) < FEWEST_GROUPS or not keys:
        return None
    measured = [[case.metrics[name] for name in keys] for case in cases]
    names = [name for name in MEASURES if name in measured[0][0]]
    per_class, overall = mean_intervals(values_of(measured, names), groups)
    return {
        "level": LEVEL,
        "resamples": RESAMPLES,
        "foreground_mean": dict(zip(names, overall, strict=True)),
        "mean": {key: dict(zip(names, row, strict=True)) for key, row in zip(keys.values(), per_class, strict=True)},
    }


def _class_means(metrics: Sequence[Metrics]) -> dict[str, dict[str, Any]]:
    annotated = [case for case in metrics if case["n_ref"] is not None]
    numbers = {
        "n_cases": len(annotated),
        "n_defined": sum(case["Dice"] is not None for case in annotated),
        "n_false_positive_on_empty": sum(case["n_ref"] == 0 and case["n_pred"] > 0 for case in annotated),
        "n_missed": sum(case["n_ref"] > 0 and case["n_pred"] == 0 for case in annotated),
        "n_not_annotated": len(metrics) - len(annotated),
    }
    return {"metrics": defined_means(metrics), "numbers": numbers}
