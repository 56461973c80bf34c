"""Generated pictures that look like colonoscopy, with their labels."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from delightsam_pipeline.data.phantoms.shapes import Outline, Phantom, soft_step, texture

POLYP = 1


def draw(rng: np.random.Generator) -> Phantom:
    """The inside of a bowel, [H, W, 3] uint8, nearly 0 in the rounded corners; label POLYP.

    A height over the picture's plane is lit from the camera: walls with folds around the lumen, and the polyp, whose
    colour is nearly that of the wall.
    """
    shape = (int(rng.integers(184, 217)), int(rng.integers(216, 261)))
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(float)
    frame = _frame(rng, y, x)
    lumen = np.array(shape) * rng.uniform((0.2, 0.2), (0.8, 0.8))
    polyp = _polyp(rng, y, x, frame, lumen)
    size = np.sqrt(polyp.radii[0] * polyp.radii[1])
    level = polyp.level(y, x)
    cover = soft_step(level - 1, 0.07)
    height, lit = _walls(rng, y, x, lumen)
    bump = rng.uniform(0.75, 1.1) * size * np.sqrt(np.clip(1.02 - level**2, 0, 1))
    height = height * (1 - 0.7 * cover) + bump + 0.6 * texture(rng, shape, 3.5) * cover
    wall = lit[int(polyp.centre[0]), int(polyp.centre[1])]
    lit = lit * _shadow(rng, polyp, y, x, lumen)
    lit = lit * (1 - cover) + cover * (0.4 * lit + 0.1 + 0.55 * wall)
    shade, glint = _light(rng, ndimage.gaussian_filter(height, 1.8), cover, y, x)
    colour = _tissue(rng, shape, cover) * (lit * shade)[..., None] ** np.array([0.85, 1.05, 1.15])
    colour += (glint * np.clip(2.5 * lit, 0, 1))[..., None] * (np.array([255, 250, 245]) - colour)
    labels = POLYP * ((level < 1) & (frame < 0))
    return Phantom(_record(rng, colour, frame), labels.astype(np.uint8))


def _frame(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Distance in pixels from what the scope shows, less than 0 inside: a picture with cut or round corners."""
    half = np.array(y.shape) / 2 - rng.uniform(2, 8, 2)
    down, across = np.abs(y - y.shape[0] / 2), np.abs(x - y.shape[1] / 2)
    corner = rng.uniform(0.3, 0.6) * half.min()
    if rng.random() < 0.5:
        cut = (down + across - half.sum() + corner) / np.sqrt(2)
        return np.maximum.reduce([down - half[0], across - half[1], cut])
    beyond = np.stack([down - half[0], across - half[1]]) + corner
    return np.hypot(*np.clip(beyond, 0, None)) + np.minimum(beyond.max(axis=0), 0) - corner


def _polyp(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, frame: np.ndarray, lumen: np.ndarray) -> Outline:
    """Where the polyp is: in view, off the lumen, larger towards the camera."""
    size = rng.uniform(14, 38)
    allowed = (frame < -0.6 * size) & (np.hypot(y - lumen[0], x - lumen[1]) > 22 + size)
    place = rng.choice(np.flatnonzero(allowed))
    longer = rng.uniform(1.0, 1.35)
    centre = (float(y.flat[place]), float(x.flat[place]))
    radii = (size * longer, size / longer) if rng.random() < 0.5 else (size / longer, size * longer)
    return Outline.draw(rng, centre, radii, 0.07)


def _shadow(rng: np.random.Generator, polyp: Outline, y: np.ndarray, x: np.ndarray, lumen: np.ndarray) -> np.ndarray:
    """Share of light left around the polyp, least on its far side, that of the lumen."""
    size = np.sqrt(polyp.radii[0] * polyp.radii[1])
    away = np.array(polyp.centre) - lumen
    behind = (y - polyp.centre[0]) * away[0] + (x - polyp.centre[1]) * away[1] < 0
    side = 0.3 + 0.7 * ndimage.gaussian_filter(behind.astype(float), 0.4 * size)
    return 1 - rng.uniform(0.2, 0.5) * side * np.exp(-np.clip(polyp.level(y, x) - 1, 0, None) / 0.25)


def _walls(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, lumen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height of the walls in pixels, and how much light reaches them: folds cross the way to the dark lumen."""
    shape = y.shape
    away = np.hypot(y - lumen[0], (x - lumen[1]) * rng.uniform(0.75, 1.0)) + 5 * texture(rng, shape, 22)
    away = np.clip(away, 1, None)
    phase = np.log(away / 8) * rng.uniform(1.7, 3.0) + 0.3 * texture(rng, shape, 26) + rng.random()
    fold = phase % 1.0  # 0 at a crest, which stands before what is further in
    strength = np.clip(0.7 + 0.5 * texture(rng, shape, 30), 0, 1.4) * rng.uniform(0.5, 1.0)
    crest = ndimage.gaussian_filter(np.exp(-fold / 0.25), 1.2)
    height = 5 * texture(rng, shape, 20) + 5 * strength * crest
    lit = 1 - np.exp(-((away / rng.uniform(45, 80)) ** 1.3))
    lit = lit * (1 + 0.5 * strength * (crest - 0.45)) * (1 - 0.45 * strength * soft_step(0.8 - fold, 0.1))
    return height, np.clip(ndimage.gaussian_filter(lit, 0.8), 0.03, None)


def _light(
    rng: np.random.Generator, height: np.ndarray, cover: np.ndarray, y: np.ndarray, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How bright the surface is by its slope (about 1 where it faces the lamp), and its wet glints (0 to 1)."""
    shape = height.shape
    lamp = np.array(shape) * rng.uniform(0.35, 0.65, 2)
    far = 1.1 * shape[1]
    slope_y, slope_x = np.gradient(height)
    to_y, to_x = (lamp[0] - y) / far, (lamp[1] - x) / far
    facing = (1 - slope_y * to_y - slope_x * to_x) / np.sqrt((1 + slope_y**2 + slope_x**2) * (1 + to_y**2 + to_x**2))
    fine_y, fine_x = np.gradient(height + 1.2 * texture(rng, shape, 4))
    off = np.hypot(fine_y - to_y, fine_x - to_x)
    wet = soft_step(rng.uniform(0.9, 1.7) - texture(rng, shape, 7), 0.15)
    wet = np.maximum(wet, cover * rng.random())
    glint = soft_step(off - rng.uniform(0.16, 0.26), 0.04) * wet
    return 0.2 + 0.9 * np.clip(facing, 0.1, 1), ndimage.gaussian_filter(glint, 0.5)


def _tissue(rng: np.random.Generator, shape: tuple[int, int], cover: np.ndarray) -> np.ndarray:
    """Colour of mucosa with its fine vessels, of the polyp, and in some of what was not washed away, [H, W, 3]."""
    base = rng.dirichlet((1, 1, 1)) @ np.array([[214, 116, 94], [218, 134, 66], [196, 84, 66]])
    blotch = 1 + 0.05 * texture(rng, shape, 16)[..., None] * np.array([0.4, 1.0, 1.0])
    colour = base * blotch * (1 + 0.025 * texture(rng, shape, 1.5)[..., None])
    lines = np.exp(-((texture(rng, shape, 8) / 0.09) ** 2)) * soft_step(-texture(rng, shape, 20), 0.5)
    colour *= 1 - rng.uniform(0.05, 0.25) * (lines * (1 - cover))[..., None] * np.array([0.4, 1.0, 0.8])
    own = rng.uniform((0.95, 0.78, 0.8), (1.08, 1.04, 1.12))
    pits = 1 + rng.uniform(0.02, 0.08) * texture(rng, shape, 2.0)
    colour *= 1 + cover[..., None] * (own * pits[..., None] - 1)
    residue = soft_step(rng.uniform(1.9, 4.0) - texture(rng, shape, 6), 0.2)
    return colour + 0.6 * residue[..., None] * (np.array([196, 168, 70]) - colour)


def _record(rng: np.random.Generator, colour: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """The camera's exposure, its softness and noise, black around the view; [H, W, 3] uint8."""
    colour = ndimage.gaussian_filter(colour * rng.uniform(0.85, 1.25), (0.7, 0.7, 0))
    colour = 255 * (1 - np.exp(-1.5 * colour / 255)) / (1 - np.exp(-1.5))
    colour = colour * soft_step(frame, 0.8)[..., None] + rng.uniform(4, 16)
    colour += rng.uniform(1.5, 4) * rng.standard_normal(colour.shape)
    return np.clip(np.rint(colour), 0, 255).astype(np.uint8)
