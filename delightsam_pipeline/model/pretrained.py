"""Weights to start from: MobileSAM, the authors' release or one of our models."""

from __future__ import annotations

from pathlib import Path

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.model.checkpoints import load_tensors
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.model.release import body_name, statistics


def load_pretrained(model: DeLightSAM, path: Path) -> str:
    """Start a model's shared body from MobileSAM, a release checkpoint or one of our models; says what was taken.

    The running statistics become those of every modality of the model. Raises UserError when no tensor of the
    encoder fits.
    """
    state = load_tensors(path)
    if any(name.startswith("encoder.") for name in state):
        kind, names = "one of our models", {name: name for name in state}
    else:
        prefix = "SemiTViT." if any(name.startswith("SemiTViT.") for name in state) else "image_encoder."
        kind = "a De-LightSAM release" if prefix == "SemiTViT." else "MobileSAM"
        names = {name: ours for name in state if (ours := body_name(name, prefix))}
    own = model.state_dict()
    taken = {ours: state[name] for name, ours in names.items() if ours in own and own[ours].shape == state[name].shape}
    encoder = [name for name in own if name.startswith("encoder.")]
    missing = [name for name in encoder if name not in taken]
    if missing:
        raise UserError(
            "these weights do not fit the encoder",
            file=path,
            expected=f"a tensor for {missing[0]} {list(own[missing[0]].shape)}",
            found=f"{len(encoder) - len(missing)} of {len(encoder)} encoder tensors",
            fix="give mobile_sam.pt, a De-LightSAM release or a model of this program",
        )
    for modality in model.controllers:
        taken |= {k: v for k, v in statistics(model, taken, modality).items() if k not in taken}
    model.load_state_dict(taken, strict=False)
    return f"{path}: {kind}; {len(taken)} of {len(own)} tensors taken, the others start anew"
