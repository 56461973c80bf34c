"""The generated example datasets: deterministic, as declared, and not made twice."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from delightsam_pipeline.data.examples import EXAMPLE_DATASETS, make_examples
from delightsam_pipeline.errors import UserError

CT, MRI, ULTRASOUND, PHOTO, XRAY, FUNDUS, MICROSCOPY, ENDOSCOPY = EXAMPLE_DATASETS
COLOUR = (PHOTO, FUNDUS, MICROSCOPY, ENDOSCOPY)
MODALITIES = ("CT", "MRI", "ultrasound", "dermoscopy", "X-ray", "fundus", "microscopy", "endoscopy")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("examples")
    make_examples(root, train=2, test=1)
    return root


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough cases of every dataset to see what varies."""
    root = tmp_path_factory.mktemp("many")
    make_examples(root, train=4, test=0, seed=3)
    return root


def read(file: Path) -> np.ndarray:
    if file.suffix == ".png":
        return np.asarray(Image.open(file))
    return np.asanyarray(nibabel.load(file).dataobj)


def cases(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(read(image), read(labels)) for image, labels in pairs(folder)]


def contents(folder: Path) -> dict[str, bytes]:
    """Every array below a folder, as bytes with its type and shape."""
    files = sorted(f for f in folder.rglob("*") if f.suffix in (".png", ".gz"))
    arrays = {str(f.relative_to(folder)): read(f) for f in files}
    return {name: f"{a.dtype} {a.shape}".encode() + a.tobytes() for name, a in arrays.items()}


def pairs(folder: Path, part: str = "Tr") -> list[tuple[Path, Path]]:
    images = sorted((folder / f"images{part}").iterdir())
    return [(image, folder / f"labels{part}" / image.name.replace("_0000", "")) for image in images]


@pytest.mark.parametrize("name", EXAMPLE_DATASETS)
def test_folder_is_what_dataset_json_says(root: Path, name: str) -> None:
    described = json.loads((root / name / "dataset.json").read_text())
    assert described["description"] == "generated"
    assert described["numTraining"] == 2
    assert described["modality"] == MODALITIES[EXAMPLE_DATASETS.index(name)]
    assert len(described["channel_names"]) == (3 if name in COLOUR else 1)
    for part, count in (("Tr", 2), ("Ts", 1)):
        found = pairs(root / name, part)
        assert len(found) == count
        assert {p.name for _, p in found} == {p.name for p in (root / name / f"labels{part}").iterdir()}
        for image, labels in found:
            assert image.name.endswith("_0000" + described["file_ending"])
            assert read(image).shape == read(labels).shape + ((3,) if name in COLOUR else ())
            assert set(np.unique(read(labels))) <= set(described["labels"].values())


@pytest.mark.parametrize("name", EXAMPLE_DATASETS)
def test_every_class_is_large_in_most_cases(many: Path, name: str) -> None:
    classes = range(1, len(json.loads((many / name / "dataset.json").read_text())["labels"]))
    for value in classes:
        sizes = [np.count_nonzero(labels == value) for _, labels in cases(many / name)]
        assert np.mean(np.array(sizes) >= 100) >= 0.6
        assert len(set(sizes)) > 1


def test_ct_is_hounsfield_units_on_thick_lps_slices(root: Path) -> None:
    for image, labels in pairs(root / CT):
        volume = nibabel.load(image)
        array, organs = read(image), read(labels)
        assert nibabel.aff2axcodes(volume.affine) == ("L", "P", "S")
        assert volume.header.get_xyzt_units()[0] == "mm"
        assert np.allclose(volume.affine, nibabel.load(labels).affine)
        spacing = volume.header.get_zooms()
        assert spacing[2] > 3 * spacing[0]
        assert array.dtype == np.int16 and organs.dtype == np.uint8
        assert array.min() >= -1024 and np.median(array[:5, :5]) < -950 and array.max() > 500
        assert 60 < np.mean(array[organs == 1]) < 150 < np.mean(array[organs == 2])
        # The liver lies on the right of the body: towards the start of an axis that runs to the left.
        assert np.argwhere(organs == 1)[:, 0].mean() < array.shape[0] / 2


def test_mri_is_ras_millimetre_cubes_with_zero_outside_and_its_own_scale(root: Path) -> None:
    scales = []
    for image, labels in pairs(root / MRI):
        volume = nibabel.load(image)
        array, targets = read(image), read(labels)
        assert nibabel.aff2axcodes(volume.affine) == ("R", "A", "S")
        assert np.allclose(volume.header.get_zooms(), 1)
        assert np.allclose(volume.affine, nibabel.load(labels).affine)
        assert array.dtype == np.float32 and array.min() == 0
        assert 0.1 < np.mean(array == 0) < 0.7 and (array[0, 0] == 0).all()
        head = np.median(array[array > 0])
        assert np.median(array[targets == 1]) < 0.75 * head
        assert not (targets == 2).any() or np.median(array[targets == 2]) > 1.15 * head
        scales.append(float(np.percentile(array, 99)))
    assert max(scales) > 1.2 * min(scales)


def test_ultrasound_is_a_grey_sector_with_a_dark_lesion(root: Path) -> None:
    for image, labels in pairs(root / ULTRASOUND):
        array, lesion = read(image), read(labels) == 1
        assert array.dtype == np.uint8 and array.ndim == 2
        assert (array[:40, :30] == 0).all() and (array[:40, -30:] == 0).all()
        assert array[lesion].mean() < 0.75 * array[(array > 0) & ~lesion].mean()
        assert array[lesion].std() > 5  # speckle


def test_photo_is_rgb_with_a_darker_lesion_and_sizes_differ(root: Path) -> None:
    shapes = set()
    for image, labels in pairs(root / PHOTO) + pairs(root / PHOTO, "Ts"):
        array, lesion = read(image), read(labels) == 1
        assert array.dtype == np.uint8 and array.shape[2] == 3
        skin = np.median(array[~lesion], axis=0)
        assert skin[0] > skin[1] > skin[2]
        assert array[lesion].mean() < 0.85 * skin.mean()
        shapes.add(array.shape)
    assert len(shapes) > 1


def between_lungs(labels: np.ndarray, share: float) -> tuple[int, int, int]:
    """A row that far down the left lung: its number, the last column of the right lung, the first of the left one."""
    row = int(np.quantile(np.argwhere(labels == 2)[:, 0], share))
    return row, int(np.flatnonzero(labels[row] == 1).max()), int(np.flatnonzero(labels[row] == 2).min())


def test_xray_shows_the_right_lung_on_the_left_and_the_heart_on_the_side_of_the_other(many: Path) -> None:
    shifts = []
    for image, labels in cases(many / XRAY):
        assert image.dtype == np.uint8 and image.ndim == 2
        assert not (labels[0].any() or labels[:, 0].any() or labels[:, -1].any())
        right, left = (np.argwhere(labels == value)[:, 1] for value in (1, 2))
        assert np.percentile(right, 99) < np.percentile(left, 1)
        _, *above = between_lungs(labels, 0.4)
        row, *heart = between_lungs(labels, 0.8)
        assert np.median(image[row, heart[0] : heart[1]]) > 1.15 * np.median(image[labels > 0])
        shifts.append(np.mean(heart) - np.mean(above))
    assert min(shifts) > 0 and np.mean(shifts) > 3


def test_fundus_is_a_round_view_with_thin_vessels_that_are_darker_than_what_is_beside_them(many: Path) -> None:
    for image, labels in cases(many / FUNDUS):
        vessel, view = labels == 1, image.max(axis=2) > 30
        assert (image[:8, :8] < 30).all() and (image[-8:, -8:] < 30).all() and not vessel[image.max(axis=2) < 12].any()
        assert 0.6 < view.mean() < 0.76
        assert 0.04 < vessel.mean() < 0.16
        thick = ndimage.binary_erosion(vessel, iterations=4)
        assert thick.sum() < 0.1 * vessel.sum()
        beside = ndimage.binary_dilation(vessel, iterations=4) & ~ndimage.binary_dilation(vessel) & view
        assert image[vessel][:, 1].mean() < 0.92 * image[beside][:, 1].mean()


def test_microscopy_is_of_two_kinds_and_nuclei_touch(many: Path) -> None:
    brighter = []
    for image, labels in cases(many / MICROSCOPY):
        grey = image.mean(axis=2)
        inside, outside = grey[labels == 1].mean(), grey[labels == 0].mean()
        assert abs(inside - outside) > 15
        brighter.append(inside > outside)
        if not brighter[-1]:  # purple on pink: what is stained takes red away
            assert image[labels == 1][:, 0].mean() < 0.9 * image[labels == 0][:, 0].mean()
            assert image[labels == 0][:, 1].mean() < image[labels == 0][:, 0].mean()
        sizes = np.bincount(ndimage.label(labels)[0].ravel())[1:]
        assert len(sizes) > 3 and sizes.max() > 1.5 * np.median(sizes)
    assert 0 < sum(brighter) < len(brighter)


def test_endoscopy_is_red_with_dark_corners_glints_a_lumen_and_one_polyp(many: Path) -> None:
    glints = []
    for image, labels in cases(many / ENDOSCOPY):
        assert (image[:6, :6] < 40).all() and (image[-6:, -6:] < 40).all()
        view = image.max(axis=2) > 40
        assert not (labels[image.max(axis=2) < 12]).any() and 0.7 < view.mean() < 1
        assert ndimage.label(labels)[1] == 1
        red, green, blue = np.median(image[view], axis=0)
        assert red > 1.15 * green > 1.15 * blue
        glints.append((image.min(axis=2) > 220).mean())
    assert np.median(glints) > 0.001 and max(glints) < 0.05


def dice_of_best_threshold(image: np.ndarray, mask: np.ndarray) -> float:
    """Of any channel, lower or upper part; in colour what is black around the view does not count."""
    channels = image.reshape(*mask.shape, -1)
    seen = channels.max(axis=2) > (30 if channels.shape[2] == 3 else -1)
    found = []
    for channel in np.moveaxis(channels, 2, 0):
        total, hit = (np.bincount(channel[m], minlength=256) for m in (seen, seen & mask))
        for step in (1, -1):
            dice = 2 * np.cumsum(hit[::step]) / (np.cumsum(total[::step]) + mask.sum())
            found.append(dice.max())
    return max(found)


@pytest.mark.parametrize(("name", "most"), [(XRAY, 0.8), (FUNDUS, 0.7), (ENDOSCOPY, 0.5), (MICROSCOPY, 0.93)])
def test_no_threshold_does_it_even_if_chosen_for_each_case_by_its_mask(many: Path, name: str, most: float) -> None:
    assert np.mean([dice_of_best_threshold(image, labels > 0) for image, labels in cases(many / name)]) < most


@pytest.mark.parametrize("name", EXAMPLE_DATASETS)
def test_a_case_depends_on_seed_and_number_only(root: Path, tmp_path: Path, name: str) -> None:
    np.random.seed(1)
    (again,) = make_examples(tmp_path / "same", train=1, test=1, datasets=[name])
    (other,) = make_examples(tmp_path / "other", train=1, test=1, seed=1, datasets=[name])
    first, same, different = contents(root / name), contents(again), contents(other)
    assert len(same) == 4
    assert all(first[file] == same[file] for file in same)
    assert all(same[file] != different[file] for file in same)
    assert len({*first.values()}) == len(first)


def times(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def test_second_call_does_nothing_and_other_arguments_start_anew(tmp_path: Path) -> None:
    (folder,) = make_examples(tmp_path, train=2, test=1, datasets=[ULTRASOUND])
    before = times(tmp_path)
    assert make_examples(tmp_path, train=2, test=1, datasets=[ULTRASOUND]) == [folder]
    assert times(tmp_path) == before

    make_examples(tmp_path, train=1, test=0, datasets=[ULTRASOUND])
    assert [len(list((folder / part).iterdir())) for part in ("imagesTr", "labelsTr", "imagesTs")] == [1, 1, 0]


def test_a_missing_file_is_made_again(tmp_path: Path) -> None:
    (folder,) = make_examples(tmp_path, train=1, test=1, datasets=[ULTRASOUND])
    before = contents(folder)
    pairs(folder, "Ts")[0][1].unlink()
    make_examples(tmp_path, train=1, test=1, datasets=[ULTRASOUND])
    assert contents(folder) == before


def test_a_dataset_of_the_users_own_is_not_touched(tmp_path: Path) -> None:
    own = tmp_path / ULTRASOUND / "dataset.json"
    own.parent.mkdir()
    own.write_text('{"numTraining": 7}')
    with pytest.raises(UserError, match="not generated here"):
        make_examples(tmp_path, train=1, test=0, datasets=[ULTRASOUND])
    assert own.read_text() == '{"numTraining": 7}'


@pytest.mark.parametrize("wrong", [{"datasets": ["Dataset999_None"]}, {"train": 0}, {"test": -1}, {"seed": -1}])
def test_wrong_arguments_are_named_before_anything_is_written(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(UserError):
        make_examples(tmp_path / "root", **wrong)
    assert not (tmp_path / "root").exists()
