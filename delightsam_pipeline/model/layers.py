"""Layers shared by the parts of the network: norms, convolution with batch norm, feed-forward."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from delightsam_pipeline.model.scope import Scope

EPS = 1e-5  # of batch norms


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of [B, C, H, W] (as in Segment Anything, eps 1e-6)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, eps=1e-6)
        return x.permute(0, 3, 1, 2)


class Statistics(nn.Module):
    """Running mean and variance of one batch norm for one modality, [C] each, and how many batches they saw."""

    momentum = 0.1

    def __init__(self, mean: Tensor, var: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("var", var.clone())
        self.register_buffer("batches", torch.zeros(()))

    @torch.no_grad()
    def update(self, mean: Tensor, var: Tensor) -> None:
        """Take in a batch's statistics: a plain mean over the first ten batches, then with the momentum.

        A modality seen rarely, or for a short time, would otherwise keep much of its starting values.
        """
        self.batches += 1
        weight = (1 / self.batches).clamp(min=self.momentum)
        self.mean.lerp_(mean, weight)
        self.var.lerp_(var, weight)


class ModalityBatchNorm(nn.Module):
    """Batch norm whose scale and shift are shared and whose running statistics belong to a modality.

    A step sees one modality at a time, so statistics shared by all would fit none in evaluation. `index` is the
    norm's place in a controller's list of statistics, `scope` what it sees of a batch; the model sets both.
    `running_mean` and `running_var` are the shared statistics (of pretrained weights) from which a new modality starts.
    """

    index: int = -1

    def __init__(self, channels: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scope = Scope()
        self.weight = nn.Parameter(torch.full((channels,), scale))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, statistics: Sequence[Statistics]) -> Tensor:
        """[B, C, H, W] -> same shape, with the batch's statistics in training and the modality's in evaluation.

        A frozen norm keeps to the modality's in training too: what other heads compute must not move.
        """
        own, scope = statistics[self.index], self.scope
        if not self.training or not self.weight.requires_grad:
            return F.batch_norm(x, own.mean, own.var, self.weight, self.bias, eps=EPS)
        if not scope.sees_all:
            mean, var, count = scope.statistics(self.index, x)
            if scope.is_new(self.index):
                own.update(mean, var * (count / (count - 1).clamp(min=1)))
            return Normalise.apply(x, self.weight, self.bias, mean, var, scope, self.index)
        mean, var = torch.zeros_like(own.mean), torch.ones_like(own.var)
        y = F.batch_norm(x, mean, var, self.weight, self.bias, training=True, momentum=1.0, eps=EPS)
        if scope.is_new(self.index):
            own.update(mean, var)
        return y


class Normalise(torch.autograd.Function):
    """Batch norm of [B, C, H, W], a part of a batch, with the whole batch's mean and variance, which move with it."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, scope: Scope, norm: int):
        ctx.save_for_backward(x, weight, mean, var)
        ctx.scope, ctx.norm = scope, norm
        return F.batch_norm(x, mean, var, weight, bias, eps=EPS)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        x, weight, mean, var = ctx.saved_tensors
        scale = torch.rsqrt(var + EPS)
        fixed, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, var, None, None, False, EPS, [True, True, True]
        )
        sums = torch.cat([of_weight, of_bias, of_bias.new_full((1,), x.numel() / x.shape[1])])
        sums = ctx.scope.over_all(ctx.norm, sums)
        along, even = (sums[:-1] / sums[-1] * (weight * scale).repeat(2)).chunk(2)
        slope = along * scale
        shift = even - slope * mean
        moved = fixed - (x * slope[:, None, None] + shift[:, None, None]).to(x.dtype)
        return moved, of_weight, of_bias, None, None, None, None


class ConvNorm(nn.Module):
    """Convolution without bias, then batch norm (members named as in TinyViT's checkpoints)."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, groups: int = 1, scale: float = 1.0):
        super().__init__()
        self.c = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = ModalityBatchNorm(c_out, scale)

    def forward(self, x: Tensor, statistics: Sequence[Statistics]) -> Tensor:
        return self.bn(self.c(x), statistics)


class FeedForward(nn.Module):
    """LayerNorm, C -> 4 C, GELU, 4 C -> C over the last dimension."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))
