"""A training step in less memory, when the device has run out of it. None of it changes what is computed.

First the activations of each block are computed again on the way back: the same bits. Then each block takes its images
in two parts, four, ... down to one at a time, with losses and statistics of batch norms over the whole batch (see
model/in_parts.py): the same numbers to rounding, and the loss of twelve steps to 3e-6.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.training.augmentation import UNKNOWN
from delightsam_pipeline.training.compiling import stay_uncompiled
from delightsam_pipeline.training.ranks import Ranks, SharedError

log = logging.getLogger(__name__)

Step = Callable[[dict[str, Any], Plan], None]  # makes the gradients of a batch


def economy(model: DeLightSAM) -> str | None:
    """For people and model.json: what steps do to save memory; None when nothing."""
    if not model.scope.recompute:
        return None
    parts = f", each block in {model.scope.parts} parts" if model.scope.parts > 1 else ""
    return f"activations computed again on the way back{parts}"


def parts_in_force(model: DeLightSAM) -> int:
    """Into how many parts blocks are cut to save memory; 0 when nothing is done for it."""
    return model.scope.parts if model.scope.recompute else 0


def begin_with(model: DeLightSAM, parts: int) -> None:
    """Save memory at least as in an earlier sitting, of which `parts_in_force` said so."""
    if parts > parts_in_force(model):
        model.scope.recompute, model.scope.parts = True, parts
        log.info("to save memory, as before: %s", economy(model))


def make_cheaper(model: DeLightSAM, images: int) -> bool:
    """Let all steps from now on take less memory than before; False when blocks have one image at a time already."""
    scope = model.scope
    if scope.recompute and scope.parts >= images:
        return False
    if scope.recompute:
        scope.parts = min(2 * scope.parts, images)
    scope.recompute = True
    scope.forget()
    stay_uncompiled(model)  # what is compiled keeps its activations
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    log.warning("the device's memory does not suffice for a step; from now on: %s", economy(model))
    return True


def rehearse(model: DeLightSAM, plans: Mapping[str, Plan], step: Step, size: int = 1) -> None:
    """An empty batch of each head, as large as the share that one of `size` processes has, and all forgotten again."""
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        for head, plan in plans.items():
            with model.scope.step():
                step(_empty(head, plan, -(-plan.training.batch_size // size)), plan)
    finally:
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), before, strict=True):
                buffer.copy_(value)


def agree_on_economy(model: DeLightSAM, plans: Mapping[str, Plan], step: Step, ranks: Ranks) -> None:
    """Find what makes the steps of all heads fit into the memory of all processes, before the first step.

    Within a step a process that runs out of memory would leave the others waiting for it; here each tries alone.
    `step` must have no part for the others. Raises UserError on all of them when it does not suffice for one.
    """
    model.scope.ranks = None
    largest = max(-(-plan.training.batch_size // ranks.size) for plan in plans.values())
    fits = _fits(model, plans, step, ranks.size)
    while not fits and make_cheaper(model, largest):
        fits = _fits(model, plans, step, ranks.size)
    model.scope.ranks = ranks
    every = ranks.gather((fits, parts_in_force(model)))
    if short := [str(rank) for rank, (fits, _) in enumerate(every) if not fits]:
        found, fix = f"process {', '.join(short)}", "plan again with a smaller --gpu-memory, or use more processes"
        raise SharedError("the device's memory does not suffice for a step", found=found, fix=fix)
    parts = max(parts for _, parts in every)
    own, model.scope.recompute, model.scope.parts = parts_in_force(model), parts > 0, max(1, parts)
    if parts > own:
        short = ", ".join(str(rank) for rank, (_, wanted) in enumerate(every) if wanted == parts)
        text = "the memory of process %s does not suffice for a step; from now on, in all: %s"
        log.warning(text, short, economy(model))


def _fits(model: DeLightSAM, plans: Mapping[str, Plan], step: Step, size: int) -> bool:
    try:
        rehearse(model, plans, step, size)
    except torch.OutOfMemoryError:
        return False
    return True


def _empty(head: str, plan: Plan, images: int) -> dict[str, Any]:
    return {
        "number": None,
        "head": head,
        "images": np.zeros((images, plan.in_channels, *plan.patch_size), np.float32),
        "labels": np.full((images, *plan.patch_size), UNKNOWN, np.int16),
        "annotated": np.ones((images, len(plan.targets.classes)), bool),
        "cases": [head] * images,
    }
