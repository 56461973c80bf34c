"""Generated pictures that look like photographs of the back of the eye, with their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from delightsam_pipeline.data.phantoms.shapes import Outline, Phantom, soft_step, strokes, texture

VESSEL = 1
_STEP = 2.0  # pixels from point to point of a vessel
_THINNEST = 2.2  # pixels; what is thinner is not drawn


@dataclass(frozen=True)
class _Eye:
    """Where things are, in pixels (y, x): the round field of view, the optic disc, the middle of sharp sight.

    side : 1 where the macula is on the right of the disc, else -1.
    """

    shape: tuple[int, int]
    centre: np.ndarray
    radius: float
    disc: np.ndarray
    macula: np.ndarray
    side: int

    def away(self, point: np.ndarray) -> np.ndarray:
        """Distance of every pixel from a point, [H, W]."""
        y, x = np.ogrid[0 : self.shape[0], 0 : self.shape[1]]
        return np.hypot(y - point[0], x - point[1])


def draw(rng: np.random.Generator) -> Phantom:
    """A fundus photograph, [H, W, 3] uint8, nearly 0 outside a round field of view; label VESSEL."""
    eye = _place(rng)
    arteries, veins = [], []
    for up in (-1, 1):
        for temporal in (True, False):
            for tree, width in ((arteries, rng.uniform(4.4, 5.8)), (veins, rng.uniform(5.6, 7.2))):
                tree += _tree(rng, eye, up, temporal, width)
    covers = strokes(eye.shape, arteries), strokes(eye.shape, veins)
    reflex = strokes(eye.shape, [(points, width * 0.3) for points, width in arteries]) * soft_step(
        0.2 * eye.radius - eye.away(eye.disc), 2.0
    )
    colour = _retina(rng, eye)
    contrast = rng.uniform(0.55, 1.0) * (1 + 0.15 * texture(rng, eye.shape, 18))
    for cover, keep in zip(covers, ((0.86, 0.62, 0.66), (0.72, 0.45, 0.55)), strict=True):
        stain = ndimage.gaussian_filter(cover, 0.5) * np.clip(contrast, 0.4, 1.1)
        colour *= 1 - stain[..., None] * (1 - np.array(keep))
    colour *= 1 + rng.uniform(0, 0.25) * reflex[..., None] * np.array([0.7, 1.0, 0.8])
    inside = eye.away(eye.centre) - eye.radius
    labels = VESSEL * ((np.maximum(*covers) > 0.5) & (inside < 0))
    return Phantom(_photograph(rng, colour, inside), labels.astype(np.uint8))


def _place(rng: np.random.Generator) -> _Eye:
    shape = (int(rng.integers(322, 331)), int(rng.integers(324, 337)))
    radius = min(shape) * rng.uniform(0.465, 0.49)
    side = int(rng.choice((-1, 1)))
    centre = np.array(shape) / 2 + rng.uniform(-3, 3, 2)
    disc = centre + radius * np.array([rng.uniform(-0.1, 0.1), -side * rng.uniform(0.05, 0.6)])
    macula = disc + radius * np.array([rng.uniform(0.02, 0.12), side * rng.uniform(0.62, 0.7)])
    return _Eye(shape, centre, radius, disc, macula, side)


def _tree(rng: np.random.Generator, eye: _Eye, up: int, temporal: bool, width: float) -> list:
    """One of the great vessels from the disc with its branches, as strokes; up is -1 for the upper half."""
    toward = eye.side if temporal else -eye.side
    first = np.arctan2(up * rng.uniform(1.6, 4), toward)
    bent = rng.uniform(0.0, 0.25) if temporal else rng.uniform(0.2, 1.2)  # an arc round the macula, or away from it
    final = np.arctan2(up * bent, toward)
    start = eye.disc + rng.uniform(-0.04, 0.04, 2) * eye.radius
    curves, waiting = [], [(start, first, final, width, 0)]
    while waiting:
        start, heading, final, width, order = waiting.pop()
        points, widths, headings = _vessel(rng, eye, start, heading, final, width, order)
        if len(points) < 4:
            continue
        curves.append((points, widths))
        if order == 2:
            continue
        place, hand = int(rng.integers(6, 16)), int(rng.choice((-1, 1)))
        while place < len(points) - 3:
            turn = headings[place] + hand * rng.uniform(0.5, 1.1)
            branch = widths[place] * rng.uniform(0.6, 0.85)
            waiting.append((points[place], turn, turn - hand * rng.uniform(-0.3, 0.5), branch, order + 1))
            place, hand = place + int(rng.integers(10, 24)), -hand
    return curves


def _vessel(
    rng: np.random.Generator, eye: _Eye, start: np.ndarray, heading: float, final: float, width: float, order: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One vessel that turns from `heading` to `final` (radians): points [n, 2], width and heading at each."""
    turn = (final - heading + np.pi) % (2 * np.pi) - np.pi
    reach = eye.radius * rng.uniform(0.5, 0.8)
    wave, phase = rng.uniform(12, 22), rng.uniform(0, 2 * np.pi)
    wind = rng.uniform(0.05, 0.3)
    points, widths, headings = [start], [width], [heading]
    for number in range(400):
        gone = number * _STEP
        now = heading + turn * (1 - np.exp(-gone / reach * 2)) + wind * np.sin(gone / wave + phase)
        point = points[-1] + _STEP * np.array([np.sin(now), np.cos(now)])
        width *= 1 - 0.005 * (1 + order)
        near = np.hypot(*(point - eye.macula)) < 0.17 * eye.radius
        if width < _THINNEST or near or np.hypot(*(point - eye.centre)) > eye.radius + 4:
            break
        points.append(point)
        widths.append(width)
        headings.append(now)
    return np.array(points), np.array(widths), np.array(headings)


def _retina(rng: np.random.Generator, eye: _Eye) -> np.ndarray:
    """Everything but vessels, [H, W, 3] in 0 to 255: the ground, the macula, the disc and, in some, disease."""
    tones = np.array([[226, 118, 56], [176, 78, 34], [220, 84, 34]])
    base = rng.dirichlet((1, 1, 1)) @ tones
    cloud, grain = texture(rng, eye.shape, 25), texture(rng, eye.shape, 1.4)
    choroid = np.abs(texture(rng, eye.shape, (5, 5)))
    shade = 1 + 0.05 * cloud + 0.02 * grain + rng.uniform(0, 0.07) * np.clip(1 - choroid, 0, 1)
    colour = base * shade[..., None]
    dark = rng.uniform(0.25, 0.45) * np.exp(-((eye.away(eye.macula) / (0.17 * eye.radius)) ** 2))
    colour *= 1 - dark[..., None] * np.array([0.7, 1.0, 0.8])
    _disease(rng, eye, colour)
    y, x = np.mgrid[0 : eye.shape[0], 0 : eye.shape[1]].astype(float)
    size = eye.radius * rng.uniform(0.15, 0.19)
    rim = Outline.draw(rng, tuple(eye.disc), (size * 1.06, size * 0.94), 0.03).level(y, x)
    cover = soft_step(rim - 1, rng.uniform(0.06, 0.15))[..., None]
    colour += cover * (np.array([250, 186, 96]) * rng.uniform(0.88, 1.0) - colour)
    cup = np.hypot(y - eye.disc[0], x - eye.disc[1] - 0.15 * eye.side * size) / (size * rng.uniform(0.35, 0.6))
    colour += soft_step(cup - 1, 0.25)[..., None] * np.array([4, 40, 45])
    return colour


def _disease(rng: np.random.Generator, eye: _Eye, colour: np.ndarray) -> None:
    """Spots of blood, as dark as vessels, and yellow deposits, in some cases; changes `colour`."""
    for largest, keep in ((8, (0.68, 0.4, 0.5)), (6, (1.12, 1.5, 1.5))):
        count = max(0, rng.integers(-6, 14))
        middles = eye.centre + rng.uniform(-0.75, 0.75, (count, 2)) * eye.radius
        spots = strokes(eye.shape, [(middle[None], rng.uniform(2, largest)) for middle in middles])
        cover = rng.uniform(0.5, 1.0) * ndimage.gaussian_filter(spots, 0.7)
        colour *= 1 + cover[..., None] * (np.array(keep) - 1)


def _photograph(rng: np.random.Generator, colour: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Uneven light, haze, the black surround and noise; [H, W, 3] uint8. `inside` is less than 0 in the view."""
    height, width = inside.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    middle = rng.uniform(-0.35, 0.35, 2)
    light = rng.uniform(0.85, 1.12) - rng.uniform(0.2, 0.5) * ((y - middle[0]) ** 2 + (x - middle[1]) ** 2)
    colour = ndimage.gaussian_filter(colour * np.clip(light, 0.15, None)[..., None], (0.7, 0.7, 0))
    haze = rng.uniform(0, 0.15)
    colour = (1 - haze) * colour + haze * np.array([190, 110, 60])
    colour = colour * soft_step(inside, 1.2)[..., None] + 4
    colour += rng.uniform(1.5, 4.5) * rng.standard_normal(colour.shape) * (0.3 + 0.7 * (inside < 0))[..., None]
    return np.clip(np.rint(colour), 0, 255).astype(np.uint8)
