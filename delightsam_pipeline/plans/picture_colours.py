"""Colours of a picture, and the field of view that it shows them in."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_COARSE = 192  # pixels on the longer side of the coarse picture
_BLACK = 0.1  # of full brightness


def coarse(array: np.ndarray, lowest: float, full: float) -> np.ndarray:
    """A picture [C, H, W] as [C, h, w] of 0 to 1, at most 192 pixels on the longer side: means of 2 x 2 pixels each."""
    step = -(-max(array.shape[1:]) // _COARSE)
    height, width = array.shape[1] // step * step, array.shape[2] // step * step
    places = (step // 4, 3 * step // 4) if step > 1 else (0,)
    parts = [array[:, row:height:step, column:width:step].astype(np.float32) for row in places for column in places]
    return np.clip((sum(parts) / len(parts) - lowest) / (full - lowest), 0, 1)


def field_of_view(grey: np.ndarray) -> np.ndarray:
    """Where [h, w] is not black, without holes."""
    return ndimage.binary_fill_holes(ndimage.median_filter(grey, 3) > _BLACK)


def colours(picture: np.ndarray, field: np.ndarray) -> dict[str, float]:
    """Of [C, h, w] of 0 to 1."""
    red, green, blue = picture if len(picture) == 3 else np.repeat(picture, 3, axis=0)
    highest, lowest = picture.max(axis=0), picture.min(axis=0)
    chroma = highest - lowest
    inside = field if field.any() else np.ones_like(field)
    r, g, b = red[inside], green[inside], blue[inside]
    tints = np.stack([r, g, b]) / (r + g + b + 1e-3)
    middle = np.median(tints, axis=1)
    white = (lowest > 0.85) & (chroma < 0.12)
    return {
        "grey": (chroma <= 0.03).mean(),
        "coloured": (chroma > 0.12).mean(),
        "red": middle[0],
        "blue": middle[2],
        "tint_spread": np.percentile(np.abs(tints - middle[:, None]).max(axis=0), 90),
        "warm": ((r >= g - 0.01) & (g >= b - 0.03)).mean(),
        "purple": (g < np.minimum(r, b) - 0.02).mean(),
        "cold": ((g > np.maximum(r, b) + 0.03) | ((b > r + 0.03) & (g > r + 0.03))).mean(),
        "white": white.mean(),
        "glints": (white & ~ndimage.binary_opening(white, np.ones((7, 7)))).mean(),
    }


def frame(grey: np.ndarray, field: np.ndarray) -> dict[str, float]:
    """The field of view [h, w] and its shape."""
    height, width = grey.shape
    size = max(2, round(0.06 * min(height, width)))
    pieces = (grey[:size, :size], grey[:size, -size:], grey[-size:, :size], grey[-size:, -size:])
    return {
        "corners": np.mean([(piece < _BLACK).mean() for piece in pieces]),
        "field": field.mean(),
        "disc": _disc(field),
        "sector": _sector(field),
    }


def _disc(field: np.ndarray) -> float:
    """Share of the edge of the largest piece, edges of the picture left out, that lies on one circle."""
    numbered, count = ndimage.label(field)
    if not count:
        return 0.0
    largest = numbered == 1 + np.argmax(np.bincount(numbered.ravel())[1:])
    y, x = np.nonzero(largest & ~ndimage.binary_erosion(largest, border_value=1))
    if len(y) < 0.5 * sum(field.shape):
        return 0.0
    system = np.stack([x, y, np.ones(len(x))], axis=1).astype(float)
    (a, b, c), *_ = np.linalg.lstsq(system, (x**2 + y**2).astype(float), rcond=None)
    radius = np.sqrt(max(c + (a**2 + b**2) / 4, 1.0))
    away = np.abs(np.hypot(x - a / 2, y - b / 2) - radius)
    return float(np.mean(away < 0.03 * radius))


def _sector(field: np.ndarray) -> float:
    """Correlation of width with depth in the upper two thirds of a field that is at least 1.5 times wider there."""
    rows = np.flatnonzero(field.any(axis=1))
    if len(rows) < 0.5 * len(field):
        return 0.0
    widths = field[rows].sum(axis=1)[: 2 * len(rows) // 3].astype(float)
    start, end = widths[: len(widths) // 5].mean(), widths[-len(widths) // 5 :].mean()
    if end < 1.5 * start or widths.std() == 0:
        return 0.0
    return max(0.0, float(np.corrcoef(widths, np.arange(len(widths)))[0, 1]))
