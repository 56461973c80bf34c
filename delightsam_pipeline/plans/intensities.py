"""Intensity statistics that add up over cases, in bounded memory: exact for whole numbers, near for fractions.

Voxels are counted by value. Whole numbers of at most 16 bits have at most 65,536 values. Of fractions, values that lie
close together are counted as one, in the middle of the lowest and highest of them. Counts stay whole, so a percentile
is always read at its own place in the order, on either side of any gap; only its value is rounded, by how much
`_starts` says. Mean and deviation are summed apart, and are not rounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

_BLOCK = 2**22  # voxels sorted at once
_DISTINCT = 2**13  # fractions of one case that are kept as they are
_MERGED = 2**18  # and of many cases: more than whole numbers of 16 bits, signed and unsigned, can have
_WIDTHS = 2048  # cells between the 0.5 and 99.5 percentiles
_TAIL = 1024  # beyond them a cell is wider by this share of the distance
_RANKS = 256  # cells are as narrow as to hold p (1 - p) / 256 of the voxels, where p of them are lower
_FINER = 8  # cells of many cases, so that rounding again and again adds little


@dataclass(frozen=True)
class Values:
    """How often each intensity occurs.

    values [N] float, rising; counts [N] whole numbers; mean, and squares (the sum of squared distances from it), of
    the voxels before any rounding. The lowest and highest values are exact.
    """

    values: np.ndarray
    counts: np.ndarray
    mean: float = 0.0
    squares: float = 0.0

    @staticmethod
    def of(array: np.ndarray) -> Values:
        """Count the values of an array of any shape, finite numbers all of them."""
        flat = array.reshape(-1)
        kept = 2**16 if array.dtype.kind in "iub" and array.dtype.itemsize <= 2 else _DISTINCT
        found = Values.merged(_bounded(_counted(flat[i : i + _BLOCK])) for i in range(0, flat.size, _BLOCK))
        return found._rounded(1) if found.values.size > kept else found

    @staticmethod
    def merged(parts: Iterable[Values]) -> Values:
        """The union of several sets; memory does not grow with their number."""
        whole, waiting, size = _NOTHING, [], 0
        for part in parts:
            waiting.append(part)
            size += part.values.size
            if size > 4 * _MERGED:
                whole, waiting, size = _bounded(_union([whole, *waiting])), [], 0
        return _bounded(_union([whole, *waiting]))

    def repeated(self, total: int) -> Values:
        """Every voxel equally often, so that there are about `total`: sets of any size then count the same."""
        times = total // max(1, int(self.counts.sum()))
        return Values(self.values, self.counts.astype(np.int64) * times, self.mean, self.squares * times)

    def summary(self) -> dict[str, float]:
        """mean, std, min, max, median and the 0.5 and 99.5 percentiles; empty when there is nothing."""
        if not self.values.size:
            return {}
        low, median, high = self.percentiles((0.5, 50, 99.5))
        return {
            "mean": self.mean,
            "std": float((self.squares / self.counts.sum()) ** 0.5),
            "min": float(self.values[0]),
            "max": float(self.values[-1]),
            "median": median,
            "percentile_00_5": low,
            "percentile_99_5": high,
        }

    def percentiles(self, at: Sequence[float]) -> list[float]:
        """Percentiles (0 to 100) with linear interpolation between voxels, as numpy's over the full array."""
        ends = np.cumsum(self.counts)
        places = np.asarray(at) / 100 * (int(ends[-1]) - 1)
        below = np.floor(places)
        low, high = (self.values[np.searchsorted(ends, place, "right")] for place in (below, np.ceil(places)))
        low, high = low.astype(float), high.astype(float)
        return [float(v) for v in low + (high - low) * (places - below)]

    def _rounded(self, finer: int) -> Values:
        """The same voxels with close values counted as one."""
        starts = _starts(self.values, self.counts, finer)
        ends = np.append(starts[1:], self.values.size) - 1
        middles = self.values[starts] / 2 + self.values[ends] / 2
        single = starts == ends
        middles[single] = self.values[starts[single]]
        return Values(middles, np.add.reduceat(self.counts, starts), self.mean, self.squares)


_NOTHING = Values(np.zeros(0, np.float32), np.zeros(0, np.int64))


def _starts(values: np.ndarray, counts: np.ndarray, finer: int) -> np.ndarray:
    """Where cells begin among rising values [N]; a new one begins wherever one of these rules wants it.

    By width: equal cells over the inner range, 0.5 to 99.5 %, so that its values are off by 1/4096 of it at most.
    Beyond it a value is off by 1/2048 of its distance from it more, whatever the other cases' range will be.
    By rank: for when this case's own range is far wider than that of all cases, and one width cell holds most of them.
    The lowest and the highest value, and those at the ends of the inner range, are cells of their own.
    """
    before = np.cumsum(counts) - counts
    total = int(before[-1] + counts[-1])
    places = np.array([np.floor(0.005 * (total - 1)), np.ceil(0.995 * (total - 1))])
    exact = values[[0, *(np.searchsorted(before, places, "right") - 1), -1]].astype(float)
    low, high = exact[1:3]
    width = max((high - low) / (_WIDTHS * finer), float(np.finfo(np.float32).tiny))
    tail = _TAIL * finer
    edges = [low + width * np.arange(1, _WIDTHS * finer)]
    for end, farthest in ((low, exact[0]), (high, exact[-1])):
        count = int(tail * np.log1p(abs(farthest - end) / width / tail))
        edges.append(end + np.sign(farthest - end) * width * tail * np.expm1(np.arange(1, count + 1) / tail))
    odds = np.arange(1, int(_RANKS * finer * np.log(total)) + 1) / (_RANKS * finer)
    ranks = total / (1 + np.exp(np.concatenate([odds, -odds])))
    starts = [np.searchsorted(values, np.concatenate(edges)), np.searchsorted(before, ranks)]
    starts += [np.searchsorted(values, exact), np.searchsorted(values, exact, "right")]
    found = np.unique(np.concatenate([[0], *starts]))
    return found[found < values.size]


def _counted(flat: np.ndarray) -> Values:
    """Every distinct value of a block [N]."""
    if flat.dtype.kind in "iub" and flat.dtype.itemsize <= 2:
        lowest = int(flat.min())
        counts = np.bincount(flat.astype(np.intp) - lowest)
        places = np.flatnonzero(counts)
        values, counts = (places + lowest).astype(np.float32), counts[places]
    else:
        values, counts = np.unique(flat, return_counts=True)
        values = values.astype(np.result_type(values, np.float32), copy=False)
    precise = values.astype(float)
    mean = float(np.dot(precise, counts) / flat.size)
    return Values(values, counts, mean, float(np.dot(np.square(precise - mean), counts)))


def _union(parts: Sequence[Values]) -> Values:
    """Several sets as one, equal values counted together."""
    parts = [part for part in parts if part.values.size]
    if len(parts) < 2:
        return parts[0] if parts else _NOTHING
    values, places = np.unique(np.concatenate([part.values for part in parts]), return_inverse=True)
    counts = np.bincount(places, np.concatenate([part.counts for part in parts])).astype(np.int64)
    sizes = np.array([part.counts.sum() for part in parts], float)
    means = np.array([part.mean for part in parts])
    mean = float(np.dot(sizes, means) / sizes.sum())
    squares = sum(part.squares for part in parts) + float(np.dot(sizes, np.square(means - mean)))
    return Values(values, counts, mean, squares)


def _bounded(values: Values) -> Values:
    return values._rounded(_FINER) if values.values.size > _MERGED else values
