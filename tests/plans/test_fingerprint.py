"""The fingerprint of raw datasets."""

from __future__ import annotations

import multiprocessing.process
import threading
import tracemalloc

import numpy as np
import pytest

from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.data.examples import make_examples
from delightsam_pipeline.plans.fingerprint import (
    Fingerprint,
    as_nnunet,
    fingerprint,
    inputs_digest,
    median_grid,
    slicing_axis,
)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory, make_dataset):
    """Two volumes of 5 x 3 x 3 mm with two classes."""
    first = np.zeros((4, 10, 12), np.int16)
    first[1:3, 2:7, 3:9] = 100  # the box of nonzero voxels: 2 x 5 x 6
    first[1, 2, 3:5] = 40
    labels = np.zeros(first.shape, np.uint8)
    labels[1, 2, 3:5] = 1  # 2 voxels
    labels[1, 5, 3:7] = 1  # 4 voxels, apart
    labels[2, 6, 8] = 2
    second = np.full((6, 10, 12), 7, np.int16)
    cases = {"a": (first, labels), "b": (second, np.zeros(second.shape, np.uint8))}
    folder = tmp_path_factory.mktemp("raw") / "Dataset001_Volumes"
    return make_dataset(folder, cases, spacing=(5.0, 3.0, 3.0), channels=("T1",), labels=("large", "small"))


def test_a_volume_by_hand(volumes):
    print_ = fingerprint(volumes)
    assert print_.dataset == "Dataset001_Volumes" and print_.physical and print_.dtype == "int16"
    assert (print_.modality, print_.channel_names) == ("MRI", ["T1"])
    a, b = print_.cases
    assert (a.name, a.shape, b.shape) == ("a", (4, 10, 12), (6, 10, 12))
    assert a.spacing == pytest.approx((5, 3, 3))
    assert a.voxels == {"large": 6, "small": 1} and b.voxels == {"large": 0, "small": 0}
    assert a.components == {"large": 2, "small": 1} and b.components == {"large": 0, "small": 0}
    assert a.component_size == {"large": 3.0, "small": 1.0}
    assert a.nonzero_share == pytest.approx(2 * 5 * 6 / (4 * 10 * 12)) and b.nonzero_share == 1
    assert a.nonzero_box == (2, 5, 6) and b.nonzero_box == (6, 10, 12)
    assert set(a.survival) == {"large", "small"} and b.survival == {}
    assert print_.present_in == {"large": 1, "small": 1}


def test_intensities_are_those_of_the_foreground(volumes):
    (numbers,) = fingerprint(volumes).intensities
    inside = np.array([40, 40, 100, 100, 100, 100, 100], float)
    assert numbers["mean"] == pytest.approx(inside.mean()) and numbers["std"] == pytest.approx(inside.std())
    assert (numbers["min"], numbers["max"], numbers["median"]) == (40, 100, 100)


def test_a_case_counts_the_same_however_large_its_foreground_is(tmp_path, make_dataset):
    cases = {}
    for name, rows, value in (("a", 30, 10), ("b", 1, 40), ("c", 0, 99)):
        label = np.zeros((30, 40), np.uint8)
        label[:rows] = 1
        cases[name] = np.full(label.shape, value, np.uint8) + label, label
    (numbers,) = fingerprint(make_dataset(tmp_path / "Dataset010_Sizes", cases)).intensities
    assert (numbers["mean"], numbers["std"]) == (pytest.approx(26), pytest.approx(15))
    assert (numbers["min"], numbers["max"], numbers["median"]) == (11, 41, pytest.approx(26, abs=15))


def test_the_same_under_the_names_of_nnunet(volumes):
    print_ = fingerprint(volumes)
    theirs = as_nnunet(print_)
    assert theirs["spacings"] == [[5, 3, 3], [5, 3, 3]]
    assert theirs["shapes_after_crop"] == [[2, 5, 6], [6, 10, 12]]
    assert theirs["median_relative_size_after_cropping"] == pytest.approx((0.125 + 1) / 2)
    assert theirs["foreground_intensity_properties_per_channel"] == {"0": print_.intensities[0]}
    names = {"max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"}
    assert set(print_.intensities[0]) == names


def test_channels_have_their_own_intensities(tmp_path, make_dataset):
    picture = np.zeros((8, 9, 3), np.uint8)
    picture[2:4] = 10, 20, 30
    label = np.zeros((8, 9), np.uint8)
    label[2:4] = 1
    dataset = make_dataset(tmp_path / "Dataset002_Colour", {"a": (picture, label)}, channels=("R", "G", "B"))
    print_ = fingerprint(dataset, modality="fundus")
    assert [numbers["mean"] for numbers in print_.intensities] == [10, 20, 30]
    assert not print_.physical and print_.cases[0].shape == (1, 8, 9)
    assert print_.modality == "fundus" and print_.cases[0].nonzero_share == pytest.approx(2 / 8)


def test_generated_examples(tmp_path):
    shapes = {}
    for folder in make_examples(tmp_path, train=2, test=0):
        dataset = load_dataset(folder)
        print_ = fingerprint(dataset)
        assert print_.modality == dataset.modality and len(print_.cases) == 2
        assert all(case.survival for case in print_.cases)
        shapes[print_.modality] = print_.cases[0].shape
    assert shapes["ultrasound"][0] == shapes["dermoscopy"][0] == 1 < shapes["CT"][0]


def pictures(count: int) -> dict:
    generator = np.random.default_rng(3)
    label = np.zeros((30, 40), np.uint8)
    label[5:20, 5:30] = 1
    return {f"case_{n}": (generator.integers(0, 255, (30, 40), np.uint8), label) for n in range(count)}


def test_the_same_whatever_the_number_of_workers(tmp_path, make_dataset):
    dataset = make_dataset(tmp_path / "Dataset003_Pictures", pictures(7))
    one, three = (fingerprint(dataset, workers=workers).model_dump_json() for workers in (1, 3))
    assert one == three == fingerprint(dataset, workers=1).model_dump_json()


def errors(print_: Fingerprint) -> list[tuple[str | None, str]]:
    return [(finding.case, finding.file) for finding in print_.findings if finding.level == "error"]


def test_all_broken_cases_are_found_at_once_and_the_others_measured(tmp_path, make_dataset):
    dataset = make_dataset(tmp_path / "Dataset004_Broken", pictures(4))
    image, label = dataset.cases[1].images[0], dataset.cases[3].label
    image.write_bytes(b"not a picture")
    label.write_bytes(label.read_bytes()[:40])
    print_ = fingerprint(dataset)
    assert errors(print_) == [("case_1", str(image)), ("case_3", str(label))]
    assert [case.name for case in print_.cases] == ["case_0", "case_2"]


def test_no_case_can_be_read(tmp_path, make_dataset):
    dataset = make_dataset(tmp_path / "Dataset005_Broken", pictures(2), channels=("image",))
    for case in dataset.cases:
        case.images[0].write_bytes(b"")
    print_ = fingerprint(dataset)
    assert [name for name, _ in errors(print_)] == ["case_0", "case_1"]  # and not that the modality is not clear
    assert (print_.cases, print_.intensities, print_.modality) == ([], [{}], "")


def test_no_foreground_anywhere(tmp_path, make_dataset):
    cases = {name: (image, np.zeros_like(label)) for name, (image, label) in pictures(3).items()}
    dataset = make_dataset(tmp_path / "Dataset005_Empty", cases)
    found = [finding for finding in fingerprint(dataset).findings if finding.case is None]
    assert ("error", "no case has any foreground") in [(finding.level, finding.problem) for finding in found]


def test_memory_does_not_grow_with_the_number_of_classes(tmp_path, make_dataset):
    def peak(count: int) -> int:
        label = np.zeros((512, 512), np.uint8)
        label[0, : count + 1] = np.arange(count + 1)
        folder, names = tmp_path / f"Dataset{count:03d}_Classes", [f"class {n}" for n in range(count)]
        dataset = make_dataset(folder, {"a": (label, label)}, labels=names)
        tracemalloc.start()
        fingerprint(dataset, workers=1)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(2)  # what is imported and cached on first use
    assert peak(20) - peak(3) < 5 * 512 * 512  # a mask takes a byte for each pixel


def test_an_unclear_modality(tmp_path, make_dataset):
    dataset = make_dataset(tmp_path / "Dataset006_Unclear", pictures(1), channels=("image",))
    print_ = fingerprint(dataset)
    assert print_.modality == "" and errors(print_) == [(None, "")]
    assert "modality" in print_.findings[0].problem
    assert fingerprint(dataset, modality="OCT").modality == "OCT"
    given = make_dataset(tmp_path / "Dataset006_Unclear", pictures(1), channels=("image",), modality="fundus")
    assert fingerprint(given).modality == "fundus"
    # the word given on the command line comes first
    assert fingerprint(given, modality="OCT").modality == "OCT"


def test_eight_small_pictures_start_no_pool(tmp_path, make_dataset, monkeypatch):
    started = []
    for kind in (threading.Thread, multiprocessing.process.BaseProcess):
        start = kind.start
        monkeypatch.setattr(kind, "start", lambda self, start=start: (started.append(self), start(self))[1])
    fingerprint(make_dataset(tmp_path / "Dataset007_Eight", pictures(8)))
    assert not [one for one in started if isinstance(one, multiprocessing.process.BaseProcess)]
    assert len(started) <= 2


def test_the_digest_follows_the_files(tmp_path, make_dataset):
    cases = pictures(2)
    dataset = make_dataset(tmp_path / "Dataset008_Digest", cases)
    before = inputs_digest(dataset)
    assert inputs_digest(load_dataset(dataset.folder)) == before
    for path in (dataset.cases[1].label, dataset.cases[0].images[0], dataset.folder / "dataset.json"):
        path.write_bytes(path.read_bytes() + b" ")
        assert inputs_digest(dataset) != before
        before = inputs_digest(dataset)


@pytest.mark.parametrize(
    ("spacing", "shape", "axis"),
    [
        ((1, 1, 1), (20, 30, 40), 0),
        ((1.4, 1, 1), (20, 30, 40), 0),
        ((1, 1, 1.4), (20, 30, 40), 0),
        ((5, 1, 1), (20, 30, 40), 0),
        ((1, 3, 1), (20, 30, 40), 1),
        ((0.5, 0.5, 4), (20, 30, 40), 2),
        ((1, 1, 1), (1, 30, 40), 0),
        ((5, 1, 1), (20, 30, 1), 2),
    ],
)
def test_slices_are_cut_across_the_thick_axis(spacing, shape, axis):
    assert slicing_axis(spacing, shape) == axis


def test_the_median_grid(make_print):
    spacings = [(5.0, 0.7, 0.7), (3.0, 0.8, 0.9), (3.0, 2.0, 2.0)]
    grid = median_grid(make_print([(10, 50, 60), (12, 40, 90), (200, 44, 70)], spacings))
    assert grid.shape == (12, 44, 70) and grid.spacing == (3.0, 0.8, 0.9) and grid.physical
