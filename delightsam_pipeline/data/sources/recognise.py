"""Which layout a user's files have, by their content."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from delightsam_pipeline.data.cases import list_files
from delightsam_pipeline.data.formats import known_ending
from delightsam_pipeline.data.proposal import pair_of_folders
from delightsam_pipeline.data.sources.dicom import from_dicom, holds_series
from delightsam_pipeline.data.sources.folders import from_pair
from delightsam_pipeline.data.sources.found import Found
from delightsam_pipeline.data.sources.listed import from_list, lists_cases
from delightsam_pipeline.data.sources.table import from_table
from delightsam_pipeline.errors import UserError, listed
from delightsam_pipeline.files import read_json

_LAYOUTS = "images and labels (or masks), a dataset.json that lists `training`, images, or DICOM series"


def recognise(sources: Sequence[Path], masks: Path | None = None) -> Found:
    """The cases in the folder, the folders of DICOM series, or the CSV of paths that a user gives.

    masks : the folder of masks, for images that have none beside them.
    Raises UserError when a source is not there, or has no layout that is known.
    """
    for source in sources:
        if not source.exists():
            raise UserError("does not exist", file=source)
    source = sources[0]
    if len(sources) > 1:
        return _joined(sources, masks)
    if source.is_dir() and not _has_masks(source):
        return _pair(source, _needed(masks, source))
    if masks is not None:
        raise UserError("says itself where its masks are", file=source, fix="leave out --masks")
    if source.is_file():
        return from_table(source)
    return from_list(source) if lists_cases(source) else _pair(*pair_of_folders(source))


def _pair(images: Path, masks: Path) -> Found:
    """A folder of images, or with DICOM series in some depth, and a folder of masks."""
    if any(known_ending(file) != ".dcm" for file in list_files(images)):
        return from_pair(images, masks)
    if holds_series(images):
        return from_dicom([images], masks)
    raise _unknown(images)


def _joined(sources: Sequence[Path], masks: Path | None) -> Found:
    if not all(source.is_dir() and not _has_masks(source) and holds_series(source) for source in sources):
        fix = "give one folder, or list all images and masks in a CSV"
        raise UserError("only folders of DICOM series can be given together", found=len(sources), fix=fix)
    return from_dicom(sources, _needed(masks, sources[0]))


def _has_masks(folder: Path) -> bool:
    """Whether a folder says itself which masks belong to its images."""
    if lists_cases(folder) or pair_of_folders(folder) is not None:
        return True
    value = read_json(folder / "dataset.json") if os.path.isfile(folder / "dataset.json") else None
    if isinstance(value, dict) and "labels" in value:
        fix = f"nothing needs to be converted: dlsam_plan_and_preprocess -d {shlex.quote(str(folder))}"
        raise UserError("is a raw dataset already", file=folder, fix=fix)
    return False


def _needed(masks: Path | None, images: Path) -> Path:
    if masks is not None:
        return masks
    if not (list_files(images) or holds_series(images)):
        raise _unknown(images)
    fix = "give a folder of masks with --masks, or list images and masks in a CSV"
    raise UserError("has images but no masks", file=images, fix=fix)


def _unknown(folder: Path) -> UserError:
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    found = listed(names, 5) or "nothing"
    fix = "give --images DIR and --masks DIR, or list images and masks in a CSV"
    return UserError("has no layout that is known", file=folder, expected=_LAYOUTS, found=found, fix=fix)
