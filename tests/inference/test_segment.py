"""Tiles that cover, blend and agree with the whole, and logits that become labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from delightsam_pipeline.data.image import Grid, Image
from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.inference.segment import reduce, segment
from delightsam_pipeline.preprocessing.preparation import Preparation, tile_origins

CPU = choose_device("cpu")


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 500), st.integers(1, 12), st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_tiles_cover_the_canvas(cells, patches, overlap):
    tile, side = 32 * patches, max(4 * cells, 32 * patches)
    origins = tile_origins(side, tile, overlap)
    assert origins[0] == 0 and origins[-1] + tile == side
    assert all(origin % 4 == 0 for origin in origins)
    steps = np.diff(origins)
    assert (steps > 0).all() and (steps <= tile * (1 - overlap)).all()
    # not one more than it takes
    assert len(origins) <= 1 + np.ceil((side - tile) / (tile * (1 - overlap)))


def volume(shape=(5, 150, 101), seed=0):
    array = np.random.default_rng(seed).normal(0, 100, (1, *shape)).astype(np.float32)
    return Image(array, Grid(shape, (2.0, 1.0, 1.0)))


def run(model, plan, image, batch_size=8):
    slices, back = Preparation(plan).image(image)
    return segment(model.eval(), "head", plan, slices, back, CPU, batch_size)


def test_tiles_give_what_the_whole_gives(make_plan, threshold):
    whole, tiled = threshold(2), threshold(2)
    labels = Labels.parse({"background": 0, "a": 1, "b": 2}, Path("x")).to_dict()
    # the same canvas, once in one piece
    expected = run(whole, make_plan(patch_size=(160, 128), labels=labels), volume((5, 160, 128)))
    result = run(tiled, make_plan(labels=labels), volume((5, 160, 128)))
    assert {size[2:] for size in whole.sizes} == {(160, 128)} and {size[2:] for size in tiled.sizes} == {(64, 64)}
    assert set(np.unique(expected)) == {0, 1} and np.mean(expected != result) < 1e-4


@pytest.mark.parametrize("patch", [(64, 64), (160, 128)])
def test_the_batch_size_changes_nothing(make_plan, threshold, patch):
    plan, image = make_plan(patch_size=patch, input="neighbours"), volume()
    expected = run(threshold(), plan, image)
    assert expected.shape == (5, 150, 101) and expected.dtype == np.uint8 and 0.3 < expected.mean() < 0.7
    for batch_size in (1, 3, 100):
        model = threshold()
        assert np.array_equal(run(model, plan, image, batch_size), expected)
        assert max(size[0] for size in model.sizes) <= batch_size


class Constant(torch.nn.Module):
    """A logit that is the same everywhere and for every tile."""

    def forward(self, images, head):
        n, _, height, width = images.shape
        return torch.full((n, 1, height // 4, width // 4), 1e-4), None, None


def test_blending_equal_tiles_changes_nothing(make_plan):
    assert (run(Constant(), make_plan(), volume()) == 1).all()


def test_slices_along_another_axis_come_back_in_place(make_plan, threshold, bands):
    change, dark, bright = bands
    shape = (64, 7, 60)
    array = np.full((1, *shape), dark, np.float32)
    array[0, 16:40, 2] = array[0, :, 5, 8:24] = bright
    plan = make_plan(slicing_axis=1, **change)
    result = run(threshold(), plan, Image(array, Grid(shape, (1.0, 3.0, 1.0))))
    assert np.array_equal(result, array[0] > 100)


def test_the_mode_of_the_model_is_restored(make_plan, threshold):
    plan, model = make_plan(), threshold().train()
    slices, back = Preparation(plan).image(volume((1, 64, 64)))
    segment(model, "head", plan, slices, back, CPU)
    assert model.training


def test_values_above_255_fit(make_plan, threshold):
    labels = Labels(("a",), ((300,),), (300,), frozenset({0, 300})).to_dict()
    result = run(threshold(), make_plan(labels=labels), volume((1, 64, 64)))
    assert result.dtype == np.uint16 and set(np.unique(result)) == {0, 300}


def reduced(logits, labels):
    """Logits [K, W] of one row of pixels on the network's own grid -> labels [W]."""
    logits = torch.tensor(logits)
    columns = torch.eye(logits.shape[1])
    return reduce(logits[None, :, None], torch.eye(1), columns, labels)[0, 0].tolist()


def test_exclusive_classes_compete_with_a_background_of_zero():
    labels = Labels.parse({"background": 0, "a": 1, "b": 2}, Path("x"))
    logits = [[-1.0, 2.0, 1.0, -3.0, 0.5], [-2.0, 1.0, 3.0, 0.1, -9.0]]
    assert reduced(logits, labels) == [0, 1, 2, 2, 1]


def test_regions_are_painted_in_their_order():
    labels = Labels.parse({"background": 0, "whole": [1, 2], "core": [2]}, Path("x"), [1, 2])
    logits = [[-1.0, 9.0, 9.0, -1.0], [-1.0, -1.0, 0.1, 0.1]]
    assert reduced(logits, labels) == [0, 1, 2, 2]


def test_logits_are_interpolated_before_they_compete():
    labels = Labels.parse({"background": 0, "a": 1}, Path("x"))
    columns = torch.tensor([[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]])
    result = reduce(torch.tensor([[[[1.0, -2.0]]]]), torch.eye(1), columns, labels)
    assert result[0, 0].tolist() == [1, 1, 0, 0]  # 1, 0.25, -1.25, -2
