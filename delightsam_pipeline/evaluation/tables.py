"""Scores to read: a summary as lines of text, and as scores.csv."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from delightsam_pipeline.evaluation.intervals import FEWEST_GROUPS
from delightsam_pipeline.evaluation.postprocessing import Postprocessing, rule_text
from delightsam_pipeline.files import writing

_LONGEST_NAME = 28
_COUNTED = {
    "predicted where there is none": "n_false_positive_on_empty",
    "missed wholly": "n_missed",
    "left out, not annotated": "n_not_annotated",
}


def table(summary: Mapping[str, Any]) -> str:
    """Lines of text: class, cases, Dice with its interval, IoU, and HD95 and NSD where they were measured.

    The last row is the mean over the classes. Where Dice is not defined in some cases, the number of cases says in how
    many it is. Below stand the remarks: what the intervals are, empty masks, the summary's `note`.
    """
    intervals = summary.get("intervals") or {"mean": {}, "foreground_mean": {}}
    unit, overall = summary.get("unit"), summary["foreground_mean"]
    head = ("class", "cases", "Dice", "IoU") if unit is None else ("class", "cases", "Dice", "IoU", *_headings(summary))
    rows = [head]
    for key, name in summary["classes"].items():
        mean = summary["mean"][key]
        cases, defined = mean["n_cases"], mean["n_defined"]
        shown = str(cases) if cases == defined else f"{defined} of {cases}"
        rows.append((shortened(name), shown, *_numbers(mean, intervals["mean"].get(key, {}), unit)))
    n_cases = str(len(summary["metric_per_case"]))
    rows.append(("mean", n_cases, *_numbers(overall, intervals["foreground_mean"], unit)))
    return "\n".join([columns(rows), *_remarks(summary)])


def postprocessing_table(chosen: Postprocessing) -> str:
    """Lines of text: Dice of each class without post-processing and with what was chosen on other cases, and the rules.

    A class that is nowhere to be seen has no line. One that lost on other cases is marked, since nothing is done to it.
    """
    rows = [("class", "cases", "Dice without", "with", "difference", "95 % interval", "better", "worse")]
    for name, seen in chosen.honest.items():
        interval = "-" if seen.interval is None else f"[{seen.interval[0]:+.4f}, {seen.interval[1]:+.4f}]"
        dice = number(seen.without_rules), number(seen.with_rules), f"{seen.gain:+.4f}", interval
        rows.append((shortened(name), str(seen.n_cases), *dice, str(seen.n_better), str(seen.n_worse)))
    others = "the other folds" if len(chosen.folds) > 1 else "the rest of them, in fifths"
    folds = f"fold {', '.join(map(str, chosen.folds))}"
    title = f"post-processing on {chosen.n_cases} held-out cases of {folds}, each by what was chosen on {others}"
    lost = [name not in chosen.rules and seen.gain < 0 for name, seen in chosen.honest.items()]
    marks = ["", *("  not applied: lost on other cases" if one else "" for one in lost)]
    lines = [title, *(line + mark for line, mark in zip(columns(rows).splitlines(), marks, strict=True))]
    if chosen.rules:
        lines.append("rules are kept where this table shows a gain, so what it says of them is a little too good")
    lines += [
        f"dlsam_predict from now on, {name}: {rule_text(rule, chosen.unit)}" for name, rule in chosen.rules.items()
    ]
    if not chosen.rules:
        lines.append("no class gets any: nothing was sure to help")
    elif any(chosen.honest[name].n_groups < FEWEST_GROUPS for name in chosen.rules):
        lines.append(f"that is few: under {FEWEST_GROUPS} groups of cases; train further folds, and choose again")
    return "\n".join(lines)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of the same length as lines; the first column begins at the left, the others end at the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, len(row)))]) for row in rows
    )


def number(value: float | None, digits: int = 4) -> str:
    """A number for a table; a dash for what is not defined."""
    return "-" if value is None else f"{value:.{digits}f}"


def shortened(name: str) -> str:
    """A class's name, its end left out where it is long."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 3] + "..."


def write_scores(file: Path, summary: Mapping[str, Any]) -> None:
    """Write a CSV of one row per case and class: name, group, class, every metric; an empty cell for None."""
    names = summary["classes"]
    units = {"HD95": summary.get("unit")} | dict.fromkeys(("Volume_pred", "Volume_ref"), summary.get("volume_unit"))
    scored = [(row, key, metrics) for row in summary["metric_per_case"] for key, metrics in row["metrics"].items()]
    with writing(file) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        metrics = scored[0][2] if scored else ()
        writer.writerow(["name", "group", "class", *(f"{m}_{units[m]}" if m in units else m for m in metrics)])
        for row, key, metrics in scored:
            writer.writerow([row["name"], row["group"], names[key], *metrics.values()])


def _headings(summary: Mapping[str, Any]) -> tuple[str, str]:
    return f"HD95 {summary['unit']}", f"NSD {summary['tolerance']:g} {summary['unit']}"


def _numbers(mean: Mapping[str, Any], intervals: Mapping[str, Any], unit: str | None) -> tuple[str, ...]:
    dice, interval = number(mean.get("Dice")), intervals.get("Dice")
    if interval is not None:
        dice += f" [{number(interval[0])}, {number(interval[1])}]"
    surfaces = () if unit is None else (number(mean.get("HD95"), 2), number(mean.get("NSD")))
    return dice, number(mean.get("IoU")), *surfaces


def _remarks(summary: Mapping[str, Any]) -> list[str]:
    remarks = []
    intervals = summary.get("intervals")
    if intervals and any(v for row in intervals["mean"].values() for v in row.values()):
        remarks.append(f"[95 % intervals by bootstrap over {summary['n_groups']} {_groups(summary)}]")
    elif summary["metric_per_case"]:
        remarks.append(f"single values: under {FEWEST_GROUPS} {_groups(summary)}, so no intervals")
    for what, key in _COUNTED.items():
        counts = {name: summary["mean"][label].get(key, 0) for label, name in summary["classes"].items()}
        shown = ", ".join(f"{shortened(name)} in {count}" for name, count in counts.items() if count)
        if shown:
            remarks.append(f"{what}: {shown}")
    if "note" in summary:
        remarks.append(f"note: {summary['note']}")
    return remarks


def _groups(summary: Mapping[str, Any]) -> str:
    return "cases" if summary["n_groups"] == len(summary["metric_per_case"]) else "groups of cases"
