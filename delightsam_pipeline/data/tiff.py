"""TIFF files: pictures, volumes whose pages are slices, and label maps.

A file of several pages is a volume; its spacing stands in a small JSON file beside it, as nnU-Net has it.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from delightsam_pipeline.data import pixels
from delightsam_pipeline.data.damage import check_size
from delightsam_pipeline.data.image import Grid, Image
from delightsam_pipeline.data.labels import storage_type
from delightsam_pipeline.data.tiff_samples import (
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    open_pages,
    orientation,
    palette,
    photometric,
    read_samples,
    unpacked_bytes,
)
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import read_json, write_json, writing

_HARMLESS_BYTES = 2**26
_PACKED_RATIO = 4096  # LZW reaches about 2500 to 1, deflate 1032
_LEVEL = 2
_ALPHA = (1, 2)  # kinds of extra samples: premultiplied and plain alpha; 0 is unknown
_IMAGES = re.compile(r"^images=(\d+)", re.MULTILINE)
_CHANNELS = re.compile(r"(?:^channels=|\bSizeC=\")(\d+)", re.MULTILINE)
_CHANNEL_NUMBER = re.compile(r"_\d{4}$")
_SPLIT = "save every channel as a file of its own: CASE_0000.tif, CASE_0001.tif ..."


def read(path: Path, as_label: bool = False) -> Image:
    """The image [C, z, y, x], one slice for each page; integers keep their type, floats become float32.

    One page is a picture, turned upright as its orientation says, without physical spacing unless a spacing file
    (see `spacing_files`) stands beside it; several pages are a volume on a grid without rotation, whose spacing file
    must be there. Alpha is dropped.
    As an image, a palette gives its colours, 1, 2 and 4 bits are spread over 0 to 255, and where white is stored as
    0 the values are turned round. As a label map, stored numbers stay as they are, but for palettes of greys (see
    `pixels.numbers`) and 1 bit, which is 1 where it is brighter.
    Raises UserError when the file is damaged, too large, or of a kind that cannot be read.
    """
    path = Path(path)
    with open_pages(path) as pages:
        _check_pages(pages, path)
        array = _meaning(_samples(pages, path), pages[0], as_label)
        if len(pages) == 1:  # programs that show stacks do not heed it
            array = pixels.upright(array[0], orientation(pages[0]))[None]
    grid = _grid(array.shape[:3], path)
    array = array.reshape(*grid.shape, -1)
    return Image(np.ascontiguousarray(np.moveaxis(array, 3, 0)), grid, source=path)


def write_labels(path: Path, labels: np.ndarray, like: Image) -> None:
    """Write labels [z, y, x] as grey pages of 8 or 16 bits; for a physical grid its spacing file before them.

    The axes are canonical: a TIFF cannot say more than the spacing.
    Raises UserError when a file cannot be written.
    """
    path = Path(path)
    if labels.shape != like.grid.shape:
        raise ValueError(f"labels {labels.shape} are not on the image's grid {like.grid.shape}")
    highest = int(labels.max(initial=0))
    if highest > 65535:
        raise ValueError(f"label {highest} does not fit into a TIFF")
    data = labels.astype(storage_type(highest))
    if like.grid.physical:
        write_json(spacing_files(path)[0], {"spacing": list(like.grid.spacing)})
    with writing(path) as temporary:
        packing = {"compression": "zlib", "compressionargs": {"level": _LEVEL}}
        tifffile.imwrite(temporary, data, photometric="minisblack", metadata=None, ome=False, **packing)


def spacing_files(path: Path) -> list[Path]:
    """Where the spacing of a TIFF file may stand, as {"spacing": [z, y, x]} in mm: NAME.json, or for NAME_0000.tif
    (the number of an image channel) also NAME.json without the number."""
    stem = Path(path).stem
    return [Path(path).with_name(f"{name}.json") for name in dict.fromkeys((stem, _CHANNEL_NUMBER.sub("", stem)))]


def _check_pages(pages: list[tifffile.TiffPage], path: Path) -> None:
    """Refuse what is too large, before memory is taken for it, and pages that make no volume."""
    first = pages[0]
    other = next((page for page in pages if _kind(page) != _kind(first)), None)
    if other is not None:
        size, other_size = (f"{page.imagewidth} x {page.imagelength}" for page in (first, other))
        found = f"{len(pages)} pages, the first {size}, another {other_size}"
        fix = "save the page that is wanted as a file of its own"
        raise UserError("its pages differ in size or kind", file=path, found=found, fix=fix)
    shape = (len(pages), first.imagelength, first.imagewidth, first.samplesperpixel)
    number_bytes = -(-sum(map(unpacked_bytes, pages)) // math.prod(shape))
    check_size(shape, number_bytes, max(_PACKED_RATIO * path.stat().st_size, _HARMLESS_BYTES), path)
    channels = max((int(n) for n in _CHANNELS.findall(first.description)), default=1)
    if first.samplesperpixel < channels < len(pages):
        raise UserError("its pages mix slices and channels", file=path, found=f"{channels} channels", fix=_SPLIT)
    images = _IMAGES.search(first.description)
    if images is not None and int(images[1]) > len(pages):
        fix = "save it again as BigTIFF, NIfTI or NRRD"
        raise UserError("lists too few pages", file=path, expected=int(images[1]), found=len(pages), fix=fix)


def _kind(page: tifffile.TiffPage) -> tuple:
    """What the pages of one volume must share."""
    shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
    return shape, page.bitspersample, page.dtype, photometric(page), page.extrasamples, palette(page).tobytes()


def _samples(pages: list[tifffile.TiffPage], path: Path) -> np.ndarray:
    """[z, H, W, samples] of all pages, as stored."""
    first = read_samples(pages[0], path)
    samples = np.empty((len(pages), *first.shape), first.dtype)
    for index, page in enumerate(pages):
        samples[index] = read_samples(page, path) if index else first
    return samples


def _meaning(samples: np.ndarray, page: tifffile.TiffPage, as_label: bool) -> np.ndarray:
    """[z, H, W, samples] as stored -> [z, H, W] or [z, H, W, C] as meant."""
    if photometric(page) == PALETTE:
        shown = pixels.numbers if as_label else pixels.colours
        return shown(samples[..., 0], _colours(page))
    samples, bits = samples[..., _wanted(page)], page.bitspersample
    if photometric(page) == WHITE_IS_ZERO and (bits == 1 or not as_label):
        turned = {"u": lambda: samples.dtype.type(2**bits - 1) - samples, "i": lambda: ~samples, "f": lambda: -samples}
        samples = turned[samples.dtype.kind]()
    if bits < 8 and not as_label:
        samples = samples * np.uint8(255 // (2**bits - 1))
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):
            samples = samples.astype(np.float32, copy=False)
    return samples


def _colours(page: tifffile.TiffPage) -> np.ndarray:
    """[N, 3] uint8."""
    table = palette(page)
    if table.shape != (3, 2**page.bitspersample):
        raise ValueError("its palette is missing or too short")
    # Colours have 16 bits, but some writers fill only the lower 8.
    return (table >> 8 if table.max() > 255 else table).astype(np.uint8).T


def _wanted(page: tifffile.TiffPage) -> list[int]:
    """The samples that are channels: no alpha, and no fourth one of unknown kind beside red, green and blue."""
    colours = 3 if photometric(page) in (RGB, YCBCR) else 1
    if (colours, page.samplesperpixel) == (3, 4):
        return [0, 1, 2]
    kinds = dict(enumerate(page.extrasamples, colours))
    return [*range(colours), *(i for i in range(colours, page.samplesperpixel) if kinds.get(i) not in _ALPHA)]


def _grid(shape: tuple[int, ...], path: Path) -> Grid:
    """The grid of pages [z, y, x] with the spacing beside the file.

    The resolution in the file itself is left alone: it is that of a print or a screen more often than of the object,
    and there is none between pages.
    """
    for file in spacing_files(path):
        # Other programs keep their own JSON files beside pictures; those have no spacing.
        value = read_json(file) if file.is_file() else None
        if isinstance(value, dict) and "spacing" in value:
            return Grid(tuple(shape), _spacing(value["spacing"], shape[0], file))
    if shape[0] == 1:
        return Grid.picture(*shape[1:])
    fix = (
        f"write the distances in mm between slices, rows and columns into {spacing_files(path)[-1].name} beside it, "
        f'for example {{"spacing": [2.5, 0.7, 0.7]}}; or, if they are channels, {_SPLIT}'
    )
    raise UserError(f"has {shape[0]} pages but no spacing", file=path, fix=fix)


def _spacing(value: Any, slices: int, file: Path) -> tuple[float, float, float]:
    lengths = (2, 3) if slices == 1 else (3,)
    numbers = isinstance(value, list) and all(type(v) in (int, float) and 0 < v < math.inf for v in value)
    if not numbers or len(value) not in lengths:
        expected = "3 positive numbers, mm in the order z y x"
        raise UserError("'spacing' is wrong", file=file, expected=expected, found=json.dumps(value))
    z, y, x = (1.0, *value) if len(value) == 2 else value
    return float(z), float(y), float(x)
