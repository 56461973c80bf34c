"""Which files and folders hold DICOM images, by what is in them: their names may be anything."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path

_START = 1024  # bytes in which a file says what it is
_PREAMBLE = 132
_STORED, _SYNTAX = b"\x02\0", b"\x10\0"  # what is stored, and how: element numbers in a file's own header
_MOST_ENTRIES, _MOST_LOOKS = 1000, 20  # in a folder, until it is taken for one without DICOM
_OTHER_IMAGES = (
    *(".bmp", ".gif", ".gipl", ".gipl.gz", ".jpeg", ".jpg", ".mha", ".mhd"),
    *(".nii", ".nii.gz", ".nrrd", ".png", ".tif", ".tiff"),
)
_OTHER_FILES = (".csv", ".gz", ".json", ".md", ".pdf", ".raw", ".txt", ".xml", ".yaml", ".zip", ".zraw")
# Directories, presentation states, raw data, registrations, reports, documents, contours and radiotherapy plans;
# a zero byte ends a name, others are the beginnings of names.
_NO_IMAGE = (
    "1.2.840.10008.1.3.10",
    *(f"1.2.840.10008.5.1.4.1.1.{rest}" for rest in ("11.", "66\0", "66.1\0", "88.", "104.", "481.3\0", "481.5\0")),
)


def is_series(path: Path) -> bool:
    """Whether `path` is a folder that directly holds DICOM images, and not more images of other formats than those.

    Only the first files are looked at.
    """
    try:
        with os.scandir(path) as entries:
            first = list(islice(entries, _MOST_ENTRIES))
    except OSError:
        return False
    candidates = [entry for entry in first if _may_be_dicom(entry)]
    others = sum(entry.name.lower().endswith(_OTHER_IMAGES) for entry in first)
    return len(candidates) >= others and any(_is_image(Path(entry.path)) for entry in candidates[:_MOST_LOOKS])


def series_files(folder: Path) -> list[Path]:
    """The DICOM images directly in a folder, sorted by name.

    A file called .dcm counts even when it does not begin as one, so that a damaged one is not passed over.
    """
    with os.scandir(folder) as entries:
        files = sorted(Path(entry.path) for entry in entries if _may_be_dicom(entry))
    kinds = [(file, _is_image(file)) for file in files]
    return [file for file, kind in kinds if kind or (kind is None and file.suffix.lower() == ".dcm")]


def transfer_syntax(path: Path) -> str | None:
    """The UID of how a DICOM file's values are stored, None where the file does not say."""
    with open(path, "rb") as file:
        return _own_header(file.read(_START), _SYNTAX)


def _is_image(path: Path) -> bool | None:
    """Whether a DICOM file is an image; None for files that are no DICOM."""
    try:
        with open(path, "rb") as file:
            start = file.read(_START)
    except OSError:
        return None
    if start[_PREAMBLE - 4 : _PREAMBLE] == b"DICM":
        return not f"{_own_header(start, _STORED)}\0".startswith(_NO_IMAGE)
    # Old files have no preamble: their first element is of group 2 or 8, and short.
    first, kind = start[:2] in (b"\x02\0", b"\x08\0") and start[3:4] == b"\0", start[4:6]
    return True if first and (kind in (b"UI", b"UL", b"CS", b"SH") or start[5:8] == b"\0\0\0") else None


def _may_be_dicom(entry: os.DirEntry) -> bool:
    name = entry.name.lower()
    other = name.startswith(".") or name == "dicomdir" or name.endswith((*_OTHER_IMAGES, *_OTHER_FILES))
    return not other and entry.is_file()


def _own_header(start: bytes, element: bytes) -> str | None:
    """The UID (0002, element) in a file's own header, which is in explicit little endian in all files."""
    match = re.search(rb"\x02\x00" + re.escape(element) + rb"UI(..)", start, re.DOTALL)
    if match is None:
        return None
    length = int.from_bytes(match[1], "little")
    return start[match.end() : match.end() + length].rstrip(b"\0 ").decode("ascii", "replace")
