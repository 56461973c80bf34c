"""Segment Anything's image encoder (Kirillov et al., ICCV 2023), a teacher: ViT-B, L and H, at any input size.

A plain ViT whose blocks attend in windows, all but a few that attend over the whole image, with relative positions
decomposed per axis (Li et al., "Exploring plain vision transformer backbones for object detection", ECCV 2022).
Parameters are named as in Segment Anything's checkpoints, without their `image_encoder.`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.model.checkpoints import load_strictly, require_fit
from delightsam_pipeline.model.layers import LayerNorm2d

if TYPE_CHECKING:  # the adaptation is built from a SamShape, so it imports this file
    from delightsam_pipeline.model.sam_adaptation import Adaptation, BlockAdaptation

PREFIX = "image_encoder."
# attention logits that are held at once, on a CPU and elsewhere: a block over 1024 x 1024 pixels has 2e8 of them per
# image in ViT-B, and a GPU wants few large operations
_SCORES, _SCORES_ELSEWHERE = 2**22, 2**28


@dataclass(frozen=True)
class SamShape:
    """Width C, number of blocks and of heads; blocks that attend over the whole image, counted from 0; side of the
    others' windows in tokens; side of a token in pixels."""

    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    window: int = 14
    patch: int = 16


VIT_B = SamShape(768, 12, 12, (2, 5, 8, 11))
VIT_L = SamShape(1024, 24, 16, (5, 11, 17, 23))
VIT_H = SamShape(1280, 32, 16, (7, 15, 23, 31))


def _offsets(table: Tensor, side: int) -> Tensor:
    """A row of a table [L, d] of relative positions for each pair of a query's and a key's place: [side, side, d].

    A table for another side is stretched linearly to 2 side - 1 rows, as Segment Anything's own code does it; its
    middle row, offset 0, stays in the middle.
    """
    if len(table) != 2 * side - 1:
        stretched = F.interpolate(table.T[None].float(), size=2 * side - 1, mode="linear", align_corners=False)
        table = stretched[0].T.to(table.dtype)
    places = torch.arange(side, device=table.device)
    return table[places[:, None] - places + side - 1]


class Attention(nn.Module):
    """Multi-head self-attention over a map of tokens with relative positions of `side` tokens per axis."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // heads))

    def forward(self, x: Tensor, control: BlockAdaptation | None) -> Tensor:
        """[N, h, w, C] -> same shape. Some rows of queries at a time, so that memory grows with h w, not its square."""
        n, h, w, _ = x.shape
        q, k, v = self.qkv(x).view(n, h * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q = q.unflatten(2, (h, w))
        down, across = _offsets(self.rel_pos_h, h), _offsets(self.rel_pos_w, w)
        scores = _SCORES if x.is_cpu else _SCORES_ELSEWHERE
        rows = max(1, scores // (n * self.heads * w * h * w))
        parts = []
        for start in range(0, h, rows):
            some = slice(start, start + rows)
            inputs = q[:, :, some], k, v, down[some], across, control
            if control is not None and torch.is_grad_enabled():
                # what the backward pass needs of the logits would fill the memory: it computes them again
                parts.append(checkpoint(_attend, *inputs, use_reentrant=False, preserve_rng_state=False))
            else:
                parts.append(_attend(*inputs))
        return self.proj(torch.cat(parts, dim=2).transpose(1, 2).reshape(x.shape))


def _attend(q: Tensor, k: Tensor, v: Tensor, down: Tensor, across: Tensor, control: BlockAdaptation | None) -> Tensor:
    """Rows of queries [N, heads, r, w, d], keys and values [N, heads, h w, d], relative positions [r, h, d] and
    [w, w, d] -> [N, heads, r w, d]. A query's logit for the key at (y, x) is q k / sqrt(d) + q down_y + q across_x."""
    by_row = torch.einsum("nmrwd,rhd->nmrwh", q, down)
    by_column = torch.einsum("nmrwd,wxd->nmrwx", q, across)
    bias = (by_row[..., None] + by_column[..., None, :]).flatten(4).flatten(2, 3)
    q = q.flatten(2, 3)
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return output if control is None else control.attend(output, q, k, v, bias)


class Block(nn.Module):
    """Attention and feed-forward, each after a norm. window : side in tokens; None attends over the whole map."""

    def __init__(self, shape: SamShape, window: int | None, side: int) -> None:
        super().__init__()
        width = shape.width
        self.window = window
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, shape.heads, side if window is None else window)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        layers = {"lin1": nn.Linear(width, 4 * width), "act": nn.GELU(), "lin2": nn.Linear(4 * width, width)}
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor, control: BlockAdaptation | None) -> Tensor:
        """[B, h, w, C] -> same shape."""
        normed = self.norm1(x)
        x = x + (self._in_windows(normed, control) if self.window else self.attn(normed, control))
        normed = self.norm2(x)
        x = x + self.mlp(normed)
        return x if control is None else x + control.adapter(normed)

    def _in_windows(self, x: Tensor, control: BlockAdaptation | None) -> Tensor:
        """Zero padding of the normed map on the bottom and right to whole windows; padded tokens are not masked."""
        b, height, width, c = x.shape
        side = self.window
        x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = x.shape[1] // side, x.shape[2] // side
        x = x.view(b, rows, side, columns, side, c).transpose(2, 3).reshape(-1, side, side, c)
        x = self.attn(x, control)
        x = x.view(b, rows, columns, side, side, c).transpose(2, 3).reshape(b, rows * side, columns * side, c)
        return x[:, :height, :width]


class SamViT(nn.Module):
    """Scaled images [B, 3, H, W], H and W multiples of 32, -> embedding [B, 256, H/16, W/16].

    image_size : side in pixels of the square images that the tables of positions are for. For others they are
    interpolated: they belong to the picture as a whole, of any size. The absolute one is bicubic without
    antialiasing, which is how ViTDet, whose encoder this is, made it in the first place (Segment Anything has one
    input size and never interpolates it). Bilinear, common in medical SAM variants that are trained afterwards,
    shortens the vectors between neighbours, which hurts where a ViT is not (Touvron et al., "Training data-efficient
    image transformers", ICML 2021).

    The parameters are frozen from the start: a teacher learns by its Adaptation alone.
    """

    def __init__(self, shape: SamShape, image_size: int = 1024) -> None:
        super().__init__()
        side = image_size // shape.patch
        self.shape = shape
        self.pos_embed = nn.Parameter(torch.zeros(1, side, side, shape.width))
        proj = nn.Conv2d(3, shape.width, shape.patch, shape.patch)
        self.patch_embed = nn.Sequential(OrderedDict(proj=proj))
        windows = [None if number in shape.global_blocks else shape.window for number in range(shape.depth)]
        self.blocks = nn.ModuleList(Block(shape, window, side) for window in windows)
        self.neck = nn.Sequential(
            nn.Conv2d(shape.width, 256, 1, bias=False),
            LayerNorm2d(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            LayerNorm2d(256),
        )
        self.requires_grad_(False)

    def forward(self, images: Tensor, adaptation: Adaptation | None = None) -> Tensor:
        """[B, 3, H, W] -> [B, 256, H/16, W/16], with what an adaptation adds to the blocks."""
        x = self.patch_embed(images).permute(0, 2, 3, 1)
        x = x + self._positions(*x.shape[1:3])
        controls = [None] * len(self.blocks) if adaptation is None else adaptation.blocks
        for block, control in zip(self.blocks, controls, strict=True):
            x = block(x, control)
        return self.neck(x.permute(0, 3, 1, 2))

    def _positions(self, height: int, width: int) -> Tensor:
        """The position embedding for maps of this size, [1, height, width, C]."""
        own = self.pos_embed
        if own.shape[1:3] == (height, width):
            return own
        planes = own.permute(0, 3, 1, 2).float()
        planes = F.interpolate(planes, size=(height, width), mode="bicubic", align_corners=False)
        return planes.permute(0, 2, 3, 1).to(own.dtype)


def shape_of(state: Mapping[str, Tensor], file: Path | None = None) -> SamShape:
    """The shape of Segment Anything's image encoder in a state dict, from its tensors' names and shapes alone.

    Names may begin with `image_encoder.`; then other tensors are passed over. A block whose tables span the position
    embedding attends over the whole image. Raises UserError naming the first thing that does not fit.
    """
    tensors = _encoder(state)
    _, side, _, width = _sizes(tensors, "pos_embed", 4, file)
    patch = _sizes(tensors, "patch_embed.proj.weight", 4, file)[-1]
    depth = max(1, len({name.split(".")[1] for name in tensors if name.startswith("blocks.")}))
    tables = [_sizes(tensors, f"blocks.{number}.attn.rel_pos_h", 2, file) for number in range(depth)]
    head = tables[0][1]
    if width % head:
        raise _no_encoder(file, f"heads whose dimension divides the width {width}", head)
    full = 2 * side - 1
    windows = [(length + 1) // 2 for length, _ in tables if length != full]
    global_blocks = tuple(number for number, (length, _) in enumerate(tables) if length == full)
    shape = SamShape(width, depth, width // head, global_blocks, windows[0] if windows else SamShape.window, patch)
    with torch.device("meta"):
        require_fit(SamViT(shape, side * patch).state_dict(), tensors, file)
    return shape


def sam_vit_from(state: Mapping[str, Tensor], file: Path | None = None) -> SamViT:
    """Segment Anything's image encoder with the weights of a state dict, frozen and in evaluation mode.

    Raises UserError as shape_of does.
    """
    shape, tensors = shape_of(state, file), _encoder(state)
    with torch.device("meta"):
        vit = SamViT(shape, tensors["pos_embed"].shape[1] * shape.patch)
    vit = vit.to_empty(device="cpu")  # drawing starting values for 637 million parameters takes seconds
    load_strictly(vit, tensors, file)
    return vit.eval()


def _encoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image encoder's tensors without the prefix; all, where none has it."""
    return {n.removeprefix(PREFIX): t for n, t in state.items() if n.startswith(PREFIX)} or dict(state)


def _sizes(tensors: Mapping[str, Tensor], name: str, dimensions: int, file: Path | None) -> torch.Size:
    if name not in tensors:
        raise _no_encoder(file, f"a tensor {name}", "none")
    sizes = tensors[name].shape
    if len(sizes) != dimensions or 0 in sizes:
        raise _no_encoder(file, f"{name} of {dimensions} dimensions, none of them 0", list(sizes))
    return sizes


def _no_encoder(file: Path | None, expected: str, found: object) -> UserError:
    problem = "these weights hold no image encoder of Segment Anything"
    return UserError(problem, file=file, expected=expected, found=found, fix="give a SAM ViT-B, ViT-L or ViT-H file")
