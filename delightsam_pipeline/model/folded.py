"""Layers for inference alone: batch norm folded into its convolution, channels last, temporaries that fit a cache.

Images are [B, H, W, C] here, so that a 1x1 convolution is a linear layer and nothing is permuted in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delightsam_pipeline.model.layers import ConvNorm, Statistics

# elements of the widest temporary a thread works on at once. On a CPU a pass over memory costs as much as the
# arithmetic, and glibc returns blocks above 32 MB to the system, whose pages fault anew at every use.
_CACHED = 1 << 20
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def at_once(device: torch.device, width: int) -> int | None:
    """Rows of `width` numbers that a CPU works on at once; None where all at once is best."""
    return max(1, _CACHED * torch.get_num_threads() // width) if device.type == "cpu" else None


class Linear(nn.Module):
    """[..., C] -> [..., C']; `gelu` applies it to the result."""

    def __init__(self, weight: Tensor, bias: Tensor, gelu: bool = False) -> None:
        super().__init__()
        self.gelu = gelu
        self.register_buffer("weight", weight.float().contiguous())
        self.register_buffer("bias", bias.float().contiguous())

    def forward(self, x: Tensor) -> Tensor:
        if _ONEDNN and x.is_cpu:
            # what torch.compile calls: in fp32 a quarter faster than F.linear, which goes to MKL, and GELU with it
            kind, algorithm = ("gelu", "none") if self.gelu else ("none", "")
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, kind, [], algorithm)
        x = F.linear(x, self.weight, self.bias)
        return F.gelu(x) if self.gelu else x


class Conv(nn.Module):
    """[B, H, W, C] -> [B, H / stride, W / stride, C'], zero padding; `gelu` applies it to the result."""

    def __init__(self, conv: nn.Conv2d, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> None:
        super().__init__()
        self.form = {"stride": conv.stride, "padding": conv.padding, "groups": conv.groups}
        self.gelu = gelu
        # oneDNN packs the weights of depthwise convolutions faster from the plain layout
        layout = torch.contiguous_format if conv.groups > 1 else torch.channels_last
        self.register_buffer("weight", weight.float().contiguous(memory_format=layout))
        self.register_buffer("bias", None if bias is None else bias.float())

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x.permute(0, 3, 1, 2), self.weight, self.bias, **self.form).permute(0, 2, 3, 1)
        return torch.ops.aten.gelu_(x) if self.gelu else x


def fold(layer: ConvNorm, statistics: Sequence[Statistics], gelu: bool = False) -> Linear | Conv:
    """A convolution and its batch norm with a modality's statistics as one layer, linear where the kernel is 1x1."""
    norm, own = layer.bn, statistics[layer.bn.index]
    scale = norm.weight.double() / (own.var.double() + 1e-5).sqrt()
    weight = layer.c.weight.double() * scale[:, None, None, None]
    bias = norm.bias.double() - own.mean.double() * scale
    if layer.c.kernel_size == (1, 1):
        return Linear(weight.flatten(1), bias, gelu)
    return Conv(layer.c, weight, bias, gelu)


class Separable(nn.Module):
    """1x1, depthwise 3x3 with a stride, 1x1: the encoder's inverted residual, and its merge (without the residual).

    Worked off in strips of rows: the wide images between the convolutions never exist as a whole.
    """

    def __init__(self, block: nn.Module, statistics: Sequence[Statistics], residual: bool) -> None:
        super().__init__()
        self.stride = block.conv2.c.stride[0]
        self.residual = residual
        self.expand = fold(block.conv1, statistics, gelu=True)
        self.depthwise = fold(block.conv2, statistics, gelu=True)
        self.reduce = fold(block.conv3, statistics)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, H / stride, W / stride, C'], H and W multiples of the stride."""
        b, height, width, _ = x.shape
        s, c = self.stride, len(self.reduce.bias)
        out = x.new_empty(b, height // s, width // s, c)
        for images, begin, end in self._strips(x):
            first, last = max(0, begin - 1), min(height // s, end + 1)
            y = self.depthwise(self.expand(x[images, first * s : last * s]))
            y = self.reduce(y[:, begin - first : end - first])
            if self.residual:
                y = torch.ops.aten.gelu_(y.add_(x[images, begin:end]))
            out[images, begin:end] = y
        return out

    def _strips(self, x: Tensor) -> Iterator[tuple[slice, int, int]]:
        """Images and output rows (begin, end) to work on at once: some whole images, or a part of one."""
        b, height, width, _ = x.shape
        rows = height // self.stride
        limit = at_once(x.device, self.stride * width * len(self.expand.bias))
        count = b if limit is None else max(1, limit // rows)
        step = rows if limit is None else min(rows, limit)
        for image in range(0, b, count):
            for begin in range(0, rows, step):
                yield slice(image, image + count), begin, min(rows, begin + step)
