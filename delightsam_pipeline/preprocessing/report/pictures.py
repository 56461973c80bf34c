"""Pictures as parts of a page: pixels as data, masks as outlines along pixel borders, letters and a scale bar."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np
from PIL import Image

from delightsam_pipeline.preprocessing.report.markup import add, element
from delightsam_pipeline.preprocessing.resampling import resize, resize_labels

# told apart with every kind of colour vision (after Okabe and Ito), light enough for dark images
COLOURS = ("#56b4e9", "#f5a300", "#f0e442", "#00d19a", "#ff7a33", "#f0a3cf", "#9ec7ff", "#ffffff")
LONGEST = 1024  # pixels that a picture keeps along its longer side
_AS_PNG = 192 * 192  # pixels up to which lossless costs little
_QUALITY = 82
_BAR_MM = (1, 2, 5, 10, 20, 50, 100, 200)
_EDGES = (("middle", 0.5, 0, 12), ("end", 1, 0.5, 4), ("middle", 0.5, 1, -4), ("start", 0, 0.5, 4))


def colour(place: int) -> str:
    """The colour of a class; they come again after eight."""
    return COLOURS[place % len(COLOURS)]


def grey(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values [H, W] -> uint8, black at `low` and white at `high`."""
    scaled = (array.astype(np.float32) - low) / max(high - low, 1e-12)
    return np.rint(scaled.clip(0, 1) * 255).astype(np.uint8)


def reduced_size(shape: tuple[int, int], longest: int = LONGEST) -> tuple[int, int]:
    """Rows and columns of a picture that is shrunk, where it has to be, to `longest` pixels a side."""
    factor = min(1.0, longest / max(shape))
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def reduced(picture: np.ndarray, longest: int = LONGEST) -> np.ndarray:
    """uint8 [H, W] or [H, W, 3], shrunk where it has to be."""
    size = reduced_size(picture.shape[:2], longest)
    if size == picture.shape[:2]:
        return picture
    channels = resize(np.moveaxis(np.atleast_3d(picture), 2, 0), size)
    return np.rint(np.moveaxis(channels, 0, 2)).astype(np.uint8).squeeze()


def reduced_mask(mask: np.ndarray, longest: int = LONGEST) -> np.ndarray:
    """Booleans [H, W], shrunk as its picture."""
    return resize_labels(mask.astype(np.uint8)[None], reduced_size(mask.shape, longest))[0] > 0


def data_uri(picture: np.ndarray) -> str:
    """uint8 [H, W] or [H, W, 3] as an address that holds the file itself: PNG when small, else JPEG."""
    small, file = picture.shape[0] * picture.shape[1] <= _AS_PNG, io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(picture))
    if small:
        image.save(file, "PNG", compress_level=6)
    else:
        image.save(file, "JPEG", quality=_QUALITY)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(file.getvalue()).decode()}"


def outline(mask: np.ndarray) -> str:
    """The border of a mask [H, W] as an SVG path in pixels, along the pixels' own borders."""
    padded = np.pad(mask.astype(np.int8), 1)
    across = padded[1:, 1:-1] != padded[:-1, 1:-1]  # [H + 1, W]: between a row and the one above it
    along = padded[1:-1, 1:] != padded[1:-1, :-1]  # [H, W + 1]
    path = [f"M{x} {y}h{n}" for y, x, n in _runs(across)]
    return "".join(path + [f"M{x} {y}v{n}" for x, y, n in _runs(along.T)])


def _runs(lines: np.ndarray) -> list[tuple[int, int, int]]:
    """(line, first place, length) of each run of true values in [N, M]."""
    change = np.diff(np.pad(lines.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (line, begin), (_, end) = np.nonzero(change == 1), np.nonzero(change == -1)
    return list(zip(line.tolist(), begin.tolist(), (end - begin).tolist(), strict=True))


def drawing(size: tuple[float, float], text: str, *parts: Element) -> Element:
    """A picture `size` (height, width) on the page, on black; on a narrow screen it shrinks."""
    height, width = (f"{side:.1f}" for side in size)
    node = element("svg", role="img", aria_label=text, viewBox=f"0 0 {width} {height}", width=width, class_="picture")
    add(node, parts)
    return node


def panel(picture: Element, size: tuple[float, float], caption: str | None) -> Element:
    """A picture of this size with its caption, which is no wider."""
    below = None if caption is None else element("figcaption", caption)
    return element("figure", picture, below, style=f"width:{size[1]:.1f}px")


def pixels(picture: np.ndarray, size: tuple[float, float], name: str | None = None) -> Element:
    """The pixels of a picture, stretched to `size`; `name` is what `again` finds them by."""
    height, width = (f"{side:.1f}" for side in size)
    attributes = {"width": width, "height": height, "preserveAspectRatio": "none", "id": name}
    return element("image", href=data_uri(picture), **attributes)


def contour(mask: np.ndarray, size: tuple[float, float], name: str) -> Element:
    """The outline of a mask, to be drawn with `again`."""
    rows, columns = mask.shape
    scale = f"scale({size[1] / columns:.5f} {size[0] / rows:.5f})"
    thin = {"vector_effect": "non-scaling-stroke"}  # style rules do not reach what `use` copies
    return element("defs", element("path", d=outline(mask), transform=scale, id=name, **thin))


def again(name: str, stroke: str | None = None) -> list[Element]:
    """What has this name in the page once more; an outline in colour `stroke`, on a darker, wider one."""
    if stroke is None:
        return [element("use", href=f"#{name}")]
    return [element("use", href=f"#{name}", class_="under"), element("use", href=f"#{name}", stroke=stroke)]


def letters(size: tuple[float, float], names: Sequence[str]) -> list[Element]:
    """What lies beyond the top, right, bottom and left edges: A, L, P and R of an axial slice."""
    return [
        element("text", name, x=f"{size[1] * x + (3 if anchor == 'start' else -3 if anchor == 'end' else 0):.1f}",
                y=f"{size[0] * y + down:.1f}", class_=f"letter {anchor}")
        for name, (anchor, x, y, down) in zip(names, _EDGES, strict=True)
    ]  # fmt: skip


def scale_bar(size: tuple[float, float], width_mm: float) -> list[Element]:
    """A bar of a round length, at most a third of the picture's width."""
    length = max((mm for mm in _BAR_MM if mm <= width_mm / 3), default=None)
    if length is None:
        return []
    pixels_long, bottom = length / width_mm * size[1], size[0] - 6
    bar = {"x1": "6", "x2": f"{6 + pixels_long:.1f}", "y1": f"{bottom:.1f}", "y2": f"{bottom:.1f}"}
    words = element("text", f"{length} mm", x="6", y=f"{bottom - 5:.1f}", class_="letter start")
    return [element("line", **bar, class_="bar-under"), element("line", **bar, class_="scale-bar"), words]
