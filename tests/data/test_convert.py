"""Converting: values, types and geometry are those of the source, and a dataset is written whole or not at all."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest
import SimpleITK
import tifffile

from delightsam_pipeline.data.checks import check_case
from delightsam_pipeline.data.convert import convert, plan_conversion
from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.data.formats import read_image
from delightsam_pipeline.data.sources.recognise import recognise
from delightsam_pipeline.errors import UserError

VOLUME = np.random.default_rng(0).integers(-500, 500, (4, 5, 6)).astype(np.int16)
BLOCK = np.zeros((20, 24), np.uint8)
BLOCK[5:12, 4:15] = 1
MASK = (VOLUME > 0).astype(np.uint8)
PLACE = ((0.5, 0.6, 3.25), (-10.25, 20.5, 33.125), (0, 1, 0, -1, 0, 0, 0, 0, 1))
OF_SERIES = ((0.5, 0.6, 2), (10, 20, 30), (1, 0, 0, 0, 1, 0, 0, 0, 1))  # as write_series has it
TAGS = {"CT": "CT", "MR": "MRI"}


def itk(path: Path, array: np.ndarray, compress: bool = False, place=PLACE) -> Path:
    """A volume [z, y, x] with this spacing, origin and direction."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(array)
    spacing, origin, direction = place
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    SimpleITK.WriteImage(image, str(path), compress)
    return path


def picture(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(array).save(path)
    return path


def converted(source: Path, masks: Path | None = None, link: str | None = None, **wishes) -> Path:
    output = source.parent / "Dataset301_Test"
    convert(plan_conversion(recognise([source], masks), tags=TAGS, **wishes), output, link)
    return output


def written(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def entries(folder: Path) -> dict:
    return json.loads((folder / "dataset.json").read_text(encoding="utf-8"))


def check_all(folder: Path) -> None:
    """Every case reads, its mask on its image's grid."""
    dataset = load_dataset(folder)
    for case in dataset.cases:
        check_case(case, dataset)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_volumes_are_copied_byte_for_byte(tmp_path, ending):
    image = itk(tmp_path / "mine" / "images" / f"a{ending}", VOLUME)
    mask = itk(tmp_path / "mine" / "masks" / f"a{ending}", MASK)
    folder = converted(tmp_path / "mine", modality="CT")
    assert (folder / "imagesTr" / f"a_0000{ending}").read_bytes() == image.read_bytes()
    assert (folder / "labelsTr" / f"a{ending}").read_bytes() == mask.read_bytes()
    assert entries(folder) == {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "foreground": 1},
        "numTraining": 1,
        "file_ending": ending,
        "modality": "CT",
    }
    check_all(folder)


@pytest.mark.parametrize("compress", [False, True])
def test_a_metaimage_of_two_files_gets_a_new_name_for_its_data(tmp_path, compress):
    for part, array in (("images", VOLUME), ("masks", MASK)):
        itk(tmp_path / "mine" / part / "a.mhd", array, compress)
    ending = "zraw" if compress else "raw"
    folder = converted(tmp_path / "mine", modality="CT", link="symbolic")
    assert written(folder / "imagesTr") == ["a_0000.mhd", f"a_0000.{ending}"]
    assert not (folder / "imagesTr" / "a_0000.mhd").is_symlink()
    assert (folder / "imagesTr" / f"a_0000.{ending}").is_symlink()
    image = read_image(folder / "imagesTr" / "a_0000.mhd")
    source = read_image(tmp_path / "mine" / "images" / "a.mhd")
    np.testing.assert_array_equal(image.array, source.array)
    assert image.grid == source.grid and image.array.dtype == np.int16
    check_all(folder)


def test_the_spacing_beside_a_tiff_goes_with_it(tmp_path):
    for part, array in (("images", VOLUME), ("masks", MASK)):
        (tmp_path / "mine" / part).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "mine" / part / "a.tif", array, photometric="minisblack")
        (tmp_path / "mine" / part / "a.json").write_text('{"spacing": [3.0, 0.5, 0.6]}')
    (tmp_path / "mine" / "images" / "other.json").write_text('{"name": "of a patient"}')
    folder = converted(tmp_path / "mine", modality="CT")
    expected = ["dataset.json", "imagesTr/a.json", "imagesTr/a_0000.tif", "labelsTr/a.json", "labelsTr/a.tif"]
    assert written(folder) == expected
    assert read_image(folder / "imagesTr" / "a_0000.tif").grid.spacing == (3.0, 0.5, 0.6)
    check_all(folder)


def test_pictures_and_masks_stay_as_they_are(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    files = [
        picture(tmp_path / "mine" / "images" / "photo 1.JPG", noise),
        picture(tmp_path / "mine" / "images" / "photo (2).png", noise),
        picture(tmp_path / "mine" / "masks" / "photo 1_mask.png", 100 * BLOCK),
        picture(tmp_path / "mine" / "masks" / "photo (2)_mask.bmp", 200 * BLOCK),
    ]
    folder = converted(tmp_path / "mine", labels={"vein": None, "artery": None}, modality="fundus")
    targets = ["imagesTr/photo_1_0000.jpg", "imagesTr/photo_2_0000.png", "labelsTr/photo_1.png", "labelsTr/photo_2.bmp"]
    for file, target in zip(files, targets, strict=True):
        assert (folder / target).read_bytes() == file.read_bytes()
    value = entries(folder)
    assert value["labels"] == {"background": 0, "vein": 1, "artery": 2}
    assert value["mask_values"] == {"0": 0, "100": 1, "200": 2}
    assert value["channel_names"] == {"0": "R", "1": "G", "2": "B"} and "file_ending" not in value
    check_all(folder)


@pytest.mark.parametrize("link", ["hard", "symbolic"])
def test_links_instead_of_copies(tmp_path, link):
    image = picture(tmp_path / "mine" / "images" / "a.png", 7 * BLOCK)
    picture(tmp_path / "mine" / "masks" / "a.png", BLOCK)
    target = converted(tmp_path / "mine", link=link) / "imagesTr" / "a_0000.png"
    assert target.is_symlink() == (link == "symbolic")
    assert os.path.samefile(target, image)


def test_where_no_links_can_be_made_files_are_copied(tmp_path, monkeypatch):
    picture(tmp_path / "mine" / "images" / "a.png", 7 * BLOCK)
    picture(tmp_path / "mine" / "masks" / "a.png", BLOCK)

    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    conversion = plan_conversion(recognise([tmp_path / "mine"]))
    assert convert(conversion, tmp_path / "Dataset301_Test", "hard") == 2
    copy = tmp_path / "Dataset301_Test" / "imagesTr" / "a_0000.png"
    assert copy.read_bytes() == (tmp_path / "mine" / "images" / "a.png").read_bytes()


@pytest.mark.parametrize(
    ("slope", "dtype"), [("1", np.int32), ("2.0", np.int32), ("0.123", np.float32)], ids=["whole", "doubled", "parts"]
)
def test_a_series_becomes_one_nifti_with_its_values_and_place(tmp_path, write_series, slope, dtype):
    elements = {"00281052": "-3", "00281053": slope, "00100010": "Somebody^Known", "00080060": "MR"}
    series = write_series(tmp_path / "mine" / "p1" / "study" / "s", VOLUME, elements=elements)
    itk(tmp_path / "masks" / "p1.nii.gz", MASK, place=OF_SERIES)
    folder = converted(tmp_path / "mine", tmp_path / "masks")
    file = folder / "imagesTr" / "p1_0000.nii.gz"
    stored = nibabel.load(file)
    values = np.asarray(stored.dataobj).transpose(2, 1, 0)
    assert values.dtype == read_image(series).array.dtype == dtype and stored.dataobj.slope == 1
    np.testing.assert_array_equal(values, read_image(series).array[0])
    np.testing.assert_allclose(values, VOLUME * float(slope) - 3, rtol=1e-6)
    np.testing.assert_allclose(stored.affine, np.diag([-0.5, -0.6, 2, 1]) + [[0, 0, 0, v] for v in (-10, -20, 30, 0)])
    assert read_image(file).grid.same_space(read_image(series).grid, 1e-4)
    assert entries(folder)["modality"] == "MRI" and entries(folder)["channel_names"] == {"0": "MRI"}
    assert not any(b"Somebody" in file.read_bytes() for file in folder.rglob("*") if file.is_file())
    check_all(folder)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_dicom_pictures_without_a_spacing_become_png(tmp_path, write_dicom, dtype):
    pixels = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (20, 24), dtype)
    for number, series in enumerate(("1.2.3.4", "1.2.3.5")):
        write_dicom(
            tmp_path / "mine" / f"x{number}.dcm", pixels + dtype(number), {"0020000e": series, "00080060": "DX"}
        )
        picture(tmp_path / "masks" / f"x{number}.png", BLOCK)
    folder = converted(tmp_path / "mine", tmp_path / "masks")
    image = read_image(folder / "imagesTr" / "x1_0000.png")
    assert image.array.dtype == dtype and not image.grid.physical
    np.testing.assert_array_equal(image.array[0, 0], pixels + dtype(1))
    check_all(folder)


def test_a_tree_of_patients(tmp_path, write_series):
    for place in ("a b/one/ct", "a b/two/ct", "c/ct"):
        write_series(tmp_path / "mine" / "export" / place, VOLUME)
    write_series(tmp_path / "mine" / "export" / "c" / "seg", VOLUME, elements={"00080060": "SEG"})
    for name in ("a b_one_ct", "c"):
        itk(tmp_path / "masks" / f"{name}.nrrd", MASK, place=OF_SERIES)
    folder = converted(tmp_path / "mine", tmp_path / "masks", labels={"bone": None})
    expected = ["a_b_one_ct_0000.nii.gz", "c_0000.nii.gz"]
    assert written(folder / "imagesTr") == expected and written(folder / "labelsTr") == ["a_b_one_ct.nrrd", "c.nrrd"]
    assert written(folder / "imagesTs") == ["a_b_two_ct_0000.nii.gz"]
    assert entries(folder)["group"] == {"a_b_one_ct": "a_b", "c": "c"}
    assert entries(folder)["labels"] == {"background": 0, "bone": 1} and entries(folder)["file_ending"] == ".nii.gz"
    check_all(folder)


def test_a_case_that_cannot_be_read_leaves_nothing(tmp_path, write_series):
    for place in ("a", "b", "c"):
        write_series(tmp_path / "mine" / place, VOLUME)
        itk(tmp_path / "masks" / f"{place}.nii.gz", MASK)
    conversion = plan_conversion(recognise([tmp_path / "mine"], tmp_path / "masks"))
    for place in ("a", "b"):
        (tmp_path / "mine" / place / "CT.1.2.2").unlink()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"2 problems in [^\0]*mine/a: [^\0]*mine/b: its slices are not evenly spaced"):
        convert(conversion, tmp_path / "Dataset301_Test")
    assert sorted(tmp_path.rglob("*")) == before


def test_what_was_planned_is_what_is_done(tmp_path):
    """The files of a case are not looked for again: a spacing that is gone by then must not be left out in silence."""
    for part in ("images", "masks"):
        (tmp_path / "mine" / part).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "mine" / part / "a.tif", BLOCK, photometric="minisblack")
    (tmp_path / "mine" / "images" / "a.json").write_text('{"spacing": [1.0, 0.5, 0.6]}')
    conversion = plan_conversion(recognise([tmp_path / "mine"]))
    (tmp_path / "mine" / "images" / "a.json").unlink()
    with pytest.raises(UserError, match=r"images/a\.json: cannot be copied"):
        convert(conversion, tmp_path / "Dataset301_Test")


@pytest.mark.parametrize(
    ("pixels", "elements", "text"),
    [
        (np.zeros((7, 20, 24), np.uint8), {}, "several frames; found 7; save the frames that are wanted as PNG"),
        (np.zeros((20, 24), np.int16), {}, "found 1 x int16; save it as a TIFF"),
        (np.zeros((20, 24), np.uint16), {"00281052": "0", "00281053": "0.5"}, "found 1 x float"),
    ],
    ids=["film", "signed", "fractions"],
)
def test_what_has_no_spacing_gets_none(tmp_path, write_dicom, pixels, elements, text):
    write_dicom(tmp_path / "mine" / "x" / "i.dcm", pixels, {"00080060": "US", **elements})
    picture(tmp_path / "masks" / "x.png", BLOCK)
    with pytest.raises(UserError, match=f"x: has no pixel spacing and .*{text}"):
        plan_conversion(recognise([tmp_path / "mine"], tmp_path / "masks"))


def test_what_killed_runs_left_is_removed_after_an_hour(tmp_path):
    picture(tmp_path / "mine" / "images" / "a.png", 7 * BLOCK)
    picture(tmp_path / "mine" / "masks" / "a.png", BLOCK)
    earlier = time.time() - 4000
    for name in ("old", "alive"):
        left = tmp_path / f".converting-{name}"
        picture(left / "Dataset301_Test" / "imagesTr" / "a_0000.png", BLOCK)
        for path in (*left.rglob("*"), left):
            os.utime(path, (earlier, earlier))
    os.utime(tmp_path / ".converting-alive" / "Dataset301_Test" / "imagesTr" / "a_0000.png")
    converted(tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".converting-alive", "Dataset301_Test", "mine"]
