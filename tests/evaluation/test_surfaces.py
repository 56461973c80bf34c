"""Surface distances against MONAI's numbers (benchmarks/outside_metrics.py), against brute force, and by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_erosion

from delightsam_pipeline.evaluation.surfaces import border, surface_distances, surface_scores

REFERENCE = Path(__file__).parent / "reference" / "monai_surfaces.json"
OUTSIDE = json.loads(REFERENCE.read_text(encoding="utf-8"))["pairs"]
SHAPES = st.sampled_from([(7, 6), (1, 9), (4, 5, 6), (3, 1, 8)])
MASKS = SHAPES.flatmap(lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape)))


@pytest.fixture(scope="module")
def masks():
    with np.load(REFERENCE.with_suffix(".npz"), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("name", OUTSIDE)
def test_agrees_with_monai(name, masks):
    entry = OUTSIDE[name]
    shape = (2, *entry["shape"])
    prediction, reference = np.unpackbits(masks[name], count=math.prod(shape)).reshape(shape).astype(bool)
    hd95, nsd = surface_scores(prediction, reference, entry["spacing"], entry["tolerance"])
    assert hd95 == pytest.approx(entry["HD95"], abs=1e-4)
    assert nsd == pytest.approx(entry["NSD"], abs=1e-4)


@settings(deadline=None, max_examples=30)
@given(MASKS)
def test_the_border_is_the_mask_without_its_erosion(pair):
    for mask in pair:
        np.testing.assert_array_equal(border(mask), mask & ~binary_erosion(mask))


@settings(deadline=None, max_examples=30)
@given(MASKS, st.sampled_from([(1.0, 1.0, 1.0), (4.0, 0.7, 0.9)]))
def test_distances_are_those_between_all_pairs_of_border_voxels(pair, spacing):
    spacing = np.array(spacing[: pair[0].ndim])
    if not (pair[0].any() and pair[1].any()):
        return
    first, second = (np.argwhere(border(mask)) * spacing for mask in pair)
    apart = np.linalg.norm(first[:, None] - second, axis=2)
    there, back = surface_distances(*pair, spacing)
    np.testing.assert_allclose(there, apart.min(axis=1), atol=1e-9)
    np.testing.assert_allclose(back, apart.min(axis=0), atol=1e-9)


def test_by_hand():
    prediction, reference = np.zeros((2, 1, 9, 9), bool)
    prediction[0, 2:5, 2:5] = True  # eight border pixels around one within
    reference[0, 2:5, 4:7] = True  # two pixels to the right
    hd95, nsd = surface_scores(prediction, reference, (5.0, 1.0, 3.0), tolerance=1.0)
    assert hd95 == 6  # three of eight border pixels are two columns of 3 mm away
    assert nsd == pytest.approx(6 / 16)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_slice_is_measured_in_its_plane(axis):
    random = np.random.default_rng(1)
    plane = random.random((2, 12, 14)) < 0.7
    volume, spacing = np.expand_dims(plane, axis + 1), list(np.insert([0.5, 2.0], axis, 100.0))
    assert surface_scores(*volume, spacing, 1.0) == surface_scores(*plane, (0.5, 2.0), 1.0)
    empty = np.zeros_like(volume[0])
    assert surface_scores(volume[0], empty, spacing) == (pytest.approx(math.hypot(12 * 0.5, 14 * 2)), 0)


def test_empty_masks():
    empty, some = np.zeros((2, 4, 5, 6), bool)
    some[1, 2, 3] = True
    diagonal = math.sqrt((4 * 3) ** 2 + 5**2 + (6 * 0.5) ** 2)
    assert surface_scores(empty, empty, (3, 1, 0.5)) == (None, None)
    assert surface_scores(some, empty, (3, 1, 0.5)) == (pytest.approx(diagonal), 0)
    assert surface_scores(empty, some, (3, 1, 0.5)) == (pytest.approx(diagonal), 0)


def test_the_smallest_image():
    one = np.ones((1, 1, 1), bool)
    assert surface_scores(one, one, (1, 1, 1)) == (0, 1)
    assert surface_scores(one, ~one, (1, 2, 3)) == (1, 0)


def test_a_surface_at_the_tolerance_is_within_it():
    """0.4 in single precision is a little more than 0.4."""
    prediction, reference = np.zeros((2, 20), bool)
    prediction[3], reference[8] = True, True
    assert surface_scores(prediction, reference, [float(np.float32(0.4))], 2.0)[1] == 1
    assert surface_scores(prediction, reference, [0.41], 2.0)[1] == 0
