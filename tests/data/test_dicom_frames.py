"""DICOM files of several slices that make no volume are refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from delightsam_pipeline.data.formats import read_image
from delightsam_pipeline.errors import UserError

VOLUME = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)


def test_several_files_of_many_slices(tmp_path, write_frames):
    for name, start in (("a.dcm", 0), ("b.dcm", 30)):
        write_frames(tmp_path / "series" / name, VOLUME, [(1, 2, start + z) for z in (0, 3, 6)])
    with pytest.raises(UserError, match="series: holds several files of many slices each; expected 1; found 2"):
        read_image(tmp_path / "series")


def test_frames_without_enough_positions(tmp_path, write_frames):
    file = write_frames(tmp_path / "a.dcm", VOLUME, [(1, 2, 0), (1, 2, 3)])
    with pytest.raises(UserError, match=r"a\.dcm: does not say where its slices lie; expected 3 positions; found 2"):
        read_image(file)


def test_frames_along_several_axes(tmp_path, write_dicom):
    def element(tag: str, kind: bytes, value: bytes) -> bytes:
        return struct.pack("<HH", int(tag[:4], 16), int(tag[4:], 16)) + kind + value

    def orientation(text: bytes) -> bytes:
        text += b" " * (len(text) % 2)
        value = element("00200037", b"DS", struct.pack("<H", len(text)) + text)
        group = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(value)) + value
        return element("00209116", b"SQ", struct.pack("<HI", 0, len(group)) + group)

    items = [orientation(text) for text in (rb"1\0\0\0\1\0", rb"1\0\0\0\1\0", rb"0\1\0\0\0\1")]
    frames = b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<I", len(value)) + value for value in items)
    file = write_dicom(tmp_path / "a.dcm", VOLUME, {"52009230": frames}, kind="1.2.840.10008.5.1.4.1.1.4.1")
    with pytest.raises(UserError, match=r"a\.dcm: its slices have different orientations; export each stack"):
        read_image(file)
