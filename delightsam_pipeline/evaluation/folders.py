"""Scores of a folder of predictions against a folder of references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm import tqdm

from delightsam_pipeline.data.cases import list_files, no_images
from delightsam_pipeline.data.dataset import require_declared
from delightsam_pipeline.data.formats import ending_of, read_labels, require_same_space
from delightsam_pipeline.data.image import Image
from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.errors import UserError, all_problems
from delightsam_pipeline.evaluation.metrics import case_metrics
from delightsam_pipeline.evaluation.summary import CaseResult, summarise

_MOST_LISTED = 10


def evaluate_folders(reference: Path, prediction: Path, labels: Labels) -> dict[str, Any]:
    """The summary (see `summarise`) of every case in `reference`, compared with its file in `prediction`.

    Files belong together when their names without the ending are the same; predictions of other cases are left out.
    Raises UserError that lists missing predictions, and for files that cannot be read, grids that differ, and label
    values that `labels` does not declare.
    """
    references, predictions = _label_files(reference), _label_files(prediction)
    missing = [name for name in references if name not in predictions]
    if missing:
        raise UserError(
            f"has no prediction for {len(missing)} of {len(references)} cases",
            file=prediction,
            found=f"missing {_listed(missing)}",
            fix="predict them, or take their references out of the reference folder",
        )
    results: list[CaseResult] = []
    problems: list[UserError] = []
    for name, file in tqdm(references.items(), desc="evaluating", unit="case", disable=None):
        try:
            results.append(_compare(name, file, predictions[name], labels))
        except UserError as error:
            problems.append(error)
    if problems:
        raise all_problems(problems, f"{prediction} against {reference}")
    return summarise(results, dict(zip(labels.classes, labels.ids, strict=True)))


def _compare(name: str, reference_file: Path, prediction_file: Path, labels: Labels) -> CaseResult:
    reference, prediction = read_labels(reference_file), read_labels(prediction_file)
    _require_same_grid(prediction, prediction_file, reference, reference_file)
    require_declared(reference, reference_file, labels.declared)
    require_declared(prediction, prediction_file, labels.declared)
    names = dict(zip(labels.classes, labels.ids, strict=True))
    metrics = case_metrics(prediction.array[0], reference.array[0], names, labels.ignore)
    return CaseResult(name, metrics, str(reference_file), str(prediction_file))


def _require_same_grid(prediction: Image, prediction_file: Path, reference: Image, reference_file: Path) -> None:
    """A picture has no position, so that beside a picture only the shape counts."""
    both_physical = prediction.grid.physical and reference.grid.physical
    if both_physical or prediction.grid.shape != reference.grid.shape:
        require_same_space(prediction.grid, prediction_file, reference.grid, reference_file)


def _label_files(folder: Path) -> dict[str, Path]:
    """Case name -> file, sorted by name."""
    if not folder.is_dir():
        raise UserError("is not a folder" if folder.exists() else "does not exist", file=folder)
    files: dict[str, Path] = {}
    for file in list_files(folder):
        name = file.name[: -len(ending_of(file))]
        if name in files:
            raise UserError(f"case {name} has two files", file=file, found=files[name], fix="remove one of them")
        files[name] = file
    if not files:
        raise no_images(folder, None)
    return files


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more
