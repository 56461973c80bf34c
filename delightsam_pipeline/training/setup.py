"""What a training run holds: cases, network, optimiser, averages and progress; built anew or taken up again."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from delightsam_pipeline.data.splits import fold_cases
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import digest
from delightsam_pipeline.inference.device import Device
from delightsam_pipeline.inference.model_folder import head_spec, load_model, sha256
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.model.pretrained import load_pretrained
from delightsam_pipeline.plans.plan import TOLD, Plan
from delightsam_pipeline.preprocessing.store import Store, StoredCase
from delightsam_pipeline.training.averaging import Average
from delightsam_pipeline.training.checkpoint import Progress, load_checkpoint
from delightsam_pipeline.training.loading import Source
from delightsam_pipeline.training.ranks import ALONE, Ranks
from delightsam_pipeline.training.schedule import Length
from delightsam_pipeline.training.step import Objective, task_loss

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What a user may say about a run; None leaves it to the plan.

    epochs, seconds : length, or time budget. pretrained : weights to start from. add_to : the folder of a model that
    gets new heads, all else in it frozen. workers : loader processes. tensorboard : whether the history is also written
    for it. compile : whether the network is.
    """

    fold: str
    epochs: int | None = None
    seconds: float | None = None
    pretrained: Path | None = None
    add_to: Path | None = None
    seed: int = 12345
    workers: int = 0
    restart: bool = False
    tensorboard: bool = False
    compile: bool = False


@dataclass(frozen=True)
class Stage:
    """The network of a run, what is frozen in it already, and what else sets one stage of a training apart.

    other_plans : of heads that are not trained. tag : changes with what the stage began with, beside data and seed.
    objective : what a step makes small. whole : whether the folder becomes a model that predicts, not a stage on the
    way to one. validates : whether held-out cases are segmented. period : after so many steps the same batches come
    again. provenance : what model.json says beside the rest.
    """

    model: DeLightSAM
    other_plans: Mapping[str, Plan] = field(default_factory=dict)
    tag: str = ""
    objective: Objective = task_loss
    whole: bool = True
    validates: bool = True
    period: int | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """A training run in `folder`: training cases (`sources`) and validation cases (`held_out`) per trained head.

    plans : of all heads of the model. ranks : the processes that train it.
    """

    folder: Path
    stage: Stage
    plans: dict[str, Plan]
    sources: dict[str, Source]
    held_out: dict[str, list[StoredCase]]
    options: Options
    device: Device
    length: Length
    average: Average
    optimizer: torch.optim.Optimizer
    setup: str
    progress: Progress = field(default_factory=Progress)
    ranks: Ranks = ALONE

    @property
    def model(self) -> DeLightSAM:
        """The network that is trained."""
        return self.stage.model

    def averaged_model(self) -> DeLightSAM:
        """A copy of the network with the averaged weights, in evaluation mode; frozen parameters are not copied."""
        frozen = {id(parameter): parameter for parameter in self.model.parameters() if not parameter.requires_grad}
        model = copy.deepcopy(self.model, frozen)
        model.load_state_dict(self.average.tensors, strict=False)
        return model.eval()

    def is_validated_on_training_cases(self, head: str) -> bool:
        """Whether a head's validation has cases that it is trained on, as with fold all."""
        return bool({case.name for case in self.held_out[head]} & {case.name for case in self.sources[head].cases})

    def weights(self) -> dict[str, torch.Tensor]:
        """The averaged weights by name; of a stage only those that it trains."""
        return self.model.state_dict() | self.average.tensors if self.stage.whole else self.average.tensors


def start(
    stores: Mapping[str, Store],
    folder: Path,
    options: Options,
    device: Device,
    stage: Stage | None = None,
    ranks: Ranks = ALONE,
) -> Run:
    """Build a run, or take up the one that stands in `folder`; `stage` says what differs in one of several stages.

    Raises UserError when what stands there was made from other data, plans, fold, seed or first weights.
    """
    if options.add_to is not None and options.add_to.resolve() == folder.resolve():
        raise UserError("is the model that is added to", file=folder, fix="choose another folder with -o")
    sources, held_out = _cases(stores, options.fold)
    plans = {head: store.plan for head, store in stores.items()}
    training = next(iter(plans.values())).training
    epochs = training.epochs if options.epochs is None else options.epochs
    fresh = options.restart or not (folder / "last.pt").is_file()
    torch.manual_seed(options.seed)
    stage = stage or _only_stage(plans, options, fresh)
    model = stage.model.to(device.torch, memory_format=torch.channels_last)
    run = Run(
        folder,
        stage,
        stage.other_plans | plans,
        sources,
        held_out,
        options,
        device,
        Length(epochs, training.steps_per_epoch * len(sources), options.seconds),
        Average(model),
        torch.optim.AdamW(parameter_groups(model, training.weight_decay), lr=training.learning_rate, fused=True),
        _setup_digest(sources, options.seed, stage.tag),
        ranks=ranks,
    )
    _take_up(run, fresh)
    return run


def _take_up(run: Run, fresh: bool) -> None:
    """Go on from the folder's last state, unless the run is fresh."""
    given = None if run.options.pretrained is None else str(run.options.pretrained)
    if fresh:
        run.progress.pretrained = given
        return
    load_checkpoint(run.folder / "last.pt", run.model, run.average, run.optimizer, run.progress, run.setup)
    if given is not None and given != run.progress.pretrained:
        found, fix = run.progress.pretrained, "use --restart to begin anew"
        raise UserError(f"this run did not begin with {given}", file=run.folder, found=found, fix=fix)


def _cases(stores: Mapping[str, Store], fold: str) -> tuple[dict[str, Source], dict[str, list[StoredCase]]]:
    """Training and validation cases of a fold, per head."""
    sources, held_out = {}, {}
    for head, store in stores.items():
        train, val = fold_cases(store.splits, fold, list(store.cases))
        sources[head] = Source.of(store, train)
        held_out[head] = list(Source.of(store, val).cases)
    return sources, held_out


def _only_stage(plans: Mapping[str, Plan], options: Options, fresh: bool) -> Stage:
    """A run of the segmentation objective: of a new network, or of the new heads of a model that exists."""
    if options.add_to is not None:
        model, others, card = load_model(options.add_to)
        for head, plan in plans.items():
            model.add_head(head, head_spec(plan))
        model.freeze_all_but(plans)
        weights = sha256(options.add_to / "model.safetensors")
        return Stage(model, others, weights, provenance={"added_to": card.provenance | {"weights_sha256": weights}})
    model = DeLightSAM({head: head_spec(plan) for head, plan in plans.items()})
    if fresh and options.pretrained is not None:
        log.info("%s", load_pretrained(model, options.pretrained))
    return Stage(model)


def _setup_digest(sources: Mapping[str, Source], seed: int, tag: str) -> str:
    """Changes when a run would see other data than before, or goes on by another plan or from other frozen weights.

    The length is not part of it: a run may be made longer.
    """
    parts: list[Any] = [seed, tag] if tag else [seed]
    for head, source in sources.items():
        plan = source.plan.model_dump(mode="json", exclude={"training": {"epochs"}, **dict.fromkeys(TOLD, True)})
        parts.append([head, plan, [case.name for case in source.cases]])
        if partial := {case.name: case.not_annotated for case in source.cases if case.not_annotated}:
            parts.append(partial)
    return digest(parts)


def parameter_groups(model: DeLightSAM, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels decay; norms, biases, gates, tokens and queries do not."""
    free = ("attention_biases", "token", "tokens", "queries")
    groups: dict[bool, list] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[parameter.ndim >= 2 and not name.endswith(free)].append(parameter)
    return [{"params": groups[True], "weight_decay": weight_decay}, {"params": groups[False], "weight_decay": 0.0}]
