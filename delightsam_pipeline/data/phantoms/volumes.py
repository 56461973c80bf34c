"""Generated volumes that look like CT of a small abdomen and like MRI of a small head, with their labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from delightsam_pipeline.data.phantoms.shapes import Phantom, ellipsoid, texture

LIVER, KIDNEY = 1, 2
VENTRICLE, LESION = 1, 2


def _axes(shape: Sequence[int], spacing: Sequence[float]) -> list[np.ndarray]:
    """Coordinates in mm from the centre of the volume, broadcastable; z up, y to the back, x to the left."""
    lines = [(np.arange(size) - (size - 1) / 2) * step for size, step in zip(shape, spacing, strict=True)]
    return list(np.meshgrid(*lines, indexing="ij", sparse=True))


def _jitter(rng: np.random.Generator, values: Sequence[float], share: float) -> list[float]:
    return [value * rng.uniform(1 - share, 1 + share) for value in values]


def ct(rng: np.random.Generator) -> Phantom:
    """An abdomen in Hounsfield units, [z, y, x] int16, slices thicker than pixels; labels LIVER and KIDNEY."""
    shape = (int(rng.integers(18, 23)), int(rng.integers(92, 101)), int(rng.integers(108, 117)))
    in_plane = round(rng.uniform(0.74, 0.86), 3)
    spacing = (round(rng.uniform(3.5, 4.5), 2), in_plane, in_plane)
    half = [size * step / 2 for size, step in zip(shape, spacing, strict=True)]
    # From here on the body's half width, half depth and half height are 1.
    body = [half[0], half[1] * rng.uniform(0.72, 0.8), half[2] * rng.uniform(0.8, 0.88)]
    moved = [0.0, -half[1] * 0.08, half[2] * rng.uniform(-0.06, 0.06)]
    axes = [(axis - middle) / size for axis, middle, size in zip(_axes(shape, spacing), moved, body, strict=True)]
    wobble = [texture(rng, shape, [6.0 / step for step in spacing]) for _ in range(2)]
    depth = ellipsoid(axes, (0, 0, 0), (9, 1, 1)) * (1 + 0.02 * wobble[0])

    hounsfield = np.full(shape, -1000.0, np.float32)
    _draw_trunk(rng, hounsfield, axes, depth)
    _draw_bowel(rng, hounsfield, axes, depth)
    labels = _draw_organs(rng, hounsfield, axes, depth, wobble)
    _draw_spine(rng, hounsfield, axes)
    below = (axes[1] - 1.08 - 0.03 * axes[2] ** 2) * body[1] / in_plane
    table = np.where(np.abs(axes[2]) < 1.05, 1200 * np.exp(-((below / 1.2) ** 2)), 0)
    hounsfield += np.where(depth > 1.02, table, 0)
    return Phantom(_scan(rng, hounsfield, axes, depth), labels, spacing)


def _draw_trunk(rng: np.random.Generator, hounsfield: np.ndarray, axes: list[np.ndarray], depth: np.ndarray) -> None:
    """Skin, fat, the muscle wall with ribs, and the fat that the organs lie in."""
    z, y, x = axes
    wall = rng.uniform(0.84, 0.9)
    hounsfield[depth < 1] = 10
    hounsfield[depth < 0.97] = -100
    hounsfield[depth < wall] = 55
    turn = np.arctan2(y, x)
    ribs = (np.cos(9 * turn + 3 * z + rng.uniform(0, 6)) > 0.75) & (np.abs(depth - wall + 0.04) < 0.025)
    hounsfield[ribs] = 450
    hounsfield[depth < wall - 0.09] = -85
    for side in (-1, 1):
        back = ellipsoid(axes, (0, 0.68, side * 0.24), (9, 0.19, 0.2))
        hounsfield[(back < 1) & (depth < wall)] = 58


def _draw_spine(rng: np.random.Generator, hounsfield: np.ndarray, axes: list[np.ndarray]) -> None:
    """Vertebral bodies with soft marrow, discs between them, the canal and the spinous process."""
    z = axes[0]
    vertebra = ellipsoid(axes, (0, 0.47, 0), (9, 0.17, 0.15))
    bone = np.cos(2 * np.pi * (1.1 * z + rng.uniform())) > -0.8
    hounsfield[vertebra < 1] = 90
    hounsfield[(vertebra < 1) & bone] = 700
    hounsfield[(vertebra < 0.75) & bone] = rng.uniform(230, 330)
    arch = np.minimum(ellipsoid(axes, (0, 0.68, 0), (9, 0.1, 0.11)), ellipsoid(axes, (0, 0.82, 0), (9, 0.13, 0.035)))
    hounsfield[(arch < 1) & bone] = 600
    hounsfield[ellipsoid(axes, (0, 0.68, 0), (9, 0.065, 0.075)) < 1] = 30


def _draw_bowel(rng: np.random.Generator, hounsfield: np.ndarray, axes: list[np.ndarray], depth: np.ndarray) -> None:
    """Loops in the cavity, some with gas: soft tissue that is no organ."""
    for _ in range(16):
        centre = (rng.uniform(-1, 0.3), rng.uniform(-0.55, 0.2), rng.uniform(-0.5, 0.6))
        loop = ellipsoid(axes, centre, (rng.uniform(0.2, 0.5), rng.uniform(0.09, 0.16), rng.uniform(0.09, 0.18)))
        inside = depth < 0.74
        hounsfield[(loop < 1) & inside] = 50
        hounsfield[(loop < 0.75) & inside] = -900 if rng.random() < 0.25 else 15


def _draw_organs(
    rng: np.random.Generator,
    hounsfield: np.ndarray,
    axes: list[np.ndarray],
    depth: np.ndarray,
    wobble: list[np.ndarray],
) -> np.ndarray:
    """Stomach, spleen, great vessels, liver and kidneys; returns the labels of the last two."""
    cavity = depth < 0.755
    shift = rng.uniform(-0.12, 0.12)
    stomach = ellipsoid(axes, (0.35 + shift, -0.32, 0.34), _jitter(rng, (0.6, 0.3, 0.26), 0.15)) + 0.08 * wobble[0]
    hounsfield[(stomach < 1) & cavity] = 55
    hounsfield[(stomach < 0.85) & cavity] = 20
    hounsfield[(stomach < 0.85) & cavity & (axes[1] < -0.42)] = -980
    blood = rng.uniform(120, 170)
    parenchyma = rng.uniform(90, 125)
    spleen = ellipsoid(axes, (0.5 + shift, 0.12, 0.62), _jitter(rng, (0.55, 0.3, 0.17), 0.15)) + 0.08 * wobble[1]
    hounsfield[(spleen < 1) & cavity] = parenchyma + rng.uniform(5, 20)
    hounsfield[ellipsoid(axes, (0, 0.22, 0.07), (9, 0.085, 0.07)) < 1] = blood + 20
    hounsfield[ellipsoid(axes, (0, 0.24, -0.14), (9, 0.06, 0.08)) < 1] = blood

    right = ellipsoid(axes, (0.35 + shift, -0.05, -0.45), _jitter(rng, (1.0, 0.58, 0.38), 0.12))
    left = ellipsoid(axes, (0.6 + shift, -0.38, -0.08), _jitter(rng, (0.6, 0.27, 0.36), 0.15))
    liver = (np.minimum(right, left) + 0.07 * wobble[0] + 0.05 * wobble[1] < 1) & cavity
    liver &= ellipsoid(axes, (0, 0.36, 0), (9, 0.34, 0.27)) > 1
    kidney, near_kidney = _draw_kidneys(rng, hounsfield, axes, wobble, shift)
    liver &= ~near_kidney
    grain = texture(rng, liver.shape, (1.5, 4, 4))
    hounsfield[liver] = parenchyma
    hounsfield[liver & (np.abs(grain) < 0.07)] = blood
    cyst = ellipsoid(axes, (0.3 + shift, rng.uniform(-0.3, 0), rng.uniform(-0.6, -0.4)), (0.25, 0.09, 0.075)) < 1
    if rng.random() < 0.4:
        hounsfield[liver & cyst] = 20
    return (LIVER * liver + KIDNEY * kidney).astype(np.uint8)


def _draw_kidneys(
    rng: np.random.Generator, hounsfield: np.ndarray, axes: list[np.ndarray], wobble: list[np.ndarray], shift: float
) -> tuple[np.ndarray, np.ndarray]:
    """Both kidneys without their fatty hollow; returns them, and where the liver cannot be for them."""
    kidney = np.zeros(hounsfield.shape, bool)
    near = kidney.copy()
    cortex = rng.uniform(170, 230)
    for side in (-1, 1):
        z, y, x = -0.25 + shift + rng.uniform(-0.1, 0.1), 0.4 + rng.uniform(-0.04, 0.04), side * rng.uniform(0.42, 0.48)
        radii = _jitter(rng, (0.62, 0.2, 0.155), 0.12)
        bean = ellipsoid(axes, (z, y, x), radii) + 0.04 * wobble[0]
        hollow = ellipsoid(axes, (z, y - 0.03, x - side * 0.13), (0.3, 0.075, 0.11)) < 1
        hounsfield[(bean < 1.25) & (hounsfield > -500)] = -95
        hounsfield[(bean < 1) & ~hollow] = cortex
        hounsfield[(bean < 0.65) & ~hollow] = cortex - 35
        bed = ellipsoid(axes, (z, y + 0.25, x - side * 0.05), (1.2 * radii[0], 0.34, 0.32))  # no liver behind a kidney
        near |= (bean < 1.25) | (bed < 1)
        kidney |= (bean < 1) & ~hollow
    return kidney, near


def _scan(rng: np.random.Generator, hounsfield: np.ndarray, axes: list[np.ndarray], depth: np.ndarray) -> np.ndarray:
    """Blur, tissue texture, streaks around the spine and noise that grows where more body is in the way."""
    shape = hounsfield.shape
    image = ndimage.gaussian_filter(hounsfield, (0.25, 0.6, 0.6))
    thickness = np.clip(1 - depth, 0, 1)
    turn = np.arctan2(axes[1] - 0.47, axes[2])
    angles = np.linspace(-np.pi, np.pi, 181)
    rays = texture(rng, (181,), 1.2) * 14
    reach = np.exp(-np.hypot(axes[1] - 0.47, axes[2]) / 0.5)
    streaks = np.interp(turn, angles, rays) * reach
    noise = texture(rng, shape, (0, 0.6, 0.6)) * rng.uniform(12, 24) * (0.6 + 1.4 * thickness)
    tissue = texture(rng, shape, (1, 2, 2)) * 6
    image += np.where(depth < 1.02, streaks + tissue, 0) + noise
    return np.clip(np.rint(image), -1024, 3071).astype(np.int16)


def mri(rng: np.random.Generator) -> Phantom:
    """A head on an arbitrary scale, [z, y, x] float32, 1 mm cubes, 0 outside; labels VENTRICLE and mostly LESION."""
    shape = (int(rng.integers(34, 39)), int(rng.integers(54, 59)), int(rng.integers(46, 51)))
    half = [size / 2 * rng.uniform(0.88, 0.94) for size in shape]
    half[0] = shape[0] * 0.62  # the neck end is cut off
    z, y, x = _axes(shape, (1, 1, 1))
    tilt = rng.uniform(-0.12, 0.12)
    turned = (z, np.cos(tilt) * y + np.sin(tilt) * x, np.cos(tilt) * x - np.sin(tilt) * y)
    axes = [axis / size for axis, size in zip(turned, half, strict=True)]
    axes[0] = axes[0] + 0.2
    wobble = texture(rng, shape, 6.0)
    depth = ellipsoid(axes, (0, 0, 0), (1, 1, 1)) + 0.015 * wobble
    signal = np.zeros(shape, np.float32)
    for reach, value in ((1.0, 0.85), (0.92, 0.1), (0.85, 0.3)):  # scalp, skull, fluid
        signal[depth < reach] = value
    brain = depth < 0.81
    _draw_folds(rng, signal, depth)
    ventricle = _draw_ventricles(rng, axes, wobble) & (depth < 0.6)
    signal[ventricle] = rng.uniform(0.2, 0.4)
    labels = VENTRICLE * ventricle.astype(np.uint8)
    if rng.random() < 0.9:
        lesion = _draw_lesion(rng, signal, axes, brain & ~ventricle)
        labels[lesion] = LESION
    _draw_vessels(rng, signal, axes, brain & (labels == 0))
    return Phantom(_receive(rng, signal, depth), labels, (1.0, 1.0, 1.0))


def _draw_folds(rng: np.random.Generator, signal: np.ndarray, depth: np.ndarray) -> None:
    """White matter with a folded grey ribbon near the surface, and dark furrows."""
    folds = texture(rng, signal.shape, (1.8, 1.2, 1.2))
    brain = depth < 0.81
    signal[brain] = 0.68
    signal[brain & (depth + 0.06 * folds < 0.64)] = 1.0
    signal[brain & (depth > 0.66) & (folds > 1.1)] = 0.3  # sulci, as dark as the ventricles


def _draw_ventricles(rng: np.random.Generator, axes: list[np.ndarray], wobble: np.ndarray) -> np.ndarray:
    """Two horns that bend apart towards the back, thicker in some cases than in others."""
    width = rng.uniform(0.1, 0.18)
    middle = rng.uniform(0.05, 0.2)
    inside = np.zeros(wobble.shape, bool)
    for side in (-1, 1):
        bent = axes[2] - side * (0.15 + 0.16 * (axes[1] + 0.1) ** 2 + 0.12 * axes[1])
        horn = ellipsoid(
            (axes[0], axes[1], bent),
            (middle, 0.0, 0.0),
            (0.3, rng.uniform(0.38, 0.52), width * rng.uniform(0.85, 1.15)),
        )
        inside |= horn + 0.07 * wobble < 1
    return inside


def _draw_lesion(
    rng: np.random.Generator, signal: np.ndarray, axes: list[np.ndarray], allowed: np.ndarray
) -> np.ndarray:
    """A bright mass with a darker rim of swelling around it and, in some cases, a darker core."""
    side = rng.choice((-1, 1))
    centre = (rng.uniform(-0.15, 0.35), rng.uniform(-0.45, 0.45), side * rng.uniform(0.34, 0.5))
    radii = [rng.uniform(0.2, 0.3) * factor for factor in (1.1, 0.85, 1.0)]
    mass = ellipsoid(axes, centre, radii) + 0.13 * texture(rng, signal.shape, 3.0)
    signal[(mass < 1.45) & allowed] *= 0.82
    lesion = (mass < 1) & allowed & (side * axes[2] > 0.25)
    bright = rng.uniform(1.28, 1.55)
    signal[lesion] = bright
    if rng.random() < 0.4:
        signal[lesion & (mass < 0.5)] = bright - 0.25
    return lesion


def _draw_vessels(rng: np.random.Generator, signal: np.ndarray, axes: list[np.ndarray], allowed: np.ndarray) -> None:
    """Thin bright vessels along the midline and across the brain: bright, yet no lesion."""
    signal[(ellipsoid(axes, (0, 0.72, 0), (9, 0.06, 0.05)) < 1)] = 1.4
    for _ in range(5):
        y, x, slope = rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.6), rng.uniform(-0.5, 0.5)
        tube = ellipsoid((axes[1] - slope * axes[0], axes[2]), (y, x), (0.035, 0.045))
        signal[np.broadcast_to(tube < 1, signal.shape) & allowed] = 1.3


def _receive(rng: np.random.Generator, signal: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Blur, coil shading, Rician noise and a scale of the case's own; exactly 0 outside the head."""
    image = ndimage.gaussian_filter(signal, 0.65)
    image *= np.exp(0.2 * texture(rng, image.shape, 14.0)) * (1 + 0.04 * texture(rng, image.shape, 1.0))
    noise = rng.uniform(0.04, 0.085)
    real = image + noise * rng.standard_normal(image.shape, dtype=np.float32)
    image = np.hypot(real, noise * rng.standard_normal(image.shape, dtype=np.float32))
    scale = 10 ** rng.uniform(2, 3.5)
    return np.where(depth < 1.03, image * scale, 0).astype(np.float32)
