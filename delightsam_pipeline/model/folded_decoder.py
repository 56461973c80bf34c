"""Self-patch prompt and query decoder, for inference alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from delightsam_pipeline.model.decoder import QueryDecoder
from delightsam_pipeline.model.folded import Linear
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


class FoldedDecoder(nn.Module):
    """Two-way transformer, upscaling to stride 4 and, where the model has it, the contour path."""

    def __init__(self, decoder: QueryDecoder) -> None:
        super().__init__()
        self.transformer = copy.deepcopy(decoder.transformer)
        self.upscaling = copy.deepcopy(decoder.output_upscaling)
        pair = (decoder.lateral8, decoder.lateral4)
        self.laterals = nn.ModuleList(
            Linear(own.weight.detach().flatten(1).clone(), own.bias.detach().clone()) for own in pair if own is not None
        )
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
        if self.laterals:
            x += self.laterals[0](fine[1]).permute(0, 3, 1, 2)
        x = torch.ops.aten.gelu_(up[3](x))
        if self.laterals:
            x += self.laterals[1](fine[0]).permute(0, 3, 1, 2)
        return queries, x.permute(0, 2, 3, 1)


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
