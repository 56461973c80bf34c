"""The training loop: epochs of steps, validation on whole cases, checkpoints, and the end of a run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from delightsam_pipeline.evaluation.summary import TRAINED_ON, mean_dice
from delightsam_pipeline.evaluation.tables import table
from delightsam_pipeline.files import make_folder, remove_leftovers
from delightsam_pipeline.inference.model_folder import save_weights
from delightsam_pipeline.training.checkpoint import save_checkpoint
from delightsam_pipeline.training.clock import Clock
from delightsam_pipeline.training.epoch import log_epoch, run_epoch
from delightsam_pipeline.training.folder import describe, remove_scores, remove_weights, require_free
from delightsam_pipeline.training.loading import batches
from delightsam_pipeline.training.report import write_history
from delightsam_pipeline.training.setup import Run
from delightsam_pipeline.training.validation import Stopped, overall, validate, write_validation

log = logging.getLogger(__name__)
SAVE_EVERY_S = 300.0
VALIDATION_SHARE = 0.1  # of the time, at most


def train(run: Run, stop: Callable[[], bool] = lambda: False) -> bool:
    """Train to the end of the run's length, then validate. False when `stop` asked to end before.

    Writes into the run's folder: model.json, plans/, model.safetensors (the averaged weights), best.safetensors,
    last.pt (to go on from), progress.csv and .png, validation/HEAD/. Raises UserError when the loss is not finite.
    """
    make_folder(run.folder)
    remove_leftovers(run.folder)
    if run.progress.step == 0:
        if run.stage.whole:
            require_free(run.folder, run.options.restart)
        remove_weights(run.folder)
    clock = Clock(run.length, run.progress)
    if run.stage.whole and (clock.goes_on() or not (run.folder / "model.json").is_file()):
        describe(run)
    if clock.goes_on():
        remove_scores(run.folder)
        loader = batches(run.sources, run.options.seed, run.progress.step, run.options.workers, run.stage.period)
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


def _epochs(run: Run, clock: Clock, loader: Iterator, stop: Callable[[], bool]) -> bool:
    progress = run.progress
    if run.length.seconds is not None and run.stage.validates and not progress.validation_seconds:
        progress.validation_seconds = _expected_validation(run)
    while clock.goes_on():
        row = run_epoch(run, clock, loader, stop)
        if row is None:
            return False
        if clock.done() < 1 and _validation_is_due(run, clock):
            try:
                row |= _validate(run, clock, stop)
            except Stopped:
                log.info("the validation after epoch %d is left out", progress.epoch)
        row["elapsed"] = clock.elapsed()
        progress.history.append(row)
        log_epoch(row, clock.done())
        if time.monotonic() - clock.saved > SAVE_EVERY_S or progress.epoch == 1:
            _save(run, clock)
    return True


def _validation_is_due(run: Run, clock: Clock) -> bool:
    progress = run.progress
    since = clock.elapsed() - progress.validated_at
    return run.stage.validates and since >= progress.validation_seconds * (1 / VALIDATION_SHARE - 1)


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


def _save(run: Run, clock: Clock) -> None:
    run.progress.elapsed = clock.elapsed()
    save_checkpoint(run.folder / "last.pt", run.model, run.average, run.optimizer, run.progress, run.setup)
    save_weights(run.folder / "model.safetensors", run.weights())
    write_history(run.folder, run.progress.history)
    clock.saved = time.monotonic()


def _finish(run: Run, stop: Callable[[], bool]) -> None:
    """The final validation, of the weights that will predict: per head a summary and pictures of the worst cases."""
    if not run.stage.validates:
        return
    model = run.averaged_model()
    summaries = {}
    for head, cases in run.held_out.items():
        folder = run.folder / "validation" / head
        summary, views = validate(model, head, run.plans[head], cases, run.device, stop, surfaces=run.stage.whole)
        if run.is_validated_on_training_cases(head):
            summary["note"] = TRAINED_ON
        write_validation(folder, summary, views, run.plans[head], cases)
        summaries[head] = summary
        log.info("%s, validation on %d cases (pictures in %s)\n%s", head, len(cases), folder, table(summary))
    if run.progress.history:
        run.progress.history[-1] |= _scores(summaries)
        write_history(run.folder, run.progress.history)
