"""What is removed from predicted label maps: small parts of a class, or all of its parts but the largest.

Each class of a head is left as it is or has one rule. Parts are connected through faces, edges and corners, in 3D in
volumes and in 2D in pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from delightsam_pipeline.data.image import Grid
from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.evaluation.metrics import Ids, label_mask
from delightsam_pipeline.plans.plan import Plan, Strict

Unit = Literal["mm3", "px", "share"]
_Count = Annotated[int, Field(ge=0)]


class Evidence(Strict):
    """A class's mean Dice over cases, without rules and with them; a case where nothing is and nothing is found has 1.

    interval : of the mean difference, 95 %, None under ten groups of cases.
    """

    n_cases: _Count
    n_groups: _Count
    without_rules: float
    with_rules: float
    interval: tuple[float, float] | None
    n_better: _Count
    n_worse: _Count

    @property
    def gain(self) -> float:
        """Of Dice, by the rules."""
        return self.with_rules - self.without_rules


class Rule(Strict):
    """What is done to one class.

    operation : "keep_largest" keeps the largest part; "remove_smaller" removes the parts under `size`, in the unit of
    its Postprocessing. evidence : on the cases that it was chosen on, so that it looks a little too good.
    """

    operation: Literal["keep_largest", "remove_smaller"]
    size: Annotated[float, Field(gt=0)] | None = None
    evidence: Evidence | None = None

    @model_validator(mode="after")
    def _sized(self) -> Rule:
        if (self.size is None) != (self.operation == "keep_largest"):
            raise ValueError("'remove_smaller' needs a size, 'keep_largest' has none")
        return self


class Postprocessing(Strict):
    """The rules of a head by class, and what they were chosen on.

    unit : of sizes: mm3, px (pixels), or share (of the image). folds : whose held-out cases these were.
    honest : per class, Dice without any rule and with those that were chosen on other cases.
    """

    unit: Unit
    rules: dict[str, Rule]
    folds: list[_Count]
    n_cases: _Count
    honest: dict[str, Evidence] = Field(default_factory=dict)


def unit_of(plan: Plan) -> Unit:
    """mm3 for volumes; pixels where these are of one size in all pictures, else the share of the picture."""
    if plan.physical:
        return "mm3"
    return "share" if plan.scaling == "fit" else "px"


def voxel_size(unit: Unit, grid: Grid) -> float:
    """What one voxel of a grid measures in the unit."""
    return {"mm3": math.prod(grid.spacing), "px": 1.0, "share": 1 / math.prod(grid.shape)}[unit]


def numbered_parts(mask: np.ndarray) -> tuple[tuple[slice, ...], np.ndarray, np.ndarray] | None:
    """(box, numbers, voxels) of the parts of a mask [z y x] bool; None when it is empty.

    box : the smallest around the mask. numbers : of the parts from 1 on, in the box, 0 outside. voxels : [parts].
    """
    from scipy import ndimage  # takes a third of a second to import

    boxes = ndimage.find_objects(mask.view(np.uint8))
    if not boxes:
        return None
    numbers, count = ndimage.label(mask[boxes[0]], np.ones((3, 3, 3)))
    return boxes[0], numbers, sum(np.bincount(one.ravel(), minlength=count + 1) for one in numbers)[1:]


def kept(sizes: np.ndarray, rule: Rule) -> np.ndarray:
    """Which parts of these sizes [parts] a rule keeps, bool; of several largest the first."""
    if rule.operation == "remove_smaller":
        return sizes >= rule.size
    return np.arange(len(sizes)) == (np.argmax(sizes) if len(sizes) else 0)


def postprocess(labels: np.ndarray, rules: Mapping[str, Rule], targets: Labels, voxel: float) -> np.ndarray:
    """Label map [z y x] after the rules, a copy; `voxel` is the size of one in the unit of the rules.

    Removed voxels stay in as many of their other targets as they can, and come into none: background for classes,
    and for a region within a larger one what that is painted with. The largest regions come first.
    """
    labels = labels.copy()
    for name, ids in sorted(zip(targets.classes, targets.ids, strict=True), key=lambda target: -len(target[1])):
        found = numbered_parts(label_mask(labels, ids)) if name in rules else None
        if found is None:
            continue
        box, numbers, voxels = found
        keep = kept(voxels * voxel, rules[name])
        if keep.all():
            continue
        gone, becomes = ~np.concatenate([[True], keep]), _replacements(targets, ids, labels.dtype)
        for one, numbered in zip(labels[box], numbers, strict=True):  # by slice, since numpy indexes with 8 bytes each
            removed = gone[numbered]
            one[removed] = becomes[one[removed]]
    return labels


def _replacements(targets: Labels, removed_from: Ids, dtype: np.dtype) -> np.ndarray:
    """Label value -> what becomes of it where it is taken out of a target."""
    table = np.arange(max(targets.declared) + 1, dtype=dtype)
    outside = sorted({0, *targets.class_values} - set(removed_from))
    for value in removed_from:
        within = _targets_of(targets, value)
        may_become = [other for other in outside if _targets_of(targets, other) <= within]
        table[value] = max(may_become, key=lambda other: len(_targets_of(targets, other)))
    return table


def _targets_of(targets: Labels, value: int) -> set[str]:
    """The targets that a label value belongs to."""
    return {name for name, ids in zip(targets.classes, targets.ids, strict=True) if value in ids}


def rule_text(rule: Rule, unit: Unit) -> str:
    """A rule in words."""
    if rule.operation == "keep_largest":
        return "keep the largest part"
    if unit == "share":
        return f"remove parts under {100 * rule.size:.3g} % of the image"
    return f"remove parts under {rule.size:.4g} {unit}"
