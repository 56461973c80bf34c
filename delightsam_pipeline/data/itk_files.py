"""Whether NRRD, MetaImage and GIPL files are whole, looked at before ITK reads them.

On damaged MetaImage and GIPL files ITK writes to the terminal, or returns whatever the memory held.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from delightsam_pipeline.data.damage import DEFLATE_RATIO
from delightsam_pipeline.errors import UserError

_MOST_HEADER = 1 << 16
_BLOCK = 1 << 20
_GIPL_HEADER = 256
_GIPL_MAGICS = (b"\xef\xff\xe9\xb0", b"\x2a\xe3\x89\xb8")  # at its end
_ANY_DEFLATE = 47  # zlib's or gzip's header, whichever is there
_TRUE, _FALSE = ("T", "t", "1"), ("F", "f", "0")  # as MetaImage reads them


def check_beginning(path: Path, ending: str) -> None:
    """Raises ValueError when a file does not begin as its ending says, UserError when a file beside it is missing."""
    if ending.startswith(".gipl"):
        with gzip.open(path) if ending.endswith(".gz") else open(path, "rb") as file:
            start = file.read(_GIPL_HEADER)
        if len(start) < _GIPL_HEADER or not start.endswith(_GIPL_MAGICS):
            raise ValueError("it does not begin as a GIPL file does")
    elif ending in (".mha", ".mhd"):
        data = _data_file(path, _meta_header(path)[0])
        if data is not None and not data.is_file():
            fix = "copy it there, under the name that the header gives"
            raise UserError("its data file does not exist", file=path, expected=data, fix=fix)


def data_beside(path: Path) -> Path | None:
    """The one file beside an .mhd or .mha that holds its voxels; None where they are in it.

    Raises UserError when they lie in several files, ValueError when the header cannot be read.
    """
    data = _data_file(path, _meta_header(path)[0])
    if data is None:
        raise UserError("its voxels lie in several files", file=path, fix="save it as one file")
    return None if data == path else data


def held_bytes(path: Path, ending: str) -> int | None:
    """The bytes of voxels in a file that began well; None where they are text or lie in several other files.

    Of NRRD, which ITK checks itself, the most that there can be.
    Raises EOFError, OSError or zlib.error when they are compressed and damaged.
    """
    if ending == ".nrrd":
        with open(path, "rb") as file:
            header = file.read(_MOST_HEADER).split(b"\n\n")[0]
        return None if re.search(rb"^data ?file:", header, re.MULTILINE) else path.stat().st_size * DEFLATE_RATIO
    if ending == ".gipl":
        return path.stat().st_size - _GIPL_HEADER
    if ending == ".gipl.gz":
        with gzip.open(path) as file:
            return sum(map(len, _blocks(file))) - _GIPL_HEADER
    entries, begin = _meta_header(path)
    data = _data_file(path, entries)
    if data is None or entries.get("BinaryData", "True").startswith(_FALSE):
        return None
    begin = begin if data == path else 0
    if not entries.get("CompressedData", "False").startswith(_TRUE):
        return data.stat().st_size - begin
    with open(data, "rb") as file:
        file.seek(begin)
        return _inflated_bytes(file)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(_BLOCK), b"")


def _inflated_bytes(file: BinaryIO) -> int:
    inflate = zlib.decompressobj(_ANY_DEFLATE)
    held = sum(len(inflate.decompress(block)) for block in _blocks(file))
    if not inflate.eof:
        raise EOFError("the compressed data ends too early")
    return held


def _meta_header(path: Path) -> tuple[dict[str, str], int]:
    """The entries of a MetaImage header, and the byte at which they end."""
    with open(path, "rb") as file:
        start = file.read(_MOST_HEADER)
    last = re.search(rb"^\s*ElementDataFile\s*[=:][^\n]*\n?", start, re.MULTILINE)
    text = start[: last.end()].decode("utf-8", "replace") if last else ""
    entries = dict(re.findall(r"^\s*(\w+)\s*[=:]\s*(.*?)\s*$", text, re.MULTILINE))
    if not {"NDims", "DimSize", "ElementType", "ElementDataFile"} <= entries.keys():
        raise ValueError("it does not begin with the entries of a MetaImage")
    return entries, last.end()


def _data_file(path: Path, entries: dict[str, str]) -> Path | None:
    """Where a MetaImage's voxels are; None when they are in several files."""
    name = entries["ElementDataFile"]
    if name.upper() == "LOCAL":
        return path
    return None if name.upper().startswith("LIST") or "%" in name else path.parent / name
