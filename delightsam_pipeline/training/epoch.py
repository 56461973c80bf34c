"""One epoch of training: its steps, what they add up to, and the checkpoints within it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.training.clock import Clock
from delightsam_pipeline.training.culprit import not_finite
from delightsam_pipeline.training.economy import parts_in_force
from delightsam_pipeline.training.meter import Meter
from delightsam_pipeline.training.reserve import Reserve
from delightsam_pipeline.training.schedule import learning_rate
from delightsam_pipeline.training.setup import Run
from delightsam_pipeline.training.step import Sums, train_step
from delightsam_pipeline.training.waiting import Waiting


@dataclass(frozen=True)
class Sitting:
    """What a run goes on with from the command to its end.

    stop : asked before every step and between cases of a validation. save : writes a checkpoint within an epoch.
    """

    run: Run
    clock: Clock
    data: Waiting
    reserve: Reserve
    meter: Meter
    stop: Callable[[], bool]
    save: Callable[[], None]


@dataclass
class Part:
    """What an epoch has added up so far, in this sitting and before.

    first : number of its first step. finite : on the device, after how many of its steps the sums were finite.
    rate : the last learning rate. before, waited_before : seconds, of them waiting for data, of earlier sittings.
    """

    data: Waiting
    first: int
    finite: Tensor
    sums: Sums = field(default_factory=Sums)
    rate: float = 0.0
    before: float = 0.0
    waited_before: float = 0.0

    def __post_init__(self) -> None:
        self._begin, self._waited = time.monotonic(), self.data.total

    @staticmethod
    def of(sitting: Sitting) -> Part:
        """That of a new epoch, or what a checkpoint says of one that was under way."""
        run, kept = sitting.run, dict(sitting.run.progress.under_way)
        if not kept:
            finite = torch.zeros((), dtype=torch.int64, device=run.device.torch)
            return Part(sitting.data, run.progress.step, finite)
        totals = {name: value.to(run.device.torch) for name, value in kept.pop("totals").items()}
        finite = kept.pop("finite").to(run.device.torch)
        return Part(sitting.data, finite=finite, sums=Sums(kept.pop("steps"), totals), **kept)

    def keep(self, run: Run) -> None:
        """Leave for a checkpoint what `of` takes up. Raises UserError when there is nothing good to go on from."""
        self.require_finite(run)
        times = {"before": self.seconds(), "waited_before": self.waited()}
        sums = {"steps": self.sums.steps, "totals": dict(self.sums.totals), "finite": self.finite.clone()}
        run.progress.under_way = {"first": self.first, "rate": self.rate, **times, **sums}

    def count_finite(self) -> None:
        """Note, without waiting for the device, whether the sums still are finite: once they are not, they stay so."""
        total = sum(value for value in self.sums.totals.values() if value.ndim == 0)
        self.finite += torch.isfinite(total)

    def require_finite(self, run: Run) -> None:
        """Raises UserError that names the step at which the loss was not finite, and what was wrong with it."""
        good = int(self.finite)
        if good < self.sums.steps:
            raise not_finite(run, self.first + good)

    def seconds(self) -> float:
        """Of this epoch's training."""
        return self.before + time.monotonic() - self._begin

    def waited(self) -> float:
        """Seconds of it that were spent waiting for data."""
        return self.waited_before + self.data.total - self._waited

    def waiting(self) -> float:
        """The share that was spent waiting for data, 0..1."""
        return min(1.0, self.waited() / max(self.seconds(), 1e-9))

    def row(self, epoch: int, step: int) -> dict[str, Any]:
        """For the history."""
        known = {"epoch": epoch, "step": step, "learning_rate": self.rate}
        times = {"seconds_per_step": self.seconds() / self.sums.steps, "waiting": self.waiting()}
        return known | self.sums.row() | times


def run_epoch(sitting: Sitting) -> dict[str, Any] | None:
    """Steps to the epoch's end or the run's; the row for the history, None when stopped (what was done is kept).

    Raises UserError when the loss is not finite.
    """
    run, clock, progress = sitting.run, sitting.clock, sitting.run.progress
    run.model.train()
    part = Part.of(sitting)
    sitting.meter.open(progress.step % run.length.steps_per_epoch)
    try:
        while not part.sums.steps or (progress.step % run.length.steps_per_epoch and clock.done() < 1):
            if clock.agree(sitting.stop()):
                part.keep(run)
                return None
            part.rate = _step(run, clock, sitting.data.next(), part.sums)
            part.count_finite()
            sitting.meter.step(part)
            sitting.reserve.look()
            if clock.save_is_due():
                part.keep(run)
                sitting.save()
    finally:
        sitting.meter.close()
    part.require_finite(run)
    progress.epoch += 1
    progress.under_way = {}
    progress.waited += part.waited()
    return part.row(progress.epoch, progress.step)


def _step(run: Run, clock: Clock, batch: dict[str, Any], sums: Sums) -> float:
    """One step; returns the learning rate it had."""
    plan = run.plans[batch["head"]]
    rate = learning_rate(plan.training.learning_rate, clock.done(), plan.training.warmup)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    try:
        train_step(run.model, batch, plan, run.optimizer, run.device, sums, run.stage.objective, run.ranks)
    except torch.OutOfMemoryError:
        fix = "plan again with a smaller --gpu-memory"
        if not run.stage.whole:
            fix += ", or take a smaller --teacher"
        raise UserError("the device's memory does not suffice for a step", found=run.device.reason, fix=fix) from None
    run.progress.step, run.progress.parts = run.progress.step + 1, parts_in_force(run.model)
    run.average.update(run.model, run.progress.step)
    return rate
