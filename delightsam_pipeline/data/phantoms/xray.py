"""Generated pictures that look like chest X-rays from the front, with their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from delightsam_pipeline.data.phantoms.shapes import Outline, Phantom, soft_step, strokes, texture

RIGHT_LUNG, LEFT_LUNG = 1, 2  # the patient's: the right lung is on the left of the picture
_RIGHT, _LEFT = -1, 1  # sides along u


@dataclass(frozen=True)
class _Chest:
    """Where pixels lie in the body, half of whose width is 1.

    v, u : [H, W], down, and to the patient's left (the picture's right), from the middle of the chest.
    pixel : size of a pixel.
    """

    v: np.ndarray
    u: np.ndarray
    pixel: float


def draw(rng: np.random.Generator) -> Phantom:
    """A chest from the front, [H, W] uint8, dense is bright; labels RIGHT_LUNG and LEFT_LUNG.

    What the rays pass adds up, and the film turns the sum into grey: lungs are dark, but so are the air around the
    body and gas in the belly, and what ails a lung makes it bright.
    """
    chest = _place(rng)
    width = rng.uniform(0.92, 1.06)  # of the rib cage
    heart = _heart(rng, chest)
    lungs = {side: _lung(rng, chest, side, width, heart) for side in (_RIGHT, _LEFT)}
    body = _body(rng, chest)
    dense = body * (1.0 + 0.25 * soft_step(0.4 - chest.v, 0.2) - 0.15 * soft_step(chest.v + 0.7, 0.2))
    dense += body * 0.25 * soft_step(heart, 0.04)
    air = rng.uniform(0.5, 0.62)
    for side, lung in lungs.items():
        dense -= air * soft_step(lung, 1.5 * chest.pixel) * _aeration(rng, chest, side)
    filled = soft_step(np.minimum(*lungs.values()), 0.01)
    dense += body * _bones(rng, chest, width) * (0.6 + 0.4 * filled)
    dense -= body * (1 - filled) * _gas(rng, chest)
    labels = RIGHT_LUNG * (lungs[_RIGHT] < 0) + LEFT_LUNG * (lungs[_LEFT] < 0)
    return Phantom(_expose(rng, dense, chest), labels.astype(np.uint8))


def _place(rng: np.random.Generator) -> _Chest:
    height, width = int(rng.integers(192, 241)), int(rng.integers(200, 257))
    y, x = np.mgrid[0:height, 0:width].astype(float)
    pixel = max(2 / width * rng.uniform(0.85, 1.08), rng.uniform(1.5, 1.7) / height)
    y, x = (y - height * rng.uniform(0.5, 0.56)) * pixel, (x - width * rng.uniform(0.48, 0.52)) * pixel
    tilt = rng.uniform(-0.08, 0.08)
    return _Chest(np.cos(tilt) * y - np.sin(tilt) * x, np.cos(tilt) * x + np.sin(tilt) * y, pixel)


def _heart(rng: np.random.Generator, chest: _Chest) -> np.ndarray:
    """Distance from the shadow of heart and great vessels, less than 0 inside."""
    v = chest.v

    def bulge(middle: float, reach: float) -> np.ndarray:
        return np.exp(-(((v - middle) / reach) ** 2))

    right = 0.1 + rng.uniform(0.03, 0.1) * bulge(0.3, 0.22) + rng.uniform(0, 0.02) * bulge(-0.35, 0.15)
    left = 0.1 + rng.uniform(0.02, 0.07) * bulge(-0.33, 0.09) + rng.uniform(0.18, 0.36) * bulge(0.36, 0.28)
    return np.where(chest.u < 0, -chest.u - right, chest.u - left)


def _lung(rng: np.random.Generator, chest: _Chest, side: int, width: float, heart: np.ndarray) -> np.ndarray:
    """Distance (roughly) from one lung, less than 0 inside: an egg, cut by the heart and the diaphragm."""
    v, out = chest.v, side * chest.u
    along = (v + 0.02) / (0.72 * rng.uniform(0.96, 1.04))
    across = (out - 0.33 * width) / (0.37 * width * (1 + 0.28 * np.clip(along, -1, 1)))
    egg = (np.abs(along) ** 2.3 + np.abs(across) ** 2.3) ** (1 / 2.3)
    floor = rng.uniform(0.24, 0.44) + (0.06 if side == _LEFT else 0.0)  # the liver holds the right one up
    dome = floor + rng.uniform(1.0, 1.8) * (out - rng.uniform(0.24, 0.32)) ** 2
    wobble = 0.006 * texture(rng, v.shape, 8)
    return np.maximum.reduce([(egg - 1) * 0.35, v - dome, -heart]) + wobble


def _body(rng: np.random.Generator, chest: _Chest) -> np.ndarray:
    """1 inside trunk, neck and shoulders, 0 outside."""
    v, out = chest.v, np.abs(chest.u)
    flank = 0.9 + 0.08 * rng.random() + 0.05 * v + 0.5 * soft_step(v + rng.uniform(0.15, 0.4), 0.12)
    shoulder = -0.86 - 0.06 * rng.random() + 0.45 * np.clip(out - 0.2, 0, None) ** 1.3
    trunk = np.maximum(out - flank, shoulder - v)
    return soft_step(np.minimum(trunk, out - 0.24), 0.035)


def _aeration(rng: np.random.Generator, chest: _Chest, side: int) -> np.ndarray:
    """Share of air in a lung: less at vessels, below, and where it is ill."""
    v, u = chest.v, chest.u
    air = rng.uniform(0.65, 1.0) - 0.18 * np.clip(v, 0, None) + 0.03 * texture(rng, v.shape, 5)
    root = (rng.uniform(-0.06, 0.06), side * 0.15)
    away = np.hypot(v - root[0], u - root[1])
    turn = (np.arctan2(v - root[0], side * (u - root[1])) / np.pi + 1) * 89
    fan = ndimage.map_coordinates(texture(rng, (180, 60), (1.3, 10)), [turn, np.clip(away * 80, 0, 59)], order=1)
    air -= 0.35 * np.exp(-((fan / 0.4) ** 2)) * np.exp(-away / 0.25) + 0.3 * np.exp(-((away / 0.09) ** 2))
    for _ in range(rng.choice((0, 1, 2), p=(0.35, 0.4, 0.25))):  # pneumonia: a patch, its edge uncertain
        middle = (rng.uniform(-0.4, 0.4), side * rng.uniform(0.25, 0.5))
        patch = Outline.draw(rng, middle, (rng.uniform(0.12, 0.3), rng.uniform(0.12, 0.25)), 0.2).level(v, u)
        air -= rng.uniform(0.25, 0.6) * soft_step(patch - 1, 0.4) * (1 + 0.25 * texture(rng, v.shape, 3))
    return np.clip(air, 0.15, 1)


def _bones(rng: np.random.Generator, chest: _Chest, width: float) -> np.ndarray:
    """Ribs, collar bones, shoulder blades and the spine with the windpipe in front of it."""
    v, u, out = chest.v, chest.u, np.abs(chest.u)
    dense = np.zeros(v.shape)
    start, step, slope = rng.uniform(-0.66, -0.6), rng.uniform(0.125, 0.145), rng.uniform(0.25, 0.45)
    for number in range(10):  # each a ring seen from the front and a little from above: its back is the upper arc
        middle = start + 0.05 + step * number
        half = 0.39 * width * (1 + 0.28 * np.clip(middle / 0.72, -1, 0.6)) * np.sqrt(max(0.2, 1 - (middle / 0.8) ** 4))
        across = (out - 0.33 * width) / half
        down = (v - middle - slope * (out - 0.33 * width)) / 0.13
        ring = (np.hypot(across, down) - 1) * 0.13
        back = soft_step(down - 0.3 * across, 0.3)
        shell = np.exp(-(((np.abs(ring) - 0.02) / 0.006) ** 2))
        dense += (0.06 + 0.1 * back) * (np.exp(-((ring / 0.022) ** 4)) + 0.5 * shell)
    line = v + rng.uniform(0.5, 0.6) + rng.uniform(0.12, 0.35) * (out - 0.1) - 0.04 * np.sin(7 * out)
    collar = soft_step(out - 0.8, 0.02) * soft_step(0.07 - out, 0.02)
    dense += 0.2 * collar * np.exp(-((line / 0.03) ** 4))
    blade = np.maximum(np.abs(v + 0.35 - 0.2 * (out - 0.8)) - 0.3, np.abs(out - 0.84 - 0.15 * v) - 0.12)
    dense += 0.12 * soft_step(blade, 0.03)
    column = soft_step(out - 0.085, 0.012)
    dense += column * (0.16 + 0.05 * np.cos(2 * np.pi * v / step + rng.uniform(0, 6)))
    return dense - 0.22 * soft_step(np.abs(u - 0.01) - 0.035, 0.012) * soft_step(v + 0.22, 0.06)


def _gas(rng: np.random.Generator, chest: _Chest) -> np.ndarray:
    """Gas in stomach and bowel, below the diaphragm: as dark as a lung."""
    dark = np.zeros(chest.v.shape)
    for _ in range(rng.integers(1, 5)):
        middle = (rng.uniform(0.6, 0.9), rng.uniform(-0.2, 0.65))
        bubble = Outline.draw(rng, middle, (rng.uniform(0.04, 0.1), rng.uniform(0.07, 0.16)), 0.12)
        dark += rng.uniform(0.15, 0.45) * soft_step(bubble.level(chest.v, chest.u) - 1, 0.15)
    return dark


def _expose(rng: np.random.Generator, dense: np.ndarray, chest: _Chest) -> np.ndarray:
    """Scatter, leads and the side marker, the film's curve and grain; [H, W] uint8."""
    shape = dense.shape
    tissue = dense + (dense > 0.3) * (0.02 * texture(rng, shape, 10) + 0.008 * texture(rng, shape, 1.2))
    image = 0.85 * ndimage.gaussian_filter(tissue, 0.7) + 0.15 * ndimage.gaussian_filter(tissue, 14)
    image *= 1 + rng.uniform(-0.12, 0.12) * chest.v + rng.uniform(-0.12, 0.12) * chest.u
    image = image / np.percentile(image, 99.5) * rng.uniform(0.9, 1.05)
    image = np.clip(image, 0, None) ** rng.uniform(0.9, 1.6)
    image += rng.uniform(0.2, 0.4) * strokes(shape, _metal(rng, shape))
    image += rng.uniform(0.008, 0.025) * texture(rng, shape, 0.5) * np.sqrt(0.2 + image)
    return np.clip(np.rint(255 * image), 0, 255).astype(np.uint8)


def _metal(rng: np.random.Generator, shape: tuple[int, int]) -> list[tuple[np.ndarray, float]]:
    """What was on the body, as strokes: the marker of the patient's left side, in some a monitor's leads."""
    corner = (rng.uniform(8, 20), shape[1] - rng.uniform(12, 20))
    curves = [(np.array([[0.0, 0.0], [9.0, 0.0], [9.0, 5.0]]) + corner, 1.8)]
    along = np.linspace(0, 1, 30)[:, None]
    for _ in range(rng.choice((0, 2, 3), p=(0.6, 0.2, 0.2))):
        pad = rng.uniform(0.2, 0.8, 2) * shape
        bend, end = rng.uniform((0.3, -0.2), (0.9, 1.2)) * shape, rng.uniform((1.0, 0.1), (1.1, 0.9)) * shape
        curves += [((1 - along) ** 2 * pad + 2 * along * (1 - along) * bend + along**2 * end, 1.0), (pad[None], 6.0)]
    return curves
