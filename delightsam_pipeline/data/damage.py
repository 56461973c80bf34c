"""How damaged files are told of, and sizes that no file can have, for all formats of volumes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from delightsam_pipeline.errors import UserError

DEFLATE_RATIO = 1100  # deflate never packs tighter than about 1032 to 1
_MOST_VOXELS = 2**33
_DAMAGED = (OSError, EOFError, ValueError, OverflowError, zlib.error)
_LONGEST_REASON = 160


@contextmanager
def damage_reported(path: Path, kind: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn what libraries raise on files they cannot read into a UserError of one line.

    kind : the format's name. errors : what its library raises beside the usual.
    """
    try:
        yield
    except PermissionError as error:
        raise UserError("cannot be read (no permission)", file=path) from error
    except (*_DAMAGED, *errors) as error:
        # ITK puts the reason last, behind places in its source code
        reason = (str(error).strip() or repr(error)).splitlines()[-1].strip()[:_LONGEST_REASON]
        fix = "the file may be incomplete; copy or export it again"
        raise UserError(f"cannot be read as {kind} ({reason})", file=path, fix=fix) from error


def check_size(shape: Sequence[int], voxel_bytes: int, room: int | None, path: Path) -> int:
    """The bytes an array needs, refused before memory is taken for it where they cannot be.

    shape : of the whole array. voxel_bytes : of one of its numbers. room : the bytes that the file can hold at most.
    Raises UserError for shapes that are none or too large, ValueError for shapes that the file cannot hold.
    """
    if not shape or min(shape) <= 0:
        raise UserError("the header has no valid shape", file=path, found=shape, fix="export the file again")
    voxels = int(np.prod([int(n) for n in shape], dtype=object))
    if voxels > _MOST_VOXELS:
        raise UserError("is too large, or its header is damaged", file=path, found=f"shape {shape}")
    needed = voxels * voxel_bytes
    if room is not None and needed > room:
        raise ValueError(f"shape {shape} needs {needed} bytes, more than the file can hold ({room})")
    return needed
