"""What Pillow hides or loses of PNG files: the kind of the stored samples, and 16-bit colour."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image

GREY, GREY_ALPHA = 0, 4
_RGBA = 6


def header(path: Path) -> tuple[int, int]:
    """Bits per sample and colour type of a PNG file. Raises struct.error when it is too short."""
    with open(path, "rb") as file:
        return struct.unpack(">24xBB", file.read(26))


def deep_pixels(path: Path, colour_type: int) -> np.ndarray:
    """[H, W, channels] uint16 of 16-bit colour or grey with alpha, without the alpha.

    Pillow would cut it down to 8 bits. Raises RuntimeError or OSError when the file is damaged.
    """
    if colour_type == GREY_ALPHA:
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
    content[24:26] = 8, _RGBA
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    with PIL.Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        array = np.asarray(picture).astype(np.uint16)
    return array[..., 0] << 8 | array[..., 1]
