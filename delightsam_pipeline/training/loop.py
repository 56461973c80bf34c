"""The training loop: epochs of steps, validation on whole cases, checkpoints, and the end of a run."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from delightsam_pipeline import __version__
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.evaluation.summary import TRAINED_ON, mean_dice
from delightsam_pipeline.evaluation.tables import table
from delightsam_pipeline.files import make_folder, remove_leftovers
from delightsam_pipeline.inference.model_folder import describe_model, save_weights
from delightsam_pipeline.training.checkpoint import save_checkpoint
from delightsam_pipeline.training.loading import batches
from delightsam_pipeline.training.report import write_history
from delightsam_pipeline.training.schedule import learning_rate
from delightsam_pipeline.training.setup import Run
from delightsam_pipeline.training.step import Sums, train_step
from delightsam_pipeline.training.validation import Stopped, overall, validate, write_validation

log = logging.getLogger(__name__)
SAVE_EVERY_S = 300.0
STAGES = "stages"  # what comes before a model's own training lies in this folder of it
VALIDATION_SHARE = 0.1  # of the time, at most
_TASK_FIGURES = (
    "loss {mask_loss:.3f} + patch {patch_loss:.3f}  patch precision {patch_precision:.2f} recall {patch_recall:.2f}"
)


class Clock:
    """Wall time of a run over all its sittings, and since its last checkpoint."""

    def __init__(self, before: float) -> None:
        self.begin = time.monotonic() - before
        self.saved = time.monotonic()

    def elapsed(self) -> float:
        """Seconds of training so far."""
        return time.monotonic() - self.begin


def train(run: Run, stop: Callable[[], bool] = lambda: False) -> bool:
    """Train to the end of the run's length, then validate. False when `stop` asked to end before.

    Writes into the run's folder: model.json, plans/, model.safetensors (the averaged weights), best.safetensors,
    last.pt (to go on from), progress.csv and .png, validation/HEAD/. Raises UserError when the loss is not finite.
    """
    make_folder(run.folder)
    remove_leftovers(run.folder)
    if run.progress.step == 0:
        _remove_old(run)
    if run.whole:
        _describe(run)
    clock = Clock(run.progress.elapsed)
    if _goes_on(run, clock):
        _remove_scores(run.folder)
        loader = batches(run.sources, run.options.seed, run.progress.step, run.options.workers, run.period)
        try:
            finished = _epochs(run, clock, loader, stop)
        finally:
            if run.options.workers:
                loader._finish()
        _save(run, clock)
        if not finished:
            return False
    elif not (run.folder / "model.safetensors").is_file():
        _save(run, clock)
    try:
        _finish(run, stop)
    except Stopped:
        return False
    return True


def is_finished(run: Run) -> bool:
    """Whether all steps of a run have been made, in this sitting or before."""
    return not _goes_on(run, Clock(run.progress.elapsed))


def _epochs(run: Run, clock: Clock, loader: Iterator, stop: Callable[[], bool]) -> bool:
    progress = run.progress
    if run.length.seconds is not None and not progress.validation_seconds:
        progress.validation_seconds = _expected_validation(run)
    while _goes_on(run, clock):
        row = _epoch(run, clock, loader, stop)
        if row is None:
            return False
        if _done(run, clock) < 1 and _validation_is_due(run, clock):
            try:
                row |= _validate(run, clock, stop)
            except Stopped:
                log.info("the validation after epoch %d is left out", progress.epoch)
        row["elapsed"] = clock.elapsed()
        progress.history.append(row)
        _log_epoch(row, _done(run, clock))
        if time.monotonic() - clock.saved > SAVE_EVERY_S or progress.epoch == 1:
            _save(run, clock)
    return True


def _done(run: Run, clock: Clock) -> float:
    return run.length.progress(run.progress.step, clock.elapsed(), run.progress.validation_seconds)


def _goes_on(run: Run, clock: Clock) -> bool:
    """Whether there are steps left; however short its time, a run makes one."""
    return _done(run, clock) < 1 or (run.length.seconds is not None and run.progress.step == 0)


def _epoch(run: Run, clock: Clock, loader: Iterator, stop: Callable[[], bool]) -> dict[str, Any] | None:
    """Steps to the epoch's end or the run's; the row for the history, None when stopped (steps so far count)."""
    progress, count = run.progress, run.length.steps_per_epoch
    run.model.train()
    sums, begin = Sums(), time.monotonic()
    name = f"epoch {progress.epoch + 1}"
    with tqdm(total=count, initial=progress.step % count, desc=name, disable=None, leave=False) as bar:
        while not sums.steps or (progress.step % count and _done(run, clock) < 1):
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
    rate = learning_rate(plan.training.learning_rate, _done(run, clock), plan.training.warmup)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    train_step(run.model, batch, plan, run.optimizer, run.device, sums, run.objective)
    run.progress.step += 1
    run.average.update(run.model, run.progress.step)
    return rate


def _validation_is_due(run: Run, clock: Clock) -> bool:
    progress = run.progress
    since = clock.elapsed() - progress.validated_at
    return since >= progress.validation_seconds * (1 / VALIDATION_SHARE - 1)


def _expected_validation(run: Run) -> float:
    """Seconds that a validation will take, from one case of each head: a time budget keeps them for the end.

    The first pass only warms up: it takes many times as long as the others.
    """
    seconds, model = 0.0, run.averaged_model()
    for head, cases in run.held_out.items():
        validate(model, head, run.plans[head], cases[:1], run.device)
        begin = time.monotonic()
        validate(model, head, run.plans[head], cases[:1], run.device)
        seconds += (time.monotonic() - begin) * len(cases)
    return seconds


def _validate(run: Run, clock: Clock, stop: Callable[[], bool]) -> dict[str, Any]:
    """Dice per head of the averaged weights on all held-out cases; keeps the best weights."""
    begin, progress = time.monotonic(), run.progress
    model = run.averaged_model()
    summaries = {h: validate(model, h, run.plans[h], cases, run.device, stop)[0] for h, cases in run.held_out.items()}
    row = _scores(summaries)
    if row["dice"] is not None and row["dice"] > progress.best:
        progress.best = row["dice"]
        save_weights(run.folder / "best.safetensors", run.weights())
    progress.validation_seconds = time.monotonic() - begin
    progress.validated_at = clock.elapsed()
    return row


def _scores(summaries: Mapping[str, dict[str, Any]]) -> dict[str, float | None]:
    """What a row of the history says of a validation: mean Dice, and that of each head when there are several."""
    per_head = {f"dice_{head}": mean_dice(summary) for head, summary in summaries.items()} if len(summaries) > 1 else {}
    return {"dice": overall(summaries), **per_head}


def _log_epoch(row: dict[str, Any], done: float) -> None:
    dice = f"  validation Dice {row['dice']:.3f}" if row.get("dice") is not None else ""
    figures = "feature error {feature_error:.4f}" if "feature_error" in row else _TASK_FIGURES
    figures = figures.format(**row)
    log.info("epoch %d (%.0f %%)  %s  %.2f s/step%s", row["epoch"], 100 * done, figures, row["seconds_per_step"], dice)


def _remove_old(run: Run) -> None:
    """Weights and scores of an earlier run must not be taken for those of the one that begins.

    Raises UserError for a folder that holds other things, and for a finished model without `restart`.
    """
    folder, restart = run.folder, run.options.restart
    others = [file for file in folder.iterdir() if file.name != STAGES]
    if run.whole and others and not (folder / "model.json").is_file():
        raise UserError("holds other files and no model", file=folder, fix="choose a new folder with -o")
    if (folder / "model.safetensors").is_file() and not (folder / "last.pt").is_file() and not restart:
        fix = "use --restart to replace it, or choose another folder with -o"
        raise UserError("holds a model whose training cannot go on (no last.pt)", file=folder, fix=fix)
    old = [folder / name for name in ("model.safetensors", "best.safetensors", "last.pt", "progress.csv")]
    old += [folder / "progress.png", *folder.glob("plans/*.json")]
    for file in old:
        file.unlink(missing_ok=True)


def _remove_scores(folder: Path) -> None:
    """The scores of weights that training goes on from are not those of the weights it will end with."""
    for name in ("summary.json", "scores.csv", "worst_cases.png"):
        for file in folder.glob(f"validation/*/{name}"):
            file.unlink(missing_ok=True)


def _describe(run: Run) -> None:
    provenance = {
        "package": f"delightsam-pipeline {__version__}",
        "torch": torch.__version__,
        "device": run.device.reason,
        "date": date.today().isoformat(),
        "fold": run.options.fold,
        "seed": run.options.seed,
        "pretrained": run.progress.pretrained,
        "training_cases": {head: [case.name for case in source.cases] for head, source in run.sources.items()},
        "intended_use": "research; not for clinical use",
    }
    describe_model(run.folder, run.model, run.plans, provenance | run.provenance)


def _save(run: Run, clock: Clock) -> None:
    run.progress.elapsed = clock.elapsed()
    save_checkpoint(run.folder / "last.pt", run.model, run.average, run.optimizer, run.progress, run.setup)
    save_weights(run.folder / "model.safetensors", run.weights())
    write_history(run.folder, run.progress.history)
    clock.saved = time.monotonic()


def _finish(run: Run, stop: Callable[[], bool]) -> None:
    """The final validation, of the weights that will predict: per head a summary and pictures of the worst cases."""
    model = run.averaged_model()
    summaries = {}
    for head, cases in run.held_out.items():
        folder = run.folder / "validation" / head
        summary, views = validate(model, head, run.plans[head], cases, run.device, stop, surfaces=True)
        if {case.name for case in cases} & {case.name for case in run.sources[head].cases}:
            summary["note"] = TRAINED_ON
        write_validation(folder, summary, views, run.plans[head], cases)
        summaries[head] = summary
        log.info("%s, validation on %d cases (pictures in %s)\n%s", head, len(cases), folder, table(summary))
    if run.progress.history:
        run.progress.history[-1] |= _scores(summaries)
        write_history(run.folder, run.progress.history)
