"""From a file's affine to a Grid and back, for all formats of volumes, and from one grid to another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from delightsam_pipeline.data.image import Grid, Image, Orientation
from delightsam_pipeline.errors import UserError

_SHEAR = 1e-3  # largest cosine between two axes that counts as a right angle
_LATTICE = 25  # points along an axis at which it is looked whether a grid lies within another
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


def turned(image: Image, grid: Grid) -> Image:
    """The image along axes that run as near to those of `grid` as they can; an exact step.

    Canonical axes already do, but where a grid lies turned by 45 degrees either of two axes is canonical.
    """
    relative = np.asarray(grid.direction).T @ np.asarray(image.grid.direction)
    world = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)) @ relative
    steps = Orientation.to_canonical(replace(image.grid, direction=tuple(map(tuple, world.tolist()))))
    if steps == Orientation():
        return image
    before = image.orientation
    order = tuple(before.order[axis] for axis in steps.order)
    flips = tuple(flip != before.flips[axis] for axis, flip in zip(steps.order, steps.flips, strict=True))
    array = np.ascontiguousarray(steps.apply(image.array))
    return replace(image, array=array, grid=steps.apply_to_grid(image.grid), orientation=Orientation(order, flips))


def overlap(grid: Grid, other: Grid) -> float:
    """The share of a grid, 0..1, that lies within another, measured at 25 points along each axis or fewer."""
    axes = [np.unique(np.linspace(0, n - 1, _LATTICE).round()) for n in grid.shape]
    points = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")])
    places = _indices(grid, other) @ np.vstack([points, np.ones(points.shape[1])])
    inside = [(place > -0.5) & (place < n - 0.5) for place, n in zip(places, other.shape, strict=False)]
    return float(np.logical_and.reduce(inside).mean())


def nearest_on(labels: np.ndarray, grid: Grid, onto: Grid) -> np.ndarray:
    """Labels [z, y, x] on `grid` -> on `onto`: the value of the nearest voxel, 0 outside of `grid`."""
    from scipy import ndimage  # takes its time to import, and is hardly ever needed here

    matrix = _indices(onto, grid)
    return ndimage.affine_transform(
        labels, matrix[:3, :3], matrix[:3, 3], output_shape=onto.shape, order=0, mode="grid-constant", cval=0
    )


def _indices(grid: Grid, other: Grid) -> np.ndarray:
    """[4, 4] from index (z, y, x, 1) on a grid to the index on another."""
    return np.linalg.inv(other.affine()) @ grid.affine()
