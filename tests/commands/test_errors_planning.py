"""What a user can get wrong in planning: one line that says what to do, exit code 2, and nothing half-written."""

import gzip
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image


def not_preprocessed(home: Path = Path("dlsam")) -> bool:
    """Whether nothing was made of the dataset, but for the looks at single cases, which are not to be read twice."""
    made = [file for file in (home / "preprocessed").rglob("*") if file.is_file()]
    return all(file.parent.name == "looks" for file in made)


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
    assert line.startswith("error: file/below/Dataset007_Squares: cannot be written")
    assert "choose a folder that you can write to" in line


def test_a_dataset_is_named_twice(raw, fails):
    assert "a dataset is named twice; found 7" in fails("plan_and_preprocess", "-d", "7+7")
    assert "write for instance 101+103" in fails("plan_and_preprocess", "-d", "7+")
