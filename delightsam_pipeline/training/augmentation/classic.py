"""Noise, blur, lower resolution and gamma: batchgenerators' transforms of these names, several times faster.

The same random numbers decide the same changes, in 32 bits and for all channels at once. Noise alone is of other
numbers of the same distribution.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from batchgenerators.transforms.abstract_transforms import AbstractTransform


@dataclass(frozen=True)
class Sometimes(AbstractTransform):
    """Applies `change`, from an image [C, h, w] float32 to the changed one, to a share of the images."""

    change: Callable[[np.ndarray], np.ndarray]
    share: float

    def __call__(self, **data_dict) -> dict:
        """data [B, C, h, w] float32 is changed in place."""
        for image in data_dict["data"]:
            if np.random.uniform() < self.share:
                image[...] = self.change(image)
        return data_dict


def standard_normal(shape: tuple[int, ...]) -> np.ndarray:
    """Normal noise, float32, several times as fast as numpy's; numpy's global generator seeds it."""
    generator = torch.Generator().manual_seed(int(np.random.randint(2**31)))
    return torch.randn(shape, generator=generator).numpy()


def noise(image: np.ndarray, largest: float) -> np.ndarray:
    """GaussianNoiseTransform of noise_variance (0, largest), which is a deviation."""
    return image + np.float32(random.uniform(0, largest)) * standard_normal(image.shape)


def blur(image: np.ndarray, sigma: tuple[float, float]) -> np.ndarray:
    """GaussianBlurTransform with one sigma, in pixels, for all channels."""
    chosen = _from(sigma)
    np.random.uniform(size=len(image))  # batchgenerators asks for each channel
    return smooth(image, (chosen, chosen))


def smooth(image: np.ndarray, sigmas: tuple[float, float]) -> np.ndarray:
    """Gaussian filter of [C, h, w] float32 with a sigma for rows and one for columns, cut off at four of them."""
    for axis, sigma in zip((1, 2), sigmas, strict=True):
        radius = int(4 * sigma + 0.5)
        kernel = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
        kernel = (kernel / (2 * kernel.sum() - 1)).astype(np.float32)
        padded = np.pad(image, [(radius, radius) if axis == other else (0, 0) for other in range(3)], mode="symmetric")
        size = image.shape[axis]
        moved = [padded[(slice(None),) * axis + (slice(k, k + size),)] for k in range(2 * radius + 1)]
        image = moved[radius] * kernel[0]
        for k in range(1, radius + 1):
            image += (moved[radius - k] + moved[radius + k]) * kernel[k]
    return image


def lower_resolution(image: np.ndarray, zoom: tuple[float, float]) -> np.ndarray:
    """SimulateLowResolutionTransform: nearest to a share `zoom` of the size, linear back."""
    chosen = np.random.uniform(*zoom)
    np.random.uniform(size=len(image))  # batchgenerators asks for each channel
    size = np.round(np.array(image.shape[1:]) * chosen).astype(int).tolist()
    small = F.interpolate(torch.from_numpy(image)[None], size=size, mode="nearest-exact")
    return F.interpolate(small, size=image.shape[1:], mode="bilinear", align_corners=False)[0].numpy()


def gamma(image: np.ndarray, limits: tuple[float, float], per_channel: bool, inverted: bool) -> np.ndarray:
    """GammaTransform between the image's lowest and highest value; mean and deviation stay what they were."""
    sign = np.float32(-1 if inverted else 1)
    parts = image if per_channel else image[None]
    return np.stack([sign * _gamma(sign * part, _either_side(limits)) for part in parts]).reshape(image.shape)


def _gamma(values: np.ndarray, exponent: float) -> np.ndarray:
    mean, deviation, lowest = values.mean(), values.std(), values.min()
    changed = (values - lowest) * np.float32(1 / (float(values.max() - lowest) + 1e-7))
    np.power(changed, np.float32(exponent), out=changed)
    changed *= np.float32(deviation / (changed.std() + 1e-8))
    changed += mean - changed.mean()
    return changed


def _either_side(limits: tuple[float, float]) -> float:
    """A number below 1 as often as one above it."""
    low, high = limits
    return np.random.uniform(low, 1) if np.random.random() < 0.5 and low < 1 else np.random.uniform(max(low, 1), high)


def _from(limits: tuple[float, float]) -> float:
    """As batchgenerators' get_range_val."""
    return limits[0] if limits[0] == limits[1] else random.uniform(*limits)
