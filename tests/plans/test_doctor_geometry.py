"""Where masks lie: turned axes are no fault, another grid is one that --fix-geometry mends, another place always is."""

from __future__ import annotations

import json
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest

from delightsam_pipeline.data.checks import check_case
from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.plans.fingerprint import fingerprint

SHAPE = (9, 12, 15)  # x y z
RNG = np.random.default_rng(0)
VALUES = RNG.integers(1, 200, SHAPE).astype(np.int16)
BOX = np.zeros(SHAPE, np.uint8)
BOX[2:6, 3:9, 4:11] = 1
BOX[1, 2, 3] = 2


def affine(spacing=(1.5, 1.0, 2.0), origin=(10, -20, 30), turn=None) -> np.ndarray:
    """RAS, as NIfTI has it."""
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) if turn is None else turn) * spacing
    matrix[:3, 3] = origin
    return matrix


AFFINE = affine()


def save(path: Path, array, matrix) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, matrix), path)


@pytest.fixture
def check(tmp_path):
    """A function: write one case and read it; images are (array x y z, affine), the label too."""

    def go(images, label, fix_geometry=False, **labels):
        for number, (array, matrix) in enumerate(images):
            save(tmp_path / "imagesTr" / f"a_{number:04d}.nii.gz", array, matrix)
        save(tmp_path / "labelsTr" / "a.nii.gz", *label)
        names = {str(number): f"T{number}" for number in range(len(images))}
        said = {"channel_names": names, "labels": {"background": 0, "a": 1, "b": 2} | labels, "modality": "MRI"}
        (tmp_path / "dataset.json").write_text(json.dumps(said))
        dataset = load_dataset(tmp_path, fix_geometry)
        return check_case(dataset.cases[0], dataset)

    return go


def stored_as(array, matrix, order, flips):
    """The same voxels at the same places, with other axes in the file."""
    orientation = np.array([[axis, -1 if flip else 1] for axis, flip in zip(order, flips, strict=True)])
    turned = nibabel.orientations.apply_orientation(array, orientation)
    back = nibabel.orientations.inv_ornt_aff(orientation, array.shape)
    return turned, matrix @ back


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_label_with_other_axes_than_its_image_is_read_exactly(check, order):
    expected = check([(VALUES, AFFINE)], (BOX, AFFINE))
    assert expected[1].array.sum() == BOX.sum()
    for flips in product((False, True), repeat=3):
        image, label = check([(VALUES, AFFINE)], stored_as(BOX, AFFINE, order, flips))
        np.testing.assert_array_equal(image.array, expected[0].array)
        np.testing.assert_array_equal(label.array, expected[1].array)


@pytest.mark.parametrize("angle", [20, 45, 45 + 1e-7, 80])
def test_axes_are_told_apart_on_oblique_grids_too(check, angle):
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    for turn in (np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.array([[1, 0, 0], [0, c, -s], [0, s, c]])):
        matrix = affine(turn=turn)
        for order, flips in (((1, 0, 2), (True, False, False)), ((0, 2, 1), (False, True, True))):
            channel = stored_as(VALUES, matrix, order, flips)
            image, label = check([(VALUES, matrix), channel], stored_as(BOX, matrix, order, flips))
            np.testing.assert_array_equal(image.array[0], image.array[1])
            for value in (1, 2):
                expected = np.sort(VALUES[value == BOX])
                np.testing.assert_array_equal(np.sort(image.array[0][label.array[0] == value]), expected)


def test_rounding_of_a_header_is_no_fault(check):
    turn = np.eye(3)
    turn[0, 1] = 1e-8
    check([(VALUES, AFFINE)], (BOX, affine(turn=turn)))
    check([(VALUES, AFFINE)], (BOX, affine(origin=(10.01, -20, 30))))
    check([(VALUES, AFFINE), (VALUES, affine(spacing=(1.50001, 1, 2)))], (BOX, AFFINE))


def test_the_tolerance_is_relative_to_the_spacing(check):
    fine = affine(spacing=(0.015, 0.01, 0.02), origin=(0, 0, 0))
    with pytest.raises(UserError, match=r"a\.nii\.gz: does not lie on the same grid as .* at origin"):
        check([(VALUES, fine)], (BOX, affine(spacing=(0.015, 0.01, 0.02), origin=(0.01, 0, 0))))


def test_channels_on_different_grids(check):
    for fix_geometry in (False, True):
        with pytest.raises(UserError, match=r"a_0001\.nii\.gz: does not lie on the same grid as \S+a_0000\.nii\.gz"):
            check([(VALUES, AFFINE), (VALUES[1:], AFFINE)], (BOX, AFFINE), fix_geometry)


def half_resolution():
    """Every second voxel of a block that is whole there and touches the border, and its affine."""
    blocks = np.zeros((5, 6, 8), np.uint8)
    blocks[:3, 2:5, 2:6] = 1
    matrix = affine(spacing=(3.0, 2.0, 4.0), origin=(10.75, -19.5, 31))
    return blocks, matrix


def test_another_grid_in_the_same_space_only_when_asked_for(check):
    with pytest.raises(UserError, match=r"labelsTr/a\.nii\.gz: does not lie .*; expected .*; found .*--fix-geometry"):
        check([(VALUES, AFFINE)], half_resolution())
    _, label = check([(VALUES, AFFINE)], half_resolution(), True)
    expected = np.zeros(SHAPE, np.uint8)
    expected[:6, 4:10, 4:12] = 1
    assert label.array.dtype == np.uint8
    np.testing.assert_array_equal(label.array[0], check([(VALUES, AFFINE)], (expected, AFFINE))[1].array[0])


def test_a_turned_grid_is_resampled_to_where_it_lies(check):
    large = np.zeros((40, 40, 40), np.uint8)
    large[10:30, 12:28, 8:32] = 1
    c, s = np.cos(0.3), np.sin(0.3)
    matrix = affine(spacing=(1, 1, 1), origin=(-20, -20, -20), turn=np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]))
    image = RNG.integers(1, 200, (50, 50, 30)).astype(np.int16)
    plain = affine(spacing=(1, 1, 1.5), origin=(-22, -18, -21))
    _, label = check([(image, plain)], (large, matrix), True)
    x, y, z = np.mgrid[:50, :50, :30]
    places = np.linalg.inv(matrix) @ plain @ np.stack([x, y, z, np.ones_like(x)]).reshape(4, -1)
    inside = [(p >= a - 0.5) & (p < b - 0.5) for p, (a, b) in zip(places, ((10, 30), (12, 28), (8, 32)), strict=False)]
    expected = np.logical_and.reduce(inside).reshape(x.shape).astype(np.uint8)
    canonical = check([(image, plain)], (expected, plain))[1].array
    assert (label.array != canonical).mean() < 1e-4 and expected.any()


def test_files_that_do_not_overlap_are_always_refused(check):
    for fix_geometry in (False, True):
        problem = r"does not overlap with \S+a_0000\.nii\.gz in space; .*copy the image's header"
        with pytest.raises(UserError, match=problem):
            check([(VALUES, AFFINE)], (BOX, affine(origin=(500, 0, 0))), fix_geometry)


def test_a_mask_whose_objects_lie_outside_is_refused(check):
    label = np.zeros(SHAPE, np.uint8)
    label[7:, 3:9, 4:9] = 1
    with pytest.raises(UserError, match=r"has nothing within \S+a_0000\.nii\.gz after resampling"):
        check([(VALUES, AFFINE)], (label, affine(origin=(18, -20, 30))), True)
    with pytest.raises(UserError, match="if the mask was drawn on this image, copy the image's header into it"):
        check([(VALUES, AFFINE)], (label, affine(origin=(18, -20, 30))))


def test_each_mended_mask_is_told(check, tmp_path):
    check([(VALUES, AFFINE)], half_resolution(), True)
    findings = fingerprint(load_dataset(tmp_path, True), workers=1).findings
    (finding,) = (f for f in findings if f.file.endswith("labelsTr/a.nii.gz"))
    assert finding.level == "warning" and finding.case == "a"
    assert "lies on another grid than its image and was resampled" in finding.problem
    assert "it had 5 x 6 x 8 voxels of 3 x 2 x 4 mm and covers 100% of the image" in finding.problem


def test_a_label_that_would_vanish_is_refused(check):
    label = np.zeros(SHAPE, np.uint8)
    label[1:4, 3:9, 4:9] = 1
    label[7:, 3:9, 4:9] = 2
    moved = affine(origin=(18, -20, 30))  # the image ends at x = 10 + 9 * 1.5
    with pytest.raises(
        UserError, match=r"a\.nii\.gz: has nothing of label 2 within \S+a_0000\.nii\.gz after resampling"
    ):
        check([(VALUES, AFFINE)], (label, moved), True)


def test_ignored_voxels_may_vanish(check):
    label = np.zeros(SHAPE, np.uint8)
    label[:4, 3:9, 4:9] = 1
    label[7:, 3:9, 4:9] = 3
    moved = affine(origin=(18, -20, 30))
    _, mask = check([(VALUES, AFFINE)], (label, moved), True, ignore=3)
    assert np.unique(mask.array).tolist() == [0, 1]
    assert mask.notes[0].endswith("of the image")  # nothing drawn is lost
    label[:4], label[7:] = label[8:4:-1], 2
    label[:2, 3:9, 4:9] = 3
    with pytest.raises(UserError, match=r"a\.nii\.gz: has nothing within \S+a_0000\.nii\.gz after resampling"):
        check([(VALUES, AFFINE)], (label, moved), True, ignore=3)


def test_what_is_drawn_outside_of_the_image_is_told(check):
    label = np.zeros(SHAPE, np.uint8)
    label[:6, 3:9, 4:9] = 1
    _, mask = check([(VALUES, AFFINE)], (label, affine(origin=(17.5, -20, 30))), True)
    assert mask.array.sum() == 4 * 6 * 5
    assert mask.notes[0].endswith("of the image; 33% of what is drawn lies outside the image")
    label[4:6] = 0
    _, mask = check([(VALUES, AFFINE)], (label, affine(origin=(17.5, -20, 30))), True)
    assert mask.array.sum() == label.sum() and mask.notes[0].endswith("of the image")


def test_a_picture_s_smaller_mask_only_when_asked_for(tmp_path):
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / part).mkdir()
    PIL.Image.fromarray(RNG.integers(0, 255, (40, 60)).astype(np.uint8)).save(tmp_path / "imagesTr/a_0000.png")
    small = np.zeros((20, 30), np.uint8)
    small[5:12, 10:20] = 1
    PIL.Image.fromarray(small).save(tmp_path / "labelsTr/a.png")
    (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "us"}, "labels": {"background": 0, "a": 1}}')
    dataset = load_dataset(tmp_path)
    with pytest.raises(UserError, match="--fix-geometry bring the mask to the image's size"):
        check_case(dataset.cases[0], dataset)
    dataset = load_dataset(tmp_path, fix_geometry=True)
    _, label = check_case(dataset.cases[0], dataset)
    np.testing.assert_array_equal(label.array[0, 0], small.repeat(2, 0).repeat(2, 1))
    assert label.notes == (
        "resampled to its image's grid by --fix-geometry; it had 30 x 20 pixels, the image has 60 x 40 pixels",
    )
