"""The shared image encoder: TinyViT-5M in the form MobileSAM uses, controlled by one modality at a time.

De-LightSAM (Xu et al., 2025), domain-controllable encoder. Any height and width that are multiples of 32.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delightsam_pipeline.model.controller import BlockController, Controller
from delightsam_pipeline.model.layers import ConvNorm, FeedForward, LayerNorm2d, Statistics
from delightsam_pipeline.model.scope import Scope

HEAD_DIM = 32
# depth and largest window of the stages; stage 0 is convolutional
DEPTHS, WINDOWS = (2, 2, 6, 2), (0, 7, 14, 7)
# widths of the stages: TinyViT-5M, ours and the authors', and TinyViT-21M (Wu et al., ECCV 2022), a teacher
WIDTHS, WIDE = (64, 128, 160, 320), (96, 192, 384, 576)


class Stem(nn.Module):
    """[B, 3, H, W] -> [B, C, H/4, W/4] by two strided 3x3 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.ModuleList([ConvNorm(3, width // 2, 3, 2), nn.Identity(), ConvNorm(width // 2, width, 3, 2)])

    def forward(self, x: Tensor, statistics: Sequence[Statistics]) -> Tensor:
        return self.seq[2](F.gelu(self.seq[0](x, statistics)), statistics)


class MBConv(nn.Module):
    """Inverted residual: 1x1 (expand 4), depthwise 3x3, 1x1; the last scale starts at 0."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, 4 * dim)
        self.conv2 = ConvNorm(4 * dim, 4 * dim, 3, groups=4 * dim)
        self.conv3 = ConvNorm(4 * dim, dim, scale=0.0)

    def forward(self, x: Tensor, statistics: Sequence[Statistics]) -> Tensor:
        y = F.gelu(self.conv1(x, statistics))
        y = F.gelu(self.conv2(y, statistics))
        return F.gelu(x + self.conv3(y, statistics))


class Merge(nn.Module):
    """[B, C, H, W] -> [B, C', H/stride, W/stride]: 1x1, depthwise 3x3 with the stride, 1x1."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(c_in, c_out)
        self.conv2 = ConvNorm(c_out, c_out, 3, stride, groups=c_out)
        self.conv3 = ConvNorm(c_out, c_out)

    def forward(self, x: Tensor, statistics: Sequence[Statistics]) -> Tensor:
        x = F.gelu(self.conv1(x, statistics))
        return self.conv3(F.gelu(self.conv2(x, statistics)), statistics)


def window_side(side: int, largest: int, fit: bool) -> int:
    """Side of the windows over `side` tokens: `largest`, or the smallest that needs no more windows than that.

    Less is then padded; the bias table goes by offset, so a smaller window uses the same entries.
    """
    return -(-side // -(-side // largest)) if fit else largest


@lru_cache(maxsize=64)
def offsets(height: int, width: int, table: int, device: torch.device) -> Tensor:
    """[(h w) * (h w)] places in a bias table of side `table` of the offsets (|dy|, |dx|) between two tokens."""
    # an inference tensor in this cache could not be used in a later training step
    with torch.inference_mode(False):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        y, x = y.flatten(), x.flatten()
        distance = (y[:, None] - y).abs() * table + (x[:, None] - x).abs()
        return distance.flatten().to(device)


class WindowAttention(nn.Module):
    """Multi-head self-attention in windows with a learned bias per head and token offset."""

    def __init__(self, dim: int, window: int) -> None:
        super().__init__()
        self.heads = dim // HEAD_DIM
        self.window = window
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(self.heads, window * window))

    def forward(self, x: Tensor, size: tuple[int, int], control: BlockController) -> Tensor:
        """Tokens [N, T, C] of N windows of `size` = (h, w), T = h w -> same shape."""
        n, t, c = x.shape
        qkv = self.qkv(self.norm(x)).view(n, t, self.heads, 3, HEAD_DIM).permute(3, 0, 2, 1, 4)
        q, k, v = qkv[0] * HEAD_DIM**-0.5, qkv[1], qkv[2]
        places = offsets(*size, self.window, x.device)
        bias = self.attention_biases.index_select(1, places).view(self.heads, t, t)
        scores = q @ k.transpose(-2, -1) + bias
        output = control.attend(scores.softmax(dim=-1) @ v, q, scores)
        return self.proj(output.transpose(1, 2).reshape(n, t, c))


class Block(nn.Module):
    """TinyViT block: window attention, depthwise 3x3, feed-forward, with the modality's controller beside them."""

    def __init__(self, dim: int, window: int) -> None:
        super().__init__()
        self.attn = WindowAttention(dim, window)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = FeedForward(dim)

    def forward(self, x: Tensor, windows: tuple[int, int], control: BlockController, statistics) -> Tensor:
        """[B, C, H, W] -> same shape; `windows` = (h, w) of the attention windows."""
        x = x + self._attend(x.permute(0, 2, 3, 1), windows, control).permute(0, 3, 1, 2)
        x = self.local_conv(x, statistics).permute(0, 2, 3, 1)
        x = x + self.mlp(x) + control.mlp(x)
        return x.permute(0, 3, 1, 2)

    def _attend(self, x: Tensor, windows: tuple[int, int], control: BlockController) -> Tensor:
        """[B, H, W, C]; zero padding on the bottom and right to whole windows, padded tokens are not masked."""
        b, height, width, c = x.shape
        h, w = windows
        x = F.pad(x, (0, 0, 0, -width % w, 0, -height % h))
        rows, columns = x.shape[1] // h, x.shape[2] // w
        x = x.view(b, rows, h, columns, w, c).transpose(2, 3).reshape(-1, h * w, c)
        x = self.attn(x, windows, control)
        x = x.view(b, rows, columns, h, w, c).transpose(2, 3).reshape(b, rows * h, columns * w, c)
        return x[:, :height, :width]


class Stage(nn.Module):
    """Blocks of one stage, then the merge to the next."""

    def __init__(self, number: int, fit_windows: bool, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        width, window = widths[number], WINDOWS[number]
        self.window = window
        self.fit_windows = fit_windows
        make = (lambda: Block(width, window)) if window else (lambda: MBConv(width))
        self.blocks = nn.ModuleList(make() for _ in range(DEPTHS[number]))
        self.downsample = None
        if number < 3:
            self.downsample = Merge(width, widths[number + 1], 1 if number == 2 else 2)

    def forward(self, x: Tensor, controls: Sequence[BlockController], statistics, scope: Scope) -> Tensor:
        if not self.window:
            for block in self.blocks:
                x = scope.run(block, x, statistics)
            return x
        windows = tuple(window_side(side, self.window, self.fit_windows) for side in x.shape[-2:])
        for block, control in zip(self.blocks, controls, strict=True):
            x = scope.run(block, x, windows, control, statistics)
        return x


class TinyViT(nn.Module):
    """Images [B, 3, H, W] -> embedding [B, 256, H/16, W/16] and the features at strides 4 and 8.

    fit_windows : let windows shrink so that feature maps need little padding. False gives the authors' partition.
    widths : of the four stages, multiples of 32.
    """

    def __init__(self, fit_windows: bool = True, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.scope = Scope()  # the model's, when it is a part of one
        self.patch_embed = Stem(widths[0])
        self.layers = nn.ModuleList(Stage(number, fit_windows, widths) for number in range(4))
        self.neck = nn.Sequential(
            nn.Conv2d(widths[3], 256, 1, bias=False),
            LayerNorm2d(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            LayerNorm2d(256),
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def controlled_blocks(self) -> list[tuple[int, int]]:
        """(width, heads) of every block that a controller has a part in, in order."""
        return [(self.widths[s], self.widths[s] // HEAD_DIM) for s in (1, 2, 3) for _ in range(DEPTHS[s])]

    def forward(self, x: Tensor, controller: Controller) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 3, H, W] -> embedding [B, 256, H/16, W/16], features [B, C0, H/4, W/4] and [B, C1, H/8, W/8]."""
        statistics, scope = controller.statistics, self.scope
        x = scope.run(self.patch_embed, x, statistics)
        features, used = [], 0
        for layer in self.layers:
            count = len(layer.blocks) if layer.window else 0
            x = layer(x, controller.blocks[used : used + count], statistics, scope)
            used += count
            features.append(x)
            if layer.downsample is not None:
                x = scope.run(layer.downsample, x, statistics)
        return self.neck(x), features[0], features[1]
