"""Classes that were not annotated in a case: left out of its scores and counted apart from those that are empty."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delightsam_pipeline.data.annotations import Annotations
from delightsam_pipeline.data.image import Grid
from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.evaluation.comparison import compare
from delightsam_pipeline.evaluation.cross_validation import merge_folds
from delightsam_pipeline.evaluation.folders import evaluate_folders
from delightsam_pipeline.evaluation.metrics import case_metrics
from delightsam_pipeline.evaluation.paper import paper_summary
from delightsam_pipeline.evaluation.summary import results_of, summarise, worst_cases
from delightsam_pipeline.evaluation.tables import table, write_scores

FILE = Path("dataset.json")
LABELS = Labels.parse({"background": 0, "liver": 1, "lung": 2}, FILE)
IDS = {"liver": (1,), "lung": (2,)}
ROWS = {
    "a": ([1, 1, 2, 2], [1, 0, 0, 0], ["liver"]),  # lungs are predicted, and nobody knows whether they are there
    "b": ([0, 0, 2, 0], [0, 0, 2, 2], None),  # no liver, and none predicted
    "c": ([1, 1, 0, 2], [1, 1, 0, 0], None),  # a lung where there is none
}
ANNOTATIONS = Annotations.parse({"a": ["liver"]}, LABELS.classes, FILE)


@pytest.fixture
def folders(tmp_path):
    for number, part in enumerate(("out", "labels")):
        (tmp_path / part).mkdir()
        for name, row in ROWS.items():
            Image.fromarray(np.array([row[number]], np.uint8)).save(tmp_path / part / f"{name}.png")
    return tmp_path / "labels", tmp_path / "out"


@pytest.fixture
def summary(folders):
    return evaluate_folders(*folders, LABELS, annotations=ANNOTATIONS)


def test_everything_of_it_is_none():
    array = np.array([[[0, 1, 2]]])
    for grid in (None, Grid.picture(1, 3)):
        known = case_metrics(array, array, IDS, grid=grid)
        left_out = case_metrics(array, array, IDS, grid=grid, not_annotated=("lung",))
        assert left_out["liver"] == known["liver"]
        assert list(left_out["lung"]) == list(known["lung"]) and set(left_out["lung"].values()) == {None}


def test_it_counts_nowhere_but_by_itself(summary):
    counts = ("n_cases", "n_defined", "n_false_positive_on_empty", "n_missed", "n_not_annotated")
    assert [summary["mean"]["1"][key] for key in counts] == [3, 2, 0, 0, 0]
    assert [summary["mean"]["2"][key] for key in counts] == [2, 2, 1, 0, 1]
    lung, liver = (2 / 3 + 0) / 2, (2 / 3 + 1) / 2
    assert summary["mean"]["2"]["Dice"] == pytest.approx(lung) and summary["mean"]["1"]["Dice"] == pytest.approx(liver)
    assert summary["foreground_mean"]["Dice"] == pytest.approx((lung + liver) / 2)
    assert summary["mean"]["2"]["n_pred"] == 1


def test_a_class_that_is_nowhere_annotated_has_no_mean(folders):
    annotations = Annotations.parse({"*": ["liver"]}, LABELS.classes, FILE)
    folder = folders[0]
    for name in ("b", "c"):
        Image.fromarray(np.array([[1, 0, 0, 0]], np.uint8)).save(folder / f"{name}.png")
    summary = evaluate_folders(*folders, LABELS, annotations=annotations)
    assert summary["mean"]["2"]["Dice"] is None and summary["mean"]["2"]["n_not_annotated"] == 3
    assert summary["foreground_mean"]["Dice"] == summary["mean"]["1"]["Dice"]
    table(summary)


def test_tables_say_so(summary, tmp_path):
    lines = table(summary).splitlines()
    assert lines[2].split()[:2] == ["lung", "2"]
    assert "left out, not annotated: lung in 1" in lines
    write_scores(tmp_path / "scores.csv", summary)
    rows = list(csv.reader((tmp_path / "scores.csv").open()))
    assert [row[3:] for row in rows if row[0] == "a" and row[2] == "lung"] == [[""] * (len(rows[0]) - 3)]


def test_what_is_made_of_summaries(summary, folders):
    assert summarise(results_of(summary), IDS, summary["unit"], summary["tolerance"]) == summary
    one = {**summary, "metric_per_case": summary["metric_per_case"][:1]}
    two = {**summary, "metric_per_case": summary["metric_per_case"][1:]}
    assert merge_folds({0: one, 1: two}, 2)["mean"] == summary["mean"]
    assert [name for name, _, _ in worst_cases(summary, 3)] == ["c", "a", "b"]
    perfect = evaluate_folders(folders[0], folders[0], LABELS, annotations=ANNOTATIONS)
    difference = compare(summary, perfect, "references")
    assert difference["mean"]["2"]["Dice"]["n_cases"] == 1
    assert difference["n_only_prediction"] == {"1": 0, "2": 1} and difference["n_only_against"] == {"1": 0, "2": 0}


def test_a_reference_that_shows_it(folders):
    annotations = Annotations.parse({"b": ["liver"]}, LABELS.classes, FILE)
    with pytest.raises(UserError, match=r"labels/b\.png: case b holds class 'lung'"):
        evaluate_folders(*folders, LABELS, annotations=annotations)


def test_the_papers_protocol_needs_all(folders):
    with pytest.raises(UserError, match=r"a\.png: cannot be scored by the paper's protocol.*found lung not annotated"):
        paper_summary(*folders, LABELS, ANNOTATIONS)
    assert len(paper_summary(*folders, LABELS)["metric_per_case"]) == 3
