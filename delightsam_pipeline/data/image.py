"""An image and the grid it stands on: arrays are channels, then z y x; world coordinates are LPS in mm (ITK's)."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

Triple = tuple[int, int, int]
_WORLD_ROW = (2, 1, 0)  # array axes z, y, x run along the LPS components S, P, L


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an array z y x lie.

    shape, spacing : per array axis (z, y, x); spacing in mm, or 1 where the file has no physical spacing.
    origin : LPS position (x, y, z) of voxel (0, 0, 0), mm.
    direction : [3, 3]; column j is the LPS unit vector along array axis j.
    physical : False for pictures, whose unit is the pixel.
    """

    shape: Triple
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[tuple[float, ...], ...] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    physical: bool = True

    @staticmethod
    def picture(height: int, width: int) -> Grid:
        """The grid of a 2D picture: one slice, pixels for mm."""
        return Grid((1, height, width), (1.0, 1.0, 1.0), physical=False)

    @property
    def unit(self) -> str:
        """Unit of lengths on this grid."""
        return "mm" if self.physical else "px"

    def affine(self) -> np.ndarray:
        """[4, 4] from homogeneous index (z, y, x, 1) to LPS (x, y, z, 1)."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(self.direction) * np.asarray(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    def same_space(self, other: Grid, tolerance: float = 0.05) -> bool:
        """Whether both grids put every corner voxel within `tolerance` of a voxel of each other."""
        if self.shape != other.shape:
            return False
        corners = np.array([[a, b, c, 1] for a in (0, 1) for b in (0, 1) for c in (0, 1)], float)
        corners[:, :3] *= np.asarray(self.shape) - 1
        distance = np.abs((self.affine() - other.affine()) @ corners.T).max()
        return bool(distance <= tolerance * min(self.spacing))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, undone by `from_dict`."""
        return {
            "shape": list(self.shape),
            "spacing": list(self.spacing),
            "origin": list(self.origin),
            "direction": [list(row) for row in self.direction],
            "physical": self.physical,
        }

    @staticmethod
    def from_dict(value: dict[str, Any]) -> Grid:
        """The grid that `to_dict` described."""
        direction = tuple(tuple(float(v) for v in row) for row in value["direction"])
        shape = tuple(int(v) for v in value["shape"])
        spacing, origin = (tuple(float(v) for v in value[key]) for key in ("spacing", "origin"))
        return Grid(shape, spacing, origin, direction, bool(value["physical"]))


@dataclass(frozen=True)
class Orientation:
    """Exact steps from a file's axes to canonical ones: axis i is the file's axis order[i], then flipped or not."""

    order: Triple = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    @staticmethod
    def to_canonical(grid: Grid) -> Orientation:
        """The steps after which z y x run nearest to S, P and L."""
        direction = np.asarray(grid.direction)
        score = {p: sum(abs(direction[_WORLD_ROW[i], p[i]]) for i in range(3)) for p in permutations(range(3))}
        order = max(score, key=lambda p: (round(score[p], 6), p == (0, 1, 2)))
        flips = tuple(bool(direction[_WORLD_ROW[i], order[i]] < 0) for i in range(3))
        return Orientation(order, flips)

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Array [..., 3 file axes] -> the same voxels along canonical axes."""
        lead = array.ndim - 3
        array = array.transpose(*range(lead), *(lead + axis for axis in self.order))
        flipped = [lead + axis for axis in range(3) if self.flips[axis]]
        return np.flip(array, flipped) if flipped else array

    def undo(self, array: np.ndarray) -> np.ndarray:
        """Array [..., z, y, x] on canonical axes -> the file's axes."""
        lead = array.ndim - 3
        flipped = [lead + axis for axis in range(3) if self.flips[axis]]
        array = np.flip(array, flipped) if flipped else array
        inverse = np.argsort(self.order)
        return array.transpose(*range(lead), *(lead + int(axis) for axis in inverse))

    def apply_to_grid(self, grid: Grid) -> Grid:
        """The grid of the array that `apply` returns."""
        corner = [grid.shape[axis] - 1 if flip else 0 for axis, flip in zip(self.order, self.flips, strict=True)]
        index = np.zeros(4)
        index[list(self.order)] = corner
        index[3] = 1
        direction = np.asarray(grid.direction)[:, self.order] * np.where(self.flips, -1.0, 1.0)
        return Grid(
            tuple(grid.shape[axis] for axis in self.order),
            tuple(grid.spacing[axis] for axis in self.order),
            tuple(float(v) for v in (grid.affine() @ index)[:3]),
            tuple(tuple(float(v) for v in row) for row in direction),
            grid.physical,
        )


def nearest(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[..., H, W] -> [..., h, w], the values at the centres of the new pixels."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for old, new in zip(array.shape[-2:], size, strict=True)
    )
    return array[..., rows[:, None], columns]


@dataclass(frozen=True)
class Image:
    """Channels of one case, or a label map, on canonical axes.

    array : [C, z, y, x], in the file's own type.
    grid : where it lies.
    orientation : how the file's axes became canonical, so that a writer can undo it.
    source : the file it came from.
    header : what the file's writer needs beside the grid, owned by the format's module.
    notes : sentences on what was done to the file's content, so that a user can see it.
    modality : what the file itself says it was made with (DICOM's Modality, such as MR), empty where it says nothing.
    """

    array: np.ndarray
    grid: Grid
    orientation: Orientation = Orientation()
    source: Path | None = None
    header: Any = field(default=None, compare=False, repr=False)
    notes: tuple[str, ...] = ()
    modality: str = ""
