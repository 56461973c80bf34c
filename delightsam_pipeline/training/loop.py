"""The training loop: epochs of steps, validation on whole cases, checkpoints, and the end of a run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from delightsam_pipeline.evaluation.summary import TRAINED_ON, mean_dice
from delightsam_pipeline.evaluation.tables import table
from delightsam_pipeline.files import make_folder, remove_leftovers
from delightsam_pipeline.inference.model_folder import begin_postprocessing, save_weights
from delightsam_pipeline.preprocessing.store import StoredCase
from delightsam_pipeline.training import watch
from delightsam_pipeline.training.board import Board
from delightsam_pipeline.training.checkpoint import save_checkpoint
from delightsam_pipeline.training.clock import Clock
from delightsam_pipeline.training.culprit import not_finite
from delightsam_pipeline.training.economy import economy
from delightsam_pipeline.training.epoch import Sitting, run_epoch
from delightsam_pipeline.training.folder import describe, remove_scores, remove_weights, require_free
from delightsam_pipeline.training.meter import Meter
from delightsam_pipeline.training.pictures import add_column, chosen
from delightsam_pipeline.training.report import CLASS_DICE, closing, write_history
from delightsam_pipeline.training.reserve import Reserve
from delightsam_pipeline.training.schedule import learning_rate
from delightsam_pipeline.training.setup import Run
from delightsam_pipeline.training.together import begin_together, require_the_same
from delightsam_pipeline.training.validation import WORST, Stopped, overall, validate, write_validation
from delightsam_pipeline.training.waiting import Waiting, loader_of

log = logging.getLogger(__name__)
_SAME = 0.01  # share of the length


def train(run: Run, stop: Callable[[], bool] = lambda: False) -> bool:
    """Train to the end of the run's length, then validate. False when `stop` asked to end before.

    Writes into the run's folder: model.json, plans/, model.safetensors (the averaged weights), best.safetensors,
    last.pt (to go on from), progress.csv and .png, validation/HEAD/. Raises UserError when the loss is not finite.
    Of several processes the first writes all files.
    """
    require_the_same(run)
    clock = Clock(run.length, run.progress, run.ranks)
    if run.ranks.is_first:
        _prepare(run, clock)
    if clock.goes_on():
        if not _sit(run, clock, stop):
            return False
    elif not _weights_are_written(run):
        _save(run, clock)
    if run.stage.validates and _is_scored(run):
        log.info("already trained and validated; nothing to do. Longer: more --epochs, or a larger --time-budget")
        return True
    try:
        _finish(run, stop)
    except Stopped:
        return False
    return True


def _prepare(run: Run, clock: Clock) -> None:
    """The folder as training begins or goes on."""
    make_folder(run.folder)
    remove_leftovers(run.folder)
    if run.progress.step == 0:
        if run.stage.whole:
            require_free(run.folder, run.options.restart)
        remove_weights(run.folder)
    if run.stage.whole and (clock.goes_on() or not (run.folder / "model.json").is_file()):
        describe(run)
    if clock.goes_on():
        remove_scores(run.folder)
        if run.stage.whole:
            begin_postprocessing(run.folder, run.options.add_to)


def _sit(run: Run, clock: Clock, stop: Callable[[], bool]) -> bool:
    """Train until the end, or until `stop` says so (False); all is saved then."""
    begin_together(run)
    watch.at_start(run)
    _say_what_the_schedule_does(run, clock)
    with ExitStack() as held:
        loader = loader_of(run, run.progress.step, run.options.workers)
        held.callback(loader.close)
        board = Board(run.folder, run.progress.step) if run.options.tensorboard and run.ranks.is_first else None
        if board is not None:
            held.callback(board.close)
        data, reserve = Waiting(loader, run.device), Reserve(run, clock, stop)
        sitting = Sitting(run, clock, data, reserve, Meter(clock), stop, lambda: _save(run, clock, picture=False))
        reserve.begin()
        finished = _epochs(sitting, board)
    _save(run, clock, picture=not finished or not run.stage.validates)
    if run.stage.whole and run.ranks.is_first and economy(run.model) is not None:
        describe(run)  # it says so
    return finished


def _epochs(sitting: Sitting, board: Board | None) -> bool:
    run, clock, progress = sitting.run, sitting.clock, sitting.run.progress
    first = progress.epoch
    while clock.goes_on():
        best, row = progress.best, run_epoch(sitting)
        if row is None:
            return False
        if clock.done() < 1 and run.stage.validates and clock.validation_is_due():
            try:
                row |= _validate(sitting)
            except Stopped:
                log.info("the validation after epoch %d is left out", progress.epoch)
        row["elapsed"] = clock.elapsed()
        watch.after_epoch(run, row, clock.done(), progress.epoch - first)
        progress.history.append(row)
        sitting.meter.row(row)
        if board is not None:
            board.add(row)
        due = clock.report_is_due()
        # best.safetensors was written: what is the best so far must not be forgotten when the run is killed
        if due or progress.epoch == 1 or progress.best > best:
            _save(run, clock, picture=due)
    return True


def _say_what_the_schedule_does(run: Run, clock: Clock) -> None:
    """A run that is made longer, perhaps after its end, learns as fast again as the longer schedule says."""
    progress, done = run.progress, clock.done()
    if not progress.history or abs(done - progress.done) < _SAME:
        return
    training = next(iter(run.sources.values())).plan.training
    now = learning_rate(training.learning_rate, done, training.warmup)
    text = "another length: %.0f %% are done, before it were %.0f %%; the learning rate goes from %.2g to %.2g"
    log.info(text, 100 * done, 100 * progress.done, progress.history[-1]["learning_rate"], now)


def _validate(sitting: Sitting) -> dict[str, Any]:
    """What a row says of the averaged weights on all held-out cases; keeps the best weights."""
    run, clock, progress = sitting.run, sitting.clock, sitting.run.progress
    begin, model = time.monotonic(), run.averaged_model()
    of_first: list[float] = []
    summaries, all_views = {}, {}
    for head, cases in run.held_out.items():
        plan = run.plans[head]
        summaries[head], all_views[head] = validate(
            model, head, plan, cases, run.device, sitting.stop, first=of_first, ranks=run.ranks, shown=_shown(cases)
        )
    seconds = time.monotonic() - begin
    for head, views in all_views.items():
        _draw(run, head, views, summaries[head], clock.done())
    row = _scores(summaries)
    if row["dice"] is not None and row["dice"] > progress.best:
        progress.best = row["dice"]
        if run.ranks.is_first:
            save_weights(run.folder / "best.safetensors", run.weights())
    watch.after_validation(run, summaries, clock.done())
    progress.validation_seconds = time.monotonic() - begin
    clock.agree()
    progress.validated_at = clock.elapsed()
    sitting.reserve.learn(seconds, sum(of_first))
    return row


def _shown(cases: Sequence[StoredCase]) -> list[str]:
    return [case.name for case in chosen(cases)]


def _draw(run: Run, head: str, views, summary: dict[str, Any], done: float) -> None:
    """Another column of the picture of a few fixed cases."""
    if not run.ranks.is_first:
        return
    folder, progress = run.folder / "validation" / head, run.progress
    add_column(folder, progress.epoch, progress.step, done, run.plans[head], run.held_out[head], views, summary)


def _scores(summaries: Mapping[str, dict[str, Any]]) -> dict[str, float | None]:
    """What a row of the history says of a validation: mean Dice, that of each head when there are several, and that
    of each class when there are several."""
    per_head = {f"dice_{head}": mean_dice(summary) for head, summary in summaries.items()} if len(summaries) > 1 else {}
    per_class = {
        f"{CLASS_DICE}{head}_{name}" if len(summaries) > 1 else f"{CLASS_DICE}{name}": summary["mean"][key]["Dice"]
        for head, summary in summaries.items()
        for key, name in summary["classes"].items()
    }
    return {"dice": overall(summaries), **per_head, **per_class}


def _save(run: Run, clock: Clock, picture: bool = True) -> None:
    """Write a checkpoint and the history. Raises UserError, and writes nothing, when the weights are not finite."""
    if not all(bool(torch.isfinite(value).all()) for value in run.average.tensors.values()):
        raise not_finite(run, max(0, run.progress.step - 1))
    run.progress.elapsed, run.progress.done, begin = clock.elapsed(), clock.done(), time.monotonic()
    _write(run, picture)
    clock.saved = time.monotonic()
    clock.saving = clock.saved - begin
    clock.reported = clock.saved if picture else clock.reported


def _write(run: Run, picture: bool = True) -> None:
    if run.ranks.is_first:
        save_checkpoint(run.folder / "last.pt", run.model, run.average, run.optimizer, run.progress, run.setup)
        save_weights(run.folder / "model.safetensors", run.weights())
        write_history(run.folder, run.progress.history, picture)


def _is_scored(run: Run) -> bool:
    """Whether the final validation of these weights was made, and all of its results still are there."""
    there = all((run.folder / "validation" / head / "summary.json").is_file() for head in run.held_out)
    return run.ranks.gather(there and run.progress.scored_step == run.progress.step > 0)[0]


def _weights_are_written(run: Run) -> bool:
    """Whether the final weights were written after the final state; a run may be killed in between."""
    weights, state = run.folder / "model.safetensors", run.folder / "last.pt"
    return weights.is_file() and not (state.is_file() and weights.stat().st_mtime_ns < state.stat().st_mtime_ns)


def _finish(run: Run, stop: Callable[[], bool]) -> None:
    """The final validation, of the weights that will predict: per head a summary and pictures of the worst cases."""
    if not run.stage.validates:
        return
    model = run.averaged_model()
    summaries = {}
    for head, cases in run.held_out.items():
        folder = run.folder / "validation" / head
        summary, views = validate(
            model,
            head,
            run.plans[head],
            cases,
            run.device,
            stop,
            surfaces=run.stage.whole,
            ranks=run.ranks,
            shown=_shown(cases),
            worst=WORST,
        )
        if run.is_validated_on_training_cases(head):
            summary["note"] = TRAINED_ON
        if run.ranks.is_first:
            write_validation(folder, summary, views, run.plans[head], cases)
        if run.progress.step:
            _draw(run, head, views, summary, 1.0)
        summaries[head] = summary
        log.info("%s, validation on %d cases (pictures in %s)\n%s", head, len(cases), folder, table(summary))
    watch.after_validation(run, summaries, 1.0)
    _keep(run, summaries)
    if run.progress.step and run.stage.whole:
        log.info("%s", closing(run.progress))


def _keep(run: Run, summaries: Mapping[str, dict[str, Any]]) -> None:
    """Keep what the final validation found in the history and in last.pt, unless they have it."""
    progress = run.progress
    if not progress.history:
        return
    row = progress.history[-1] | _scores(summaries)
    if row != progress.history[-1] or progress.scored_step != progress.step:
        progress.history[-1], progress.scored_step = row, progress.step
        _write(run)
