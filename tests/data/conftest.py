"""DICOM files for tests of several rooms, written byte by byte: what a library would not write is wanted too."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

_KINDS = {
    **dict.fromkeys(("00020002", "00020003", "00020010", "00020012", "00080016", "00080018"), "UI"),
    **dict.fromkeys(("0020000d", "0020000e"), "UI"),
    **dict.fromkeys(("00080060", "00280004"), "CS"),
    **dict.fromkeys(("00180050", "00180088", "00181164", "00200032", "00200037", "00280030"), "DS"),
    **dict.fromkeys(("00281052", "00281053"), "DS"),
    **dict.fromkeys(("00280002", "00280006", "00280010", "00280011", "00280100", "00280101", "00280102"), "US"),
    **{"00100010": "PN", "00280008": "IS", "00280103": "US", "7fe00010": "OW"},
    **dict.fromkeys(("52009229", "52009230", "00209113", "00209116", "00289110"), "SQ"),
}
_CT = "1.2.840.10008.5.1.4.1.1.2"


def element(tag: str, value: str | int | bytes) -> bytes:
    """One element in explicit little endian."""
    kind = _KINDS.get(tag, "OB")
    if isinstance(value, int):
        value = struct.pack("<H", value)
    value = value.encode() if isinstance(value, str) else value
    value += (b"\0" if kind in ("UI", "OB", "OW", "SQ") else b" ") * (len(value) % 2)
    length = struct.pack("<HI", 0, len(value)) if kind in ("OB", "OW", "SQ") else struct.pack("<H", len(value))
    return struct.pack("<HH", int(tag[:4], 16), int(tag[4:], 16)) + kind.encode() + length + value


def item(content: bytes) -> bytes:
    """One item of a sequence."""
    return b"\xfe\xff\x00\xe0" + struct.pack("<I", len(content)) + content


def content_of(pixels: np.ndarray, kind: str, colour: bool, preamble: bool, elements: dict) -> bytes:
    frames = pixels.shape[: pixels.ndim - (3 if colour else 2)]
    rows, columns = pixels.shape[len(frames) : len(frames) + 2]
    bits = 8 * pixels.itemsize
    every = {
        **{"00080016": kind, "00080018": "1.2.3.4.5.6", "00080060": "CT", "0020000d": "1.2.3", "0020000e": "1.2.3.4"},
        **{"00280002": 3 if colour else 1, "00280004": "RGB" if colour else "MONOCHROME2"},
        **({"00280006": 0} if colour else {}) | ({"00280008": str(frames[0])} if frames else {}),
        **{"00280010": rows, "00280011": columns, "00280100": bits, "00280101": bits, "00280102": bits - 1},
        **{"00280103": int(pixels.dtype.kind == "i"), "7fe00010": pixels.tobytes()},
        **elements,
    }
    body = b"".join(element(tag, value) for tag, value in sorted(every.items()))
    entries = {"00020002": kind, "00020003": "1.2.3.4.5.6", "00020010": "1.2.840.10008.1.2.1", "00020012": "1.2.3"}
    own = element("00020001", b"\0\1") + b"".join(element(tag, value) for tag, value in entries.items())
    size = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(own))
    return b"\0" * 128 + b"DICM" + size + own + body if preamble else body


@pytest.fixture(scope="session")
def write_dicom():
    """A function that writes pixels ([frames,] rows, columns[, 3]) and these elements (tag: value) as DICOM."""

    def write(path: Path, pixels, elements=None, kind: str = _CT, colour=False, preamble=True) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content_of(np.asarray(pixels), kind, colour, preamble, elements or {}))
        return path

    return write


@pytest.fixture(scope="session")
def write_series(write_dicom):
    """A function that writes a volume [z, y, x] as a DICOM series, one file per slice.

    positions : of each slice, LPS; by default 2 mm apart. names : function from slice number to file name.
    """

    def write(folder: Path, volume, positions=None, elements=None, names="CT.1.2.{}".format) -> Path:
        for number, pixels in enumerate(volume):
            position = (10, 20, 30 + 2 * number) if positions is None else positions[number]
            place = {"00200032": "\\".join(f"{v:.12g}" for v in position), "00200037": r"1\0\0\0\1\0"}
            every = {"00080018": f"1.2.3.4.{number + 1}", "00280030": r"0.6\0.5", "00180050": "3", **place}
            write_dicom(folder / names(number), pixels, every | (elements or {}))
        return folder

    return write


@pytest.fixture(scope="session")
def write_frames(write_dicom):
    """A function that writes a volume [z, y, x] as one file of several frames at these positions, LPS."""

    def write(path: Path, volume, positions) -> Path:
        directions = element("00209116", item(element("00200037", r"1\0\0\0\1\0")))
        measures = element("00289110", item(element("00180050", "9") + element("00280030", r"0.6\0.5")))
        places = ("\\".join(map(str, position)) for position in positions)
        frames = [item(element("00209113", item(element("00200032", place)))) for place in places]
        groups = {"52009229": item(directions + measures), "52009230": b"".join(frames)}
        return write_dicom(path, volume, groups, kind="1.2.840.10008.5.1.4.1.1.4.1")

    return write
