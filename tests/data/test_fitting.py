"""Masks of another size than their image: brought to it where nothing can go wrong, else refused."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest

from delightsam_pipeline.data.fitting import fitted
from delightsam_pipeline.data.formats import read_image
from delightsam_pipeline.data.image import Image
from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.data.masks import read_labels
from delightsam_pipeline.errors import UserError

ONE = Labels.parse({"background": 0, "lesion": 1}, Path("dataset.json"))


def disc(shape: tuple[int, int]) -> np.ndarray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return ((y / shape[0] - 0.5) ** 2 + (x / shape[1] - 0.4) ** 2 < 0.06).astype(np.uint8)


def save(path: Path, array: np.ndarray) -> Path:
    PIL.Image.fromarray(array).save(path)
    return path


def nifti(path: Path, data: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), path)
    return path


def read(path: Path, image: Image) -> tuple[np.ndarray, str]:
    result = fitted(read_labels(path, ONE), image)
    return result.array[0, 0], "; ".join(result.notes)


@pytest.mark.parametrize("factor", [2, 4, 3.2])
def test_a_mask_larger_than_its_picture_is_shrunk(tmp_path, factor):
    image = read_image(save(tmp_path / "image.png", np.zeros((50, 60), np.uint8)))
    larger = (int(50 * factor), int(60 * factor))
    array, notes = read(save(tmp_path / "mask.png", disc(larger) * np.uint8(255)), image)
    assert array.shape == (50, 60) and (array != disc((50, 60))).mean() < 0.015
    assert "larger than its image with the same shape" in notes


@pytest.mark.parametrize("shape", [(50, 61), (25, 30), (100, 130), (60, 50)])
def test_other_sizes_are_refused(tmp_path, shape):
    image = read_image(save(tmp_path / "image.png", np.zeros((50, 60), np.uint8)))
    found = f"expected 60 x 50 pixels; found {shape[1]} x {shape[0]} pixels; check that the files belong together"
    with pytest.raises(UserError, match=rf"mask\.png: does not lie on the same grid as \S+image\.png; {found}"):
        read(save(tmp_path / "mask.png", disc(shape)), image)


def test_larger_masks_are_refused_where_that_was_not_asked_for(tmp_path):
    image = read_image(save(tmp_path / "image.png", np.zeros((50, 60), np.uint8)))
    with pytest.raises(UserError, match="expected 60 x 50 pixels; found 120 x 100 pixels"):
        read_labels(save(tmp_path / "mask.png", disc((100, 120))), ONE, image)


def test_volumes_are_never_brought_to_another_size(tmp_path):
    image = read_image(nifti(tmp_path / "image.nii.gz", np.zeros((8, 8, 4), np.uint8)))
    with pytest.raises(UserError, match="expected 8 x 8 x 4 voxels"):
        read_labels(nifti(tmp_path / "mask.nii.gz", np.zeros((16, 16, 8), np.uint8)), ONE, image)


def test_a_picture_for_an_image_with_turned_axes_is_refused(tmp_path):
    affine = np.diag([1.0, 1.0, 1.0, 1.0])  # RAS: columns run against the canonical axes
    nibabel.save(nibabel.Nifti1Image(np.zeros((40, 30, 1), np.uint8), affine), tmp_path / "image.nii.gz")
    image = read_image(tmp_path / "image.nii.gz")
    with pytest.raises(UserError, match="may be flipped"):
        read(save(tmp_path / "mask.png", disc((30, 40))), image)
