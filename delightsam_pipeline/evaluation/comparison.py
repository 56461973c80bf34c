"""Two methods on the same cases: paired differences, and whether they show anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.evaluation.intervals import FEWEST_GROUPS, mean_intervals
from delightsam_pipeline.evaluation.summary import values_of
from delightsam_pipeline.evaluation.tables import columns, number, shortened

_HIGHER_IS_BETTER = {"Dice": True, "HD95": False, "NSD": True}
_SAME = 1e-9


def compare(summary: Mapping[str, Any], other: Mapping[str, Any], against: str) -> dict[str, Any]:
    """Differences, `summary` less `other`, of two summaries of the same cases in the same order; ready for JSON.

    mean : per label key and metric (Dice, HD95, NSD) the mean `difference` over the cases where both are defined, its
        95 % `interval` (None under ten groups), n_cases, n_better, n_worse and n_equal.
    foreground_mean : the same for each case's mean over the classes where both are defined.
    n_only_prediction, n_only_against : per label key the cases left out because the reference is empty and only
        `summary`, or only `other`, has something there.
    against : what `other` is.
    Raises UserError when distances have different units.
    """
    if summary.get("unit") != other.get("unit"):
        found = f"{summary.get('unit')} and {other.get('unit')}"
        raise UserError("two methods are measured in different units", found=found, fix="write both in one format")
    keys, metrics = list(summary["classes"]), list(_HIGHER_IS_BETTER)
    first, second = (
        values_of([[row["metrics"][key] for key in keys] for row in each["metric_per_case"]], metrics)
        for each in (summary, other)
    )
    differences = first - second
    overall = _class_mean(differences)
    groups = [row["group"] for row in summary["metric_per_case"]]
    intervals, _ = mean_intervals(np.concatenate([differences, overall], axis=1), groups)
    described = [
        {m: _described(m, values[:, i], row[i]) for i, m in enumerate(metrics)}
        for values, row in zip([*differences.swapaxes(0, 1), overall[:, 0]], intervals, strict=True)
    ]
    missing = np.isnan(first[..., 0]), np.isnan(second[..., 0])
    return {
        "against": against,
        "n_groups": len(set(groups)),
        "foreground_mean": described[-1],
        "mean": dict(zip(keys, described[:-1], strict=True)),
        "n_only_prediction": dict(zip(keys, (~missing[0] & missing[1]).sum(axis=0).tolist(), strict=True)),
        "n_only_against": dict(zip(keys, (missing[0] & ~missing[1]).sum(axis=0).tolist(), strict=True)),
    }


def comparison_table(summary: Mapping[str, Any]) -> str:
    """The entry `comparison` of a summary as lines of text, with a sentence on what it shows."""
    comparison = summary["comparison"]
    heads = {"Dice": "Dice", "HD95": f"HD95 {summary['unit']}", "NSD": "NSD"}
    rows = [("class", "metric", "cases", "difference", "95 % interval", "better", "worse", "equal")]
    named = {name: comparison["mean"][key] for key, name in summary["classes"].items()}
    for name, metrics in [*named.items(), ("mean", comparison["foreground_mean"])]:
        for metric, row in metrics.items():
            interval = "-" if row["interval"] is None else f"[{row['interval'][0]:+.4f}, {row['interval'][1]:+.4f}]"
            difference = "-" if row["difference"] is None else f"{row['difference']:+.4f}"
            counts = (str(row[key]) for key in ("n_better", "n_worse", "n_equal"))
            rows.append((shortened(name), heads[metric], str(row["n_cases"]), difference, interval, *counts))
    title = f"differences from {comparison['against']} (less is better for HD95, more for Dice and NSD)"
    lines = [title, columns(rows)]
    alone = [sum(comparison[key].values()) for key in ("n_only_prediction", "n_only_against")]
    if any(alone):
        lines.append(f"left out, where there is nothing: predicted by this one alone {alone[0]}, other {alone[1]}")
    return "\n".join([*lines, verdict(comparison)])


def verdict(comparison: Mapping[str, Any]) -> str:
    """One sentence on the overall Dice that claims no more than was shown."""
    row, against = comparison["foreground_mean"]["Dice"], comparison["against"]
    if row["difference"] is None:
        return "no difference is shown: there is no case where both have a Dice"
    if row["interval"] is None:
        few = f"under {FEWEST_GROUPS} groups of cases"
        return f"no difference is claimed: {few} there is no interval, only the single values"
    low, high = row["interval"]
    between = f"{number(low)} to {number(high)},"
    if low <= 0 <= high:
        return f"no difference is shown: the 95 % interval of that in Dice, {between} holds 0"
    word = "higher" if low > 0 else "lower"
    return f"Dice is {word} than that of {against}: the 95 % interval, {between} does not hold 0"


def _class_mean(differences: np.ndarray) -> np.ndarray:
    """[cases, classes, metrics] -> [cases, 1, metrics], the mean over the classes that are defined, else NaN."""
    counts = np.count_nonzero(~np.isnan(differences), axis=1, keepdims=True)
    return np.nansum(differences, axis=1, keepdims=True) / np.where(counts, counts, np.nan)


def _described(metric: str, differences: np.ndarray, interval: list[float] | None) -> dict[str, Any]:
    known = differences[~np.isnan(differences)]
    gains = known if _HIGHER_IS_BETTER[metric] else -known
    return {
        "difference": float(known.mean()) if known.size else None,
        "interval": interval,
        "n_cases": int(known.size),
        "n_better": int(np.count_nonzero(gains > _SAME)),
        "n_worse": int(np.count_nonzero(gains < -_SAME)),
        "n_equal": int(np.count_nonzero(np.abs(gains) <= _SAME)),
    }
