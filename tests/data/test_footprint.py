"""What a case takes in memory, by headers alone, against what reading it takes."""

from __future__ import annotations

import nibabel
import numpy as np
import PIL.Image
import pytest
import SimpleITK
import tifffile

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.footprint import footprint, stored_bytes
from delightsam_pipeline.data.formats import read_image

VOLUME = np.random.default_rng(0).integers(0, 9, (6, 70, 80), np.int16)


def case_of(*images, label=None) -> Case:
    return Case("a", images, label, "a")


def write(path) -> None:
    if path.name.startswith(("a.nii", "b.nii")):
        nibabel.save(nibabel.Nifti1Image(VOLUME.T, np.eye(4)), path)
    elif path.suffix in (".nrrd", ".mha", ".mhd"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOLUME), path)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, VOLUME[0], compression="zlib")
    else:
        deep = path.name.startswith("deep")
        picture = VOLUME[0].astype(np.uint16) if deep else np.repeat(VOLUME[0, ..., None], 3, axis=2).astype(np.uint8)
        PIL.Image.fromarray(picture).save(path)


@pytest.mark.parametrize("name", ["a.nii.gz", "b.nii", "a.png", "deep.png", "a.bmp", "a.jpg", "a.mhd"])
def test_as_large_as_the_array_that_is_read(tmp_path, name):
    write(tmp_path / name)
    assert footprint(case_of(tmp_path / name)) == pytest.approx(read_image(tmp_path / name).array.nbytes, abs=352)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.tif"])
def test_formats_that_may_be_compressed_are_estimated(tmp_path, name):
    write(tmp_path / name)
    size = read_image(tmp_path / name).array.nbytes
    assert size / 2 <= footprint(case_of(tmp_path / name)) <= 4 * size


def test_all_channels_and_the_label_map_count_but_not_what_is_not_there(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz", "l.png"):
        write(tmp_path / name)
    parts = [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", tmp_path / "nowhere.png"]
    together = sum(footprint(case_of(path)) for path in (*parts, tmp_path / "l.png"))
    assert footprint(case_of(*parts, label=tmp_path / "l.png")) == together > 2 * VOLUME.nbytes
    assert stored_bytes(case_of(*parts)) == sum(path.stat().st_size for path in parts[:2])


@pytest.mark.parametrize("name", ["a.nii.gz", "a.png", "a.mhd"])
@pytest.mark.parametrize("content", [b"", b"abc", b"\x89PNG" + bytes(100)])
def test_damaged_files_are_told_of_when_they_are_read_not_here(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert 0 <= footprint(case_of(tmp_path / name)) <= 2**32


def test_a_volume_beyond_what_gzip_can_tell_is_not_taken_for_small(tmp_path):
    with open(tmp_path / "a.nii.gz", "wb") as file:
        file.truncate(3 * 2**30)  # sparse: its last four bytes are 0
    assert footprint(case_of(tmp_path / "a.nii.gz")) == 2**32
