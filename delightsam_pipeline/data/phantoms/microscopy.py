"""Generated pictures that look like cells under a microscope, with labels of their nuclei."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from delightsam_pipeline.data.phantoms.shapes import Outline, Phantom, soft_step, texture

NUCLEUS = 1
_HAEMATOXYLIN = np.array([0.62, 0.72, 0.3])  # what each dye takes from red, green and blue light
_EOSIN = np.array([0.1, 0.82, 0.4])


@dataclass(frozen=True)
class _Nucleus:
    """One nucleus in a window of the picture.

    window : slices along y and x. level : 1 on its edge, less inside, [h, w]. size : mean radius, pixels.
    """

    window: tuple[slice, slice]
    level: np.ndarray
    size: float


def draw(rng: np.random.Generator) -> Phantom:
    """Cells, [H, W, 3] uint8: about half of the cases glow on a dark ground, the rest is stained; label NUCLEUS."""
    shape = (int(rng.integers(176, 257)), int(rng.integers(176, 257)))
    glowing = rng.random() < 0.5
    nuclei = _scatter(rng, shape, rng.uniform(7, 12) if glowing else rng.uniform(7, 13), glowing)
    labels = np.zeros(shape, np.uint8)
    for nucleus in nuclei:
        labels[nucleus.window][nucleus.level < 1] = NUCLEUS
    colour = _fluorescence(rng, shape, nuclei) if glowing else _stain(rng, shape, nuclei)
    return Phantom(np.clip(np.rint(colour), 0, 255).astype(np.uint8), labels)


def _scatter(rng: np.random.Generator, shape: tuple[int, int], size: float, clustered: bool) -> list[_Nucleus]:
    """Nuclei that touch here and there and hardly overlap; some reach over the picture's border."""
    wanted = int(rng.uniform(0.08, 0.24) * shape[0] * shape[1] / (np.pi * size**2)) + 4
    together = rng.uniform(0.2, 0.6) if clustered else rng.uniform(0, 0.3)
    lean, spread = rng.uniform(0, np.pi), rng.uniform(0.3, 1.5)
    placed: list[tuple[np.ndarray, float]] = []
    for _ in range(wanted * 6):
        radius = size * rng.uniform(0.75, 1.3)
        centre = rng.uniform(-0.02, 1.02, 2) * shape
        if placed and rng.random() < together:  # beside another one
            other, reach = placed[rng.integers(len(placed))]
            turn = rng.uniform(0, 2 * np.pi)
            centre = other + (reach + radius) * rng.uniform(0.85, 1.0) * np.array([np.sin(turn), np.cos(turn)])
        if all(np.hypot(*(centre - other)) > 0.84 * (radius + reach) for other, reach in placed):
            placed.append((centre, radius))
        if len(placed) == wanted:
            break
    drawn = (_nucleus(rng, shape, centre, radius, lean + spread * rng.normal()) for centre, radius in placed)
    return [nucleus for nucleus in drawn if nucleus.level.size]


def _nucleus(
    rng: np.random.Generator, shape: tuple[int, int], centre: np.ndarray, radius: float, turn: float
) -> _Nucleus:
    longer = rng.uniform(1.0, 1.3)
    waves = Outline.draw(rng, (0, 0), (1, 1), 0.05).waves
    outline = Outline(tuple(centre), (radius * longer, radius / longer), turn, waves)
    low = np.maximum(np.floor(centre - 3 * radius).astype(int), 0)
    high = np.minimum(np.ceil(centre + 3 * radius).astype(int), shape)
    y, x = np.mgrid[low[0] : max(low[0], high[0]), low[1] : max(low[1], high[1])].astype(float)
    return _Nucleus((slice(low[0], high[0]), slice(low[1], high[1])), outline.level(y, x), radius)


def _fluorescence(rng: np.random.Generator, shape: tuple[int, int], nuclei: list[_Nucleus]) -> np.ndarray:
    """Bright nuclei on dark, each of its own brightness, with glow, haze, dust and the camera's noise."""
    light = rng.uniform(0.02, 0.16) * (1 + 0.4 * texture(rng, shape, 40)).clip(0)
    bright, uneven = rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.75)
    chromatin = texture(rng, shape, rng.uniform(1.2, 2.5))
    glow = np.zeros(shape)
    for nucleus in nuclei:
        strength = bright * np.exp(uneven * np.clip(rng.normal(), -1.3, 2))
        edge = soft_step(nucleus.level - 1, rng.uniform(0.06, 0.2))
        grain = 1 + 0.14 * chromatin[nucleus.window]
        light[nucleus.window] += strength * edge * grain
        glow[nucleus.window] += strength * np.exp(-np.clip(nucleus.level - 1, 0, None) / 0.5)
    light += rng.uniform(0.05, 0.25) * ndimage.gaussian_filter(glow, 4)
    for _ in range(rng.integers(0, 8)):  # dust and shreds: bright, no nuclei
        y, x = (int(rng.integers(2, side - 2)) for side in shape)
        light[y - 1 : y + 2, x - 1 : x + 2] += rng.uniform(0.1, 0.5)
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    light *= 1 - rng.uniform(0, 0.35) * (y**2 + x**2) / 2
    light = ndimage.gaussian_filter(light, rng.uniform(0.5, 0.9))
    light += rng.uniform(0.008, 0.025) * rng.standard_normal(shape) * np.sqrt(0.15 + np.clip(light, 0, None))
    tint = np.array([[1.0, 1.0, 1.0], [0.25, 0.45, 1.0]])[int(rng.random() < 0.4)]  # a grey camera, or DAPI's blue
    return 255 * (1 - np.exp(-1.4 * light.clip(0)))[..., None] * tint


def _stain(rng: np.random.Generator, shape: tuple[int, int], nuclei: list[_Nucleus]) -> np.ndarray:
    """Purple nuclei in pink tissue with fibres, gaps and blood: light that two dyes take from white."""
    eosin = rng.uniform(0.25, 0.6) * (1 + 0.2 * texture(rng, shape, 9) + 0.12 * texture(rng, shape, 1.5))
    turn = rng.uniform(0, np.pi)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(float)
    bent = np.cos(turn) * y + np.sin(turn) * x + 7 * texture(rng, shape, 16)
    fibres = np.sin(bent / rng.uniform(1.6, 2.6)) * soft_step(-texture(rng, shape, 18), 0.5)
    eosin *= 1 + rng.uniform(0, 0.3) * fibres
    gap = soft_step(rng.uniform(1.2, 2.2) - texture(rng, shape, 10), 0.15)
    for nucleus in nuclei:  # no gap where a cell lies
        gap[nucleus.window] *= 1 - soft_step(nucleus.level - 1.5, 0.2)
    eosin *= 1 - 0.9 * gap
    cloud = texture(rng, shape, 12) + 0.6 * texture(rng, shape, 3)
    haematoxylin = (rng.uniform(0.04, 0.2) * (1 + 0.7 * cloud) * (1 - gap)).clip(0)
    chromatin, dye, rim = texture(rng, shape, 1.4), rng.uniform(0.4, 0.95), rng.uniform(0, 0.7)
    for nucleus in nuclei:
        edge = soft_step(nucleus.level - 1, 0.1)
        shell = np.exp(-(((nucleus.level - 0.88) / 0.12) ** 2))
        dark = dye * rng.uniform(0.65, 1.3) * (1 - rim * rng.random() + rim * shell)
        dark = dark * (1 + 0.25 * chromatin[nucleus.window])
        haematoxylin[nucleus.window] += edge * (dark - haematoxylin[nucleus.window])
        eosin[nucleus.window] *= 1 - 0.3 * edge
    taken = eosin.clip(0)[..., None] * _EOSIN + haematoxylin.clip(0)[..., None] * _HAEMATOXYLIN
    colour = rng.uniform(225, 250) * np.exp(-rng.uniform(1.2, 1.6) * ndimage.gaussian_filter(taken, (0.7, 0.7, 0)))
    return colour + rng.uniform(1.5, 4) * rng.standard_normal(colour.shape)
