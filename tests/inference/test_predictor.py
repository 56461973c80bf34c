"""Images in, labels on their own grids out, by the head one asks for."""

from __future__ import annotations

from dataclasses import replace

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture

from delightsam_pipeline.data.formats import read_case
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.inference.predictor import Predictor


@pytest.fixture(scope="module")
def predictor(model_folder):
    return Predictor.load(model_folder[0], "cpu")


def save_volume(file, array, affine):
    nibabel.save(nibabel.Nifti1Image(array, affine), file)
    return file


@pytest.mark.parametrize(
    ("wanted", "head"),
    [
        ("Dataset001_MR", "Dataset001_MR"),
        ("MRI", "Dataset001_MR"),
        ("1", "Dataset001_MR"),
        ("001", "Dataset001_MR"),
        ("US", "Dataset002_US"),
        ("ultrasound", "Dataset002_US"),
    ],
)
def test_heads_by_their_names(predictor, wanted, head):
    assert predictor.head(wanted) == head


@pytest.mark.parametrize("wanted", [None, "PET", "3", ""])
def test_no_single_head(predictor, wanted):
    with pytest.raises(UserError, match=r"found Dataset001_MR \(MRI\), Dataset002_US \(ultrasound\); choose one"):
        predictor.head(wanted)


def test_two_heads_of_one_modality_are_not_told_apart_by_it(predictor):
    plans = {name: plan.model_copy(update={"modality": "MRI"}) for name, plan in predictor.plans.items()}
    with pytest.raises(UserError, match="no single head is called 'MRI'"):
        replace(predictor, plans=plans).head("MRI")
    assert replace(predictor, plans=plans).head("2") == "Dataset002_US"


def test_the_only_head_needs_no_name(predictor):
    assert replace(predictor, plans={"x": predictor.plans["Dataset002_US"]}).head() == "x"


def test_a_picture(predictor, tmp_path):
    Picture.fromarray(np.random.default_rng(0).integers(0, 255, (50, 83)).astype(np.uint8)).save(tmp_path / "x.png")
    image = read_case((tmp_path / "x.png",))
    labels = predictor.predict(image, "US")
    assert labels.shape == (1, 50, 83) and labels.dtype == np.uint8 and set(np.unique(labels)) <= {0, 1}
    assert np.array_equal(labels, predictor.predict(image, "Dataset002_US"))


def test_a_volume_of_the_wrong_kind_is_refused(predictor, tmp_path):
    Picture.fromarray(np.zeros((50, 83), np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(UserError, match=r"x\.png: this kind of image does not fit the plan"):
        predictor.predict(read_case((tmp_path / "x.png",)), "MRI")


# voxel axes along A, R, I: permuted and flipped against the canonical ones
ORIENTED = np.array([[0, 1.0, 0, -20], [1.0, 0, 0, 5], [0, 0, -3.0, 7], [0, 0, 0, 1]])


def test_a_volume_in_another_orientation(predictor, tmp_path):
    array = np.random.default_rng(0).normal(0, 100, (60, 70, 4)).astype(np.float32)
    file = save_volume(tmp_path / "x.nii.gz", array, ORIENTED)
    image, labels = predictor.predict_files((file,), tmp_path / "out.nii.gz", "MRI")
    assert labels.shape == image.grid.shape == (4, 60, 70)
    written = nibabel.load(tmp_path / "out.nii.gz")
    assert written.shape == (60, 70, 4) and np.array_equal(written.affine, ORIENTED)


def test_labels_lie_where_the_image_says(make_plan, threshold, bands, tmp_path):
    """A network that marks what is bright marks it in the file, voxel for voxel."""
    change, dark, bright = bands
    array = np.full((64, 68, 3), dark, np.float32)
    array[8:24, :, 1] = bright
    array[:, 40:60, 2] = bright
    file = save_volume(tmp_path / "x.nii.gz", array, ORIENTED)
    plan = make_plan(patch_size=(96, 96), **change)
    predictor = Predictor(threshold().eval(), {"x": plan}, choose_device("cpu"))
    predictor.predict_files((file,), tmp_path / "out.nii.gz")
    assert np.array_equal(nibabel.load(tmp_path / "out.nii.gz").get_fdata(), array > 100)
