"""Intensities to network input, by the plan's scheme."""

from __future__ import annotations

import numpy as np

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.plans.plan import Normalisation

_DEPTHS = {"uint8": 255, "uint16": 65535}
# mean and deviation of the natural images that the encoder's pretrained weights know, RGB on 0..255
_MEAN, _STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


def normalise(array: np.ndarray, scheme: Normalisation) -> np.ndarray:
    """Channels [C, Z, H, W] of one case -> float32, same shape. Raises UserError for another number of channels."""
    full_scale = white(array.dtype, scheme)
    array = array.astype(np.float32)
    channels = len(array)
    if scheme.scheme == "ct":
        lower, upper, mean, std = (_column(v, channels) for v in (scheme.lower, scheme.upper, scheme.mean, scheme.std))
        return (array.clip(lower, upper) - mean) / std
    if scheme.scheme == "z-score":
        return np.stack([_z_score(channel, scheme.inside_nonzero) for channel in array])
    if scheme.scheme == "percentile":
        low, high = np.percentile(array, (0.5, 99.5), axis=(1, 2, 3), keepdims=True)
        array = ((array - low) / np.maximum(high - low, 1e-8)).clip(0, 1) * 255
    else:
        array = array * (255 / full_scale)
    mean, std = _mean_and_std(scheme, channels)
    return ((array - mean) / std).astype(np.float32)


def white(dtype: np.dtype, scheme: Normalisation) -> float:
    """The value that is white in a photograph: a file's own depth says it, also where a dataset mixes 8 and 16 bit,
    unless the plan says that the depth is not used up (4095 in 16 bit)."""
    if scheme.full_scale not in _DEPTHS.values():
        return scheme.full_scale
    return _DEPTHS.get(dtype.name, scheme.full_scale)


def ends(scheme: Normalisation, channels: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Black and white as network input, float32 [C or 1, 1, 1] each; None where each case has its own (z-score)."""
    if scheme.scheme == "z-score":
        return None
    if scheme.scheme == "ct":
        lower, upper, mean, std = (_column(v, channels) for v in (scheme.lower, scheme.upper, scheme.mean, scheme.std))
    else:
        lower, upper = 0, 255
        mean, std = _mean_and_std(scheme, channels)
    black, white_ = ((np.asarray(v - mean) / std).astype(np.float32).reshape(-1, 1, 1) for v in (lower, upper))
    return black, white_


def _mean_and_std(scheme: Normalisation, channels: int) -> tuple:
    """What 0 to 255 is standardised with: the plan's own numbers, else those of the pretrained encoder."""
    if scheme.scheme == "photograph" and scheme.mean:
        return _column(scheme.mean, channels), _column(scheme.std, channels)
    if channels == 3:
        return _column(_MEAN, 3), _column(_STD, 3)
    return _MEAN.mean(), _STD.mean()


def _column(values, channels: int) -> np.ndarray:
    """A number per channel as [C, 1, 1, 1]."""
    if len(values) != channels:
        raise UserError("channels do not fit the plan", expected=len(values), found=channels)
    return np.asarray(values, np.float32).reshape(-1, 1, 1, 1)


def _z_score(channel: np.ndarray, inside_nonzero: bool) -> np.ndarray:
    mask = channel != 0
    values = channel[mask] if inside_nonzero and mask.any() else channel
    scaled = (channel - values.mean()) / max(float(values.std()), 1e-8)
    return np.where(mask, scaled, 0) if inside_nonzero else scaled
