"""One way in for all formats: endings, label maps, several files per case, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest

from delightsam_pipeline.data import formats
from delightsam_pipeline.errors import UserError


def nifti(path: Path, data: np.ndarray, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)) -> Path:
    nibabel.save(nibabel.Nifti1Image(data, nibabel.affines.from_matvec(np.diag(spacing), origin)), path)
    return path


def png(path: Path, array) -> Path:
    PIL.Image.fromarray(np.asarray(array, np.uint8)).save(path)
    return path


def test_endings():
    assert formats.ending_of(Path("a.b_0000.NII.GZ")) == ".nii.gz"
    assert formats.ending_of(Path("x/a.nii")) == ".nii"
    assert formats.ending_of("a.PNG") == ".png"
    for name in ("a.gz", "a.jpeg", "a", ".png", "png"):
        with pytest.raises(UserError, match=r"expected \.nii\.gz \.nii \.png"):
            formats.ending_of(Path(name))


def test_missing_files(tmp_path):
    with pytest.raises(UserError, match=r"a\.png: does not exist"):
        formats.read_image(tmp_path / "a.png")
    (tmp_path / "b.nii").mkdir()
    with pytest.raises(UserError, match=r"b\.nii: is not a file"):
        formats.read_labels(tmp_path / "b.nii")


def test_not_finite_values_are_counted(tmp_path):
    data = np.ones((5, 4, 3), np.float32)
    data[0, 0, 0], data[1, 1, 1] = np.nan, np.inf
    with pytest.raises(UserError, match=r"a\.nii: 2 of 60 values are NaN or infinite"):
        formats.read_image(nifti(tmp_path / "a.nii", data))


def test_float_labels_that_are_whole_are_read(tmp_path):
    data = np.zeros((5, 4, 3), np.float64)
    data[1:3] = 2
    data[0] = 1 - 1e-6
    image = formats.read_labels(nifti(tmp_path / "a.nii.gz", data))
    assert image.array.dtype == np.uint8 and image.array.shape == (1, 3, 4, 5)
    assert np.bincount(image.array.ravel()).tolist() == [24, 12, 24]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (0.5, "not whole numbers; found 0.5"),
        (np.nan, "not whole"),
        (-1, "negative values; found -1"),
        (np.inf, "whole"),
    ],
)
def test_labels_that_are_no_labels(tmp_path, value, problem):
    data = np.zeros((5, 4, 3), np.float32)
    data[2, 2, 2] = value
    with pytest.raises(UserError, match=rf"a\.nii: .*{problem}"):
        formats.read_labels(nifti(tmp_path / "a.nii", data))


def test_negative_integers_are_no_labels(tmp_path):
    with pytest.raises(UserError, match="negative values; found -7"):
        formats.read_labels(nifti(tmp_path / "a.nii", np.full((5, 4, 3), -7, np.int16)))


def test_large_label_values_keep_their_value(tmp_path):
    image = formats.read_labels(nifti(tmp_path / "a.nii", np.full((5, 4, 3), 70000, np.int32)))
    assert image.array.dtype == np.int32 and (image.array == 70000).all()


def test_colour_masks_with_equal_channels_become_one(tmp_path):
    mask = np.array([[0, 1, 2], [2, 1, 0]])
    image = formats.read_labels(png(tmp_path / "a.png", np.stack([mask] * 3, -1)))
    np.testing.assert_array_equal(image.array, mask[None, None])
    with pytest.raises(UserError, match=r"b\.png: is not a label map"):
        formats.read_labels(png(tmp_path / "b.png", np.stack([mask, mask, 2 - mask], -1)))


def test_channels_are_stacked_in_a_common_type(tmp_path):
    a = nifti(tmp_path / "a_0000.nii.gz", np.full((5, 4, 3), 200, np.uint8))
    b = nifti(tmp_path / "a_0001.nii.gz", np.full((5, 4, 3), -3, np.int16))
    c = nifti(tmp_path / "a_0002.nii.gz", np.full((5, 4, 3), 0.5, np.float32))
    image = formats.read_case([a, b])
    assert image.array.shape == (2, 3, 4, 5) and image.array.dtype == np.int16
    assert image.array[:, 0, 0, 0].tolist() == [200, -3] and image.source == a
    image = formats.read_case([a, b, c])
    assert image.array.dtype == np.float32 and image.array[:, 2, 3, 4].tolist() == [200, -3, 0.5]
    d = nifti(tmp_path / "a_0003.nii.gz", np.full((5, 4, 3), 70000, np.int32))
    assert formats.read_case([c, d]).array.dtype == np.float32


def test_channels_of_other_orientation_but_the_same_place_are_stacked(tmp_path):
    data = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
    a = nifti(tmp_path / "a.nii", data)
    b = nifti(tmp_path / "b.nii", data[::-1], (-1.0, 1.0, 1.0), (4.0, 0.0, 0.0))
    image = formats.read_case([a, b])
    np.testing.assert_array_equal(image.array[0], image.array[1])


@pytest.mark.parametrize(
    ("shape", "spacing", "origin", "found"),
    [
        ((5, 4, 2), (1, 1, 1), (0, 0, 0), "expected 5 x 4 x 3 voxels of 1 x 1 x 1 mm; found 5 x 4 x 2 voxels"),
        ((5, 4, 3), (1, 1, 2.5), (0, 0, 0), "found 5 x 4 x 3 voxels of 1 x 1 x 2.5 mm"),
        ((5, 4, 3), (1, 1, 1), (9, 0, 0), r"found .* at origin \(-13 -3 0\)"),
    ],
)
def test_channels_on_other_grids_are_refused(tmp_path, shape, spacing, origin, found):
    a = nifti(tmp_path / "a_0000.nii", np.zeros((5, 4, 3), np.uint8))
    b = nifti(tmp_path / "a_0001.nii", np.zeros(shape, np.uint8), spacing, origin)
    with pytest.raises(UserError, match=rf"a_0001\.nii: does not lie on the same grid as \S+a_0000\.nii; .*{found}"):
        formats.read_case([a, b])


def test_pictures_of_other_sizes_are_refused(tmp_path):
    a, b = png(tmp_path / "a.png", np.zeros((4, 6))), png(tmp_path / "b.png", np.zeros((6, 4)))
    with pytest.raises(UserError, match="expected 6 x 4 pixels; found 4 x 6 pixels"):
        formats.read_case([a, b])


def test_labels_are_written_in_the_format_of_the_ending(tmp_path):
    image = formats.read_image(png(tmp_path / "a.png", np.zeros((4, 6))))
    labels = np.ones((1, 4, 6), np.uint8)
    for ending in formats.ENDINGS:
        formats.write_labels(tmp_path / f"out{ending}", labels, image)
        np.testing.assert_array_equal(formats.read_labels(tmp_path / f"out{ending}").array[0], labels)


def test_format_libraries_are_imported_only_when_a_file_is_read():
    code = (
        "import sys, delightsam_pipeline.data.dataset; "
        "sys.exit(any(m in sys.modules for m in ('nibabel', 'SimpleITK', 'PIL')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
