"""What a user can get wrong in prediction: one line that says what to do, exit code 2, and nothing half-written."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image


def test_predicting_without_a_model(picture, fails):
    line = fails("predict", "-i", picture, "-o", "out")
    assert "dlsam/results: there is no trained model; train one with dlsam_train" in line
    assert not Path("out").exists()


def test_a_model_folder_without_a_model(picture, empty, fails):
    line = fails("predict", "-i", picture, "-o", "out", "-m", empty)
    assert "is not a model folder (no model.json); give the folder dlsam_train wrote" in line


def test_several_models_are_listed(home, picture, empty, fails, monkeypatch):
    for name in ("Dataset007_Squares", "Dataset008_Circles"):
        (empty / "two" / "results" / name / "fold_0").mkdir(parents=True)
        (empty / "two" / "results" / name / "fold_0" / "model.json").write_text("{}")
    monkeypatch.setenv("DLSAM_HOME", str(empty / "two"))
    line = fails("predict", "-i", picture, "-o", "out")
    assert "several models have been trained; found Dataset007_Squares, Dataset008_Circles" in line
    assert "choose one with -d or -m" in line
    line = fails("predict", "-i", picture, "-o", "out", "-d", "9")
    assert "no model has been trained on '9'; found Dataset007_Squares, Dataset008_Circles" in line


def test_a_fold_that_was_not_trained(home, picture, fails):
    assert "fold 4 has not been trained; found 0" in fails("predict", "-i", picture, "-o", "out", "-f", "4")


def test_a_head_that_the_model_does_not_have(home, picture, fails):
    line = fails("predict", "-i", picture, "-o", "out", "--head", "CT")
    assert "no single head is called 'CT'; found Dataset007_Squares (ultrasound); choose one with --head" in line
    assert not Path("out").exists()


def test_weights_are_missing_or_damaged(home, picture, empty, fails):
    model = shutil.copytree(home / "results" / "Dataset007_Squares" / "fold_0", empty / "model")
    weights = model / "model.safetensors"
    assert "best.safetensors: the weights are missing" in fails(
        "predict", "-i", picture, "-o", "out", "-m", model, "--checkpoint", "best"
    )
    weights.write_bytes(weights.read_bytes()[:-1000])
    line = fails("predict", "-i", picture, "-o", "out", "-m", model)
    assert "model.safetensors: the weights cannot be read" in line
    assert "copy the file again" in line


def test_the_input_is_missing(home, fails):
    line = fails("predict", "-i", "nowhere", "-o", "out")
    assert "nowhere: does not exist; expected an image or a folder of images" in line
    assert not Path("out").exists()


def test_the_input_is_empty_or_of_another_format(home, empty, fails):
    (empty / "in").mkdir()
    line = fails("predict", "-i", "in", "-o", "out")
    assert "in: has no images that can be read; expected .nii.gz .nii .nrrd .mha" in line and "found nothing" in line
    (empty / "in" / "a.webp").write_bytes(b"RIFF")
    assert "found 1 .webp" in fails("predict", "-i", "in", "-o", "out")
    assert "a.webp: is not in a format that can be read" in fails("predict", "-i", "in/a.webp", "-o", "out")
    assert not Path("out").exists()


def test_the_input_has_the_wrong_channels(home, empty, fails):
    (empty / "in").mkdir()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(empty / "in" / "a.png")
    line = fails("predict", "-i", "in/a.png", "-o", "out.png")
    assert "a.png: the image has the wrong number of channels; expected 1 (ultrasound); found 3" in line
    assert not Path("out.png").exists()
    fails("predict", "-i", "in", "-o", "out")
    assert [file.name for file in Path("out").iterdir()] == ["run.json"]
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(empty / "in" / "a_0001.png")
    (empty / "in" / "a.png").unlink()
    assert "a_0001.png: has a number beyond the channels; expected CASE_0000 only" in fails(
        "predict", "-i", "in", "-o", "other"
    )


def test_a_volume_for_a_model_of_pictures(home, empty, fails):
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 9, 9), np.uint8), np.eye(4)), empty / "a.nii.gz")
    line = fails("predict", "-i", "a.nii.gz", "-o", "out.nii.gz")
    assert "a.nii.gz: this kind of image does not fit the plan; expected a picture without a spacing in mm" in line
    assert not Path("out.nii.gz").exists()


def test_masks_never_replace_their_images(home, picture, fails):
    plain = picture.rename(picture.with_name("a.png"))
    before = plain.read_bytes()
    assert "the mask would be written over its image; choose another -o" in fails("predict", "-i", plain, "-o", plain)
    assert "new: is the folder of the images; choose another -o" in fails("predict", "-i", "new", "-o", "new")
    assert "the mask would be written over its image" in fails("predict", "-i", plain, "-o", "new/../new")
    assert plain.read_bytes() == before
    assert [file.name for file in plain.parent.iterdir()] == ["a.png"]


def test_masks_keep_the_format_of_their_image(home, picture, fails):
    line = fails("predict", "-i", picture, "-o", "mask.nii.gz")
    assert "mask.nii.gz: has the wrong ending for a mask of this image; expected .png" in line


def test_masks_cannot_be_written(home, picture, empty, fails):
    (empty / "file").write_text("not a folder")
    assert "file/below: cannot be written" in fails("predict", "-i", "new", "-o", "file/below")
    assert "file: cannot be written (a file is where a folder should be)" in fails(
        "predict", "-i", picture, "-o", "file/mask.png"
    )
    assert "file: cannot be written" in fails("predict", "-i", "new", "-o", "file")
