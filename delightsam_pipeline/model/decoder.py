"""The query decoder: Segment Anything's two-way transformer and upscaling, fed with the queries of one open head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delightsam_pipeline.model.layers import LayerNorm2d

WIDTH = 256


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than the tokens' 256."""

    def __init__(self, inner: int, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(WIDTH, inner)
        self.k_proj = nn.Linear(WIDTH, inner)
        self.v_proj = nn.Linear(WIDTH, inner)
        self.out_proj = nn.Linear(inner, WIDTH)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[B, N, 256] queries, [B, M, 256] keys and values -> [B, N, 256]."""
        q, k, v = (
            proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for proj, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """256 -> 2048 -> 256 with ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.lin1 = nn.Linear(WIDTH, 2048)
        self.lin2 = nn.Linear(2048, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(F.relu(self.lin1(x)))


class TwoWayLayer(nn.Module):
    """Queries attend to themselves and to the image, then the image attends to the queries."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH)
        self.cross_attn_token_to_image = Attention(WIDTH // 2)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = Mlp()
        self.norm3 = nn.LayerNorm(WIDTH)
        self.cross_attn_image_to_token = Attention(WIDTH // 2)
        self.norm4 = nn.LayerNorm(WIDTH)

    def forward(self, queries: Tensor, image: Tensor, query_pe: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [B, K, 256] and image tokens [B, N, 256], each with its position encoding -> both, updated."""
        if self.first:
            queries = self.self_attn(queries, queries, queries)
        else:
            q = queries + query_pe
            queries = queries + self.self_attn(q, q, queries)
        queries = self.norm1(queries)
        k = image + image_pe
        queries = self.norm2(queries + self.cross_attn_token_to_image(queries + query_pe, k, image))
        queries = self.norm3(queries + self.mlp(queries))
        image = self.norm4(image + self.cross_attn_image_to_token(k, queries + query_pe, queries))
        return queries, image


class TwoWayTransformer(nn.Module):
    """Two two-way layers and a last attention from queries to image; the queries are their own position encoding."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([TwoWayLayer(first=True), TwoWayLayer(first=False)])
        self.final_attn_token_to_image = Attention(WIDTH // 2)
        self.norm_final_attn = nn.LayerNorm(WIDTH)

    def forward(self, query_pe: Tensor, image: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [B, K, 256], image tokens and their position encoding [B, N, 256] -> queries, image tokens."""
        queries = query_pe
        for layer in self.layers:
            queries, image = layer(queries, image, query_pe, image_pe)
        attended = self.final_attn_token_to_image(queries + query_pe, image + image_pe, image)
        return self.norm_final_attn(queries + attended), image


def _lateral(c_in: int, c_out: int) -> nn.Conv2d:
    """1x1 from the encoder's features into the decoder's; zeros, so that pretrained weights give their own masks."""
    lateral = nn.Conv2d(c_in, c_out, 1)
    nn.init.zeros_(lateral.weight)
    nn.init.zeros_(lateral.bias)
    return lateral


class QueryDecoder(nn.Module):
    """Shared part of the QM-Decoder: transformer, upscaling to stride 4 and the contour path.

    The contour path is not in the paper: the decoder's upscaling sees nothing finer than stride 16, and contours are
    where it is weak, so encoder features of strides 8 and 4 are added after its two steps.
    fine : widths of the encoder's features at strides 4 and 8, None for no contour path.
    """

    def __init__(self, fine: tuple[int, int] | None) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer()
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(WIDTH, 64, 2, 2),
            LayerNorm2d(64),
            nn.GELU(),
            nn.ConvTranspose2d(64, 32, 2, 2),
            nn.GELU(),
        )
        self.lateral8 = _lateral(fine[1], 64) if fine else None
        self.lateral4 = _lateral(fine[0], 32) if fine else None
        # random Fourier features of the position, Segment Anything's only used part of its prompt encoder
        self.register_buffer("fourier", torch.randn(2, WIDTH // 2))

    def position_encoding(self, height: int, width: int) -> Tensor:
        """[1, h w, 256] sines and cosines of the token centres, coordinates x, y in -1..1."""
        y = (torch.arange(height, device=self.fourier.device) + 0.5) / height * 2 - 1
        x = (torch.arange(width, device=self.fourier.device) + 0.5) / width * 2 - 1
        points = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)
        angle = 2 * torch.pi * (points.view(1, -1, 2) @ self.fourier)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    def forward(self, image: Tensor, queries: Tensor, fine: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Prompted embedding [B, 256, h, w], queries [K, 256], features at strides 4 and 8
        -> updated queries [B, K, 256] and pixel features [B, 32, 4 h, 4 w]."""
        b, _, height, width = image.shape
        tokens = image.flatten(2).transpose(1, 2)
        position = self.position_encoding(height, width).to(tokens.dtype)
        queries, tokens = self.transformer(queries.expand(b, -1, -1), tokens, position)
        x = tokens.transpose(1, 2).unflatten(2, (height, width))
        up = self.output_upscaling
        x = up[2](up[1](up[0](x)))
        if self.lateral8 is not None:
            x = x + self.lateral8(fine[1])
        x = up[4](up[3](x))
        if self.lateral4 is not None:
            x = x + self.lateral4(fine[0])
        return queries, x


def _projection(channels: int) -> nn.Conv2d:
    """A 1x1 convolution to three channels that begins orthogonal: channels of variance 1 come out so, as the encoder
    expects them, and no direction among them is weaker than another."""
    project = nn.Conv2d(channels, 3, 1)
    rows, _, columns = torch.linalg.svd(project.weight.detach().flatten(1), full_matrices=False)
    project.weight = nn.Parameter((rows @ columns)[..., None, None])
    nn.init.zeros_(project.bias)
    return project


class Head(nn.Module):
    """One decoding channel of the paper: a modality and its target set, with its own queries and MLP.

    queries [K, 256], one per target; an MLP 256 -> 256 -> 256 -> 32; a 1x1 projection to three input channels
    where the input has another number of them.
    """

    def __init__(self, targets: int, in_channels: int = 3) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(targets, WIDTH))
        self.mlp = nn.ModuleList([nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 32)])
        self.project = None if in_channels == 3 else _projection(in_channels)

    def masks(self, queries: Tensor, pixels: Tensor) -> Tensor:
        """Updated queries [B, K, 256], pixel features [B, 32, H/4, W/4] -> mask logits [B, K, H/4, W/4]."""
        weights = self.mlp[2](F.relu(self.mlp[1](F.relu(self.mlp[0](queries)))))
        return torch.einsum("bkc,bchw->bkhw", weights, pixels)
