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
from delightsam_pipeline.data.masks import read_labels
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
    assert formats.ending_of("a.gipl") == ".gipl" and formats.ending_of("a.gipl.gz") == ".gipl.gz"
    for name in ("a.gz", "a.webp", "a", ".png", "png"):
        with pytest.raises(UserError, match=r"expected \.nii\.gz \.nii .*\.dcm; found"):
            formats.ending_of(Path(name))


def test_what_a_case_and_its_mask_are_called():
    assert formats.stem_of(Path("x/a.b_0000.NII.GZ")) == "a.b_0000"
    written = {ending: formats.output_ending(Path(f"a{ending}")) for ending in formats.ENDINGS}
    others = {".jpg": ".png", ".jpeg": ".png", ".gif": ".png", ".dcm": ".nii.gz"}
    assert written == {ending: ending for ending in formats.ENDINGS} | others


def test_missing_files(tmp_path):
    with pytest.raises(UserError, match=r"a\.png: does not exist"):
        formats.read_image(tmp_path / "a.png")
    (tmp_path / "b.nii").mkdir()
    with pytest.raises(UserError, match=r"b\.nii: is not a file"):
        formats.read_stored(tmp_path / "b.nii")


def test_not_finite_values_are_counted(tmp_path):
    data = np.ones((5, 4, 3), np.float32)
    data[0, 0, 0], data[1, 1, 1] = np.nan, np.inf
    with pytest.raises(UserError, match=r"a\.nii: has values that are NaN or infinite; found 2 of 60, the first at"):
        formats.read_image(nifti(tmp_path / "a.nii", data))


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


def test_the_last_axis_of_a_nifti_is_channels(tmp_path):
    data = np.arange(120, dtype=np.int16).reshape(5, 4, 3, 2)
    image = formats.read_case([nifti(tmp_path / "a.nii.gz", data)])
    np.testing.assert_array_equal(image.array, data.transpose(3, 2, 1, 0)[:, :, ::-1, ::-1])  # RAS to LPS
    formats.write_labels(tmp_path / "b.nrrd", image.array[1], image)
    assert formats.read_image(tmp_path / "b.nrrd").grid.same_space(image.grid)


def test_pictures_of_other_sizes_are_refused(tmp_path):
    a, b = png(tmp_path / "a.png", np.zeros((4, 6))), png(tmp_path / "b.png", np.zeros((6, 4)))
    with pytest.raises(UserError, match="expected 6 x 4 pixels; found 4 x 6 pixels"):
        formats.read_case([a, b])


def test_labels_are_written_in_the_format_of_the_ending(tmp_path):
    image = formats.read_image(png(tmp_path / "a.png", np.zeros((4, 6))))
    labels = np.ones((1, 4, 6), np.uint8)
    for ending in formats.ENDINGS:
        path = tmp_path / f"out{ending}"
        if formats.output_ending(path) != ending:
            with pytest.raises(UserError, match="masks are not written in this format"):
                formats.write_labels(path, labels, image)
            continue
        formats.write_labels(path, labels, image)
        np.testing.assert_array_equal(read_labels(path, image=image).array[0], labels)


def test_format_libraries_are_imported_only_when_a_file_is_read():
    code = (
        "import sys, delightsam_pipeline.data.dataset; "
        "sys.exit(any(m in sys.modules for m in ('nibabel', 'SimpleITK', 'PIL')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
