"""The TinyViT encoder with one modality's controller, for inference alone."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from delightsam_pipeline.model.controller import Controller
from delightsam_pipeline.model.folded import Separable, fold
from delightsam_pipeline.model.folded_block import FoldedBlock, Windows
from delightsam_pipeline.model.tiny_vit import TinyViT, offsets, window_side

Places = tuple[Windows, list[Tensor]]


class FoldedEncoder(nn.Module):
    """[B, 3, H, W] -> embedding [B, H/16, W/16, 256], features [B, H/4, W/4, 64] and [B, H/8, W/8, 128]."""

    def __init__(self, encoder: TinyViT, controller: Controller) -> None:
        super().__init__()
        statistics, controls = controller.statistics, iter(controller.blocks)
        stem = encoder.patch_embed.seq
        self.stem = nn.Sequential(fold(stem[0], statistics, gelu=True), fold(stem[2], statistics))
        first, *others = encoder.layers
        self.convolutional = nn.Sequential(*(Separable(block, statistics, residual=True) for block in first.blocks))
        self.stages = nn.ModuleList(
            nn.ModuleList(FoldedBlock(block, next(controls), statistics) for block in stage.blocks) for stage in others
        )
        self.merges = nn.ModuleList(Separable(s.downsample, statistics, residual=False) for s in encoder.layers[:3])
        self.neck = copy.deepcopy(encoder.neck)
        self.tables = [stage.window for stage in others]
        self.fit_windows = others[0].fit_windows

    def windows(self, height: int, width: int, device: torch.device, dtype: torch.dtype) -> list[Places]:
        """Of each stage with attention, for images of this size: its windows, and each block's biases."""
        places = []
        for stage, table, stride in zip(self.stages, self.tables, (8, 16, 16), strict=True):
            sides = height // stride, width // stride
            h, w = (window_side(side, table, self.fit_windows) for side in sides)
            pairs = offsets(h, w, table, device)
            biases = [block.attention.biases.index_select(1, pairs).view(1, -1, h * w, h * w) for block in stage]
            # on a CPU the fused kernel takes biases of full precision at no cost, elsewhere it wants its own type
            kind = torch.float32 if device.type == "cpu" else dtype
            places.append((Windows.of(*sides, (h, w), device), [bias.to(kind) for bias in biases]))
        return places

    def forward(self, images: Tensor, places: list[Places]) -> tuple[Tensor, Tensor, Tensor]:
        """`places` is what `windows` returns for images of this size."""
        x = images.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        features = [self.convolutional(self.stem(x))]
        for merge, stage, (windows, biases) in zip(self.merges, self.stages, places, strict=True):
            x = merge(features[-1])
            for block, bias in zip(stage, biases, strict=True):
                x = block(x, windows, bias)
            features.append(x)
        embedding = self.neck(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return embedding.contiguous(), features[0], features[1]
