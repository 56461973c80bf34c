"""Unusual names, paths and numbers: taken as they are meant, or refused in one line before anything is written."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delightsam_pipeline.commands.common import run


@pytest.fixture
def folds(empty):
    """folds(names...): results folders with a fold 0 each, which no command can go on with."""

    def _folds(*names: str) -> None:
        for name in names:
            fold = empty / "dlsam" / "results" / name / "fold_0"
            fold.mkdir(parents=True)
            (fold / "model.json").write_text("{}")

    return _folds


# names and folders of datasets


def test_the_sign_for_squared_is_no_dataset(raw, fails):
    assert "no raw dataset called '²'" in fails("plan_and_preprocess", "-d", "²")
    assert "no raw dataset called '777" in fails("plan_and_preprocess", "-d", "7" * 5000)


def test_a_dataset_of_another_name_is_found_by_it(empty, make_pictures, call):
    make_pictures(empty / "dlsam" / "raw" / "mydata")
    answer = call("plan_and_preprocess", "-d", "mydata")
    assert answer.code == 0, answer
    assert "next: dlsam_train mydata 0" in answer.out
    assert "no such fold" in call("train", "mydata", "9").err
    os.chdir(empty / "dlsam" / "preprocessed")
    assert "no such fold" in call("train", "mydata", "9").err


def test_the_next_command_names_the_store_where_it_is(raw, call):
    answer = call("plan_and_preprocess", "-d", "7", "-o", "elsewhere")
    assert "next: dlsam_train elsewhere/Dataset007_Squares 0" in answer.out
    assert "no such fold" in call("train", "elsewhere/Dataset007_Squares", "9").err


def test_a_dataset_by_its_path_is_not_preprocessed_again(raw, call):
    assert "3 cases preprocessed, 0 kept" in call("plan_and_preprocess", "-d", "7").out
    answer = call("plan_and_preprocess", "-d", f"./{raw.relative_to(Path.cwd())}")
    assert "the fingerprint is kept" in answer.out
    assert "0 cases preprocessed, 3 kept" in answer.out


def test_two_stores_of_one_name(home, fails):
    shutil.copytree(home / "preprocessed" / "Dataset007_Squares", "other/Dataset007_Squares")
    line = fails("train", "7+./other/Dataset007_Squares", "0", "-o", "model")
    assert "two of the datasets have the same name; found " in line
    assert not Path("model").exists()


def test_a_listed_case_cannot_leave_the_store(raw, fails):
    file = raw / "dataset.json"
    entry = {"images": ["imagesTr/case0_0000.png"], "label": "labelsTr/case0.png"}
    for name in ("../../evil", "sub/b", "a\\b", ".hidden", ""):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"dataset": {name: entry}, "numTraining": 1}))
        line = fails("plan_and_preprocess", "-d", "7")
        assert f"dataset.json: case '{name}' of 'dataset' has a name that no file can have" in line
    assert not list(Path("dlsam/preprocessed").rglob("*"))


# dataset.json


def test_a_byte_order_mark_is_read(raw, call):
    file = raw / "dataset.json"
    file.write_text(file.read_text(), encoding="utf-8-sig")
    assert call("plan_and_preprocess", "-d", "7", "--plan-only").code == 0


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, '{"labels": ' + "9" * 5000 + "}"])
def test_json_beyond_what_can_be_read(text, raw, fails):
    (raw / "dataset.json").write_text(text)
    assert "dataset.json: cannot be read (" in fails("plan_and_preprocess", "-d", "7")


# numbers and files


def test_numbers_that_are_too_large(refuses):
    for seed in ("99999999999999999999", str(2**63), "9" * 5000):
        assert "is not a whole number from 0 to 9223372036854775807" in refuses("train", "7", "0", "--seed", seed)


def test_what_the_system_refuses_is_one_line(empty, capsys):
    assert run(lambda: os.listdir("gone")) == 2
    assert capsys.readouterr().err == "error: gone: cannot be used (No such file or directory)\n"


@pytest.mark.parametrize("part", [".", "..", "imagesTr"])
def test_a_folder_that_may_not_be_read(part, raw, fails):
    folder = (raw / part).resolve()
    folder.chmod(0)
    try:
        if os.access(folder, os.R_OK):
            pytest.skip("this user may read everything")
        assert "dlsam/raw" in fails("plan_and_preprocess", "-d", "7")
    finally:
        folder.chmod(0o755)


# prediction


def test_an_output_that_does_not_fit_a_folder_of_images(home, picture, fails):
    assert "new: is the folder of the images; choose another -o" in fails("predict", "-i", "new", "-o", "new")
    assert "choose another -o" in fails("predict", "-i", "new", "-o", "./new/../new")
    line = fails("predict", "-i", "new", "-o", "x.nii.gz")
    assert "x.nii.gz: is a file's name, but the input is a folder; give a folder with -o" in line
    assert not Path("x.nii.gz").exists()


def test_a_model_folder_beside_other_choices(home, picture, fails):
    fold = home / "results" / "Dataset007_Squares" / "fold_0"
    common = ("predict", "-i", picture, "-o", "out.png", "-m")
    assert "-m and -d exclude each other" in fails(*common, fold, "-d", "7")
    assert "-f does not go with a fold's own folder" in fails(*common, fold, "-f", "3")
    assert "fold 3 has not been trained; found 0" in fails(*common, fold.parent, "-f", "3")


def test_datasets_of_a_model_in_any_order(folds, picture, fails):
    folds("Dataset201_A+Dataset207_B", "Dataset201_A+Dataset208_C")
    line = fails("predict", "-i", picture, "-o", "out", "-d", "207+201")
    assert "dlsam/results/Dataset201_A+Dataset207_B/fold_0" in line
    assert "no model has been trained on '207+208'" in fails("predict", "-i", picture, "-o", "out", "-d", "207+208")
    folds("Dataset207_B+Dataset201_A")
    line = fails("predict", "-i", picture, "-o", "out", "-d", "207+201")
    assert "dlsam/results/Dataset207_B+Dataset201_A/fold_0" in line


def test_a_head_by_an_alias_of_its_modality(home):
    from delightsam_pipeline.inference.predictor import Predictor

    one = Predictor.load(home / "results" / "Dataset007_Squares" / "fold_0", "cpu")
    plan = one.plans["Dataset007_Squares"]
    two = replace(one, plans=one.plans | {"Dataset008_Other": plan.model_copy(update={"modality": "own kind"})})
    assert two.head("US") == two.head("Ultra-sound") == two.head("7") == "Dataset007_Squares"
    assert two.head("own kind") == "Dataset008_Other"


# evaluation


def test_evaluating_from_within_the_folder(raw, call, monkeypatch):
    shutil.copytree(raw / "labelsTr", raw.parent / "pred")
    monkeypatch.chdir(raw / "labelsTr")
    answer = call("evaluate", ".", "../../pred")
    assert answer.code == 0, answer
    assert (raw.parent / "pred" / "worst_cases.png").is_file()


def test_images_that_cannot_be_drawn_are_passed_over(raw, call):
    shutil.copytree(raw / "labelsTr", "pred")
    images = Path(shutil.copytree(raw / "imagesTr", "images"))
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(images / "case0_0000.png")
    (images / "case1_0000.png").write_bytes(b"no picture")
    answer = call("evaluate", raw / "labelsTr", "pred", "--images", images)
    assert answer.code == 0, answer
    assert "warning: no picture of case case0: images/case0_0000.png: has another size than its masks" in answer.out
    assert "warning: no picture of case case1: images/case1_0000.png: cannot be read" in answer.out
    assert Path("pred/summary.json").is_file()
    assert Path("pred/worst_cases.png").is_file()
    (images / "case1_0001.png").write_bytes(b"")
    answer = call("evaluate", raw / "labelsTr", "pred", "--images", images)
    assert answer.code == 0, answer
    assert "warning: no pictures: " in answer.out
