"""A TinyViT block with its modality's controller, for inference alone: fused attention, one pair of feed-forwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delightsam_pipeline.model.controller import BlockController
from delightsam_pipeline.model.folded import Linear, at_once, fold
from delightsam_pipeline.model.layers import Statistics
from delightsam_pipeline.model.tiny_vit import HEAD_DIM, Block

_FLASH = hasattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu")  # torch's own, not for the public


@dataclass(frozen=True)
class Windows:
    """Which tokens of an h x w image stand in which window.

    places : [N T] where the tokens of the N windows come from, -1 for padding
    back : [h w] where each token of the image stands in the windows
    size : rows and columns of a window, T together
    """

    places: Tensor
    back: Tensor
    size: tuple[int, int]

    @staticmethod
    def of(height: int, width: int, size: tuple[int, int], device: torch.device) -> Windows:
        """Windows of `size` over an image that is padded on the bottom and right."""
        h, w = size
        rows, columns = -(-height // h), -(-width // w)
        tokens = torch.full((rows * h, columns * w), -1)
        tokens[:height, :width] = torch.arange(height * width).view(height, width)
        places = tokens.view(rows, h, columns, w).transpose(1, 2).flatten()
        there = (places >= 0).nonzero().flatten()
        back = torch.empty(height * width, dtype=torch.long)
        back[places[there]] = there
        return Windows(places.to(device), back.to(device), size)

    def batch(self, images: int) -> tuple[Tensor, Tensor]:
        """places and back for the tokens of several images one after the other; padding comes from one row more."""
        image = torch.arange(images, device=self.back.device)[:, None]
        places = torch.where(self.places < 0, images * len(self.back), self.places + image * len(self.back))
        return places.flatten(), (self.back + image * len(self.places)).flatten()


class FoldedAttention(nn.Module):
    """Window attention and the controller's token.

    One linear layer makes queries, keys, values and, unless the gate is 0, the token's logit of every query:
    LayerNorm's affine part, the scale and the token are in its weights. With L the log of the sum that the fused
    kernel divides by, the token's share is sigmoid(logit - L), as in BlockController.
    """

    def __init__(self, block: Block, control: BlockController) -> None:
        super().__init__()
        attention = block.attn
        self.heads = attention.heads
        self.gate = float(control.gate)
        weight, bias = _after_norm(attention.norm, attention.qkv)
        weight, bias = (p.unflatten(0, (self.heads, 3, HEAD_DIM)).transpose(0, 1) for p in (weight, bias))
        weight, bias = [weight.flatten(0, 2)], [bias.flatten()]
        if self.gate:
            token = control.token[:, 0].double() * HEAD_DIM**-0.5
            query, shift = (p[0][: self.heads * HEAD_DIM].unflatten(0, (self.heads, HEAD_DIM)) for p in (weight, bias))
            weight.append(torch.einsum("hd,hdc->hc", token, query))
            bias.append((token * shift).sum(1) + control.token_bias.double())
        self.inward = Linear(torch.cat(weight), torch.cat(bias))
        self.outward = Linear(attention.proj.weight.detach().clone(), attention.proj.bias.detach().clone())
        self.register_buffer("token", control.token[:, 0].detach().clone())
        self.register_buffer("biases", attention.attention_biases.detach().clone())

    def forward(self, x: Tensor, windows: Windows, bias: Tensor) -> None:
        """Add the attention to x [B, H, W, C] in its place; biases [1, heads, T, T]."""
        c, t = x.shape[-1], windows.size[0] * windows.size[1]
        places, back = windows.batch(len(x))
        flat = x.view(-1, c)
        normed = F.pad(F.layer_norm(flat, (c,)), (0, 0, 0, 1))
        attended = x.new_empty(len(places) // t, t, self.heads, HEAD_DIM)
        step = at_once(x.device, t * len(self.inward.bias)) or len(attended)
        for some, into in zip(places.split(step * t), attended.split(step), strict=True):
            self._attend(self.inward(normed.index_select(0, some)).view(*into.shape[:2], -1), bias, into)
        attended = attended.view(-1, c)
        step = at_once(x.device, 4 * c) or len(flat)
        for some, into in zip(back.split(step), flat.split(step), strict=True):
            into += self.outward(attended.index_select(0, some))

    def _attend(self, x: Tensor, bias: Tensor, into: Tensor) -> None:
        """What the first layer makes of N windows [N, T, 3 C (+ heads)] -> attention [N, T, heads, d]."""
        c = self.heads * HEAD_DIM
        q, k, v = x[..., : 3 * c].unflatten(-1, (3, self.heads, HEAD_DIM)).permute(2, 0, 3, 1, 4)
        if not self.gate:
            into.copy_(F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2))
            return
        attended, log_sum = _attend(q, k, v, bias)
        share = torch.sigmoid(x[..., 3 * c :].float() - log_sum.transpose(1, 2)) * self.gate
        torch.lerp(attended.transpose(1, 2), self.token, share[..., None].to(x.dtype), out=into)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """[N, heads, T, d] each -> attention of that shape and log of the sums of exponentials [N, heads, T]."""
    if q.is_cpu and _FLASH:
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, attn_mask=bias)
    scores = (q * HEAD_DIM**-0.5) @ k.transpose(-2, -1) + bias
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias), torch.logsumexp(scores.float(), -1)


class FoldedBlock(nn.Module):
    """One TinyViT block with its controller."""

    def __init__(self, block: Block, control: BlockController, statistics: Sequence[Statistics]) -> None:
        super().__init__()
        self.attention = FoldedAttention(block, control)
        self.local = fold(block.local_conv, statistics)
        pairs = [_after_norm(mlp.norm, mlp.fc1) for mlp in (block.mlp, control.mlp)]
        self.widen = Linear(*(torch.cat(parts) for parts in zip(*pairs, strict=True)), gelu=True)
        last = block.mlp.fc2, control.mlp.fc2
        self.narrow = Linear(torch.cat([fc.weight.detach() for fc in last], 1), sum(fc.bias.detach() for fc in last))

    def forward(self, x: Tensor, windows: Windows, bias: Tensor) -> Tensor:
        """[B, H, W, C] -> same shape; `bias` as FoldedAttention. The input is overwritten."""
        self.attention(x, windows, bias)
        x = self.local(x).contiguous()
        c = x.shape[-1]
        flat = x.view(-1, c)
        for some in flat.split(at_once(x.device, len(self.widen.bias)) or len(flat)):
            some += self.narrow(self.widen(F.layer_norm(some, (c,))))
        return x


def _after_norm(norm: nn.LayerNorm, linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias, in double, of a linear layer that takes in the scale and shift of the LayerNorm before it."""
    weight = linear.weight.detach().double()
    return weight * norm.weight.detach().double(), linear.bias.detach().double() + weight @ norm.bias.detach().double()
