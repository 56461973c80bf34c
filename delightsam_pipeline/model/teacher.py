"""Teachers for distillation (De-LightSAM, MDKD): the same network around a larger encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from delightsam_pipeline.model.checkpoints import load_tensors
from delightsam_pipeline.model.controller import Controller
from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec
from delightsam_pipeline.model.pretrained import load_pretrained
from delightsam_pipeline.model.sam_adaptation import Adaptation
from delightsam_pipeline.model.sam_vit import SamViT, sam_vit_from
from delightsam_pipeline.model.tiny_vit import WIDE, TinyViT

OWN = "wide"  # a teacher of our own, in the place of a file of SAM's weights


class AdaptedSam(nn.Module):
    """SAM's frozen image encoder with one medical adaptation, in the place of TinyViT; controllers have no part."""

    widths = ()

    def __init__(self, vit: SamViT) -> None:
        super().__init__()
        self.vit = vit
        self.adaptation = Adaptation(vit.shape)

    def controlled_blocks(self) -> list[tuple[int, int]]:
        """None: the adaptation serves all modalities."""
        return []

    def forward(self, images: Tensor, controller: Controller) -> tuple[Tensor]:
        """[B, 3, H, W] -> embedding [B, 256, H/16, W/16] alone."""
        return (self.vit(images, self.adaptation),)


def make_teacher(source: str | Path, heads: Mapping[str, HeadSpec]) -> DeLightSAM:
    """A network with these heads around TinyViT-21M (`source` OWN, to be trained whole), or around SAM's ViT-B, L or
    H from a file, frozen but for its adaptation, with SAM's decoder.

    Teachers have no contour path: all that their masks hold must be in the embedding, which is what is distilled.
    Raises UserError when the file holds no SAM.
    """
    if source == OWN:
        return DeLightSAM(heads, detail=False, encoder=TinyViT(widths=WIDE))
    file = Path(source)
    vit = sam_vit_from(load_tensors(file), file)
    teacher = DeLightSAM(heads, detail=False, encoder=AdaptedSam(vit))
    load_pretrained(teacher, file)
    return teacher


def taught_parts(model: DeLightSAM) -> list[nn.Module]:
    """What a teacher hands over to a student, beside the position encoding: prompt generator, decoder and heads."""
    return [model.prompt, model.decoder.transformer, model.decoder.output_upscaling, model.heads]


def hand_over(teacher: DeLightSAM, student: DeLightSAM) -> None:
    """Give a student of the same heads what the teacher has learned of masks."""
    for given, own in zip(taught_parts(teacher), taught_parts(student), strict=True):
        own.load_state_dict(given.state_dict())
    student.decoder.fourier.copy_(teacher.decoder.fourier)
