"""The fingerprint: what a raw dataset is, measured over all of its images and labels in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import ndimage

from delightsam_pipeline.data.dataset import Case, Dataset, check_case
from delightsam_pipeline.data.image import Grid
from delightsam_pipeline.data.parallel import each_case
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import digest, identity
from delightsam_pipeline.plans.identification import identify
from delightsam_pipeline.plans.intensities import Values
from delightsam_pipeline.plans.survival import survival

ANISOTROPY = 1.5


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class CaseFacts(_Strict):
    """One case: shape (z y x), spacing (mm or pixels), nonzero_share of the volume that holds all nonzero voxels,
    voxels per class, number and median size of connected components per class, survival curve of the worst class."""

    name: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    nonzero_share: float
    voxels: dict[str, int]
    components: dict[str, int]
    component_size: dict[str, float]
    survival: dict[str, list[float]]


class Fingerprint(_Strict):
    """The dataset in numbers; `intensities` per channel over the foreground of all cases; `notes` say in how many
    cases something was done to the masks on reading."""

    version: Literal[1] = 1
    dataset: str
    inputs: str
    physical: bool
    dtype: str
    channel_names: list[str]
    modality: str
    modality_confidence: float
    modality_evidence: str
    intensities: list[dict[str, float]]
    notes: dict[str, int] = {}
    cases: list[CaseFacts]


@dataclass(frozen=True)
class _Look:
    """What one case adds to the fingerprint."""

    facts: CaseFacts
    foreground: list[Values]
    physical: bool
    dtype: str
    lowest: float
    highest: float
    air_share: float
    notes: tuple[str, ...]


def slicing_axis(spacing: Sequence[float], shape: Sequence[int]) -> int:
    """The axis of largest spacing when that is 1.5 times the smallest or more, else axial (0).

    A volume of one slice is cut along that axis whatever its spacing.
    """
    if 1 in shape:
        return int(list(shape).index(1))
    if max(spacing) >= ANISOTROPY * min(spacing):
        return int(np.argmax(spacing))
    return 0


def inputs_digest(dataset: Dataset) -> str:
    """Changes when any image or label file, or dataset.json, changes."""
    files = [dataset.folder / "dataset.json"]
    files += [path for case in dataset.cases for path in (*case.images, case.label)]
    return digest([identity(path) for path in files])


def fingerprint(dataset: Dataset, modality: str | None = None, workers: int | None = None) -> Fingerprint:
    """Read and check every case and measure it.

    Raises UserError listing all broken cases, when no case has any foreground, or when the modality is not clear.
    """
    looks = each_case(lambda case: _look(case, dataset), dataset.cases, "fingerprint", workers)
    if not any(sum(look.facts.voxels.values()) for look in looks):
        fix = "check that the labels belong to the images and hold the declared values"
        raise UserError("no case has any foreground", file=dataset.folder, fix=fix)
    physical = all(look.physical for look in looks)
    evidence = identify(
        modality or dataset.modality,
        dataset.channel_names,
        physical,
        min(look.lowest for look in looks),
        max(look.highest for look in looks),
        float(np.mean([look.air_share for look in looks])),
    )
    channels = range(len(dataset.channel_names))
    return Fingerprint(
        dataset=dataset.name,
        inputs=inputs_digest(dataset),
        physical=physical,
        dtype=Counter(look.dtype for look in looks).most_common(1)[0][0],
        channel_names=list(dataset.channel_names),
        modality=evidence.modality,
        modality_confidence=evidence.confidence,
        modality_evidence=evidence.reason,
        intensities=[Values.merged([look.foreground[c] for look in looks]).summary() for c in channels],
        notes=dict(Counter(note for look in looks for note in look.notes)),
        cases=[look.facts for look in looks],
    )


def _look(case: Case, dataset: Dataset) -> _Look:
    image, label = check_case(case, dataset)
    array, labels = image.array, label.array[0]
    axis = slicing_axis(image.grid.spacing, image.grid.shape)
    voxels, counts, sizes, curves = {}, {}, {}, {}
    any_class = np.zeros(labels.shape, bool)
    for name, ids in zip(dataset.labels.classes, dataset.labels.ids, strict=True):
        mask = np.isin(labels, ids)  # of one class at a time: a large volume may have a hundred
        any_class |= mask
        voxels[name] = int(mask.sum())
        counts[name], sizes[name] = _components(mask)
        curve = survival(np.moveaxis(mask, axis, 0))
        if curve is not None:
            curves[name] = curve
    facts = CaseFacts(
        name=case.name,
        shape=image.grid.shape,
        spacing=image.grid.spacing,
        nonzero_share=_nonzero_share(array),
        voxels=voxels,
        components=counts,
        component_size=sizes,
        survival=curves,
    )
    return _Look(
        facts,
        [Values.of(channel[any_class]) for channel in array],
        image.grid.physical,
        str(array.dtype),
        float(array.min()),
        float(array.max()),
        float((array < -900).mean()) if array.dtype.kind != "u" else 0.0,
        label.notes,
    )


def _components(mask: np.ndarray) -> tuple[int, float]:
    """Number of connected components (neighbours by faces) and their median size in voxels."""
    if not mask.any():
        return 0, 0.0
    numbered, count = ndimage.label(mask)
    return int(count), float(np.median(np.bincount(numbered.ravel())[1:]))


def _nonzero_share(array: np.ndarray) -> float:
    """Share of the volume [C, z, y, x] inside the bounding box of its nonzero voxels."""
    box = ndimage.find_objects((array != 0).any(axis=0).astype(np.uint8))
    if not box or box[0] is None:
        return 0.0
    return float(np.prod([s.stop - s.start for s in box[0]]) / np.prod(array.shape[1:]))


def median_grid(print_: Fingerprint) -> Grid:
    """A grid of the dataset's median shape and spacing."""
    shape = np.median([case.shape for case in print_.cases], axis=0).round().astype(int)
    spacing = np.median([case.spacing for case in print_.cases], axis=0)
    return Grid(tuple(int(v) for v in shape), tuple(float(v) for v in spacing), physical=print_.physical)
