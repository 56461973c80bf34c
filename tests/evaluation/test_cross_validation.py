"""The folds of one model put together, and folds that do not belong together."""

import numpy as np
import pytest

from delightsam_pipeline.data.image import Grid
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.evaluation.cross_validation import fold_summaries, folds_line, merge_folds
from delightsam_pipeline.evaluation.metrics import case_metrics
from delightsam_pipeline.evaluation.summary import TRAINED_ON, CaseResult, mean_dice, summarise
from delightsam_pipeline.files import write_json

LABELS = {"organ": (1, 2), "lesion": (2,)}
GRID = Grid((1, 1, 4), (1.0, 1.0, 1.0))


def case(name, prediction, group=None, grid=GRID):
    reference = np.array([[[1, 1, 2, 0]]])
    metrics = case_metrics(np.array([[prediction]]), reference, LABELS, grid=grid)
    return CaseResult(name, metrics, name, name, group)


def fold(*names, group=None, tolerance=2.0):
    cases = [case(name, [1, 1, 2, len(name) % 2], group) for name in names]
    return summarise(cases, LABELS, "mm", tolerance)


def save(folder, fold_name, head, summary):
    write_json(folder / fold_name / "validation" / head / "summary.json", summary)


def test_merged_is_what_all_cases_give():
    folds = {0: fold("b", "aa"), 3: fold("c", group="p")}
    merged = merge_folds(folds, 5)
    cases = [case("aa", [1, 1, 2, 0]), case("b", [1, 1, 2, 1]), case("c", [1, 1, 2, 1], "p")]
    expected = summarise(cases, LABELS, "mm", 2.0)
    assert {key: merged[key] for key in expected} == expected
    assert [row["group"] for row in merged["metric_per_case"]] == ["aa", "b", "p"]
    assert merged["folds"]["3"] == {"n_cases": 1, "Dice": mean_dice(folds[3])}
    assert merged["missing_folds"] == [1, 2, 4]
    line = folds_line(merged)
    assert f"0: {mean_dice(folds[0]):.4f} (2 cases), 3: {mean_dice(folds[3]):.4f} (1 cases)" in line
    assert "not there yet: fold 1, 2, 4" in line
    assert "not there" not in folds_line(merge_folds(folds | {1: fold("x"), 2: fold("y")}, 4))


def test_a_case_in_two_folds():
    with pytest.raises(UserError, match="a case is validated in two folds; found b in folds 0 and 2; train the folds"):
        merge_folds({0: fold("a", "b"), 2: fold("b")}, 5)


def test_folds_scored_in_different_ways():
    old = summarise([case("c", [1, 1, 2, 0], grid=None)], LABELS)
    for other in (old, fold("c", tolerance=1.0), fold("c") | {"classes": {"1": "other"}}):
        told = r"folds 0 and 1 were scored in different ways; remove the fold.s .*give dlsam_train"
        with pytest.raises(UserError, match=told):
            merge_folds({0: fold("a"), 1: other}, 5)
    assert merge_folds({0: old}, 5)["n_groups"] == 1


def test_what_was_validated_on_its_training_cases_is_left_out(tmp_path):
    save(tmp_path, "fold_1", "A", fold("a"))
    save(tmp_path, "fold_0", "A", fold("b"))
    save(tmp_path, "fold_0", "B", fold("c"))
    save(tmp_path, "fold_2", "A", fold("d") | {"note": TRAINED_ON})
    save(tmp_path, "fold_2", "B", fold("f"))
    save(tmp_path, "fold_all", "A", fold("e"))
    (tmp_path / "fold_3").mkdir()
    heads, left_out = fold_summaries(tmp_path)
    assert {head: list(folds) for head, folds in heads.items()} == {"A": [0, 1], "B": [0, 2]}
    assert heads["B"][0] == fold("c")
    assert left_out == ["fold_2 of A", "fold_all of A"]


@pytest.mark.parametrize("value", [[], {}, {"classes": {"1": "a"}, "metric_per_case": [{}], "foreground_mean": {}}])
def test_a_file_that_is_no_summary(value, tmp_path):
    save(tmp_path, "fold_0", "A", value)
    with pytest.raises(UserError, match=r"fold_0/validation/A/summary\.json: is not the summary of a validation"):
        fold_summaries(tmp_path)
