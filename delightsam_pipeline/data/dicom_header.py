"""What the header of one DICOM file says about its geometry."""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK

from delightsam_pipeline.data.damage import check_size, damage_reported
from delightsam_pipeline.data.dicom_files import transfer_syntax
from delightsam_pipeline.errors import UserError

_MODALITY = "0008|0060"
_SERIES, _SAMPLES, _COLOURS, _BITS = "0020|000e", "0028|0002", "0028|0004", "0028|0100"
_POSITION, _AXES = "0020|0032", "0020|0037"
_SPACINGS = ("0028|0030", "0018|1164", "0018|2010")  # of the patient, of the detector, of the scanned film
_ACROSS = ("0018|0088", "0018|0050")  # distance of slices, thickness
_COUNTS = {_POSITION: 3, _AXES: 6, **dict.fromkeys(_SPACINGS, 2), **dict.fromkeys(_ACROSS, 1)}
_LENGTH = rb"(?:DS(..)|(..)\x00\x00)"  # behind a tag, with and without a type between them
_PIXELS = b"\xe0\x7f\x10\x00"
_UNPACKED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_ALIKE = 1e-3  # between direction cosines, and between pixel spacings in mm

SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # what matters is raised


@dataclass(frozen=True)
class Header:
    """One file, its pixels not yet read.

    series : what names its series; empty where it does not say. shape : frames, rows, columns.
    dtype : of its values after rescaling. channels : 1, or 3 of colour.
    axes : [2, 3] LPS unit vectors along x and y. positions : [frames or 1, 3] LPS of each frame's first pixel.
    spacing : along x and y in mm. across : the same from slice to slice, as it is declared.
    modality : DICOM's two or three letters, empty where the file has none.
    What the file does not say is None.
    """

    reader: SimpleITK.ImageFileReader
    series: str
    shape: tuple[int, int, int]
    dtype: np.dtype
    channels: int
    axes: np.ndarray | None
    positions: np.ndarray | None
    spacing: tuple[float, float] | None
    across: float | None
    modality: str


def read_header(file: Path) -> Header:
    """Read a file's header. Raises UserError when it is damaged, holds no image, or its frames lie in several ways."""
    with damage_reported(file, "DICOM", RuntimeError):
        reader = SimpleITK.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(file))
        reader.ReadImageInformation()
        width, height, frames = (*reader.GetSize(), 1)[:3]
        _check_room(reader, (frames, height, width), file)
        texts = {tag: [_text(reader, tag)] for tag in _COUNTS} | (_texts_of_frames(file) if frames > 1 else {})
        numbers = {tag: _numbers(several, _COUNTS[tag]) for tag, several in texts.items()}
    axes, positions = numbers[_AXES], numbers[_POSITION]
    spacings = [numbers[tag] for tag in _SPACINGS if numbers[tag] is not None and numbers[tag].min() > 0]
    across = [abs(float(numbers[tag][0, 0])) for tag in _ACROSS if numbers[tag] is not None and numbers[tag].any()]
    for what, several in (("orientations", axes), ("pixel spacings", spacings[0] if spacings else None)):
        if several is not None and np.ptp(several, axis=0).max() > _ALIKE:
            fix = "export each stack of slices on its own"
            raise UserError(f"its slices have different {what}", file=file, fix=fix)
    if positions is not None and len(positions) not in (1, frames):
        expected, found = f"{frames} positions", len(positions)
        raise UserError("does not say where its slices lie", file=file, expected=expected, found=found)
    return Header(
        reader,
        _text(reader, _SERIES),
        (frames, height, width),
        SimpleITK.GetArrayViewFromImage(SimpleITK.Image([1, 1], reader.GetPixelID())).dtype,
        reader.GetNumberOfComponents(),
        None if axes is None else axes[0].reshape(2, 3),
        positions,
        (float(spacings[0][0, 1]), float(spacings[0][0, 0])) if spacings else None,  # the file says it row by row
        across[0] if across else None,
        _text(reader, _MODALITY),
    )


def _check_room(reader: SimpleITK.ImageFileReader, shape: tuple[int, ...], file: Path) -> None:
    """Refuse a size that the file cannot hold: GDCM would fill up with whatever the memory held."""
    bits = int(_text(reader, _BITS) or 8)
    halved = "422" in _text(reader, _COLOURS)  # two pixels share their colour
    samples = 2 if halved else int(_text(reader, _SAMPLES) or 1)
    unpacked = bits % 8 == 0 and transfer_syntax(file) in _UNPACKED
    check_size((*shape, samples), bits // 8, file.stat().st_size if unpacked else None, file)


def _text(reader: SimpleITK.ImageFileReader, tag: str) -> str:
    return reader.GetMetaData(tag).strip("\0 ") if reader.HasMetaDataKey(tag) else ""


def _numbers(texts: list[str], count: int) -> np.ndarray | None:
    """[texts, count] of numbers divided by backslashes; None where there is anything else."""
    try:
        values = np.array([[float(part) for part in text.split("\\")] for text in texts])
    except ValueError:
        return None
    return values if values.shape[1] == count and np.isfinite(values).all() else None


def _texts_of_frames(file: Path) -> dict[str, list[str]]:
    """What the sequences of a multi-frame file say, which SimpleITK does not show: each tag as often as it occurs."""
    found: dict[str, list[str]] = {}
    with open(file, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = content.rfind(_PIXELS)
        for tag in _COUNTS:
            mark = b"".join(int(part, 16).to_bytes(2, "little") for part in tag.split("|"))
            for match in re.compile(re.escape(mark) + _LENGTH, re.DOTALL).finditer(content, 0, end):
                length = int.from_bytes(match[1] or match[2], "little")
                text = content[match.end() : match.end() + length].decode("ascii", "replace").strip("\0 ")
                found.setdefault(tag, []).append(text)
    return found
