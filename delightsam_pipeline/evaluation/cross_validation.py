"""The validations of a model's folds as one: every case scored once, by a network that has not seen it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.evaluation.summary import TRAINED_ON, CaseResult, labels_of, mean_dice, results_of, summarise
from delightsam_pipeline.evaluation.tables import number
from delightsam_pipeline.files import read_json

_FOLD = re.compile(r"fold_(\d+)")
_AGAIN = "remove the fold's validation/DATASET/summary.json and give dlsam_train again, which makes it anew"


def fold_summaries(folder: Path) -> tuple[dict[str, dict[int, dict[str, Any]]], list[str]]:
    """The finished validations in a training's folder: head -> fold -> summary, and what is left out, "FOLD of HEAD".

    Left out are `all` and others whose validation was on the cases they were trained on.
    Raises UserError for a summary that cannot be read.
    """
    found: dict[str, dict[int, dict[str, Any]]] = {}
    left_out: set[str] = set()
    for file in sorted(folder.glob("fold_*/validation/*/summary.json")):
        fold, head = file.parents[2].name, file.parent.name
        number_ = _FOLD.fullmatch(fold)
        summary = _read(file)
        if number_ is None or summary.get("note") == TRAINED_ON:
            left_out.add(f"{fold} of {head}")
        else:
            found.setdefault(head, {})[int(number_[1])] = summary
    return {head: dict(sorted(folds.items())) for head, folds in found.items()}, sorted(left_out)


def merge_folds(folds: Mapping[int, dict[str, Any]], expected: int) -> dict[str, Any]:
    """One summary (see `summarise`) over the cases of all folds, with what is said of the folds themselves.

    folds : per fold -> its n_cases and mean Dice. missing_folds : of the `expected` number.
    Raises UserError when the folds were scored in different ways, or share a case.
    """
    first_fold, first = next(iter(folds.items()))
    results: dict[str, CaseResult] = {}
    where: dict[str, int] = {}
    for fold, summary in folds.items():
        if _way(summary) != _way(first):
            raise UserError(f"folds {first_fold} and {fold} were scored in different ways", fix=_AGAIN)
        for result in results_of(summary):
            if result.name in results:
                found = f"{result.name} in folds {where[result.name]} and {fold}"
                fix = "train the folds from the same splits"
                raise UserError("a case is validated in two folds", found=found, fix=fix)
            results[result.name], where[result.name] = result, fold
    ordered = [results[name] for name in sorted(results)]
    merged = summarise(ordered, labels_of(first), first.get("unit"), first.get("tolerance"))
    each = {str(fold): {"n_cases": len(s["metric_per_case"]), "Dice": mean_dice(s)} for fold, s in folds.items()}
    return {**merged, "folds": each, "missing_folds": [fold for fold in range(expected) if fold not in folds]}


def folds_line(summary: Mapping[str, Any]) -> str:
    """The mean Dice of each fold, and which folds are missing, on a line or two."""
    shown = [f"{fold}: {number(row['Dice'])} ({row['n_cases']} cases)" for fold, row in summary["folds"].items()]
    missing = ", ".join(map(str, summary["missing_folds"]))
    return f"mean Dice of fold {', '.join(shown)}" + (f"\nnot there yet: fold {missing}" if missing else "")


def _way(summary: Mapping[str, Any]) -> tuple:
    """What must be the same for scores to be put together."""
    classes = [metrics for row in summary["metric_per_case"] for metrics in row["metrics"].values()]
    metrics = {metric for of_class in classes for metric in of_class}
    return summary["classes"], summary.get("unit"), summary.get("tolerance"), metrics


def _read(file: Path) -> dict[str, Any]:
    summary = read_json(file)
    try:
        results_of(summary), labels_of(summary), mean_dice(summary)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError("is not the summary of a validation", file=file, fix=_AGAIN) from None
    return summary
