"""Validation on whole held-out cases, on their own grids, with the metrics that are reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture

from delightsam_pipeline.evaluation.metrics import case_metrics
from delightsam_pipeline.evaluation.overlays import best_slice, case_panel, write_sheet
from delightsam_pipeline.evaluation.summary import CaseResult, defined_means, mean_dice, summarise, worst_cases
from delightsam_pipeline.evaluation.surfaces import TOLERANCE
from delightsam_pipeline.evaluation.tables import write_scores
from delightsam_pipeline.files import write_json
from delightsam_pipeline.inference.device import Device
from delightsam_pipeline.inference.segment import segment
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.preprocessing.resampling import resize
from delightsam_pipeline.preprocessing.store import StoredCase
from delightsam_pipeline.training.ranks import ALONE, Ranks

WORST = 8  # cases of which a final validation shows pictures


class Stopped(Exception):
    """A validation was asked to stop."""


@dataclass(frozen=True)
class View:
    """The slice of a validated case that is worth a picture: its number, prediction and reference [H, W]."""

    z: int
    prediction: np.ndarray
    reference: np.ndarray


def validate(
    model: DeLightSAM,
    head: str,
    plan: Plan,
    cases: Sequence[StoredCase],
    device: Device,
    stop: Callable[[], bool] = lambda: False,
    surfaces: bool = False,
    first: list[float] | None = None,
    ranks: Ranks = ALONE,
    shown: Collection[str] = (),
    worst: int = 0,
) -> tuple[dict[str, Any], dict[str, View]]:
    """The summary (see evaluation.summary) of a head over stored cases, and views by name, of no more than are wanted:
    a view has all pixels of a slice.

    surfaces : measure distances and volumes too, which takes longer. first : gets the seconds of the first case.
    ranks : the processes that share the cases out; all get all results. shown : names of cases to keep a view of.
    worst : keep one of so many cases with the lowest mean Dice, too.
    Raises Stopped when `stop`, asked between cases, says so, on all processes.
    """
    ids = dict(zip(plan.targets.classes, plan.targets.ids, strict=True))
    views = _Views(frozenset(shown), worst)
    found, stopped, begin = [], False, time.monotonic()
    for case in cases[ranks.share]:
        stopped = stop()
        if stopped:
            break
        labels, reference = segment(model, head, plan, case.slices(), case.back, device), case.labels()
        grid, missing = case.back.grid if surfaces else None, [plan.targets.classes[k] for k in case.not_annotated]
        metrics = case_metrics(labels, reference, ids, plan.targets.ignore, grid, not_annotated=missing)
        found.append(CaseResult(case.name, metrics, case.name, case.name, case.group))
        views.add(found[-1], labels, reference, case.back.axis)
        if first is not None and len(found) == 1:
            first.append(time.monotonic() - begin)
    if any(ranks.gather(stopped)):
        raise Stopped
    summary = summarise(ranks.gather_shares(found), ids, *((plan.unit, TOLERANCE) if surfaces else ()))
    wanted = {*shown, *(name for name, *_ in worst_cases(summary, worst))}
    own = {name: view for name, view in views.kept.items() if name in wanted}
    return summary, {name: view for part in ranks.gather(own) for name, view in part.items()}


class _Views:
    """The views of some cases by name, and of the worst among those that were added so far, in `kept`."""

    def __init__(self, shown: frozenset[str], worst: int) -> None:
        self.shown, self.worst = shown, worst
        self.kept: dict[str, View] = {}
        self._lowest: list[tuple[float, str]] = []  # mean Dice and name of the worst, in the order of worst_cases

    def add(self, result: CaseResult, prediction: np.ndarray, reference: np.ndarray, axis: int) -> None:
        dice = defined_means(list(result.metrics.values())).get("Dice")
        lowest = sorted([*self._lowest, (1.0 if dice is None else dice, result.name)], key=lambda of_case: of_case[0])
        self._lowest = lowest[: self.worst]
        wanted = self.shown | {name for _, name in self._lowest}
        if result.name in wanted:
            self.kept[result.name] = _view(prediction, reference, axis)
        self.kept = {name: view for name, view in self.kept.items() if name in wanted}


def _view(prediction: np.ndarray, reference: np.ndarray, axis: int) -> View:
    prediction, reference = (np.moveaxis(v, axis, 0) for v in (prediction, reference))
    z = best_slice(reference if reference.any() else prediction)
    return View(z, prediction[z].copy(), reference[z].copy())


def overall(summaries: Mapping[str, dict[str, Any]]) -> float | None:
    """Mean Dice over heads; None when none has any."""
    values = [d for s in summaries.values() if (d := mean_dice(s)) is not None]
    return float(np.mean(values)) if values else None


def write_validation(
    folder: Path, summary: dict[str, Any], views: Mapping[str, View], plan: Plan, cases: Sequence[StoredCase]
) -> None:
    """Write folder/summary.json, scores.csv beside it, and worst_cases.png, overlays of the worst cases."""
    write_json(folder / "summary.json", summary)
    write_scores(folder / "scores.csv", summary)
    by_name = {case.name: case for case in cases}
    worst = worst_cases(summary, WORST)
    panels = [(f"Dice {dice:.3f}", _panel(by_name[name], views[name], plan)) for name, dice, _ in worst]
    if panels:
        write_sheet(folder / "worst_cases.png", panels)


def shown_slice(case: StoredCase, z: int, plan: Plan) -> tuple[np.ndarray, tuple[float, float]]:
    """A slice of a case [C H W] on the image's own grid, as `overlay` takes it, and its spacing (y, x)."""
    picture = resize(np.asarray(case.slices()[z], np.float32), case.back.slice_shape)
    if plan.input == "rgb":
        picture = (255 * (picture - picture.min()) / max(np.ptp(picture), 1e-6)).astype(np.uint8)
    return picture, tuple(s for axis, s in enumerate(case.back.grid.spacing) if axis != case.back.axis)


def _panel(case: StoredCase, view: View, plan: Plan) -> Picture.Image:
    """A view over its image, on the image's own grid."""
    picture, spacing = shown_slice(case, view.z, plan)
    title = f"{case.name}, slice {view.z + 1} of {case.count}" if case.count > 1 else case.name
    one = (view.prediction[None], view.reference[None])
    return case_panel(picture[:, None], *one, title, spacing, plan.targets.ignore)
