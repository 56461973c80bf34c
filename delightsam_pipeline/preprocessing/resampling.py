"""Resampling of slices, and the matrices that bring mask logits back in one bilinear step."""

from __future__ import annotations

import numpy as np
from PIL import Image as Picture

_ORDERS = {"linear": Picture.Resampling.BILINEAR, "cubic": Picture.Resampling.BICUBIC}


def resize(slices: np.ndarray, size: tuple[int, int], order: str = "linear") -> np.ndarray:
    """Slices [..., H, W] -> float32 [..., h, w]; "linear" or "cubic", over the covered area when shrinking."""
    if slices.shape[-2:] == size:
        return slices.astype(np.float32, copy=False)
    flat = slices.reshape(-1, *slices.shape[-2:])
    out = np.empty((len(flat), *size), np.float32)
    for target, source in zip(out, flat, strict=True):
        picture = Picture.fromarray(np.ascontiguousarray(source, np.float32))
        target[...] = np.asarray(picture.resize((size[1], size[0]), _ORDERS[order]))
    return out.reshape(*slices.shape[:-2], *size)


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Label maps [Z, H, W] -> [Z, h, w]: each value's mask is resized linearly, the largest share wins."""
    if labels.shape[-2:] == size:
        return labels
    out = np.zeros((len(labels), *size), labels.dtype)
    for z, plane in enumerate(labels):
        values = np.unique(plane)
        shares = np.stack([resize((plane == value), size) for value in values])
        out[z] = values[shares.argmax(axis=0)]
    return out


def return_matrix(full: int, scaled: int, offset: int, cells: int, stride: int) -> np.ndarray:
    """Weights [full, cells] that interpolate an axis of mask logits linearly at the image's own pixels.

    full : pixels of the image. scaled : pixels it had as network input, which began at `offset` on the padded canvas.
    cells : mask cells on that canvas, `stride` input pixels each. Half-pixel centres, edges held.
    """
    centre = (np.arange(full) + 0.5) * (scaled / full) + offset
    place = (centre / stride - 0.5).clip(0, cells - 1)
    low = np.floor(place).astype(int).clip(max=max(cells - 2, 0))
    weights = np.zeros((full, cells), np.float32)
    rows = np.arange(full)
    weights[rows, low] = 1 - (place - low)
    if cells > 1:
        weights[rows, low + 1] = place - low
    return weights
