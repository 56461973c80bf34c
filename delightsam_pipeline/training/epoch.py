"""One epoch of training: its steps under a progress bar, its row of figures, and what goes wrong within it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from tqdm import tqdm

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.training.clock import Clock
from delightsam_pipeline.training.schedule import learning_rate
from delightsam_pipeline.training.setup import Run
from delightsam_pipeline.training.step import Sums, train_step

log = logging.getLogger(__name__)
_TASK_FIGURES = (
    "loss {mask_loss:.3f} + patch {patch_loss:.3f}  patch precision {patch_precision:.2f} recall {patch_recall:.2f}"
)


def run_epoch(run: Run, clock: Clock, loader: Iterator, stop: Callable[[], bool]) -> dict[str, Any] | None:
    """Steps to the epoch's end or the run's; the row for the history, None when stopped (steps so far count)."""
    progress, count = run.progress, run.length.steps_per_epoch
    run.model.train()
    sums, begin = Sums(), time.monotonic()
    name = f"epoch {progress.epoch + 1}"
    with tqdm(total=count, initial=progress.step % count, desc=name, disable=None, leave=False) as bar:
        while not sums.steps or (progress.step % count and clock.done() < 1):
            if stop():
                return None
            rate = _step(run, clock, _next(loader, run.options.workers), sums)
            bar.update()
    progress.epoch += 1
    row = sums.row()
    if not all(map(math.isfinite, row.values())):
        where = f"epoch {progress.epoch}"
        fix = "start again with --restart; if it happens again, look for broken images"
        raise UserError("the loss is no longer a finite number", file=run.folder, found=where, fix=fix)
    seconds = (time.monotonic() - begin) / sums.steps
    return {"epoch": progress.epoch, "step": progress.step, "learning_rate": rate, **row, "seconds_per_step": seconds}


def _next(loader: Iterator, workers: int) -> dict[str, Any]:
    """The next batch; a loader process that died is the user's to mend."""
    try:
        return next(loader)
    except RuntimeError as error:
        if not workers:
            raise
        fix = (
            "if nothing was said above, memory ran out: give fewer --workers, or 0; the run goes on from its checkpoint"
        )
        raise UserError("a loader process has died", fix=fix) from error


def _step(run: Run, clock: Clock, batch: dict[str, Any], sums: Sums) -> float:
    """One step; returns the learning rate it had."""
    plan = run.plans[batch["head"]]
    rate = learning_rate(plan.training.learning_rate, clock.done(), plan.training.warmup)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    try:
        train_step(run.model, batch, plan, run.optimizer, run.device, sums, run.stage.objective)
    except torch.OutOfMemoryError:
        fix = "plan again with a smaller --gpu-memory, or take a smaller teacher if it was one's turn"
        raise UserError("the device's memory does not suffice for a step", found=run.device.reason, fix=fix) from None
    run.progress.step += 1
    run.average.update(run.model, run.progress.step)
    return rate


def log_epoch(row: dict[str, Any], done: float) -> None:
    dice = f"  validation Dice {row['dice']:.3f}" if row.get("dice") is not None else ""
    figures = "feature error {feature_error:.4f}" if "feature_error" in row else _TASK_FIGURES
    figures = figures.format(**row)
    log.info("epoch %d (%.0f %%)  %s  %.2f s/step%s", row["epoch"], 100 * done, figures, row["seconds_per_step"], dice)
