"""What is measured on one case."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.files import read_json, write_json
from delightsam_pipeline.plans.looks import Look, look


def looked(dataset, number: int = 0) -> Look:
    return look(dataset.cases[number], dataset)


def meaning(dataset, **entries):
    """The dataset with these entries in its dataset.json."""
    file = dataset.folder / "dataset.json"
    write_json(file, read_json(file) | entries)
    return load_dataset(dataset.folder)


@pytest.fixture
def volume(tmp_path, make_dataset):
    """A volume of 5 x 2 x 1 mm, 6 x 20 x 30 voxels, with two classes and one that is nowhere."""
    image = np.random.default_rng(0).normal(50, 9, (6, 20, 30)).astype(np.float32)
    label = np.zeros(image.shape, np.uint8)
    label[1:3, 4:8, 10:20] = 1  # 80 voxels
    label[4, 15, 25:28] = 1  # 3 apart
    label[5, 18:20, 28:30] = 2  # in a corner
    folder = tmp_path / "Dataset001_Volume"
    return make_dataset(folder, {"a": (image, label)}, (5.0, 2.0, 1.0), ("T1",), ("large", "small", "none"))


def test_classes_of_a_volume_by_hand(volume):
    facts = looked(volume).facts
    assert facts.voxels == {"large": 83, "small": 4, "none": 0}
    assert facts.volume == pytest.approx({"large": 0.83, "small": 0.04, "none": 0})  # ml: 10 mm3 each
    assert facts.components == {"large": 2, "small": 1, "none": 0}
    assert facts.component_size == {"large": 41.5, "small": 4, "none": 0}
    assert facts.largest_component == {"large": 80, "small": 4, "none": 0}
    assert set(facts.position) == {"large", "small"}
    assert facts.position["small"] == pytest.approx((5.5 / 6, 19 / 20, 29 / 30))
    assert facts.position["large"][0] == pytest.approx((80 * 2 + 3 * 4.5) / 83 / 6)


def test_regions_are_measured_whole(tmp_path, make_dataset):
    label = np.zeros((12, 14), np.uint8)
    label[2:4, 2:6], label[2:4, 6:8], label[9, 12] = 1, 2, 1
    dataset = make_dataset(tmp_path / "Dataset002_Regions", {"a": (label * 50, label)})
    labels = {"background": 0, "whole": [1, 2], "core": 2}
    facts = looked(meaning(dataset, labels=labels, regions_class_order=[1, 2])).facts
    assert facts.voxels == {"whole": 13, "core": 4} and facts.components == {"whole": 2, "core": 1}
    assert facts.largest_component == {"whole": 12, "core": 4}
    assert facts.position["core"] == pytest.approx((0.5, 3 / 12, 7 / 14))


def test_a_class_in_a_large_image_is_measured_as_in_the_whole(tmp_path, make_dataset):
    generator = np.random.default_rng(1)
    label = (ndimage.gaussian_filter(generator.random((90, 110)), 3) > 0.52).astype(np.uint8)
    facts = looked(make_dataset(tmp_path / "Dataset003_Blobs", {"a": (label, label)})).facts
    numbered, count = ndimage.label(label)
    sizes = np.bincount(numbered.ravel())[1:]
    assert facts.components == {"lesion": count} and facts.component_size == {"lesion": np.median(sizes)}
    assert facts.position["lesion"][1:] == pytest.approx((np.argwhere(label).mean(axis=0) + 0.5) / label.shape)


def test_a_volume_as_its_file_has_it(volume):
    facts = looked(volume).facts
    assert (facts.shape, facts.physical, facts.dtype, facts.orientation) == ((6, 20, 30), True, "float32", "LPS")
    assert facts.spacing == pytest.approx((5, 2, 1))
    images = [hashlib.sha256(path.read_bytes()).hexdigest() for path in volume.cases[0].images]
    assert facts.image_sha256 == images
    assert facts.label_sha256 == hashlib.sha256(volume.cases[0].label.read_bytes()).hexdigest()


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LIA", "PSR"])
def test_orientation_is_that_of_the_file(volume, axes):
    for path in (*volume.cases[0].images, volume.cases[0].label):
        stored = nibabel.load(path)
        steps = nibabel.orientations.ornt_transform(
            nibabel.io_orientation(stored.affine), nibabel.orientations.axcodes2ornt(axes)
        )
        turned = nibabel.Nifti1Image(np.asarray(stored.dataobj), stored.affine).as_reoriented(steps)
        nibabel.save(turned, path)
    facts = looked(load_dataset(volume.folder)).facts
    assert facts.orientation == axes
    assert facts.shape == (6, 20, 30) and facts.voxels["small"] == 4


def test_intensities_of_the_whole_and_of_the_foreground(volume):
    image = np.asarray(nibabel.load(volume.cases[0].images[0]).dataobj).astype(float)
    label = np.asarray(nibabel.load(volume.cases[0].label).dataobj)
    found = looked(volume)
    (numbers,) = found.whole
    assert (numbers["min"], numbers["max"], numbers["mean"]) == pytest.approx((image.min(), image.max(), image.mean()))
    (inside,) = found.foreground
    assert inside.counts.sum() == (label > 0).sum() and inside.mean == pytest.approx(image[label > 0].mean())


def test_ignored_voxels_are_no_foreground(tmp_path, make_dataset):
    label = np.zeros((10, 10), np.uint8)
    label[:3], label[5:] = 1, 2
    dataset = make_dataset(tmp_path / "Dataset004_Ignore", {"a": (label * 100, label)})
    found = looked(meaning(dataset, labels={"background": 0, "lesion": 1, "ignore": 2}))
    assert found.foreground[0].values.tolist() == [100] and set(found.facts.voxels) == {"lesion"}


def test_an_image_of_zeros_has_no_box(tmp_path, make_dataset):
    label = np.zeros((10, 12), np.uint8)
    label[3, 3] = 1
    facts = looked(make_dataset(tmp_path / "Dataset005_Zero", {"a": (label * 0, label)})).facts
    assert facts.nonzero_box == (0, 0, 0) and facts.nonzero_share == 0


def test_pictures_have_no_orientation_and_count_in_pixels(tmp_path, make_dataset):
    label = np.zeros((20, 30), np.uint8)
    label[2:7, 4:9] = 1
    facts = looked(make_dataset(tmp_path / "Dataset006_Picture", {"a": (label + 3, label)})).facts
    assert not facts.physical and facts.orientation == "" and facts.volume == {"lesion": 25}


def test_thumbnails_and_contents_find_the_same_again(tmp_path, make_dataset):
    generator = np.random.default_rng(0)
    first = ndimage.gaussian_filter(generator.random((64, 96)), 8)
    first = ((first - first.min()) / np.ptp(first) * 200).astype(np.uint8)
    label = np.zeros(first.shape, np.uint8)
    label[5:9, 5:9] = 1
    noisy = (first + generator.integers(0, 3, first.shape)).astype(np.uint8)
    cases = {"a": (first, label), "b": (first, label * 0), "c": (noisy, label), "d": (first[::-1], label)}
    a, b, c, d = (looked(make_dataset(tmp_path / "Dataset007_Twins", cases), n) for n in range(4))
    assert a.thumbnail.shape == (16, 16) and a.thumbnail.dtype == np.uint8
    assert (a.thumbnail.min(), a.thumbnail.max()) == (0, 255)
    assert a.content == b.content and np.array_equal(a.thumbnail, b.thumbnail)
    assert a.content != c.content and np.abs(a.thumbnail - c.thumbnail.astype(int)).max() < 12
    assert np.abs(a.thumbnail - d.thumbnail.astype(int)).max() > 60


def test_the_thumbnail_of_a_volume_is_its_middle_slice(tmp_path, make_dataset):
    image = np.zeros((32, 32, 5), np.int16)
    image[:16, :, 2] = 1000
    label = (image > 0).astype(np.uint8)
    dataset = make_dataset(tmp_path / "Dataset008_Sagittal", {"a": (image, label)}, (1.0, 1.0, 4.0), ("CT",))
    thumbnail = looked(dataset).thumbnail
    assert (thumbnail[:8] == 255).all() and (thumbnail[8:] == 0).all()


def test_a_series_has_one_hash(tmp_path, make_dataset):
    dataset = make_dataset(tmp_path / "Dataset009_One", {"a": (np.ones((8, 8), np.uint8), np.eye(8, dtype=np.uint8))})
    case = dataset.cases[0]
    copy = case.images[0].with_name("again.png")
    shutil.copy(case.images[0], copy)
    assert looked(replace(dataset, cases=(replace(case, images=(copy,)),))).facts == looked(dataset).facts
