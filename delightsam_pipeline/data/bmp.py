"""BMP files with a palette, which Pillow misreads when there are few greys in it (8 bits with two, 4 bits with all)."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

_CORE_HEADER = 12  # bytes of OS/2's header, which has narrower fields and a palette without padding


def read_indexed(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Indices [H, W] uint8 and palette [N, 3] uint8 (red, green, blue); None for files without a palette or packed.

    Raises ValueError or struct.error when the file is damaged.
    """
    content = path.read_bytes()
    start, size = struct.unpack_from("<II", content, 10)
    if size == _CORE_HEADER:
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        packing = entries = 0
    else:
        width, height, _, bits, packing = struct.unpack_from("<iiHHI", content, 18)
        (entries,) = struct.unpack_from("<I", content, 46)
    if bits not in (1, 2, 4, 8) or packing:
        return None
    stride = (width * bits + 31) // 32 * 4
    if width <= 0 or height == 0 or len(content) < start + abs(height) * stride:
        raise ValueError("it is shorter than its header says")
    rows = np.frombuffer(content, np.uint8, abs(height) * stride, start).reshape(abs(height), stride)
    rows = rows[::-1] if height > 0 else rows  # the lowest row comes first, unless the height is negative
    if bits < 8:
        weights = 1 << np.arange(bits - 1, -1, -1, dtype=np.uint8)
        rows = np.unpackbits(rows, axis=1).reshape(len(rows), -1, bits) @ weights
    palette = _palette(content, size, entries or 1 << bits, start)
    return np.ascontiguousarray(rows[:, :width]), palette


def _palette(content: bytes, size: int, entries: int, end: int) -> np.ndarray:
    """[N, 3] uint8; it lies between the header and the pixels, and its colours are blue, green, red."""
    each = 3 if size == _CORE_HEADER else 4
    entries = min(entries, (end - 14 - size) // each)
    if entries <= 0:
        raise ValueError("it has no palette")
    table = np.frombuffer(content, np.uint8, entries * each, 14 + size).reshape(entries, each)
    return table[:, 2::-1]
