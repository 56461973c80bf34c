"""What the classes of one label map look like: sizes, parts, places and how much of them survives on coarser grids."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from delightsam_pipeline.data.image import Grid
from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.plans.survival import survival

Box = tuple[slice, slice, slice]
_ENTRIES = ("voxels", "volume", "components", "component_size", "largest_component", "position", "survival")


def class_facts(
    labels: np.ndarray, meaning: Labels, axis: int, grid: Grid, unknown: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """The entries of `CaseFacts` that hold something per class of a label map [z, y, x] of integers.

    axis : along which it is sliced. A class without a voxel has no position and no survival.
    unknown : classes that were not annotated, so that nothing can be said of them.
    """
    facts: dict[str, dict[str, Any]] = {name: {} for name in _ENTRIES}
    boxes = _boxes(labels)
    per_voxel = float(np.prod(grid.spacing)) / 1000 if grid.physical else 1.0
    for name, ids in zip(meaning.classes, meaning.ids, strict=True):
        if name in unknown:
            continue
        box = _around([boxes[value] for value in ids if value in boxes])
        for entry, value in _measured(labels, ids, box, axis, per_voxel).items():
            facts[entry][name] = value
    return facts


def _measured(labels: np.ndarray, ids: Sequence[int], box: Box | None, axis: int, per_voxel: float) -> dict[str, Any]:
    """The entries of one class, whose voxels all lie in `box`."""
    if box is None:
        return {"voxels": 0, "volume": 0.0, "components": 0, "component_size": 0.0, "largest_component": 0}
    mask = labels[box] == ids[0] if len(ids) == 1 else np.isin(labels[box], ids)
    voxels, sizes = int(np.count_nonzero(mask)), _component_sizes(mask)
    rows, columns = (a for a in range(3) if a != axis)
    corner, size = (box[rows].start, box[columns].start), (labels.shape[rows], labels.shape[columns])
    return {
        "voxels": voxels,
        "volume": voxels * per_voxel,
        "components": len(sizes),
        "component_size": float(np.median(sizes)),
        "largest_component": int(sizes.max()),
        "position": _centre(mask, box, labels.shape),
        "survival": survival(np.moveaxis(mask, axis, 0), corner, size),
    }


def _boxes(labels: np.ndarray) -> dict[int, Box]:
    """Each label value but 0 -> the smallest box around its voxels."""
    from scipy import ndimage  # takes a third of a second, which a run that has nothing to do should not pay

    found = ndimage.find_objects(labels)
    return {value: box for value, box in enumerate(found, start=1) if box is not None}


def _around(boxes: Sequence[Box]) -> Box | None:
    """The smallest box around several."""
    if not boxes:
        return None
    sides = zip(*boxes, strict=True)
    first, second, third = (slice(min(s.start for s in side), max(s.stop for s in side)) for side in sides)
    return first, second, third


def _component_sizes(mask: np.ndarray) -> np.ndarray:
    """Voxels of each connected component (neighbours by faces)."""
    from scipy import ndimage

    numbered, count = ndimage.label(mask)
    return np.bincount(numbered[mask], minlength=count + 1)[1:]


def _centre(mask: np.ndarray, box: Box, shape: Sequence[int]) -> tuple[float, ...]:
    """The mean place of a mask's voxels, as shares of the image's extent along z y x."""
    shares = []
    for axis, (side, length) in enumerate(zip(box, shape, strict=True)):
        counts = np.count_nonzero(mask, axis=tuple(a for a in range(3) if a != axis))
        places = np.arange(side.start, side.stop) + 0.5
        shares.append(float(np.average(places, weights=counts) / length))
    return tuple(shares)
