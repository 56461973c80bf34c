"""Post-processing for a head, chosen and judged on the held-out cases of a model's folds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.evaluation.choice import (
    HeldOut,
    choose_rules,
    compared,
    parts_of,
    rules_by_others,
    rules_that_hold,
)
from delightsam_pipeline.evaluation.metrics import Ids, case_metrics
from delightsam_pipeline.evaluation.postprocessing import Evidence, Postprocessing, postprocess, unit_of, voxel_size
from delightsam_pipeline.inference.held_out import held_out_labels
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.preprocessing.store import StoredCase

_Folds = Mapping[int, Sequence[StoredCase]]


def choose_postprocessing(
    folder: Path, head: str, plan: Plan, folds: _Folds, device: str = "auto"
) -> Postprocessing | None:
    """What is to be done to the label maps of a head, with evidence; None when all cases are one group.

    folder : holds fold_0, fold_1 ... folds : their held-out cases, as they are stored.
    Raises UserError as `held_out_labels` does. Label maps are read twice, one at a time.
    """
    targets, unit = plan.targets, unit_of(plan)
    cases = []
    for fold, case, labels in _each(folder, head, folds, device):
        reference, voxel = case.labels(), voxel_size(unit, case.back.grid)
        ids = _annotated(case, targets)
        parts = {name: parts_of(labels, reference, values, targets.ignore, voxel) for name, values in ids.items()}
        cases.append(HeldOut(case.name, fold, case.group or case.name, parts))
    by_others = rules_by_others(cases, targets.classes)
    if by_others is None:
        return None
    after = {}
    changed = {fold: [case for case in stored if by_others[case.name]] for fold, stored in folds.items()}
    for _, case, labels in _each(folder, head, changed, device):
        result = postprocess(labels, by_others[case.name], targets, voxel_size(unit, case.back.grid))
        after[case.name] = _dice(result, case, targets)
    honest = _evidence(cases, after, targets.classes)
    ids = dict(zip(targets.classes, targets.ids, strict=True))
    rules = rules_that_hold(choose_rules(cases, targets.classes), honest, ids)
    return Postprocessing(unit=unit, rules=rules, folds=list(folds), n_cases=len(cases), honest=honest)


def _each(folder: Path, head: str, folds: _Folds, device: str) -> Iterator[tuple[int, StoredCase, np.ndarray]]:
    """(fold, case, label map) of all cases."""
    total = sum(map(len, folds.values()))
    with tqdm(total=total, desc="held-out cases", disable=None, unit="case") as progress:
        for fold, stored in folds.items():
            for case, labels in held_out_labels(folder / f"fold_{fold}", head, stored, device):
                yield fold, case, labels
                progress.update()


def _annotated(case: StoredCase, targets: Labels) -> dict[str, Ids]:
    """The label values of the classes that a case's labels show."""
    every = enumerate(zip(targets.classes, targets.ids, strict=True))
    return {name: ids for k, (name, ids) in every if k not in case.not_annotated}


def _dice(labels: np.ndarray, case: StoredCase, targets: Labels) -> dict[str, float]:
    """Per annotated class; 1 where nothing is and nothing is found."""
    metrics = case_metrics(labels, case.labels(), _annotated(case, targets), targets.ignore)
    return {name: 1.0 if of_class["Dice"] is None else of_class["Dice"] for name, of_class in metrics.items()}


def _evidence(
    cases: Sequence[HeldOut], after: Mapping[str, Mapping[str, float]], classes: Sequence[str]
) -> dict[str, Evidence]:
    """Per class, the cases as they were against `after` (case -> class -> Dice, of those that were changed)."""
    found = {}
    for name in classes:
        known = [case for case in cases if name in case.parts]
        before = [case.parts[name].dice() for case in known]
        then = [after.get(case.name, {name: dice})[name] for case, dice in zip(known, before, strict=True)]
        if known:
            found[name] = compared(before, then, [case.group for case in known])
    return found
