"""From a raw case to the arrays the network eats, and every step remembered for the way back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from delightsam_pipeline.data.formats import describe
from delightsam_pipeline.data.image import Grid, Image
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.plans.layout import STRIDE
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.preprocessing.normalisation import normalise
from delightsam_pipeline.preprocessing.resampling import resize, resize_labels, return_matrix

_LARGEST_SIDE = 16384


@dataclass(frozen=True)
class WayBack:
    """The spatial steps from an image's grid to the network's canvas.

    grid : the image's own. axis : the slicing axis. scaled : rows and columns of a slice as network input.
    offset : where they begin on the canvas. canvas : its rows and columns, at least a patch, multiples of 4.
    """

    grid: Grid
    axis: int
    scaled: tuple[int, int]
    offset: tuple[int, int]
    canvas: tuple[int, int]

    @property
    def slice_shape(self) -> tuple[int, int]:
        """Rows and columns of a slice on the image's own grid."""
        rows, columns = (n for axis, n in enumerate(self.grid.shape) if axis != self.axis)
        return rows, columns

    def matrices(self) -> tuple[np.ndarray, np.ndarray]:
        """R [H, canvas/4] and C [W, canvas/4]: mask logits M of a canvas are R @ M @ C.T on the image's grid."""
        steps = zip(self.slice_shape, self.scaled, self.offset, self.canvas, strict=True)
        rows, columns = (
            return_matrix(full, scaled, begin, side // STRIDE, STRIDE) for full, scaled, begin, side in steps
        )
        return rows, columns

    def volume(self, slices: np.ndarray) -> np.ndarray:
        """Slices [Z, H, W] -> [z, y, x] on the image's grid."""
        return np.moveaxis(slices, 0, self.axis)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, undone by `from_dict`."""
        sizes = {name: list(getattr(self, name)) for name in ("scaled", "offset", "canvas")}
        return {"grid": self.grid.to_dict(), "axis": self.axis, **sizes}

    @staticmethod
    def from_dict(value: dict[str, Any]) -> WayBack:
        """The steps that `to_dict` described."""
        sizes = {name: tuple(int(v) for v in value[name]) for name in ("scaled", "offset", "canvas")}
        return WayBack(Grid.from_dict(value["grid"]), int(value["axis"]), **sizes)


@dataclass(frozen=True)
class Preparation:
    """Takes cases of one plan to network input; training and prediction use the same."""

    plan: Plan

    def way_back(self, grid: Grid, source: Path | None = None) -> WayBack:
        """The spatial steps for an image on this grid. Raises UserError when it would become absurdly large."""
        axis = self._axis(grid)
        rows, columns = (a for a in range(3) if a != axis)
        shape = np.array([grid.shape[rows], grid.shape[columns]], float)
        patch = np.array(self.plan.patch_size)
        if self.plan.scaling == "fit":
            factor = np.full(2, np.min(patch / shape))
        else:
            factor = np.array([grid.spacing[rows], grid.spacing[columns]]) / self.plan.spacing
        scaled = np.maximum(1, np.round(shape * factor)).astype(int)
        if scaled.max() > _LARGEST_SIDE:
            raise UserError(
                "the image is too large at the plan's spacing",
                file=source,
                expected=f"at most {_LARGEST_SIDE} pixels a side",
                found=f"{scaled[0]} x {scaled[1]}",
                fix="check the spacing stored in the file",
            )
        canvas = np.maximum(patch, -(-scaled // STRIDE) * STRIDE)
        offset = (canvas - scaled) // 2 // STRIDE * STRIDE  # whole cells: a mask's cells fall on every image alike
        return WayBack(grid, axis, *(tuple(int(v) for v in pair) for pair in (scaled, offset, canvas)))

    def _axis(self, grid: Grid) -> int:
        """The plan's slicing axis; a picture, or a volume of one slice, is that slice whatever its plane."""
        if grid.physical and (1 not in grid.shape or grid.shape[self.plan.slicing_axis] == 1):
            return self.plan.slicing_axis
        return grid.shape.index(1)

    def image(self, image: Image) -> tuple[np.ndarray, WayBack]:
        """A case -> scaled slices, float32 [Z, C, h, w] without padding, and the way back.

        Where the input is "rgb", a grey picture is one of three equal colours, as when it is saved in colour.
        Raises UserError when the channels or the kind of image are not the plan's.
        """
        wanted = len(self.plan.channel_names)
        array = image.array
        if self.plan.input == "rgb" and len(array) == 1:
            array = np.repeat(array, wanted, axis=0)
        if len(array) != wanted:
            names = ", ".join(self.plan.channel_names)
            raise UserError(
                "the image has the wrong number of channels",
                file=image.source,
                expected=f"{wanted} ({names})",
                found=len(array),
                fix="give images of the kind this model was trained on",
            )
        if image.grid.physical != self.plan.physical:
            kinds = {True: "an image with a spacing in mm", False: "a picture without a spacing in mm"}
            raise UserError(
                "this kind of image does not fit the plan",
                file=image.source,
                expected=kinds[self.plan.physical],
                found=describe(image.grid),
            )
        back = self.way_back(image.grid, image.source)
        slices = np.moveaxis(array, 1 + back.axis, 1)
        slices = resize(normalise(slices, self.plan.normalisation), back.scaled, self.plan.resampling)
        return slices.swapaxes(0, 1), back

    def labels(self, labels: np.ndarray, back: WayBack) -> np.ndarray:
        """A label map [z, y, x] -> [Z, h, w] beside the slices."""
        return resize_labels(np.moveaxis(labels, back.axis, 0), back.scaled)


def stack(slices: np.ndarray, z: int, input_: str) -> np.ndarray:
    """Slice z of [Z, C, h, w] as the plan's `input` feeds it, [C_in, h, w]; neighbours beyond the ends are held."""
    if input_ == "repeat":
        return np.repeat(slices[z], 3, axis=0)
    if input_ == "neighbours":
        return np.concatenate([slices[max(z - 1, 0)], slices[z], slices[min(z + 1, len(slices) - 1)]])
    return np.asarray(slices[z])


def place(array: np.ndarray, back: WayBack, value: float | None = None) -> np.ndarray:
    """Slices [..., h, w] on the canvas [..., H, W]; the margin holds the edge, or `value`."""
    margins = [(0, 0)] * (array.ndim - 2)
    for begin, size, side in zip(back.offset, back.scaled, back.canvas, strict=True):
        margins.append((begin, side - size - begin))
    if value is None:
        return np.pad(array, margins, mode="edge")
    return np.pad(array, margins, constant_values=value)


def tile_origins(side: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin along an axis of the canvas: evenly spread on whole cells, overlapping by `overlap` or more."""
    if side <= tile:
        return [0]
    count = 1 + int(np.ceil((side - tile) / (tile * (1 - overlap))))
    ends = np.linspace(0, (side - tile) // STRIDE, count)
    return [int(v) * STRIDE for v in np.round(ends)]
