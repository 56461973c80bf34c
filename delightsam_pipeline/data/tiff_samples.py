"""The pages of a TIFF file and their samples as stored, in the file's own type.

tifffile reads them; for LZW, JPEG and fax it needs the package imagecodecs. Where that is not installed, Pillow reads
the kinds that it hands over without loss (it would turn 16-bit colour into 8 bits).
"""

from __future__ import annotations

import logging
import math
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
import PIL.Image
import tifffile

from delightsam_pipeline.data import pixels
from delightsam_pipeline.data.damage import damage_reported
from delightsam_pipeline.errors import UserError

WHITE_IS_ZERO, _BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
_JPEG = 7
_PREDICTED = (5, 8, 32946)  # LZW and deflate
_PHOTOMETRIC, _ORIENTATION, _PALETTE = 262, 274, 320
_PREMULTIPLIED = 1
_BITS = (1, 2, 4, 8, 16, 32, 64)
_EXACT_GREYS = ("uint16", "int16", "uint32", "int32", "float32")  # that Pillow reads, as 32 bits or not
_DAMAGED = (tifffile.TiffFileError, SyntaxError, RuntimeError, LookupError, TypeError, ZeroDivisionError, struct.error)


@contextmanager
def open_pages(path: Path) -> Iterator[list[tifffile.TiffPage]]:
    """The pages of a file while it is open, without reduced copies and transparency masks; nothing is decoded yet.

    Raises UserError, also for what is raised within the context, when the file is damaged or of a kind that cannot
    be read.
    """
    log = logging.getLogger("tifffile")
    with damage_reported(path, "TIFF", *_DAMAGED):
        log.addFilter(_raise_errors)
        try:
            with tifffile.TiffFile(path) as file:
                pages = [page for page in _all_pages(file) if not (page.is_reduced or page.is_mask)]
                if not pages:
                    raise ValueError("it has no pages")
                for page in pages:
                    _check(page, path)
                yield pages
        finally:
            log.removeFilter(_raise_errors)


def photometric(page: tifffile.TiffPage) -> int:
    """What the samples of a pixel mean; black is 0 where the page does not say."""
    return page.tags.valueof(_PHOTOMETRIC, _BLACK_IS_ZERO)


def palette(page: tifffile.TiffPage) -> np.ndarray:
    """[3, N] of 16 bits, empty where the page has none."""
    return np.asarray(page.tags.valueof(_PALETTE, ()))


def orientation(page: tifffile.TiffPage) -> int:
    """The EXIF orientation, 1 to 8."""
    return page.tags.valueof(_ORIENTATION, 1)


def unpacked_bytes(page: tifffile.TiffPage) -> int:
    """Bytes of all strips or tiles, unpacked, with what pads the tiles."""
    return -(-math.prod(page.chunked) * math.prod(page.chunks) * page.bitspersample // 8)


def read_samples(page: tifffile.TiffPage, path: Path) -> np.ndarray:
    """[H, W, samples] as stored, 1 bit as uint8.

    Raises what `open_pages` reports when the page is damaged, UserError when only imagecodecs could read it.
    """
    try:
        # planes, depth, H, W, samples that lie together
        array = page.asarray(squeeze=False, maxworkers=1)[:, 0]
    except (ValueError, NotImplementedError) as error:
        if "'imagecodecs'" not in str(error):
            raise
        array = _by_pillow(page, path)[None]
    array = np.moveaxis(array, 0, -2).reshape(page.imagelength, page.imagewidth, page.samplesperpixel)
    return array.view(np.uint8) if array.dtype == bool else array


def _raise_errors(record: logging.LogRecord) -> bool:
    """tifffile logs damage and goes on with what is left; here it is an error, and nothing is printed."""
    if record.levelno >= logging.ERROR:
        raise ValueError(record.getMessage())
    return False


def _all_pages(file: tifffile.TiffFile) -> Iterator[tifffile.TiffPage]:
    seen: set[int] = set()
    for index in count():
        try:
            page = file.pages.get(index)
        except IndexError:
            return
        if page.offset in seen:
            raise ValueError("its list of pages runs in a circle")
        seen.add(page.offset)
        yield page


def _check(page: tifffile.TiffPage, path: Path) -> None:
    """Raise UserError for kinds that cannot be read, ValueError for pages that are not whole."""
    if min(page.imagelength, page.imagewidth, page.samplesperpixel) < 1:
        raise ValueError("it has no pixels")
    problem = _unreadable(page)
    if problem is not None:
        fix = "save it again as grey or RGB, uncompressed or with deflate or LZW"
        raise UserError(f"is a TIFF that cannot be read: {problem}", file=path, fix=fix)
    parts = math.prod(page.chunked)
    offsets, sizes = page.dataoffsets[:parts], page.databytecounts[:parts]
    # tifffile would fill the missing ones with zeros
    if min(len(offsets), len(sizes)) < parts or 0 in offsets or 0 in sizes:
        raise ValueError("it does not say where all its pixels are")
    if max(offset + size for offset, size in zip(offsets, sizes, strict=True)) > path.stat().st_size:
        raise ValueError("it ends too early")


def _unreadable(page: tifffile.TiffPage) -> str | None:
    """What stands against reading a page, in words."""
    meaning, samples = photometric(page), page.samplesperpixel
    if page.bitspersample not in _BITS or page.dtype is None or page.dtype.kind not in "buif":
        return f"its samples have {page.bitspersample} bits, kind {int(page.sampleformat)}"
    if meaning not in (WHITE_IS_ZERO, _BLACK_IS_ZERO, RGB, PALETTE, YCBCR):
        return f"its colours are of kind {int(meaning)} (CMYK is 5, Lab 8)"
    if meaning == YCBCR and (page.compression != _JPEG or page.planarconfig != 1):
        return "its colours are YCbCr"
    if (meaning in (RGB, YCBCR) and samples < 3) or (samples > 1 and page.bitspersample == 1):
        return f"it has {samples} channels of {page.bitspersample} bits"
    if meaning == PALETTE and (samples > 1 or page.bitspersample > 16 or page.dtype.kind not in "bu"):
        return "it has a palette for more than one channel"
    return "its pages are volumes" if page.imagedepth != 1 else None


def _by_pillow(page: tifffile.TiffPage, path: Path) -> np.ndarray:
    """[H, W, samples] of one page in its own type. Raises UserError for what Pillow does not read exactly."""
    array = None
    if _pillow_is_exact(page):
        try:
            # Pillow warns of sizes, which are checked before, and of odd tags.
            with warnings.catch_warnings(action="ignore"), PIL.Image.open(path, formats=["TIFF"]) as picture:
                picture.seek(page.index)
                # the bytes of its True are 255
                array = np.array(picture.convert("L")) > 0 if picture.mode == "1" else np.array(picture)
        except (PIL.UnidentifiedImageError, PIL.Image.DecompressionBombError):
            pass
    shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
    if array is None or array.size != math.prod(shape):
        fix = "pip install 'delightsam-pipeline[tiff]', or save it uncompressed or with deflate"
        found = f"{page.compression.name}, {page.bitspersample} bits, {page.samplesperpixel} channels"
        raise UserError("needs the package imagecodecs", file=path, found=found, fix=fix)
    if page.photometric == WHITE_IS_ZERO and page.bitspersample <= 8:
        array = ~array  # Pillow has turned these values round
    turn = orientation(page)  # and the picture upright
    return pixels.upright(array, {6: 8, 8: 6}.get(turn, turn)).reshape(shape).astype(page.dtype)


def _pillow_is_exact(page: tifffile.TiffPage) -> bool:
    """Whether Pillow gives the numbers as stored, as found by trying all kinds."""
    bits, samples, kind = page.bitspersample, page.samplesperpixel, page.dtype.name
    if _PREMULTIPLIED in page.extrasamples or (page.predictor != 1 and page.compression not in _PREDICTED):
        return False
    if bits <= 8:
        few = samples == 1 and (bits == 1 or photometric(page) == PALETTE)
        return few or (bits == 8 and kind == "uint8" and (page.planarconfig == 1 or samples > 2))
    swapped = page.parent.byteorder == ">" and kind != "uint16"
    return samples == 1 and bits == 8 * page.dtype.itemsize and kind in _EXACT_GREYS and not swapped
