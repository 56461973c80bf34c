"""From a case to network input and back: whatever the grid, labels return to it, where they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delightsam_pipeline.data.image import Grid, Image
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import read_json, write_json
from delightsam_pipeline.plans.plan import Normalisation
from delightsam_pipeline.preprocessing.preparation import STRIDE, Preparation, WayBack, place, stack


def averages(canvas: np.ndarray) -> np.ndarray:
    """Means over the cells of a canvas [..., H, W] -> [..., H/4, W/4]."""
    *lead, height, width = canvas.shape
    return canvas.reshape(*lead, height // STRIDE, STRIDE, width // STRIDE, STRIDE).mean(axis=(-3, -1))


def returned(prepared: np.ndarray, back: WayBack) -> np.ndarray:
    """What a network that knows prepared labels [Z, h, w] exactly would give: labels [z, y, x] on the image's grid."""
    canvas = place(prepared, back)
    rows, columns = back.matrices()
    assert canvas.shape[1:] == back.canvas and rows.shape[1] * STRIDE == back.canvas[0]
    best = np.zeros((len(canvas), *back.slice_shape))
    out = np.zeros(best.shape, prepared.dtype)
    for value in np.unique(prepared[prepared > 0]):
        logits = rows @ (16 * averages(canvas == value) - 8) @ columns.T
        out[logits > best] = value
        best = np.maximum(best, logits)
    return back.volume(out)


@st.composite
def volumes(draw):
    """A physical grid: down to one slice, any spacing, anywhere."""
    sides, spacing = st.integers(1, 40), draw(st.tuples(*[st.floats(0.2, 6)] * 3))
    return Grid(draw(st.tuples(sides, sides, sides)), spacing, draw(st.tuples(*[st.floats(-100, 100)] * 3)))


seeds = st.integers(0, 2**32 - 1)
patches = st.tuples(*[st.sampled_from([32, 64, 96, 128])] * 2)


@settings(deadline=None, max_examples=40)
@given(grid=volumes(), axis=st.integers(0, 2), spacing=st.tuples(*[st.floats(0.3, 3)] * 2), patch=patches, seed=seeds)
def test_any_volume_comes_back_on_its_own_grid(make_plan_for_tests, grid, axis, spacing, patch, seed):
    plan = make_plan_for_tests(slicing_axis=axis, spacing=spacing, patch_size=patch)
    preparation = Preparation(plan)
    array = np.random.default_rng(seed).normal(size=(1, *grid.shape)).astype(np.float32)
    labels = np.random.default_rng(seed).integers(0, 3, grid.shape).astype(np.uint8)
    slices, back = preparation.image(Image(array, grid))
    mask = preparation.labels(labels, back)
    if 1 in grid.shape and grid.shape[axis] != 1:
        axis = grid.shape.index(1)  # a volume of one slice is that slice, whatever the plan's axis
    across = [a for a in range(3) if a != axis]
    assert back.axis == axis and slices.dtype == np.float32 and slices.shape == (grid.shape[axis], 1, *back.scaled)
    assert mask.shape == (grid.shape[axis], *back.scaled) and back.grid == grid
    for a, scaled, canvas, side, gap in zip(across, back.scaled, back.canvas, patch, spacing, strict=True):
        assert scaled == max(1, round(grid.shape[a] * grid.spacing[a] / gap))
        assert canvas == max(side, -(-scaled // STRIDE) * STRIDE)
    out = returned(mask, back)
    assert out.shape == grid.shape and set(np.unique(out)) <= {0, *np.unique(labels)}


@settings(deadline=None, max_examples=40)
@given(height=st.integers(1, 300), width=st.integers(1, 300), patch=patches, fit=st.booleans(), seed=seeds)
def test_any_picture_comes_back_on_its_own_grid(make_plan_for_tests, height, width, patch, fit, seed):
    plan = make_plan_for_tests(physical=False, scaling="fit" if fit else "spacing", patch_size=patch, slicing_axis=2)
    preparation = Preparation(plan)
    labels = np.random.default_rng(seed).integers(0, 3, (1, height, width)).astype(np.uint8)
    slices, back = preparation.image(Image(labels[None], Grid.picture(height, width)))
    assert slices.shape == (1, 1, *back.scaled) and back.slice_shape == (height, width)
    if fit:
        assert back.canvas == patch
        touching = [scaled == side for scaled, side in zip(back.scaled, patch, strict=True)]
        assert any(touching) and all(scaled <= side for scaled, side in zip(back.scaled, patch, strict=True))
        factor = min(patch[0] / height, patch[1] / width)  # one for both sides: the aspect is kept
        assert np.abs(np.array(back.scaled) - np.array([height, width]) * factor).max() <= 1
    else:
        assert back.scaled == (height, width)
    assert returned(preparation.labels(labels, back), back).shape == (1, height, width)


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.integers(2, 24), st.integers(2, 24)),
    axis=st.integers(0, 2),
    gaps=st.tuples(st.sampled_from([0.5, 1.0, 3.0]), st.sampled_from([0.5, 1.0, 3.0])),
    factors=st.tuples(st.sampled_from([4, 8, 12]), st.sampled_from([4, 8, 12])),
    patch=patches,
    seed=seeds,
)
def test_labels_come_back_identical_where_the_mask_is_as_fine(
    make_plan_for_tests, shape, axis, gaps, factors, patch, seed
):
    """Random labels, pixel by pixel: nothing is lost at four input pixels a pixel or more."""
    shape, spacing = list(shape), list(gaps)
    shape.insert(axis, 2)
    spacing.insert(axis, 5.0)
    plan = make_plan_for_tests(
        slicing_axis=axis, spacing=tuple(g / f for g, f in zip(gaps, factors, strict=True)), patch_size=patch
    )
    labels = np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)
    back = Preparation(plan).way_back(Grid(tuple(shape), tuple(spacing)))
    assert np.array_equal(returned(Preparation(plan).labels(labels, back), back), labels)


@pytest.mark.parametrize("side", [8, 16, 32])
def test_pictures_come_back_identical_when_enlarged_to_fit(make_plan_for_tests, side):
    plan = make_plan_for_tests(physical=False, scaling="fit", patch_size=(128, 160))
    labels = np.random.default_rng(side).integers(0, 3, (1, side, side // 2)).astype(np.uint8)
    back = Preparation(plan).way_back(Grid.picture(side, side // 2))
    assert back.scaled == (128, 64)
    assert np.array_equal(returned(Preparation(plan).labels(labels, back), back), labels)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@settings(deadline=None, max_examples=40)
@given(
    radius=st.floats(12, 20),
    centre=st.tuples(st.floats(22, 70), st.floats(22, 90)),
    gap=st.floats(0.3, 4),
    axis=st.integers(0, 2),
    patch=patches,
)
def test_discs_come_back_where_they_were(make_plan_for_tests, radius, centre, gap, axis, patch):
    """At one input pixel a pixel, on grids smaller and larger than the patch, in every direction."""
    y, x = np.mgrid[:92, :112]
    disc = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2).astype(np.uint8)
    labels = np.stack([disc, np.zeros_like(disc), disc[::-1]], axis=axis)
    spacing = [gap, gap]
    spacing.insert(axis, 3.0)
    plan = make_plan_for_tests(slicing_axis=axis, spacing=(gap, gap), patch_size=patch)
    preparation = Preparation(plan)
    back = preparation.way_back(Grid(labels.shape, tuple(spacing)))
    out = returned(preparation.labels(labels, back), back)
    assert dice(out == 1, labels == 1) > 0.97


@pytest.mark.parametrize("size", [(300, 200), (61, 90), (128, 128), (40, 350)])
def test_pictures_brought_to_one_size_come_back_where_they_were(make_plan_for_tests, size):
    plan = make_plan_for_tests(physical=False, scaling="fit", patch_size=(128, 160))
    y, x = np.mgrid[: size[0], : size[1]]
    labels = np.zeros((1, *size), np.uint8)
    labels[0][((y / size[0] - 0.4) / 0.3) ** 2 + ((x / size[1] - 0.6) / 0.3) ** 2 <= 1] = 2
    back = Preparation(plan).way_back(Grid.picture(*size))
    out = returned(Preparation(plan).labels(labels, back), back)
    assert dice(out == 2, labels == 2) > (0.9 if max(size) > 300 else 0.97)


def test_image_and_labels_stay_together(make_plan_for_tests):
    """A bright block and its label, unequal spacing, cut coronally: the same pixels in both."""
    plan = make_plan_for_tests(
        slicing_axis=1, spacing=(0.5, 1.0), normalisation=Normalisation(scheme="photograph"), patch_size=(32, 32)
    )
    array = np.zeros((1, 12, 3, 20), np.uint8)
    array[0, 2:7, 1, 5:14] = 200
    slices, back = Preparation(plan).image(Image(array, Grid(array.shape[1:], (1.0, 4.0, 1.0))))
    mask = Preparation(plan).labels((array[0] > 0).astype(np.uint8), back)
    assert back.scaled == (24, 20) and slices.shape == (3, 1, 24, 20)
    assert mask[1].sum() == 10 * 9 and mask[1, 4:14, 5:14].all() and not mask[[0, 2]].any()
    assert np.array_equal(slices[:, 0] > slices[:, 0].min() + 100 / 57.6, mask == 1)


def test_margins_are_whole_cells(make_plan_for_tests):
    """So that a mask's cells fall on an image's pixels alike, whatever its size."""
    plan = make_plan_for_tests(patch_size=(64, 96))
    for side in range(1, 60):
        back = Preparation(plan).way_back(Grid((3, side, side), (1.0, 1.0, 1.0)))
        for begin, scaled, canvas in zip(back.offset, back.scaled, back.canvas, strict=True):
            assert begin % STRIDE == 0 and abs(canvas - scaled - 2 * begin) < 2 * STRIDE  # in the middle


def test_the_way_back_as_json(make_plan_for_tests, tmp_path):
    grid = Grid((5, 20, 31), (3.0, 0.7, 1 / 3), (1.5, -2.5, 1e-3), ((0.0, 0.6, 0.8), (0.0, 0.8, -0.6), (1.0, 0, 0)))
    back = Preparation(make_plan_for_tests(slicing_axis=2)).way_back(grid)
    write_json(tmp_path / "back.json", back.to_dict())
    assert WayBack.from_dict(read_json(tmp_path / "back.json")) == back
    picture = Preparation(make_plan_for_tests(physical=False)).way_back(Grid.picture(4, 5))
    assert WayBack.from_dict(picture.to_dict()) == picture


# what does not fit the plan


VOLUME = Image(np.zeros((1, 4, 8, 8), np.uint8), Grid((4, 8, 8), (1.0, 1.0, 1.0)), source=Path("scans/a_0000.nii.gz"))
PICTURE = Image(np.zeros((1, 1, 8, 9), np.uint8), Grid.picture(8, 9), source=Path("photos/a_0000.png"))


def message(plan, image: Image) -> str:
    with pytest.raises(UserError) as error:
        Preparation(plan).image(image)
    return str(error.value)


def test_another_number_of_channels(make_plan_for_tests):
    text = message(make_plan_for_tests(channel_names=["T1", "T2"], input="projection"), VOLUME)
    assert text.startswith(f"{VOLUME.source}: ") and "expected 2 (T1, T2); found 1" in text


def test_a_grey_picture_is_three_equal_colours(make_plan_for_tests):
    changes = {"scaling": "fit", "physical": False, "normalisation": Normalisation(scheme="photograph")}
    preparation = Preparation(make_plan_for_tests(channel_names=["R", "G", "B"], input="rgb", **changes))
    grey = np.random.default_rng(0).integers(0, 255, (1, 1, 16, 9), np.uint8)
    as_grey, as_colour = (
        preparation.image(replace(PICTURE, array=a, grid=Grid.picture(16, 9))) for a in (grey, np.repeat(grey, 3, 0))
    )
    assert np.array_equal(as_grey[0], as_colour[0]) and as_grey[1] == as_colour[1]
    two = replace(PICTURE, array=np.repeat(PICTURE.array, 2, axis=0))
    with pytest.raises(UserError, match=r"expected 3 \(R, G, B\); found 2"):
        preparation.image(two)


def test_pictures_for_volumes_and_volumes_for_pictures(make_plan_for_tests):
    text = message(make_plan_for_tests(), PICTURE)
    assert text.startswith(f"{PICTURE.source}: ") and "spacing in mm; found 9 x 8 pixels" in text
    text = message(make_plan_for_tests(physical=False), VOLUME)
    assert text.startswith(f"{VOLUME.source}: ") and "expected a picture" in text and "8 x 8 x 4 voxels" in text


def test_an_absurd_spacing(make_plan_for_tests):
    image = replace(VOLUME, grid=Grid((4, 8, 8), (1.0, 1000.0, 3000.0)))
    text = message(make_plan_for_tests(spacing=(0.5, 0.5)), image)
    assert text.startswith(f"{VOLUME.source}: ") and "16000 x 48000" in text and "spacing" in text


# what the network is fed


SLICES = np.arange(4 * 2 * 3, dtype=np.float32).reshape(4, 1, 2, 3)


@pytest.mark.parametrize(("z", "expected"), [(0, [0, 0, 1]), (1, [0, 1, 2]), (3, [2, 3, 3])])
def test_neighbours_are_held_at_the_ends(z, expected):
    assert np.array_equal(stack(SLICES, z, "neighbours"), SLICES[expected, 0])


def test_neighbours_of_a_single_slice():
    assert np.array_equal(stack(SLICES[:1], 0, "neighbours"), SLICES[[0, 0, 0], 0])


def test_repeat_and_as_it_is():
    assert np.array_equal(stack(SLICES, 2, "repeat"), SLICES[[2, 2, 2], 0])
    many = np.arange(2 * 5 * 2 * 2).reshape(2, 5, 2, 2)
    assert np.array_equal(stack(many, 1, "projection"), many[1])
    assert np.array_equal(stack(many[:, :3], 1, "rgb"), many[1, :3])


def test_margins_hold_the_edge_or_a_value():
    back = WayBack(Grid((1, 2, 3), (1.0, 1.0, 1.0)), 0, (2, 3), (1, 2), (4, 8))
    array = np.array([[[1, 2, 3], [4, 5, 6]]])
    edge = [[1, 1, 1, 2, 3, 3, 3, 3], [1, 1, 1, 2, 3, 3, 3, 3], [4, 4, 4, 5, 6, 6, 6, 6], [4, 4, 4, 5, 6, 6, 6, 6]]
    assert place(array, back).tolist() == [edge]
    value = np.full((4, 8), -1)
    value[1:3, 2:5] = array[0]
    assert np.array_equal(place(array, back, -1)[0], value)
    assert place(array[None, None], back, 0).shape == (1, 1, 1, 4, 8)


def test_a_slice_in_another_plane_is_not_cut_into_lines(make_plan_for_tests):
    """A 2D file stored coronally is one slice for a plan of axial ones."""
    preparation = Preparation(make_plan_for_tests(slicing_axis=0, spacing=(1.0, 1.0)))
    array = np.random.default_rng(0).normal(size=(1, 20, 1, 30)).astype(np.float32)
    slices, back = preparation.image(Image(array, Grid((20, 1, 30), (1.0, 1.0, 1.0))))
    assert slices.shape == (1, 1, 20, 30) and back.axis == 1
