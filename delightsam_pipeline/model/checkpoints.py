"""Weights from outside: the authors' release and MobileSAM, by the names and shapes of their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec

# stage and block of the ten controlled blocks of the encoder, in order
_BLOCKS = [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4), (2, 5), (3, 0), (3, 1)]
_FOURIER = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_UNUSED = ("num_batches_tracked", ".head.weight", ".head.bias", "norm_head.weight", "norm_head.bias")


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Named tensors of a .safetensors or .pth/.pt file; nothing in the file is executed.

    Raises UserError when the file is missing, damaged, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError("no such weights file", file=path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"weights cannot be read safely ({reason})", file=path) from None
    for key in ("state_dict", "model"):
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    if not isinstance(value, dict) or not all(isinstance(v, Tensor) for v in value.values()):
        raise UserError("weights file", file=path, expected="a dictionary of tensors", found=type(value).__name__)
    return value


def _ours(name: str, encoder_prefix: str) -> str | None:
    """Our name of a foreign tensor of the shared body, None when we have no use for it."""
    if name.endswith(_UNUSED) or "med_" in name or "_med" in name:
        return None
    if name.startswith(encoder_prefix):
        return "encoder." + name[len(encoder_prefix) :]
    if name == _FOURIER:
        return "decoder.fourier"
    if name.startswith(("mask_decoder.transformer.", "mask_decoder.output_upscaling.")):
        return "decoder." + name[len("mask_decoder.") :]
    if name.startswith(("patch_decoder.", "dense_prompter.")):
        return "prompt." + name
    return None


def from_release(state: Mapping[str, Tensor]) -> DeLightSAM:
    """A release checkpoint (504 tensors) as a model with one head, 'release', of seven joint queries.

    Mask k of the result is the release's mask for modality id k. The gates stand at 1: the plain concatenation.
    Raises UserError naming the first tensor that is missing or has another shape.
    """
    model = DeLightSAM({"release": HeadSpec("release", 7)}, fit_windows=False, detail=False)
    taken = {ours: value for name, value in state.items() if (ours := _ours(name, "SemiTViT."))}
    for ours, theirs in _release_names().items():
        if theirs not in state:
            raise UserError("weights do not fit this model", expected=f"a tensor {theirs}", found="none")
        taken[ours] = state[theirs]
    taken |= {f"controllers.release.blocks.{index}.gate": torch.ones(1) for index in range(len(_BLOCKS))}
    load_strictly(model, taken | _statistics(model, taken, "release"))
    return model


def _release_names() -> dict[str, str]:
    """Our names of the release's controller, queries and mask MLP -> theirs."""
    names = {"heads.release.queries": "mask_query.weight"}
    for index, (stage, block) in enumerate(_BLOCKS):
        theirs, ours = f"SemiTViT.layers.{stage}.blocks.{block}.", f"controllers.release.blocks.{index}."
        for name in ("norm.weight", "norm.bias", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"):
            names[f"{ours}mlp.{name}"] = f"{theirs}med_dah.{name}"
        names[f"{ours}token"] = f"{theirs}attn.deep_QKV_embeddings_med"
        names[f"{ours}token_bias"] = f"{theirs}attn.med_attention_biases"
    for number in range(3):
        for kind in ("weight", "bias"):
            theirs = f"mask_decoder.output_hypernetworks_mlps.0.layers.{number}.{kind}"
            names[f"heads.release.mlp.{number}.{kind}"] = theirs
    return names


def _statistics(model: DeLightSAM, taken: Mapping[str, Tensor], modality: str) -> dict[str, Tensor]:
    """The shared running statistics, copied into a modality's own."""
    copies = {}
    for name, norm in model.named_modules():
        if hasattr(norm, "running_mean"):
            for ours, theirs in (("mean", "running_mean"), ("var", "running_var")):
                if f"{name}.{theirs}" in taken:
                    copies[f"controllers.{modality}.statistics.{norm.index}.{ours}"] = taken[f"{name}.{theirs}"]
            copies[f"controllers.{modality}.statistics.{norm.index}.batches"] = torch.zeros(())
    return copies


def load_strictly(model: DeLightSAM, tensors: Mapping[str, Tensor], file: Path | None = None) -> None:
    """Load every tensor of the model. Raises UserError naming the first that is missing, unknown or misshapen."""
    own = model.state_dict()
    for name, value in own.items():
        if name not in tensors:
            raise UserError("weights do not fit this model", file=file, expected=f"a tensor {name}", found="none")
        if tensors[name].shape != value.shape:
            shapes = {"expected": f"{name} {list(value.shape)}", "found": list(tensors[name].shape)}
            raise UserError("weights do not fit this model", file=file, **shapes)
    for name in tensors:
        if name not in own:
            raise UserError("weights do not fit this model", file=file, expected="no more tensors", found=name)
    model.load_state_dict(dict(tensors))


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
        names = {name: ours for name in state if (ours := _ours(name, prefix))}
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
        taken |= {k: v for k, v in _statistics(model, taken, modality).items() if k not in taken}
    model.load_state_dict(taken, strict=False)
    return f"{path}: {kind}; {len(taken)} of {len(own)} tensors taken, the others start anew"
