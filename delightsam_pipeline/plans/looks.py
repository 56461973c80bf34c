"""What is measured on one case, in one pass over its arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from pydantic import BaseModel, ConfigDict

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.checks import check_case
from delightsam_pipeline.data.dataset import Dataset
from delightsam_pipeline.data.dicom_files import series_files
from delightsam_pipeline.data.formats import files_of
from delightsam_pipeline.data.image import Image
from delightsam_pipeline.plans import doctor
from delightsam_pipeline.plans.findings import Finding
from delightsam_pipeline.plans.identification import PixelFacts, measure
from delightsam_pipeline.plans.intensities import Values
from delightsam_pipeline.plans.shapes import class_facts

ANISOTROPY = 1.5
THUMBNAIL = 16
_AXES = ("SI", "PA", "LR")  # where the canonical axes z y x run to, and where from


class CaseFacts(BaseModel):
    """One case as it stands in fingerprint.json; axes are z y x.

    shape, spacing : spacing in mm where `physical`, else pixels. orientation : where the file's own axes run to, such
    as RAS, "" for pictures. dtype : of the pixels. nonzero_box : shape of the box around all nonzero voxels,
    nonzero_share : its share of the volume. intensities : per channel, over the whole image (see `Values.summary`).
    Per class: voxels, volume (ml, or pixels), components (that touch by faces), component_size and largest_component
    (voxels; the former is the median), position (of its centre, as shares of the image's extent), survival curve.
    not_annotated : classes that its label map does not show, though they may be there; nothing stands of them.
    image_sha256, label_sha256 : of the files' bytes. notes : what was done to the mask on reading.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    physical: bool
    orientation: str
    dtype: str
    nonzero_box: tuple[int, int, int]
    nonzero_share: float
    intensities: list[dict[str, float]]
    voxels: dict[str, int]
    volume: dict[str, float]
    components: dict[str, int]
    component_size: dict[str, float]
    largest_component: dict[str, int]
    position: dict[str, tuple[float, float, float]]
    survival: dict[str, list[float]]
    not_annotated: list[str]
    image_sha256: list[str]
    label_sha256: str
    notes: list[str]


@dataclass(frozen=True)
class Look:
    """What one case adds to the fingerprint.

    foreground : per channel, the intensities where any class is. findings : what the doctor says about the case.
    pixels : what they say about the modality. thumbnail : the middle slice, uint8 [16, 16]. content : SHA-256 of
    pixels and shape.
    """

    facts: CaseFacts
    foreground: list[Values]
    findings: list[Finding]
    pixels: PixelFacts
    thumbnail: np.ndarray
    content: str

    @property
    def whole(self) -> list[dict[str, float]]:
        """Per channel, the summary of the intensities of the whole image."""
        return self.facts.intensities


def slicing_axis(spacing: Sequence[float], shape: Sequence[int]) -> int:
    """The axis of largest spacing when that is 1.5 times the smallest or more, else axial (0).

    A volume of one slice is cut along that axis whatever its spacing.
    """
    if 1 in shape:
        return int(list(shape).index(1))
    if max(spacing) >= ANISOTROPY * min(spacing):
        return int(np.argmax(spacing))
    return 0


def look(case: Case, dataset: Dataset) -> Look:
    """Read, check and measure one case. Raises UserError as `check_case` does."""
    image, label = check_case(case, dataset)
    array, labels, grid = image.array, label.array[0], image.grid
    axis = slicing_axis(grid.spacing, grid.shape)
    inside = np.isin(labels, sorted({value for ids in dataset.labels.ids for value in ids}))
    box = _nonzero_box(array)
    facts = CaseFacts(
        name=case.name,
        shape=grid.shape,
        spacing=grid.spacing,
        physical=grid.physical,
        orientation=orientation(image),
        dtype=str(array.dtype),
        nonzero_box=box,
        nonzero_share=float(np.prod(box) / np.prod(grid.shape)),
        intensities=[Values.of(channel).summary() for channel in array],
        **class_facts(labels, dataset.labels, axis, grid, case.not_annotated),
        not_annotated=list(case.not_annotated),
        image_sha256=[_sha256(path) for path in case.images],
        label_sha256=_sha256(case.label),
        notes=list(label.notes),
    )
    return Look(
        facts,
        [Values.of(channel[inside]) for channel in array],
        doctor.of_case(image, label, case, dataset),
        measure(image),
        _thumbnail(array, axis),
        _content(array),
    )


def orientation(image: Image) -> str:
    """Where the axes x y z of the image's file run to, such as RAS or LPS; "" for pictures."""
    if not image.grid.physical:
        return ""
    steps = image.orientation
    letters = {steps.order[axis]: _AXES[axis][steps.flips[axis]] for axis in range(3)}
    return "".join(letters[axis] for axis in (2, 1, 0))


def _nonzero_box(array: np.ndarray) -> tuple[int, int, int]:
    """Shape of the smallest box that holds all nonzero voxels of [C, z, y, x]; holes in it do not change it."""
    nonzero = reduce(np.logical_or, (channel != 0 for channel in array))
    sides = []
    for axis in range(3):
        filled = np.flatnonzero(nonzero.any(axis=tuple(a for a in range(3) if a != axis)))
        sides.append(int(filled[-1] - filled[0]) + 1 if filled.size else 0)
    return sides[0], sides[1], sides[2]


def _thumbnail(array: np.ndarray, axis: int) -> np.ndarray:
    """The middle slice of [C, z, y, x], its channels averaged, as a grey picture from darkest to brightest."""
    middle = np.take(array, array.shape[1 + axis] // 2, axis=1 + axis).mean(axis=0, dtype=np.float32)
    picture = Picture.fromarray(np.ascontiguousarray(middle))
    small = np.asarray(picture.resize((THUMBNAIL, THUMBNAIL), Picture.Resampling.BOX)).astype(float)
    low, high = small.min(), small.max()
    return np.round((small - low) * (255 / max(high - low, 1e-30))).astype(np.uint8)


def _content(array: np.ndarray) -> str:
    digest = hashlib.sha256(f"{array.shape} {array.dtype}".encode())
    for channel in array:
        digest.update(np.ascontiguousarray(channel).data)
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    """Of a file's bytes; of a folder (a DICOM series), or a file that needs others beside it, of their digests."""
    files = series_files(path) if path.is_dir() else files_of(path)
    if files != [path]:
        return hashlib.sha256("".join(map(_file_sha256, files)).encode()).hexdigest()
    return _file_sha256(path)


def _file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
