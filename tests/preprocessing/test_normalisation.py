"""Every scheme of normalisation by hand."""

from __future__ import annotations

import numpy as np
import pytest

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.plans.plan import Normalisation
from delightsam_pipeline.preprocessing.normalisation import normalise

MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


def row(*values, kind=np.int16) -> np.ndarray:
    """One channel of one slice with one row."""
    return np.array([[[values]]], kind)


def test_ct_is_clipped_and_standardised_by_the_plan():
    scheme = Normalisation(scheme="ct", lower=[-100.0], upper=[300.0], mean=[50.0], std=[25.0])
    out = normalise(row(-1000, -100, 50, 100, 300, 2000), scheme)
    np.testing.assert_allclose(out[0, 0, 0], [-6, -6, 0, 2, 10, 10])
    assert out.dtype == np.float32


def test_channels_of_ct_have_their_own_numbers():
    scheme = Normalisation(scheme="ct", lower=[0, -10], upper=[10, 0], mean=[5, -5], std=[1, 2])
    out = normalise(np.concatenate([row(7, 99), row(-7, 99)]), scheme)
    np.testing.assert_allclose(out[:, 0, 0], [[2, 5], [-1, 2.5]])
    with pytest.raises(UserError, match=r"channels do not fit the plan; expected 2; found 1"):
        normalise(row(1, 2), scheme)


def test_z_score_of_each_channel_by_itself():
    out = normalise(np.concatenate([row(1, 3, 5, 7), row(100, 100, 200, 200)]), Normalisation(scheme="z-score"))
    np.testing.assert_allclose(out[0, 0, 0], np.array([-3, -1, 1, 3]) / np.sqrt(5), rtol=1e-6)
    np.testing.assert_allclose(out[1, 0, 0], [-1, -1, 1, 1])
    assert out.dtype == np.float32


def test_z_score_goes_over_all_slices():
    volume = np.array([[[[0, 2]], [[4, 6]]]], np.float32)
    out = normalise(volume, Normalisation(scheme="z-score"))
    np.testing.assert_allclose(out.ravel(), np.array([-3, -1, 1, 3]) / np.sqrt(5), rtol=1e-6)


def test_z_score_inside_leaves_zeros_where_they_are():
    scheme = Normalisation(scheme="z-score", inside_nonzero=True)
    out = normalise(row(0, 0, 0, 10, 20, 30), scheme)
    np.testing.assert_allclose(out[0, 0, 0], [0, 0, 0, -np.sqrt(1.5), 0, np.sqrt(1.5)], rtol=1e-6)
    assert not normalise(row(0, 0, 0), scheme).any()


def test_a_constant_image_is_no_division_by_zero():
    for scheme in ("z-score", "percentile"):
        assert np.isfinite(normalise(row(9, 9, 9), Normalisation(scheme=scheme))).all()


def test_percentiles_become_black_and_white():
    values = np.arange(1001)
    out = normalise(row(*values), Normalisation(scheme="percentile"))[0, 0, 0]
    grey = np.clip((values - 5) / 990, 0, 1) * 255
    np.testing.assert_allclose(out, (grey - MEAN.mean()) / STD.mean(), atol=1e-4)
    assert out[0] == out[5] < out[6] and out[-1] == out[995] > out[994]
    doubled = normalise(row(*(3 * values + 40)), Normalisation(scheme="percentile"))[0, 0, 0]
    np.testing.assert_allclose(doubled, out, atol=1e-4)  # gain and offset do not matter


def test_photographs_as_the_encoder_knows_them():
    colours = np.array([0, 128, 255], np.uint8).reshape(3, 1, 1, 1)
    out = normalise(colours, Normalisation(scheme="photograph"))
    np.testing.assert_allclose(out.ravel(), (np.array([0, 128, 255]) - MEAN) / STD, rtol=1e-5)
    grey = normalise(row(0, 255, kind=np.uint8), Normalisation(scheme="photograph"))
    np.testing.assert_allclose(grey.ravel(), (np.array([0, 255]) - MEAN.mean()) / STD.mean(), rtol=1e-5)
    assert out.dtype == grey.dtype == np.float32


def test_photographs_by_the_plans_own_numbers():
    scheme = Normalisation(scheme="photograph", mean=[100, 50, 25], std=[10, 50, 5])
    out = normalise(np.array([0, 128, 255], np.uint8).reshape(3, 1, 1, 1), scheme)
    np.testing.assert_allclose(out.ravel(), [-10, 1.56, 46], rtol=1e-6)
    deep = normalise(np.full((3, 1, 1, 1), 65535, np.uint16), scheme)
    np.testing.assert_allclose(deep.ravel(), [15.5, 4.1, 46], rtol=1e-5)
    assert out.dtype == deep.dtype == np.float32
    with pytest.raises(UserError, match=r"channels do not fit the plan; expected 3; found 1"):
        normalise(row(1, 2), scheme)


def test_sixteen_bits_are_scaled_to_eight():
    scheme = Normalisation(scheme="photograph", full_scale=65535)
    deep = normalise(np.full((3, 1, 1, 1), 65535, np.uint16), scheme)
    np.testing.assert_allclose(deep.ravel(), (255 - MEAN) / STD, rtol=1e-5)


@pytest.mark.parametrize("scheme", ["z-score", "percentile", "photograph"])
def test_the_input_is_left_as_it_was(scheme):
    array = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    before = array.copy()
    assert normalise(array, Normalisation(scheme=scheme)).shape == array.shape
    assert np.array_equal(array, before)


def test_depths_of_photographs_may_be_mixed():
    """The same grey, stored in 8 and in 16 bit, becomes the same input whatever the plan's usual depth."""
    scheme = Normalisation(scheme="photograph", full_scale=255)
    eight = np.full((3, 1, 2, 2), 51, np.uint8)
    sixteen = np.full((3, 1, 2, 2), 51 * 257, np.uint16)
    assert np.allclose(normalise(eight, scheme), normalise(sixteen, scheme), atol=1e-4)


def test_a_depth_that_is_not_used_up_is_the_plans():
    """12 bits of a camera in 16-bit files: white is where the plan says."""
    scheme = Normalisation(scheme="photograph", full_scale=4095)
    white = normalise(np.full((3, 1, 1, 1), 4095, np.uint16), scheme)
    np.testing.assert_allclose(white.ravel(), (255 - MEAN) / STD, rtol=1e-5)
