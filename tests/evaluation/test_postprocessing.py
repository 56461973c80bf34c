"""Parts of a class removed from label maps: what goes, what stays, and what stands in its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from scipy import ndimage

from delightsam_pipeline.data.image import Grid
from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.evaluation.metrics import label_mask
from delightsam_pipeline.evaluation.postprocessing import (
    Postprocessing,
    Rule,
    kept,
    postprocess,
    rule_text,
    unit_of,
    voxel_size,
)

LARGEST = Rule(operation="keep_largest")
PLAIN = Labels.parse({"background": 0, "liver": 1, "tumour": 2}, Path("dataset.json"))
NESTED = Labels.parse(
    {"background": 0, "core": [2, 3], "whole": [1, 2, 3], "active": [3]}, Path("dataset.json"), [2, 1, 3]
)
CROSSED = Labels.parse({"background": 0, "a": [1, 2], "b": [2, 3]}, Path("dataset.json"), [1, 3])


def smaller(size):
    return Rule(operation="remove_smaller", size=size)


def parts(mask):
    """How many parts, connected through corners too."""
    return ndimage.label(mask, ndimage.generate_binary_structure(3, 3))[1]


rules = st.one_of(st.just(LARGEST), st.integers(1, 9).map(smaller))


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([PLAIN, NESTED, CROSSED]).flatmap(
        lambda targets: st.tuples(
            st.just(targets),
            arrays(np.uint8, (3, 4, 5), elements=st.integers(0, max(targets.declared))),
            st.dictionaries(st.sampled_from(targets.classes), rules),
        )
    )
)
def test_nothing_is_added_and_what_is_left_obeys_the_rules(drawn):
    targets, labels, chosen = drawn
    before = labels.copy()
    after = postprocess(labels, chosen, targets, 1.0)
    assert np.array_equal(labels, before) and after.dtype == labels.dtype
    for ids in targets.ids:
        assert not (label_mask(after, ids) & ~label_mask(labels, ids)).any()
    for name, rule in chosen.items():
        mask = label_mask(after, targets.ids[targets.classes.index(name)])
        if rule.operation == "keep_largest":
            assert parts(mask) <= 1
        elif targets is PLAIN:
            numbers, count = ndimage.label(mask, np.ones((3, 3, 3)))
            assert all((numbers == n).sum() >= rule.size for n in range(1, count + 1))
    if targets is PLAIN:
        untouched = ~np.isin(labels, [PLAIN.ids[PLAIN.classes.index(name)][0] for name in chosen])
        assert np.array_equal(after[untouched], labels[untouched])


def test_a_part_is_connected_through_corners_in_space_and_in_a_picture():
    volume = np.zeros((3, 4, 4), np.uint8)
    volume[0, 0, 0] = volume[1, 1, 1] = volume[2, 2, 2] = 1
    volume[0, 3, 3] = 1
    assert postprocess(volume, {"liver": LARGEST}, PLAIN, 1.0).sum() == 3
    picture = np.array([[[1, 0, 0, 1], [0, 1, 0, 0]]], np.uint16)
    assert postprocess(picture, {"liver": LARGEST}, PLAIN, 1.0).tolist() == [[[1, 0, 0, 0], [0, 1, 0, 0]]]


def test_sizes_are_those_of_the_grid():
    labels = np.array([[[1, 1, 0, 1, 0, 2]]], np.uint8)
    for size, left in ((4.0, [1, 1, 0, 1, 0, 2]), (4.1, [1, 1, 0, 0, 0, 2]), (8.1, [0, 0, 0, 0, 0, 2])):
        assert postprocess(labels, {"liver": smaller(size)}, PLAIN, 4.0)[0, 0].tolist() == left


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("whole", [0, 0, 0, 0, 1, 2, 3, 2, 1]),  # what lies in the part goes with it
        ("core", [1, 1, 1, 0, 1, 2, 3, 2, 1]),  # the whole stays without a hole
        ("active", [1, 2, 2, 0, 1, 2, 3, 2, 1]),  # and so does the core
    ],
)
def test_a_part_of_a_region_leaves_no_hole_in_a_larger_one(name, left):
    labels = np.array([[[1, 2, 3, 0, 1, 2, 3, 2, 1]]], np.uint8)
    rule = {"whole": smaller(4), "core": smaller(3), "active": LARGEST}[name]
    if name == "active":
        labels[0, 0, 6:8], left = 3, [*left[:7], 3, 1]
    assert postprocess(labels, {name: rule}, NESTED, 1.0)[0, 0].tolist() == left


def test_of_regions_the_largest_come_first():
    """The largest core lies in the smaller whole, which goes: the other core is then the largest that is left."""
    labels = np.array([[[2, 2, 2, 0, 1, 1, 2, 1]]], np.uint8)
    chosen = {"core": LARGEST, "whole": LARGEST}
    assert postprocess(labels, chosen, NESTED, 1.0)[0, 0].tolist() == [0, 0, 0, 0, 1, 1, 2, 1]


def test_where_regions_cross_the_other_one_keeps_its_own():
    labels = np.array([[[1, 2, 0, 1, 1, 1, 2]]], np.uint8)
    assert postprocess(labels, {"a": LARGEST}, CROSSED, 1.0)[0, 0].tolist() == [0, 3, 0, 1, 1, 1, 2]


def test_an_empty_mask_stays_empty():
    assert not postprocess(np.zeros((1, 4, 4), np.uint8), {"liver": LARGEST}, PLAIN, 1.0).any()


def test_of_two_largest_one_stays():
    assert kept(np.array([2.0, 5, 5]), LARGEST).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("change", "unit", "voxel", "text"),
    [
        ({}, "mm3", 6.0, "remove parts under 0.01 mm3"),
        ({"physical": False, "scaling": "spacing"}, "px", 1.0, "remove parts under 0.01 px"),
        ({"physical": False, "scaling": "fit"}, "share", 1 / 40, "remove parts under 1 % of the image"),
    ],
)
def test_units(make_plan_for_tests, change, unit, voxel, text):
    assert unit_of(make_plan_for_tests(**change)) == unit
    assert voxel_size(unit, Grid((2, 4, 5), (3.0, 2.0, 1.0))) == pytest.approx(voxel)
    assert rule_text(smaller(0.01), unit) == text


@pytest.mark.parametrize(
    "value",
    [
        {"operation": "remove_smaller"},
        {"operation": "keep_largest", "size": 3},
        {"operation": "remove_smaller", "size": -1},
        {"operation": "fill_holes"},
        {"operation": "keep_largest", "code": "x"},
    ],
)
def test_rules_that_are_none(value):
    with pytest.raises(ValidationError):
        Postprocessing.model_validate({"unit": "px", "folds": [0], "n_cases": 1, "rules": {"liver": value}})
