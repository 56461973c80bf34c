"""Files as people really have them: made here in small, and the real ones where DLSAM_TEST_DATA names them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest
import SimpleITK

from delightsam_pipeline.data.checks import check_case
from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.data.fitting import fitted
from delightsam_pipeline.data.formats import read_case, read_image, write_labels
from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.data.masks import read_labels
from delightsam_pipeline.errors import UserError

REAL = Path(os.environ.get("DLSAM_TEST_DATA") or "none-given") / "quirks"
ONE = Labels.parse({"background": 0, "lesion": 1}, Path("dataset.json"))
TWO = Labels.parse({"background": 0, "a": 1, "b": 2}, Path("dataset.json"))
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
RNG = np.random.default_rng(0)


def disc(*shape: int) -> np.ndarray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return ((y / shape[0] - 0.5) ** 2 + (x / shape[1] - 0.4) ** 2 < 0.06).astype(np.uint8)


def picture(path: Path, array: np.ndarray, **options) -> None:
    PIL.Image.fromarray(array).save(path, **options)


def nifti(path: Path, array: np.ndarray, affine=LPS) -> None:
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def colour(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, (*shape, 3), np.uint8)


def make_float_label_wide_intensity(folder: Path) -> None:
    nifti(folder / "image.nii.gz", np.linspace(0, 1.7e6, 480, dtype=np.float32).reshape(8, 10, 6))
    nifti(folder / "label.nii.gz", np.repeat(disc(8, 10)[..., None] * np.float32(2), 6, 2))


def make_jpeg_mask(folder: Path) -> None:
    for name in "ab":
        picture(folder / f"image_{name}.jpg", colour(60, 80))
        mask = np.repeat(disc(60, 80)[..., None] * np.uint8(255), 3, 2)
        picture(folder / f"mask_{name}.jpg", mask, quality=80)


def make_mask_larger_than_image(folder: Path) -> None:
    for i in (1, 2):
        picture(folder / f"Test_Image_{i}.png", colour(32, 32)[..., 0])
        mask = disc(128, 128) * np.uint8(255)
        mask[:5, :8] = RNG.integers(1, 40, (5, 8), np.uint8)
        picture(folder / f"mask_{i}.png", mask)


def make_mismatched_pair(folder: Path) -> None:
    nifti(folder / "image.nii.gz", np.zeros((12, 10, 11), np.int16))
    nifti(folder / "label.nii.gz", np.zeros((12, 10, 3), np.uint8))


def make_odd_volume(folder: Path) -> None:
    nifti(folder / "image_hippocampus_118.nii.gz", np.ones((7, 8, 6), np.uint8))
    nifti(folder / "label_hippocampus_010.nii.gz", np.ones((6, 7, 5), np.uint8))
    nifti(folder / "label_hippocampus_281.nii.gz", np.ones((20, 20, 9), np.uint8), np.diag([-0.7, -0.7, 5, 1]))


def make_nrrd(folder: Path) -> None:
    for name, kind in (("image", np.int16), ("label", np.int32)):
        image = SimpleITK.GetImageFromArray(np.repeat(disc(16, 18)[None], 5, 0).astype(kind))
        image.SetSpacing((0.78, 0.78, 6.5))
        image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))
        SimpleITK.WriteImage(image, str(folder / f"brain1_{name}.nrrd"), True)


def make_psr_orientation(folder: Path) -> None:
    psr = np.array([[0, 0, 7.5, 9], [-0.5, 0, 0, 5], [0, 0.5, 0, 1], [0, 0, 0, 1]])
    label = np.zeros((12, 11, 10), np.uint8)
    label[2:6, 3:9, 4] = 2
    nifti(folder / "image.nii.gz", label.astype(np.int16) * 100, psr)
    nifti(folder / "label.nii.gz", label, psr)


def make_one_bit_and_rgb_bmp(folder: Path) -> None:
    picture(folder / "IMD002_lesion.bmp", np.repeat(disc(30, 40)[..., None] * np.uint8(255), 3, 2))
    picture(folder / "IMD003_lesion.bmp", disc(30, 40).astype(bool))


def make_rgba_png(folder: Path) -> None:
    picture(folder / "0007.png", np.concatenate([colour(20, 30), np.full((20, 30, 1), 255, np.uint8)], 2))


def make_tif_image_gif_mask(folder: Path) -> None:
    picture(folder / "21_training.tif", colour(30, 40))
    picture(folder / "21_manual1.gif", disc(30, 40) * np.uint8(255))


def make_dicom_series(folder: Path) -> None:
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for i in range(4):
        image = SimpleITK.GetImageFromArray(RNG.integers(-1000, 2000, (1, 12, 14)).astype(np.int16))
        image.SetSpacing((0.9, 0.9, 3.0))
        tags = {"0008|0060": "CT", "0020|000e": "1.2.3.4", "0020|000d": "1.2.3", "0008|0018": f"1.2.3.4.{i}"}
        tags |= {"0020|0032": f"0\\0\\{2 * i}", "0020|0037": "1\\0\\0\\0\\1\\0", "0018|0050": "3", "0020|0013": str(i)}
        tags |= {"0028|1052": "-1024", "0028|1053": "1"}
        for key, value in tags.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"CT.1.2.3.4.{i}.dcm"))
        writer.Execute(image)
        (folder / f"CT.1.2.3.4.{i}.dcm").rename(folder / f"CT.1.2.3.4.{i}")


MAKERS: dict[str, Callable[[Path], None]] = {
    name.removeprefix("make_"): maker for name, maker in globals().items() if name.startswith("make_")
}


@pytest.fixture(params=["made", "real"])
def quirk(request, tmp_path):
    """A function from a quirk's name to its folder, of files made here or of real ones."""

    def folder_of(name: str) -> Path:
        if request.param == "real":
            if not REAL.is_dir():
                pytest.skip("DLSAM_TEST_DATA names no folder")
            return REAL / name
        folder = tmp_path / name
        folder.mkdir()
        MAKERS[name](folder)
        return folder

    return folder_of


@pytest.mark.skipif(not REAL.is_dir(), reason="DLSAM_TEST_DATA names no folder")
def test_every_real_quirk_is_made_here_too():
    assert sorted(folder.name for folder in REAL.iterdir()) == sorted(MAKERS)


def test_float_labels_and_wide_intensities(quirk):
    folder = quirk("float_label_wide_intensity")
    image = read_case([folder / "image.nii.gz"])
    label = read_labels(folder / "label.nii.gz", TWO, image)
    assert image.array.dtype == np.float32 and image.array.max() > 1000
    assert label.array.dtype == np.uint8 and label.array.max() == 2 and "whole numbers" in label.notes[0]


def test_jpeg_masks(quirk):
    files = sorted(quirk("jpeg_mask").iterdir())
    for image, mask in zip(files[:2], files[2:], strict=True):
        label = read_labels(mask, ONE, read_image(image))
        with PIL.Image.open(mask) as stored:
            np.testing.assert_array_equal(label.array[0, 0], np.asarray(stored)[..., 0] > 127)
        assert any("from 128 on" in note for note in label.notes)


def test_masks_larger_than_their_image(quirk):
    folder = quirk("mask_larger_than_image")
    for i in (1, 2):
        image = read_image(folder / f"Test_Image_{i}.png")
        label = fitted(read_labels(folder / f"mask_{i}.png", ONE), image)
        with PIL.Image.open(folder / f"mask_{i}.png") as stored:
            share = (np.asarray(stored) > 127).mean()
        assert label.array.shape == image.array.shape and label.array.mean() == pytest.approx(share, rel=0.03)
        assert "larger than its image with the same shape" in label.notes[-1]


def test_pairs_that_do_not_belong_together(quirk):
    folder = quirk("mismatched_pair")
    image = read_case([folder / "image.nii.gz"])
    with pytest.raises(
        UserError, match=r"label\.nii\.gz: does not lie on the same grid as \S+image\.nii\.gz; expected"
    ):
        read_labels(folder / "label.nii.gz", None, image)
    folder = quirk("odd_volume")
    image = read_case([folder / "image_hippocampus_118.nii.gz"])
    with pytest.raises(UserError, match=r"281\.nii\.gz: does not lie on the same grid .*; check that the files belong"):
        read_labels(folder / "label_hippocampus_281.nii.gz", TWO, image)


def test_labels_without_an_image(quirk, tmp_path):
    odd = quirk("odd_volume")
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / "raw" / part).mkdir(parents=True)
    for name in ("010", "281"):
        (tmp_path / "raw/labelsTr" / f"{name}.nii.gz").symlink_to(odd / f"label_hippocampus_{name}.nii.gz")
    (tmp_path / "raw/imagesTr/010_0000.nii.gz").symlink_to(odd / "image_hippocampus_118.nii.gz")
    entries = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1, "b": 2}, "file_ending": ".nii.gz"}
    (tmp_path / "raw" / "dataset.json").write_text(json.dumps(entries))
    with pytest.raises(UserError, match=r"labelsTr/281\.nii\.gz: has no image; expected \S+imagesTr/281_0000\.nii\.gz"):
        load_dataset(tmp_path / "raw")


def test_nrrd(quirk, tmp_path):
    folder = quirk("nrrd")
    image = read_case([folder / "brain1_image.nrrd"])
    label = read_labels(folder / "brain1_label.nrrd", ONE, image)
    assert image.grid.spacing[0] == pytest.approx(6.5) and label.array.max() == 1
    write_labels(tmp_path / "out.nrrd", label.array[0], image)
    ours, theirs = (SimpleITK.ReadImage(str(f)) for f in (tmp_path / "out.nrrd", folder / "brain1_label.nrrd"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(ours), SimpleITK.GetArrayFromImage(theirs))
    assert ours.GetDirection() == theirs.GetDirection() and ours.GetOrigin() == pytest.approx(theirs.GetOrigin())


def test_turned_axes(quirk, tmp_path):
    folder = quirk("psr_orientation")
    image = read_case([folder / "image.nii.gz"])
    label = read_labels(folder / "label.nii.gz", TWO, image)
    assert np.argmax(np.abs(image.grid.direction), axis=0).tolist() == [2, 1, 0]
    assert (np.diag(np.asarray(image.grid.direction)[::-1]) > 0.9).all()
    write_labels(tmp_path / "out.nii.gz", label.array[0], image)
    ours, theirs = (nibabel.load(f) for f in (tmp_path / "out.nii.gz", folder / "label.nii.gz"))
    np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-5)


def test_bitmaps_of_one_bit_and_of_colours(quirk):
    for file in sorted(quirk("one_bit_and_rgb_bmp").iterdir()):
        label = read_labels(file, ONE)
        with PIL.Image.open(file) as stored:
            np.testing.assert_array_equal(label.array[0, 0], np.asarray(stored.convert("L")) > 127)
        assert 0.05 < label.array.mean() < 0.5


def test_alpha_is_dropped(quirk):
    (file,) = quirk("rgba_png").iterdir()
    with PIL.Image.open(file) as stored:
        np.testing.assert_array_equal(read_image(file).array[:, 0].transpose(1, 2, 0), np.asarray(stored)[..., :3])


def test_an_image_and_a_mask_of_different_formats(quirk, tmp_path):
    source = quirk("tif_image_gif_mask")
    for part, file in (("imagesTr/21_0000.tif", "21_training.tif"), ("labelsTr/21.gif", "21_manual1.gif")):
        (tmp_path / "raw" / part).parent.mkdir(parents=True)
        (tmp_path / "raw" / part).symlink_to(source / file)
    entries = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "vessel": 1}}
    (tmp_path / "raw" / "dataset.json").write_text(json.dumps(entries | {"file_ending": ".tif"}))
    dataset = load_dataset(tmp_path / "raw")
    image, label = check_case(dataset.cases[0], dataset)
    assert image.array.shape[0] == 3 and label.array.shape[1:] == image.array.shape[1:]
    assert sorted(np.unique(label.array)) == [0, 1] and set(label.notes) <= {"255 was read as 1"}


def test_a_series_whose_thickness_is_not_its_spacing(quirk, tmp_path):
    folder = quirk("dicom_series")
    image = read_case([folder])
    assert image.grid.spacing[0] == pytest.approx(2.0) and image.grid.shape[0] == len(list(folder.iterdir()))
    assert image.array.dtype.kind == "i" and image.array.min() < -500
    labels = (image.array[0] > 0).astype(np.uint8)
    write_labels(tmp_path / "out.nii.gz", labels, image)
    np.testing.assert_array_equal(read_labels(tmp_path / "out.nii.gz", ONE, image).array[0], labels)
