"""A mask on the grid of the image that it was drawn on: as it lies, brought there where that is safe, or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from delightsam_pipeline.data.formats import describe, require_same_space
from delightsam_pipeline.data.geometry import file_grid, nearest_on, overlap, turned
from delightsam_pipeline.data.image import Grid, Image, nearest
from delightsam_pipeline.errors import UserError

_ENLARGED = 1.05  # a mask that is larger by less has been padded or cut, not enlarged
_TOLD_OUTSIDE = 0.01  # of what is drawn
RESAMPLED = "resampled to its image's grid by --fix-geometry"  # how the note of such a mask begins


def require_fit(mask: Image, image: Image) -> Image:
    """The mask, along the image's axes, when it lies on the image's grid.

    Beside a picture, which has no position, only the shape counts. Raises UserError when it does not fit.
    """
    if mask.grid.physical and image.grid.physical:
        mask = turned(mask, image.grid)
    elif mask.grid.shape == image.grid.shape:
        if mask.orientation == image.orientation:
            return mask
        fix = "save both in the same format"
        problem = f"may be flipped against {image.source}: one of them is a picture, the other has turned axes"
        raise UserError(problem, file=mask.source, fix=fix)
    require_same_space(mask.grid, mask.source, image.grid, image.source)
    return mask


def fitted(mask: Image, image: Image, fix_geometry: bool = False, ignore: int | None = None) -> Image:
    """A training case's mask on its image's grid; its notes say when it had to be brought there.

    A picture's mask may be larger with the same shape. Another grid is accepted with `fix_geometry` only: of a volume
    when both overlap in space, of a picture when both have the same shape. Then each voxel of the image gets the
    value of the mask's nearest voxel, and 0 where the mask does not reach.
    ignore : the value that means no label, None when there is none.
    Raises UserError when it does not fit, and when a label of a volume's mask has no voxel left.
    """
    if not (mask.grid.physical or image.grid.physical) and mask.grid.shape[0] == image.grid.shape[0] == 1:
        return _fitted_picture(mask, image, fix_geometry)
    try:
        return require_fit(mask, image)
    except UserError:
        if not (mask.grid.physical and image.grid.physical):
            raise
        return _resampled(mask, image, fix_geometry, ignore)


def _fitted_picture(mask: Image, image: Image, fix_geometry: bool) -> Image:
    if mask.grid.shape == image.grid.shape or not _has_shape(mask.grid, image.grid):
        return require_fit(mask, image)
    if _has_shape(mask.grid, image.grid, least=_ENLARGED):
        note = "larger than its image with the same shape: brought to the image's size by nearest neighbour"
    elif fix_geometry:
        note = f"{RESAMPLED}; it had {describe(mask.grid)}, the image has {describe(image.grid)}"
    else:
        raise UserError(
            f"does not lie on the same grid as {image.source}",
            file=mask.source,
            expected=describe(image.grid),
            found=describe(mask.grid),
            fix="check that the files belong together, or let --fix-geometry bring the mask to the image's size",
        )
    array = nearest(mask.array, image.grid.shape[1:])
    return replace(mask, array=array, grid=image.grid, notes=(*mask.notes, note))


def _has_shape(grid: Grid, image: Grid, least: float = 0.0) -> bool:
    """Whether a picture's mask has the picture's shape, to within a pixel, and is `least` times as large or more."""
    (height, width), (rows, columns) = grid.shape[1:], image.shape[1:]
    if min(height / rows, width / columns) < least:
        return False
    # the distance is counted in pixels of the smaller one
    if height < rows:
        (height, width), (rows, columns) = (rows, columns), (height, width)
    return abs(width * rows / height - columns) <= 1 and abs(height * columns / width - rows) <= 1


def _resampled(mask: Image, image: Image, fix_geometry: bool, ignore: int | None) -> Image:
    """A volume's mask on its image's grid, when that was asked for and makes sense."""
    share, other, together = overlap(image.grid, mask.grid), image.source, "check that the files belong together"
    if not share and not overlap(mask.grid, image.grid):
        fix = _with_header(f"{together}, and the header of each", mask, image)
        raise UserError(f"does not overlap with {other} in space", **_grids(mask, image, position=True), fix=fix)
    if not fix_geometry:
        fix = _with_header(f"{together}, or let --fix-geometry resample the mask", mask, image)
        position = mask.grid.shape == image.grid.shape and np.allclose(mask.grid.spacing, image.grid.spacing, rtol=1e-3)
        raise UserError(f"does not lie on the same grid as {other}", **_grids(mask, image, position), fix=fix)
    array = nearest_on(mask.array[0], mask.grid, image.grid)[None]
    lost = np.setdiff1d(mask.array[0], array)
    lost = lost[_drawn(lost, ignore)]
    if lost.size:
        what = f"nothing of label {', '.join(map(str, lost))}" if _drawn(array, ignore).any() else "nothing"
        found = _grids(mask, image, position=True)
        raise UserError(f"has {what} within {other} after resampling", **found, fix=together)
    note = f"{RESAMPLED}; it had {describe(mask.grid)} and covers {share:.0%} of the image"
    outside = _drawn_outside(mask, image.grid, ignore)
    if outside > _TOLD_OUTSIDE:
        note += f"; {outside:.0%} of what is drawn lies outside the image"
    return replace(mask, array=array, grid=image.grid, orientation=image.orientation, notes=(*mask.notes, note))


def _drawn(labels: np.ndarray, ignore: int | None) -> np.ndarray:
    """Where integers are labels: neither background nor what is left out of training."""
    return labels > 0 if ignore is None else (labels > 0) & (labels != ignore)


def _drawn_outside(mask: Image, grid: Grid, ignore: int | None) -> float:
    """The share, 0..1, of a mask's voxels with a label that lie outside of a grid."""
    inside = nearest_on(np.ones(grid.shape, np.uint8), grid, mask.grid)
    drawn = _drawn(mask.array[0], ignore)
    return np.count_nonzero(drawn & (inside == 0)) / max(1, np.count_nonzero(drawn))


def _grids(mask: Image, image: Image, position: bool) -> dict[str, Any]:
    """A mask's file, the grid it should have and the one it has, for an error."""
    expected, found = describe(image.grid, position), describe(mask.grid, position)
    return {"file": mask.source, "expected": expected, "found": found}


def _with_header(fix: str, mask: Image, image: Image) -> str:
    """The advice, and another one for masks that were saved without their image's header."""
    if file_grid(mask).shape != file_grid(image).shape:
        return fix
    return f"if the mask was drawn on this image, copy the image's header into it; else {fix}"
