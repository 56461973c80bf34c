"""Which post-processing helps: chosen on predictions of held-out cases, and judged on cases it was not chosen on.

All is decided from the parts of the predictions: their sizes, and how much of each is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from delightsam_pipeline.evaluation.intervals import mean_intervals
from delightsam_pipeline.evaluation.metrics import Ids, label_mask
from delightsam_pipeline.evaluation.postprocessing import Evidence, Rule, kept, numbered_parts

LEAST_GAIN, FEWEST_BETTER = 0.001, 3
_QUANTILES, _SHARES = (0.05, 0.25), (0.1, 0.5, 1.0)
_ONE_PART = 0.95


@dataclass(frozen=True)
class Parts:
    """The connected parts of one class in a case, predicted and true.

    sizes : [n] of predicted parts, in the unit of rules. hits, counted : [n] voxels of each that are right, and that
    count at all (the reference may leave some out). true_sizes : [m] of the parts of the reference. n_true : voxels of
    the reference.
    """

    sizes: np.ndarray
    hits: np.ndarray
    counted: np.ndarray
    true_sizes: np.ndarray
    n_true: int

    def dice(self, rule: Rule | None = None) -> float:
        """Dice of the parts that the rule keeps; 1 where nothing is and nothing is kept."""
        keep = slice(None) if rule is None else kept(self.sizes, rule)
        total = int(self.counted[keep].sum()) + self.n_true
        return 2 * int(self.hits[keep].sum()) / total if total else 1.0


def parts_of(prediction: np.ndarray, reference: np.ndarray, ids: Ids, ignore: int | None, voxel: float) -> Parts:
    """The parts of a target in two label maps [z y x]; `voxel` is the size of one in the unit of rules."""
    true = label_mask(reference, ids)
    of_reference = numbered_parts(true)
    true_sizes = np.zeros(0) if of_reference is None else of_reference[2] * voxel
    n_true = int(np.count_nonzero(true))
    found = numbered_parts(label_mask(prediction, ids))
    if found is None:
        return Parts(np.zeros(0), np.zeros(0, int), np.zeros(0, int), true_sizes, n_true)
    box, numbers, voxels = found
    hits = np.bincount(numbers[true[box]], minlength=len(voxels) + 1)[1:]
    left_out = 0
    if ignore is not None:
        left_out = np.bincount(numbers[reference[box] == ignore], minlength=len(voxels) + 1)[1:]
    return Parts(voxels * voxel, hits, voxels - left_out, true_sizes, n_true)


def choose(cases: Sequence[Parts], groups: Sequence[str]) -> Rule | None:
    """The rule that raises the mean Dice of a class the most, or None when none is sure to help.

    A rule must raise the mean by more than 0.001 and at least three cases; the 95 % interval of the mean difference
    must hold nothing below 0, and under ten groups, where there is none, no case may become worse. Of equally good
    ones the gentlest is taken.
    """
    before = [case.dice() for case in cases]
    found = []
    for rule in candidates(cases):
        evidence = compared(before, [case.dice(rule) for case in cases], groups)
        if _helps(evidence):
            found.append(rule.model_copy(update={"evidence": evidence}))
    return max(found, key=lambda rule: round(rule.evidence.gain, 4), default=None)


def candidates(cases: Sequence[Parts]) -> list[Rule]:
    """Rules to be tried, the gentlest first; the sizes come from what true parts measure in these cases.

    A tenth and a half of the size that 95 % of true parts have, that size, and the one that 75 % have. The largest
    part alone is tried when it is nearly all of the class in every case.
    """
    sizes = np.concatenate([np.zeros(0), *(case.true_sizes for case in cases)])
    if not sizes.size:
        return []
    small, middle = np.quantile(sizes, _QUANTILES)
    tried = {float(f"{size:.4g}") for size in [*(share * small for share in _SHARES), middle]}
    rules = [Rule(operation="remove_smaller", size=size) for size in sorted(tried)]
    there = [case.true_sizes for case in cases if case.true_sizes.size]
    if all(of_case.max() >= _ONE_PART * of_case.sum() for of_case in there):
        rules.append(Rule(operation="keep_largest"))
    return rules


def compared(before: Sequence[float], after: Sequence[float], groups: Sequence[str]) -> Evidence:
    """Two Dice values of each case, as evidence; `groups` says which cases belong together."""
    differences = np.subtract(after, before)
    ((interval,),), _ = mean_intervals(differences[:, None, None], groups)
    return Evidence(
        n_cases=len(before),
        n_groups=len(set(groups)),
        without_rules=float(np.mean(before)),
        with_rules=float(np.mean(after)),
        interval=None if interval is None else tuple(interval),
        n_better=int(np.count_nonzero(differences > 1e-9)),
        n_worse=int(np.count_nonzero(differences < -1e-9)),
    )


def _helps(evidence: Evidence) -> bool:
    harmless = evidence.n_worse == 0 if evidence.interval is None else evidence.interval[0] >= 0
    return evidence.gain > LEAST_GAIN and evidence.n_better >= FEWEST_BETTER and harmless


@dataclass(frozen=True)
class HeldOut:
    """A held-out case: its fold, group, and the parts per class of those that were annotated in it."""

    name: str
    fold: int
    group: str
    parts: Mapping[str, Parts]


def choose_rules(cases: Sequence[HeldOut], classes: Sequence[str]) -> dict[str, Rule]:
    """The rules of all classes that get one."""
    rules = {}
    for name in classes:
        known = [case for case in cases if name in case.parts]
        rule = choose([case.parts[name] for case in known], [case.group for case in known])
        if rule is not None:
            rules[name] = rule
    return rules


def rules_by_others(cases: Sequence[HeldOut], classes: Sequence[str]) -> dict[str, dict[str, Rule]] | None:
    """Case -> the rules chosen on cases of other folds, or with a single fold, on four fifths of its groups.

    None when all cases are one group.
    """
    part = {case.name: case.fold for case in cases}
    if len(set(part.values())) == 1:
        groups = sorted({case.group for case in cases})
        part = {case.name: groups.index(case.group) % 5 for case in cases}
    if len(set(part.values())) == 1:
        return None
    chosen = {p: choose_rules([c for c in cases if part[c.name] != p], classes) for p in set(part.values())}
    return {name: chosen[p] for name, p in part.items()}


def rules_that_hold(
    rules: Mapping[str, Rule], honest: Mapping[str, Evidence], ids: Mapping[str, Ids]
) -> dict[str, Rule]:
    """Those rules whose class gains on cases of others, where no class that shares label values with it loses.

    `honest` has thereby decided what is kept, so for kept rules it looks a little too good again.
    """
    worse = [set(ids[name]) for name, evidence in honest.items() if evidence.gain < 0]
    gaining = {name: rule for name, rule in rules.items() if name in honest and honest[name].gain > 0}
    return {name: rule for name, rule in gaining.items() if not any(values & set(ids[name]) for values in worse)}
