"""What a user can get wrong in training: one line that says what to do, exit code 2, and nothing half-written."""

from pathlib import Path

import pytest


def test_training_before_preprocessing(raw, fails):
    line = fails("train", "7", "0")
    assert "no preprocessed dataset called '7'" in line
    assert "dlsam_plan_and_preprocess -d 7" in line
    line = fails("train", raw, "0")
    assert "has not been preprocessed" in line
    assert "run dlsam_plan_and_preprocess -d Dataset007_Squares" in line
    assert not Path("dlsam/results").exists()


def test_training_after_planning_alone(raw, call, fails):
    assert call("plan_and_preprocess", "-d", "7", "--plan-only").code == 0
    line = fails("train", "7", "0")
    assert "Dataset007_Squares: is not completely preprocessed; found 0 of 3 cases" in line
    assert line.endswith("run dlsam_plan_and_preprocess again")


@pytest.mark.parametrize("fold", ["3", "5", "first", "-1", "0.5", ""])
def test_an_unknown_fold(fold, home, fails):
    line = fails("train", "7", fold, "-o", "model")
    assert "no such fold; expected 0 to 2, or all; found" in line
    assert not Path("model").exists()


def test_two_lengths_exclude_each_other(home, fails):
    line = fails("train", "7", "0", "--epochs", "1", "--time-budget", "1m", "-o", "model")
    assert "--epochs and --time-budget exclude each other; give one of them" in line


@pytest.mark.parametrize("device", ["cuda:99", "tpu9", "gpu"])
def test_a_device_that_is_not_there(device, home, picture, fails):
    line = fails("train", "7", "0", "--device", device, "-o", "model")
    assert f"device '{device}' cannot be used" in line
    assert "use --device auto" in line
    assert not Path("model").exists()
    assert f"device '{device}' cannot be used" in fails("predict", "-i", picture, "-o", "out", "--device", device)


def test_pretrained_weights_are_missing_or_no_weights(home, empty, fails):
    assert "no such weights file" in fails("train", "7", "0", "--pretrained", "sam.pt", "-o", "model")
    (empty / "sam.pt").write_bytes(b"not weights")
    assert "sam.pt: weights cannot be read safely" in fails("train", "7", "0", "--pretrained", "sam.pt", "-o", "model")
    assert not Path("model").exists()


def test_the_model_cannot_be_written(home, empty, fails):
    (empty / "file").write_text("not a folder")
    line = fails("train", "7", "0", "-o", "file/below")
    assert line.startswith("error: file/below: cannot be written")
