"""De-LightSAM, wired: one shared body, a controller per modality, a head per target set, one head open per call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

from torch import Tensor, nn

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.model.controller import Controller, pooled
from delightsam_pipeline.model.decoder import Head, QueryDecoder
from delightsam_pipeline.model.layers import ModalityBatchNorm
from delightsam_pipeline.model.prompt import PromptGenerator
from delightsam_pipeline.model.scope import Scope
from delightsam_pipeline.model.tiny_vit import TinyViT


def _key(name: str) -> str:
    """A name that torch accepts for a module: no dots, and none that its dictionaries use themselves."""
    key = name.replace(".", "_")
    return f"{key}_" if hasattr(nn.ModuleDict, key) else key


@dataclass(frozen=True)
class HeadSpec:
    """What a head is built from: its modality, the number of its targets and of the image channels it eats.

    query : in a model of joint queries, the one whose mask is this head's.
    """

    modality: str
    targets: int
    in_channels: int = 3
    query: int | None = None

    def to_dict(self) -> dict:
        """JSON-able form."""
        return asdict(self)


def head_name(specs: Mapping[str, HeadSpec], head: str | int) -> str:
    """The head of this name, or whose query has this number. Raises UserError listing the heads when there is none."""
    name = head if isinstance(head, str) else next((n for n, s in specs.items() if s.query == head), None)
    if name not in specs:
        raise UserError(f"the model has no head '{head}'", found=", ".join(specs))
    return name


class DeLightSAM(nn.Module):
    """The network of De-LightSAM (Xu et al., IEEE TCSVT 2025) with one-to-one routing and a contour path.

    fit_windows, detail, joint : True, True, 0 is ours; False, False, 7 is the authors' release, whose heads share
    that many queries, all in the decoder at once, and one mask MLP. encoder : a teacher's, in the place of TinyViT-5M.
    """

    def __init__(
        self,
        heads: Mapping[str, HeadSpec],
        fit_windows: bool = True,
        detail: bool = True,
        joint: int = 0,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder = TinyViT(fit_windows) if encoder is None else encoder
        self.prompt = PromptGenerator()
        self.decoder = QueryDecoder(self.encoder.widths[:2] if detail else None)
        self.controllers = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        self.joint = Head(joint) if joint else None
        self.specs: dict[str, HeadSpec] = {}
        self.form = {"fit_windows": fit_windows, "detail": detail, "joint": joint}
        self.scope = Scope()
        norms = [m for m in self.modules() if isinstance(m, ModalityBatchNorm)]
        for index, norm in enumerate(norms):
            norm.index = index
        for part in [*norms, self.encoder]:
            part.scope = self.scope
        for name, spec in heads.items():
            self.add_head(name, spec)

    def add_head(self, name: str, spec: HeadSpec) -> None:
        """Add a head, and its modality's controller if that is new; nothing that exists is touched.

        Raises UserError when the name is taken, and for a model of joint queries when the head has none of them.
        """
        if (self.joint is None) != (spec.query is None):
            fix = "a model of the authors' release keeps the heads it has; train a new model"
            raise UserError(f"head '{name}' cannot be added: queries are either joint or each head's own", fix=fix)
        if any(_key(name) == _key(taken) for taken in self.specs):
            raise UserError(f"the model already has a head '{name}'", found=", ".join(self.specs))
        if _key(spec.modality) not in self.controllers:
            self.controllers[_key(spec.modality)] = Controller(self.encoder.controlled_blocks(), self._statistics())
        if self.joint is None:
            self.heads[_key(name)] = Head(spec.targets, spec.in_channels)
        self.specs[name] = spec

    def _statistics(self) -> list[tuple[Tensor, Tensor]]:
        """What a new modality starts from, per batch norm: pooled over the modalities there are, else the shared."""
        norms = [m for m in self.modules() if isinstance(m, ModalityBatchNorm)]
        if not self.controllers:
            return [(norm.running_mean, norm.running_var) for norm in norms]
        present = [[controller.statistics[norm.index] for controller in self.controllers.values()] for norm in norms]
        return [pooled([own.mean for own in of_one], [own.var for own in of_one]) for of_one in present]

    def freeze_all_but(self, opened: Collection[str]) -> None:
        """Leave only these heads to training, and the controllers of modalities that no other head uses.

        Whatever is then trained, the outputs of all other heads stay bit-identical.
        """
        self.requires_grad_(False)
        locked = {spec.modality for name, spec in self.specs.items() if name not in opened}
        for name in opened:
            self.head(name).requires_grad_(True)
            if self.specs[name].modality not in locked:
                self.controller(name).requires_grad_(True)

    def controller(self, head: str | int) -> Controller:
        """The controller of a head's modality."""
        return self.controllers[_key(self.specs[self._named(head)].modality)]

    def head(self, head: str | int) -> Head:
        """What a head owns: queries, mask MLP and projection."""
        return self.heads[_key(self._named(head))] if self.joint is None else self.joint

    def forward(self, images: Tensor, head: str | int) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled images [B, C_in, H, W] (H, W multiples of 32) of one head, by name or by the number of its query
        -> mask logits [B, K, H/4, W/4], patch logits [B, 1, H/32, W/32], embedding [B, 256, H/16, W/16].

        Raises UserError when there is no such head.
        """
        return self.decode(self.encode(images, head), head)

    def encode(self, images: Tensor, head: str | int) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled images [B, C_in, H, W] of one head -> embedding [B, 256, H/16, W/16], features [B, 64, H/4, W/4]
        and [B, 128, H/8, W/8]."""
        own = self.head(head)
        if own.project is not None:
            images = own.project(images)
        return self.encoder(images, self.controller(head))

    def decode(self, features: tuple[Tensor, Tensor, Tensor], head: str | int) -> tuple[Tensor, Tensor, Tensor]:
        """What `encode` returns -> what `forward` returns."""
        return self.scope.run(self._decode, head, *features)

    def _decode(self, head: str | int, embedding: Tensor, *fine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        own, query = self.head(head), self.specs[self._named(head)].query
        patch_logits, prompt = self.prompt(embedding)
        queries, pixels = self.decoder(embedding + prompt, own.queries, fine)
        opened = queries if query is None else queries[:, query : query + 1]
        return own.masks(opened, pixels), patch_logits, embedding

    def _named(self, head: str | int) -> str:
        return head_name(self.specs, head)
