"""What the pixels of one image tell about how it was made: a few numbers, cheap to measure and kept as JSON."""

from __future__ import annotations

import numpy as np

from delightsam_pipeline.data.image import Image
from delightsam_pipeline.plans.facts import PictureFacts, PixelFacts, VolumeFacts

_SAMPLES = 64  # voxels along each axis of a volume, at most
_PLANE = 192  # pixels on a side of the piece of a slice in which detail is measured
_ROUND = 5  # digits


def measure(image: Image) -> PixelFacts:
    """The facts of one image [C, z, y, x]; of a large one a fixed part is looked at, evenly spread.

    A picture is an image of one slice along any axis, of one or three channels; of other channels the first counts.
    """
    array, shape = image.array, image.grid.shape
    one_slice = 1 in shape
    return PixelFacts(
        dicom_modality=image.modality,
        physical=image.grid.physical,
        channels=len(array),
        slices=1 if one_slice else max(1, shape[int(np.argmax(image.grid.spacing))]),
        picture=_picture(np.squeeze(array, 1 + shape.index(1))) if one_slice else None,
        volume=_volume(array[0], image.grid.spacing),
    )


def _picture(array: np.ndarray) -> PictureFacts | None:
    """Of [C, H, W]; None where it is too small or too narrow to look at."""
    # they import scipy.ndimage, which a run that reads no picture should not pay for
    from delightsam_pipeline.plans.picture_colours import coarse, colours, field_of_view, frame
    from delightsam_pipeline.plans.picture_shapes import blobs, grain, inside, layout

    if min(array.shape[1:]) < max(32, max(array.shape[1:]) // 6):
        return None
    array = array if len(array) == 3 else array[:1]
    lowest, full = (0.0, 255.0) if array.dtype == np.uint8 else _ends(array)
    if full <= lowest:
        return None
    small = coarse(array, lowest, full)
    grey = small.mean(axis=0)
    field = field_of_view(grey)
    every = colours(small, field) | frame(grey, field) | inside(grey, field) | blobs(grey) | layout(grey)
    every |= grain(array, lowest, full)
    return PictureFacts(**{name: round(float(value), _ROUND) for name, value in every.items()})


def _ends(array: np.ndarray) -> tuple[float, float]:
    """What counts as black and as full brightness where the type does not say it."""
    part = array[:, :: 1 + array.shape[1] // 256, :: 1 + array.shape[2] // 256]
    low, high = np.percentile(part, [0.1, 99.9])
    return min(0.0, float(low)), float(high)


def _volume(array: np.ndarray, spacing: tuple[float, float, float]) -> VolumeFacts:
    """Of [z, y, x], with its spacing in mm."""
    steps = [max(1, -(-size // _SAMPLES)) for size in array.shape]
    values = array[:: steps[0], :: steps[1], :: steps[2]].astype(np.float64).ravel()
    lowest, p01, p50, p99, p999, highest = np.percentile(values, [0, 1, 50, 99, 99.9, 100])
    tissue, offset_tissue = values[values > -500], values[values > 300]
    every = {
        "lowest": lowest,
        "p01": p01,
        "p50": p50,
        "p99": p99,
        "p999": p999,
        "highest": highest,
        "whole": (values == np.rint(values)).mean(),
        "negative": (values < 0).mean(),
        "floor": (values == lowest).mean(),
        "ceiling": (values == highest).mean(),
        "air": ((values > -1100) & (values < -850)).mean(),
        "soft": _share(tissue, -200, 200),
        "soft_peak": _peak(tissue),
        "offset_air": (values < 174).mean(),
        "offset_soft": _share(offset_tissue, 824, 1224),
        "offset_peak": _peak(offset_tissue),
        "spacing": min(spacing),
    } | _tissue(values, p999)
    middle = np.take(array, array.shape[axis := int(np.argmax(spacing))] // 2, axis=axis)
    cut = tuple(slice(max(0, (size - _PLANE) // 2), (size + _PLANE) // 2) for size in middle.shape)
    every["detail"] = _detail(middle[cut].astype(np.float32))
    return VolumeFacts(**{name: float(f"{value:.6g}") for name, value in every.items()})


def _share(values: np.ndarray, low: float, high: float) -> float:
    return float(((values > low) & (values < high)).mean()) if values.size else 0.0


def _peak(values: np.ndarray) -> float:
    """The most frequent value, to about 20."""
    if not values.size:
        return 0.0
    bins = np.floor(np.clip(values, -1e5, 1e5) / 20).astype(int)
    counts = np.bincount(bins - bins.min())
    return float(20 * (np.argmax(np.convolve(counts, [1, 1, 1], "same")) + bins.min()) + 10)


def _tissue(values: np.ndarray, top: float) -> dict[str, float]:
    """Where the lit voxels (over a tenth of `top`) lie between 0 and `top`, and how few are hot."""
    if top <= 0:
        return {"lit": 0.0, "lit_median": 0.0, "hot": 0.0, "between": 0.0}
    shares = values / top
    lit = shares[shares > 0.1]
    if not lit.size:
        return {"lit": 0.0, "lit_median": 0.0, "hot": 0.0, "between": 0.0}
    counts, edges = np.histogram(lit[lit < 1], bins=30)
    mode = edges[np.argmax(counts)] + (edges[1] - edges[0]) / 2
    below = _share(shares, 0.2 * mode, 0.75 * mode)
    return {
        "lit": lit.size / values.size,
        "lit_median": float(np.median(lit)),
        "hot": float((shares > 0.25).mean()),
        "between": below / max(1e-6, below + _share(shares, 0.75 * mode, 1.25 * mode)),
    }


def _detail(plane: np.ndarray) -> float:
    """Curvature from pixel to pixel against the spread of values, in the lit part of a plane [H, W]."""
    if min(plane.shape) < 5:
        return 0.0
    lit = plane > 0.1 * np.percentile(plane, 99.5)
    across = lit[:, 1:-1] & lit[:, 2:] & lit[:, :-2]
    if across.sum() < 16 or plane[lit].std() == 0:
        return 0.0
    bend = (plane[:, :-2] - 2 * plane[:, 1:-1] + plane[:, 2:])[across]
    return float(np.sqrt((bend**2).mean()) / plane[lit].std())
