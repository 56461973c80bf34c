"""The training loss: Dice and cross-entropy on the mask, cross-entropy on the patch map.

Each is computed of sums over the batch, so that the sums of its parts (several processes, or several passes) can be
added up before.

Where a target was not annotated in an image, background there may be of it (partial labels). A region's channel is then
left out for that image. Among exclusive classes, the shares of background and of such classes are added up, and their
sum is what is learned where the labels say background: the marginal loss of Fang and Yan (IEEE TMI 2020) and Shi et al.
(Medical Image Analysis 2021).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PATCH = 32
_SMOOTH = 1.0  # pixels: a class absent from a batch then costs little where it is not predicted


def mask_sums(
    logits: Tensor, targets: Tensor, valid: Tensor, exclusive: bool, annotated: Tensor | None = None
) -> Tensor:
    """What the mask's loss adds up over images, [2 + 2 K]: cross-entropy, the pixels it was summed over, and of each
    target what prediction and reference have in common and what both have together.

    logits [B, K, H, W]; targets [B, K, H, W] of 0 and 1; valid [B, 1, H, W], 0 where nothing is known.
    exclusive : softmax over a background of logit 0 and the K classes, else a sigmoid for each of K regions.
    annotated : [B, K], 0 where a target was not annotated in an image; None when all were in all.
    """
    weight = valid if annotated is None else valid * annotated[:, :, None, None]  # [B, 1 or K, H, W]
    targets = targets * weight
    if exclusive:
        log_shares = F.log_softmax(torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1), dim=1)
        if annotated is not None:
            log_shares = _merged(log_shares, annotated)
        background = valid - targets.sum(dim=1, keepdim=True)
        entropy, pixels = -(log_shares * torch.cat([background, targets], dim=1)).sum(), valid.sum()
        shares = log_shares[:, 1:].exp()
    else:
        entropy = F.binary_cross_entropy_with_logits(logits, targets, weight=weight, reduction="sum")
        pixels = weight.sum() * (logits.shape[1] // weight.shape[1])
        shares = logits.sigmoid()
    common = (shares * targets).sum(dim=(0, 2, 3))
    total = (shares * weight).sum(dim=(0, 2, 3)) + targets.sum(dim=(0, 2, 3))
    return torch.cat([torch.stack([entropy, pixels]), common, total])


def mask_loss(sums: Tensor) -> Tensor:
    """One minus the batch's mean soft Dice, plus cross-entropy, of `mask_sums` of the whole batch; scalar."""
    entropy, pixels = sums[0], sums[1].clamp(min=1)
    common, total = sums[2:].chunk(2)
    return 1 - ((2 * common + _SMOOTH) / (total + _SMOOTH)).mean() + entropy / pixels


def _merged(log_shares: Tensor, annotated: Tensor) -> Tensor:
    """Logarithms of shares [B, 1 + K, H, W], the background's replaced by that of background and of all classes that
    were not annotated in the image together."""
    apart = F.pad(annotated, (1, 0))[:, :, None, None] > 0  # the background itself is never apart
    together = log_shares.masked_fill(apart, -torch.inf).logsumexp(dim=1, keepdim=True)
    return torch.cat([together, log_shares[:, 1:]], dim=1)


def patch_targets(targets: Tensor, valid: Tensor, annotated: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Masks [B, K, H, W] and valid [B, 1, H, W] -> any foreground per 32-pixel patch, and whether that is known,
    [B, 1, H/32, W/32] each. A patch with foreground is known; one without is when all of it is valid and every target
    was annotated in the image (`annotated` as in `mask_loss`)."""
    if annotated is not None:
        targets = targets * annotated[:, :, None, None]
    any_class = (targets.amax(dim=1, keepdim=True) * valid).float()
    foreground = F.max_pool2d(any_class, PATCH)
    whole = 1 - F.max_pool2d(1 - valid, PATCH)
    if annotated is not None:
        whole = whole * annotated.amin(dim=1)[:, None, None, None]
    return foreground, torch.maximum(foreground, whole)


def patch_sums(logits: Tensor, foreground: Tensor, known: Tensor) -> Tensor:
    """What the patch map's loss adds up over images, [2]: binary cross-entropy of patch logits [B, 1, h, w] over the
    known patches, and their number."""
    loss = F.binary_cross_entropy_with_logits(logits, foreground, weight=known, reduction="sum")
    return torch.stack([loss, known.sum()])


def patch_loss(sums: Tensor) -> Tensor:
    """Mean binary cross-entropy, of `patch_sums` of the whole batch; scalar."""
    return sums[0] / sums[1].clamp(min=1)


def patch_counts(logits: Tensor, foreground: Tensor, known: Tensor) -> Tensor:
    """[3] true positive, false positive and false negative patches at a threshold of 0.5."""
    said, true = (logits > 0).float() * known, foreground * known
    return torch.stack([(said * true).sum(), (said * (known - true)).sum(), ((known - said) * true).sum()])
