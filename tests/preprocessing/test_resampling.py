"""Resampling of slices and label maps, and the matrices of the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from delightsam_pipeline.data.image import Grid, Image
from delightsam_pipeline.plans.plan import Normalisation
from delightsam_pipeline.preprocessing.preparation import Preparation
from delightsam_pipeline.preprocessing.resampling import resize, resize_labels, return_matrix

NOTHING = {"scheme": "ct", "lower": [-9], "upper": [9], "mean": [0], "std": [1]}  # values stay as they are


def test_twice_as_fine_by_hand():
    fine = resize(np.array([[[0, 4], [8, 12]]], np.uint8), (4, 4))
    # pixel centres at -1/4, 1/4, 3/4 and 5/4 of the old ones; edges are held
    across = np.array([0, 1, 3, 4])
    np.testing.assert_allclose(fine[0], 2 * across[:, None] + across, atol=1e-6)
    assert fine.dtype == np.float32


def test_half_as_fine_by_hand():
    # triangles twice as wide: shares 3 3 1 at the edge, 1 3 3 1 within, cut off where the row ends
    row = np.array([[[7.0, 14.0, 0.0, 70.0]]])
    np.testing.assert_allclose(resize(row, (1, 2)), [[[(3 * 7 + 3 * 14) / 7, (14 + 3 * 70) / 7]]], rtol=1e-6)
    row = np.array([[[7.0, 0, 0, 8.0, 0, 0, 0, 0]]])
    np.testing.assert_allclose(resize(row, (1, 4)), [[[3, 3, 1, 0]]], rtol=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 30), st.integers(1, 30), st.integers(-3000, 60000))
def test_any_size_keeps_a_constant(height, width, new_height, new_width, value):
    out = resize(np.full((2, 1, height, width), value), (new_height, new_width))
    assert out.shape == (2, 1, new_height, new_width)
    np.testing.assert_allclose(out, value, rtol=1e-5)


def test_the_same_size_is_exact():
    array = np.random.default_rng(0).normal(size=(3, 2, 7, 5)).astype(np.float32)
    assert np.array_equal(resize(array, (7, 5)), array)
    whole = np.arange(35, dtype=np.int16).reshape(1, 7, 5)
    assert np.array_equal(resize(whole, (7, 5)), whole) and resize(whole, (7, 5)).dtype == np.float32


@pytest.mark.parametrize("new", [13, 25, 40, 5])
def test_ramps_stay_ramps_inside(new):
    """Half-pixel centres: any shift or stretch would show in a ramp. 5 is half of 10."""
    places = (np.arange(10) + 0.5) / 10
    expected = (np.arange(new) + 0.5) / new
    inside = (expected > 0.11) & (expected < 0.89) if new > 10 else slice(1, -1)
    down = resize(np.tile(places[:, None], (1, 4))[None], (new, 4))[0, :, 0]
    across = resize(np.tile(places, (4, 1))[None], (4, new))[0, 0]
    np.testing.assert_allclose(down[inside], expected[inside], atol=1e-6)
    np.testing.assert_allclose(across[inside], expected[inside], atol=1e-6)


def test_planes_do_not_mix():
    array = np.stack([np.zeros((6, 6)), np.ones((6, 6)), np.full((6, 6), 5)])
    assert [np.unique(plane).tolist() for plane in resize(array, (9, 4))] == [[0], [1], [5]]


labels_of = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@settings(deadline=None, max_examples=40)
@given(labels_of, st.integers(1, 14), st.integers(1, 14), st.integers(1, 40), st.integers(1, 40))
def test_label_maps_keep_their_values_and_type(generator, height, width, new_height, new_width):
    labels = generator.choice(np.array([0, 1, 4, 200], np.uint8), (3, height, width))
    out = resize_labels(labels, (new_height, new_width))
    assert out.shape == (3, new_height, new_width) and out.dtype == np.uint8
    for before, after in zip(labels, out, strict=True):
        assert set(np.unique(after)) <= set(np.unique(before))
    assert np.array_equal(resize_labels(labels, (height, width)), labels)


def test_the_largest_share_wins_even_if_it_is_no_half():
    wide = np.array([[[5, 5, 2, 2, 2, 6, 6]]], np.int16)
    assert resize_labels(wide, (1, 1)).item() == 2
    assert resize_labels(np.array([[[0, 2]]], np.uint8), (1, 6)).tolist() == [[[0, 0, 0, 2, 2, 2]]]


axes = st.tuples(st.integers(1, 60), st.integers(1, 80), st.integers(0, 40), st.integers(0, 40))


@settings(deadline=None, max_examples=40)
@given(axes)
def test_rows_of_a_return_matrix_are_weights(sizes):
    full, scaled, before, after = sizes
    cells = -(-(before + scaled + after) // 4)
    matrix = return_matrix(full, scaled, before, cells, 4)
    assert matrix.shape == (full, cells) and matrix.dtype == np.float32
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    assert matrix.min() >= 0 and ((matrix > 0).sum(axis=1) <= 2).all()
    # pixels lie where they lay: their centres on the canvas, in cells, where no edge holds them
    centres = ((np.arange(full) + 0.5) * scaled / full + before) / 4 - 0.5
    inside = (centres > 0) & (centres < cells - 1)
    np.testing.assert_allclose((matrix @ np.arange(cells))[inside], centres[inside], atol=1e-3)


def logits(height: int, width: int) -> torch.Tensor:
    return torch.randn(1, 1, height, width, generator=torch.Generator().manual_seed(0))


def test_the_way_back_is_torchs_bilinear_interpolation():
    mask = logits(8, 6)
    rows, columns = (torch.from_numpy(return_matrix(side, side, 0, side // 4, 4)) for side in (32, 24))
    expected = interpolate(mask, scale_factor=4, mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(rows @ mask[0, 0] @ columns.T, expected)


def test_on_a_larger_canvas_it_is_a_crop_of_that():
    mask = logits(16, 16)
    whole = interpolate(mask, scale_factor=4, mode="bilinear", align_corners=False)[0, 0]
    rows, columns = (torch.from_numpy(return_matrix(n, n, begin, 16, 4)) for n, begin in ((30, 17), (41, 8)))
    torch.testing.assert_close(rows @ mask[0, 0] @ columns.T, whole[17:47, 8:49])


def test_to_an_image_of_another_size_it_is_one_bilinear_step():
    mask = logits(16, 10)  # a canvas of 64 x 40 that an image of 96 x 120 fills
    rows, columns = (torch.from_numpy(return_matrix(*s, 4)) for s in ((96, 64, 0, 16), (120, 40, 0, 10)))
    expected = interpolate(mask, size=(96, 120), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(rows @ mask[0, 0] @ columns.T, expected)


def test_one_cell_is_everywhere():
    assert np.array_equal(return_matrix(5, 4, 0, 1, 4), np.ones((5, 1)))


def test_cubic_keeps_a_curve_that_linear_flattens(make_plan_for_tests):
    """A wave at twice as many pixels, through the plan; the ends are left out, where either holds the edge."""
    coarse, fine = (np.sin((np.arange(n) + 0.5) * np.pi / n * 6)[:, None] * np.ones(n) for n in (48, 96))
    image = Image(np.stack([coarse] * 2)[None], Grid((2, 48, 48), (1.0, 1.0, 1.0), physical=True))
    errors = {}
    for order in ("linear", "cubic"):
        plan = make_plan_for_tests(spacing=(0.5, 0.5), resampling=order, normalisation=Normalisation(**NOTHING))
        slices, _ = Preparation(plan).image(image)
        assert slices.shape == (2, 1, 96, 96) and slices.dtype == np.float32
        errors[order] = np.abs(slices[0, 0] - fine)[8:-8].max()
    assert errors["cubic"] < 0.3 * errors["linear"] < 0.1
    np.testing.assert_array_equal(resize(coarse, (48, 48), "cubic"), coarse.astype(np.float32))
