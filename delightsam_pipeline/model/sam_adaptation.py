"""What medicine adds to a frozen Segment Anything encoder: the teacher's part that learns (De-LightSAM, MDKD)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delightsam_pipeline.model.sam_vit import SamShape


class BlockAdaptation(nn.Module):
    """Prompt tokens behind a gate in a block's attention, and an adapter beside its feed-forward.

    A token is one more key and, by the same parameter, one more value of its head. With o the attention without
    tokens and p the attention with them, the output is o + gate (p - o): a gate of 1 is plain concatenation, and the
    gate starts at 0 (a token's logit so low that it does not count would have no gradient). The adapter's last
    linear starts at 0. So a new adaptation is an exact identity, and every parameter of it can learn.
    """

    def __init__(self, width: int, heads: int, tokens: int, bottleneck: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(0.02 * torch.randn(heads, tokens, width // heads))
        self.gate = nn.Parameter(torch.zeros(1))
        inner = width // bottleneck
        self.adapter = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        nn.init.zeros_(self.adapter[2].weight)
        nn.init.zeros_(self.adapter[2].bias)

    def attend(self, output: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Attention output and queries [N, heads, Q, d], keys and values [N, heads, T, d], biases of the logits
        [N, heads, Q, T] -> output [N, heads, Q, d]. Tokens have no place, hence no bias."""
        # attention is computed twice: taking the tokens' share out of one pass would cost the identity its exactness
        tokens = self.tokens.to(k.dtype).expand(len(k), -1, -1, -1)
        keys, values = torch.cat([k, tokens], dim=2), torch.cat([v, tokens], dim=2)
        bias = F.pad(bias, (0, tokens.shape[2]))
        joint = F.scaled_dot_product_attention(q, keys, values, attn_mask=bias)
        return output + self.gate.to(output.dtype) * (joint - output)


class Adaptation(nn.Module):
    """One adaptation of a SamViT of this shape for all modalities: a BlockAdaptation per block, in order.

    tokens : prompt tokens per head. bottleneck : how many times narrower than the block its adapter is.
    The identity of a new one is exact to the bit without gradients; with them the CPU takes another attention kernel.
    """

    def __init__(self, shape: SamShape, tokens: int = 8, bottleneck: int = 4) -> None:
        super().__init__()
        parts = (BlockAdaptation(shape.width, shape.heads, tokens, bottleneck) for _ in range(shape.depth))
        self.blocks = nn.ModuleList(parts)
