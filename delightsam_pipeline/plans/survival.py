"""How much of a mask survives on a coarser grid: what the planner needs to know to choose a resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# side of a mask cell in the image's own pixels
CELLS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
_SLICES = 12
_PIXELS = 2**20  # of the slices that are worked on at once


def survival(
    masks: np.ndarray, corner: tuple[int, int] = (0, 0), size: tuple[int, int] | None = None
) -> list[float] | None:
    """Dice of masks with themselves after area averaging to cells and bilinear return, per CELLS.

    masks : [Z, h, w] bool, which begin at `corner` of slices of `size` (H, W) that hold nothing else; by default they
    are the whole slices. At most 12 slices with foreground are looked at, evenly spaced; None when there is none.
    """
    filled = np.flatnonzero(masks.any(axis=(1, 2)))
    if filled.size == 0:
        return None
    filled = filled[np.linspace(0, filled.size - 1, min(_SLICES, filled.size)).round().astype(int)]
    size = size or masks.shape[1:]
    height, width = masks.shape[1:]
    sides = [
        tuple(_side(*side, cell) for side in zip(size, corner, (height, width), strict=True)) for cell in CELLS[1:]
    ]
    common, returned, total = np.zeros(len(sides), int), np.zeros(len(sides), int), 0
    at_once = max(1, _PIXELS // (height * width))
    for begin in range(0, len(filled), at_once):
        part = masks[filled[begin : begin + at_once]]
        sums = np.zeros((len(part), height + 1, width + 1), np.int32)  # of the mask above and left of each corner
        part.cumsum(axis=1, dtype=np.int32).cumsum(axis=2, out=sums[:, 1:, 1:])
        total += int(np.count_nonzero(part))
        for number, (rows, columns) in enumerate(sides):
            back = _there_and_back(sums, rows, columns)
            returned[number] += np.count_nonzero(back)
            common[number] += np.count_nonzero(back[:, rows.mask, columns.mask] & part)
    return [1.0, *(2 * common / (total + returned)).tolist()]


@dataclass(frozen=True)
class _Side:
    """One axis of a coarser grid, near a mask.

    low, high : pixels of the mask's part of each cell, places in its running sums; length : all pixels of each cell.
    left, right, share : for every pixel that may come back, the cells it lies between and how far it is to the right.
    mask : where the mask lies among these pixels.
    """

    low: np.ndarray
    high: np.ndarray
    length: np.ndarray
    left: np.ndarray
    right: np.ndarray
    share: np.ndarray
    mask: slice


def _side(pixels: int, corner: int, extent: int, cell: float) -> _Side:
    """Pixels corner to corner + extent of an axis of so many, on cells of about this many.

    A pixel belongs to the cell in which its centre lies. One cell more on either side is looked at, since pixels
    there may come back.
    """
    count = max(1, round(pixels / cell))
    scale = pixels / count
    centres = (np.arange(count) + 0.5) * scale
    low, high = ((centres + half * scale + 0.5).astype(int) for half in (-0.5, 0.5))
    near = np.flatnonzero((high > corner) & (low < corner + extent))
    first, last = max(near[0] - 1, 0), min(near[-1] + 1, count - 1)
    low, high = low[first : last + 1], high[first : last + 1]
    places = (np.arange(low[0], high[-1]) + 0.5) / scale - 0.5
    left = np.floor(places).astype(int)
    return _Side(
        _held(low - corner, extent),
        _held(high - corner, extent),
        high - low,
        _held(left - first, last - first),
        _held(left - first + 1, last - first),
        (places - left).astype(np.float32),
        slice(int(corner - low[0]), int(corner - low[0]) + extent),
    )


def _held(places: np.ndarray, most: int) -> np.ndarray:
    """Places from 0 to most; numpy's clip takes longer to begin than this takes in all."""
    return np.minimum(np.maximum(places, 0), most)


def _there_and_back(sums: np.ndarray, rows: _Side, columns: _Side) -> np.ndarray:
    """Which pixels are of the mask after averaging to cells and bilinear return, bool [Z, h, w] of both sides."""
    cells = sums[:, rows.high] - sums[:, rows.low]
    cells = cells[:, :, columns.high] - cells[:, :, columns.low]
    cells = (cells / np.outer(rows.length, columns.length)).astype(np.float32)
    wide = _between(cells[:, :, columns.left], cells[:, :, columns.right], columns.share)
    return _between(wide[:, rows.left], wide[:, rows.right], rows.share[:, None]) >= 0.5


def _between(left: np.ndarray, right: np.ndarray, share: np.ndarray) -> np.ndarray:
    """left + (right - left) * share, in the memory of `right`: whole pictures pass here many times."""
    right -= left
    right *= share
    right += left
    return right


def surviving(curve: Sequence[float], cell: float) -> float:
    """The curve's value at any cell size, linear in the logarithm of the size."""
    return float(np.interp(np.log(cell), np.log(CELLS), curve))


def largest_cell(curve: Sequence[float], threshold: float) -> float:
    """The largest cell up to which the curve reaches the threshold, between 1 and 32."""
    sizes = np.geomspace(CELLS[0], CELLS[-1], 161)
    reached = np.array([surviving(curve, size) for size in sizes]) >= threshold
    count = len(sizes) if reached.all() else int(reached.argmin())
    return float(sizes[max(count - 1, 0)])
