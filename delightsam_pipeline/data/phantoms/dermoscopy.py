"""Generated pictures that look like dermoscopy, with their labels."""

from __future__ import annotations

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw
from scipy import ndimage

from delightsam_pipeline.data.phantoms.shapes import Outline, Phantom, soft_step, texture

LESION = 1


def draw(rng: np.random.Generator) -> Phantom:
    """A dermoscopy picture, [H, W, 3] uint8; label LESION."""
    height, width = int(rng.integers(165, 201)), int(rng.integers(220, 261))
    y, x = np.mgrid[0:height, 0:width].astype(float)
    radii = (rng.uniform(24, 52), rng.uniform(30, 66))
    middle = (height * (0.5 + rng.uniform(-0.1, 0.1)), width * (0.5 + rng.uniform(-0.1, 0.1)))
    outline = Outline.draw(rng, middle, radii, 0.1)
    colour = _skin(rng, y, x)
    level = outline.level(y, x)
    _pigment(rng, colour, level)
    _light(rng, colour, y, x)
    _hairs(rng, colour)
    colour = ndimage.gaussian_filter(colour, (0.6, 0.6, 0))
    colour += rng.normal(0, 2.5, colour.shape)
    labels = LESION * (level < 1)
    return Phantom(np.clip(np.rint(colour), 0, 255).astype(np.uint8), labels.astype(np.uint8))


def _skin(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Skin of the case's own tone, blotchy, with redness and freckles, [H, W, 3] in 0 to 255."""
    tone = rng.uniform(0, 1)
    base = (1 - tone) * np.array([232, 190, 170]) + tone * np.array([196, 142, 112])
    blotches = 1 + 0.025 * texture(rng, y.shape, 12) + 0.018 * texture(rng, y.shape, 1.5)
    colour = base * blotches[..., None]
    red = np.clip(texture(rng, y.shape, 22), 0, None) * rng.uniform(0, 0.06)
    colour *= 1 - red[..., None] * np.array([0.1, 1.0, 0.8])
    for _ in range(rng.integers(3, 12)):
        centre = (rng.uniform(0, y.shape[0]), rng.uniform(0, y.shape[1]))
        size = rng.uniform(1.5, 4)
        spot = soft_step(Outline.draw(rng, centre, (size, size), 0.15).level(y, x) - 1, 0.4)
        colour *= 1 - spot[..., None] * rng.uniform(0.1, 0.3) * np.array([0.5, 0.9, 1.0])
    return colour


def _pigment(rng: np.random.Generator, colour: np.ndarray, level: np.ndarray) -> None:
    """The lesion: brown of some depth, blotches, a net or globules, and in some a blue-grey veil; changes `colour`."""
    shape = level.shape
    cover = soft_step(level - 1, rng.uniform(0.05, 0.12))
    shade = np.array([0.74, 0.6, 0.53]) - rng.uniform(0, 0.3)
    blotch = 1 + 0.16 * texture(rng, shape, 7)
    net = np.abs(texture(rng, shape, rng.uniform(1.6, 2.4)))
    globules = texture(rng, shape, 2.2) > 1.3
    fine = 0.9 + 0.14 * np.clip(net, 0, 1) if rng.random() < 0.5 else 1 - 0.22 * globules
    core = 1 - rng.uniform(0, 0.35) * soft_step(level - 0.55, 0.2)
    stain = np.clip(blotch * fine * core, 0.35, 1.25)[..., None] * shade
    colour *= 1 + cover[..., None] * (stain - 1)
    if rng.random() < 0.3:
        veil = 0.5 * soft_step(level - 0.7, 0.1) * soft_step(-texture(rng, shape, 14), 0.3)
        colour += veil[..., None] * (np.array([95, 105, 130]) - colour)


def _light(rng: np.random.Generator, colour: np.ndarray, y: np.ndarray, x: np.ndarray) -> None:
    """Uneven lighting, the lens' fall-off and, in some, the tube's black corners; changes `colour`."""
    height, width = y.shape
    down, across = 2 * y / height - 1, 2 * x / width - 1
    slope = rng.uniform(-0.1, 0.1, 2)
    distance = np.hypot(y - height / 2, x - width / 2) / np.hypot(height / 2, width / 2)
    light = 1 + slope[0] * down + slope[1] * across - rng.uniform(0.1, 0.35) * distance**2
    if rng.random() < 0.25:
        light = light * soft_step(distance - rng.uniform(0.8, 0.92), 0.03)
    for _ in range(rng.integers(0, 4)):  # bubbles in the gel: a bright rim with a glint
        centre = (rng.uniform(0, height), rng.uniform(0, width))
        away = np.hypot(y - centre[0], x - centre[1])
        light = light + 0.12 * np.exp(-(((away - rng.uniform(4, 9)) / 1.0) ** 2))
    colour *= np.clip(light, 0.04, None)[..., None]


def _hairs(rng: np.random.Generator, colour: np.ndarray) -> None:
    """Dark curved hairs across the picture, none in some cases; changes `colour`."""
    height, width = colour.shape[:2]
    finer = 4
    mask = Picture.new("L", (width * finer, height * finer))
    pen = ImageDraw.Draw(mask)
    along = np.linspace(0, 1, 24)[:, None]
    for _ in range(max(0, rng.integers(-4, 14))):
        start = rng.uniform(0, 1, 2) * (width, height)
        heading, length = rng.uniform(0, 2 * np.pi), rng.uniform(60, 180)
        end = start + length * np.array([np.cos(heading), np.sin(heading)])
        bend = (start + end) / 2 + rng.uniform(-25, 25, 2)
        curve = (1 - along) ** 2 * start + 2 * along * (1 - along) * bend + along**2 * end
        pen.line([tuple(point) for point in curve * finer], fill=255, width=int(rng.integers(3, 8)))
    cover = np.asarray(mask.resize((width, height), Picture.Resampling.BOX), float)[..., None] / 255
    colour += 0.8 * cover * (np.array([45, 32, 26]) - colour)
