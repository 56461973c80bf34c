"""From fingerprint to plan: decision after decision, each leaving its reason."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import ValidationError

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.plans import modalities, rules
from delightsam_pipeline.plans.draft import Draft, shown
from delightsam_pipeline.plans.finetuning import Pretrained
from delightsam_pipeline.plans.fingerprint import Fingerprint, median_grid
from delightsam_pipeline.plans.layout import Bound, choose_layout
from delightsam_pipeline.plans.memory import step_bytes
from delightsam_pipeline.plans.overrides import check_overrides
from delightsam_pipeline.plans.plan import Plan, Training

log = logging.getLogger(__name__)
FREE = 0.2  # of the memory given: a GPU's driver and fragments take some
PIXELS_PER_STEP = 400_000
MOST_IMAGES = 16  # in a step
LARGEST_MEMORY = 1e12  # bytes: what no machine for training has; a batch beyond it was not meant
SMALLEST_IMAGE, LARGEST_IMAGE = 8, 16384  # pixels a side, that a spacing may bring a typical image to


def make_plan(
    print_: Fingerprint,
    labels: Labels,
    file_ending: str,
    memory_bytes: float = 8e9,
    *,
    max_size: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    plans_from: Pretrained | None = None,
) -> Plan:
    """The plan of a dataset.

    memory_bytes : what a training step must fit. max_size : the largest side of the network's input, a multiple of 32.
    overrides : decisions of the user (see plans.overrides). plans_from : a model whose scale is taken over.
    Raises UserError for decisions that are impossible, or contradict each other or the data, and for too little memory.
    """
    user = check_overrides(overrides or {})
    model = {} if plans_from is None else _still_apart(plans_from.decisions(print_), user)
    draft = Draft(user, model, "" if plans_from is None else plans_from.name)
    decisions = _decide(print_, labels, draft, memory_bytes, max_size)
    try:
        return Plan(
            dataset=print_.dataset,
            channel_names=print_.channel_names,
            labels=labels.to_dict(),
            file_ending=file_ending,
            physical=print_.physical,
            **decisions,
            reasons=draft.reasons,
            overrides=dict(draft.user),
            plans_from=draft.model_name or None,
        )
    except ValidationError as error:
        if not draft.user:
            raise
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(
            f"what is set does not fit this dataset: {problem}", found=f"set: {', '.join(draft.user)}"
        ) from None


def _still_apart(model: dict[str, Any], user: Mapping[str, Any]) -> dict[str, Any]:
    """A model's decisions without those that the user's exclude; with "fit", spacing is that of the median image."""
    excluded = {"spacing"} if user.get("scaling") == "fit" else set()
    if "spacing" in user and model["scaling"] == "fit":
        excluded = {"scaling"}
    return {name: value for name, value in model.items() if name not in excluded}


def _slicing_axis(print_: Fingerprint, draft: Draft) -> int:
    """The axis that is fixed, or that of the rules. Raises UserError for one along which there are no slices."""
    ruled, reason = rules.slicing_axis(print_)
    axis = draft.take("slicing_axis", ruled, reason)
    if axis != ruled and (not print_.physical or 1 in median_grid(print_).shape):
        problem = f"slicing_axis={axis} does not fit this dataset: its images are single slices"
        raise UserError(problem, file=print_.dataset, fix="leave slicing_axis to the rules")
    return axis


def _decide(
    print_: Fingerprint, labels: Labels, draft: Draft, memory_bytes: float, max_size: int | None
) -> dict[str, Any]:
    """All decisions, in the order in which one follows from another."""
    channels = len(print_.channel_names)
    modality = modalities.of_name(draft.take("modality", print_.modality, print_.modality_evidence), channels)
    if draft.user.get("modality") == print_.modality:  # the fingerprint was told it: the rules were not asked
        draft.reasons["modality"] = draft.said_by("modality")
    axis = _slicing_axis(print_, draft)
    input_ = draft.take("input", *rules.network_input(print_, axis))
    needs = (channels if input_ == "projection" else 3, len(labels.classes))
    layout = _layout(print_, axis, draft, needs, memory_bytes, max_size)
    if axis != rules.slicing_axis(print_)[0]:
        draft.reasons["spacing"] += "; how masks survive was measured on slices along the rules' axis"
    linear = "the mean of what a pixel covers when shrinking: quick, and edges do not ring"
    return layout | {
        "modality": modality.name,
        "modality_id": modality.id,
        "slicing_axis": axis,
        "input": input_,
        "normalisation": rules.normalisation(print_, modality, draft),
        "resampling": draft.take("resampling", "linear", linear),
        "augmentation": rules.augmentation(modality, labels, axis, print_.physical, input_, draft),
        "training": _training(layout["patch_size"], needs, memory_bytes, draft),
    }


def _layout(
    print_: Fingerprint, axis: int, draft: Draft, needs: tuple[int, int], memory_bytes: float, max_size: int | None
) -> dict[str, Any]:
    """scaling, spacing, patch_size and tile_overlap, small enough for one image of `needs` (channels, targets)."""
    bound = None if max_size is None else Bound(max_size, "--max-size")
    fixed = draft.fixed("scaling", "spacing", "patch_size")
    if bound is not None and max(fixed.get("patch_size", (0,))) > bound.side:
        problem = f"patch_size={shown(fixed['patch_size'])}, {draft.said_by('patch_size')}, is larger than --max-size"
        raise UserError(problem, expected=f"at most {bound.side}", fix="leave --max-size out, or set patch_size")
    if "spacing" in fixed:
        _check_spacing(print_, axis, draft)
    chosen = choose_layout(print_, axis, fixed, bound)
    while step_bytes(1, *chosen.patch_size, *needs) > memory_bytes * (1 - FREE):
        side = max(chosen.patch_size) - 32
        if "patch_size" in fixed or side < 32:
            size, takes = shown(chosen.patch_size), step_bytes(1, *chosen.patch_size, *needs)
            problem = f"training on one image of {size} takes about {_gigabytes(takes / (1 - FREE))}"
            fix = "raise --gpu-memory" + (", or set a smaller patch_size" if "patch_size" in fixed else "")
            raise UserError(problem, file=print_.dataset, found=f"{_gigabytes(memory_bytes)} given", fix=fix)
        bound = Bound(side, f"--gpu-memory {memory_bytes / 1e9:g}")
        chosen = choose_layout(print_, axis, fixed, bound)
    ruled = choose_layout(print_, axis, bound=bound) if fixed else chosen
    taken = {}
    for name in ("scaling", "spacing", "patch_size", "tile_overlap"):
        rule = ruled if name in fixed else chosen
        value, reason = getattr(rule, name), rule.reasons[name]
        if value != getattr(ruled, name):
            reason += f"; follows from {' and '.join(fixed)}, else {shown(getattr(ruled, name))}"
        taken[name] = draft.take(name, value, reason)
    return taken


def _check_spacing(print_: Fingerprint, axis: int, draft: Draft) -> None:
    """Raise UserError for a fixed spacing at which nothing is left of an image, or far more than there is in it."""
    grid, spacing = median_grid(print_), draft.fixed("spacing")["spacing"]
    plane = [a for a in range(3) if a != axis]
    sides = [grid.shape[a] * grid.spacing[a] / new for a, new in zip(plane, spacing, strict=True)]
    most = max(LARGEST_IMAGE, *(grid.shape[a] for a in plane))
    if min(sides) < SMALLEST_IMAGE or max(sides) > most:
        problem = f"spacing={shown(spacing)}, {draft.said_by('spacing')}, makes a typical image {shown(tuple(sides))}"
        own = shown(tuple(float(grid.spacing[a]) for a in plane))
        expected, fix = f"sides of {SMALLEST_IMAGE} to {most} pixels", f"the images have a spacing of {own}"
        raise UserError(f"{problem} pixels", file=print_.dataset, expected=expected, fix=fix)


def _training(patch: tuple[int, int], needs: tuple[int, int], memory_bytes: float, draft: Draft) -> Training:
    """Length and step size; the batch is of images of `needs` (channels, targets) and fits the memory."""
    wanted = int(np.clip(round(PIXELS_PER_STEP / (patch[0] * patch[1])), 2, MOST_IMAGES))
    fitting = [n for n in range(1, wanted + 1) if step_bytes(n, *patch, *needs) <= memory_bytes * (1 - FREE)]
    value = Training(
        epochs=200,
        steps_per_epoch=100,
        batch_size=max(fitting, default=1),
        learning_rate=1e-3,
        weight_decay=0.05,
        warmup=0.02,
        foreground_share=0.5,
        patch_loss_weight=0.5,
    )
    reason = f"about {PIXELS_PER_STEP // 1000}k pixels a step, at most {MOST_IMAGES} images, and what memory holds: "
    reason += _batch_takes(value.batch_size, patch, needs, memory_bytes)
    taken = draft.take_parts("training", value, reason)
    if taken.batch_size != value.batch_size:
        draft.reasons["training"] += f"; {_set_batch(taken.batch_size, patch, needs, memory_bytes)}"
    return taken


def _set_batch(batch: int, patch: tuple[int, int], needs: tuple[int, int], memory_bytes: float) -> str:
    """What a batch that the user sets takes; told when it is too much, UserError when no machine could hold it."""
    most = max(LARGEST_MEMORY, memory_bytes)
    takes = _batch_takes(batch, patch, needs, memory_bytes)
    if step_bytes(batch, *patch, *needs) > most:
        one, two = (step_bytes(count, *patch, *needs) for count in (1, 2))
        expected = f"at most {1 + int((most - one) / (two - one))}, what {most / 1e9:g} GB would hold"
        raise UserError(f"training.batch_size={batch} is not possible: {takes}", expected=expected)
    if step_bytes(batch, *patch, *needs) > memory_bytes:
        log.warning("training.batch_size=%d is kept, but %s", batch, takes)
    return takes


def _batch_takes(batch: int, patch: tuple[int, int], needs: tuple[int, int], memory_bytes: float) -> str:
    takes = step_bytes(batch, *patch, *needs)
    images = f"{batch} image{'' if batch == 1 else 's'} of {shown(patch)} take{'s' if batch == 1 else ''}"
    of = " of" if takes <= memory_bytes else ", which is more than"
    return f"{images} about {_gigabytes(takes)}{of} the {memory_bytes / 1e9:g} GB given"


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
