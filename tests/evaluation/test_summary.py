"""The structure and the means of summary.json."""

import json

import numpy as np
import pytest

from delightsam_pipeline.evaluation.metrics import case_metrics
from delightsam_pipeline.evaluation.summary import CaseResult, mean_dice, summarise, table
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
    assert "-" in table(summary).splitlines()[2].split()


def test_no_class_anywhere_and_no_cases():
    labels = {"absent": (7,)}
    assert mean_dice(summarise([case("a", [1, 0], [0, 1], labels)], labels)) is None
    empty = summarise([], labels)
    assert mean_dice(empty) is None
    assert table(empty).splitlines()[-1].split() == ["mean", "0", "-", "-"]
    json.dumps(empty, allow_nan=False)


def test_table(summary):
    rows = [line.split() for line in table(summary).splitlines()]
    assert rows[0] == ["class", "cases", "Dice", "IoU"]
    assert rows[1] == ["kidney", "2", "of", "3", "0.7500", "0.6667"]
    assert rows[3][:3] == ["organ", "3", "0.7667"]
    assert rows[-1][:3] == ["mean", "3", f"{mean_dice(summary):.4f}"]
    assert len({len(line) for line in table(summary).splitlines()}) == 1
