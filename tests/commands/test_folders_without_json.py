"""A folder of images and one of masks, without a dataset.json: planned at once, with every sentence a user needs."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def mine(empty):
    """JPEG images of noise, and masks 0 and 255 as PNG, called as a user does."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (empty / "mine" / part).mkdir(parents=True)
    for i in range(6):
        mask = np.zeros((64, 80), np.uint8)
        mask[10 + i : 30, 20 : 50 + i] = 255
        Image.fromarray(rng.integers(0, 256, (64, 80, 3), np.uint8)).save(
            empty / "mine" / "images" / f"img_{i:04d}.jpg"
        )
        Image.fromarray(mask).save(empty / "mine" / "masks" / f"img_{i:04d}.png")
    return empty / "mine"


def test_it_is_planned_and_preprocessed(mine, call):
    answer = call("plan_and_preprocess", "-d", "mine", "--modality", "dermoscopy")
    assert answer.code == 0, answer
    assert "mine/dataset.json: proposed from the files; check its names (labels: background, foreground)" in answer.out
    assert "6 of 6 masks: 255 was read as 1" in answer.out
    assert "6 cases preprocessed, 0 kept" in answer.out and "next: dlsam_train mine 0" in answer.out
    entries = json.loads((mine / "dataset.json").read_text())
    assert (entries["file_ending"], entries["modality"]) == (".jpg", "dermoscopy")
    assert "add the modality" not in answer.out
    assert "0 cases preprocessed, 6 kept" in call("plan_and_preprocess", "-d", "./mine").out


def test_what_is_missing_is_named(mine, fails):
    (mine / "masks" / "img_0003.png").unlink()
    assert "img_0003.jpg: has no mask; expected img_0003 in" in fails("plan_and_preprocess", "-d", "mine")
    assert not (mine / "dataset.json").exists()
