"""From a file's affine to a Grid and back, for all formats of volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from delightsam_pipeline.data.image import Grid, Image, Orientation
from delightsam_pipeline.errors import UserError

_SHEAR = 1e-3  # largest cosine between two axes that counts as a right angle
_FIX = "mend the header or export the file again"


def grid_of(
    affine: np.ndarray, shape: tuple[int, ...], path: Path, sheared: str = "the affine is sheared", fix: str = _FIX
) -> Grid:
    """The grid of a file's array z y x, whose axes need not be canonical.

    affine : [4, 4] from the file's index (x, y, z, 1) to LPS (x, y, z, 1) in mm.
    sheared, fix : how an affine with oblique axes is called, and what to do about one that is damaged.
    Raises UserError for what a Grid cannot say: an affine that is sheared, singular, NaN or infinite.
    """
    if not np.isfinite(affine).all():
        raise UserError("the affine has NaN or infinite values", file=path, fix=fix)
    columns = affine[:3, 2::-1].copy()
    if shape[0] == 1 and not columns[:, 0].any():
        # A flat picture need not say how thick it is.
        normal = np.cross(columns[:, 2], columns[:, 1])
        columns[:, 0] = normal / (np.linalg.norm(normal) or 1)
    spacing = np.linalg.norm(columns, axis=0)
    if spacing.min() <= 1e-6:
        raise UserError("the affine is singular: an axis has spacing 0", file=path, fix=fix)
    direction = columns / spacing + 0.0  # no negative zeros
    cosines = np.abs(direction.T @ direction - np.eye(3)).max()
    if np.abs(np.linalg.det(direction)) < 1e-3:
        raise UserError("the affine is singular: two axes run along the same line", file=path, fix=fix)
    if cosines > _SHEAR:
        fix = "resample it onto a grid with right angles"
        angle = f"an angle {np.degrees(np.arcsin(min(cosines, 1))):.2f} degrees off"
        raise UserError(sheared, file=path, expected="axes at right angles", found=angle, fix=fix)
    rows = tuple(tuple(float(v) for v in row) for row in direction)
    origin = tuple(float(v) for v in affine[:3, 3])
    return Grid(tuple(int(n) for n in shape), tuple(float(s) for s in spacing), origin, rows)


def file_grid(image: Image) -> Grid:
    """The grid of an image along the axes z y x that its file had."""
    order = tuple(int(axis) for axis in np.argsort(image.orientation.order))
    inverse = Orientation(order, tuple(image.orientation.flips[axis] for axis in order))
    return inverse.apply_to_grid(image.grid)
