"""What a case takes in memory once it is read, told from headers alone."""

from __future__ import annotations

import struct
from pathlib import Path

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.formats import known_ending
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import identity

_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp")
_PACKED = (".nrrd", ".mha", ".tif", ".tiff", ".dcm")  # whether they are compressed is said deep inside
_USUAL_PACKING = 3
_WRAP = 2**32  # gzip keeps the size modulo this


def footprint(case: Case) -> int:
    """Bytes of the arrays of a case as its files store them, decompressed: images and label map.

    Exact for gzip (nii.gz) up to 4 GB, raw volumes and pictures; for others an estimate. No pixel is decoded, and
    what cannot be looked at counts nothing: reading it tells what is wrong.
    """
    return sum(_bytes_in(path) for path in (*case.images, case.label) if path is not None)


def stored_bytes(case: Case) -> int:
    """Bytes of a case's images on disk; files that are not there count nothing."""
    return sum(_size(path) for path in case.images)


def _size(path: Path) -> int:
    try:
        return identity(path)[1]
    except UserError:
        return 0


def _bytes_in(path: Path) -> int:
    size, ending = _size(path), known_ending(path) or ""
    try:
        if ending.endswith(".gz"):
            return _unzipped(path, size)
        if ending in _PICTURES:
            return _picture(path)
        if ending == ".mhd":  # its pixels lie beside it
            return _size(path.with_suffix(".raw")) or _USUAL_PACKING * _size(path.with_suffix(".zraw"))
    except Exception:  # damaged files are told of when they are read
        return size
    return size * _USUAL_PACKING if ending in _PACKED else size


def _unzipped(path: Path, size: int) -> int:
    with open(path, "rb") as file:
        file.seek(-4, 2)
        length = struct.unpack("<I", file.read(4))[0]
    while length < size // 2:  # noise grows a little in gzip, but nothing doubles
        length += _WRAP
    return length


def _picture(path: Path) -> int:
    import PIL.Image

    with PIL.Image.open(path) as picture:
        deep = 2 if "16" in picture.mode else 4 if picture.mode in ("I", "F") else 1
        return picture.width * picture.height * len(picture.getbands()) * deep
