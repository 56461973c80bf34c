"""Which cases a report shows, and why: few that span the dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.plans.fingerprint import Fingerprint
from delightsam_pipeline.plans.looks import CaseFacts

MOST = 8
_ENOUGH = 6
_FAR = 3.0  # deviations, by the median of all, from which a case is an outlier
_LEAST = 0.1  # of a logarithm; what differs from the median by less is none


def foreground(case: CaseFacts, labels: Labels) -> float:
    """The size of all classes together, ml or pixels; of regions, which overlap, that of the largest."""
    sizes = list(case.volume.values())
    return max(sizes) if labels.has_regions else sum(sizes)


def choose(print_: Fingerprint, labels: Labels) -> dict[str, list[str]]:
    """Case name -> why it is shown: at most MOST cases, in the order in which they were chosen."""
    chosen: dict[str, list[str]] = {}

    def take(case: CaseFacts | None, reason: str) -> None:
        if case is not None and (case.name in chosen or len(chosen) < MOST):
            chosen.setdefault(case.name, []).append(reason)

    def size(case: CaseFacts) -> float:
        return foreground(case, labels)

    filled = sorted((case for case in print_.cases if size(case)), key=size)
    if filled:
        take(filled[0], "the smallest foreground")
        take(filled[len(filled) // 2], "the median foreground")
        take(filled[-1], "the largest foreground")
    take(_outlier(print_.cases, lambda case: np.log(np.prod(case.shape)), _LEAST), "unusual in size")
    take(_outlier(print_.cases, lambda case: np.log(np.prod(case.spacing)), _LEAST), "unusual in spacing")
    take(_outlier(print_.cases, lambda case: case.intensities[0]["mean"], 0.0), "unusual in intensity")
    take(next((case for case in print_.cases if not size(case)), None), "no foreground")
    named = {finding.case for finding in print_.findings} - {None, *chosen}
    take(next((case for case in print_.cases if case.name in named), None), "named in the findings")
    _take_classes(filled, labels, chosen, take)
    for quarter in (1, 3) if filled and len(chosen) < _ENOUGH else ():
        take(filled[len(filled) * quarter // 4], f"the foreground is larger than in {quarter} of 4 cases")
    return chosen


def _take_classes(filled: Sequence[CaseFacts], labels: Labels, chosen: dict[str, list[str]], take) -> None:
    """Cases for the classes that none of the chosen holds, those with most of these classes first."""
    held = {case.name: {name for name in labels.classes if case.voxels.get(name)} for case in filled}
    missing = set().union(*held.values()) - set().union(*(held.get(name, set()) for name in chosen))
    while missing and len(chosen) < MOST:
        case = max(filled, key=lambda case: len(held[case.name] & missing))
        found = [name for name in labels.classes if name in held[case.name] & missing]
        take(case, "holds " + ", ".join(found))
        missing -= set(found)


def _outlier(cases: Sequence[CaseFacts], measure: Callable[[CaseFacts], float], least: float) -> CaseFacts | None:
    """The case furthest from the median, when that is far for this dataset and more than `least`; None else."""
    values = np.array([measure(case) for case in cases])
    away = np.abs(values - np.median(values))
    furthest = int(away.argmax())
    far = max(_FAR * 1.4826 * float(np.median(away)), least)
    return cases[furthest] if away[furthest] > far else None
