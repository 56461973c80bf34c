"""Which images and masks of two folders belong together, by their names."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from delightsam_pipeline.data.cases import group_cases, list_files, no_images
from delightsam_pipeline.data.dataset import files_by_case
from delightsam_pipeline.errors import UserError

_log = logging.getLogger(__name__)
_CHANNEL = re.compile(r".+_(\d{4})")
Images = dict[str, tuple[Path, ...]]


def pair_folders(images: Path, masks: Path | None) -> tuple[Images, dict[str, Path], list[UserError]]:
    """Case name -> its image files, case name -> its mask, and what is wrong: doubled names, masks without images.

    An image without a mask is for the caller to judge. Raises UserError when a folder is not there or has no images.
    """
    labels, doubled = files_by_case(masks) if masks is not None else ({}, [])
    cases, problems = _images(images, labels)
    paired, alone = match_masks(cases, labels)
    problems += doubled
    for name in alone:
        problems.append(UserError("has no image", file=labels[name], expected=f"{name} in {images}"))
    return cases, paired, problems


def match_masks(names: Collection[str], masks: Mapping[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """Case name -> its mask, for masks called as the cases are, and the names of masks that belong to none.

    Where no mask is called as a case is, all may add the same text, such as `_segmentation`, to their cases' names.
    """
    if masks and masks.keys().isdisjoint(names):
        before, after = _added(names, min(masks)) or ("", "")
        cut = {name.removeprefix(before).removesuffix(after): file for name, file in masks.items()}
        if set(cut) <= set(names) and all(f"{before}{name}{after}" in masks for name in cut):
            _log.info("masks are called as their images with '%s' added", before + after)
            return cut, []
    return {name: masks[name] for name in names if name in masks}, sorted(masks.keys() - set(names))


def _added(names: Collection[str], mask: str) -> tuple[str, str] | None:
    """What stands before and after the longest of the names that occurs in a mask's name."""
    inside = max((name for name in names if name in mask), key=len, default=None)
    return None if inside is None else tuple(mask.split(inside, 1))


def _images(folder: Path, labels: Collection[str]) -> tuple[Images, list[UserError]]:
    """Case name -> images, and what is wrong; cases are called as their masks are, so that img_0001 may be a name."""
    images, problems = files_by_case(folder)
    if not images:
        raise no_images(folder, None)
    numbers = [int(match[1]) for match in map(_CHANNEL.fullmatch, images) if match]
    grouped, wrong = group_cases(list_files(folder), 1 + max(numbers, default=0))
    if sum(name in labels for name in grouped) > sum(name in labels for name in images):
        return grouped, wrong
    return {name: (file,) for name, file in images.items()}, problems
