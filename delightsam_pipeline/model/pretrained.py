"""Weights to start from: MobileSAM, SAM, the authors' release or one of our models."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from torch import Tensor

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.model.checkpoints import load_tensors
from delightsam_pipeline.model.controller import pooled
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.model.layers import ModalityBatchNorm
from delightsam_pipeline.model.recognition import ACCEPTED, Source, recognise, without_place
from delightsam_pipeline.model.release import statistics
from delightsam_pipeline.model.taken import Report, grouped

_STATISTICS = "batch-norm statistics"


def weights_file(path: Path) -> Path:
    """The weights of a model folder, or the file itself. Raises UserError when a folder holds none."""
    if not path.is_dir():
        return path
    if not (path / "model.safetensors").is_file():
        raise UserError("is not a model folder (no model.safetensors)", file=path, fix=ACCEPTED)
    return path / "model.safetensors"


def load_pretrained(model: DeLightSAM, path: Path) -> Report:
    """Start a model from weights that are recognised by content; says what was taken, what was not and why.

    From MobileSAM and a release: the shared body, with the shared running statistics for every modality. From SAM:
    decoder and position encoding. From one of our models (a folder counts as its model.safetensors): the shared body,
    and the controllers, statistics and heads of the same names and shapes; a modality that is new to it starts from
    the statistics pooled over its modalities. Raises UserError naming the first difference when the file is nothing
    known or the part it is taken for does not fit; the model is then as before.
    """
    file = weights_file(Path(path))
    state = load_tensors(file)
    source = recognise(state, file)
    own = model.state_dict()
    faults = _faults(own, state, source)
    for name, fault in faults.items():
        if part(name)[0] == source.needed:
            raise UserError(f"does not fit the {source.needed}", file=file, fix=ACCEPTED, **fault)
    given = {part(name) for name in source.names if name in own}
    broken = {part(name): name for name in reversed(faults) if part(name) in given and not _in_pieces(name)}
    named = {name: state[theirs] for name, theirs in source.names.items()}
    taken = {n: v for n, v in named.items() if n in own and n not in faults and part(n) not in broken}
    derived = _for_new_modalities(model, named, taken) if source.needed == "encoder" else {}
    origin = "pooled over the file's modalities" if source.prefix == "encoder." else "the file's shared ones"
    model.load_state_dict(taken | derived, strict=False)
    reasons = {name: f"needs {fault['expected']}, has {fault['found']}" for name, fault in faults.items()}
    reasons |= {name: reasons[broken[part(name)]] for name in source.names if part(name) in broken}
    return Report(
        str(path),
        source.kind,
        grouped([(*part(name), "") for name in taken] + [(*part(name), origin) for name in derived]),
        grouped(_left(source, state, taken, reasons)),
        grouped(_anew(own, taken | derived)),
    )


def part(name: str) -> tuple[str, str]:
    """The part of the network that a tensor is in, and the modality or head it belongs to, if any."""
    first, _, rest = name.partition(".")
    if first == "controllers":
        owner, _, rest = rest.partition(".")
        return ("controllers" if rest.startswith("blocks.") else _STATISTICS), owner
    if first == "heads":
        return first, rest.partition(".")[0]
    if name.startswith("decoder.lateral"):
        return "contour path", ""
    if name == "decoder.fourier":
        return "position encoding", ""
    return {"prompt": "prompt generator", "joint": "joint queries and mask MLP"}.get(first, first), ""


def _faults(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: Source) -> dict[str, dict[str, str]]:
    """What is wrong with the file's tensor for each of ours that has none or one of another shape."""
    faults = {}
    for name, value in own.items():
        theirs = source.names.get(name)
        if theirs is None or state[theirs].shape != value.shape:
            called = theirs or source.prefix + name.partition(".")[2]
            found = str(list(state[theirs].shape)) if theirs else "no such tensor"
            faults[name] = {"expected": f"{called} {list(value.shape)}", "found": found}
    return faults


def _in_pieces(name: str) -> bool:
    """Whether a tensor is taken though others of its part do not fit; other parts are taken whole or not at all."""
    return part(name)[0] in ("heads", _STATISTICS)


def shared_statistics(model: DeLightSAM, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a new modality starts from, by the names of the shared running statistics, given the state of such a model.

    Pooled over the modalities in `state`, as far as it has any: there the running statistics of a norm itself are
    what the model began with, 0 and 1 if with nothing. Files from elsewhere have only the norms' own.
    """
    owners = dict.fromkeys(name.split(".")[1] for name in state if name.startswith("controllers."))
    shared = {}
    for norm, module in model.named_modules():
        if isinstance(module, ModalityBatchNorm):
            places = [f"controllers.{owner}.statistics.{module.index}" for owner in owners]
            names = [(f"{p}.mean", f"{p}.var") for p in places] or [(f"{norm}.running_mean", f"{norm}.running_var")]
            pairs = [(state[m], state[v]) for m, v in names if m in state and v in state]
            pairs = [pair for pair in pairs if all(value.shape == module.running_mean.shape for value in pair)]
            if pairs:
                mean, var = pooled([mean for mean, _ in pairs], [var for _, var in pairs])
                shared |= {f"{norm}.running_mean": mean, f"{norm}.running_var": var}
    return shared


def _for_new_modalities(model: DeLightSAM, named: Mapping[str, Tensor], taken: Collection[str]) -> dict[str, Tensor]:
    """Running statistics of the modalities that the file has none for."""
    shared = shared_statistics(model, named)
    copies = [statistics(model, shared, modality) for modality in model.controllers]
    found = {name: value for of_one in copies for name, value in of_one.items()}
    return {name: value for name, value in found.items() if name not in taken and not name.endswith(".batches")}


def _left(
    source: Source, state: Mapping[str, Tensor], taken: Collection[str], reasons: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    """(what, owner, reason) of every tensor of the file that was not taken."""
    ours = {theirs: name for name, theirs in source.names.items()}
    for theirs in state:
        if theirs not in ours:
            what, reason = without_place(theirs)
            yield what, "", reason
        elif ours[theirs] not in taken:
            yield *part(ours[theirs]), reasons.get(ours[theirs], "this network has none")


def _anew(own: Collection[str], filled: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """(what, owner, no remark) of the network's tensors that the file gave nothing for.

    Statistics are left out where the file gave some: the others are their counts of batches, which begin at 0.
    """
    given = {part(name) for name in filled if part(name)[0] == _STATISTICS}
    for name in own:
        if name not in filled and part(name) not in given:
            yield *part(name), ""
