"""Saving a run so that it goes on exactly where it was; tensors and plain values only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import writing
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.training.averaging import Average

VERSION = 1


@dataclass
class Progress:
    """How far a run is.

    elapsed : seconds of all its sittings, of them `waited` for data. done : share of its length, 0..1, at the last
    save. validation_seconds : what the last validation took, or one is expected to take. validated_at : when it ended,
    on the same clock. reserve : seconds of a time budget that are kept for the final validation. best : highest
    validation Dice so far. pretrained : the weights file it began with. history : one row per epoch. under_way : what
    the epoch that is under way has added up (see epoch.Part). told : keys of the warnings that were given. parts : what
    steps do to save memory (see economy.parts_in_force).
    times_sample : how many times as long as the first case of each head all of them took one process, 0 when no whole
    validation was made. scored_step : the step after which the final validation was made, -1 before.
    """

    step: int = 0
    epoch: int = 0
    elapsed: float = 0.0
    validation_seconds: float = 0.0
    validated_at: float = 0.0
    best: float = -1.0
    pretrained: str | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    waited: float = 0.0
    done: float = 0.0
    reserve: float = 0.0
    under_way: dict[str, Any] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    parts: int = 0
    times_sample: float = 0.0
    scored_step: int = -1


def save_checkpoint(
    file: Path, model: DeLightSAM, average: Average, optimizer: torch.optim.Optimizer, progress: Progress, setup: str
) -> None:
    """Write the whole state but frozen parameters, or leave what stood there."""
    tensors = model.state_dict()
    state = {
        "version": VERSION,
        "setup": setup,
        "model": {name: tensors[name] for name in average.tensors},
        "average": average.tensors,
        "optimizer": optimizer.state_dict(),
        "progress": asdict(progress),
    }
    with writing(file) as temporary:
        torch.save(state, temporary)


def load_checkpoint(
    file: Path, model: DeLightSAM, average: Average, optimizer: torch.optim.Optimizer, progress: Progress, setup: str
) -> None:
    """Take up a saved state in a model with the same parameters frozen.

    Raises UserError when the file is damaged or belongs to another run.
    """
    again = "use --restart to begin anew"
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        version, made_by = state["version"], state["setup"]
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"cannot be read ({reason})", file=file, fix=again) from None
    if version != VERSION:
        raise UserError("was written by another version", file=file, expected=VERSION, found=version, fix=again)
    if made_by != setup or state["model"].keys() != average.tensors.keys():
        problem = "belongs to a run with other cases, plan, seed or first weights"
        raise UserError(problem, file=file, fix=f"{again}, or choose another folder with -o")
    model.load_state_dict(state["model"], strict=False)
    optimizer.load_state_dict(state["optimizer"])
    average.load(state["average"])
    for name, value in state["progress"].items():
        setattr(progress, name, value)
