"""How acquisition varies: shading, depth gain, speckle, tint and stain, each on values from black (0) to white (1).

Every function takes v [C, h, w] float32 and gives the changed values; a strength is that of the largest change.
"""

from __future__ import annotations

import numpy as np
from skimage.color import hed_from_rgb, rgb_from_hed

from delightsam_pipeline.training.augmentation.classic import smooth, standard_normal

_WAVES = 3  # half periods of the finest wave of a smooth field
_DARK_GROUND = 0.5  # a picture of a median below it shows light that is emitted, not absorbed
_GREY = 2 / 255
_FAINTEST = 1 / 255  # what still counts as light when its logarithm is taken


def shading(v: np.ndarray, strength: float) -> np.ndarray:
    """A smooth factor in all channels: the bias field of a coil, or light that falls from one side or on the middle."""
    rows, columns = (_waves(n) for n in v.shape[1:])
    weights = np.random.standard_normal((_WAVES + 1, _WAVES + 1))
    weights[0, 0] = 0  # brightness as a whole is another change
    weights /= np.add.outer(np.arange(_WAVES + 1), np.arange(_WAVES + 1)).clip(1)
    return v * _as_factor(rows @ weights @ columns.T, np.random.uniform(0, strength))


def depth_gain(v: np.ndarray, strength: float) -> np.ndarray:
    """A smooth factor along the rows: gain of the whole and by depth, as an ultrasound machine's sliders set it."""
    curve = _waves(v.shape[1]) @ (np.random.standard_normal(_WAVES + 1) / np.arange(1, _WAVES + 2))
    return v * _as_factor(curve[:, None], np.random.uniform(0, strength))


def speckle(v: np.ndarray, strength: float, one_grain: bool) -> np.ndarray:
    """Grain that grows with brightness, wider than deep; the same in all channels where they are `one_grain`."""
    deep, wide = np.random.uniform(0.5, 1.0), np.random.uniform(1.0, 2.0)
    grain = smooth(standard_normal((1 if one_grain else len(v), *v.shape[1:])), (deep, wide))
    grain *= np.float32(np.random.uniform(0, strength) / max(float(grain.std()), 1e-8))
    return v * (1 + grain).clip(0)


def tint(v: np.ndarray, strength: float) -> np.ndarray:
    """A factor for each channel: the colour of the light and the camera's white balance."""
    factors = np.exp(np.random.uniform(-strength, strength, len(v)))
    return v * factors.astype(np.float32)[:, None, None]


def stain(v: np.ndarray, strength: float) -> np.ndarray:
    """More or less of haematoxylin, eosin and DAB; a clear ground stays clear, grey stays grey.

    Where the ground is dark (fluorescence) no stain absorbs anything, and the light itself becomes more or less.
    """
    amounts = np.random.uniform(1 - strength, 1 + strength, 3)
    few = v[:, ::4, ::4]
    if np.median(few) < _DARK_GROUND:
        return v * np.float32(amounts[0])
    if np.ptp(few, axis=0).max() < _GREY:
        amounts[:] = amounts[0]
    absorbed = -np.log(v.clip(_FAINTEST))
    mixed = (hed_from_rgb @ np.diag(amounts) @ rgb_from_hed).T.astype(np.float32)
    return np.exp(-(mixed @ absorbed.reshape(3, -1))).reshape(v.shape)


def _waves(count: int) -> np.ndarray:
    """Cosines [count, 4] of 0 to 3 half periods over so many pixels."""
    place = (np.arange(count) + 0.5) / count
    return np.cos(np.pi * np.outer(place, np.arange(_WAVES + 1)))


def _as_factor(field: np.ndarray, strength: float) -> np.ndarray:
    """exp of a field [h, w] scaled to -strength to strength at its strongest."""
    largest = max(float(np.abs(field).max()), 1e-8)
    return np.exp(field * (strength / largest)).astype(np.float32)
