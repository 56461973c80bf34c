"""The planner's rules, each as a behaviour: thresholds may move, what they are for may not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.plans.fingerprint import fingerprint
from delightsam_pipeline.plans.memory import step_bytes
from delightsam_pipeline.plans.modalities import TABLE
from delightsam_pipeline.plans.plan import DECISIONS, Plan, table
from delightsam_pipeline.plans.planner import make_plan

VOLUME = {"channels": ("T1",), "modality": "MRI"}


# slicing


@pytest.mark.parametrize(
    ("spacing", "axis"), [((5.0, 1, 1), 0), ((1.0, 4, 1), 1), ((0.8, 0.8, 3), 2), ((1.0, 1, 1), 0)]
)
def test_volumes_are_cut_along_their_thick_axis(plan_for, spacing, axis):
    plan = plan_for(shapes=(60, 70, 80), spacings=spacing, **VOLUME)
    assert plan.slicing_axis == axis
    others = [spacing[a] for a in range(3) if a != axis]
    assert plan.spacing[0] / plan.spacing[1] == pytest.approx(others[0] / others[1])


def test_the_axis_is_chosen_once_for_all_cases(plan_for):
    spacings = [(3.0, 1.0, 1.0), (3.0, 1.0, 1.0), (1.0, 1.0, 3.0)]
    assert plan_for(shapes=[(40, 50, 60)] * 3, spacings=spacings, **VOLUME).slicing_axis == 0


# input


@pytest.mark.parametrize(
    ("changes", "expected", "channels"),
    [
        ({}, "repeat", 3),
        ({"channels": ("R", "G", "B"), "modality": "dermoscopy"}, "rgb", 3),
        ({"channels": ("a", "b"), "modality": "microscopy"}, "projection", 2),
        ({"channels": tuple("abcde"), "modality": "microscopy"}, "projection", 5),
        ({"shapes": (20, 64, 64)} | VOLUME, "neighbours", 3),
        ({"shapes": (1, 64, 64), "physical": True} | VOLUME, "repeat", 3),
        ({"shapes": (20, 64, 64), "channels": ("T1", "T2", "FLAIR"), "modality": "MRI"}, "projection", 3),
        ({"shapes": (20, 64, 64), "channels": ("T1", "T2"), "modality": "MRI"}, "projection", 2),
    ],
)
def test_what_fills_the_three_inputs(plan_for, changes, expected, channels):
    plan = plan_for(**changes)
    assert plan.input == expected and plan.in_channels == channels


# normalisation


def test_ct_takes_its_numbers_from_the_foreground(plan_for):
    plan = plan_for(shapes=(40, 64, 64), channels=("CT",), modality="CT")
    numbers = plan.normalisation
    assert numbers.scheme == "ct"
    assert (numbers.lower, numbers.upper, numbers.mean, numbers.std) == ([-60], [210], [50], [20])
    assert "-60" in plan.reasons["normalisation"] and "210" in plan.reasons["normalisation"]


@pytest.mark.parametrize(("share", "inside"), [(1.0, False), (0.9, False), (0.6, True), (0.2, True)])
def test_mri_looks_inside_the_nonzero_voxels_when_they_are_few(plan_for, share, inside):
    numbers = plan_for(shapes=(40, 64, 64), nonzero_share=share, **VOLUME).normalisation
    assert (numbers.scheme, numbers.inside_nonzero) == ("z-score", inside)


@pytest.mark.parametrize(
    ("modality", "scheme"),
    [
        *((name, "photograph") for name in ("dermoscopy", "fundus", "microscopy", "endoscopy")),
        *((name, "percentile") for name in ("X-ray", "ultrasound", "OCT")),
        *((name, "z-score") for name in ("MRI", "PET", "thermography")),
    ],
)
def test_every_modality_has_its_scheme(plan_for, modality, scheme):
    assert plan_for(modality=modality).normalisation.scheme == scheme


def test_photographs_know_what_white_is(plan_for):
    eight, sixteen, real = (
        plan_for(channels=("R", "G", "B"), modality="microscopy", dtype=kind).normalisation
        for kind in ("uint8", "uint16", "float32")
    )
    assert (eight.scheme, eight.full_scale) == ("photograph", 255)
    assert (sixteen.scheme, sixteen.full_scale) == ("photograph", 65535)
    assert real.scheme == "z-score"  # fractions have no white


def test_ids_go_with_the_modality(plan_for):
    for row in TABLE:
        plan = plan_for(modality=row.name)
        assert (plan.modality, plan.modality_id) == (row.name, row.id)
        assert plan.reasons["modality"] == f"given as '{row.name}'"
    assert plan_for(modality="thermography").modality_id is None


# augmentation


SIDED = [("left kidney", "right kidney"), ("lung_left", "lung_right"), ("Left-Lung", "heart")]


@pytest.mark.parametrize("labels", SIDED)
def test_labels_that_name_a_side_are_not_flipped_across_it(plan_for, labels):
    largest = dict.fromkeys(labels, 8.0)
    volume = plan_for(shapes=(40, 64, 64), spacings=(3.0, 1, 1), labels=labels, largest=largest, **VOLUME)
    assert volume.augmentation.flips == (True, False) and labels[0] in volume.reasons["augmentation"]
    picture = plan_for(labels=labels, largest=largest, modality="fundus")
    assert picture.augmentation.flips == (True, False)


def test_other_directions_are_kept_too(plan_for):
    def flips(*labels, **changes):
        return plan_for(labels=labels, largest=dict.fromkeys(labels, 8.0), **changes).augmentation.flips

    # rows run to the back in axial slices and down in pictures
    assert flips("anterior", "posterior", shapes=(40, 64, 64), **VOLUME) == (False, True)
    assert flips("lower jaw", modality="fundus") == (False, True)
    assert flips("lower jaw", shapes=(40, 64, 64), **VOLUME) == (True, True)  # across axial slices


def test_slices_that_hold_one_side_may_be_flipped(plan_for):
    labels, spacing = ("left kidney", "right kidney"), (1.0, 1.0, 4.0)
    plan = plan_for(shapes=(64, 64, 30), spacings=spacing, labels=labels, largest=dict.fromkeys(labels, 8.0), **VOLUME)
    assert plan.slicing_axis == 2 and plan.augmentation.flips == (True, True)


@pytest.mark.parametrize("labels", [("cleft",), ("leftover", "bright spot"), ("kidney", "tumour")])
def test_other_labels_are_flipped(plan_for, labels):
    plan = plan_for(shapes=(40, 64, 64), labels=labels, largest=dict.fromkeys(labels, 8.0), **VOLUME)
    assert plan.augmentation.flips == (True, True)


def test_what_hangs_on_gravity_is_not_turned_over(plan_for):
    for modality in ("ultrasound", "X-ray", "OCT"):
        augmentation = plan_for(modality=modality).augmentation
        assert augmentation.flips == (False, True) and augmentation.rotation_degrees <= 45
    skin = plan_for(modality="dermoscopy", channels=("R", "G", "B")).augmentation
    assert skin.flips == (True, True) and skin.rotation_degrees == 180 and skin.colour
    assert not plan_for(shapes=(40, 64, 64), **VOLUME).augmentation.colour


# training


def test_memory_bounds_the_batch(plan_for):
    def batch(gigabytes: float, side: int = 256, **changes) -> int:
        size = {"shapes": (1, side, side), "largest": {"lesion": 4.0}}
        return plan_for(memory_bytes=gigabytes * 1e9, **size | changes).training.batch_size

    sizes = [batch(gigabytes) for gigabytes in (0.8, 1.2, 2, 80)]
    assert sizes == sorted(sizes) and 1 <= sizes[0] < sizes[1] < sizes[-1] <= 16
    assert batch(3, side=64) > batch(3, side=480)
    many = tuple(f"class {n}" for n in range(30))
    assert batch(1.2, labels=many, largest=dict.fromkeys(many, 4.0)) < batch(1.2)


def test_the_reason_says_what_the_batch_takes(plan_for):
    plan = plan_for(shapes=(1, 256, 256), largest={"lesion": 4.0}, memory_bytes=6e9)
    takes = step_bytes(plan.training.batch_size, *plan.patch_size, 3, 1)
    assert f"take about {takes / 1e9:.1f} GB of the 6 GB given" in plan.reasons["training"]
    assert f"{plan.training.batch_size} images of 256 x 256" in plan.reasons["training"]
    assert takes <= 0.8 * 6e9


def test_one_image_that_does_not_fit_becomes_smaller(plan_for):
    """Whole where its objects bear it, in tiles where they do not."""
    roomy, tight = (plan_for(shapes=(1, 480, 480), largest={"lesion": 12.0}, memory_bytes=g) for g in (8e9, 5e8))
    assert max(tight.patch_size) < max(roomy.patch_size) and tight.scaling == "fit"
    assert step_bytes(1, *tight.patch_size, 3, 1) <= 0.8 * 5e8
    assert "--gpu-memory 0.5" in tight.reasons["spacing"]
    tiled = plan_for(shapes=(1, 480, 480), largest={"lesion": 4.0}, memory_bytes=5e8)
    assert tiled.scaling == "spacing" and tiled.patch_size == tight.patch_size
    assert tiled.spacing[0] == pytest.approx(1, rel=0.03)
    assert "--gpu-memory 0.5" in tiled.reasons["spacing"]


def test_too_little_memory_for_anything_is_an_error(plan_for):
    with pytest.raises(UserError, match=r"one image of 32 x 32 takes about 0\.\d GB; found 0\.2 GB given; raise --gpu"):
        plan_for(memory_bytes=2e8)
    with pytest.raises(UserError, match=r"one image of 1024 x 1024 takes about .* or set a smaller patch_size"):
        plan_for(memory_bytes=2e9, overrides={"patch_size": (1024, 1024)})


# every plan


@st.composite
def fingerprints(draw):
    """Changes that make a fingerprint: volumes and pictures of any size and spacing."""
    physical = draw(st.booleans())
    cases = draw(st.integers(1, 4))
    sides = st.integers(12, 1500)
    depth = st.integers(1, 60) if physical else st.just(1)
    gaps = st.floats(0.2, 6) if physical else st.just(1.0)
    channels = draw(st.integers(1, 4))
    return {
        "shapes": draw(st.lists(st.tuples(depth, sides, sides), min_size=cases, max_size=cases)),
        "spacings": draw(st.lists(st.tuples(gaps, gaps, gaps), min_size=cases, max_size=cases)),
        "largest": {"lesion": draw(st.floats(0.5, 32))},
        "channels": tuple(f"channel {n}" for n in range(channels)),
        "modality": draw(st.sampled_from([row.name for row in TABLE] + ["thermography"])),
        "physical": physical,
        "dtype": draw(st.sampled_from(["uint8", "int16", "float32"])),
        "memory_bytes": draw(st.sampled_from([5e8, 2e9, 8e10])),
        "max_size": draw(st.sampled_from([None, 32, 96, 256, 512])),
    }


@settings(deadline=None, max_examples=40)
@given(changes=fingerprints())
def test_any_dataset_gets_a_sane_plan(plan_for, changes):
    plan = plan_for(**changes)
    assert set(plan.reasons) == set(DECISIONS) and all(reason.strip() for reason in plan.reasons.values())
    assert all(side % 32 == 0 for side in plan.patch_size) and np.prod(plan.patch_size) <= 1024 * 1024
    assert plan.training.batch_size >= 1
    needs = (plan.training.batch_size, *plan.patch_size, plan.in_channels, 1)
    assert step_bytes(*needs) <= 0.8 * changes["memory_bytes"]
    assert changes["max_size"] is None or max(plan.patch_size) <= changes["max_size"]
    assert plan.scaling == "spacing" or not plan.physical
    written = plan.model_dump_json()
    assert Plan.model_validate_json(written).model_dump_json() == written
    assert plan_for(**changes) == plan


def test_the_table_shows_every_decision_and_its_reason(plan_for):
    plan = plan_for(shapes=(40, 64, 64), **VOLUME)
    lines = table(plan).splitlines()
    assert [line.split()[0] for line in lines] == list(DECISIONS)
    assert all(plan.reasons[name] in line for name, line in zip(DECISIONS, lines, strict=True))
    assert "axial" in lines[DECISIONS.index("slicing_axis")] and " mm " in lines[DECISIONS.index("spacing")]


# real data


REAL = Path(os.environ.get("DLSAM_TEST_DATA") or "none-given")


@pytest.mark.skipif(not REAL.is_dir(), reason="DLSAM_TEST_DATA names no folder")
@pytest.mark.parametrize("number", [101, 106])
def test_real_datasets(number):
    (folder,) = REAL.glob(f"Dataset{number}_*")
    dataset = load_dataset(folder)
    begin = time.process_time()
    print_ = fingerprint(dataset, workers=1)
    plan = make_plan(print_, dataset.labels, dataset.file_ending)
    assert time.process_time() - begin < 20
    assert all(side <= 512 for side in plan.patch_size)
    if number == 101:
        assert (plan.modality, plan.slicing_axis, plan.input, plan.scaling) == ("MRI", 0, "neighbours", "spacing")
        assert 0.2 < plan.spacing[0] < 1  # slices of 35 x 51 mm are enlarged
        assert min(plan.patch_size) >= 64
    else:
        assert (plan.modality, plan.input, plan.scaling) == ("ultrasound", "repeat", "fit")
        assert plan.patch_size[0] == plan.patch_size[1] >= 96
