"""How much of a mask survives on a coarser grid: what the planner needs to know to choose a resolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image as Picture

# side of a mask cell in the image's own pixels
CELLS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
_SLICES = 12


def survival(masks: np.ndarray) -> list[float] | None:
    """Dice of masks [Z, H, W] (bool) with themselves after area averaging to cells and bilinear return, per CELLS.

    At most 12 slices with foreground are looked at, evenly spaced; None when there is no foreground.
    """
    filled = np.flatnonzero(masks.any(axis=(1, 2)))
    if filled.size == 0:
        return None
    filled = filled[np.linspace(0, filled.size - 1, min(_SLICES, filled.size)).round().astype(int)]
    return [_dice_through(masks[filled], cell) for cell in CELLS]


def _dice_through(masks: np.ndarray, cell: float) -> float:
    if cell == 1:
        return 1.0
    common = total = 0
    for mask in masks:
        height, width = mask.shape
        picture = Picture.fromarray(mask.astype(np.float32))
        small = picture.resize((max(1, round(width / cell)), max(1, round(height / cell))), Picture.Resampling.BOX)
        back = np.asarray(small.resize((width, height), Picture.Resampling.BILINEAR)) >= 0.5
        common += int((mask & back).sum())
        total += int(mask.sum()) + int(back.sum())
    return 2 * common / total


def surviving(curve: Sequence[float], cell: float) -> float:
    """The curve's value at any cell size, linear in the logarithm of the size."""
    return float(np.interp(np.log(cell), np.log(CELLS), curve))


def largest_cell(curve: Sequence[float], threshold: float) -> float:
    """The largest cell up to which the curve reaches the threshold, between 1 and 32."""
    sizes = np.geomspace(CELLS[0], CELLS[-1], 161)
    reached = np.array([surviving(curve, size) for size in sizes]) >= threshold
    count = len(sizes) if reached.all() else int(reached.argmin())
    return float(sizes[max(count - 1, 0)])
