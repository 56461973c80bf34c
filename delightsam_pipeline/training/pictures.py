"""A few fixed validation cases as they improve: one picture per head, with a column now and then along the run."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from PIL import Image as Picture

from delightsam_pipeline.evaluation.overlays import overlay, write_sheet
from delightsam_pipeline.files import writing
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.preprocessing.store import StoredCase
from delightsam_pipeline.training.validation import View, shown_slice

PICTURE, KEPT = "progress.png", "progress.npz"  # the second holds what the first is drawn from
_CASES, _COLUMNS = 4, 6
_SIDE = 256  # longest side of a slice in the picture, pixels
_APART = 0.1  # of the training, between two columns


@dataclass(frozen=True)
class _Column:
    """What was predicted after an epoch; `masks` are as many as there are cases, at the size of the picture."""

    epoch: int
    step: int
    dice: np.ndarray
    masks: list[np.ndarray]


def chosen(cases: Sequence[StoredCase]) -> list[StoredCase]:
    """At most four cases that show something, spread over all of them; the same at every validation."""
    showing = [case for case in cases if any(case.present)]
    places = np.linspace(0, len(showing) - 1, min(_CASES, len(showing))).astype(int) if showing else ()
    return [showing[i] for i in places]


def add_column(
    folder: Path,
    epoch: int,
    step: int,
    share: float,
    plan: Plan,
    cases: Sequence[StoredCase],
    views: Mapping[str, View],
    summary: Mapping[str, Any],
) -> None:
    """Add what was predicted to folder/progress.png, if the last column is a tenth of the training old.

    share : of the training that is done, 0..1; at 1 the column is always added. Of more than six columns the one that
    is nearest to its neighbours goes. Columns of later epochs, which a run that was killed may have left, go too.
    """
    cases = chosen(cases)
    columns = [column for column in _load(folder / KEPT, len(cases)) if column.epoch < epoch]
    if not cases or (columns and share < 1 and share * (1 - columns[-1].step / step) < _APART):
        return
    dice = {row["name"]: _mean_dice(row["metrics"]) for row in summary["metric_per_case"]}
    shown = [views[case.name] for case in cases]
    masks = [_shrunk(view.prediction) for view in shown]
    columns.append(_Column(epoch, step, np.array([dice[case.name] for case in cases]), masks))
    if len(columns) > _COLUMNS:
        gaps = [columns[i + 1].step - columns[i - 1].step for i in range(1, len(columns) - 1)]
        del columns[1 + int(np.argmin(gaps))]
    _save(folder / KEPT, columns)
    panels = [panel for row, case in enumerate(cases) for panel in _row(row, case, shown[row], plan, columns)]
    write_sheet(folder / PICTURE, panels, columns=1 + len(columns))


def _row(row: int, case: StoredCase, view: View, plan: Plan, columns: Sequence[_Column]):
    """Captions and pictures of one case: the image with its reference, then every column."""
    image, spacing = shown_slice(case, view.z, plan)
    image, reference = _shrunk(image), _shrunk(view.reference)
    if plan.targets.ignore is not None:
        reference = np.where(reference == plan.targets.ignore, 0, reference)
    drawn = [(case.name, overlay(image, None, reference, spacing, _SIDE))]
    for column in columns:
        title = f"epoch {column.epoch}, Dice {column.dice[row]:.3f}"
        drawn.append((title, overlay(image, column.masks[row], reference, spacing, _SIDE)))
    return [(title, Picture.fromarray(picture)) for title, picture in drawn]


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    """Every n-th pixel of [..., H, W], so that the longer side is not much more than is shown."""
    step = max(1, math.ceil(max(pixels.shape[-2:]) / (2 * _SIDE)))
    return np.ascontiguousarray(pixels[..., ::step, ::step])


def _mean_dice(metrics: Mapping[str, Mapping[str, Any]]) -> float:
    values = [of_class["Dice"] for of_class in metrics.values() if of_class["Dice"] is not None]
    return float(np.mean(values)) if values else 1.0


def _save(file: Path, columns: Sequence[_Column]) -> None:
    arrays: dict[str, np.ndarray] = {}
    for number, column in enumerate(columns):
        arrays[f"{number}.at"], arrays[f"{number}.dice"] = np.array([column.epoch, column.step]), column.dice
        arrays |= {f"{number}.mask{row}": mask for row, mask in enumerate(column.masks)}
    with writing(file) as temporary:
        np.savez_compressed(temporary, **arrays)


def _load(file: Path, rows: int) -> list[_Column]:
    """The columns so far; none when they are not there, damaged, or of other cases."""
    columns = []
    try:
        with np.load(file, allow_pickle=False) as kept:
            while f"{len(columns)}.at" in kept:
                n = len(columns)
                masks = [kept[f"{n}.mask{row}"] for row in range(rows)]
                columns.append(_Column(*map(int, kept[f"{n}.at"]), kept[f"{n}.dice"], masks))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        return []
    return columns
