"""The structure, the means and the intervals of summary.json."""

import json
from dataclasses import replace

import numpy as np
import pytest

from delightsam_pipeline.data.image import Grid
from delightsam_pipeline.evaluation.metrics import case_metrics
from delightsam_pipeline.evaluation.summary import CaseResult, labels_of, mean_dice, results_of, summarise
from delightsam_pipeline.files import read_json, write_json

LABELS = {"kidney": (1,), "tumour": (2,), "organ": (1, 2)}


def case(name, prediction, reference, labels=LABELS):
    metrics = case_metrics(np.array([prediction]), np.array([reference]), labels)
    return CaseResult(name, metrics, f"labelsTr/{name}.png", f"out/{name}.png")


@pytest.fixture
def summary():
    return summarise(
        [
            case("a", [1, 1, 1, 0], [1, 0, 0, 0]),  # kidney 2 * 1 / 4; no tumour at all
            case("b", [1, 1, 2, 0], [1, 1, 0, 0]),  # kidney 1; tumour where there is none
            case("c", [0, 0, 2, 2], [0, 0, 2, 2]),  # no kidney at all; tumour 1
        ],
        LABELS,
    )


def test_class_means_leave_out_what_is_not_defined(summary):
    kidney = summary["mean"]["1"]
    assert kidney["Dice"] == pytest.approx((0.5 + 1) / 2)
    assert kidney["IoU"] == pytest.approx((1 / 3 + 1) / 2)
    assert kidney["n_pred"] == pytest.approx((3 + 2 + 0) / 3)
    assert summary["mean"]["2"]["Dice"] == pytest.approx((0 + 1) / 2)


def test_cases_are_counted_per_class(summary):
    def counts(key):
        return [summary["mean"][key][what] for what in ("n_cases", "n_defined", "n_false_positive_on_empty")]

    assert counts("1") == [3, 2, 0]
    assert counts("2") == [3, 2, 1]
    assert counts("(1, 2)") == [3, 3, 0]


def test_foreground_mean_is_the_mean_of_class_means(summary):
    organ = (0.5 + 0.8 + 1) / 3
    assert mean_dice(summary) == pytest.approx((0.75 + 0.5 + organ) / 3)
    assert summary["foreground_mean"]["TP"] == pytest.approx((1 + 2 / 3 + 5 / 3) / 3)


def test_structure_is_that_of_nnunet(summary):
    assert summary["classes"] == {"1": "kidney", "2": "tumour", "(1, 2)": "organ"}
    assert [c["reference_file"] for c in summary["metric_per_case"]] == [f"labelsTr/{n}.png" for n in "abc"]
    assert summary["metric_per_case"][1]["prediction_file"] == "out/b.png"
    metrics = summary["metric_per_case"][0]["metrics"]
    assert set(metrics) == set(summary["mean"]) == {"1", "2", "(1, 2)"}
    assert set(metrics["1"]) == {"Dice", "IoU", "TP", "FP", "FN", "TN", "n_pred", "n_ref"}
    assert set(metrics["1"]) < set(summary["mean"]["1"])


def test_json_has_null_and_no_nan(summary, tmp_path):
    write_json(tmp_path / "summary.json", summary)
    text = (tmp_path / "summary.json").read_text()
    assert "NaN" not in text and "null" in text
    assert read_json(tmp_path / "summary.json") == summary


def test_a_class_that_is_nowhere_has_no_mean_and_does_not_spoil_the_others():
    labels = {"kidney": (1,), "absent": (7,)}
    summary = summarise([case("a", [1, 1, 0], [1, 1, 0], labels)], labels)
    assert summary["mean"]["7"]["Dice"] is None
    assert summary["mean"]["7"]["n_defined"] == 0
    assert mean_dice(summary) == 1


def test_no_class_anywhere_and_no_cases():
    labels = {"absent": (7,)}
    assert mean_dice(summarise([case("a", [1, 0], [0, 1], labels)], labels)) is None
    empty = summarise([], labels)
    assert mean_dice(empty) is None
    json.dumps(empty, allow_nan=False)


def test_what_is_missed_is_counted(summary):
    missed = summarise([case("a", [0, 2, 2, 0], [1, 1, 2, 2]), case("b", [1, 0, 0, 0], [1, 0, 0, 0])], LABELS)
    assert [missed["mean"][key]["n_missed"] for key in ("1", "2", "(1, 2)")] == [1, 0, 0]
    assert [summary["mean"][key]["n_missed"] for key in ("1", "2", "(1, 2)")] == [0, 0, 0]


def test_keys_are_read_as_nnunet_reads_them(summary):
    """A number, or else a tuple of the numbers between commas."""

    def read(key):
        try:
            return int(key)
        except ValueError:
            return tuple(int(part) for part in key.replace("(", "").replace(")", "").split(",") if part)

    for part in (summary["mean"], *(row["metrics"] for row in summary["metric_per_case"])):
        assert [read(key) for key in part] == [1, 2, (1, 2)]
    assert labels_of(summary) == LABELS


def test_units_are_said_once_where_surfaces_were_measured(summary):
    assert not {"unit", "volume_unit", "tolerance"} & summary.keys()
    grid = Grid((1, 2, 3), (5.0, 1.0, 2.0))
    array = np.array([[[1, 1, 0], [0, 0, 2]]])
    metrics = case_metrics(array, array, {"kidney": (1,)}, grid=grid)
    measured = summarise([CaseResult("a", metrics, "r", "p")], {"kidney": (1,)}, "mm", 1.5)
    assert (measured["unit"], measured["volume_unit"], measured["tolerance"]) == ("mm", "ml", 1.5)
    assert measured["foreground_mean"] | measured["mean"]["1"] == measured["mean"]["1"]
    assert measured["mean"]["1"]["HD95"] == 0 and measured["mean"]["1"]["NSD"] == 1
    assert measured["mean"]["1"]["Volume_ref"] == pytest.approx(0.02)


def test_cases_come_back_from_a_summary(summary):
    again = summarise(results_of(summary), labels_of(summary))
    assert again == summary


def test_groups_are_kept_and_a_case_without_one_is_its_own():
    cases = [replace(case(name, [1, 0], [1, 0]), group=group) for name, group in (("a", "p"), ("b", "p"), ("c", None))]
    summary = summarise(cases, LABELS)
    assert [row["group"] for row in summary["metric_per_case"]] == ["p", "p", "c"]
    assert summary["n_groups"] == 2


def test_intervals_from_ten_groups_on():
    cases = [case(f"c{i}", [1, 1, 2, 0], [1, i % 2, 2, i % 3 == 0]) for i in range(10)]
    assert summarise(cases[:9], LABELS)["intervals"] is None
    assert summarise([replace(c, group="p") for c in cases[:2]] + cases[2:], LABELS)["intervals"] is None
    intervals = summarise(cases, LABELS)["intervals"]
    assert set(intervals["mean"]) == {"1", "2", "(1, 2)"} and set(intervals["mean"]["1"]) == {"Dice", "IoU"}
    low, high = intervals["foreground_mean"]["Dice"]
    assert 0 < low < mean_dice(summarise(cases, LABELS)) < high < 1
    json.dumps(intervals, allow_nan=False)
