"""TIFF files that are damaged, hostile, or of a kind that cannot be read: one line each."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile

from delightsam_pipeline.data import tiff
from delightsam_pipeline.errors import UserError

RNG = np.random.default_rng(0)


def grey(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


def directory(path: Path, tags: dict[int, int], following: int = 0, data: bytes = b"") -> Path:
    """A file of one little-endian directory at byte 8, whose entries are single numbers, and `data` behind it."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    path.write_bytes(head + entries + struct.pack("<I", following) + data)
    return path


def raw(height: int, width: int, **others: int) -> dict[int, int]:
    """The entries of a grey picture of 8 bits in one strip behind a directory of 7 entries."""
    names = {"packing": 259, "photometric": 262, "bits": 258, "size": 279, "kind": 339}
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8 + 2 + 7 * 12 + 4, 279: height * width}
    return tags | {names[name]: value for name, value in others.items()}


def test_a_file_made_by_hand_is_read(tmp_path):
    path = directory(tmp_path / "a.tif", raw(2, 3), data=bytes(range(6)))
    assert tiff.read(path).array.tolist() == [[[[0, 1, 2], [3, 4, 5]]]]


@pytest.mark.parametrize("kept", [0, 1, 7, 30, 0.5, 0.95])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
def test_truncated_files_are_named(tmp_path, caplog, options, kept):
    tifffile.imwrite(tmp_path / "a.tif", grey(64, 64), photometric="minisblack", **options)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(UserError, match=r"a\.tif: cannot be read as TIFF .*may be incomplete; copy or export it again"):
        tiff.read(tmp_path / "a.tif")
    assert not caplog.records


def test_a_long_circle_of_pages_is_named(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for _ in range(130):
            file.write(grey(2, 3), contiguous=False, metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        first, last = file.pages[0].offset, file.pages[129]
        place = last.offset + 2 + 12 * len(last.tags)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    struct.pack_into("<I", content, place, first)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.tif: cannot be read as TIFF \(its list of pages runs in a circle\)"):
        tiff.read(tmp_path / "a.tif")


def test_another_format_under_the_name_is_refused(tmp_path):
    PIL.Image.new("L", (9, 9)).save(tmp_path / "a.tif", format="PNG")
    with pytest.raises(UserError, match=r"a\.tif: cannot be read as TIFF \(not a TIFF file: "):
        tiff.read(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("tags", "following", "problem"),
    [
        (raw(2, 3), 8, "its list of pages runs in a circle"),
        (raw(2, 3), 10**6, "invalid page offset"),
        (raw(0, 3), 0, "it has no pixels"),
        (raw(9, 9), 0, "it ends too early"),
        ({256: 3, 259: 1}, 0, "missing data offset"),
        (raw(2, 3, size=0), 0, "it does not say where all its pixels are"),
        (raw(2, 3, packing=8, size=6), 0, ""),
        (raw(2, 3, photometric=3), 0, "its palette is missing"),
    ],
)
def test_damaged_directories_are_named(tmp_path, tags, following, problem):
    path = directory(tmp_path / "a.tif", tags, following, bytes(range(6)))
    with pytest.raises(UserError, match=rf"a\.tif: cannot be read as TIFF \(.*{problem}"):
        tiff.read(path)


@pytest.mark.parametrize("height", [2**14, 2**30])
@pytest.mark.parametrize("packing", [1, 5, 8])
def test_a_decompression_bomb_is_refused_before_memory_is_taken(tmp_path, monkeypatch, height, packing):
    def unpack(*_):
        raise AssertionError("unpacked")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", unpack)
    path = directory(tmp_path / "a.tif", raw(height, 2**14, packing=packing, size=6), data=bytes(6))
    with pytest.raises(UserError, match=r"a\.tif: (is too large|.* needs \d+ bytes, more than the file can hold)"):
        tiff.read(path)


def test_a_bomb_in_the_padding_of_a_tile_is_refused(tmp_path):
    tiles = {256: 3, 257: 2, 258: 8, 259: 8, 262: 1, 322: 2**20, 323: 2**20, 324: 8, 325: 6}
    with pytest.raises(UserError, match=r"a\.tif: .* needs \d+ bytes, more than the file can hold"):
        tiff.read(directory(tmp_path / "a.tif", tiles))


@pytest.mark.parametrize(
    ("others", "problem"),
    [
        ({"photometric": 5}, "its colours are of kind 5"),
        ({"photometric": 6}, "its colours are YCbCr"),
        ({"photometric": 2}, "it has 1 channels"),
        ({"bits": 12}, "its samples have 12 bits"),
        ({"kind": 6}, "its samples have 8 bits, kind 6"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, others, problem):
    path = directory(tmp_path / "a.tif", raw(2, 3, **others), data=bytes(20))
    with pytest.raises(UserError, match=rf"a\.tif: is a TIFF that cannot be read: {problem}.*; save it again as grey"):
        tiff.read(path)


def test_pages_that_make_no_volume_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(grey(4, 6), photometric="minisblack")
        file.write(grey(8, 9), photometric="minisblack")
    with pytest.raises(UserError, match=r"a\.tif: its pages differ .*found 2 pages, the first 6 x 4, another 9 x 8"):
        tiff.read(tmp_path / "a.tif")


def test_reduced_copies_are_left_out(tmp_path):
    picture = grey(8, 10)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(picture, photometric="minisblack")
        file.write(picture[::2, ::2], photometric="minisblack", subfiletype=1)
    np.testing.assert_array_equal(tiff.read(tmp_path / "a.tif").array[0, 0], picture)


def test_stacks_that_mix_channels_and_slices_are_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"spacing": [1, 1, 1]}')
    tifffile.imwrite(tmp_path / "a.tif", grey(4, 2, 5, 6), imagej=True, metadata={"axes": "ZCYX"})
    with pytest.raises(UserError, match=r"a\.tif: its pages mix slices and channels; found 2 channels; save every"):
        tiff.read(tmp_path / "a.tif")
    volume = grey(4, 5, 6)
    tifffile.imwrite(tmp_path / "a.tif", volume, imagej=True)
    np.testing.assert_array_equal(tiff.read(tmp_path / "a.tif").array[0], volume)


def test_a_stack_with_one_directory_for_all_its_slices_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", grey(5, 6), description="ImageJ=1.54\nimages=9\nslices=9\n", metadata=None)
    with pytest.raises(UserError, match=r"a\.tif: lists too few pages; expected 9; found 1"):
        tiff.read(tmp_path / "a.tif")
