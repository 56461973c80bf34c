"""The authors' measures, by hand: at 1024 x 1024, smoothed by 1, distances dropped where a mask is empty."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.evaluation.paper import SENTENCE, paper_metrics, paper_summary, paper_table

NAMES = {"lesion": (1,)}


def test_by_hand():
    prediction, reference = np.zeros((2, 1, 4, 8), np.uint8)
    prediction[0, 1, 2:5] = 1
    reference[0, 1, 3:5] = 1
    cell = 256 * 128  # pixels of 1024 x 1024 that one of 4 x 8 becomes
    scores = paper_metrics(prediction, reference, NAMES)["lesion"]
    assert scores["Dice"] == pytest.approx((2 * 2 * cell + 1) / (5 * cell + 1))
    assert scores["IoU"] == pytest.approx((2 * cell + 1) / (3 * cell + 1))
    assert scores["HD"] == 128


def test_a_stray_pixel_shows_in_hd_alone():
    prediction, reference = np.zeros((2, 1, 64, 64), np.uint8)
    prediction[0, :40, :40] = reference[0, :40, :40] = 1
    prediction[0, 10, 60] = 1
    scores = paper_metrics(prediction, reference, NAMES)["lesion"]
    assert scores["HD"] == (60 - 39) * 16


def test_empty_masks():
    empty, some = np.zeros((2, 1, 32, 32), np.uint8)
    some[0, 3:9, 3:9] = 1
    assert paper_metrics(empty, empty, NAMES)["lesion"] == {"Dice": 1, "IoU": 1, "HD": None}
    missed = paper_metrics(empty, some, NAMES)["lesion"]
    assert missed["Dice"] == 1 / (36 * 32 * 32 + 1) and missed["HD"] is None


def test_large_pictures_become_smaller_and_ignored_pixels_do_not_count():
    reference, prediction = np.zeros((2, 1, 2048, 2048), np.uint8)
    reference[0, :1024] = prediction[0, :1024] = 1
    reference[0, 1536:] = 2
    prediction[0, 1536:] = 1
    assert paper_metrics(prediction, reference, NAMES, ignore=2)["lesion"] == {"Dice": 1, "IoU": 1, "HD": 0}
    assert paper_metrics(prediction, reference, NAMES)["lesion"]["HD"] == 512  # a quarter of 2048 rows below


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_slice_lies_in_its_own_plane(axis):
    plane = np.zeros((16, 24), np.uint8)
    plane[2:9, 4:20] = 1
    moved = np.roll(plane, (1, 2), (0, 1))
    found = paper_metrics(np.expand_dims(moved, axis), np.expand_dims(plane, axis), NAMES)
    assert found == paper_metrics(moved[None], plane[None], NAMES) and found["lesion"]["HD"] > 64


def test_several_classes_are_one_foreground(tmp_path):
    labels = Labels.parse({"background": 0, "a": 1, "b": 2}, tmp_path)
    for folder, value in (("reference", 1), ("prediction", 2)):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.full((20, 20), value, np.uint8)).save(tmp_path / folder / "x.png")
    summary = paper_summary(tmp_path / "reference", tmp_path / "prediction", labels)
    assert summary["mean"] == {"(1, 2)": {"Dice": 1, "IoU": 1, "HD": 0}} and summary["foreground_mean"]["Dice"] == 1


def test_two_folders(tmp_path):
    labels = Labels.parse({"background": 0, "lesion": 1}, tmp_path)
    for folder in ("reference", "prediction"):
        (tmp_path / folder).mkdir()
        volume = np.zeros((16, 16, 3), np.uint8)
        volume[4:8, 4:8, 1] = 1  # empty above and below, and in the prediction everywhere
        nibabel.save(nibabel.Nifti1Image(volume * (folder == "reference"), np.eye(4)), tmp_path / folder / "v.nii.gz")
        picture = np.zeros((20, 20), np.uint8)
        picture[5:9, 5:9] = 1
        Image.fromarray(picture).save(tmp_path / folder / "x.png")
    summary = paper_summary(tmp_path / "reference", tmp_path / "prediction", labels)
    volume, picture = (row["metrics"]["1"] for row in summary["metric_per_case"])
    assert volume["Dice"] == pytest.approx(2 / 3, abs=1e-4) and volume["HD"] is None
    assert picture == {"Dice": 1, "IoU": 1, "HD": 0}
    assert summary["mean"]["1"]["Dice"] == summary["foreground_mean"]["Dice"] == pytest.approx(5 / 6, abs=1e-4)
    assert summary["mean"]["1"]["HD"] == 0
    lines = paper_table(summary).splitlines()
    assert lines[1].split()[0] == "foreground" and lines[-1] == SENTENCE and "comparison" in SENTENCE
