"""Scores of a folder of predictions against a folder of references."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from delightsam_pipeline.data.annotations import Annotations, require_unseen
from delightsam_pipeline.data.cases import no_images
from delightsam_pipeline.data.dataset import files_by_case
from delightsam_pipeline.data.image import Image
from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.data.masks import read_labels
from delightsam_pipeline.errors import UserError, all_problems, listed
from delightsam_pipeline.evaluation.metrics import Metrics, case_metrics
from delightsam_pipeline.evaluation.summary import CaseResult, summarise
from delightsam_pipeline.evaluation.surfaces import TOLERANCE

_log = logging.getLogger(__name__)
_MOST_LISTED = 10


def evaluate_folders(
    reference: Path,
    prediction: Path,
    labels: Labels,
    tolerance: float = TOLERANCE,
    groups: Mapping[str, str] | None = None,
    annotations: Annotations | None = None,
) -> dict[str, Any]:
    """The summary (see `summarise`) of every case in `reference`, compared with its file in `prediction`.

    tolerance : of NSD, mm, or pixels where the images have no spacing.
    groups : case -> patient or video; a case without one is its own.
    annotations : which classes were annotated in which reference; None for all in all.
    Raises UserError as `compare_folders` does, and when some cases have a spacing in mm and others have none.
    """
    names = dict(zip(labels.classes, labels.ids, strict=True))
    units: dict[str, Path | None] = {}

    def measure(expected: Image, predicted: Image, missing: tuple[str, ...]) -> dict[str, Metrics]:
        grid = expected.grid if expected.grid.physical else predicted.grid
        units.setdefault(grid.unit, expected.source)
        return case_metrics(predicted.array[0], expected.array[0], names, labels.ignore, grid, tolerance, missing)

    results = compare_folders(reference, prediction, labels, measure, annotations)
    if len(units) > 1:
        found = " and ".join(f"{unit} for {file}" for unit, file in units.items())
        raise UserError("distances have two units", found=found, fix="evaluate images with and without spacing apart")
    grouped = [replace(result, group=(groups or {}).get(result.name)) for result in results]
    return summarise(grouped, names, next(iter(units)), tolerance)


def compare_folders(
    reference: Path,
    prediction: Path,
    labels: Labels,
    measure: Callable[[Image, Image, tuple[str, ...]], dict[str, Metrics]],
    annotations: Annotations | None = None,
) -> list[CaseResult]:
    """What `measure` makes of the label maps (reference, prediction) [1, z, y, x] of every case in `reference`, and of
    the classes that were not annotated in it.

    Files belong together when their names without the ending are the same; predictions of other cases are left out.
    Raises UserError that lists missing predictions, and for files that cannot be read, grids that differ, and label
    values that `labels` does not declare or that by `annotations` cannot be there.
    """
    references, predictions = _label_files(reference), _label_files(prediction)
    missing = [name for name in references if name not in predictions]
    if missing:
        raise UserError(
            f"has no prediction for {len(missing)} of {len(references)} cases",
            file=prediction,
            found=f"missing {listed(missing, _MOST_LISTED)}",
            fix="predict them, or take their references out of the reference folder",
        )
    results: list[CaseResult] = []
    problems: list[UserError] = []
    notes: Counter[str] = Counter()
    for name, file in tqdm(references.items(), desc="evaluating", unit="case", disable=None):
        try:
            expected = read_labels(file, labels)
            predicted = read_labels(predictions[name], replace(labels, codes=None), expected)
            notes.update((*expected.notes, *predicted.notes))
            missing = annotations.missing(name) if annotations else ()
            require_unseen(expected.array, labels, missing, name, file)
            metrics = measure(expected, predicted, missing)
            results.append(CaseResult(name, metrics, str(file), str(predictions[name])))
        except UserError as error:
            problems.append(error)
    if problems:
        raise all_problems(problems, f"{prediction} against {reference}")
    for note, count in notes.items():
        _log.info("%d masks: %s", count, note)
    return results


def _label_files(folder: Path) -> dict[str, Path]:
    """Case name -> file, sorted by name."""
    files, doubled = files_by_case(folder)
    if doubled:
        raise all_problems(doubled, str(folder))
    if not files:
        raise no_images(folder, None)
    return files
