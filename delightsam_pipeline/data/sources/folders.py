"""A folder of images and one of masks."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from delightsam_pipeline.data.cases import Case, list_files, tell_passed_over
from delightsam_pipeline.data.formats import stem_of
from delightsam_pipeline.data.pairs import pair_folders
from delightsam_pipeline.data.sources.found import Found, case_name


def from_folders(images: Path, masks: Path | None, channels: int | None = None) -> Found:
    """Images and masks of the same name (see `pairs`); images without a mask are for testing."""
    cases, labels, problems = pair_folders(images, masks, channels)
    for folder in filter(None, (images, masks)):
        tell_passed_over(folder, list_files(folder))
    names = {name: case_name(name) for name in cases}
    made = [Case(names[name], files, labels.get(name), names[name]) for name, files in cases.items()]
    train, test = (tuple(case for case in made if (case.label is None) == alone) for alone in (False, True))
    place = str(images) if masks is None else f"{images} and {masks}"
    return Found("a folder of images and one of masks", place, train, test, problems=tuple(problems))


def from_pair(images: Path, masks: Path) -> Found:
    """`from_folders`; where these are nnU-Net's imagesTr and labelsTr, imagesTs and labelsTs are read as well.

    Where the numbers in imagesTr stand for channels, they do so in imagesTs, which need not have masks that show it.
    """
    found = from_folders(images, masks)
    tests, labels = images.with_name("imagesTs"), masks.with_name("labelsTs")
    if images.name != "imagesTr" or not os.path.isdir(tests):
        return found
    channels = max((len(case.images) for case in found.train if _is_numbered(case)), default=None)
    more = from_folders(tests, labels if os.path.isdir(labels) else None, channels)
    return replace(found, test=found.test + more.train + more.test, problems=found.problems + more.problems)


def _is_numbered(case: Case) -> bool:
    """Whether the number at the end of an image's name is that of a channel, and no part of the case's name."""
    return case.name != case_name(stem_of(case.images[0]))
