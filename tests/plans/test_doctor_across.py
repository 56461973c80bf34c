"""What the doctor tells from comparing cases: duplicates, outliers, mixtures, rare classes; from real files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest
from scipy import ndimage

from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.data.splits import make_splits
from delightsam_pipeline.plans.fingerprint import fingerprint

REAL = Path(os.environ.get("DLSAM_TEST_DATA") or "none-given")
NAMES = [f"case{number:02d}" for number in range(12)]


def scene(seed: int, height: int = 64, width: int = 80, scale: float = 1.0) -> np.ndarray:
    """A smooth picture of its own for each seed, as if a camera stood elsewhere."""
    rough = np.random.default_rng(seed).normal(size=(height + 20, width + 20))
    smooth = ndimage.gaussian_filter(rough, 6)[10:-10, 10:-10]
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return (smooth * 200 * scale + 20).astype(np.uint8)


def mask(*shape: int, value: int = 1) -> np.ndarray:
    array = np.zeros(shape, np.uint8)
    array[..., 5:12, 6:13] = value
    return array


def cases(count: int = len(NAMES)) -> dict:
    return {name: (scene(number), mask(64, 80)) for number, name in enumerate(NAMES[:count])}


def volumes(count: int = len(NAMES)) -> dict:
    made = {}
    for number, name in enumerate(NAMES[:count]):
        image = np.random.default_rng(number).normal(100, 30, (6, 20, 22)).astype(np.float32)
        made[name] = (image, mask(6, 20, 22))
    return made


@pytest.fixture
def raw(tmp_path, make_dataset):
    """A function: write a dataset of these cases, and return its folder."""

    def write(made, **entries) -> Path:
        return make_dataset(tmp_path / "Dataset001_Raw", made, **{"modality": "my own"} | entries).folder

    return write


def told(folder: Path) -> list[tuple[str, str, str]]:
    """Level, file in the folder, and problem of all that the doctor finds in the dataset and its folds."""
    dataset = load_dataset(folder)
    names, groups = [case.name for case in dataset.cases], {case.name: case.group for case in dataset.cases}
    findings = fingerprint(dataset, workers=1, splits=make_splits(names, groups)).findings
    assert all(finding.fix for finding in findings)
    return [(f.level, os.path.relpath(f.file, folder), f.problem) for f in findings]


def place(name: str, ending: str = ".png") -> str:
    return f"imagesTr/{name}_0000{ending}"


@pytest.mark.parametrize("made", [cases(), volumes()], ids=["pictures", "volumes"])
def test_nothing_is_told_of_sound_data(raw, made):
    folder = raw(made, spacing=None if made["case00"][0].ndim == 2 else (3.0, 1.0, 1.0))
    assert told(folder) == []


def test_the_same_image_twice(raw):
    made = cases()
    made["case01"] = made["case11"] = (made["case01"][0], mask(64, 80))
    folder = raw(made)
    problem = "the same image is trained and validated on; case01, case11 are one image"
    assert told(folder) == [("warning", place("case01"), problem)]
    PIL.Image.fromarray(mask(64, 80).T.reshape(64, 80)).save(folder / "labelsTr/case11.png")
    assert told(folder) == [("warning", place("case01"), problem + ", with masks that differ")]


def test_the_same_image_twice_in_a_group(raw):
    made = cases()
    made["case01"] = made["case11"]
    folder = raw(made, group={"case01": "p", "case11": "p"})
    problem = "the same image is there several times; case01, case11 are one image"
    assert told(folder) == [("warning", place("case01"), problem)]


def test_the_same_image_twice_where_all_are_one_group(raw):
    """The only fold then validates on what it trains on anyway."""
    made = cases()
    made["case01"] = made["case11"]
    dataset = load_dataset(raw(made))
    names = [case.name for case in dataset.cases]
    findings = fingerprint(dataset, workers=1, splits=[{"train": names, "val": names}]).findings
    assert [f.problem for f in findings] == ["the same image is there several times; case01, case11 are one image"]


def frames(count: int) -> np.ndarray:
    """Neighbouring frames of one video: a view that moves and changes its light."""
    view = scene(99, 80, 100).astype(float)
    return [np.clip(view[n : 64 + n, n : 80 + n] * (1 - 0.05 * n), 0, 255).astype(np.uint8) for n in range(count)]


def test_frames_of_one_video(raw):
    made = cases()
    for name, frame in zip(("case03", "case04", "case07"), frames(3), strict=True):
        made[name] = (frame, mask(64, 80))
    problem = "nearly the same image is trained and validated on; case03, case04, case07 look alike"
    assert told(raw(made)) == [("warning", place("case03"), problem)]
    assert told(raw(made, group=dict.fromkeys(("case03", "case04", "case07"), "video"))) == []


def test_a_copy_saved_anew_among_few(raw):
    made = cases(3)
    copy = (made["case00"][0] * 0.98 + 2).astype(np.uint8)
    made["case02"] = (copy, mask(64, 80))
    problem = "nearly the same image is trained and validated on; case00, case02 look alike"
    assert told(raw(made)) == [("warning", place("case00"), problem)]


def test_empty_masks(raw):
    made = cases()
    for name in ("case02", "case05"):
        made[name] = (made[name][0], np.zeros((64, 80), np.uint8))
    problem = "its mask is empty, as 2 of 12 masks are"
    assert told(raw(made)) == [("warning", f"labelsTr/{name}.png", problem) for name in ("case02", "case05")]


def test_when_all_masks_are_empty_nothing_else_is_told_of_classes(raw):
    made = {name: (image, np.zeros((64, 80), np.uint8)) for name, (image, _) in cases(3).items()}
    found = told(raw(made, labels=("lesion", "vessel")))
    assert [entry for entry in found if entry[0] == "error"] == [("error", ".", "no case has any foreground")]
    assert not any("declared class" in problem for _, _, problem in found)


def test_classes_in_no_case_and_in_one(raw):
    made = cases()
    both = mask(64, 80)
    both[40:44, 40:44] = 2
    made["case06"] = (made["case06"][0], both)
    found = told(raw(made, labels=("lesion", "vessel", "nerve")))
    assert found == [
        ("warning", "dataset.json", "a declared class occurs in a single case; found 'vessel' only in case06"),
        ("warning", "dataset.json", "a declared class occurs in no case; found no voxel of 'nerve'"),
    ]


def test_classes_are_counted_where_they_were_annotated(raw):
    """The part is annotated in the last three cases, and what others hold of the whole may be of it."""
    made = cases() | {name: (image, label * 2) for name, (image, label) in cases(9).items()}
    folder = raw(made, labels=("whole", "part"), annotated={name: ["whole"] for name in NAMES[:9]})
    said = json.loads((folder / "dataset.json").read_text())
    said |= {"labels": {"background": 0, "whole": [1, 2], "part": 2}, "regions_class_order": [1, 2]}
    (folder / "dataset.json").write_text(json.dumps(said))
    problem = "a declared class occurs in no case; found no voxel of 'part', annotated in 3 of 12 cases"
    assert told(folder) == [("warning", "dataset.json", problem)]
    PIL.Image.fromarray(mask(64, 80, value=2)).save(folder / "labelsTr/case10.png")
    problem = "a declared class occurs in a single case; found 'part' only in case10, annotated in 3 of 12 cases"
    assert told(folder) == [("warning", "dataset.json", problem)]
    assert fingerprint(load_dataset(folder), workers=1).present_in == {"whole": 12, "part": 1}


def test_masks_are_empty_of_what_was_annotated(raw):
    made = cases(4)
    made["case01"] = (made["case01"][0], np.zeros((64, 80), np.uint8))
    folder = raw(made, labels=("lesion", "vessel"), annotated={"case01": ["vessel"], "case0[023]": ["lesion"]})
    nowhere = "a declared class occurs in no case"
    assert told(folder) == [
        ("warning", "labelsTr/case01.png", "its mask is empty, as 1 of 4 masks are"),
        ("warning", "dataset.json", f"{nowhere}; found no voxel of 'vessel', annotated in 1 of 4 cases"),
    ]


def test_grey_among_coloured_pictures(raw):
    made = {}
    for name, (image, label) in cases().items():
        made[name] = (np.stack([image, image // 2, image // 3], -1), label)
    grey = scene(0)
    made["case00"] = (np.stack([grey] * 3, -1), mask(64, 80))
    found = told(raw(made, channels=("R", "G", "B")))
    assert found == [("warning", ".", "mixes grey and coloured pictures; found 1 of 12 without colour")]


def test_several_bit_depths(raw):
    made = cases()
    made["case04"] = (made["case04"][0].astype(np.uint16) * 257, mask(64, 80))
    found = told(raw(made))
    assert ("warning", ".", "mixes pictures of several bit depths; found 11 of uint8, 1 of uint16") in found


def test_volumes_among_pictures(raw):
    folder = raw(cases(4))
    said = (folder / "dataset.json").read_text()
    (folder / "dataset.json").write_text(said.replace(', "file_ending": ".png"', ""))
    for part, name in (("imagesTr", "case01_0000"), ("labelsTr", "case01")):
        (folder / part / f"{name}.png").unlink()
        array = np.tile(mask(16, 16), (4, 1, 1)) + (7 * scene(0, 16, 16) if part == "imagesTr" else 0)
        nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), np.diag([1, 1, 2, 1])), folder / part / f"{name}.nii")
    assert told(folder) == [("error", ".", "mixes volumes and pictures; found 1 volumes and 3 pictures")]


def test_a_spacing_that_was_lost(raw):
    folder = raw(volumes(), spacing=(3.0, 1.0, 1.0))
    for file in (folder / place("case08", ".nii.gz"), folder / "labelsTr/case08.nii.gz"):
        stored = nibabel.load(file)
        data = np.asanyarray(stored.dataobj).copy()
        nibabel.save(nibabel.Nifti1Image(data, np.diag([-1, -1, 1, 1])), file)
    problem = "has a spacing of 1 x 1 x 1 mm; 11 of 12 volumes have another"
    assert ("warning", place("case08", ".nii.gz"), problem) in told(folder)


def test_names_that_differ_in_case_only(raw):
    made = cases(4)
    made["CASE00"] = (scene(50), mask(64, 80))
    found = told(raw(made))
    assert found == [("warning", ".", "case names differ in upper and lower case only; found CASE00, case00")]


def test_a_case_of_another_size(raw):
    made = cases()
    made["case09"] = (scene(9, 20, 25), mask(20, 25))
    problem = "is far from the usual size; found 25 x 20 pixels, 10.2 times less than the median case"
    assert told(raw(made)) == [("warning", place("case09"), problem)]


def test_sizes_that_vary_are_no_outliers(raw):
    sizes = np.geomspace(20, 200, len(NAMES)).astype(int)
    made = {
        name: (scene(number, side, side), mask(side, side))
        for number, (name, side) in enumerate(zip(NAMES, sizes, strict=True))
    }
    assert told(raw(made)) == []


def test_a_volume_of_another_spacing(raw):
    folder = raw(volumes(), spacing=(3.0, 1.0, 1.0))
    for file in (folder / place("case08", ".nii.gz"), folder / "labelsTr/case08.nii.gz"):
        data = np.asanyarray(nibabel.load(file).dataobj).copy()
        nibabel.save(nibabel.Nifti1Image(data, np.diag([-1, -1, 12, 1])), file)
    problem = "is far from the usual spacing; found 22 x 20 x 6 voxels of 1 x 1 x 12 mm, the median is 1 x 1 x 3 mm"
    assert told(folder) == [("warning", place("case08", ".nii.gz"), problem)]


@pytest.mark.parametrize(("factor", "shift"), [(0.01, 0), (1, 1024)], ids=["rescaled", "shifted"])
def test_a_volume_of_other_intensities(raw, factor, shift):
    made = volumes()
    image, label = made["case08"]
    made["case08"] = (image * np.float32(factor) + np.float32(shift), label)
    ((level, file, problem),) = told(raw(made, spacing=(3.0, 1.0, 1.0)))
    assert (level, file) == ("warning", place("case08", ".nii.gz"))
    assert problem.startswith("is far from the usual intensities; found ") and "the medians are" in problem


def test_intensities_of_two_kinds_are_no_outliers(raw):
    made = volumes()
    for name in NAMES[:5]:
        made[name] = (made[name][0] * np.float32(1000), made[name][1])
    assert told(raw(made, spacing=(3.0, 1.0, 1.0))) == []


def test_few_cases_have_no_outliers(raw):
    made = cases(4)
    made["case03"] = (scene(3, 20, 22), mask(20, 22))
    assert told(raw(made)) == []


@pytest.mark.skipif(not REAL.is_dir(), reason="DLSAM_TEST_DATA names no folder")
def test_the_frames_of_real_videos():
    (folder,) = REAL.glob("Dataset107_*")
    assert [problem.split(" is ")[0] for _, _, problem in told(folder)] == ["nearly the same image"] * 3
