"""What a weights file is, told by the names and shapes of its tensors: the file's own name says nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.model.release import body_name
from delightsam_pipeline.model.sam_vit import VIT_B, VIT_H, VIT_L

ACCEPTED = "give mobile_sam.pt, SAM ViT-B, ViT-L or ViT-H, a De-LightSAM release, or one of our models (file or folder)"
_VITS = {"SAM ViT-B": VIT_B, "SAM ViT-L": VIT_L, "SAM ViT-H": VIT_H}
_PATCHES = "image_encoder.patch_embed.proj.weight"
# tensors that the network has no use for: what they are and why, the first pattern that is found counts
_NO_PLACE = (
    (r"num_batches_tracked$", "batch counters", "not needed"),
    (r"\.(norm_)?head\.(weight|bias)$", "classifier of TinyViT", "nothing is classified here"),
    (r"med_|_med", "controller", "it belongs to one modality, and the file does not say which"),
    (r"^mask_decoder\.iou_", "IoU head", "masks are not ranked here"),
    (r"mask_tokens|mask_query|hypernetworks", "queries and mask MLPs", "every head here has its own"),
    (r"^prompt_encoder\.", "prompt encoder", "no points or boxes are given here"),
    (r"^image_encoder\.", "image encoder", "a ViT, another network than ours; --teacher takes it"),
)


@dataclass(frozen=True)
class Source:
    """What a file is and how its tensors are called.

    kind : in words. names : our name -> the file's, of all tensors that have a place in our networks. needed : the
    part of our network, "encoder" or "decoder", without which the file is of no use. prefix : what the file has in
    the place of our "encoder." or "decoder." there.
    """

    kind: str
    names: dict[str, str]
    needed: str
    prefix: str


def recognise(state: Mapping[str, Tensor], file: Path) -> Source:
    """What these tensors of `file` are. Raises UserError naming the first difference when they are nothing known."""
    for prefix, kind in (("encoder.", "one of our models"), ("SemiTViT.", "a De-LightSAM release")):
        if any(name.startswith(prefix) for name in state):
            names = {name: name for name in state} if prefix == "encoder." else _foreign_names(state, prefix)
            return Source(kind, names, "encoder", prefix)
    if _PATCHES in state:
        decoder = {name: value for name, value in state.items() if not name.startswith("image_encoder.")}
        return Source(_vit(state), _foreign_names(decoder, "image_encoder."), "decoder", "mask_decoder.")
    if any(name.startswith(("image_encoder.layers.", "image_encoder.patch_embed.seq.")) for name in state):
        return Source("MobileSAM", _foreign_names(state, "image_encoder."), "encoder", "image_encoder.")
    first = next((f"{name} {list(value.shape)}" for name, value in state.items()), "nothing")
    expected = "image_encoder.patch_embed.seq.0.c.weight [32, 3, 3, 3], as in mobile_sam.pt"
    raise UserError("is none of the weights that are known", file=file, expected=expected, found=first, fix=ACCEPTED)


def without_place(name: str) -> tuple[str, str]:
    """What a foreign tensor is that has no place in our networks, and why it has none."""
    found = ((what, reason) for pattern, what, reason in _NO_PLACE if re.search(pattern, name))
    return next(found, ("other tensors", "unknown here"))


def _foreign_names(state: Mapping[str, Tensor], encoder_prefix: str) -> dict[str, str]:
    return {ours: name for name in state if (ours := body_name(name, encoder_prefix)) is not None}


def _vit(state: Mapping[str, Tensor]) -> str:
    """What a SAM is by the width and depth of its image encoder."""
    width = next(iter(state[_PATCHES].shape), 0)
    depth = len({name.split(".")[2] for name in state if name.startswith("image_encoder.blocks.")})
    known = {(shape.width, shape.depth): name for name, shape in _VITS.items()}
    return known.get((width, depth), f"a SAM of width {width} and depth {depth}")
