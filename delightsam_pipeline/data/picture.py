"""PNG pictures as images of one slice, and label maps as indexed PNG."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image

from delightsam_pipeline.data.image import Grid, Image
from delightsam_pipeline.data.labels import storage_type
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import writing

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PALETTE_TYPE, _GREY_ALPHA_TYPE, _RGBA_TYPE = 3, 4, 6
_COLOUR_CHANNELS = {0: 1, 2: 3, 4: 1, 6: 3}  # without alpha, by PNG colour type
# Trubetskoy's distinct colours in an order in which neighbours differ most; index 0, background, is black.
_COLOURS = (
    "e6194b 3cb44b ffe119 4363d8 f58231 911eb4 42d4f4 f032e6 bfef45 fabed4 "
    "469990 dcbeff 9a6324 fffac8 800000 aaffc3 808000 ffd8b1 000075 a9a9a9"
)


def read(path: Path, as_label: bool = False) -> Image:
    """The picture [C, 1, H, W]: 1 channel for grey, 3 for colour, without alpha; 8 or 16 bits as stored.

    As an image, a palette gives its colours and grey of 1, 2 or 4 bits is spread over 0 to 255;
    as a label map, both give the numbers as they are stored.
    Raises UserError when the file is no PNG, damaged, or too large to be opened safely.
    """
    fix = "the file may be incomplete; copy or export it again"
    try:
        depth, colour_type = _header(path)
        with PIL.Image.open(path, formats=["PNG"]) as picture:
            picture.load()
            array = _pixels(picture, depth, colour_type, as_label)
        if depth == 16 and colour_type != 0:
            array = _deep_pixels(path, colour_type)
    except PIL.Image.DecompressionBombError as error:
        limit = f"at most {2 * (PIL.Image.MAX_IMAGE_PIXELS or 0)} pixels"
        raise UserError("is too large to be opened safely", file=path, expected=limit, fix="cut it up") from error
    except PermissionError as error:
        raise UserError("cannot be read (no permission)", file=path) from error
    except (OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error) as error:
        raise UserError(f"cannot be read as PNG ({error})", file=path, fix=fix) from error
    array = array.reshape(*array.shape[:2], -1).transpose(2, 0, 1)[:, None]
    return Image(np.ascontiguousarray(array), Grid.picture(*array.shape[2:]), source=Path(path))


def write_labels(path: Path, labels: np.ndarray, like: Image) -> None:
    """Write labels [1, H, W]: indexed PNG with distinct colours up to 255, above that 16-bit grey.

    Raises UserError when the file cannot be written.
    """
    if labels.shape != like.grid.shape or labels.shape[0] != 1:
        raise ValueError(f"labels {labels.shape} are not on the picture's grid {like.grid.shape}")
    highest = int(labels.max(initial=0))
    if highest > 65535:
        raise ValueError(f"label {highest} does not fit into a PNG")
    picture = PIL.Image.fromarray(np.ascontiguousarray(labels[0].astype(storage_type(highest))))
    if highest <= 255:
        picture.putpalette(_palette())
    with writing(path) as temporary:
        picture.save(temporary, format="PNG")


def _palette() -> bytes:
    colours = bytes.fromhex(_COLOURS)
    return b"\0\0\0" + (colours * 13)[: 255 * 3]


def _header(path: Path) -> tuple[int, int]:
    """Bits per sample and colour type; Pillow hides both."""
    with open(path, "rb") as file:
        start = file.read(26)
    if start[:8] != _SIGNATURE[: len(start)] or not start:
        raise ValueError("it does not begin as a PNG file does")
    depth, colour_type = struct.unpack(">8x4x4x8xBB", start)
    return depth, colour_type


def _pixels(picture: PIL.Image.Image, depth: int, colour_type: int, as_label: bool) -> np.ndarray:
    """[H, W] or [H, W, 3] of what Pillow reads without loss."""
    if colour_type == _PALETTE_TYPE:
        return np.asarray(picture if as_label else picture.convert("RGB"))
    if depth == 1:
        return np.asarray(picture).astype(np.uint8) * np.uint8(1 if as_label else 255)
    array = np.asarray(picture)
    if array.ndim == 3:
        array = array[..., : _COLOUR_CHANNELS[colour_type]]
    if depth < 8 and as_label:
        array = array // (255 // (2**depth - 1))  # Pillow has spread the values over 0 to 255
    return array


def _deep_pixels(path: Path, colour_type: int) -> np.ndarray:
    """[H, W, channels] uint16 of 16-bit colour or grey with alpha, which Pillow would cut down to 8 bits."""
    if colour_type == _GREY_ALPHA_TYPE:
        return _deep_grey(path)
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("PNGImageIO")
    reader.SetFileName(str(path))
    return SimpleITK.GetArrayFromImage(reader.Execute())[..., :3]


def _deep_grey(path: Path) -> np.ndarray:
    """[H, W] uint16 of 16-bit grey with alpha, which SimpleITK refuses.

    Byte by byte such a file is one of 8-bit RGBA: red and green are the high and low byte of grey.
    """
    content = bytearray(path.read_bytes())
    content[24:26] = 8, _RGBA_TYPE
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    with PIL.Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        array = np.asarray(picture).astype(np.uint16)
    return array[..., 0] << 8 | array[..., 1]
