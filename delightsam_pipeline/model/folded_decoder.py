"""Self-patch prompt and query decoder with one modality's statistics, for inference alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from delightsam_pipeline.model.decoder import Detail, QueryDecoder
from delightsam_pipeline.model.folded import Linear, fold
from delightsam_pipeline.model.layers import Statistics
from delightsam_pipeline.model.prompt import PromptGenerator


class FoldedPrompt(nn.Module):
    """The prompt takes two values, with and without foreground: they are computed once."""

    def __init__(self, prompt: PromptGenerator) -> None:
        super().__init__()
        self.patch_decoder = copy.deepcopy(prompt.patch_decoder)
        values = prompt.dense_prompter(torch.tensor([0.0, 1.0], device=_device(prompt)).view(2, 1, 1, 1))
        self.register_buffer("values", values.flatten(1).detach().clone())

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """[B, h, w, 256] -> patch logits [B, 1, h/2, w/2], embedding with the prompt added [B, h, w, 256]."""
        b, height, width, c = embedding.shape
        patch_logits = self.patch_decoder(embedding.permute(0, 3, 1, 2))
        prompt = self.values[(patch_logits[:, 0] > 0).long()].view(b, height // 2, 1, width // 2, 1, c)
        prompted = embedding.view(b, height // 2, 2, width // 2, 2, c) + prompt
        return patch_logits, prompted.view(b, height, width, c)


class FoldedDetail(nn.Module):
    """The contour path at one scale."""

    def __init__(self, detail: Detail, statistics: Sequence[Statistics]) -> None:
        super().__init__()
        self.lateral = Linear(detail.lateral.weight.detach().flatten(1).clone(), detail.lateral.bias.detach().clone())
        self.convolutions = nn.Sequential(fold(detail.conv1, statistics, gelu=True), fold(detail.conv2, statistics))

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """[B, h, w, C] and encoder features [B, h, w, C'] -> [B, h, w, C]. The input is overwritten."""
        x += self.lateral(features)
        return self.convolutions(x).add_(x)


class FoldedDecoder(nn.Module):
    """Two-way transformer, upscaling to stride 4 and, where the model has it, the contour path."""

    def __init__(self, decoder: QueryDecoder, statistics: Sequence[Statistics]) -> None:
        super().__init__()
        self.transformer = copy.deepcopy(decoder.transformer)
        self.upscaling = copy.deepcopy(decoder.output_upscaling)
        pair = (decoder.detail8, decoder.detail4)
        self.details = nn.ModuleList(FoldedDetail(d, statistics) if d is not None else nn.Identity() for d in pair)
        self.register_buffer("fourier", decoder.fourier.clone())

    # the same code on this copy of the matrix
    position = QueryDecoder.position_encoding

    def forward(self, x: Tensor, queries: Tensor, fine: Sequence[Tensor], position: Tensor) -> tuple[Tensor, Tensor]:
        """Prompted embedding [B, h, w, 256], queries [K, 256], features at strides 4 and 8
        -> updated queries [B, K, 256] and pixel features [B, 4 h, 4 w, 32]."""
        b, height, width, _ = x.shape
        queries, tokens = self.transformer(queries.expand(b, -1, -1), x.flatten(1, 2), position)
        x = tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)
        up = self.upscaling
        x = torch.ops.aten.gelu_(up[1](up[0](x)))
        x = self._detail(0, x, fine[1])
        x = torch.ops.aten.gelu_(up[3](x))
        x = self._detail(1, x, fine[0])
        return queries, x.permute(0, 2, 3, 1)

    def _detail(self, which: int, x: Tensor, features: Tensor) -> Tensor:
        if isinstance(self.details[which], nn.Identity):
            return x
        return self.details[which](x.permute(0, 2, 3, 1), features).permute(0, 3, 1, 2)


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
