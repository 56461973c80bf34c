"""Cases that are far from all others in size, spacing or intensity; far only, since data may well be varied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.formats import describe
from delightsam_pipeline.data.image import Grid
from delightsam_pipeline.plans.findings import Finding

if TYPE_CHECKING:
    from delightsam_pipeline.plans.looks import Look

_ENOUGH = 10  # cases, before there is anything usual
_FAR = 8.0  # deviations, each the median absolute one as that of a normal distribution
_LEAST_DEVIATION = 0.1  # of a logarithm: where all others are equal
_MOST, _MOST_SHARE = 3, 0.05  # more than both are no outliers but another kind
_SIZE, _SPACING, _RANGE = 8.0, 3.0, 8.0  # times the median's
_SHIFT = 1.5  # typical deviations of an image's own intensities


def outliers(looks: Mapping[str, Look], cases: Mapping[str, Case]) -> list[Finding]:
    """What is far out; looks, cases : by name."""
    names = sorted(looks)
    if len(names) < _ENOUGH:
        return []
    facts = [looks[name].facts for name in names]
    found = []

    def tell(chosen: np.ndarray, problem: str, details: list[str], fix: str) -> None:
        for i in np.flatnonzero(chosen):
            file, text = str(cases[names[i]].images[0]), f"{problem}; {details[i]}"
            found.append(Finding(level="warning", file=file, problem=text, fix=fix, case=names[i]))

    grids = [describe(Grid(fact.shape, fact.spacing, physical=fact.physical)) for fact in facts]
    voxels = np.array([float(np.prod(fact.shape)) for fact in facts])
    ratios = voxels / np.median(voxels)
    compared = [f"{r:.3g} times more" if r > 1 else f"{1 / r:.3g} times less" for r in ratios]
    details = [f"found {grid}, {than} than the median case" for grid, than in zip(grids, compared, strict=True)]
    fix = "check that the file is what it should be: whole, not a thumbnail, of the same kind"
    tell(_far_in_ratio(voxels, _SIZE), "is far from the usual size", details, fix)

    if all(fact.physical for fact in facts):
        spacing = np.array([fact.spacing for fact in facts])
        usual = " x ".join(f"{s:.4g}" for s in np.median(spacing, axis=0)[::-1])
        details = [f"found {grid}, the median is {usual} mm" for grid in grids]
        chosen = np.logical_or.reduce([_far_in_ratio(spacing[:, axis], _SPACING) for axis in range(3)])
        tell(_few(chosen), "is far from the usual spacing", details, "check the header, or leave the case out")

    channels = min(len(fact.intensities) for fact in facts)
    for channel in range(channels):
        chosen, details = _far_in_intensity([fact.intensities[channel] for fact in facts], facts[0].physical)
        fix = "check that it is in the same unit and stored as the others are, not rescaled"
        tell(chosen, "is far from the usual intensities", details, fix)
        if chosen.any():
            break  # the channels of a picture go together
    return found


def _far_in_intensity(summaries: list[dict[str, float]], measured: bool) -> tuple[np.ndarray, list[str]]:
    """Which images have another range than all others, and what each has.

    measured : whether values mean more than brightness; then another mean counts too.
    """
    low, high, mean, std = (
        np.array([s[key] for s in summaries]) for key in ("percentile_00_5", "percentile_99_5", "mean", "std")
    )
    chosen = _far_in_ratio(high - low, _RANGE)
    distance = np.abs(mean - np.median(mean))
    deviation = max(1.4826 * float(np.median(distance)), _LEAST_DEVIATION * float(np.median(std)))
    chosen |= measured & _few((distance > _FAR * deviation) & (distance > _SHIFT * np.median(std)))
    usual = f"the medians are {np.median(low):.4g} to {np.median(high):.4g} and {np.median(mean):.4g}"
    details = [f"found {a:.4g} to {b:.4g}, mean {m:.4g}; {usual}" for a, b, m in zip(low, high, mean, strict=True)]
    return chosen, details


def _far_in_ratio(values: np.ndarray, ratio: float) -> np.ndarray:
    """Which values are `ratio` times the median or a part of it, and far from it by what is usual here; 0 never is."""
    told = values > 0
    if not told.any():
        return told
    logs = np.log(np.where(told, values, np.median(values[told])))
    distance = np.abs(logs - np.median(logs))
    deviation = max(1.4826 * float(np.median(distance)), _LEAST_DEVIATION)
    return _few(told & (distance > _FAR * deviation) & (distance > np.log(ratio)))


def _few(chosen: np.ndarray) -> np.ndarray:
    """The choice, or none of it when it is not a few."""
    return chosen & (chosen.sum() <= max(_MOST, _MOST_SHARE * len(chosen)))
