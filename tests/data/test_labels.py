"""The entry `labels` of dataset.json: what it means, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.errors import UserError

FILE = Path("data/dataset.json")
BRATS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def test_classes_are_ordered_by_value():
    labels = Labels.parse({"b": 2, "background": 0, "a": 1}, FILE)
    assert labels.classes == ("a", "b") and labels.ids == ((1,), (2,)) and labels.class_values == (1, 2)
    assert labels.declared == {0, 1, 2} and labels.ignore is None and not labels.has_regions


def test_ignore_is_declared_but_no_target():
    labels = Labels.parse({"background": 0, "a": 1, "ignore": 2}, FILE)
    assert labels.classes == ("a",) and labels.ignore == 2 and labels.declared == {0, 1, 2}


def test_regions_keep_their_order_and_have_values_to_paint():
    labels = Labels.parse(BRATS | {"ignore": 4}, FILE, [1, 2, 3])
    assert labels.has_regions and labels.classes == ("whole", "core", "enhancing")
    assert labels.ids == ((1, 2, 3), (2, 3), (3,)) and labels.class_values == (1, 2, 3)
    assert labels.declared == {0, 1, 2, 3, 4} and labels.ignore == 4
    assert Labels.parse(BRATS, FILE, [3, 1, 2]).class_values == (3, 1, 2)


def test_lists_of_one_value_are_no_regions():
    labels = Labels.parse({"background": [0], "b": [2], "a": [1]}, FILE)
    assert not labels.has_regions and labels.classes == ("a", "b")


def test_numbers_are_read_as_nnunet_reads_them():
    assert Labels.parse({"background": 0.0, "a": "1", "b": 2.0}, FILE).ids == ((1,), (2,))
    labels = Labels.parse({"background": "0", "whole": ["1", 2.0], "core": 2}, FILE, ["1", 2.0])
    assert labels.ids == ((1, 2), (2,)) and labels.class_values == (1, 2)


@pytest.mark.parametrize("value", [{"background": 0, "a": 1, "ignore": 2}, BRATS])
def test_json_and_back(value):
    labels = Labels.parse(value, FILE, [1, 2, 3])
    assert Labels.from_dict(json.loads(json.dumps(labels.to_dict()))) == labels


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "not a map.*found null"),
        (["background", "a"], "not a map"),
        ({}, "not a map"),
        ({"0": "background", "1": "a"}, 'wrong way round; write "labels": {"background": 0, "a": 1}'),
        ({"a": 1}, "no 'background'; add \"background\": 0"),
        ({"Background": 0, "a": 1}, "no 'background'; rename 'Background'"),
        ({"background": 1, "a": 0}, "'background' must be 0"),
        ({"background": 0}, "nothing but background"),
        ({"background": 0, "ignore": 1}, "nothing but background"),
        ({"background": 0, "a": 1, "b": 3}, r"not consecutive; expected 0 to 2; found \[0, 1, 3\]"),
        ({"background": 0, "a": 255}, "not consecutive"),
        ({"background": 0, "a": -1, "b": 1}, "not consecutive"),
        ({"background": 0, "a": 1, "b": 1}, "'a' and 'b' have the same value; found 1"),
        ({"background": 0, "a": 1, "b": 0}, "'b' has value 0"),
        ({"background": 0, "a": [1, 2], "b": [2, 1]}, "'a' and 'b' have the same value"),
        ({"background": 0, "a": [1, 1]}, "'a' names a value twice"),
        ({"background": 0, "a": True}, "'a' is not a number.*found true"),
        ({"background": 0, "a": 1.5}, "'a' is not a number.*found 1.5"),
        ({"background": 0, "a": "one"}, "'a' is not a number"),
        ({"background": 0, "a": "-1"}, "'a' is not a number"),
        ({"background": 0, "a": []}, "'a' is not a number"),
        ({"background": 0, "a": 2, "ignore": 1}, "'ignore' must be the highest label; expected one number above 2"),
        ({"background": 0, "a": 1, "ignore": [2, 3]}, "'ignore' must be the highest"),
        (BRATS, "'labels' has regions but there is no 'regions_class_order'"),
    ],
)
def test_what_is_refused(value, problem):
    with pytest.raises(UserError, match=f"^data/dataset.json: .*{problem}"):
        Labels.parse(value, FILE)


@pytest.mark.parametrize("order", [[1, 2], [1, 2, 3, 3], [0, 1, 2], [1, 2, 4], ["1", "2", "x"], 1])
def test_wrong_regions_class_order(order):
    with pytest.raises(UserError, match="'regions_class_order' is wrong"):
        Labels.parse(BRATS, FILE, order)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, "is not a map"),
        ({"red": 1}, 'has a wrong key; .*found "red"'),
        ({"0": 0, "255": 3}, "maps 255 wrongly; expected one of 0 1 2; found 3"),
        ({"0": 0, "#ff0000": 1}, "mixes numbers and colours"),
        ({"#FF0000": 0, "#ff0000": 1}, "names a number or colour twice"),
        ([1], "is not a map"),
    ],
)
def test_wrong_mask_values(values, problem):
    with pytest.raises(UserError, match=rf"dataset\.json: 'mask_values' {problem}"):
        Labels.parse({"background": 0, "a": 1, "b": 2}, Path("dataset.json"), None, values)
