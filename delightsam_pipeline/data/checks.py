"""Reading one training case, image and mask, with all that is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from delightsam_pipeline.data.annotations import require_unseen
from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.dataset import Dataset
from delightsam_pipeline.data.fitting import fitted
from delightsam_pipeline.data.formats import describe, read_case, read_stored
from delightsam_pipeline.data.image import Image
from delightsam_pipeline.data.masks import read_labels
from delightsam_pipeline.errors import UserError, all_problems

_MOST_VOXELS = 2**31  # of one case; its classes and the labels on the network's grid take several times that


def check_case(case: Case, dataset: Dataset) -> tuple[Image, Image]:
    """Read a training case: its image [C, z, y, x] and its label map [1, z, y, x].

    Raises UserError when a file cannot be read, the image is too large or has the wrong number of channels, the grids
    differ (see `fitting.fitted`), or the label map holds what dataset.json does not declare, or a class that was not
    annotated in it (see `masks.read_labels` for how masks are read). Several problems are raised as one.
    """
    if case.label is None:
        raise UserError(f"case {case.name} has no label map", file=case.images[0])
    problems: list[UserError] = []
    image = label = None
    with _gathered(problems):
        image = read_case(case.images)
        _require_size(image)
        _require_channels(image, case, dataset.channel_names)
    with _gathered(problems):
        label = read_labels(case.label, dataset.labels)
        require_unseen(label.array, dataset.labels, case.not_annotated, case.name, case.label)
    if image is not None and label is None:
        with suppress(UserError):  # what stands in the mask has been told, where it lies may be wrong too
            label = read_stored(case.label)
    if image is not None and label is not None:
        with _gathered(problems):
            label = fitted(label, image, dataset.fix_geometry, dataset.labels.ignore)
    if problems:
        raise all_problems(problems, f"case {case.name}")
    return image, label


@contextmanager
def _gathered(problems: list[UserError]) -> Iterator[None]:
    """Go on after an error, but keep it."""
    try:
        yield
    except UserError as error:
        problems.append(error)


def _require_size(image: Image) -> None:
    voxels = math.prod(image.grid.shape)
    if voxels > _MOST_VOXELS:
        expected, found = f"at most {_MOST_VOXELS} voxels", f"{voxels}, {describe(image.grid)}"
        fix = "crop it, cut it up, or save it at a lower resolution"
        raise UserError("is too large to train on", file=image.source, expected=expected, found=found, fix=fix)


def _require_channels(image: Image, case: Case, names: tuple[str, ...]) -> None:
    if len(image.array) != len(names):
        raise UserError(
            "the number of channels differs from dataset.json",
            file=case.images[0],
            expected=f"{len(names)} ({', '.join(names)})",
            found=len(image.array),
            fix="mend channel_names, or the files of the case",
        )
