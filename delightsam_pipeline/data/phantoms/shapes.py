"""What the generated examples are drawn with: smooth noise, wobbly outlines, soft edges, strokes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw
from scipy import ndimage


@dataclass(frozen=True)
class Phantom:
    """One drawn case.

    image : [z, y, x], [H, W] or [H, W, 3], in the type it is stored in.
    labels : [z, y, x] or [H, W] uint8.
    spacing : mm along z, y, x; None for pictures.
    """

    image: np.ndarray
    labels: np.ndarray
    spacing: tuple[float, float, float] | None = None


def texture(rng: np.random.Generator, shape: Sequence[int], sigma: float | Sequence[float]) -> np.ndarray:
    """Noise of `shape` smoothed by `sigma` (voxels, one or per axis), with mean 0 and standard deviation 1."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, sigma, mode="reflect", truncate=3.0)
    return (noise - noise.mean()) / noise.std()


def soft_step(distance: np.ndarray, width: float) -> np.ndarray:
    """1 where `distance` is well below 0, 0 well above, with an edge about `width` wide."""
    return 0.5 - 0.5 * np.tanh(distance / width)


def ellipsoid(axes: Sequence[np.ndarray], centre: Sequence[float], radii: Sequence[float]) -> np.ndarray:
    """Relative distance from the centre: 1 on the surface, less inside. `axes` are broadcastable coordinates."""
    parts = zip(axes, centre, radii, strict=True)
    return np.sqrt(sum(((axis - middle) / radius) ** 2 for axis, middle, radius in parts))


@dataclass(frozen=True)
class Outline:
    """A closed curve in the plane: a turned ellipse whose radius swells and shrinks around it.

    centre, radii : pixels, along y and x before turning. angle : radians.
    waves : (swings around the curve, share of the radius, phase) each.
    """

    centre: tuple[float, float]
    radii: tuple[float, float]
    angle: float
    waves: tuple[tuple[int, float, float], ...]

    @staticmethod
    def draw(
        rng: np.random.Generator, centre: tuple[float, float], radii: tuple[float, float], roughness: float
    ) -> Outline:
        """An outline around `centre` with random turn and waves; `roughness` is the share of the radius they move."""
        waves = tuple((k, roughness * rng.uniform(0.4, 1.0) / k**0.7, rng.uniform(0, 2 * np.pi)) for k in range(2, 8))
        return Outline(centre, radii, rng.uniform(-0.5, 0.5), waves)

    def level(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Relative distance from the centre at y, x (pixels): 1 on the curve, less inside."""
        y, x = y - self.centre[0], x - self.centre[1]
        along = (np.cos(self.angle) * y + np.sin(self.angle) * x) / self.radii[0]
        across = (np.cos(self.angle) * x - np.sin(self.angle) * y) / self.radii[1]
        turn = np.arctan2(along, across)
        radius = 1 + sum(share * np.cos(swings * turn + phase) for swings, share, phase in self.waves)
        return np.hypot(along, across) / radius


def strokes(shape: tuple[int, int], curves: Sequence[tuple[np.ndarray, np.ndarray | float]]) -> np.ndarray:
    """How much of each pixel of `shape` round-ended curves cover, [H, W] in 0 to 1.

    curves : points [n, 2] (y, x in pixels) and the width there (pixels, one or n).
    """
    finer = 4
    mask = Picture.new("L", (shape[1] * finer, shape[0] * finer))
    pen = ImageDraw.Draw(mask)
    for points, width in curves:
        corners = [tuple(corner) for corner in (points[:, ::-1] + 0.5) * finer]
        widths = np.broadcast_to(np.asarray(width) * finer, len(corners))
        for (x, y), size in zip(corners, widths / 2, strict=True):
            pen.ellipse((x - size, y - size, x + size, y + size), fill=255)
        for start, end, size in zip(corners[:-1], corners[1:], widths[1:], strict=True):
            pen.line((start, end), fill=255, width=max(1, round(size)))
    return np.asarray(mask.resize(shape[::-1], Picture.Resampling.BOX), np.float32) / 255
