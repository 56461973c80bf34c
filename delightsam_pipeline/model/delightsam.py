"""De-LightSAM, wired: one shared body, a controller per modality, a head per target set, one head open per call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from torch import Tensor, nn

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.model.controller import Controller
from delightsam_pipeline.model.decoder import Head, QueryDecoder
from delightsam_pipeline.model.layers import ModalityBatchNorm
from delightsam_pipeline.model.prompt import PromptGenerator
from delightsam_pipeline.model.tiny_vit import TinyViT


def _key(name: str) -> str:
    """A name that torch accepts for a module: no dots, and none that its dictionaries use themselves."""
    key = name.replace(".", "_")
    return f"{key}_" if hasattr(nn.ModuleDict, key) else key


@dataclass(frozen=True)
class HeadSpec:
    """What a head is built from: its modality, the number of its targets and of the image channels it eats."""

    modality: str
    targets: int
    in_channels: int = 3

    def to_dict(self) -> dict:
        """JSON-able form."""
        return asdict(self)


class DeLightSAM(nn.Module):
    """The network of De-LightSAM (Xu et al., IEEE TCSVT 2025) with one-to-one routing and a contour path.

    fit_windows, detail : True is ours; False, False is the authors' release.
    """

    def __init__(self, heads: Mapping[str, HeadSpec], fit_windows: bool = True, detail: bool = True) -> None:
        super().__init__()
        self.encoder = TinyViT(fit_windows)
        self.prompt = PromptGenerator()
        self.decoder = QueryDecoder(detail)
        self.controllers = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        self.specs: dict[str, HeadSpec] = {}
        norms = [m for m in self.modules() if isinstance(m, ModalityBatchNorm)]
        for index, norm in enumerate(norms):
            norm.index = index
        for name, spec in heads.items():
            self.add_head(name, spec)

    def add_head(self, name: str, spec: HeadSpec) -> None:
        """Add a head, and its modality's controller if that is new; nothing that exists is touched.

        Raises UserError when the name is taken.
        """
        if _key(name) in self.heads:
            raise UserError(f"the model already has a head '{name}'", found=", ".join(self.specs))
        if _key(spec.modality) not in self.controllers:
            norms = [m for m in self.modules() if isinstance(m, ModalityBatchNorm)]
            self.controllers[_key(spec.modality)] = Controller(self.encoder.controlled_blocks(), norms)
        self.heads[_key(name)] = Head(spec.targets, spec.in_channels)
        self.specs[name] = spec

    def forward(self, images: Tensor, head: str) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled images [B, C_in, H, W] (H, W multiples of 32) of one head
        -> mask logits [B, K, H/4, W/4], patch logits [B, 1, H/32, W/32], embedding [B, 256, H/16, W/16]."""
        own = self.heads[_key(head)]
        controller = self.controllers[_key(self.specs[head].modality)]
        if own.project is not None:
            images = own.project(images)
        embedding, fine4, fine8 = self.encoder(images, controller)
        patch_logits, prompt = self.prompt(embedding)
        queries, pixels = self.decoder(embedding + prompt, own.queries, (fine4, fine8), controller.statistics)
        return own.masks(queries, pixels), patch_logits, embedding
