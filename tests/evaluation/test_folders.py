"""Two folders of label maps to one summary."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.evaluation.folders import evaluate_folders
from delightsam_pipeline.evaluation.summary import mean_dice

LABELS = Labels.parse({"background": 0, "a": 1, "b": 2, "ignore": 3}, Path("dataset.json"))


@pytest.fixture
def folders(tmp_path):
    reference, prediction = tmp_path / "labels", tmp_path / "predicted"
    reference.mkdir()
    prediction.mkdir()
    return reference, prediction


def save_png(file, rows):
    Image.fromarray(np.array(rows, np.uint8)).save(file)


def save_nifti(file, array, affine=None):
    nibabel.save(nibabel.Nifti1Image(array.astype(np.uint8), np.eye(4) if affine is None else affine), file)


def test_pictures(folders):
    reference, prediction = folders
    save_png(reference / "x.png", [[1, 1, 2, 0], [1, 1, 2, 3]])
    save_png(prediction / "x.png", [[1, 1, 2, 0], [1, 0, 0, 1]])
    save_png(reference / "y.1.png", [[0, 0], [0, 0]])
    save_png(prediction / "y.1.png", [[2, 0], [0, 0]])
    save_png(prediction / "not_asked.png", [[2, 0]])
    (prediction / "predict_from_raw_data_args.json").write_text("{}")
    summary = evaluate_folders(reference, prediction, LABELS)
    x, y = (case["metrics"] for case in summary["metric_per_case"])
    assert x["1"]["Dice"] == pytest.approx(6 / 7)  # the pixel under ignore does not count
    assert x["2"]["Dice"] == pytest.approx(2 / 3)
    assert y["1"]["Dice"] is None
    assert y["2"]["Dice"] == 0
    assert summary["mean"]["2"]["n_false_positive_on_empty"] == 1
    assert mean_dice(summary) == pytest.approx((6 / 7 + 1 / 3) / 2)
    assert summary["metric_per_case"][1]["prediction_file"] == str(prediction / "y.1.png")


def test_volumes_with_another_ending_and_orientation(folders):
    reference, prediction = folders
    volume = np.zeros((5, 6, 7), np.uint8)
    volume[1:3, 2:4, 3:6] = 1
    save_nifti(reference / "v.nii.gz", volume)
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = 4
    save_nifti(prediction / "v.nii", volume[::-1], flipped)
    assert evaluate_folders(reference, prediction, LABELS)["mean"]["1"]["Dice"] == 1


def test_missing_predictions_are_listed(folders):
    reference, prediction = folders
    for name in ("a", "b", "c"):
        save_png(reference / f"{name}.png", [[1, 0]])
    save_png(prediction / "b.png", [[1, 0]])
    with pytest.raises(UserError, match=r"predicted: has no prediction for 2 of 3 cases; found missing a, c;"):
        evaluate_folders(reference, prediction, LABELS)


def test_every_case_that_cannot_be_compared_is_named(folders):
    reference, prediction = folders
    volume = np.ones((4, 5, 6), np.uint8)
    moved = np.eye(4)
    moved[:3, 3] = 2
    save_nifti(reference / "moved.nii.gz", volume)
    save_nifti(prediction / "moved.nii.gz", volume, moved)
    save_png(reference / "size.png", [[1, 0, 0, 0, 0]])
    save_png(prediction / "size.png", [[1, 0]])
    with pytest.raises(UserError, match="2 problems") as error:
        evaluate_folders(reference, prediction, LABELS)
    lines = str(error.value).splitlines()
    assert "moved.nii.gz: does not lie on the same grid" in lines[1]
    assert "size.png: does not lie on the same grid" in lines[2]


def test_undeclared_values_are_refused(folders):
    reference, prediction = folders
    save_png(reference / "x.png", [[1, 0]])
    save_png(prediction / "x.png", [[255, 0]])
    with pytest.raises(UserError, match=r"predicted/x.png: has undeclared label values; expected 0 1 2 3; found 0 255"):
        evaluate_folders(reference, prediction, LABELS)


def test_two_files_of_one_case(folders):
    reference, prediction = folders
    save_png(reference / "x.png", [[1, 0]])
    save_nifti(reference / "x.nii.gz", np.ones((1, 1, 1)))
    with pytest.raises(UserError, match=r"case x has two files"):
        evaluate_folders(reference, prediction, LABELS)


def test_a_folder_that_is_not_there_or_has_nothing(folders, tmp_path):
    reference, prediction = folders
    save_png(reference / "x.png", [[1, 0]])
    with pytest.raises(UserError, match="nowhere: does not exist"):
        evaluate_folders(reference, tmp_path / "nowhere", LABELS)
    with pytest.raises(UserError, match="has no images that can be read"):
        evaluate_folders(reference, prediction, LABELS)


def test_distances_and_volumes_are_in_mm_and_ml(folders):
    reference, prediction = folders
    volume = np.zeros((9, 8, 7), np.uint8)
    volume[2:5, 2:5, 2:5] = 1
    affine = np.diag([2.0, 1.0, 5.0, 1.0])
    save_nifti(reference / "v.nii.gz", volume, affine)
    save_nifti(prediction / "v.nii.gz", np.roll(volume, 1, axis=0), affine)
    summary = evaluate_folders(reference, prediction, LABELS, tolerance=1.0)
    scores = summary["mean"]["1"]
    assert (summary["unit"], summary["volume_unit"], summary["tolerance"]) == ("mm", "ml", 1.0)
    assert scores["HD95"] == 2
    assert 0 < scores["NSD"] < 1
    assert scores["Volume_pred"] == scores["Volume_ref"] == pytest.approx(27 * 10 / 1000)
    assert evaluate_folders(reference, prediction, LABELS)["mean"]["1"]["NSD"] == 1


def test_pictures_are_measured_in_pixels_and_groups_are_kept(folders):
    reference, prediction = folders
    for name in ("x", "y"):
        save_png(reference / f"{name}.png", [[1, 0, 0, 0], [0, 0, 0, 0]])
        save_png(prediction / f"{name}.png", [[0, 0, 0, 1], [0, 0, 0, 0]])
    summary = evaluate_folders(reference, prediction, LABELS, groups={"x": "patient", "y": "patient", "z": "other"})
    assert (summary["unit"], summary["volume_unit"]) == ("px", "px")
    assert summary["mean"]["1"]["HD95"] == 3 and summary["mean"]["1"]["Volume_pred"] == 1
    assert summary["n_groups"] == 1


def test_pictures_and_volumes_are_not_averaged(folders):
    for folder in folders:
        save_png(folder / "x.png", [[1, 0]])
        save_nifti(folder / "y.nii.gz", np.ones((2, 2, 2)))
    with pytest.raises(UserError, match=r"two units; found px for .*x.png and mm for .*y.nii.gz; evaluate"):
        evaluate_folders(*folders, LABELS)
