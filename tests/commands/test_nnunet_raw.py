"""What nnU-Net's raw format can say, each taken through planning, training and prediction by the commands."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from delightsam_pipeline.files import read_json

BRATS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
FOUR = {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}
NAME = "Dataset004_Tiny"
STORE, MODEL = Path("dlsam/preprocessed") / NAME, Path("dlsam/results") / NAME / "fold_0"
AFFINE = np.diag([-1.0, -1.0, 4.0, 1.0])


@pytest.fixture
def raw(empty, monkeypatch):
    """The folder of a raw dataset, found by nnU-Net's variable alone."""
    monkeypatch.setenv("nnUNet_raw", str(empty / "nnunet"))
    return empty / "nnunet" / NAME


@pytest.fixture
def work(call, shorten):
    """work(fold="0"): plan, preprocess and train dataset 4 by its number, for one step -> the answers."""

    def _work(fold: str = "0") -> list:
        answers = [call("plan_and_preprocess", "-d", "4", "--workers", "1")]
        assert answers[0].code == 0, answers[0]
        shorten(STORE)
        answers.append(call("train", "4", fold, "--epochs", "1", "--workers", "0"))
        assert answers[1].code == 0, answers[1]
        return answers

    return _work


def describe(folder: Path, channels, labels, ending, cases=3, **entries) -> Path:
    value = {"channel_names": channels, "labels": labels, "numTraining": cases, "file_ending": ending, **entries}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(value))
    return folder


def pictures(folder: Path, masks, part="Tr", **entries) -> Path:
    """A raw dataset of grey pictures 64 x 64 with these masks, {case: [64, 64]}."""
    generator = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / (kind + part)).mkdir(parents=True, exist_ok=True)
    for name, mask in masks.items():
        image = generator.integers(0, 60, mask.shape) + 40 * mask
        Image.fromarray(image.astype(np.uint8)).save(folder / f"images{part}" / f"{name}_0000.png")
        Image.fromarray(mask.astype(np.uint8)).save(folder / f"labels{part}" / f"{name}.png")
    entries = {"labels": {"background": 0, "square": 1}} | entries
    return describe(folder, {"0": "ultrasound"}, ending=".png", cases=len(masks), **entries)


def nested(*values: int) -> np.ndarray:
    """A mask of squares in squares of these values, the largest first."""
    mask = np.zeros((64, 64), np.uint8)
    for number, value in enumerate(values):
        mask[8 + 8 * number : 56 - 8 * number, 8 + 8 * number : 56 - 8 * number] = value
    return mask


def volume(name: str, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Channels [C, x, y, z] of a volume and its mask."""
    mask = np.zeros((40, 36, 3), np.uint8)
    mask[10:30, 8:28], mask[14:26, 12:24], mask[18:22, 16:20] = 1, 2, 3
    generator = np.random.default_rng(len(name) + ord(name[-1]))
    return generator.normal(10 * mask, 5, (channels, *mask.shape)).astype(np.float32) + 50, mask


def save(array: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)


def volumes(folder: Path, channels, whole: bool, **entries) -> Path:
    """A raw dataset of three volumes and a test volume; a file per channel, or all channels in one file of 4D."""
    for part, name in (("Tr", "a"), ("Tr", "b"), ("Tr", "c"), ("Ts", "t")):
        image, mask = volume(name, len(channels))
        if whole:
            save(np.moveaxis(image, 0, -1), folder / f"images{part}" / f"{name}.nii.gz")
        else:
            for number, channel in enumerate(image):
                save(channel, folder / f"images{part}" / f"{name}_{number:04d}.nii.gz")
        save(mask, folder / f"labels{part}" / f"{name}.nii.gz")
    return describe(folder, channels, ending=".nii.gz", **entries)


def everything(folder: Path) -> dict[Path, tuple]:
    """Every file in a folder with its content's date and size."""
    return {f: (f.stat().st_mtime_ns, f.stat().st_size) for f in sorted(folder.rglob("*"))}


def test_raw_data_is_only_read(raw, work, call):
    """By its number, from a folder that may not be written to, with entries that mean nothing here."""
    free = {"description": "x", "reference": "y", "licence": {"a": 1}, "release": 1.0, "name": NAME, "numTest": 1}
    squares = {name: nested(1) for name in "abc"}
    folder = pictures(raw, squares, overwrite_image_reader_writer="NaturalImage2DIO", **free)
    pictures(raw, {"t": nested(1)}, part="Ts", overwrite_image_reader_writer="NaturalImage2DIO", **free)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = everything(folder.parent)
    planned, _ = work()
    assert "overwrite_image_reader_writer is not used, files are read by what they are" in planned.out + planned.err
    assert "numTraining is 1 but there are 3 training cases" in planned.out + planned.err
    assert call("predict", "-i", folder / "imagesTs", "-o", "out", "-d", "4").code == 0
    assert call("evaluate", folder / "labelsTs", "out").code == 0
    assert everything(folder.parent) == before
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)


def test_regions_in_an_order_of_their_own(raw, work, call):
    order = [3, 1, 2]
    folder = pictures(raw, {n: nested(1, 2, 3) for n in "abc"}, labels=BRATS, regions_class_order=order)
    work()
    targets = read_json(STORE / "plan.json")["labels"]
    assert targets["classes"] == ["whole", "core", "enhancing"] and targets["class_values"] == order
    means = read_json(MODEL / "validation" / NAME / "summary.json")["mean"]
    assert list(means) == ["(1, 2, 3)", "(2, 3)", "3"]
    assert means["(1, 2, 3)"]["n_ref"] == 48**2 and means["(2, 3)"]["n_ref"] == 32**2
    assert call("predict", "-i", folder / "imagesTr", "-o", "out", "-d", "4").code == 0
    assert call("evaluate", folder / "labelsTr", folder / "labelsTr", "-o", "same.json").code == 0
    assert read_json(Path("same.json"))["foreground_mean"]["Dice"] == 1


def test_what_is_ignored_counts_nowhere(raw, work, call):
    labels = {"background": 0, "square": 1, "ignore": 2}
    folder = pictures(raw, {n: nested(1, 2) for n in "abc"}, labels=labels)
    work()
    case = read_json(MODEL / "validation" / NAME / "summary.json")["metric_per_case"][0]["metrics"]["1"]
    assert case["n_ref"] == 48**2 - 32**2
    assert case["TP"] + case["FP"] + case["FN"] + case["TN"] == 64**2 - 32**2
    assert call("predict", "-i", folder / "imagesTr", "-o", "out", "-d", "4").code == 0
    assert set(np.unique(Image.open("out/a.png"))) <= {0, 1}


def test_four_channels_in_files_of_their_own_and_in_one(raw, empty, work, call):
    """BraTS-like: the learned projection; one file of 4D is the same case."""
    whole = volumes(empty / "whole" / NAME, FOUR, whole=True, labels=BRATS, regions_class_order=[1, 2, 3])
    apart = volumes(raw, FOUR, whole=False, labels=BRATS, regions_class_order=[1, 2, 3])
    work()
    plan = read_json(STORE / "plan.json")
    assert plan["modality"] == "MRI" and plan["input"] == "projection" and plan["channel_names"] == list(FOUR.values())
    assert call("plan_and_preprocess", "-d", whole, "-o", "other", "--workers", "1").code == 0
    for name in "abc":
        stored = [np.load(store / "cases" / f"{name}.slices.npy") for store in (STORE, Path("other") / NAME)]
        assert stored[0].shape[:2] == (3, 4) and np.array_equal(*stored)
    for number, images in enumerate((apart / "imagesTs", whole / "imagesTs")):
        assert call("predict", "-i", images, "-o", f"out{number}", "-d", "4").code == 0
    masks = [nibabel.load(f"out{number}/t.nii.gz") for number in (0, 1)]
    assert masks[0].shape == (40, 36, 3) and np.array_equal(masks[0].dataobj, masks[1].dataobj)
    np.testing.assert_array_equal(masks[1].affine, AFFINE)


def test_three_channels_go_in_as_they_are(raw, work):
    volumes(raw, {"0": "T1", "1": "T2", "2": "FLAIR"}, whole=False, labels={"background": 0, "a": 1, "b": 2, "c": 3})
    work()
    assert read_json(STORE / "plan.json")["input"] == "projection"
    assert read_json(MODEL / "model.json")["heads"][NAME]["in_channels"] == 3


def test_an_explicit_list_of_files(raw, empty, work, monkeypatch):
    """Anywhere, by environment variables or from the dataset's folder, in place of imagesTr and labelsTr."""
    pictures(empty / "elsewhere", {n: nested(1) for n in "ab"})
    pictures(raw, {"passed over": nested(1)})
    pictures(raw, {"c": nested(1)}, part="Xx")
    entry = {
        "a": {"images": ["$PICTURES/imagesTr/a_0000.png"], "label": "${PICTURES}/labelsTr/a.png"},
        "b": {"images": [str(empty / "elsewhere/imagesTr/b_0000.png")], "label": "$PICTURES/labelsTr/b.png"},
        "c": {"images": ["imagesXx/c_0000.png"], "label": "labelsXx/c.png"},
    }
    describe(raw, {"0": "ultrasound"}, {"background": 0, "square": 1}, ".png", dataset=entry)
    monkeypatch.setenv("PICTURES", str(empty / "elsewhere"))
    work()
    assert sorted(f.stem for f in (STORE / "cases").glob("*.json")) == ["a", "b", "c"]


def test_a_variable_that_is_not_set(raw, fails):
    pictures(raw, {"c": nested(1)})
    entry = {"c": {"images": ["$NOT_SET_ANYWHERE/c_0000.png"], "label": "labelsTr/c.png"}}
    describe(raw, {"0": "ultrasound"}, {"background": 0, "square": 1}, ".png", 1, dataset=entry)
    error = fails("plan_and_preprocess", "-d", "4")
    assert "$NOT_SET_ANYWHERE/c_0000.png: does not exist, but dataset.json lists it for case 'c'; set the env" in error


def test_splits_beside_the_data_and_those_that_nnunet_keeps(raw, empty, call, monkeypatch):
    squares = {name: nested(1) for name in "abcd"}
    kept, beside = ([{"train": list("abc"), "val": list(val)}] for val in ("d", "d"))
    kept[0], beside[0] = {"train": ["a", "b"], "val": ["c", "d"]}, {"train": ["a"], "val": ["d"]}
    pictures(raw, squares)
    (empty / "kept" / NAME).mkdir(parents=True)
    (empty / "kept" / NAME / "splits_final.json").write_text(json.dumps(kept))

    def planned():
        answer = call("plan_and_preprocess", "-d", "4", "--workers", "1", "--plan-only")
        assert answer.code == 0, answer
        return read_json(STORE / "splits_final.json"), answer.out + answer.err

    assert len(planned()[0]) == 4  # leave one out
    monkeypatch.setenv("nnUNet_preprocessed", str(empty / "kept"))
    splits, said = planned()
    assert splits == kept and f"the folds are those of {empty / 'kept' / NAME / 'splits_final.json'}" in said
    pictures(raw, squares, group={"b": "patient", "c": "patient"})
    splits, said = planned()
    assert len(splits) == 3 and "splits_final.json is not used, since dataset.json has groups" in said
    (raw / "splits_final.json").write_text(json.dumps(beside))
    splits, said = planned()
    assert splits == beside and "2 cases are in no fold, so that only fold all trains on them: b, c" in said


def test_the_older_name_of_channel_names(raw, call):
    folder = pictures(raw, {name: nested(1) for name in "ab"}, modality={"0": "ultrasound"})
    value = read_json(folder / "dataset.json")
    del value["channel_names"]
    (folder / "dataset.json").write_text(json.dumps(value))
    assert call("plan_and_preprocess", "-d", "4", "--workers", "1", "--plan-only").code == 0
    assert read_json(STORE / "plan.json")["channel_names"] == ["ultrasound"]


@pytest.mark.parametrize("regions", [False, True])
def test_classes_that_were_not_annotated(regions, raw, work, call):
    """Not nnU-Net's: in some cases only some classes were annotated, from training to the scores of a test set."""
    labels = {"background": 0, "whole": [1, 2], "core": 2} if regions else {"background": 0, "whole": 1, "core": 2}
    masks = {f"part_{n}": nested(1) for n in range(4)} | {"full_0": nested(1, 2), "full_1": nested(1, 2)}
    entries = {"labels": labels, "annotated": {"part_*": ["whole"]}}
    entries |= {"regions_class_order": [1, 2]} if regions else {}
    folder = pictures(raw, masks, **entries)
    pictures(raw, {"part_9": nested(1), "full_9": nested(1, 2)}, part="Ts", **entries)
    work("all")
    scores = read_json(MODEL.parent / "fold_all" / "validation" / NAME / "summary.json")["mean"]
    assert (scores["2"]["n_cases"], scores["2"]["n_not_annotated"]) == (2, 4)
    assert call("predict", "-i", folder / "imagesTs", "-o", "out", "-d", "4", "-f", "all").code == 0
    answer = call("evaluate", folder / "labelsTs", "out")
    assert answer.code == 0 and "left out, not annotated: core in 1" in answer.out
    assert read_json(Path("out/summary.json"))["mean"]["2"]["n_cases"] == 1


def test_a_class_that_is_there_though_it_was_not_annotated(raw, call):
    labels = {"background": 0, "whole": 1, "core": 2}
    pictures(raw, {"a": nested(1), "b": nested(1, 2)}, labels=labels, annotated={"a": ["whole"], "b": ["core"]})
    answer = call("plan_and_preprocess", "-d", "4", "--workers", "1")
    assert answer.code == 2
    assert f"labelsTr{os.sep}b.png: case b holds class 'whole', which by 'annotated'" in answer.err
