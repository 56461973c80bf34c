"""Raw datasets: dataset.json, cases found or listed, checks of single cases, and input for prediction."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest

from delightsam_pipeline.data.cases import input_cases
from delightsam_pipeline.data.checks import check_case
from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.data.formats import write_labels
from delightsam_pipeline.errors import UserError

GREY = {
    "channel_names": {"0": "ultrasound"},
    "labels": {"background": 0, "lesion": 1},
    "numTraining": 2,
    "file_ending": ".png",
}
COLOUR = GREY | {"channel_names": {"0": "R", "1": "G", "2": "B"}}
TWO = GREY | {"channel_names": {"0": "T1", "1": "T2"}}


def png(path: Path, *shape: int, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.full(shape or (4, 6), value, np.uint8)).save(path)


def make(folder: Path, entries=GREY, images=("a_0000", "b_0000"), labels=("a", "b"), shape=(4, 6)) -> Path:
    for name in images:
        png(folder / "imagesTr" / f"{name}.png", *shape)
    for name in labels:
        png(folder / "labelsTr" / f"{name}.png", 4, 6)
    (folder / "dataset.json").write_text(json.dumps(entries))
    return folder


def test_a_dataset(tmp_path):
    dataset = load_dataset(make(tmp_path / "Dataset001_X", GREY | {"modality": "ultrasound"}))
    assert dataset.name == "Dataset001_X" and dataset.channel_names == ("ultrasound",)
    assert dataset.file_ending == ".png" and dataset.modality == "ultrasound" and dataset.labels.classes == ("lesion",)
    assert [case.name for case in dataset.cases] == ["a", "b"]
    case = dataset.cases[0]
    assert case.images == (dataset.folder / "imagesTr" / "a_0000.png",) and case.group == "a"
    assert case.label == dataset.folder / "labelsTr" / "a.png"


def test_channels_in_files_of_their_own_and_in_one(tmp_path):
    files = ("a_0000", "a_0001", "b_0001", "b_0000")
    dataset = load_dataset(make(tmp_path / "1", TWO, files))
    assert [p.name for p in dataset.cases[1].images] == ["b_0000.png", "b_0001.png"]
    dataset = load_dataset(make(tmp_path / "2", COLOUR, shape=(4, 6, 3)))
    assert [len(case.images) for case in dataset.cases] == [1, 1]
    assert check_case(dataset.cases[0], dataset)[0].array.shape == (3, 1, 4, 6)


def test_files_without_channel_number(tmp_path):
    assert [c.name for c in load_dataset(make(tmp_path, GREY, ("a", "b"))).cases] == ["a", "b"]


def test_hidden_and_other_files_are_passed_over(tmp_path):
    folder = make(tmp_path)
    (folder / "imagesTr" / "._a_0000.png").write_bytes(b"x")
    (folder / "imagesTr" / "notes.txt").write_text("x")
    assert len(load_dataset(folder).cases) == 2


def test_group_and_wrong_count(tmp_path, caplog):
    dataset = load_dataset(make(tmp_path / "1", GREY | {"group": {"a": "p1"}}))
    assert [case.group for case in dataset.cases] == ["p1", "b"]
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        load_dataset(make(tmp_path / "2", GREY | {"numTraining": 9}))
    assert "numTraining is 9 but there are 2" in caplog.text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"channel_names": None, "labels": None}, 'lacks entries; add "channel_names".*, "labels"'),
        ({"channel_names": {"R": 0}}, r'channel_names\' is the wrong way round; write "channel_names": {"0": "R"}'),
        ({"channel_names": ["R"]}, "'channel_names' is not a map"),
        ({"channel_names": {"1": "R"}}, "'channel_names' is wrong"),
        ({"channel_names": {"0": ""}}, "'channel_names' is wrong"),
        ({"labels": {"0": "background", "1": "x"}}, "'labels' is the wrong way round"),
        ({"file_ending": ".xyz"}, r"'file_ending' is unknown; expected \.nii\.gz .* \.png .*; found \"\.xyz\""),
        ({"file_ending": 3}, "'file_ending' is unknown"),
        ({"modality": {"0": "MRI"}, "labels": {"0": "background"}}, "nnU-Net v1; rename 'modality' to 'channel_names'"),
        ({"modality": {"0": "MRI"}}, "'modality' and 'channel_names' differ; take out 'modality'"),
        ({"modality": 3}, "'modality' is not a name"),
        ({"group": {"zzz": "p"}}, "'group' has cases that are not in the dataset; found zzz"),
        ({"group": ["a"]}, "'group' is not a map"),
        ({"group": {"a": 1}}, "'group' is not a map"),
        ({"dataset": ["a"]}, "'dataset' is not a map"),
        ({"dataset": {}}, "has no training cases"),
    ],
)
def test_entries_that_are_refused(tmp_path, change, problem):
    entries = {k: v for k, v in (GREY | change).items() if v is not None}
    with pytest.raises(UserError, match=problem) as caught:
        load_dataset(make(tmp_path, entries))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_no_json(tmp_path):
    with pytest.raises(UserError, match=r"dataset\.json: does not exist"):
        load_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(UserError, match="not a JSON object"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("entries", "images", "labels", "problems"),
    [
        (GREY, ["a_0000"], ["a", "b"], [r"labelsTr/b\.png: has no image; expected \S+imagesTr/b_0000\.png"]),
        (GREY, ["a_0000", "b_0000"], ["b"], [r"a_0000\.png: has no label map; expected \S+labelsTr/a\.png"]),
        (GREY, ["a_0000"], ["b"], ["2 problems in", r"a_0000\.png: has no label", r"b\.png: has no image"]),
        (TWO, ["a_0000", "b_0000", "b_0001"], ["a", "b"], [r"a_0000\.png: misses channel files; expected a_0001"]),
        (TWO, ["a_0001", "b_0000"], ["a", "b"], ["2 problems", "expected a_0000", "expected b_0001"]),
        (TWO, ["a", "b_0000", "b_0001"], ["a", "b"], ["expected a_0000, a_0001"]),
        (
            GREY,
            ["a_0000", "a_0001"],
            ["a"],
            [r"a_0001\.png: has a number beyond the channels; expected CASE_0000 only"],
        ),
        (GREY, ["a_0000", "a"], ["a"], ["same case name"]),
        (GREY, [], ["a"], ["has no folder imagesTr"]),
        (GREY, ["a_0000"], [], ["has no folder labelsTr"]),
    ],
)
def test_files_that_do_not_fit(tmp_path, entries, images, labels, problems):
    with pytest.raises(UserError) as caught:
        load_dataset(make(tmp_path, entries, images, labels))
    for problem in problems:
        caught.match(problem)


def test_images_of_another_ending(tmp_path):
    folder = make(tmp_path, GREY | {"file_ending": ".nii.gz"})
    with pytest.raises(UserError, match=r"imagesTr: has no images that can be read; expected \.nii\.gz; found 2 \.png"):
        load_dataset(folder)


def test_masks_of_another_format(tmp_path):
    folder = make(tmp_path)
    PIL.Image.new("L", (6, 4)).save(folder / "labelsTr" / "a.gif")
    with pytest.raises(UserError, match=r"labelsTr/a\.png: case a has two files; found \S+a\.gif; remove one"):
        load_dataset(folder)
    (folder / "labelsTr" / "a.png").unlink()
    dataset = load_dataset(folder)
    assert [case.label.name for case in dataset.cases] == ["a.gif", "b.png"]
    assert check_case(dataset.cases[0], dataset)[1].array.shape == (1, 1, 4, 6)


def test_images_of_several_formats(tmp_path):
    folder = make(tmp_path, {k: v for k, v in GREY.items() if k != "file_ending"})
    (folder / "imagesTr" / "b_0000.png").unlink()
    PIL.Image.new("L", (6, 4)).save(folder / "imagesTr" / "b_0000.jpg")
    dataset = load_dataset(folder)
    assert [case.images[0].name for case in dataset.cases] == ["a_0000.png", "b_0000.jpg"]
    assert dataset.file_ending == ".png"


def test_listed_cases(tmp_path, monkeypatch):
    png(tmp_path / "elsewhere" / "x.png")
    png(tmp_path / "d" / "y.png")
    monkeypatch.setenv("SOME_PLACE", str(tmp_path / "elsewhere"))
    listed = {"b": {"images": ["$SOME_PLACE/x.png"], "label": "y.png"}}
    (tmp_path / "d" / "dataset.json").write_text(json.dumps(GREY | {"dataset": listed, "numTraining": 1}))
    (case,) = load_dataset(tmp_path / "d").cases
    assert case.name == "b" and case.images == (tmp_path / "elsewhere" / "x.png",)
    assert case.label == tmp_path / "d" / "y.png"


def test_listed_cases_that_are_refused(tmp_path):
    png(tmp_path / "y.png")
    listed = {
        "a": {"images": ["$NO_SUCH_VARIABLE/x.png"], "label": "y.png"},
        "b": {"images": ["y.png", "y.png"], "label": "y.png"},
        "c": {"images": "y.png", "label": "y.png"},
        "d": {"images": ["y.png"]},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(GREY | {"dataset": listed}))
    with pytest.raises(UserError) as caught:
        load_dataset(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("4 problems") and len(lines) == 5
    assert "set the environment variable" in lines[1] and "wrong number of images" in lines[2]
    assert "'c' of 'dataset' is wrong" in lines[3] and "'d' of 'dataset' is wrong" in lines[4]


def test_checked_cases(tmp_path):
    dataset = load_dataset(make(tmp_path))
    png(tmp_path / "labelsTr" / "a.png", 4, 6, value=1)
    image, label = check_case(dataset.cases[0], dataset)
    assert image.array.shape == label.array.shape == (1, 1, 4, 6) and (label.array == 1).all()


def test_case_with_wrong_channels(tmp_path):
    dataset = load_dataset(make(tmp_path, GREY, shape=(4, 6, 3)))
    with pytest.raises(UserError, match=r"a_0000\.png: the number of channels .*expected 1 \(ultrasound\); found 3"):
        check_case(dataset.cases[0], dataset)


def test_case_with_labels_of_another_size(tmp_path):
    dataset = load_dataset(make(tmp_path))
    png(tmp_path / "labelsTr" / "a.png", 8, 6)
    with pytest.raises(UserError, match=r"labelsTr/a\.png: .* as \S+a_0000\.png; expected 6 x 4 pixels; found 6 x 8"):
        check_case(dataset.cases[0], dataset)


def test_case_with_undeclared_labels(tmp_path):
    dataset = load_dataset(make(tmp_path))
    png(tmp_path / "labelsTr" / "a.png", 4, 6, value=3)
    with pytest.raises(UserError, match=r"a\.png: has undeclared label values; expected 0 1; found 3; declare"):
        check_case(dataset.cases[0], dataset)


REAL = Path(os.environ.get("DLSAM_TEST_DATA") or "none-given")


@pytest.mark.skipif(not REAL.is_dir(), reason="DLSAM_TEST_DATA names no folder")
def test_real_datasets(tmp_path):
    folders = sorted(REAL.glob("Dataset*"))
    assert folders
    for folder in folders:
        dataset = load_dataset(folder)
        image, label = check_case(dataset.cases[0], dataset)
        assert len(image.array) == len(dataset.channel_names) and label.array.any()
        assert input_cases(folder / "imagesTr", len(dataset.channel_names), dataset.file_ending)[0].name
        written = tmp_path / f"{folder.name}{dataset.file_ending}"
        write_labels(written, label.array[0], image)
        source = dataset.cases[0].images[0]
        if dataset.file_ending == ".png":
            with PIL.Image.open(written) as ours, PIL.Image.open(source) as theirs:
                assert ours.size == theirs.size
        else:
            np.testing.assert_array_equal(nibabel.load(written).affine, nibabel.load(source).affine)
            stored = np.asanyarray(nibabel.load(dataset.cases[0].label).dataobj)
            np.testing.assert_array_equal(np.asanyarray(nibabel.load(written).dataobj), stored)
