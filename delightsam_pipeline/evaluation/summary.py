"""The scores of many cases as one summary.json, in nnU-Net's structure, and as a table to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from delightsam_pipeline.evaluation.metrics import Ids, Metrics


@dataclass(frozen=True)
class CaseResult:
    """One case: its name, metrics per class as `case_metrics` returns them, and the two files compared."""

    name: str
    metrics: Mapping[str, Metrics]
    reference_file: str
    prediction_file: str


def summarise(cases: Sequence[CaseResult], labels: Mapping[str, Ids]) -> dict[str, Any]:
    """Everything about the cases, ready for JSON.

    foreground_mean : each metric's mean over the classes of the class means.
    mean : per label key ("1", or "(1, 2)" for a region) each metric's mean over the cases where it is defined,
        n_cases, n_defined, and n_false_positive_on_empty, the cases whose reference is empty and prediction is not.
    metric_per_case : what was measured, in the order of the cases.
    classes : from label key to name.

    What is not defined is None, never NaN.
    """
    keys = {name: _key(ids) for name, ids in labels.items()}
    means = {name: _class_means([case.metrics[name] for case in cases]) for name in labels}
    per_case = [
        {
            "name": case.name,
            "metrics": {keys[name]: dict(case.metrics[name]) for name in labels},
            "reference_file": case.reference_file,
            "prediction_file": case.prediction_file,
        }
        for case in cases
    ]
    return {
        "foreground_mean": _means([mean["metrics"] for mean in means.values()]),
        "mean": {keys[name]: {**mean["metrics"], **mean["numbers"]} for name, mean in means.items()},
        "metric_per_case": per_case,
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
        dice = _means([row["metrics"][key] for key in row["metrics"]]).get("Dice")
        scored.append((row["name"], 1.0 if dice is None else dice, row))
    return sorted(scored, key=lambda case: case[1])[:most]


def table(summary: Mapping[str, Any]) -> str:
    """Lines of text: class, cases, Dice, IoU; the last row is the mean over the classes.

    Where Dice is not defined in some cases, the number of cases says in how many it is.
    """
    rows = [("class", "cases", "Dice", "IoU")]
    for key, name in summary["classes"].items():
        mean = summary["mean"][key]
        cases, defined = mean["n_cases"], mean["n_defined"]
        shown = str(cases) if cases == defined else f"{defined} of {cases}"
        rows.append((name, shown, _number(mean.get("Dice")), _number(mean.get("IoU"))))
    overall = summary["foreground_mean"]
    n_cases = str(len(summary["metric_per_case"]))
    rows.append(("mean", n_cases, _number(overall.get("Dice")), _number(overall.get("IoU"))))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in (1, 2, 3))]) for row in rows
    )


def _key(ids: Ids) -> str:
    """nnU-Net's name of a label or region."""
    return str(ids[0]) if len(ids) == 1 else str(tuple(ids))


def _class_means(metrics: Sequence[Metrics]) -> dict[str, dict[str, Any]]:
    numbers = {
        "n_cases": len(metrics),
        "n_defined": sum(case["Dice"] is not None for case in metrics),
        "n_false_positive_on_empty": sum(case["n_ref"] == 0 and case["n_pred"] > 0 for case in metrics),
    }
    return {"metrics": _means(metrics), "numbers": numbers}


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Per metric the mean of the values that are defined, None without any."""
    result: dict[str, float | None] = {}
    for metric in rows[0] if rows else ():
        values = [row[metric] for row in rows if row[metric] is not None]
        result[metric] = sum(values) / len(values) if values else None
    return result


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
