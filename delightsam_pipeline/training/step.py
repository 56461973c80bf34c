"""One training step: an objective's loss, backward, update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from delightsam_pipeline.inference.device import Device
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.training.augmentation import UNKNOWN
from delightsam_pipeline.training.economy import make_cheaper
from delightsam_pipeline.training.losses import (
    mask_loss,
    mask_sums,
    patch_counts,
    patch_loss,
    patch_sums,
    patch_targets,
)
from delightsam_pipeline.training.ranks import ALONE, Ranks

LARGEST_GRADIENT = 3.0

# what was added up over a part of a batch -> the sums over all of it, with a gradient to the part
Whole = Callable[[Tensor], Tensor]
# (network, batch, plan, device, whole) -> what is to be made small, and the step's figures by name. An objective is
# computed of sums over images, which it passes through `whole` once
Objective = Callable[[DeLightSAM, dict[str, Any], Plan, Device, Whole], tuple[Tensor, dict[str, Tensor]]]


@dataclass
class Sums:
    """What an epoch adds up, on the device, so that no step waits for it."""

    steps: int = 0
    totals: dict[str, Tensor] = field(default_factory=dict)

    def add(self, figures: dict[str, Tensor]) -> None:
        """Take in the figures of a step."""
        self.steps += 1
        for name, value in figures.items():
            self.totals[name] = self.totals.get(name, 0) + value.detach()

    def row(self) -> dict[str, float]:
        """Means over the steps; precision and recall of the patch map (0 when there is nothing to divide by)."""
        row = {name: float(value) / self.steps for name, value in self.totals.items() if name != "patches"}
        if "patches" in self.totals:
            hits, false_alarms, misses = (float(v) for v in self.totals["patches"])
            row["patch_precision"] = hits / max(hits + false_alarms, 1)
            row["patch_recall"] = hits / max(hits + misses, 1)
        return row


def target_masks(labels: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """Labels [B, H, W] -> masks [B, K, H, W] and valid [B, 1, H, W], float; -1 and the ignore label are not valid."""
    targets = plan.targets
    masks = torch.stack([sum(labels == value for value in ids) > 0 for ids in targets.ids], dim=1)
    valid = labels != UNKNOWN
    if targets.ignore is not None:
        valid = valid & (labels != targets.ignore)
    return masks.float(), valid[:, None].float()


def annotated_targets(batch: dict[str, Any], device: Device) -> Tensor | None:
    """[B, K] bool, whether a target was annotated in an image of the batch; None when all were in all."""
    annotated = batch["annotated"]
    return None if annotated.all() else torch.from_numpy(annotated).to(device.torch, non_blocking=True)


def on_device(batch: dict[str, Any], device: Device) -> Tensor:
    """A batch's images [B, C_in, H, W] on the device, channels last."""
    return _sent(batch["images"], device).contiguous(memory_format=torch.channels_last)


def _sent(array: np.ndarray, device: Device) -> Tensor:
    """An array on the device."""
    tensor = torch.from_numpy(array)
    if device.torch.type == "cuda":
        tensor = tensor.pin_memory()  # from other memory a copy waits until the device has done all before it
    return tensor.to(device.torch, non_blocking=True)


def same(sums: Tensor) -> Tensor:
    """The `whole` of a batch that is passed at once."""
    return sums


def task_loss(
    model: DeLightSAM, batch: dict[str, Any], plan: Plan, device: Device, whole: Whole = same
) -> tuple[Tensor, dict[str, Tensor]]:
    """The segmentation objective: the mask's loss and the patch map's, and what the log shows of both."""
    images = on_device(batch, device)
    labels = _sent(batch["labels"], device)
    with device.autocast():
        logits, patch_logits, _ = model(images, batch["head"])
    annotated = annotated_targets(batch, device)
    rows = model.scope.run(_task_sums, logits, patch_logits, labels, plan, annotated)
    of_mask, of_patches, counts = whole(rows.sum(dim=0)).split([2 + 2 * logits.shape[1], 2, 3])
    on_mask, on_patches = mask_loss(of_mask), patch_loss(of_patches)
    figures = {"mask_loss": on_mask, "patch_loss": on_patches, "patches": counts}
    return on_mask + plan.training.patch_loss_weight * on_patches, figures


def _task_sums(logits: Tensor, patch_logits: Tensor, labels: Tensor, plan: Plan, annotated: Tensor | None) -> Tensor:
    """[1, 2 + 2 K + 2 + 3]: the sums of the mask's loss and of the patch map's, and the counts of patches."""
    masks, valid = target_masks(labels, plan)
    if annotated is not None:
        annotated = annotated.float()  # only here: floating arguments get a gradient when passed in parts
    full = F.interpolate(logits.float(), size=masks.shape[-2:], mode="bilinear", align_corners=False)
    of_mask = mask_sums(full, masks, valid, not plan.targets.has_regions, annotated)
    foreground, known = patch_targets(masks, valid, annotated)
    of_patches = patch_sums(patch_logits.float(), foreground, known)
    with torch.no_grad():
        counts = patch_counts(patch_logits, foreground, known)
    return torch.cat([of_mask, of_patches, counts])[None]


def train_step(
    model: DeLightSAM,
    batch: dict[str, Any],
    plan: Plan,
    optimizer: torch.optim.Optimizer,
    device: Device,
    sums: Sums,
    objective: Objective = task_loss,
    ranks: Ranks = ALONE,
) -> None:
    """Update the model on a batch (see loading.make_batch) and add its figures to `sums`.

    Of several processes each has its part of the batch; what is updated and the figures are those of the whole batch.
    A step that finds too little memory is made again more cheaply, and so are all that follow (see economy). Raises
    torch.OutOfMemoryError when it cannot be any cheaper, or has other processes waiting for it.
    """
    with model.scope.step():
        figures = None
        while figures is None:
            optimizer.zero_grad(set_to_none=True)
            # not in an except clause, where what the failed pass holds could not be freed
            figures, failure = _backward(model, batch, plan, device, objective, ranks)
            if failure is not None and (ranks.size > 1 or not make_cheaper(model, len(batch["images"]))):
                raise torch.OutOfMemoryError(failure)
    ranks.add_gradients(model.parameters())
    torch.nn.utils.clip_grad_norm_((p for p in model.parameters() if p.grad is not None), LARGEST_GRADIENT)
    optimizer.step()
    sums.add(figures)


def _backward(
    model: DeLightSAM, batch: dict[str, Any], plan: Plan, device: Device, objective: Objective, ranks: Ranks
) -> tuple[dict[str, Tensor] | None, str | None]:
    """The figures of a step, whose gradients the parameters then have; or what was said when memory ran out."""
    try:
        loss, figures = objective(model, batch, plan, device, ranks.whole)
        loss.backward()
    except torch.OutOfMemoryError as error:
        return None, str(error)
    return {name: value.detach() for name, value in figures.items()}, None
