"""Folds: the same as nnU-Net's, groups kept whole, and splits files that are refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delightsam_pipeline.data.splits import fold_cases, load_splits, make_splits
from delightsam_pipeline.errors import UserError


def own_groups(names):
    return {name: name for name in names}


@pytest.mark.parametrize("count", [5, 6, 7, 9, 23, 100])
def test_folds_are_scikit_learns(count):
    selection = pytest.importorskip("sklearn.model_selection")
    names = [f"case_{i}" for i in range(count)]
    ordered = sorted(names)
    folds = selection.KFold(5, shuffle=True, random_state=12345).split(ordered)
    expected = [{"train": [ordered[i] for i in train], "val": [ordered[i] for i in val]} for train, val in folds]
    assert make_splits(names, own_groups(names)) == expected
    assert make_splits(names[::-1] + names, {}) == expected
    assert make_splits(names, {name: f"{-i}" for i, name in enumerate(names)}) == expected


def test_folds_of_ten_cases_are_fixed():
    names = [f"c{i}" for i in range(10)]
    validated = ["".join(split["val"]) for split in make_splits(names, {})]
    assert validated == ["c0c7", "c3c9", "c4c6", "c1c8", "c2c5"]  # scikit-learn's


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=4), st.sampled_from("pqrstuvw"), min_size=2, max_size=30))
def test_groups_stay_whole_and_every_case_is_validated_once(groups):
    if len(set(groups.values())) < 2:
        with pytest.raises(UserError, match="one group"):
            make_splits(list(groups), groups)
        return
    splits = make_splits(list(groups), groups)
    assert len(splits) == min(5, len(set(groups.values())))
    assert sorted(name for split in splits for name in split["val"]) == sorted(groups)
    for split in splits:
        assert split["train"] and sorted(split["train"] + split["val"]) == sorted(groups)
        assert not {groups[n] for n in split["train"]} & {groups[n] for n in split["val"]}


def test_groups_are_chosen_as_single_cases_are():
    groups = {f"c{i}_{side}": f"c{i}" for i in range(10) for side in "LR"}
    single = make_splits([f"c{i}" for i in range(10)], {})
    paired = make_splits(list(groups), groups)
    assert [sorted({n[:2] for n in s["val"]}) for s in paired] == [s["val"] for s in single]


def test_fewer_than_five_leave_one_out():
    assert make_splits(["b", "a", "c"], {}) == [
        {"train": ["b", "c"], "val": ["a"]},
        {"train": ["a", "c"], "val": ["b"]},
        {"train": ["a", "b"], "val": ["c"]},
    ]
    with pytest.raises(UserError, match="only one case"):
        make_splits(["a"], {})


def test_folds_by_name():
    splits = make_splits(["a", "b", "c"], {})
    assert fold_cases(splits, "1", ["a", "b", "c"]) == (["a", "c"], ["b"])
    assert fold_cases(splits, "all", ["c", "a", "b"]) == (["a", "b", "c"], ["a", "b", "c"])
    for fold in ("3", "-1", "x", "", "1.0", "00", "²"):
        with pytest.raises(UserError, match="no such fold; expected 0 to 2, or all"):
            fold_cases(splits, fold, ["a", "b", "c"])
    with pytest.raises(UserError, match="no such fold; expected 0, or all; found 1"):
        fold_cases(splits[:1], "1", ["a", "b", "c"])


def test_cases_in_no_fold_are_told_of(tmp_path, caplog):
    splits = [{"train": ["a"], "val": ["b"]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(splits))
    assert load_splits(tmp_path / "splits_final.json", ["a", "b", "c", "d"]) == splits
    assert "2 cases are in no fold, so that only fold all trains on them: c, d" in caplog.text


def test_a_splits_file_comes_back(tmp_path):
    names = [f"c{i}" for i in range(7)]
    splits = make_splits(names, {})
    (tmp_path / "splits_final.json").write_text(json.dumps(splits))
    assert load_splits(tmp_path / "splits_final.json", names) == splits


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({}, "not a list of splits"),
        ([], "not a list of splits"),
        ([{"train": ["a"]}], "not a list of splits"),
        ([{"train": ["a"], "val": "b"}], "not a list of splits"),
        ([{"train": ["a", "b"], "val": ["b", "c"]}], "fold 0 trains and validates on the same cases; found b"),
        ([{"train": ["a", "b"], "val": ["c", "x"]}], "fold 0 has cases that are not in the dataset; found x"),
        ([{"train": ["a", "b", "c"], "val": []}], "fold 0 has no cases"),
    ],
)
def test_splits_files_that_are_refused(tmp_path, value, problem):
    (tmp_path / "splits_final.json").write_text(json.dumps(value))
    with pytest.raises(UserError, match=rf"splits_final\.json: .*{problem}"):
        load_splits(tmp_path / "splits_final.json", ["a", "b", "c"])
