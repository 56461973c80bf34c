"""The network as it predicts: one modality's heads, everything folded, fused and channels last, the same logits."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec, head_name
from delightsam_pipeline.model.folded_decoder import FoldedDecoder, FoldedPrompt
from delightsam_pipeline.model.folded_encoder import FoldedEncoder

# image sizes whose places are kept (10 MB at 1024 x 1024)
_SIZES = 4


def prepare_for_inference(model: DeLightSAM, modality: str) -> InferenceForm:
    """A copy of the part of a trained model that predicts one modality, in a form that only predicts, but faster.

    The model is left as it is; nothing later done to it reaches the form. Raises UserError when none of its heads is
    of that modality.
    """
    specs = {name: spec for name, spec in model.specs.items() if spec.modality == modality}
    if not specs:
        found = ", ".join(sorted({spec.modality for spec in model.specs.values()}))
        raise UserError(f"the model has no head of modality '{modality}'", found=found)
    with torch.inference_mode(False), torch.no_grad():
        return InferenceForm(model, specs).eval()


class InferenceForm(nn.Module):
    """What DeLightSAM computes in evaluation mode, for the heads of one modality; under autocast, in its type."""

    def __init__(self, model: DeLightSAM, specs: dict[str, HeadSpec]) -> None:
        super().__init__()
        self.specs = specs
        self.exact = _Network(model, specs)
        self.lower = nn.ModuleDict()
        self.requires_grad_(False)
        self._sizes: dict[tuple, tuple] = {}

    def forward(self, images: Tensor, head: str | int) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled images [B, C_in, H, W] (H, W multiples of 32) of one head, by name or by the number of its query
        -> mask logits [B, K, H/4, W/4], patch logits [B, 1, H/32, W/32], embedding [B, 256, H/16, W/16].

        Raises UserError when the head is not of this modality.
        """
        name = head_name(self.specs, head)
        device = images.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        with torch.autocast(device, enabled=False):
            places = self._places(*images.shape[-2:], images.device, dtype)
            return self._network(dtype)(images.to(dtype), list(self.specs).index(name), places)

    def _network(self, dtype: torch.dtype) -> nn.Module:
        """The network with weights of this type, which are made at their first use."""
        if dtype == torch.float32:
            return self.exact
        key = str(dtype).replace(".", "_")
        if key not in self.lower:
            self.lower[key] = copy.deepcopy(self.exact).to(dtype)
        return self.lower[key]

    def _places(self, height: int, width: int, device: torch.device, dtype: torch.dtype) -> tuple:
        """What depends on the image's size and the weights alone: windows, attention biases, position encoding."""
        key = height, width, device, dtype
        if key not in self._sizes:
            while len(self._sizes) >= _SIZES:
                self._sizes.pop(next(iter(self._sizes)))
            windows = self.exact.encoder.windows(height, width, device, dtype)
            self._sizes[key] = windows, self.exact.decoder.position(height // 16, width // 16).to(dtype)
        return self._sizes[key]


class _Network(nn.Module):
    """The folded parts, all of one type."""

    def __init__(self, model: DeLightSAM, specs: dict[str, HeadSpec]) -> None:
        super().__init__()
        self.encoder = FoldedEncoder(model.encoder, model.controller(next(iter(specs))))
        self.prompt = FoldedPrompt(model.prompt)
        self.decoder = FoldedDecoder(model.decoder)
        owned = [model.joint] if model.joint is not None else [model.head(name) for name in specs]
        self.heads = copy.deepcopy(nn.ModuleList(owned))
        self.queries = [spec.query for spec in specs.values()]

    def forward(self, images: Tensor, number: int, places: tuple) -> tuple[Tensor, Tensor, Tensor]:
        """As InferenceForm.forward; `number` of the head in the order of the specs."""
        windows, position = places
        own, query = self.heads[number if len(self.heads) > 1 else 0], self.queries[number]
        if own.project is not None:
            images = own.project(images)
        embedding, *fine = self.encoder(images, windows)
        patch_logits, prompted = self.prompt(embedding)
        queries, pixels = self.decoder(prompted, own.queries, fine, position)
        opened = queries if query is None else queries[:, query : query + 1]
        return own.masks(opened, pixels.permute(0, 3, 1, 2)), patch_logits, embedding.permute(0, 3, 1, 2)
