"""A trained model on disk: model.json, plans/HEAD.json and weights as safetensors; nothing in it is executed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.evaluation.postprocessing import Postprocessing, rule_text
from delightsam_pipeline.files import read_json, write_json, writing
from delightsam_pipeline.model.checkpoints import load_strictly
from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec
from delightsam_pipeline.plans.plan import Plan, load_plan

log = logging.getLogger(__name__)
Count = Annotated[int, Field(ge=1, le=4096)]
_POSTPROCESSING = "postprocessing.json"
_Kind = TypeVar("_Kind", bound=BaseModel)
_CHOOSE = "run dlsam_evaluate -d with the dataset again"


class _HeadEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")
    modality: str
    targets: Count
    in_channels: Count
    query: Annotated[int, Field(ge=0)] | None = None


class ModelCard(BaseModel):
    """model.json: how the network is built, and where it comes from."""

    model_config = ConfigDict(extra="forbid")
    version: Literal[1] = 1
    fit_windows: bool = True
    detail: bool = True
    joint: Annotated[int, Field(ge=0, le=4096)] = 0
    heads: dict[str, _HeadEntry]
    provenance: dict[str, Any]


class _Postprocessings(BaseModel):
    """postprocessing.json."""

    model_config = ConfigDict(extra="forbid")
    version: Literal[1] = 1
    heads: dict[str, Postprocessing]


def head_spec(plan: Plan) -> HeadSpec:
    """The head that a plan asks for."""
    return HeadSpec(plan.modality, len(plan.targets.classes), plan.in_channels)


def save_weights(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors, whole or not at all."""
    with writing(file) as temporary:
        try:
            save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary)
        except SafetensorError as error:
            raise OSError(str(error)) from None


def describe_model(folder: Path, model: DeLightSAM, plans: Mapping[str, Plan], provenance: dict[str, Any]) -> None:
    """Write model.json and the plans, one per head."""
    heads = {name: spec.to_dict() for name, spec in model.specs.items()}
    for name, plan in plans.items():
        write_json(folder / "plans" / f"{name}.json", plan.model_dump(mode="json"))
    card = ModelCard(**model.form, heads=heads, provenance=provenance)
    write_json(folder / "model.json", card.model_dump(mode="json"))


def load_model(folder: Path, checkpoint: str = "model") -> tuple[DeLightSAM, dict[str, Plan], ModelCard]:
    """The network with its weights (`checkpoint`.safetensors), a plan per head, and model.json.

    Raises UserError when a file is missing or damaged, or the parts do not belong together.
    """
    file = folder / "model.json"
    if not file.is_file():
        raise UserError("is not a model folder (no model.json)", file=folder, fix="train a model, or give its folder")
    card = _validated(ModelCard, file, "model description")
    plans = {name: load_plan(folder / "plans" / f"{name}.json") for name in card.heads}
    specs = {name: HeadSpec(**entry.model_dump()) for name, entry in card.heads.items()}
    for name, plan in plans.items():
        if head_spec(plan) != replace(specs[name], query=None):
            found = f"{head_spec(plan)} in its plan"
            raise UserError(f"head '{name}' does not fit its plan", file=file, expected=specs[name], found=found)
    with torch.device("cpu"):
        model = DeLightSAM(specs, card.fit_windows, card.detail, card.joint)
    weights = folder / f"{checkpoint}.safetensors"
    load_strictly(model, read_weights(weights), weights)
    return model.eval(), plans, card


def load_postprocessing(folder: Path) -> dict[str, Postprocessing]:
    """What was chosen for the heads of the model in a folder; empty where nothing was.

    Raises UserError when the file is damaged, or names classes that a head has not.
    """
    file = folder / _POSTPROCESSING
    if not file.is_file():
        return {}
    heads = _validated(_Postprocessings, file, "post-processing", _CHOOSE).heads
    for head, chosen in heads.items():
        classes = load_plan(folder / "plans" / f"{head}.json").targets.classes
        strange = sorted({*chosen.rules, *chosen.honest} - set(classes))
        if strange:
            expected = ", ".join(classes)
            raise UserError(f"head '{head}' has no class '{strange[0]}'", file=file, expected=expected, fix=_CHOOSE)
    return heads


def save_postprocessing(folder: Path, chosen: Mapping[str, Postprocessing]) -> None:
    """Write what was chosen for some heads beside what stands there for others; nothing at all leaves no file.

    A file that cannot be read is replaced, with a warning: it would stand in the way of choosing anew.
    """
    file = folder / _POSTPROCESSING
    try:
        there = load_postprocessing(folder)
    except UserError as error:
        log.warning("%s: cannot be used and is replaced: %s", file, error.problem)
        there = {}
    heads = there | dict(chosen)
    if heads:
        write_json(file, _Postprocessings(heads=heads).model_dump(mode="json"))


def begin_postprocessing(folder: Path, added_to: Path | None = None) -> None:
    """Of a model whose training begins or goes on: nothing has been chosen for it, but for heads it took from another.

    added_to : the folder of the model that had those heads.
    """
    (folder / _POSTPROCESSING).unlink(missing_ok=True)
    if added_to is not None:
        save_postprocessing(folder, load_postprocessing(added_to))


def joined_postprocessing(folders: Sequence[Path], heads: Collection[str]) -> dict[str, Postprocessing]:
    """Of several folds' models as one: per head what was chosen on most cases.

    A warning for each head in which they differ says what is applied.
    """
    each, joined = [load_postprocessing(folder) for folder in folders], {}
    for head in heads:
        there = [chosen[head] for chosen in each if head in chosen]
        if there:
            joined[head] = max(there, key=lambda chosen: chosen.n_cases)
        if any(chosen.get(head) != joined.get(head) for chosen in each):
            rules, unit = joined[head].rules, joined[head].unit
            applied = "; ".join(f"{name}: {rule_text(rule, unit)}" for name, rule in rules.items()) or "no rule"
            text = "%s: the folds differ in post-processing; applied is what was chosen on most cases (%s); %s"
            log.warning(text, head, applied, _CHOOSE)
    return joined


def _validated(kind: type[_Kind], file: Path, what: str, fix: str | None = None) -> _Kind:
    try:
        return kind.model_validate(read_json(file))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"is not a valid {what}: {place}: {first['msg']}", file=file, fix=fix) from None


def read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises UserError when it is missing or damaged."""
    if not file.is_file():
        raise UserError("the weights are missing", file=file, fix="finish the training, or copy the file again")
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"the weights cannot be read ({error})", file=file, fix="copy the file again") from None


def sha256(file: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
