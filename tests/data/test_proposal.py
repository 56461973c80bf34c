"""Folders of images and masks without a dataset.json: what is proposed, and that it loads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from delightsam_pipeline.data.checks import check_case
from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.data.proposal import pair_of_folders, propose
from delightsam_pipeline.errors import UserError

BLOCK = np.zeros((20, 24), np.uint8)
BLOCK[5:12, 4:15] = 1


def pairs(folder: Path, masks: dict[str, np.ndarray], colour: bool = False, names=("images", "labels")) -> Path:
    for name, mask in masks.items():
        for part, array in (
            (names[0], np.zeros((*mask.shape[:2], 3) if colour else mask.shape[:2], np.uint8)),
            (names[1], mask),
        ):
            (folder / part).mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(array).save(folder / part / name)
    return folder


def entries(folder: Path) -> dict:
    return json.loads((propose(folder) / "dataset.json").read_text())


def test_one_class_in_colour_pictures(tmp_path):
    folder = pairs(tmp_path / "mine", {"a.png": 255 * BLOCK, "b.png": BLOCK}, colour=True)
    assert pair_of_folders(folder) == (folder / "images", folder / "labels")
    value = entries(folder)
    assert value["labels"] == {"background": 0, "foreground": 1} and "mask_values" not in value
    assert value["channel_names"] == {"0": "R", "1": "G", "2": "B"} and value["file_ending"] == ".png"
    assert value["dataset"]["a"] == {"images": ["images/a.png"], "label": "labels/a.png"}
    assert pair_of_folders(folder) is None
    dataset = load_dataset(folder)
    for case in dataset.cases:
        np.testing.assert_array_equal(check_case(case, dataset)[1].array[0, 0], BLOCK)


def test_names_that_end_like_channel_numbers(tmp_path):
    folder = pairs(tmp_path, {f"frame_{i:04d}.png": BLOCK for i in range(3)}, names=("images", "masks"))
    assert sorted(entries(folder)["dataset"]) == ["frame_0000", "frame_0001", "frame_0002"]


def test_channel_numbers_of_nnunet(tmp_path):
    folder = pairs(tmp_path, {"a.png": BLOCK}, names=("imagesTr", "labelsTr"))
    (folder / "imagesTr" / "a.png").rename(folder / "imagesTr" / "a_0000.png")
    assert entries(folder)["dataset"] == {"a": {"images": ["imagesTr/a_0000.png"], "label": "labelsTr/a.png"}}


def test_several_numbers_and_endings(tmp_path):
    folder = pairs(tmp_path, {"a.png": BLOCK, "b.png": 2 * BLOCK})
    PIL.Image.fromarray(np.zeros((20, 24), np.uint8)).save(folder / "images" / "c.jpg")
    PIL.Image.fromarray(BLOCK).save(folder / "labels" / "c.gif")
    value = entries(folder)
    assert value["labels"] == {"background": 0, "label_1": 1, "label_2": 2} and "mask_values" not in value
    assert len(load_dataset(folder).cases) == 3 and value["file_ending"] == ".png"


def test_grey_levels_and_colours_get_mask_values(tmp_path):
    value = entries(pairs(tmp_path / "1", {"a.png": 100 * BLOCK, "b.png": 200 * BLOCK}))
    assert value["mask_values"] == {"0": 0, "100": 1, "200": 2}
    colours = BLOCK[..., None] * np.array([255, 0, 0], np.uint8)
    folder = pairs(tmp_path / "2", {"a.png": colours, "b.png": colours[..., ::-1], "c.png": 0 * BLOCK})
    value = entries(folder)
    assert value["mask_values"] == {"#000000": 0, "#0000ff": 1, "#ff0000": 2}
    assert value["labels"] == {"background": 0, "label_#0000ff": 1, "label_#ff0000": 2}
    dataset = load_dataset(folder)
    found = [int(check_case(case, dataset)[1].array.max()) for case in dataset.cases]
    assert found == [2, 1, 0]


def test_palettes_beside_colours_are_the_same_classes(tmp_path):
    colours = (BLOCK[..., None] * np.array([255, 0, 0])).astype(np.uint8)
    colours[15:18] = 0, 255, 0
    folder = pairs(tmp_path, {"a.png": colours, "b.png": colours})
    indexed = PIL.Image.fromarray(BLOCK, "P")
    indexed.putpalette(bytes([0, 0, 0, 255, 0, 0]))
    indexed.save(folder / "labels" / "b.png")
    assert entries(folder)["mask_values"] == {"#000000": 0, "#00ff00": 1, "#ff0000": 2}
    found = [
        np.unique(check_case(case, dataset)[1].array).tolist()
        for dataset in [load_dataset(folder)]
        for case in dataset.cases
    ]
    assert found == [[0, 1, 2], [0, 2]]


def test_what_cannot_be_proposed(tmp_path):
    folder = pairs(tmp_path / "1", {"a.png": BLOCK, "b.png": BLOCK})
    (folder / "labels" / "b.png").rename(folder / "labels" / "c.png")
    with pytest.raises(
        UserError, match=r"2 problems[^\0]*b\.png: has no mask; expected b in [^\0]*c\.png: has no image"
    ):
        propose(folder)
    with pytest.raises(UserError, match="labels: the masks are empty; found nothing but 0"):
        propose(pairs(tmp_path / "2", {"a.png": 0 * BLOCK}))
    noise = np.random.default_rng(0).integers(0, 256, (20, 24), np.uint8)
    with pytest.raises(UserError, match=r"no classes that can be guessed; found 2\d\d values"):
        propose(pairs(tmp_path / "3", {"a.png": noise}))
    with pytest.raises(UserError, match="found 2 values and no 0"):
        propose(pairs(tmp_path / "4", {"a.png": BLOCK + 7}))


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    folder = pairs(tmp_path / "mine", {"a.png": BLOCK, "b.png": BLOCK})
    (folder / "dataset.json").mkdir()
    monkeypatch.setenv("DLSAM_HOME", str(tmp_path / "home"))
    assert propose(folder) == tmp_path / "home" / "raw" / "mine"
    dataset = load_dataset(tmp_path / "home" / "raw" / "mine")
    assert dataset.cases[0].images == (folder / "images" / "a.png",)
