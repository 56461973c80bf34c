"""What the network gets of a case, and what its mask grid leaves of the case's labels."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

import numpy as np

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.preprocessing.normalisation import normalise
from delightsam_pipeline.preprocessing.preparation import STRIDE, WayBack, place, stack, tile_origins
from delightsam_pipeline.preprocessing.report.markup import add, element
from delightsam_pipeline.preprocessing.report.pictures import drawing, grey, panel, pixels, reduced
from delightsam_pipeline.preprocessing.store import StoredCase

_SLICES = 12
_SIDE, _SIDE_OF_SEVERAL = 420, 210  # of a picture on the page
_KEPT = 640  # pixels of the input that are shown along its longer side


def input_pictures(case: StoredCase, z: int, plan: Plan) -> tuple[list[Element], str]:
    """Slice z as the network gets it, padded: one colour picture, or a grey one per channel; and how it is shown."""
    array = place(np.asarray(stack(case.slices(), z, plan.input), np.float32), case.back)
    lows, highs, range_ = _shown_range(array, plan)
    shown = [grey(channel, low, high) for channel, low, high in zip(array, lows, highs, strict=True)]
    if plan.input == "rgb":
        shown, names = [np.stack(shown, axis=-1)], ["red, green and blue in one picture"]
    elif plan.input == "repeat":
        shown, names = shown[:1], ["three times the same channel"]
    elif plan.input == "neighbours":
        places = (max(z - 1, 0), z, min(z + 1, case.count - 1))
        names = [f"channel {c}: slice {at + 1}" for c, at in enumerate(places, 1)]
    else:
        names = [f"channel {c}: {name}" for c, name in enumerate(plan.channel_names, 1)]
    side = _SIDE if len(shown) == 1 else _SIDE_OF_SEVERAL
    factor = side / max(case.back.canvas)
    size = (case.back.canvas[0] * factor, case.back.canvas[1] * factor)
    result = []
    for picture, name in zip(shown, names, strict=True):
        text = f"Network input of {case.name}, {name}"
        image = drawing(size, text, pixels(reduced(picture, _KEPT), size))
        add(image, _borders(case.back, plan, factor))
        result.append(panel(image, size, name))
    return result, range_


def _shown_range(array: np.ndarray, plan: Plan) -> tuple[np.ndarray, np.ndarray, str]:
    """Per channel of [C, H, W], the values shown as black and as white, and a sentence on them.

    Of a photograph, what its own black and white became; else percentiles of all channels together.
    """
    if plan.input == "rgb" and plan.normalisation.scheme == "photograph":
        ends = np.tile(np.float32([0, plan.normalisation.full_scale]), (len(array), 1, 1, 1))
        lows, highs = np.moveaxis(normalise(ends, plan.normalisation)[:, 0, 0], 1, 0)
        pairs = ", ".join(f"{low:.2f} to {high:.2f}" for low, high in zip(lows, highs, strict=True))
        return lows, highs, f"Red, green and blue run from black to white over {pairs}."
    low, high = np.percentile(array, (0.5, 99.5))
    return np.full(len(array), low), np.full(len(array), high), f"Black is {low:.2f} and white {high:.2f}."


def _borders(back: WayBack, plan: Plan, factor: float) -> list[Element]:
    """Where tiles begin and end, and where the image ends and its padding begins."""
    parts = []
    origins = [tile_origins(back.canvas[a], plan.patch_size[a], plan.tile_overlap) for a in (0, 1)]
    if len(origins[0]) * len(origins[1]) > 1:
        for y, x in ((y, x) for y in origins[0] for x in origins[1]):
            parts.append(_box((y, x), plan.patch_size, factor, "tile" if y or x else "tile first"))
    if back.scaled != back.canvas:
        parts.append(_box(back.offset, back.scaled, factor, "padding"))
    return parts


def _box(corner: tuple[int, int], size: tuple[int, int], factor: float, kind: str) -> Element:
    (y, x), (height, width) = corner, size
    places = {"x": x, "y": y, "width": width, "height": height}
    return element("rect", **{name: f"{value * factor:.1f}" for name, value in places.items()}, class_=kind)


def words(back: WayBack, plan: Plan) -> str:
    """The size of the input, its padding and its tiles, in one sentence."""
    rows, columns = back.scaled
    text = f"{back.slice_shape[0]} x {back.slice_shape[1]} pixels become {rows} x {columns}"
    if back.scaled != back.canvas:
        text += f", padded to {back.canvas[0]} x {back.canvas[1]}"
    counts = [len(tile_origins(back.canvas[a], plan.patch_size[a], plan.tile_overlap)) for a in (0, 1)]
    if counts != [1, 1]:
        tiles = f"{counts[0]} x {counts[1]} tiles of {plan.patch_size[0]} x {plan.patch_size[1]}"
        text += f", cut into {tiles} (the first one bold)"
    return text


def brought_back(mask: np.ndarray, back: WayBack, labels: Labels) -> Iterator[tuple[int, np.ndarray]]:
    """What a perfect network's masks would be on the image's grid: (target, booleans [n, H, W]), one after the other.

    mask : labels beside the preprocessed slices [n, h, w]; they go to cells of the mask grid and back as logits do.
    """
    rows, columns = back.matrices()

    def returned(part: np.ndarray, outside: float) -> np.ndarray:
        return rows @ _cells(place(part.astype(np.float32), back, outside)) @ columns.T

    if labels.has_regions:
        for k, ids in enumerate(labels.ids):
            yield k, returned(np.isin(mask, ids), 0) > 0.5
        return
    best = returned(np.isin(mask, [v for ids in labels.ids for v in ids], invert=True), 1)
    winner = np.full(best.shape, -1)
    for k, ids in enumerate(labels.ids):
        share = returned(np.isin(mask, ids), 0)
        winner[share > best] = k
        best = np.maximum(best, share)
    for k in range(len(labels.ids)):
        yield k, winner == k


def _cells(canvas: np.ndarray) -> np.ndarray:
    """[n, H, W] -> the means of its cells [n, H/4, W/4]."""
    count, height, width = canvas.shape
    return canvas.reshape(count, height // STRIDE, STRIDE, width // STRIDE, STRIDE).mean(axis=(2, 4))


def round_trip(
    case: StoredCase, reference: np.ndarray, z: int, labels: Labels
) -> tuple[dict[int, np.ndarray], dict[str, float]]:
    """What is left of slice z, target -> booleans [H, W], and of each class the Dice with its reference.

    reference : labels [z, y, x] on the image's grid. Dice is over at most 12 slices that hold any class; targets that
    are not there, or were not annotated, are left out.
    """
    slices = np.moveaxis(reference, case.back.axis, 0)
    filled = sorted({number for numbers in case.present for number in numbers})
    if len(filled) > _SLICES:
        filled = [filled[i] for i in np.linspace(0, len(filled) - 1, _SLICES).round().astype(int)]
    numbers = sorted({*filled, z})
    truth, known = slices[numbers], slices[numbers] != labels.ignore if labels.ignore is not None else True
    left, dice = {}, {}
    for k, mask in brought_back(np.asarray(case.mask()[numbers]), case.back, labels):
        wanted = np.isin(truth, labels.ids[k])
        if k in case.not_annotated or not (wanted.any() or mask.any()):
            continue
        left[k] = mask[numbers.index(z)]
        mask = mask & known
        dice[labels.classes[k]] = 2 * float((mask & wanted).sum()) / float(mask.sum() + wanted.sum())
    return left, dice
