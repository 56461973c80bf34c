"""Converting: which class a given name is for, which files are channels of a case, which masks are of one case."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import SimpleITK

from delightsam_pipeline.data.convert import plan_conversion
from delightsam_pipeline.data.sources.recognise import recognise
from delightsam_pipeline.errors import UserError

BLOCK = np.zeros((20, 24), np.uint8)
BLOCK[5:12, 4:15] = 1


def pictures(folder: Path, *names: str, array: np.ndarray = BLOCK) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(array).save(folder / name)


def listed(folder: Path, values: list[int]) -> Path:
    """A dataset.json that lists one case, its labels sorted as text, as json.dump(..., sort_keys=True) does."""
    pictures(folder, "imagesTr/a.png", "labelsTr/a.png")
    value = {
        "labels": {str(value): f"old{value}" if value else "background" for value in sorted(values, key=str)},
        "training": [{"image": "imagesTr/a.png", "label": "labelsTr/a.png"}],
    }
    (folder / "dataset.json").write_text(json.dumps(value))
    return folder


def files(cases) -> dict[str, list[str]]:
    return {case.name: [file.name for file in case.images] for case in cases}


def test_names_are_for_the_values_in_their_order(tmp_path):
    names = [f"new{value}" for value in range(1, 13)]
    found = recognise([listed(tmp_path / "mine", list(range(13)))])
    value = plan_conversion(found, labels=dict.fromkeys(names)).entries
    assert value["labels"] == {"background": 0, **{f"new{value}": value for value in range(1, 13)}}


def test_names_are_for_the_values_in_the_masks_where_those_have_gaps(tmp_path):
    found = recognise([listed(tmp_path / "mine", [0, 4, 30, 200])])
    value = plan_conversion(found, labels=dict.fromkeys(["four", "thirty", "two hundred"])).entries
    shown = {
        code: name
        for code, number in value["mask_values"].items()
        for name, n in value["labels"].items()
        if n == number
    }
    assert shown == {"0": "background", "4": "four", "30": "thirty", "200": "two hundred"}


def test_names_are_for_the_colours_in_their_order(tmp_path):
    mask = np.zeros((20, 24, 3), np.uint8)
    mask[2:6], mask[8:12], mask[14:18] = (255, 0, 0), (0, 0, 255), (0, 255, 0)
    pictures(tmp_path / "mine", "images/a.png", "masks/a.png", array=mask)
    value = plan_conversion(recognise([tmp_path / "mine"]), labels=dict.fromkeys(["b", "g", "r"])).entries
    assert value["mask_values"] == {"#000000": 0, "#0000ff": 1, "#00ff00": 2, "#ff0000": 3}
    assert value["labels"] == {"background": 0, "b": 1, "g": 2, "r": 3}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("labels", ["none", "empty"])
def test_tests_without_masks_have_the_channels_of_the_training_images(tmp_path, channels, labels):
    for number in range(channels):
        pictures(tmp_path / "mine", f"imagesTr/a_000{number}.png", f"imagesTs/b_000{number}.png")
    pictures(tmp_path / "mine", "labelsTr/a.png")
    if labels == "empty":
        (tmp_path / "mine" / "labelsTs").mkdir()
    found = recognise([tmp_path / "mine"])
    assert files(found.test) == {"b": [f"b_000{number}.png" for number in range(channels)]}
    plan_conversion(found)


def test_numbers_that_are_names_in_training_are_names_in_tests(tmp_path):
    pictures(tmp_path / "mine", "imagesTr/a_0001.png", "labelsTr/a_0001.png", "imagesTs/a_0002.png")
    found = recognise([tmp_path / "mine"])
    assert files(found.train) == {"a_0001": ["a_0001.png"]} and files(found.test) == {"a_0002": ["a_0002.png"]}


def test_channels_missing_in_tests_are_told(tmp_path):
    pictures(tmp_path / "mine", "imagesTr/a_0000.png", "imagesTr/a_0001.png", "labelsTr/a.png")
    pictures(tmp_path / "mine", "imagesTs/b_0000.png", "imagesTs/b_0001.png", "imagesTs/c_0001.png")
    with pytest.raises(UserError, match="misses channel files; expected c_0000"):
        plan_conversion(recognise([tmp_path / "mine"]))


def test_numbered_channels_and_masks_with_something_added(tmp_path):
    pictures(tmp_path / "mine", "images/a_0000.png", "images/a_0001.png", "images/b_0000.png", "images/b_0001.png")
    pictures(tmp_path / "mine", "masks/a_seg.png", "masks/b_seg.png")
    found = recognise([tmp_path / "mine"])
    assert files(found.train) == {"a": ["a_0000.png", "a_0001.png"], "b": ["b_0000.png", "b_0001.png"]}
    assert [case.label.name for case in found.train] == ["a_seg.png", "b_seg.png"]
    plan_conversion(found)


def test_numbered_names_and_masks_with_something_added(tmp_path):
    pictures(tmp_path / "mine", "images/a_0000.png", "images/a_0001.png", "masks/a_0000_seg.png")
    found = recognise([tmp_path / "mine"])
    assert files(found.train) == {"a_0000": ["a_0000.png"]} and files(found.test) == {"a_0001": ["a_0001.png"]}


def test_two_masks_of_one_series(tmp_path, write_series):
    for name in ("p 1", "p 2"):
        write_series(tmp_path / "mine" / name, np.zeros((3, 4, 5), np.int16))
    (tmp_path / "masks").mkdir()
    for name in ("p 1", "p_1", "p_2"):
        mask = SimpleITK.GetImageFromArray(np.ones((3, 4, 5), np.uint8))
        SimpleITK.WriteImage(mask, str(tmp_path / "masks" / f"{name}.nii.gz"))
    with pytest.raises(UserError) as caught:
        plan_conversion(recognise([tmp_path / "mine"], tmp_path / "masks"))
    text = str(caught.value)
    assert "p_1.nii.gz: would belong to case p_1 as" in text and "p 1.nii.gz does; rename or remove one" in text
