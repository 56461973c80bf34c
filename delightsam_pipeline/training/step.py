"""One training step: forward, loss, backward, update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from delightsam_pipeline.inference.device import Device
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.training.augmentation import UNKNOWN
from delightsam_pipeline.training.losses import mask_loss, patch_counts, patch_loss, patch_targets

LARGEST_GRADIENT = 3.0


@dataclass
class Sums:
    """What an epoch adds up, on the device, so that no step waits for it."""

    steps: int = 0
    mask: Tensor | float = 0.0
    patch: Tensor | float = 0.0
    patches: Tensor | float = 0.0

    def row(self) -> dict[str, float]:
        """Mean losses, and precision and recall of the patch map (0 when there is nothing to divide by)."""
        hits, false_alarms, misses = (float(v) for v in self.patches)
        return {
            "mask_loss": float(self.mask) / self.steps,
            "patch_loss": float(self.patch) / self.steps,
            "patch_precision": hits / max(hits + false_alarms, 1),
            "patch_recall": hits / max(hits + misses, 1),
        }


def target_masks(labels: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """Labels [B, H, W] -> masks [B, K, H, W] and valid [B, 1, H, W], float; -1 and the ignore label are not valid."""
    targets = plan.targets
    masks = torch.stack([sum(labels == value for value in ids) > 0 for ids in targets.ids], dim=1)
    valid = labels != UNKNOWN
    if targets.ignore is not None:
        valid = valid & (labels != targets.ignore)
    return masks.float(), valid[:, None].float()


def train_step(
    model: DeLightSAM, batch: dict[str, Any], plan: Plan, optimizer: torch.optim.Optimizer, device: Device, sums: Sums
) -> None:
    """Update the model on a batch (see loading.make_batch) and add its figures to `sums`."""
    images = torch.from_numpy(batch["images"]).to(device.torch, non_blocking=True)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(batch["labels"]).to(device.torch, non_blocking=True)
    masks, valid = target_masks(labels, plan)
    with device.autocast():
        logits, patch_logits, _ = model(images, batch["head"])
    full = F.interpolate(logits.float(), size=images.shape[-2:], mode="bilinear", align_corners=False)
    on_mask = mask_loss(full, masks, valid, exclusive=not plan.targets.has_regions)
    foreground, known = patch_targets(masks, valid)
    on_patches = patch_loss(patch_logits.float(), foreground, known)
    optimizer.zero_grad(set_to_none=True)
    (on_mask + plan.training.patch_loss_weight * on_patches).backward()
    torch.nn.utils.clip_grad_norm_((p for p in model.parameters() if p.grad is not None), LARGEST_GRADIENT)
    optimizer.step()
    with torch.no_grad():
        sums.steps += 1
        sums.mask = sums.mask + on_mask.detach()
        sums.patch = sums.patch + on_patches.detach()
        sums.patches = sums.patches + patch_counts(patch_logits, foreground, known)
