"""What a picture holds: a dark patch, veins, blobs, lungs, layers, and the grain it is made of."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_CROP = 256  # pixels on a side of the piece in which grain is measured
_STRIPS = 8  # columns in which bands are looked for


def inside(grey: np.ndarray, field: np.ndarray) -> dict[str, float]:
    """Rim and centre of [h, w], a dark patch and thin dark structures in its field of view."""
    height, width = grey.shape
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    away = np.maximum(abs(y), abs(x))
    smooth = ndimage.gaussian_filter(grey, 2)
    rim = (away > 0.7) & field
    inner = ndimage.binary_erosion(field, iterations=5)
    inner = inner if inner.any() else np.ones_like(field)
    soft = ndimage.gaussian_filter(grey, 0.7)
    closed = ndimage.grey_closing(soft, size=(9, 9))
    return {
        "rim": np.median(grey[rim]) if rim.any() else 0.0,
        "rim_spread": smooth[rim].std() if rim.any() else 1.0,
        "centre": np.median(grey[away < 0.35]),
        "patch": _patch(smooth, field),
        "uneven": smooth[inner].std() / (smooth[inner].mean() + 1e-3),
        "veins": (closed - soft > 0.08 * np.maximum(closed, 0.1))[inner].mean(),
    }


def _patch(smooth: np.ndarray, field: np.ndarray) -> float:
    """Share of the dark part of the field, corners left out, that is one patch in the middle off the border."""
    if not field.any():
        return 0.0
    height, width = smooth.shape
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    dark = (smooth < _threshold(smooth[field])) & field & (np.hypot(y, x) < 1)
    numbered, count = ndimage.label(dark)
    if not count:
        return 0.0
    sizes = np.bincount(numbered.ravel())[1:]
    largest = numbered == 1 + np.argmax(sizes)
    row, column = ndimage.center_of_mass(largest)
    central = max(abs(row / height - 0.5), abs(column / width - 0.5)) < 0.2
    border = largest[0].sum() + largest[-1].sum() + largest[:, 0].sum() + largest[:, -1].sum()
    return sizes.max() / sizes.sum() if central and border < 0.2 * (height + width) else 0.0


def blobs(grey: np.ndarray) -> dict[str, float]:
    """Bright separate things in [h, w] and the ground between them."""
    smooth = ndimage.gaussian_filter(grey, 1)
    top = float(np.percentile(smooth, 99.5)) + 1e-3
    bright = smooth > _threshold(np.clip(smooth / top, 0, 1)) * top
    numbered, _ = ndimage.label(bright)
    sizes = np.bincount(numbered.ravel())[1:]
    ground = grey[~ndimage.binary_dilation(bright, iterations=3)]
    return {
        "ground": np.percentile(smooth, 25) / top,
        "ground_noise": ground.std() / top if ground.size else 1.0,
        "blobs": (sizes >= 6).sum(),
        "blob_share": bright.mean(),
    }


def _threshold(values: np.ndarray) -> float:
    """Otsu's threshold of values from 0 to 1."""
    counts = np.bincount((values.ravel() * 127).astype(int), minlength=128).astype(float)
    levels = (np.arange(128) + 0.5) / 128
    below, mass = np.cumsum(counts), np.cumsum(counts * levels)
    between = (mass[-1] * below / below[-1] - mass) ** 2 / np.maximum(below * (below[-1] - below), 1)
    return float(levels[np.argmax(between)])


def layout(grey: np.ndarray) -> dict[str, float]:
    """Symmetry, layers and lungs of [h, w]."""
    small = ndimage.gaussian_filter(grey, 0.03 * min(grey.shape))
    centred = small - small.mean()
    return (
        {
            "mirror": (centred * centred[:, ::-1]).sum() / ((centred**2).sum() + 1e-3),
            "layered": small.mean(axis=1).var() / (small.var() + 1e-6),
        }
        | _lungs(small)
        | _band(grey)
    )


def _lungs(small: np.ndarray) -> dict[str, float]:
    """Whether rows of the upper middle go bright, dark, bright, dark, bright, as a chest X-ray's do."""
    height, width = small.shape
    rows = small[int(0.25 * height) : int(0.65 * height)]
    a, b, c, d = (int(share * width) for share in (0.1, 0.42, 0.58, 0.9))
    left, right = rows[:, a:b], rows[:, c:d]
    darkest_left, darkest_right = left.min(axis=1), right.min(axis=1)
    columns = np.arange(width)
    outside_left = columns <= a + left.argmin(axis=1)[:, None]
    outside_right = columns >= c + right.argmin(axis=1)[:, None]
    wall_left = np.where(outside_left, rows, 0).max(axis=1) - darkest_left
    wall_right = np.where(outside_right, rows, 0).max(axis=1) - darkest_right
    low, top = np.percentile(small, [2, 98])
    deep = rows[:, b:c].max(axis=1) - np.maximum(darkest_left, darkest_right) > 0.15 * (top - low)
    walled = np.minimum(wall_left, wall_right) > 0.1 * (top - low)
    centre = small[int(0.1 * height) : int(0.95 * height), b:c].mean(axis=1)
    return {
        "lungs": (deep & walled).mean(),
        "lung_level": np.median(np.minimum(darkest_left, darkest_right)) / (top + 1e-3),
        "column": np.percentile(centre, 10) / (top + 1e-3),
    }


def _band(grey: np.ndarray) -> dict[str, float]:
    """Strips from top to bottom: how many hold one bright band between dark at the height of the strip before, and
    how bright they begin."""
    height = len(grey)
    strips = [part.mean(axis=1) for part in np.array_split(grey, _STRIPS, axis=1)]
    strips = [ndimage.gaussian_filter1d(strip, 0.02 * height) for strip in strips]
    highest = max(strip.max() for strip in strips)
    good, starts, before = 0, [], None
    for strip in strips:
        top = strip.max() + 1e-3
        rows = np.flatnonzero(strip >= 0.5 * (top - 1e-3))
        middle, thick = rows.mean() / height, np.ptp(rows) / height
        start, end = strip[: height // 12].mean() / top, strip[-(height // 12) :].mean() / top
        near = before is None or abs(middle - before) < 0.15
        good += start < 0.4 and end < 0.65 and near and top > 0.35 * highest and thick < 0.6
        starts.append(start)
        before = middle
    return {"band": good / _STRIPS, "start": np.median(starts)}


def grain(array: np.ndarray, lowest: float, full: float) -> dict[str, float]:
    """The finest detail in a piece from the middle of [C, H, W], at the picture's own scale."""
    height, width = array.shape[1:]
    top, left = max(0, (height - _CROP) // 2), max(0, (width - _CROP) // 2)
    piece = array[:, top : top + _CROP, left : left + _CROP].mean(axis=0, dtype=np.float32)
    piece = (piece - lowest) / (full - lowest)
    rest = piece - ndimage.uniform_filter(piece, 3)
    local = np.sqrt(np.maximum(ndimage.uniform_filter(rest**2, 9), 0))[4::6, 4::6]
    mean = ndimage.uniform_filter(piece, 9)[4::6, 4::6]
    shown = mean < 0.9  # what is overexposed has no grain left
    level, rough = mean[shown], local[shown]
    varied = len(level) > 9 and level.std() > 0 and rough.std() > 0
    down, across = np.diff(piece, axis=0).std(), np.diff(piece, axis=1).std()
    return {
        "fine": rest.std() / (piece.std() + 1e-6),
        "lateral": np.log((down + 1e-6) / (across + 1e-6)),
        "follows": np.corrcoef(level, rough)[0, 1] if varied else 0.0,
    }
