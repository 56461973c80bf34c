"""How sure a mean is: percentile bootstrap intervals over groups of cases that belong together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEVEL, RESAMPLES, FEWEST_GROUPS = 0.95, 2000, 10
_SEED = 12345
_AT_ONCE = 100  # resamples, so that memory stays small with very many groups
Interval = list[float] | None


def mean_intervals(values: np.ndarray, groups: Sequence[str]) -> tuple[list[list[Interval]], list[Interval]]:
    """Intervals [low, high] of the means over cases: per class and metric, and per metric of the mean over classes.

    values : [cases, classes, metrics]; NaN where a metric is not defined.
    groups : of each case; whole groups are drawn, since cases of one patient are alike.

    None where fewer than ten groups have a value; the mean over classes needs an interval of every class in it.
    """
    _, classes, metrics = values.shape
    if len(set(groups)) < FEWEST_GROUPS:
        return [[None] * metrics for _ in range(classes)], [None] * metrics
    means = _resampled_means(values, groups)
    defined = ~np.isnan(values)
    names = np.asarray(groups)
    known = np.array([[len(set(names[column])) for column in of_class.T] for of_class in defined.swapaxes(0, 1)])
    per_class = [
        [_interval(means[:, c, m]) if known[c, m] >= FEWEST_GROUPS else None for m in range(metrics)]
        for c in range(classes)
    ]
    overall: list[Interval] = []
    for m in range(metrics):
        there = known[:, m] > 0
        sure = there.any() and (known[there, m] >= FEWEST_GROUPS).all()
        overall.append(_interval(_mean(means[:, there, m])) if sure else None)
    return per_class, overall


def _resampled_means(values: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """[RESAMPLES, ...] means over the cases of as many groups as there are, drawn with replacement.

    values : [cases, ...] with NaN where not defined; NaN where no case of a draw is defined.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    flat = values.reshape(len(values), -1)
    sums, counts = np.zeros((2, len(names), flat.shape[1]))
    np.add.at(sums, member, np.nan_to_num(flat))
    np.add.at(counts, member, ~np.isnan(flat))
    random, share, parts = np.random.default_rng(_SEED), np.full(len(names), 1 / len(names)), []
    for _ in range(RESAMPLES // _AT_ONCE):
        drawn = random.multinomial(len(names), share, _AT_ONCE)
        with np.errstate(invalid="ignore"):
            parts.append((drawn @ sums) / (drawn @ counts))
    return np.concatenate(parts).reshape(RESAMPLES, *values.shape[1:])


def _mean(means: np.ndarray) -> np.ndarray:
    """Mean over the classes [resamples, classes] that a resample has."""
    counts = np.count_nonzero(~np.isnan(means), axis=1)
    return np.nansum(means, axis=1) / np.where(counts, counts, np.nan)


def _interval(means: np.ndarray) -> Interval:
    low, high = np.nanpercentile(means, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return [float(low), float(high)]
