"""Generated pictures that look like ultrasound and like dermoscopy, with their labels."""

from __future__ import annotations

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw
from scipy import ndimage

from delightsam_pipeline.data.phantom_shapes import Outline, Phantom, soft_step, texture

LESION = 1
_BEAMS, _SAMPLES = 192, 288  # beams across the sector, echoes along each


def ultrasound(rng: np.random.Generator) -> Phantom:
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


def photo(rng: np.random.Generator) -> Phantom:
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
