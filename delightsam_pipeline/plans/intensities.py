"""Intensity statistics that add up over cases: exact for whole numbers, quantile sketches for fractions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_SKETCH = 20001


@dataclass(frozen=True)
class Values:
    """A weighted set of intensities that stands for many voxels.

    values [N] sorted, counts [N] voxels each stands for; minimum and maximum are exact.
    """

    values: np.ndarray
    counts: np.ndarray

    @staticmethod
    def of(array: np.ndarray) -> Values:
        """Summarise an array: every distinct value when they are few, else 20,001 evenly spaced quantiles."""
        flat = np.sort(array, axis=None)
        if flat.size == 0:
            return Values(np.zeros(0), np.zeros(0))
        new = np.concatenate([[True], flat[1:] != flat[:-1]])
        places = np.flatnonzero(new)
        if places.size <= 2**16:
            return Values(flat[places].astype(float), np.diff(np.append(places, flat.size)).astype(float))
        picks = np.linspace(0, flat.size - 1, _SKETCH).round().astype(int)
        return Values(flat[picks].astype(float), np.full(_SKETCH, flat.size / _SKETCH))

    @staticmethod
    def merged(parts: Sequence[Values]) -> Values:
        """The union of several sets."""
        values = np.concatenate([p.values for p in parts])
        order = np.argsort(values, kind="stable")
        return Values(values[order], np.concatenate([p.counts for p in parts])[order])

    def summary(self) -> dict[str, float]:
        """mean, std, min, max, median and the 0.5 and 99.5 percentiles; empty when there is nothing."""
        total = self.counts.sum()
        if not total:
            return {}
        mean = float((self.values * self.counts).sum() / total)
        variance = float((np.square(self.values - mean) * self.counts).sum() / total)
        low, median, high = self.percentiles((0.5, 50, 99.5))
        return {
            "mean": mean,
            "std": variance**0.5,
            "min": float(self.values[0]),
            "max": float(self.values[-1]),
            "median": median,
            "percentile_00_5": low,
            "percentile_99_5": high,
        }

    def percentiles(self, at: Sequence[float]) -> list[float]:
        """Percentiles with linear interpolation between voxels, as numpy's over the full array."""
        ends = np.cumsum(self.counts)
        places = np.asarray(at) / 100 * (ends[-1] - 1)
        below, above = np.floor(places), np.ceil(places)
        low = self.values[np.searchsorted(ends, below, side="right").clip(max=ends.size - 1)]
        high = self.values[np.searchsorted(ends, above, side="right").clip(max=ends.size - 1)]
        return [float(v) for v in low + (high - low) * (places - below)]
