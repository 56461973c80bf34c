"""What a user can get wrong: one line that says what to do, exit code 2, and nothing half-written."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

_TRAIN_WITHOUT_TORCH = """
import sys
from delightsam_pipeline.commands.train import main
code = main(sys.argv[1:])
sys.exit(99 if "torch" in sys.modules else code)
"""


def not_preprocessed(home: Path = Path("dlsam")) -> bool:
    """Whether nothing was made of the dataset, but for the looks at single cases, which are not to be read twice."""
    made = [file for file in (home / "preprocessed").rglob("*") if file.is_file()]
    return all(file.parent.name == "looks" for file in made)


# planning


def test_dataset_json_is_missing(raw, fails):
    (raw / "dataset.json").unlink()
    line = fails("plan_and_preprocess", "-d", "7")
    assert "dataset.json: does not exist" in line
    assert not_preprocessed()


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"labels": None}, ["lacks entries", '"labels": {']),
        ({"labels": {"square": 1}}, ["no 'background'", 'add "background": 0']),
        ({"labels": {"0": "background", "1": "square"}}, ["wrong way round", '{"background": 0, "square": 1}']),
        ({"labels": {"background": 0, "square": 3}}, ["not consecutive", "expected 0 to 1", "found [0, 3]"]),
        ({"file_ending": ".webp"}, ["'file_ending' is unknown", ".png", 'found ".webp"']),
        ({"channel_names": ["ultrasound"]}, ["'channel_names' is not a map", 'such as {"0": "T1"']),
        ({"modality": {"0": "US"}}, ["'modality' and 'channel_names' differ", "take out 'modality'"]),
    ],
)
def test_dataset_json_has_a_wrong_entry(entries, words, empty, make_pictures, fails):
    raw = make_pictures(empty / "dlsam" / "raw" / "Dataset007_Squares", **entries)
    line = fails("plan_and_preprocess", "-d", "7")
    for word in [str(raw.relative_to(empty) / "dataset.json"), *words]:
        assert word in line
    assert not_preprocessed()


def test_dataset_json_has_a_trailing_comma(raw, fails):
    file = raw / "dataset.json"
    file.write_text(file.read_text().rstrip("}") + ",\n}")
    line = fails("plan_and_preprocess", "-d", "7")
    assert "dataset.json: is not valid JSON" in line
    assert "line " in line
    assert "mend the file" in line


def test_an_image_has_no_label(raw, fails):
    (raw / "labelsTr" / "case1.png").unlink()
    line = fails("plan_and_preprocess", "-d", "7")
    assert "case1_0000.png: has no label map; expected " in line
    assert "labelsTr/case1.png" in line


def test_a_label_has_no_image(raw, fails):
    (raw / "imagesTr" / "case1_0000.png").unlink()
    line = fails("plan_and_preprocess", "-d", "7")
    assert "labelsTr/case1.png: has no image; expected " in line
    assert "imagesTr/case1_0000.png" in line


def test_image_and_label_differ_in_size(raw, fails):
    Image.fromarray(np.zeros((64, 50), np.uint8)).save(raw / "labelsTr" / "case1.png")
    line = fails("plan_and_preprocess", "-d", "7")
    for word in ("labelsTr/case1.png", "imagesTr/case1_0000.png", "expected 64 x 64 pixels", "found 50 x 64 pixels"):
        assert word in line
    assert not_preprocessed()


def test_a_label_value_is_not_declared(raw, fails):
    Image.fromarray(np.full((64, 64), 2, np.uint8)).save(raw / "labelsTr" / "case1.png")
    line = fails("plan_and_preprocess", "-d", "7")
    assert "case1.png: has undeclared label values; expected 0 1; found 2" in line


def test_a_picture_is_cut_off(raw, fails):
    file = raw / "imagesTr" / "case1_0000.png"
    file.write_bytes(file.read_bytes()[:1000])
    line = fails("plan_and_preprocess", "-d", "7")
    assert "case1_0000.png: cannot be read as PNG" in line
    assert "copy or export it again" in line
    assert not_preprocessed()


def test_a_volume_is_cut_off(empty, fails):
    raw = empty / "Dataset008_Volumes"
    for part, name in (("imagesTr", "a_0000"), ("labelsTr", "a")):
        (raw / part).mkdir(parents=True)
        values = np.random.default_rng(0).integers(0, 2, (20, 20, 20)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), raw / part / f"{name}.nii.gz")
    entries = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(entries))
    file = raw / "imagesTr" / "a_0000.nii.gz"
    file.write_bytes(file.read_bytes()[:-200])
    line = fails("plan_and_preprocess", "-d", raw)
    assert "a_0000.nii.gz: cannot be read as NIfTI" in line
    assert "copy or export it again" in line
    file.write_bytes(gzip.compress(b"no volume at all"))
    assert "a_0000.nii.gz: cannot be read as NIfTI" in fails("plan_and_preprocess", "-d", raw)


def test_several_broken_cases_are_all_listed(raw, call):
    for name in ("case0", "case2"):
        (raw / "imagesTr" / f"{name}_0000.png").write_bytes(b"")
    answer = call("plan_and_preprocess", "-d", "7")
    assert answer.code == 2
    first, problem, *files, fix = answer.err.strip().splitlines()
    assert first.startswith("error: 2 errors in ")
    assert "2 files: cannot be read as a picture" in problem
    assert [file.strip() for file in files] == ["imagesTr/case0_0000.png", "imagesTr/case2_0000.png"]
    assert "copy or export it again" in fix


def test_a_dataset_is_unknown(raw, fails):
    line = fails("plan_and_preprocess", "-d", "Dataset007_Squars")
    assert "no raw dataset called 'Dataset007_Squars'" in line
    assert "found Dataset007_Squares" in line
    assert "did you mean Dataset007_Squares?" in line


def test_there_is_no_dataset_at_all(fails):
    line = fails("plan_and_preprocess", "-d", "7")
    assert "dlsam/raw" in line
    assert "none there" in line


def test_the_modality_cannot_be_told(empty, make_pictures, fails, call):
    make_pictures(empty / "dlsam" / "raw" / "Dataset007_Squares", channel_names={"0": "grey"})
    line = fails("plan_and_preprocess", "-d", "7")
    for word in ("not sure which modality", "--modality", "found channel names grey", "give one of dermoscopy", "CT"):
        assert word in line
    assert not_preprocessed()
    assert call("plan_and_preprocess", "-d", "7", "--modality", "ultrasound", "--plan-only").code == 0


def test_the_output_cannot_be_written(raw, empty, fails):
    (empty / "file").write_text("not a folder")
    line = fails("plan_and_preprocess", "-d", "7", "-o", "file/below")
    assert line.startswith("error: file/below: cannot be written")
    assert "choose a folder that you can write to" in line


def test_a_dataset_is_named_twice(raw, fails):
    assert "a dataset is named twice; found 7" in fails("plan_and_preprocess", "-d", "7+7")
    assert "write for instance 101+103" in fails("plan_and_preprocess", "-d", "7+")


# options


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("train", ["7", "0", "--epoch", "3"], ["--epoch;", "did you mean --epochs?"]),
        ("predict", ["-i", "a", "-o", "b", "--chekpoint=best"], ["--chekpoint", "did you mean --checkpoint?"]),
        ("predict", ["--imput", "a", "-o", "b"], ["--imput", "did you mean --input?"]),
        ("plan_and_preprocess", ["--datset", "7"], ["--datset", "did you mean --dataset?"]),
        ("evaluate", ["a", "b", "c"], ["unknown argument c"]),
        ("train", ["7", "0", "--time-budget", "soon"], ["'soon' is not a duration", "20m"]),
        ("train", ["7", "0", "--time-budget", "0m"], ["'0m' is not a duration"]),
        ("train", ["7", "0", "--epochs", "0"], ["'0' is not a whole number above 0"]),
        ("train", ["7", "0", "--seed", "x"], ["'x' is not a whole number"]),
        ("predict", ["-i", "a", "-o", "b", "--batch-size", "many"], ["'many' is not a whole number above 0"]),
        ("predict", ["-i", "", "-o", "b"], ["the path is empty"]),
        ("predict", ["-i", "a", "-o", "b", "--checkpoint", "last"], ["'last'", "final", "best"]),
        ("plan_and_preprocess", ["-d", "7", "--gpu-memory", "lots"], ["'lots' is not an amount of memory"]),
        ("plan_and_preprocess", ["-d", "7", "--gpu-memory", "0.3"], ["0.3 GB is too little, give at least 0.5"]),
    ],
)
def test_a_wrong_option(command, arguments, words, refuses):
    line = refuses(command, *arguments)
    for word in words:
        assert word in line


def test_a_wrong_dataset_is_told_before_torch_is_loaded(environment, empty):
    run = [sys.executable, "-c", _TRAIN_WITHOUT_TORCH, "7", "0"]
    done = subprocess.run(run, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: no preprocessed dataset called '7'")


# training


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


# prediction


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


# evaluation


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
