"""Overlap of a predicted label map with its reference, at the grid both stand on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from delightsam_pipeline.errors import UserError

Ids = tuple[int, ...]
Metrics = dict[str, float | int | None]


def confusion(prediction: np.ndarray, reference: np.ndarray, ids: Ids, ignore: int | None = None) -> dict[str, int]:
    """Count voxels of one class or region: TP, FP, FN, TN, n_pred and n_ref.

    prediction, reference : integer label maps [z y x] or [H W]; UserError when they do not fit each other.
    ids : label values that together are the target.
    ignore : label value of the reference whose voxels are not counted at all.
    """
    _check(prediction, reference)
    predicted, expected = _mask(prediction, ids), _mask(reference, ids)
    total = reference.size
    if ignore is not None:
        counted = reference != ignore
        predicted &= counted
        total = np.count_nonzero(counted)
    n_pred, n_ref = int(np.count_nonzero(predicted)), int(np.count_nonzero(expected))
    hits = int(np.count_nonzero(predicted & expected))
    misses, false_alarms = n_ref - hits, n_pred - hits
    rest = int(total) - hits - misses - false_alarms
    return {"TP": hits, "FP": false_alarms, "FN": misses, "TN": rest, "n_pred": n_pred, "n_ref": n_ref}


def dice_iou(counts: Mapping[str, int]) -> tuple[float | None, float | None]:
    """Dice and IoU, each 0 to 1, of what `confusion` counted; None for both when both masks are empty."""
    hits, wrong = counts["TP"], counts["FP"] + counts["FN"]
    if hits + wrong == 0:
        return None, None
    return 2 * hits / (2 * hits + wrong), hits / (hits + wrong)


def case_metrics(
    prediction: np.ndarray, reference: np.ndarray, labels_ids: Mapping[str, Ids], ignore: int | None = None
) -> dict[str, Metrics]:
    """Per class or region: Dice, IoU and the counts of `confusion`, with its arguments and errors."""
    result: dict[str, Metrics] = {}
    for name, ids in labels_ids.items():
        counts = confusion(prediction, reference, ids, ignore)
        dice, iou = dice_iou(counts)
        result[name] = {"Dice": dice, "IoU": iou, **counts}
    return result


def _mask(array: np.ndarray, ids: Ids) -> np.ndarray:
    mask = array == ids[0]
    for value in ids[1:]:
        mask |= array == value
    return mask


def _check(prediction: np.ndarray, reference: np.ndarray) -> None:
    if prediction.shape != reference.shape:
        raise UserError(
            "the prediction and the reference differ in shape", expected=reference.shape, found=prediction.shape
        )
    for what, array in (("prediction", prediction), ("reference", reference)):
        if not np.issubdtype(array.dtype, np.integer):
            raise UserError(f"the {what} is not a label map", expected="integers", found=array.dtype)
