"""Pictures to look at: masks over a slice, a case's panel, and a sheet of many panels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from skimage.segmentation import find_boundaries

from delightsam_pipeline.files import writing

REFERENCE_COLOUR = (80, 230, 120)
CLASS_COLOURS = ((240, 70, 70), (70, 150, 255), (255, 190, 40), (215, 95, 240), (60, 215, 225), (255, 130, 180))
_FILL = 0.3  # opacity of a predicted region
_SHORTEST = 256  # short side that a small slice is enlarged to, pixels
_PANEL_SIDE = 512  # longest side of a slice in a panel, pixels
_MARGIN, _TEXT_HEIGHT = 6, 20
_SHEET_WIDTH = 3200


def overlay(
    image: np.ndarray,
    prediction: np.ndarray | None = None,
    reference: np.ndarray | None = None,
    spacing: tuple[float, float] = (1.0, 1.0),
    longest: int = 1024,
) -> np.ndarray:
    """One slice with masks on it, uint8 [H', W', 3].

    image : [C H W] of any range; three uint8 channels are shown as colour, otherwise the first channel as grey
        between its 0.5 and 99.5 percentiles.
    prediction : integers [H W]; each class is filled and outlined in its own colour of CLASS_COLOURS.
    reference : integers [H W]; its classes are outlined in REFERENCE_COLOUR.
    spacing : (y, x); the longer of the two is stretched so that the picture has the object's proportions.

    The slice is enlarged by the smallest whole number that makes its short side 256 pixels or more (nearest for
    masks, linear for the image); a long side that would exceed `longest` becomes that.
    """
    height, width = _shown_size(image.shape[1:], spacing, longest)
    canvas = Image.fromarray(_shown_values(image)).resize((width, height), Image.Resampling.BILINEAR)
    result = np.asarray(canvas, dtype=np.float32).copy()
    if prediction is not None:
        classes = _resize_mask(prediction, height, width)
        colours = np.asarray(CLASS_COLOURS, dtype=np.float32)[(classes - 1) % len(CLASS_COLOURS)]
        inside = classes > 0
        result[inside] = (1 - _FILL) * result[inside] + _FILL * colours[inside]
        border = find_boundaries(classes, mode="inner") & inside
        result[border] = colours[border]
    if reference is not None:
        classes = _resize_mask(reference, height, width)
        result[find_boundaries(classes, mode="inner") & (classes > 0)] = REFERENCE_COLOUR
    return np.rint(result).astype(np.uint8)


def case_panel(
    image: np.ndarray,
    prediction: np.ndarray,
    reference: np.ndarray,
    title: str,
    spacing: tuple[float, float] = (1.0, 1.0),
    ignore: int | None = None,
    longest: int = _PANEL_SIDE,
) -> Image.Image:
    """Image, reference and prediction (with the reference's outline) of one slice of a case, side by side.

    The slice is the one with most reference voxels, or most predicted ones where the reference is empty.
    image : [C z y x]; prediction, reference : integers [z y x]; spacing : (y, x).
    title : the case's name, written over the image with the slice's number when there are several.
    ignore : label value of the reference that is shown as background.
    longest : pixels that the longer side of each of the three has at most.
    """
    if ignore is not None:
        reference = np.where(reference == ignore, 0, reference)
    z = best_slice(reference if np.any(reference) else prediction)
    if image.shape[1] > 1:
        title = f"{title}, slice {z + 1} of {image.shape[1]}"
    masks = {title: (None, None), "reference": (reference[z], None), "prediction": (prediction[z], reference[z])}
    pictures = [(caption, overlay(image[:, z], *shown, spacing, longest)) for caption, shown in masks.items()]
    return _grid([(caption, Image.fromarray(picture)) for caption, picture in pictures], columns=3)


def best_slice(mask: np.ndarray) -> int:
    """Index along z of the slice of [z y x] with most nonzero voxels; the middle one when all are zero."""
    areas = np.count_nonzero(mask, axis=(1, 2))
    return int(areas.argmax()) if areas.any() else len(areas) // 2


def write_sheet(path: Path, panels: Sequence[tuple[str, Image.Image]], columns: int | None = None) -> None:
    """Write a PNG with all panels (at least one), each under its title, by default in as many columns as fit well."""
    if columns is None:
        widest = max(picture.width for _, picture in panels) + _MARGIN
        columns = max(1, min(len(panels), _SHEET_WIDTH // widest))
    with writing(path) as temporary:
        _grid(panels, columns).save(temporary, format="PNG", optimize=True)


def _shown_size(shape: tuple[int, ...], spacing: tuple[float, float], longest: int) -> tuple[int, int]:
    finest = min(spacing)
    height, width = (side * step / finest for side, step in zip(shape, spacing, strict=True))
    factor = max(1.0, math.ceil(_SHORTEST / min(height, width)))
    if factor * max(height, width) > longest:
        factor = longest / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _shown_values(image: np.ndarray) -> np.ndarray:
    """[C H W] of any range -> uint8 [H W 3]."""
    if len(image) == 3 and image.dtype == np.uint8:
        return np.ascontiguousarray(image.transpose(1, 2, 0))
    grey = np.nan_to_num(image[0].astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = np.percentile(grey, (0.5, 99.5))
    scaled = np.clip((grey - low) / max(high - low, 1e-6), 0, 1) * 255
    return np.repeat(np.rint(scaled).astype(np.uint8)[..., None], 3, axis=2)


def _resize_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    values = Image.fromarray(mask.astype(np.int32))
    return np.asarray(values.resize((width, height), Image.Resampling.NEAREST))


def _grid(panels: Sequence[tuple[str, Image.Image]], columns: int) -> Image.Image:
    """Pictures in rows, each under its caption, on black."""
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    width = max(picture.width for _, picture in panels) + _MARGIN
    heights = [max(picture.height for _, picture in row) + _TEXT_HEIGHT + _MARGIN for row in rows]
    sheet = Image.new("RGB", (width * columns + _MARGIN, sum(heights) + _MARGIN))
    draw = ImageDraw.Draw(sheet)
    top = _MARGIN
    for row, height in zip(rows, heights, strict=True):
        for column, (caption, picture) in enumerate(row):
            left = _MARGIN + column * width
            draw.text((left, top), _fitting(draw, caption, picture.width), fill=(235, 235, 235))
            sheet.paste(picture, (left, top + _TEXT_HEIGHT))
        top += height
    return sheet


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """The text, its middle left out where it is wider than `width` pixels."""
    if draw.textlength(text) <= width:
        return text
    kept = len(text) - 1
    while kept > 2 and draw.textlength(_shortened(text, kept)) > width:
        kept -= 1
    return _shortened(text, kept)


def _shortened(text: str, kept: int) -> str:
    return text[: (kept + 1) // 2] + "..." + text[len(text) - kept // 2 :]
