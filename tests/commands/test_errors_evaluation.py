"""What a user can get wrong in evaluation: one line that says what to do, exit code 2, and nothing half-written."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image


def test_evaluating_without_dataset_json(raw, fails):
    shutil.copytree(raw / "labelsTr", "alone/labels")
    line = fails("evaluate", "alone/labels", raw / "labelsTr")
    assert "alone/dataset.json: does not exist; name the dataset with -d" in line
    assert not (raw / "labelsTr" / "summary.json").exists()


def test_evaluating_with_missing_predictions(raw, fails):
    predictions = Path(shutil.copytree(raw / "labelsTr", "predictions"))
    (predictions / "case1.png").unlink()
    line = fails("evaluate", raw / "labelsTr", predictions)
    assert "predictions: has no prediction for 1 of 3 cases; found missing case1; predict them" in line
    assert not (predictions / "summary.json").exists()
    assert "nowhere: does not exist" in fails("evaluate", raw / "labelsTr", "nowhere")


def test_evaluating_masks_of_another_size(raw, fails):
    predictions = Path(shutil.copytree(raw / "labelsTr", "predictions"))
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(predictions / "case1.png")
    line = fails("evaluate", raw / "labelsTr", predictions)
    assert "predictions/case1.png: does not lie on the same grid" in line
    assert "expected 64 x 64 pixels; found 9 x 8 pixels" in line
    assert not (predictions / "summary.json").exists()


def test_scores_cannot_be_written(raw, empty, fails):
    (empty / "file").write_text("not a folder")
    line = fails("evaluate", raw / "labelsTr", raw / "labelsTr", "-o", "file/summary.json")
    assert "file: cannot be written (a file is where a folder should be); choose a folder" in line
