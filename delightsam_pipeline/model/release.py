"""The authors' release: its checkpoints as models that give the authors' numbers.

A release checkpoint holds 504 tensors: the shared body, one controller, seven queries of which six are decoded, and
one mask MLP. The six modalities are six checkpoints, which should differ in their controllers alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from delightsam_pipeline.errors import UserError, listed
from delightsam_pipeline.model.checkpoints import require_fit
from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec

_log = logging.getLogger(__name__)
# by the release's modality ids
MODALITIES = ("dermoscopy", "X-ray", "ultrasound", "fundus", "microscopy", "endoscopy")
QUERIES = 7
# stage and block of the ten controlled blocks of the encoder, in order
_BLOCKS = [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4), (2, 5), (3, 0), (3, 1)]
_FOURIER = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_UNUSED = ("num_batches_tracked", ".head.weight", ".head.bias", "norm_head.weight", "norm_head.bias")


def body_name(name: str, encoder_prefix: str) -> str | None:
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
    """A release checkpoint (504 tensors) as a model of six heads over its one controller.

    The heads are called as MODALITIES, and numbered by the release's modality ids. The gates stand at 1: the plain
    concatenation. Raises UserError naming the first tensor that is missing or has another shape.
    """
    return _build({name: HeadSpec("release", 1, query=k) for k, name in enumerate(MODALITIES)}, {"release": state}, {})


def from_releases(states: Mapping[str, Mapping[str, Tensor]], files: Mapping[str, Path] | None = None) -> DeLightSAM:
    """Release checkpoints, one for each of some of MODALITIES, as a model with a controller and a head for each.

    files : where they came from, for the errors. Raises UserError as from_release does, and when a tensor differs that
    should be shared. Running statistics may differ: here they belong to the modality.
    """
    files = files or {}
    heads = {name: HeadSpec(name, 1, query=MODALITIES.index(name)) for name in states}
    model = _build(heads, states, files)
    first, *others = states
    differing = {other: names for other in others if (names := different(states[first], states[other]))}
    if not differing:
        return model
    for other, names in differing.items():
        _log.debug("not the same for %s and %s: %s", first, other, ", ".join(names))
    raise UserError(
        f"tensors differ that should be shared with the checkpoint of {first}",
        file=files.get(first),
        expected="checkpoints that differ in their controllers alone",
        found="; ".join(f"in that of {other} {listed(names, 3)}" for other, names in differing.items()),
        fix="make a model of each by itself",
    )


def different(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that two release checkpoints should share and do not."""
    own = ("running_mean", "running_var")
    names = [n for n in first if not n.endswith(own) and body_name(n, "SemiTViT.") is not None]
    names += [theirs for theirs in _joint_names().values() if theirs in first]
    return [n for n in names if n not in second or not torch.equal(first[n], second[n])]


def _build(
    heads: Mapping[str, HeadSpec], states: Mapping[str, Mapping[str, Tensor]], files: Mapping[str, Path]
) -> DeLightSAM:
    """The model of these heads; `states` holds a checkpoint per modality, of which the first gives the shared body."""
    model = DeLightSAM(heads, fit_windows=False, detail=False, joint=QUERIES)
    own, taken = model.state_dict(), {}
    for modality, state in states.items():
        tensors = _renamed(model, state, modality, files.get(modality))
        foreign = tuple(f"controllers.{other}." for other in states if other != modality)
        expected = {name: value for name, value in own.items() if not name.startswith(foreign)}
        require_fit(expected, tensors, files.get(modality))
        taken = tensors | taken
    model.load_state_dict(taken)
    return model


def _renamed(model: DeLightSAM, state: Mapping[str, Tensor], modality: str, file: Path | None) -> dict[str, Tensor]:
    """What a checkpoint gives a model with a controller of this modality, by our names; the gates stand at 1."""
    body = {ours: value for name, value in state.items() if (ours := body_name(name, "SemiTViT."))}
    names = _joint_names() | controller_names(modality)
    missing = next((theirs for theirs in names.values() if theirs not in state), None)
    if missing is not None:
        fix = "give a checkpoint of De-LightSAM's authors"
        raise UserError("is no release checkpoint", file=file, expected=f"a tensor {missing}", found="none", fix=fix)
    gates = {f"controllers.{modality}.blocks.{index}.gate": torch.ones(1) for index in range(len(_BLOCKS))}
    named = {ours: state[theirs] for ours, theirs in names.items()}
    return body | named | gates | statistics(model, body, modality)


def _joint_names() -> dict[str, str]:
    """Our names of the release's queries and mask MLP -> theirs."""
    names = {"joint.queries": "mask_query.weight"}
    for number in range(3):
        for kind in ("weight", "bias"):
            names[f"joint.mlp.{number}.{kind}"] = f"mask_decoder.output_hypernetworks_mlps.0.layers.{number}.{kind}"
    return names


def controller_names(modality: str) -> dict[str, str]:
    """Our names of a modality's controller, but for its gates -> the release's."""
    names = {}
    for index, (stage, block) in enumerate(_BLOCKS):
        theirs, ours = f"SemiTViT.layers.{stage}.blocks.{block}.", f"controllers.{modality}.blocks.{index}."
        for name in ("norm.weight", "norm.bias", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"):
            names[f"{ours}mlp.{name}"] = f"{theirs}med_dah.{name}"
        names[f"{ours}token"] = f"{theirs}attn.deep_QKV_embeddings_med"
        names[f"{ours}token_bias"] = f"{theirs}attn.med_attention_biases"
    return names


def statistics(model: DeLightSAM, taken: Mapping[str, Tensor], modality: str) -> dict[str, Tensor]:
    """The shared running statistics, copied into a modality's own."""
    copies = {}
    for name, norm in model.named_modules():
        if hasattr(norm, "running_mean"):
            for ours, theirs in (("mean", "running_mean"), ("var", "running_var")):
                if f"{name}.{theirs}" in taken:
                    copies[f"controllers.{modality}.statistics.{norm.index}.{ours}"] = taken[f"{name}.{theirs}"]
            copies[f"controllers.{modality}.statistics.{norm.index}.batches"] = torch.zeros(())
    return copies
