"""What the doctor tells of single cases: each message from a real file of that fault, and nothing about sound ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest

from delightsam_pipeline.data import checks
from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.plans.fingerprint import fingerprint

CASES = "abcde"
SPACING = (2.0, 1.2, 1.1)  # z y x, mm


def picture(path: Path, array) -> None:
    PIL.Image.fromarray(np.asarray(array, np.uint8)).save(path)


def volume(path: Path, array, spacing=SPACING, origin=(0, 0, 0)) -> None:
    """Voxels [z, y, x], LPS axes, origin x y z."""
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    affine[:3, 3] = np.array([-1, -1, 1]) * origin
    nibabel.save(nibabel.Nifti1Image(np.asarray(array).transpose(2, 1, 0), affine), path)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 250, shape).astype(np.uint8)


def mask(*shape: int) -> np.ndarray:
    array = np.zeros(shape, np.uint8)
    array[..., 5:9, 6:11] = 1
    array[..., 2, 2] = 2
    return array


def dataset(folder: Path, ending: str, write, shape, channels=("own",), **entries) -> Path:
    for number, case in enumerate(CASES):
        for channel in range(len(channels) if write is volume else 1):
            image = noise(*shape, seed=9 * number + channel)
            (folder / "imagesTr").mkdir(parents=True, exist_ok=True)
            write(folder / "imagesTr" / f"{case}_{channel:04d}{ending}", image)
        (folder / "labelsTr").mkdir(exist_ok=True)
        plane = shape[:2] if write is picture else shape
        write(folder / "labelsTr" / f"{case}{ending}", mask(*plane))
    said = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": {"background": 0, "lesion": 1, "vessel": 2},
        "file_ending": ending,
        "modality": "my own",
    }
    (folder / "dataset.json").write_text(json.dumps(said | entries))
    return folder


@pytest.fixture
def pictures(tmp_path):
    return dataset(tmp_path / "Dataset001_Pictures", ".png", picture, (24, 32))


@pytest.fixture
def volumes(tmp_path):
    return dataset(tmp_path / "Dataset002_Volumes", ".nii.gz", volume, (10, 16, 18))


@pytest.fixture
def pairs(tmp_path):
    return dataset(tmp_path / "Dataset003_Pairs", ".nii.gz", volume, (10, 16, 18), ("T1", "T2"))


def told(folder: Path, fix_geometry: bool = False) -> list[tuple[str, str, str]]:
    """Level, file in the folder, and problem with its fix, of all that the doctor finds; no folds."""
    findings = fingerprint(load_dataset(folder, fix_geometry), workers=1).findings
    assert all(finding.fix for finding in findings if finding.level == "warning")
    return [(f.level, str(Path(f.file).relative_to(folder)), f"{f.problem}; {f.fix}") for f in findings]


@pytest.mark.parametrize("kind", ["pictures", "volumes", "pairs"])
def test_nothing_is_told_of_sound_data(request, kind):
    assert told(request.getfixturevalue(kind)) == []


def constant_image(folder):
    picture(folder / "imagesTr/b_0000.png", np.full((24, 32), 7))


def constant_image_without_mask(folder):
    constant_image(folder)
    picture(folder / "labelsTr/b.png", np.zeros((24, 32)))


def tiny_picture(folder):
    picture(folder / "imagesTr/b_0000.png", noise(40, 7))
    picture(folder / "labelsTr/b.png", np.ones((40, 7)))


def wrong_channels(folder):
    picture(folder / "imagesTr/b_0000.png", noise(24, 32, 3))


def undeclared(folder):
    picture(folder / "labelsTr/b.png", mask(24, 32) * 3)


def cut_off(folder):
    file = folder / "imagesTr/b_0000.png"
    file.write_bytes(file.read_bytes()[:300])


def other_size(folder):
    picture(folder / "labelsTr/b.png", mask(26, 32))


def smaller_mask(folder):
    picture(folder / "labelsTr/b.png", mask(12, 16))


PICTURES = [
    (constant_image, "error", "imagesTr/b_0000.png", "is constant: every voxel has one value; found 7"),
    (constant_image_without_mask, "warning", "imagesTr/b_0000.png", "is constant: every voxel has one value; found 7"),
    (tiny_picture, "warning", "imagesTr/b_0000.png", "is tiny: a slice has a side .*; found 7 x 40 pixels"),
    (wrong_channels, "error", "imagesTr/b_0000.png", r"number of channels .*; expected 1 \(own\); found 3"),
    (undeclared, "error", "labelsTr/b.png", "has undeclared label values; expected 0 1 2; found 0 3 6; .*mask_values"),
    (cut_off, "error", "imagesTr/b_0000.png", r"cannot be read as PNG \(.*copy or export it again"),
    (other_size, "error", "labelsTr/b.png", "same grid .*; expected 32 x 24 pixels; found 32 x 26 pixels; check"),
    (smaller_mask, "error", "labelsTr/b.png", "same grid .*; found 16 x 12 pixels; .*--fix-geometry"),
]


def nan(folder):
    image = noise(10, 16, 18).astype(np.float32)
    image[3, 4, 5], image[6, 7, 8] = np.nan, np.inf
    volume(folder / "imagesTr/b_0000.nii.gz", image)


def fractional(folder):
    volume(folder / "labelsTr/b.nii.gz", mask(10, 16, 18) * np.float32(0.5))


def negative(folder):
    volume(folder / "labelsTr/b.nii.gz", mask(10, 16, 18) * np.int16(-1))


def several_channels(folder):
    data = np.stack([mask(10, 16, 18), 1 - mask(10, 16, 18).clip(0, 1)])
    nibabel.save(
        nibabel.Nifti1Image(data.transpose(3, 2, 1, 0), np.diag([-1.1, -1.2, 2, 1])), folder / "labelsTr/b.nii.gz"
    )


def micrometres(folder):
    spacing = (0.002, 0.0012, 0.0011)
    volume(folder / "imagesTr/b_0000.nii.gz", noise(10, 16, 18), spacing)
    volume(folder / "labelsTr/b.nii.gz", mask(10, 16, 18), spacing)


def far_slices(folder):
    spacing = (100.0, 1.2, 1.1)
    volume(folder / "imagesTr/b_0000.nii.gz", noise(10, 16, 18), spacing)
    volume(folder / "labelsTr/b.nii.gz", mask(10, 16, 18), spacing)


VOLUMES = [
    (nan, "error", "imagesTr/b_0000.nii.gz", "NaN or infinite; found 2 of 2880, the first at x 5, y 4, z 3 counted"),
    (fractional, "error", "labelsTr/b.nii.gz", "not whole numbers; found 0.5 and 199 more"),
    (negative, "error", "labelsTr/b.nii.gz", "has negative values; found -2"),
    (several_channels, "error", "labelsTr/b.nii.gz", "is not a label map; expected 1 channel; found 2"),
    (micrometres, "warning", "imagesTr/b_0000.nii.gz", "implausible spacing; found .* 0.0011 x 0.0012 x 0.002 mm"),
    (far_slices, "warning", "imagesTr/b_0000.nii.gz", "implausible spacing; found .* x 100 mm"),
]


@pytest.mark.parametrize(("spoil", "level", "file", "problem"), PICTURES, ids=lambda v: getattr(v, "__name__", None))
def test_faults_of_pictures(pictures, spoil, level, file, problem):
    spoil(pictures)
    _assert_told(told(pictures), level, file, problem)


@pytest.mark.parametrize(("spoil", "level", "file", "problem"), VOLUMES, ids=lambda v: getattr(v, "__name__", None))
def test_faults_of_volumes(volumes, spoil, level, file, problem):
    spoil(volumes)
    _assert_told(told(volumes), level, file, problem)


def _assert_told(found, level, file, problem):
    assert [entry for entry in found if entry[:2] == (level, file) and re.search(problem, entry[2])], found


def test_a_constant_channel(pairs):
    volume(pairs / "imagesTr/b_0001.nii.gz", np.zeros((10, 16, 18), np.uint8))
    ((level, file, problem),) = told(pairs)
    assert level == "warning" and file == "imagesTr/b_0001.nii.gz" and "found 0 in all of 'T2'" in problem


def test_a_black_channel_of_a_colour_picture_is_nothing_to_tell(tmp_path):
    folder = dataset(tmp_path / "Dataset004_Colour", ".png", picture, (24, 32, 3), ("R", "G", "B"))
    for file in (folder / "imagesTr").iterdir():
        picture(file, np.asarray(PIL.Image.open(file)) * np.uint8([0, 1, 0]))
    assert told(folder) == []


def test_one_changed_voxel_is_not_constant(pictures):
    image = np.full((24, 32), 7)
    image[3, 3] = 8
    picture(pictures / "imagesTr/b_0000.png", image)
    assert told(pictures) == []


def test_huge_volumes(volumes, monkeypatch):
    monkeypatch.setattr(checks, "_MOST_VOXELS", 10 * 16 * 18 - 1)
    found = told(volumes)
    assert len(found) == 5 and {level for level, _, _ in found} == {"error"}
    assert "is too large to train on; expected at most 2879 voxels; found 2880, 18 x 16 x 10 voxels" in found[0][2]


def test_all_problems_of_a_case_are_told(pictures):
    wrong_channels(pictures)
    picture(pictures / "labelsTr/b.png", mask(26, 32) * 3)
    cut_off_file = pictures / "imagesTr/d_0000.png"
    cut_off_file.write_bytes(cut_off_file.read_bytes()[:300])
    picture(pictures / "labelsTr/d.png", mask(24, 32) * 3)
    found = [(file, problem.split(";")[0].split(" as ")[0]) for _, file, problem in told(pictures)]
    assert found == [
        ("imagesTr/b_0000.png", "the number of channels differs from dataset.json"),
        ("labelsTr/b.png", "has undeclared label values"),
        ("labelsTr/b.png", "does not lie on the same grid"),
        ("imagesTr/d_0000.png", "cannot be read"),
        ("labelsTr/d.png", "has undeclared label values"),
    ]
