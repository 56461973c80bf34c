"""The images that modality identification is tried on beside real ones: variants of them, and made look-alikes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import PIL.Image
from scipy import ndimage

from delightsam_pipeline.data.image import Grid, Image

Picture = np.ndarray  # [H, W] or [H, W, 3], uint8


def as_image(array: Picture) -> Image:
    """A picture as the readers give it."""
    channels = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    return Image(np.ascontiguousarray(channels[:, None]), Grid.picture(*array.shape[:2]))


def as_picture(image: Image) -> Picture:
    """The picture in an image of one slice."""
    array = image.array[:, 0]
    return array[0] if len(array) == 1 else np.moveaxis(array[:3], 0, -1)


def volume(array: np.ndarray, like: Image) -> Image:
    """A volume [z, y, x] on the grid of another."""
    return Image(array[None], like.grid)


def _jpeg(array: Picture) -> Picture:
    file = io.BytesIO()
    PIL.Image.fromarray(array).save(file, "JPEG", quality=30)
    return np.asarray(PIL.Image.open(file))


def resized(array: Picture, factor: float) -> Picture:
    size = [max(32, round(side * factor)) for side in array.shape[1::-1]]
    return np.asarray(PIL.Image.fromarray(array).resize(size, PIL.Image.Resampling.BILINEAR))


def _cropped(array: Picture, share: float, at: tuple[float, float]) -> Picture:
    height, width = (round(side * share) for side in array.shape[:2])
    top, left = (
        round((side - new) * where) for side, new, where in zip(array.shape, (height, width), at, strict=False)
    )
    return array[top : top + height, left : left + width]


def _stretched(array: Picture) -> Picture:
    low, high = np.percentile(array, [2, 98])
    return np.clip((array - low) * 255.0 / max(1, high - low), 0, 255).astype(np.uint8)


def _gamma(array: Picture, exponent: float) -> Picture:
    return np.rint(255 * (array / 255.0) ** exponent).astype(np.uint8)


def _noisy(array: Picture) -> Picture:
    noise = np.random.default_rng(0).normal(0, 12, array.shape)
    return np.clip(array + noise, 0, 255).astype(np.uint8)


def _grey(array: Picture) -> Picture:
    return array if array.ndim == 2 else np.asarray(PIL.Image.fromarray(array).convert("L"))


def _framed(array: Picture) -> Picture:
    """With the black rounded frame of an endoscope."""
    height, width = array.shape[:2]
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    seen = (abs(y) < 0.95) & (abs(x) < 0.95) & (abs(x) + abs(y) < 1.55)
    return array * (seen if array.ndim == 2 else seen[..., None])


VARIANTS: dict[str, Callable[[Picture], Picture]] = {
    "JPEG of quality 30": _jpeg,
    "half size": lambda a: resized(a, 0.5),
    "quarter size": lambda a: resized(a, 0.25),
    "double size": lambda a: resized(a, 2),
    "middle, 60 %": lambda a: _cropped(a, 0.6, (0.5, 0.5)),
    "corner, 50 %": lambda a: _cropped(a, 0.5, (0.1, 0.2)),
    "contrast stretched": _stretched,
    "gamma 0.5": lambda a: _gamma(a, 0.5),
    "gamma 2": lambda a: _gamma(a, 2),
    "noise": _noisy,
    "blur": lambda a: ndimage.gaussian_filter(a, (1.5, 1.5, 0)[: a.ndim]),
    "turned by 90 degrees": lambda a: np.rot90(a),
    "inverted": lambda a: 255 - a,
    "framed in black": _framed,
    "grey": _grey,
}


def slice_pictures(image: Image, low: float, high: float) -> Iterator[Picture]:
    """Slices of a volume along its three axes as 8-bit pictures, `low` black and `high` white."""
    array = np.clip((image.array[0].astype(float) - low) / (high - low), 0, 1)
    for axis in range(3):
        spacing = [step for number, step in enumerate(image.grid.spacing) if number != axis]
        for share in (0.35, 0.5, 0.65):
            plane = np.take(array, int(share * array.shape[axis]), axis=axis)
            plane = ndimage.zoom(plane, [step / min(spacing) for step in spacing], order=1)
            if axis:
                plane = plane[::-1]
            scale = 256 / max(plane.shape)
            yield np.rint(255 * ndimage.zoom(plane, scale, order=1)).clip(0, 255).astype(np.uint8)


def chest_slice(rng: np.random.Generator, low: float, high: float) -> Picture:
    """An axial CT slice of a chest, drawn in HU, as an 8-bit picture of a window."""
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    wobble = 0.02 * rng.normal(size=4)
    body = (x / (0.85 + wobble[0])) ** 2 + (y / (0.62 + wobble[1])) ** 2
    picture = np.where(body < 1, np.where(body > 0.85, -100.0, 45.0), -1000.0)
    for side in (-1, 1):
        lung = ((x - side * 0.4) / 0.27) ** 2 + ((y + 0.02 + wobble[2]) / 0.42) ** 2
        vessels = 500 * (ndimage.gaussian_filter(rng.normal(size=x.shape), 2) > 0.17)
        picture = np.where(lung < 1, -850 + vessels, picture)
    heart = ((x - 0.1) / 0.25) ** 2 + ((y + 0.1) / 0.25) ** 2
    spine = (x / 0.09) ** 2 + ((y - 0.42) / 0.1) ** 2
    picture = np.where(spine < 1, 400, np.where(heart < 1, 60, picture))
    picture += rng.normal(0, 15, x.shape)
    return np.rint(255 * np.clip((picture - low) / (high - low), 0, 1)).astype(np.uint8)


def doppler(array: Picture, rng: np.random.Generator) -> Picture:
    """A grey ultrasound picture as RGB with a colour box."""
    colour = np.stack([_grey(array)] * 3, axis=-1)
    height, width = colour.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    flow = ndimage.gaussian_filter(rng.normal(size=(height, width)), 0.04 * min(height, width))
    box = (abs(y - height * rng.uniform(0.4, 0.6)) < 0.2 * height) & (abs(x - width * 0.5) < 0.2 * width)
    strength = np.clip(abs(flow) / abs(flow).max() * 1.5, 0.3, 1)
    for sign, parts in ((1, (230, 60, 20)), (-1, (20, 80, 230))):
        lit = box & (sign * flow > 0.4 * flow.std())
        colour[lit] = (strength[lit, None] * parts).astype(np.uint8)
    return colour


def oct_scan(rng: np.random.Generator) -> Picture:
    """A B-scan of a retina: bright layers with speckle between dark vitreous and dark depth."""
    height, width = 300, 480
    y, x = np.mgrid[0:height, 0:width].astype(float)
    line = height * rng.uniform(0.35, 0.5) + 20 * np.sin(x / width * np.pi * rng.uniform(0.6, 1.4) + rng.uniform(0, 3))
    depth = y - line - 14 * np.exp(-(((x - width / 2) / 45) ** 2)) * rng.uniform(0.3, 1)
    level = 0.05 + 0.03 * (depth > 0)
    for start, thick, value in ((0, 14, 0.55), (14, 12, 0.28), (26, 10, 0.4), (36, 26, 0.2), (62, 14, 0.8)):
        level = np.where((depth >= start) & (depth < start + thick), value, level)
    level += np.where(depth > 76, 0.3 * np.exp(-(depth - 76) / 30), 0)
    speckle = ndimage.gaussian_filter(rng.rayleigh(1, y.shape), (0.5, 1.0))
    grey = np.log1p(20 * level * speckle) / np.log1p(30)
    return np.rint(255 * np.clip(grey, 0, 1)).astype(np.uint8)


def pet_volume(rng: np.random.Generator, whole_body: bool) -> Image:
    """SUV of a trunk (or a head) with hot organs and lesions, blurred as a scanner blurs; 4 (2) mm voxels."""
    shape, step = ((90, 60, 90), 4.0) if whole_body else ((45, 100, 90), 2.0)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    body = (x / 0.8) ** 2 + (y / 0.75) ** 2 + 0.2 * z**2 < 1
    suv = np.where(body, rng.uniform(0.5, 0.9), 0.02)
    if whole_body:
        spots = [(0.3, -0.1, 0.3, 0.15, 12), (-0.7, 0.1, 0, 0.1, 30), (0.1, 0, -0.3, 0.12, 6)]
        spots += [(*rng.uniform(-0.5, 0.5, 3), 0.05, rng.uniform(5, 15)) for _ in range(4)]
        suv = np.where(((x + 0.35) / 0.3) ** 2 + (y / 0.4) ** 2 + ((z - 0.1) / 0.2) ** 2 < 1, 2.2, suv)
    else:
        spots = []
        folds = ndimage.gaussian_filter(rng.normal(size=shape), 3) > 0
        suv = np.where(body, np.where(folds, rng.uniform(6, 9), rng.uniform(2, 4)), suv)
    for cz, cy, cx, radius, value in spots:
        suv = np.where((x - cx) ** 2 + (y - cy) ** 2 + ((z - cz) * 1.3) ** 2 < radius**2, value, suv)
    suv = ndimage.gaussian_filter(suv, 6 / 2.355 / step) * (
        1 + 0.1 * ndimage.gaussian_filter(rng.normal(size=shape), 1)
    )
    return Image(np.maximum(suv, 0).astype(np.float32)[None], Grid(shape, (step,) * 3))
