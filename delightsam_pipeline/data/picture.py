"""Pictures (PNG, BMP, JPEG, GIF) as images of one slice, and label maps as indexed PNG or BMP."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import PIL.Image

from delightsam_pipeline.data import bmp, pixels, png
from delightsam_pipeline.data.damage import damage_reported
from delightsam_pipeline.data.image import Grid, Image
from delightsam_pipeline.data.labels import storage_type
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import writing

_SIGNATURES = {b"\x89PNG": "PNG", b"BM": "BMP", b"\xff\xd8": "JPEG", b"GIF8": "GIF"}
_WRITTEN = {".png": "PNG", ".bmp": "BMP"}
_MOVING = ("GIF", "PNG")  # what else Pillow calls frames is a JPEG's preview or gain map
_TURNED = ("JPEG", "MPO", "PNG")  # formats whose viewers heed EXIF's orientation
_ORIENTATION = 0x0112
_DAMAGED = (SyntaxError, RuntimeError, IndexError, struct.error)


def read(path: Path, as_label: bool = False) -> Image:
    """The picture [C, 1, H, W]: 1 channel for grey, 3 for colour, without alpha; 8 or 16 bits as stored.

    The content tells the format, whatever the ending. EXIF's orientation is applied, as every viewer does.
    As an image, a palette gives its colours and grey of 1, 2 or 4 bits is spread over 0 to 255.
    As a label map, both give numbers: the stored ones, or a palette's greys where those are meant (see
    `pixels.numbers`); 1-bit BMP has 1 where it is brighter.
    Raises UserError when the file is no picture, damaged, moving, or too large to be opened safely.
    """
    path = Path(path)
    with damage_reported(path, "a picture"):
        kind = _format(path)
    try:
        with damage_reported(path, kind, *_DAMAGED), PIL.Image.open(path, formats=[kind]) as picture:
            _require_one_frame(picture, path)
            array = pixels.upright(_pixels(picture, path, as_label), _orientation(picture))
    except PIL.Image.DecompressionBombError as error:
        limit = f"at most {2 * (PIL.Image.MAX_IMAGE_PIXELS or 0)} pixels"
        raise UserError("is too large to be opened safely", file=path, expected=limit, fix="cut it up") from error
    array = array.reshape(*array.shape[:2], -1).transpose(2, 0, 1)[:, None]
    return Image(np.ascontiguousarray(array), Grid.picture(*array.shape[2:]), source=path)


def write_labels(path: Path, labels: np.ndarray, like: Image) -> None:
    """Write labels [1, H, W] as indexed PNG or BMP with distinct colours up to 255, above that as 16-bit grey PNG.

    Raises UserError when the file cannot be written, and when a label does not fit into a BMP.
    """
    if labels.shape != like.grid.shape or labels.shape[0] != 1:
        raise ValueError(f"labels {labels.shape} are not on the picture's grid {like.grid.shape}")
    written = _WRITTEN[Path(path).suffix.lower()]
    highest = int(labels.max(initial=0))
    if highest > 255 and written == "BMP":
        fix = "use PNG or TIFF images"
        raise UserError("label does not fit into a BMP", file=path, expected="at most 255", found=highest, fix=fix)
    if highest > 65535:
        raise ValueError(f"label {highest} does not fit into a PNG")
    picture = PIL.Image.fromarray(np.ascontiguousarray(labels[0].astype(storage_type(highest))))
    if highest <= 255:
        picture.putpalette(pixels.label_palette())
    with writing(path) as temporary:
        picture.save(temporary, format=written)


def write_image(path: Path, image: Image) -> None:
    """Write a picture [C, 1, H, W] as PNG: grey or colour of 8 bits, or grey of 16, as it is.

    Raises UserError when the file cannot be written.
    """
    array = np.ascontiguousarray(image.array[:, 0].transpose(1, 2, 0))
    with writing(path) as temporary:
        PIL.Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(temporary, format="PNG")


def _format(path: Path) -> str:
    """Pillow's name of the format that the file begins as."""
    with open(path, "rb") as file:
        start = file.read(4)
    for signature, kind in _SIGNATURES.items():
        if start.startswith(signature):
            return kind
    raise ValueError(f"it begins as none of {', '.join(_SIGNATURES.values())} does")


def _require_one_frame(picture: PIL.Image.Image, path: Path) -> None:
    frames = getattr(picture, "n_frames", 1) if picture.format in _MOVING else 1
    if frames > 1:
        fix = "save every frame that is wanted as a picture of its own"
        raise UserError("is a moving picture", file=path, expected="1 frame", found=f"{frames} frames", fix=fix)


def _orientation(picture: PIL.Image.Image) -> int:
    """EXIF's orientation, 1 where there is none that can be read."""
    if picture.format not in _TURNED:
        return 1
    try:
        return picture.getexif().get(_ORIENTATION, 1)
    except (SyntaxError, ValueError, IndexError, struct.error):
        return 1


def _pixels(picture: PIL.Image.Image, path: Path, as_label: bool) -> np.ndarray:
    """[H, W] or [H, W, 3], as stored, without alpha."""
    if picture.format == "PNG":
        return _png_pixels(picture, path, as_label)
    indexed = bmp.read_indexed(path) if picture.format == "BMP" else None
    if indexed is not None:
        indices, palette = indexed
        if as_label and len(palette) == 2 and indices.max() < 2:
            first, second = palette.sum(axis=1, dtype=int)
            return indices if first <= second else 1 - indices
        return pixels.numbers(indices, palette) if as_label else pixels.colours(indices, palette)
    return _common_pixels(picture, as_label)


def _common_pixels(picture: PIL.Image.Image, as_label: bool) -> np.ndarray:
    if picture.mode == "P":
        indices = np.asarray(picture)
        palette = np.array(picture.getpalette(), np.uint8).reshape(-1, 3)
        return pixels.numbers(indices, palette) if as_label else pixels.colours(indices, palette)
    if picture.mode == "CMYK":
        picture = picture.convert("RGB")
    array = np.asarray(picture)
    return array[..., :-1] if picture.mode.endswith("A") else array


def _png_pixels(picture: PIL.Image.Image, path: Path, as_label: bool) -> np.ndarray:
    picture.load()  # finds damage even where other code reads the pixels
    depth, colour_type = png.header(path)
    if depth == 16:
        return np.asarray(picture).astype(np.uint16) if colour_type == png.GREY else png.deep_pixels(path, colour_type)
    if depth == 1 and colour_type == png.GREY:
        return np.asarray(picture).astype(np.uint8) * np.uint8(1 if as_label else 255)
    array = _common_pixels(picture, as_label)
    if depth < 8 and colour_type == png.GREY and as_label:
        array = array // (255 // (2**depth - 1))  # Pillow has spread the values over 0 to 255
    return array
