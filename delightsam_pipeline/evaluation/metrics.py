"""One predicted label map against its reference, at the grid both stand on: overlap, volumes and surfaces."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np

from delightsam_pipeline.data.image import Grid
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.evaluation.surfaces import TOLERANCE, surface_scores

Ids = tuple[int, ...]
Metrics = dict[str, float | int | None]
COUNTS = ("TP", "FP", "FN", "TN", "n_pred", "n_ref")
_SIZES = ("HD95", "NSD", "Volume_pred", "Volume_ref")


def case_metrics(
    prediction: np.ndarray,
    reference: np.ndarray,
    labels_ids: Mapping[str, Ids],
    ignore: int | None = None,
    grid: Grid | None = None,
    tolerance: float = TOLERANCE,
    not_annotated: Collection[str] = (),
) -> dict[str, Metrics]:
    """Per class or region: Dice, IoU, and the voxels TP, FP, FN, TN, n_pred and n_ref.

    prediction, reference : integer label maps [z y x] or [H W]; UserError when they do not fit each other.
    labels_ids : from name to the label values that together are the target.
    ignore : label value of the reference whose voxels are not counted at all.
    With `grid`, the one that both maps [z y x] stand on, also HD95 and NSD (see `surface_scores`) and Volume_pred and
    Volume_ref, in ml, or in pixels where the grid has no physical spacing.
    not_annotated : names that the reference does not show; everything of them is None.
    """
    _check(prediction, reference)
    counted = None if ignore is None else reference != ignore
    result: dict[str, Metrics] = {}
    for name, ids in labels_ids.items():
        if name in not_annotated:
            result[name] = dict.fromkeys(("Dice", "IoU", *(_SIZES if grid is not None else ()), *COUNTS))
            continue
        predicted, expected = label_mask(prediction, ids), label_mask(reference, ids)
        if counted is not None:
            predicted &= counted
        counts = _counts(predicted, expected, counted)
        dice, iou = dice_iou(counts)
        sizes = {} if grid is None else _sizes(predicted, expected, counts, grid, tolerance)
        result[name] = {"Dice": dice, "IoU": iou, **sizes, **counts}
    return result


def dice_iou(counts: Mapping[str, int]) -> tuple[float | None, float | None]:
    """Dice and IoU, each 0 to 1, of what `case_metrics` counted; None for both when both masks are empty."""
    hits, wrong = counts["TP"], counts["FP"] + counts["FN"]
    if hits + wrong == 0:
        return None, None
    return 2 * hits / (2 * hits + wrong), hits / (hits + wrong)


def label_mask(labels: np.ndarray, ids: Ids) -> np.ndarray:
    """Where a label map holds one of the values, bool."""
    mask = labels == ids[0]
    for value in ids[1:]:
        mask |= labels == value
    return mask


def _counts(predicted: np.ndarray, expected: np.ndarray, counted: np.ndarray | None) -> dict[str, int]:
    total = expected.size if counted is None else int(np.count_nonzero(counted))
    n_pred, n_ref = int(np.count_nonzero(predicted)), int(np.count_nonzero(expected))
    hits = int(np.count_nonzero(predicted & expected))
    misses, false_alarms = n_ref - hits, n_pred - hits
    rest = total - hits - misses - false_alarms
    return dict(zip(COUNTS, (hits, false_alarms, misses, rest, n_pred, n_ref), strict=True))


def _sizes(
    predicted: np.ndarray, expected: np.ndarray, counts: Mapping[str, int], grid: Grid, tolerance: float
) -> Metrics:
    hd95, nsd = surface_scores(predicted, expected, grid.spacing, tolerance)
    voxel = math.prod(grid.spacing) / 1000 if grid.physical else 1  # mm3 to ml
    return dict(zip(_SIZES, (hd95, nsd, counts["n_pred"] * voxel, counts["n_ref"] * voxel), strict=True))


def _check(prediction: np.ndarray, reference: np.ndarray) -> None:
    if prediction.shape != reference.shape:
        raise UserError(
            "the prediction and the reference differ in shape", expected=reference.shape, found=prediction.shape
        )
    for what, array in (("prediction", prediction), ("reference", reference)):
        if not np.issubdtype(array.dtype, np.integer):
            raise UserError(f"the {what} is not a label map", expected="integers", found=array.dtype)
