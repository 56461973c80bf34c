"""The planes of a case that a reader looks at: a picture whole, a volume in three planes as radiologists show them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from delightsam_pipeline.data.image import Grid, Image
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.preprocessing.normalisation import white

NAMES = ("axial", "coronal", "sagittal")
# beyond the top, right, bottom and left edge; canonical axes run to S, P and L, and S is shown on top
_LETTERS = ("ALPR", "SLIR", "SPIA")
_SOFT, _BONE, _LUNG = (40, 400, "soft-tissue"), (400, 1800, "bone"), (-600, 1500, "lung")  # level, width, HU
_MOST_VOXELS = 200_000  # looked at for percentiles that a picture is shown by
_WITHOUT_DIRECTIONS = (".tif", ".tiff")


@dataclass(frozen=True)
class Plane:
    """How one plane of a volume is cut and turned for display.

    axis : canonical axis it is cut along. index : where. size : height and width of what it shows, in `grid.unit`.
    letters : directions beyond its edges, empty where the file has none.
    """

    axis: int
    index: int
    size: tuple[float, float]
    letters: str

    def cut(self, volume: np.ndarray) -> np.ndarray:
        """[z, y, x] -> [H, W] as it is shown, superior or anterior on top, the left side on the viewer's right."""
        return self.turn(np.take(volume, self.index, axis=self.axis))

    def turn(self, slice_: np.ndarray) -> np.ndarray:
        """A slice [H, W] in the array's order, turned for display."""
        return slice_ if self.axis == 0 else slice_[::-1]


def planes(grid: Grid, point: tuple[int, int, int], file_ending: str) -> list[Plane]:
    """The planes through a voxel: three of a volume, one of a single slice."""
    single = grid.shape.index(1) if 1 in grid.shape else None
    size = [n * spacing for n, spacing in zip(grid.shape, grid.spacing, strict=True)]
    directed = grid.physical and file_ending not in _WITHOUT_DIRECTIONS
    result = []
    for axis in range(3) if single is None else (single,):
        height, width = (side for place, side in enumerate(size) if place != axis)
        result.append(Plane(axis, point[axis], (height, width), _LETTERS[axis] if directed else ""))
    return result


def centre(mask: np.ndarray) -> tuple[int, int, int]:
    """The voxel of a mask [z, y, x] near its centre of mass, taken axis by axis; the middle of an empty one."""
    if not mask.any():
        return tuple(n // 2 for n in mask.shape)
    point: list[int] = []
    while mask.ndim:
        counts = np.count_nonzero(mask, axis=tuple(range(1, mask.ndim)))
        places = np.flatnonzero(counts)
        mean = float((places * counts[places]).sum() / counts[places].sum())
        point.append(int(places[np.abs(places - mean).argmin()]))
        mask = mask[point[-1]]
    return point[0], point[1], point[2]


@dataclass(frozen=True)
class Window:
    """The values shown as black and as white, and how they were chosen."""

    low: float
    high: float
    words: str


def window(channel: np.ndarray, plan: Plan, median: float | None) -> Window:
    """How a grey channel [z, y, x] is shown; `median` is that of the dataset's foreground."""
    if plan.normalisation.scheme == "ct" and median is not None:
        level, width, name = _LUNG if median < -300 else _BONE if median > 250 else _SOFT
        return Window(level - width / 2, level + width / 2, f"{name} window (level {level} HU, width {width} HU)")
    low, high = (float(v) for v in np.percentile(thinned(channel), (0.5, 99.5)))
    return Window(low, high, "black to white: 0.5 to 99.5 percentile")


def thinned(values: np.ndarray) -> np.ndarray:
    """Evenly spaced ones of many values, flat."""
    flat = values.reshape(-1)
    return flat[:: max(1, flat.size // _MOST_VOXELS)]


def photograph(image: Image, plan: Plan, plane: Plane) -> np.ndarray:
    """A colour picture as it is stored, uint8 [H, W, 3]; 16 bit are brought to 8."""
    full_scale = white(image.array.dtype, plan.normalisation)
    colours = np.stack([plane.cut(channel) for channel in image.array], axis=-1)
    return np.rint((colours * (255 / full_scale)).clip(0, 255)).astype(np.uint8)
