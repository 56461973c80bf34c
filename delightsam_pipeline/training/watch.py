"""Warnings while a run goes on, each given once, that say what is the matter, why, and what can be done."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from delightsam_pipeline.data.machine import cores
from delightsam_pipeline.plans.layout import STRIDE
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.plans.survival import CELLS, survival
from delightsam_pipeline.training.loading import Source
from delightsam_pipeline.training.setup import Run

log = logging.getLogger(__name__)
SELDOM = 1 / 50  # of the steps: a class that is drawn more rarely is told of
WAITING = 0.25  # share of the time
_STEPS_TO_JUDGE = 20  # of an epoch, by how long it waited for data
_UNLEARNED = 0.01  # Dice
_JUDGED_FROM = 0.25  # of the training
_FEW_STEPS = 500
_SURVIVES = 0.5  # Dice of objects with themselves on the grid of masks
_LOOKED_AT = 8  # cases
_LEVEL, _RISE = 1 / 3, 0.002  # of the training without a rise by this much of Dice
_FALL, _LOSS_FALL = 0.03, 0.9  # of Dice below its best, and of the loss against what it was then
_MEAN_OF = 3  # rows, where one alone is too noisy


def at_start(run: Run) -> None:
    """Classes that training will not see, or hardly ever."""
    for head, source in run.sources.items():
        for k, name in enumerate(source.plan.targets.classes):
            showing = [case for case in source.cases if case.present[k]]
            about = f"{head}, class '{name}'"
            if not showing:
                tell(run, f"never {head} {name}", f"{about}: {_why_never(run, head, k)}")
                continue
            drawn = share_of_draws(source, k) * source.plan.training.batch_size / len(run.sources)
            if drawn < SELDOM:
                slices = sum(len(case.present[k]) for case in showing)
                seen = f"shown by {len(showing)} of {len(source.cases)} training cases, in {slices} slices"
                text = f"{about}: {seen}, so it comes only about every {1 / drawn:.0f} steps"
                tell(run, f"seldom {head} {name}", f"{text}; more cases that show it are what would help most")


def share_of_draws(source: Source, k: int) -> float:
    """The share of training samples whose slice holds target k (see loading.draw)."""
    wanted = source.plan.training.foreground_share if source.filled else 0.0
    classes = [sum(map(bool, case.present)) for case in source.filled]
    foreground = [bool(case.present[k]) / n for case, n in zip(source.filled, classes, strict=True)]
    anywhere = [len(case.present[k]) / case.count for case in source.cases]
    return wanted * float(np.mean(foreground or [0.0])) + (1 - wanted) * float(np.mean(anywhere))


def _why_never(run: Run, head: str, k: int) -> str:
    source, fold = run.sources[head], run.options.fold
    if all(k in case.not_annotated for case in source.cases):
        return f"annotated in none of the {len(source.cases)} training cases, so it cannot be learned"
    text = f"in none of the {len(source.cases)} training cases of fold {fold}, so it cannot be learned"
    held_out = sum(bool(case.present[k]) for case in run.held_out[head])
    if held_out:
        cases = (
            f"all {held_out} cases that show it are held out" if held_out > 1 else "the one case with it is held out"
        )
        return f"{text}: {cases}; choose another fold, or share them out in splits_final.json"
    ids = source.plan.targets.ids[k]
    lost = [case.name for case in source.cases[:_LOOKED_AT] if np.isin(case.labels(), ids).any()]
    if lost:
        return f"{text}: its objects in {lost[0]} are lost at the plan's scale; {_FINER}"
    return f"{text}; check the labels, or take the class out of dataset.json"


_FINER = (
    "plan a finer one (--set spacing=, or --set patch_size= where images go whole) with dlsam_plan_and_preprocess "
    "and train with --restart"
)


def after_epoch(run: Run, row: Mapping[str, Any], done: float, sitting_epoch: int) -> None:
    """Waiting for data, and validation Dice that rises no more. The first epoch of a sitting starts the loader."""
    steps = run.length.steps_per_epoch
    if row["waiting"] > WAITING and steps >= _STEPS_TO_JUDGE and sitting_epoch > 1:
        workers, own_cores = run.options.workers, max(1, cores() // run.ranks.local_size)
        text = f"training waits for data {row['waiting']:.0%} of the time"
        if workers < own_cores - 1:
            text += f": give more --workers (there are {workers}, and {own_cores} cores{_for_each(run)})"
        elif run.device.torch.type == "cpu":
            return  # loading takes a part of what there is, and nothing can be done about it
        else:
            text += f", with a loader process for each of {own_cores} cores: more cores or a quicker disk would help"
        tell(run, "waiting", text)
    if row.get("dice") is not None:
        level = plateau([*run.progress.history, dict(row)], done)
        if level is not None:
            tell(run, "plateau", level)


def _for_each(run: Run) -> str:
    return " for each process" if run.ranks.local_size > 1 else ""


def plateau(history: list[dict[str, Any]], done: float) -> str | None:
    """What to say when validation Dice has not risen for a third of the training; None when there is nothing."""
    rows = [row for row in history if row.get("dice") is not None]
    dice = [row["dice"] for row in rows]
    best = next(i for i, value in enumerate(dice) if value >= max(dice) - _RISE)
    since = done * (1 - rows[best]["step"] / rows[-1]["step"])
    if since < _LEVEL or len(rows) - best <= _MEAN_OF:
        return None
    text = f"validation Dice has not risen since epoch {rows[best]['epoch']} ({dice[best]:.3f})"
    place = history.index(rows[best])
    was = float(np.mean([row["mask_loss"] for row in history[max(0, place - 1) : place + 2]]))
    now, dice_now = float(np.mean([row["mask_loss"] for row in history[-_MEAN_OF:]])), float(np.mean(dice[-_MEAN_OF:]))
    if dice_now < dice[best] - _FALL and now < _LOSS_FALL * was:
        text += (
            f" and has fallen to {dice_now:.3f}, while the training loss fell from {was:.3f} to {now:.3f}: the "
            "training cases are learned by heart. More cases, or a shorter training, would help"
        )
    else:
        text += "; it often rises once more at the end, as the learning rate falls"
    return f"{text}. best.safetensors has the best weights so far"


def after_validation(run: Run, summaries: Mapping[str, Mapping[str, Any]], done: float) -> None:
    """Classes that are not found at all, after a quarter of the training."""
    if done < _JUDGED_FROM or not run.ranks.is_first:
        return
    for head, summary in summaries.items():
        source = run.sources[head]
        for k, (key, name) in enumerate(summary["classes"].items()):
            dice, about = summary["mean"][key]["Dice"], f"zero {head} {name}"
            if about in run.progress.told or dice is None or dice >= _UNLEARNED:
                continue
            if not any(case.present[k] for case in source.cases):
                continue
            why = _why_not_found(run, source, k, [row["metrics"][key] for row in summary["metric_per_case"]])
            tell(run, about, f"{head}, class '{name}': validation Dice is {dice:.2f}: {why}")


def _why_not_found(run: Run, source: Source, k: int, metrics: list[Mapping[str, Any]]) -> str:
    kept = on_mask_grid(source, k)
    if kept < _SURVIVES:
        return (
            f"its objects are smaller than the grid of masks, whose cells are {STRIDE} x {STRIDE} pixels of the "
            f"network's input (on it they would overlap with themselves by a Dice of {kept:.2f}); {_FINER}"
        )
    predicted, steps = sum(row["n_pred"] or 0 for row in metrics), run.progress.step
    showing = sum(bool(case.present[k]) for case in source.cases)
    seen = f"{showing} of {len(source.cases)} training cases show it"
    if not predicted:
        early = steps < _FEW_STEPS
        advice = (
            f"after {steps} steps that may only be too early; train longer" if early else "more such cases may help"
        )
        return f"it is never predicted. {seen}; {advice}"
    return (
        f"{predicted} pixels are predicted, but elsewhere. {seen}; do the labels belong to their images, are classes "
        f"confused? Pictures are in {run.folder / 'validation'}"
    )


def on_mask_grid(source: Source, k: int) -> float:
    """Median Dice of target k with itself after it was brought to the grid of the network's masks and back."""
    showing = [case for case in source.cases if case.present[k]]
    cases = [showing[i] for i in np.linspace(0, len(showing) - 1, min(_LOOKED_AT, len(showing))).astype(int)]
    curves = [survival(np.isin(case.mask()[list(case.present[k])], _ids(source.plan, k))) for case in cases]
    return float(np.median([curve[CELLS.index(float(STRIDE))] for curve in curves if curve]))


def _ids(plan: Plan, k: int) -> tuple[int, ...]:
    return tuple(plan.targets.ids[k])


def tell(run: Run, key: str, text: str) -> None:
    """Warn, unless this was told before."""
    if key not in run.progress.told:
        run.progress.told.append(key)
        log.warning("%s", text)
