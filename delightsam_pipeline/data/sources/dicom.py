"""A folder of DICOM series in any depth, such as patients/studies/series."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from delightsam_pipeline.data.cases import Case, is_many_images, list_files, tell_passed_over
from delightsam_pipeline.data.dataset import files_by_case
from delightsam_pipeline.data.dicom_files import is_series, series_files
from delightsam_pipeline.data.dicom_header import read_header
from delightsam_pipeline.data.formats import stem_of
from delightsam_pipeline.data.pairs import match_masks
from delightsam_pipeline.data.sources.found import Found, case_name
from delightsam_pipeline.errors import UserError

_log = logging.getLogger(__name__)
_MOST_NAMES = 5  # in a message
_NO_IMAGES = ("SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "REG", "SR", "PR", "KO")


def holds_series(folder: Path) -> bool:
    """Whether a folder has DICOM images in it, in any depth."""
    return next(_series_in(folder), None) is not None


def from_dicom(folders: Sequence[Path], masks: Path | None) -> Found:
    """Each series, or each file that is an image of its own, is a case; masks are called as the cases are.

    Cases are called after folders, never after tags: after the patient's folder, the first in which the paths differ,
    or after all folders from it down where it holds several. The patient's folder is the group.
    Raises UserError when the masks' folder is not there.
    """
    modalities, problems = _modalities(folders)
    series = [path for path, modality in modalities.items() if modality not in _NO_IMAGES]
    if len(series) < len(modalities):
        _log.info("%d series are no images (segmentations, doses): passed over", len(modalities) - len(series))
    labels, doubled = files_by_case(masks) if masks is not None else ({}, [])
    cases = _cases(series, folders[0])
    by_name, same = _by_case_name(labels)
    names = [case.name for case in cases]
    paired, alone = match_masks(names, by_name)
    if masks is not None:
        tell_passed_over(masks, list_files(masks))
    problems += doubled + same
    shown = ", ".join(names[:_MOST_NAMES]) + (" ..." if len(names) > _MOST_NAMES else "")
    problems += [UserError("is called as no case is", file=by_name[name], expected=f"one of {shown}") for name in alone]
    kinds = Counter(modalities[path] for path in series)
    if len(kinds) > 1:
        found = ", ".join(f"{count} {kind or 'unknown'}" for kind, count in kinds.items())
        fix = "convert each for itself, or list the images and masks of the cases in a CSV"
        problems.append(UserError("holds series of several modalities", file=folders[0], found=found, fix=fix))
    cases = [replace(case, label=paired.get(case.name)) for case in cases]
    train, test = (tuple(case for case in cases if (case.label is None) == alone) for alone in (False, True))
    _log.info("cases are called after folders and files, never after DICOM tags: see that those name no patient")
    layout, place = f"DICOM images ({len(series)})", ", ".join(map(str, folders))
    return Found(layout, place, train, test, problems=tuple(problems))


def _by_case_name(masks: Mapping[str, Path]) -> tuple[dict[str, Path], list[UserError]]:
    """The name of the case that each mask could be of -> its file, and masks that could be of the same."""
    by_name, problems = {}, []
    for stem, file in masks.items():
        name = case_name(stem)
        other = by_name.setdefault(name, file)
        if other is not file:
            fix = "rename or remove one of them"
            problems.append(UserError(f"would belong to case {name} as {other} does", file=file, fix=fix))
    return by_name, problems


def _modalities(folders: Sequence[Path]) -> tuple[dict[Path, str], list[UserError]]:
    """Each series or single image -> what its tag says, and those that cannot be read."""
    modalities, problems = {}, []
    for path in (path for folder in folders for path in _series_in(folder)):
        try:
            modalities[path] = read_header(series_files(path)[0] if path.is_dir() else path).modality
        except UserError as error:
            problems.append(error)
    return modalities, problems


def _series_in(folder: Path) -> Iterator[Path]:
    """Folders with one series each, and files that are images of their own, sorted; hidden folders are left out."""
    seen = set()
    for place, folders, _ in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if os.path.realpath(place) in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        path = Path(place)
        if is_series(path):
            yield from series_files(path) if is_many_images(path) else [path]


def _cases(series: Sequence[Path], folder: Path) -> list[Case]:
    """The cases, without masks; `folder` is where a single series was looked for."""
    places = list(map(os.path.abspath, series))
    base = os.path.commonpath(places) if len(places) > 1 else os.path.abspath(folder)
    parts = [_parts(Path(place), Path(base)) for place in places]
    several = Counter(patient for patient, *_ in parts)
    names = ["_".join(part) if several[part[0]] > 1 else part[0] for part in parts]
    numbered = all(name.endswith("_0000") for name in names)  # as nnU-Net numbers channels
    cases = []
    for path, name, (patient, *_) in zip(series, names, parts, strict=True):
        name = case_name(name.removesuffix("_0000") if numbered else name)
        cases.append(Case(name, (path,), None, name if several[patient] == 1 else case_name(patient)))
    return cases


def _parts(path: Path, base: Path) -> tuple[str, ...]:
    """The names of the folders from `base` down to an image, the image's own without its ending."""
    inside = path.relative_to(base)
    return (*inside.parts[:-1], stem_of(path)) if inside.parts else (stem_of(path),)
