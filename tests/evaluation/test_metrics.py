"""Overlap against numbers counted by hand and against scipy and scikit-learn; what a grid adds."""

import numpy as np
import pytest
from scipy.spatial import distance
from sklearn.metrics import confusion_matrix, jaccard_score

from delightsam_pipeline.data.image import Grid
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.evaluation.metrics import case_metrics, dice_iou

REFERENCE = np.array([[1, 1, 0, 0], [2, 2, 0, 0], [0, 0, 0, 3]])
PREDICTION = np.array([[1, 2, 1, 0], [2, 2, 0, 0], [0, 0, 0, 0]])


def confusion(prediction, reference, ids, ignore=None):
    """The counts among the metrics of one class or region."""
    metrics = case_metrics(prediction, reference, {"": ids}, ignore)[""]
    return {name: metrics[name] for name in ("TP", "FP", "FN", "TN", "n_pred", "n_ref")}


def test_counts_by_hand():
    assert confusion(PREDICTION, REFERENCE, (1,)) == {"TP": 1, "FP": 1, "FN": 1, "TN": 9, "n_pred": 2, "n_ref": 2}
    assert confusion(PREDICTION, REFERENCE, (2,)) == {"TP": 2, "FP": 1, "FN": 0, "TN": 9, "n_pred": 3, "n_ref": 2}


def test_a_region_is_the_union_of_its_values():
    assert confusion(PREDICTION, REFERENCE, (1, 2)) == {"TP": 4, "FP": 1, "FN": 0, "TN": 7, "n_pred": 5, "n_ref": 4}


def test_ignored_voxels_are_not_counted_whatever_was_predicted_there():
    prediction = PREDICTION.copy()
    prediction[2, 3] = 1
    counts = confusion(prediction, REFERENCE, (1,), ignore=3)
    assert counts == {"TP": 1, "FP": 1, "FN": 1, "TN": 8, "n_pred": 2, "n_ref": 2}


def test_dice_and_iou_by_hand():
    assert dice_iou({"TP": 2, "FP": 1, "FN": 0}) == (pytest.approx(0.8), pytest.approx(2 / 3))


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [(0, 0, (None, None)), (0, 1, (0, 0)), (1, 0, (0, 0)), (1, 1, (1, 1))],
)
def test_empty_and_full_masks(prediction, reference, expected):
    shape = (2, 3, 4)
    counts = confusion(np.full(shape, prediction), np.full(shape, reference), (1,))
    assert dice_iou(counts) == expected


def test_case_metrics_by_name():
    result = case_metrics(PREDICTION, REFERENCE, {"edge": (1,), "all": (1, 2), "missed": (3,), "absent": (4,)})
    assert list(result) == ["edge", "all", "missed", "absent"]
    assert result["edge"]["Dice"] == 0.5
    assert result["edge"]["IoU"] == pytest.approx(1 / 3)
    assert result["all"]["n_pred"] == 5
    assert result["missed"]["Dice"] == 0
    assert result["absent"]["Dice"] is None


def test_agrees_with_scipy_and_scikit_learn():
    rng = np.random.default_rng(3)
    reference = rng.integers(0, 3, (5, 9, 7)).astype(np.uint8)
    prediction = np.where(rng.random(reference.shape) < 0.4, rng.integers(0, 3, reference.shape), reference)
    for value in (1, 2):
        metrics = case_metrics(prediction, reference, {"class": (value,)})["class"]
        expected, predicted = (reference == value).ravel(), (prediction == value).ravel()
        assert metrics["Dice"] == pytest.approx(1 - distance.dice(expected, predicted))
        assert metrics["IoU"] == pytest.approx(jaccard_score(expected, predicted))
        counted = [metrics[key] for key in ("TN", "FP", "FN", "TP")]
        assert counted == confusion_matrix(expected, predicted).ravel().tolist()


def test_inputs_are_left_unchanged():
    prediction, reference = PREDICTION.copy(), REFERENCE.copy()
    case_metrics(prediction, reference, {"all": (1, 2)}, ignore=3)
    np.testing.assert_array_equal(prediction, PREDICTION)
    np.testing.assert_array_equal(reference, REFERENCE)


def test_shapes_must_agree():
    with pytest.raises(UserError, match=r"differ in shape; expected \(3, 4\); found \(4, 3\)"):
        confusion(PREDICTION.T, REFERENCE, (1,))


def test_probabilities_are_not_a_label_map():
    with pytest.raises(UserError, match="prediction is not a label map; expected integers; found float64"):
        confusion(PREDICTION / 2, REFERENCE, (1,))


def test_a_grid_adds_distances_and_volumes():
    prediction, reference = PREDICTION[None], REFERENCE[None]
    grid = Grid(reference.shape, (3.0, 1.0, 2.0))
    metrics = case_metrics(prediction, reference, {"one": (1,), "absent": (4,)}, grid=grid, tolerance=1.5)
    assert metrics["one"]["HD95"] == pytest.approx(1.9)  # of 0 and 2 mm
    assert metrics["one"]["NSD"] == pytest.approx(2 / 4)
    assert metrics["one"]["Volume_pred"] == pytest.approx(2 * 6 / 1000)
    assert metrics["absent"]["HD95"] is None and metrics["absent"]["NSD"] is None
    assert metrics["absent"]["Volume_ref"] == 0
    plain = case_metrics(prediction, reference, {"one": (1,)})["one"]
    assert plain.items() < metrics["one"].items() and "HD95" not in plain
    pixels = case_metrics(prediction, reference, {"one": (1,)}, grid=Grid.picture(3, 4))["one"]
    assert pixels["Volume_pred"] == 2 and pixels["HD95"] == pytest.approx(0.95)


def test_ignored_voxels_have_no_surface():
    reference, prediction = np.zeros((2, 1, 8, 8), int)
    reference[0, :4, :4] = prediction[0, :4, :4] = 1
    reference[0, 6:] = 3
    prediction[0, 6:] = 1
    grid = Grid.picture(8, 8)
    assert case_metrics(prediction, reference, {"one": (1,)}, 3, grid)["one"]["HD95"] == 0
    assert case_metrics(prediction, reference, {"one": (1,)}, None, grid)["one"]["HD95"] > 3
