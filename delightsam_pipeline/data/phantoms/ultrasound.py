"""Generated pictures that look like ultrasound, with their labels."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from delightsam_pipeline.data.phantoms.shapes import Outline, Phantom, soft_step, texture

LESION = 1
_BEAMS, _SAMPLES = 192, 288  # beams across the sector, echoes along each


def draw(rng: np.random.Generator) -> Phantom:
    """A curved-probe image, [H, W] uint8, 0 outside the sector; label LESION.

    The echoes are drawn beam by beam and bent into the sector at the end, so that speckle widens with depth and
    shadows follow the beams, as they do in a scanner.
    """
    height, width = int(rng.integers(152, 169)), int(rng.integers(184, 201))
    opening, near = rng.uniform(0.46, 0.56), rng.uniform(36, 50)  # half the angle (radians), the probe's radius
    top, far = 3 - near * np.cos(opening), height - 4 + near * np.cos(opening)
    radius, turn = np.meshgrid(np.linspace(near, far, _SAMPLES), np.linspace(-opening, opening, _BEAMS), indexing="ij")
    y, x = radius * np.cos(turn) + top, radius * np.sin(turn) + width / 2
    outline = Outline.draw(
        rng,
        (height * rng.uniform(0.42, 0.6), width * (0.5 + rng.uniform(-0.12, 0.12))),
        (rng.uniform(15, 26), rng.uniform(20, 36)),
        0.15,
    )
    decibels = _echoes(rng, y, x, height, outline)
    grey = np.clip((decibels + rng.uniform(38, 44)) * 255 / 60, 0, 255)

    rows, columns = np.mgrid[0:height, 0:width].astype(float)
    down, across = rows - top, columns - width / 2
    sample = (np.hypot(down, across) - near) / (far - near) * (_SAMPLES - 1)
    beam = (np.arctan2(across, down) / opening + 1) / 2 * (_BEAMS - 1)
    image = ndimage.map_coordinates(grey, [sample, beam], order=1, cval=0.0)
    seen = (sample >= 0) & (sample <= _SAMPLES - 1) & (beam >= 0) & (beam <= _BEAMS - 1)
    labels = LESION * ((outline.level(rows, columns) < 1) & seen)
    return Phantom(np.rint(image).astype(np.uint8), labels.astype(np.uint8))


def _echoes(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, height: int, outline: Outline) -> np.ndarray:
    """Echo strength in decibels at the samples y, x [samples, beams] (pixels): tissue, lesion, shadows, speckle."""
    strength = 2.5 * texture(rng, y.shape, (6, 14))
    for depth in (0.12, 0.22, rng.uniform(0.75, 0.9)):  # layers of skin, fat and muscle
        line = height * depth + 3 * texture(rng, y.shape, (40, 40))
        strength += 9 * np.exp(-(((y - line) / 1.6) ** 2))
    for _ in range(2):  # fat lobules and vessels: dark too, but faint or small
        middle = (height * rng.uniform(0.25, 0.9), x.mean() + rng.uniform(-55, 55))
        strength -= 4 * soft_step(Outline.draw(rng, middle, (9, 20), 0.1).level(y, x) - 1, 0.2)
        middle = (height * rng.uniform(0.25, 0.9), x.mean() + rng.uniform(-55, 55))
        strength -= 18 * soft_step(Outline.draw(rng, middle, (3, 5), 0.05).level(y, x) - 1, 0.2)
    level = outline.level(y, x)
    inside = soft_step(level - 1, rng.uniform(0.07, 0.18))
    contrast = rng.uniform(12, 18)
    strength = (1 - inside) * strength - inside * (contrast - 0.5 * strength)
    strength += 4 * np.exp(-(((level - 1.06) / 0.05) ** 2))
    passed = np.cumsum(inside, axis=0)
    strength += (1 - inside) * passed / passed.max() * rng.uniform(-8, 10)
    if rng.random() < 0.3:  # gas at the probe: a beam's width of shadow at one side
        strength -= 14 * np.exp(-(((x - x.mean() - rng.choice((-1, 1)) * 62) / 7) ** 2))
    strength -= rng.uniform(6, 12) * (y / height) ** 1.5
    real, imaginary = texture(rng, y.shape, (1.0, 1.5)), texture(rng, y.shape, (1.0, 1.5))
    return strength + 20 * np.log10(np.hypot(real, imaginary) / np.sqrt(2) + 1e-3)
