"""Validation on whole held-out cases, on their own grids, with the metrics that are reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture

from delightsam_pipeline.evaluation.metrics import case_metrics
from delightsam_pipeline.evaluation.overlays import best_slice, case_panel, write_sheet
from delightsam_pipeline.evaluation.summary import CaseResult, mean_dice, summarise, worst_cases
from delightsam_pipeline.files import write_json
from delightsam_pipeline.inference.device import Device
from delightsam_pipeline.inference.segment import segment
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.preprocessing.resampling import resize
from delightsam_pipeline.preprocessing.store import StoredCase


def validate(model: DeLightSAM, head: str, plan: Plan, cases: Sequence[StoredCase], device: Device) -> dict[str, Any]:
    """The summary (see evaluation.summary) of a head over stored cases."""
    ids = dict(zip(plan.targets.classes, plan.targets.ids, strict=True))
    results = []
    for case in cases:
        labels = segment(model, head, plan, case.slices(), case.back, device)
        metrics = case_metrics(labels, case.labels(), ids, plan.targets.ignore)
        results.append(CaseResult(case.name, metrics, case.name, case.name))
    return summarise(results, ids)


def overall(summaries: Mapping[str, dict[str, Any]]) -> float | None:
    """Mean Dice over heads; None when none has any."""
    values = [d for s in summaries.values() if (d := mean_dice(s)) is not None]
    return float(np.mean(values)) if values else None


def write_validation(
    folder: Path, model: DeLightSAM, head: str, plan: Plan, cases: Sequence[StoredCase], device: Device, worst: int = 8
) -> dict[str, Any]:
    """Validate, write folder/summary.json and overlays of the worst cases, and return the summary."""
    summary = validate(model, head, plan, cases, device)
    write_json(folder / "summary.json", summary)
    by_name = {case.name: case for case in cases}
    panels = [
        (f"Dice {dice:.3f}", _panel(model, head, plan, by_name[name], device))
        for name, dice, _ in worst_cases(summary, worst)
    ]
    if panels:
        write_sheet(folder / "worst_cases.png", panels)
    return summary


def _panel(model: DeLightSAM, head: str, plan: Plan, case: StoredCase, device: Device) -> Picture.Image:
    """The slice with most of the reference, shown on the image's own grid."""
    prediction = segment(model, head, plan, case.slices(), case.back, device)
    axis, grid = case.back.axis, case.back.grid
    prediction, reference = (np.moveaxis(v, axis, 0) for v in (prediction, case.labels()))
    z = best_slice(reference if reference.any() else prediction)
    picture = resize(np.asarray(case.slices()[z], np.float32), case.back.slice_shape)
    if plan.input == "rgb":
        picture = (255 * (picture - picture.min()) / max(np.ptp(picture), 1e-6)).astype(np.uint8)
    spacing = tuple(s for a, s in enumerate(grid.spacing) if a != axis)
    title = f"{case.name}, slice {z + 1} of {case.count}" if case.count > 1 else case.name
    one = slice(z, z + 1)
    return case_panel(picture[:, None], prediction[one], reference[one], title, spacing, plan.targets.ignore)
