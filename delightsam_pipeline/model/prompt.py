"""The self-patch prompt generator: where is any foreground, on a grid of 32-pixel patches, and a dense prompt of it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from delightsam_pipeline.model.layers import LayerNorm2d


class PromptGenerator(nn.Module):
    """De-LightSAM's SP-Generator: embedding [B, 256, h, w] -> patch logits [B, 1, h/2, w/2], prompt [B, 256, h, w].

    The prompt is the thresholded patch map, as in the authors' release: the mask loss does not reach the patch
    logits, which have a loss of their own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patch_decoder = nn.Sequential(nn.Conv2d(256, 64, 2, 2), LayerNorm2d(64), nn.GELU(), nn.Conv2d(64, 1, 1))
        self.dense_prompter = nn.Sequential(nn.Conv2d(1, 256, 1), LayerNorm2d(256), nn.GELU())

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        patch_logits = self.patch_decoder(embedding)
        foreground = (patch_logits.detach() > 0).to(embedding.dtype)
        return patch_logits, self.dense_prompter(F.interpolate(foreground, scale_factor=2, mode="nearest"))
