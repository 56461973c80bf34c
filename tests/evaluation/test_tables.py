"""Scores as lines of text and as a CSV."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from delightsam_pipeline.data.image import Grid
from delightsam_pipeline.evaluation.choice import compared
from delightsam_pipeline.evaluation.metrics import case_metrics
from delightsam_pipeline.evaluation.postprocessing import Postprocessing, Rule
from delightsam_pipeline.evaluation.summary import CaseResult, mean_dice, summarise
from delightsam_pipeline.evaluation.tables import postprocessing_table, table, write_scores

LABELS = {"kidney": (1,), "a tumour with a name that is much too long for a table": (2,)}
LONG = "a tumour with a name that..."


def case(name, prediction, reference, grid=None, labels=LABELS):
    """A picture of one row."""
    metrics = case_metrics(np.array([[prediction]]), np.array([[reference]]), labels, grid=grid)
    return CaseResult(name, metrics, f"{name}.png", f"{name}.png")


def overlaps():
    """Kidney 0.5 and 1; a tumour where there is none."""
    return [case("a", [1, 1, 1, 0], [1, 0, 0, 0]), case("b", [1, 1, 2, 0], [1, 1, 0, 0])]


def measured(count):
    grid = Grid((1, 1, 4), (5.0, 1.0, 1.5))
    return [case(f"c{i}", [1, 1, 2, 2], [1, i % 2, 2, 2 * (i % 3 > 0)], grid) for i in range(count)]


def test_overlaps_alone():
    summary = summarise(overlaps(), LABELS)
    lines = table(summary).splitlines()
    assert lines[0].split() == ["class", "cases", "Dice", "IoU"]
    assert lines[1].split() == ["kidney", "2", "0.7500", "0.6667"]
    assert lines[2].startswith(LONG) and lines[2].split()[-5:] == ["1", "of", "2", "0.0000", "0.0000"]
    assert lines[3].split() == ["mean", "2", f"{mean_dice(summary):.4f}", "0.3333"]
    assert len({len(line) for line in lines[:4]}) == 1
    assert lines[4] == "single values: under 10 cases, so no intervals"
    assert lines[5:] == [f"predicted where there is none: {LONG} in 1"]


def test_distances_and_intervals_fit_in_a_hundred_columns():
    summary = summarise(measured(10), LABELS, "mm", 2.0)
    lines = table(summary).splitlines()
    assert lines[0].split() == ["class", "cases", "Dice", "IoU", "HD95", "mm", "NSD", "2", "mm"]
    low, high = summary["intervals"]["mean"]["1"]["Dice"]
    dice = summary["mean"]["1"]["Dice"]
    assert f"{dice:.4f} [{low:.4f}, {high:.4f}]" in lines[1]
    assert lines[1].split()[-2:] == [f"{summary['mean']['1']['HD95']:.2f}", f"{summary['mean']['1']['NSD']:.4f}"]
    assert lines[4] == "[95 % intervals by bootstrap over 10 cases]"
    assert max(map(len, lines)) <= 100


def test_remarks():
    cases = [replace(each, group="p") for each in measured(12)]
    assert "single values: under 10 groups of cases, so no intervals" in table(summarise(cases, LABELS, "mm", 2.0))
    missed = summarise([case("a", [0, 0, 0, 0], [1, 0, 0, 0])], LABELS)
    assert "missed wholly: kidney in 1" in table(missed)
    assert "predicted where" not in table(missed)
    assert table(missed | {"note": "of old"}).splitlines()[-1] == "note: of old"


def test_nothing_to_show():
    labels = {"absent": (7,)}
    assert table(summarise([], labels)).splitlines()[-1].split() == ["mean", "0", "-", "-"]
    absent = summarise([case("a", [1, 1], [1, 0], labels=labels)], labels)
    assert table(absent).splitlines()[1].split() == ["absent", "0", "of", "1", "-", "-"]


@pytest.mark.parametrize(("unit", "volume"), [("mm", "ml"), ("px", "px")])
def test_a_row_for_every_case_and_class(tmp_path, unit, volume):
    cases = [*measured(2), case("x,1", [0, 0, 0, 0], [0, 0, 0, 2], Grid((1, 1, 4), (5.0, 1.0, 1.5)))]
    summary = summarise([replace(cases[0], group="p"), *cases[1:]], LABELS, unit, 2.0)
    write_scores(tmp_path / "scores.csv", summary)
    with open(tmp_path / "scores.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["group"], row["class"] == "kidney") for row in rows] == [
        *(("c0", "p", True), ("c0", "p", False), ("c1", "c1", True), ("c1", "c1", False)),
        *(("x,1", "x,1", True), ("x,1", "x,1", False)),
    ]
    assert [float(row["Dice"]) for row in rows[:4]] == [
        row["metrics"][key]["Dice"] for row in summary["metric_per_case"][:2] for key in ("1", "2")
    ]
    assert rows[4]["Dice"] == rows[4][f"HD95_{unit}"] == "" and rows[4]["n_ref"] == "0"
    assert float(rows[5][f"HD95_{unit}"]) == pytest.approx(6) and float(rows[5][f"Volume_ref_{volume}"]) > 0


def test_rules_that_lost_on_other_cases_are_marked():
    good, bad = compared([0.5], [0.6], ["a"]), compared([0.5], [0.4], ["a"])
    rules = {"kidney": Rule(operation="keep_largest")}
    chosen = Postprocessing(unit="mm3", rules=rules, folds=[0, 1], n_cases=1, honest={"kidney": good, "cyst": bad})
    lines = postprocessing_table(chosen).splitlines()
    assert [line.endswith("  not applied: lost on other cases") for line in lines[2:4]] == [False, True]
    assert "a little too good" in lines[4] and lines[5].startswith("dlsam_predict from now on, kidney")


def test_a_csv_of_no_cases(tmp_path):
    write_scores(tmp_path / "scores.csv", summarise([], LABELS))
    assert (tmp_path / "scores.csv").read_text() == "name,group,class\n"


def test_no_intervals_are_announced_where_none_is_shown():
    """Twelve cases, but each class is there in six."""
    kidney, tumour = [1, 1, 0, 0], [2, 2, 0, 0]
    cases = [case(f"c{i}", kidney if i % 2 else tumour, kidney if i % 2 else tumour) for i in range(12)]
    text = table(summarise(cases, LABELS))
    assert "bootstrap" not in text and "single values" in text
