"""What belongs to one modality alone: its controller in every TinyViT block, and its batch-norm statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from delightsam_pipeline.model.layers import FeedForward, Statistics


class BlockController(nn.Module):
    """A modality's part of one TinyViT block: an attention token behind a gate, and a second feed-forward.

    The token is one more key and value per head with one scalar added to its logits. With s its logit, L the log of
    the sum of the exponentials of the other logits and o_0 the attention without the token, attention with the token
    is o_0 + sigmoid(s - L) (token - o_0). The gate multiplies that difference: 0 leaves the block as it was, 1 is the
    plain concatenation of the authors' release. A new controller (gate 0, last linear 0) is an exact identity, and
    every parameter of it can learn.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.token = nn.Parameter(0.02 * torch.randn(heads, 1, dim // heads))
        self.token_bias = nn.Parameter(torch.zeros(1))
        self.gate = nn.Parameter(torch.zeros(1))
        self.mlp = FeedForward(dim)
        nn.init.zeros_(self.mlp.fc2.weight)
        nn.init.zeros_(self.mlp.fc2.bias)

    def attend(self, output: Tensor, scaled_query: Tensor, scores: Tensor) -> Tensor:
        """Attention output [N, heads, T, d], scaled queries [N, heads, T, d], scores [N, heads, T, T] -> output."""
        token_score = scaled_query @ self.token.transpose(-2, -1) + self.token_bias
        share = torch.sigmoid(token_score - torch.logsumexp(scores, dim=-1, keepdim=True))
        return output + self.gate * share.to(output.dtype) * (self.token - output)


class Controller(nn.Module):
    """One modality's controllers, one per TinyViT block (in order), and its statistics, one per batch norm.

    blocks : width and heads of each block. statistics : mean and variance [C] that each batch norm starts from.
    """

    def __init__(self, blocks: Iterable[tuple[int, int]], statistics: Iterable[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(BlockController(dim, heads) for dim, heads in blocks)
        self.statistics = nn.ModuleList(Statistics(mean, var) for mean, var in statistics)


def pooled(means: Sequence[Tensor], variances: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """One batch norm's statistics of several modalities, [C] each -> those of an equal mixture of them, [C].

    The mean of the means, and the mean of the variances plus the variance of the means (law of total variance; equal
    to the mean of var + mean^2 less the squared mean, without its cancellation).
    """
    mean = torch.stack(list(means)).mean(dim=0)
    var = torch.stack(list(variances)).mean(dim=0) + torch.stack(list(means)).var(dim=0, correction=0)
    return mean, var
