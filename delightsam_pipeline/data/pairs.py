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


def pair_folders(
    images: Path, masks: Path | None, channels: int | None = None
) -> tuple[Images, dict[str, Path], list[UserError]]:
    """Case name -> its image files, case name -> its mask, and what is wrong: doubled names, masks without images.

    channels : how many the images' numbers (CASE_0000) stand for; None sees from the masks whether they are such.
    An image without a mask is for the caller to judge. Raises UserError when a folder is not there or has no images.
    """
    labels, doubled = files_by_case(masks) if masks is not None else ({}, [])
    cases, problems = _images(images, labels) if channels is None else _numbered(images, channels)
    paired, alone = match_masks(cases, labels)
    problems += doubled
    for name in alone:
        problems.append(UserError("has no image", file=labels[name], expected=f"{name} in {images}"))
    return cases, paired, problems


def match_masks(names: Collection[str], masks: Mapping[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """Case name -> its mask, for masks called as the cases are, and the names of masks that belong to none.

    Where no mask is called as a case is, all may add the same text, such as `_segmentation`, to their cases' names.
    """
    paired, added = _paired(names, masks)
    if added:
        _log.info("masks are called as their images with '%s' added", added)
        return paired, []
    return paired, sorted(masks.keys() - set(names))


def _paired(names: Collection[str], masks: Mapping[str, Path]) -> tuple[dict[str, Path], str]:
    """Case name -> its mask, and the text that all masks add to the cases' names."""
    if masks and masks.keys().isdisjoint(names):
        before, after = _added(names, min(masks)) or ("", "")
        cut = {name.removeprefix(before).removesuffix(after): file for name, file in masks.items()}
        if set(cut) <= set(names) and all(f"{before}{name}{after}" in masks for name in cut):
            return cut, before + after
    return {name: masks[name] for name in names if name in masks}, ""


def _added(names: Collection[str], mask: str) -> tuple[str, str] | None:
    """What stands before and after the longest of the names that occurs in a mask's name."""
    inside = max((name for name in names if name in mask), key=len, default=None)
    return None if inside is None else tuple(mask.split(inside, 1))


def _images(folder: Path, labels: Mapping[str, Path]) -> tuple[Images, list[UserError]]:
    """Case name -> images, and what is wrong; cases are called as their masks are, so that img_0001 may be a name."""
    images, problems = files_by_case(folder)
    numbers = [int(match[1]) for match in map(_CHANNEL.fullmatch, images) if match]
    grouped, wrong = _numbered(folder, 1 + max(numbers, default=0))
    if len(_paired(grouped, labels)[0]) > len(_paired(images, labels)[0]):
        return grouped, wrong
    return {name: (file,) for name, file in images.items()}, problems


def _numbered(folder: Path, channels: int) -> tuple[Images, list[UserError]]:
    """Case name -> images, whose numbers are those of channels, and what is wrong."""
    files = list_files(folder)
    if not files:
        raise no_images(folder, None)
    return group_cases(files, channels)
