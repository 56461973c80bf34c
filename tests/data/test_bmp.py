"""BMP masks: few bits, palettes in any order, rows either way."""

from __future__ import annotations

import struct

import numpy as np
import PIL.Image
import pytest

from delightsam_pipeline.data import picture
from delightsam_pipeline.errors import UserError

RNG = np.random.default_rng(0)
BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)


def bmp(path, indices, palette, bits, top_down=False, old_header=False):
    height, width = indices.shape
    rows = np.zeros((height, (width * bits + 31) // 32 * 32), np.uint8)
    rows[:, : width * bits] = (indices[..., None] >> np.arange(bits - 1, -1, -1) & 1).reshape(height, -1)
    data = np.packbits(rows if top_down else rows[::-1], axis=1).tobytes()
    if old_header:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        signed = -height if top_down else height
        header = struct.pack("<IiiHHIIiiII", 40, width, signed, 1, bits, 0, len(data), 0, 0, len(palette), 0)
    table = b"".join(bytes(reversed(colour)) + (b"" if old_header else b"\0") for colour in palette)
    start = 14 + len(header) + len(table)
    path.write_bytes(b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + table + data)
    return path


def numbers(path):
    return picture.read(path, as_label=True).array[0, 0]


@pytest.mark.parametrize("old_header", [False, True])
@pytest.mark.parametrize(("palette", "bright"), [((BLACK, WHITE), 1), ((WHITE, BLACK), 0), ((BLACK, RED), 1)])
def test_one_bit_is_1_where_it_is_brighter(tmp_path, palette, bright, old_header):
    indices = RNG.integers(0, 2, (5, 11))
    path = bmp(tmp_path / "a.bmp", indices, palette, 1, old_header=old_header)
    np.testing.assert_array_equal(numbers(path), indices == bright)
    np.testing.assert_array_equal(picture.read(path).array[0, 0], np.where(indices == bright, 255, 0))


@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_indices_of_few_greys(tmp_path, bits, top_down):
    # Pillow takes these for 1-bit and 8-bit samples.
    greys = [0, 255] if bits != 4 else range(16)
    indices = RNG.integers(0, len(greys), (5, 11))
    path = bmp(tmp_path / "a.bmp", indices, [(grey,) * 3 for grey in greys], bits, top_down)
    np.testing.assert_array_equal(numbers(path), indices)
    np.testing.assert_array_equal(picture.read(path).array[0, 0], np.array(greys)[indices])


def test_a_mask_of_two_greys_as_pillow_writes_it(tmp_path):
    indices = RNG.integers(0, 2, (5, 11)).astype(np.uint8)
    mask = PIL.Image.fromarray(indices)
    mask.putpalette([*BLACK, *WHITE])
    mask.save(tmp_path / "a.bmp")
    np.testing.assert_array_equal(numbers(tmp_path / "a.bmp"), indices)


def test_colours_with_and_without_alpha(tmp_path):
    for channels in (3, 4):
        array = RNG.integers(0, 256, (5, 7, channels), np.uint8)
        PIL.Image.fromarray(array).save(tmp_path / "a.bmp")
        for as_label in (False, True):
            np.testing.assert_array_equal(
                picture.read(tmp_path / "a.bmp", as_label).array[:, 0], array[..., :3].transpose(2, 0, 1)
            )


def test_a_missing_palette_or_row_is_named(tmp_path):
    path = bmp(tmp_path / "a.bmp", RNG.integers(0, 2, (5, 11)), (BLACK, RED), 8)
    content = path.read_bytes()
    path.write_bytes(content[:-8])
    with pytest.raises(UserError, match=r"a\.bmp: cannot be read as BMP"):
        picture.read(path)
    path.write_bytes(content[:10] + struct.pack("<I", 54) + content[14:54] + content[62:])
    with pytest.raises(UserError, match=r"a\.bmp: cannot be read as BMP"):
        picture.read(path)
