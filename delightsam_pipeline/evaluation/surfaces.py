"""How far the surfaces of two masks lie apart: HD95 and NSD."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import find_objects
from scipy.spatial import KDTree

TOLERANCE = 2.0  # mm, or pixels without a spacing
_ROUNDING = 1e-5  # relative; files keep spacings in single precision


def surface_scores(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float], tolerance: float = TOLERANCE
) -> tuple[float | None, float | None]:
    """HD95, in the unit of `spacing`, and NSD (0 to 1) of two masks.

    prediction, reference : bool, of the same shape, such as [z y x]; a single slice is measured in its plane.
    spacing : along each axis.
    tolerance : how far apart two surfaces may lie and still agree, in the unit of `spacing`.

    Both masks empty: None for both. One empty: HD95 is the diagonal of the image, NSD 0.
    """
    axes = [axis for axis, side in enumerate(prediction.shape) if side > 1] or [0]
    steps = np.asarray(spacing, float)[axes]
    prediction, reference = (mask.reshape([mask.shape[axis] for axis in axes]) for mask in (prediction, reference))
    found = prediction.any(), reference.any()
    if not any(found):
        return None, None
    if not all(found):
        return float(np.linalg.norm(steps * prediction.shape)), 0.0
    there, back = surface_distances(prediction, reference, steps)
    within = sum(np.count_nonzero(distances <= tolerance * (1 + _ROUNDING)) for distances in (there, back))
    hd95 = max(np.percentile(distances, 95) for distances in (there, back))
    return float(hd95), float(within / (there.size + back.size))


def surface_distances(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Distances [n] from each border voxel of one mask to the nearest of the other: from `prediction`, and back.

    Arguments as for `surface_scores`; neither mask may be empty.
    """
    # A tree of the few border voxels takes a twentieth of the time of a distance transform of the volume.
    predicted, expected = (_border_points(mask, spacing) for mask in (prediction, reference))
    return KDTree(expected).query(predicted)[0], KDTree(predicted).query(expected)[0]


def border(mask: np.ndarray) -> np.ndarray:
    """The voxels of a mask that have a face neighbour outside it; what lies beyond the array is outside."""
    padded, inner = np.pad(mask, 1), slice(1, -1)
    surrounded = mask.copy()
    for axis in range(mask.ndim):
        for neighbours in (slice(None, -2), slice(2, None)):
            surrounded &= padded[tuple(neighbours if a == axis else inner for a in range(mask.ndim))]
    return mask & ~surrounded


def _border_points(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Positions [n, axes] of the border voxels of a mask that is not empty."""
    box = find_objects(mask.view(np.int8))[0]
    return (np.argwhere(border(mask[box])) + [side.start for side in box]) * np.asarray(spacing, float)
