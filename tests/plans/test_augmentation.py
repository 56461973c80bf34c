"""What the planner lets be done to training slices, and what a plan may say of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.plans import modalities, rules
from delightsam_pipeline.plans.draft import Draft
from delightsam_pipeline.plans.plan import Augmentation


def planned(modality, *classes, slicing=0, physical=False, own=None, input_="rgb", **user):
    """The augmentation for these classes, and the reason for it."""
    row = modalities.lookup(modality)
    row = row if own is None else replace(row, own=own)
    labels = Labels.parse({"background": 0, **{name: n + 1 for n, name in enumerate(classes)}}, Path("dataset.json"))
    draft = Draft({f"augmentation.{name}": value for name, value in user.items()}, {})
    return rules.augmentation(row, labels, slicing, physical, input_, draft), draft.reasons["augmentation"]


def test_lungs_of_an_x_ray_are_not_swapped():
    found, why = planned("X-ray", "right lung", "left lung")
    assert found.flips == (False, False) and found.rotation_degrees == 15 and "'right lung' names a side" in why
    assert planned("X-ray", "lung")[0].flips == (False, True)


@pytest.mark.parametrize(
    ("label", "slicing", "flips"),
    [
        ("left kidney", 0, (True, False)),
        ("left kidney", 1, (True, False)),
        ("left kidney", 2, (True, True)),
        ("anterior", 0, (False, True)),
        ("anterior", 1, (True, True)),
        ("upper lobe", 2, (False, True)),
    ],
)
def test_sides_in_a_volume_go_by_the_axis_that_is_in_the_slice(label, slicing, flips):
    assert planned("CT", label, slicing=slicing, physical=True)[0].flips == flips


def test_what_has_sides_is_not_turned_upside_down():
    """Half a turn would exchange left and right as a flip of both axes does."""
    found, why = planned("endoscopy", "left tonsil", "right tonsil")
    assert found.rotation_degrees == 30 and "turned by 30 degrees at most, since 'left tonsil' names a side" in why
    assert planned("endoscopy", "polyp")[0].rotation_degrees == 180
    assert planned("endoscopy", "left tonsil", rotation_degrees=90.0)[0].rotation_degrees == 90


def test_a_modalitys_own_changes_come_from_the_table_and_give_way_to_the_user():
    found, why = planned("ultrasound", "lesion", own={"speckle": 0.2, "depth_gain": 0.1})
    assert (found.speckle, found.depth_gain, found.shading) == (0.2, 0.1, 0)
    assert "speckle 0.2, depth_gain 0.1 as its images vary" in why
    found, why = planned("ultrasound", "lesion", own={"speckle": 0.2}, speckle=0.0, gamma=0.5)
    assert found.speckle == 0 and found.gamma == 0.5 and "speckle 0 set by the user" in why


@pytest.mark.parametrize("input_", ["repeat", "neighbours", "projection"])
def test_changes_of_colour_are_left_out_where_there_is_none(input_):
    own = {"tint": 0.1, "stain": 0.2, "shading": 0.3}
    found, why = planned("endoscopy", "polyp", own=own, input_=input_)
    assert (found.tint, found.stain, found.shading) == (0, 0, 0.3) and "tint" not in why
    found, why = planned("endoscopy", "polyp", own=own)
    assert (found.tint, found.stain, found.shading) == (0.1, 0.2, 0.3) and "tint 0.1, stain 0.2" in why


@pytest.mark.parametrize("label", ["leftlung", "rightVentricle", "optic_l", "nasal rim", "Temporal"])
def test_names_of_sides_in_pictures(label):
    assert planned("fundus", label)[0].flips == (True, False)


def test_a_temporal_lobe_has_two_sides():
    assert planned("MRI", "temporal_lobe", physical=True)[0].flips == (True, True)
    assert planned("MRI", "leftlobe", physical=True)[0].flips == (True, False)
    assert planned("fundus", "cleft")[0].flips == (True, True)


def test_the_table_holds_what_a_plan_can_say():
    for row in modalities.TABLE:
        assert Augmentation(rotation_degrees=1, scale=(1, 1), flips=row.flips, colour=row.colour, **row.own)


def test_plans_of_before_have_the_augmentation_of_before():
    old = {"rotation_degrees": 30, "scale": [0.7, 1.4], "flips": [True, True], "colour": False}
    found = Augmentation.model_validate(old)
    shares = (found.noise, found.blur, found.brightness, found.contrast, found.low_resolution)
    assert shares == (0.1, 0.2, 0.15, 0.15, 0.15) and (found.gamma, found.inverted_gamma) == (0.3, 0.1)
    assert found.strength == 1 and not any((found.shading, found.depth_gain, found.speckle, found.tint, found.stain))


def test_colours_are_only_changed_where_there_are_any(make_plan_for_tests):
    old = make_plan_for_tests().augmentation
    for name in ("tint", "stain"):
        with pytest.raises(ValueError, match=r"change colours, and the input is not rgb"):
            make_plan_for_tests(augmentation=old.model_copy(update={name: 0.1}))
