"""PNG pictures: every kind of pixel, label maps there and back, and damaged files."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from delightsam_pipeline.data import picture
from delightsam_pipeline.data.image import Grid, Image
from delightsam_pipeline.errors import UserError

RNG = np.random.default_rng(0)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def save_raw(path, rows: list[bytes], width: int, depth: int, colour_type: int, extra: bytes = b""):
    """A PNG made by hand, since Pillow does not write all kinds."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def save(path, array, mode=None):
    PIL.Image.fromarray(array, mode).save(path) if mode is None else PIL.Image.fromarray(array).convert(mode).save(path)
    return path


def test_grey_and_colour_of_8_bits(tmp_path):
    grey, colour = RNG.integers(0, 256, (4, 6), np.uint8), RNG.integers(0, 256, (4, 6, 3), np.uint8)
    image = picture.read(save(tmp_path / "a.png", grey))
    assert image.grid == Grid.picture(4, 6) and not image.grid.physical
    np.testing.assert_array_equal(image.array, grey[None, None])
    image = picture.read(save(tmp_path / "b.png", colour))
    np.testing.assert_array_equal(image.array, colour.transpose(2, 0, 1)[:, None])


def test_alpha_is_dropped(tmp_path):
    rgba, grey_alpha = RNG.integers(0, 256, (4, 6, 4), np.uint8), RNG.integers(0, 256, (4, 6, 2), np.uint8)
    image = picture.read(save(tmp_path / "a.png", rgba))
    np.testing.assert_array_equal(image.array, rgba[..., :3].transpose(2, 0, 1)[:, None])
    image = picture.read(save(tmp_path / "b.png", grey_alpha))
    np.testing.assert_array_equal(image.array, grey_alpha[None, None, ..., 0])


@pytest.mark.parametrize(("colour_type", "samples", "kept"), [(0, 1, 1), (2, 3, 3), (4, 2, 1), (6, 4, 3)])
def test_16_bits_survive(tmp_path, colour_type, samples, kept):
    if colour_type:
        pytest.importorskip("SimpleITK")
    values = RNG.integers(0, 65536, (5, 7, samples)).astype(np.uint16)
    rows = [row.astype(">u2").tobytes() for row in values]
    image = picture.read(save_raw(tmp_path / "a.png", rows, 7, 16, colour_type))
    assert image.array.dtype == np.uint16
    np.testing.assert_array_equal(image.array, values[..., :kept].transpose(2, 0, 1)[:, None])


def test_a_palette_is_colours_in_an_image_and_numbers_in_a_label_map(tmp_path):
    indices = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    indexed = PIL.Image.fromarray(indices)
    indexed.putpalette([0, 0, 0, 10, 20, 30, 200, 100, 50])
    indexed.save(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.read(tmp_path / "a.png", as_label=True).array[0, 0], indices)
    image = picture.read(tmp_path / "a.png")
    assert image.array.shape == (3, 1, 2, 3)
    assert image.array[:, 0, 0, 2].tolist() == [200, 100, 50]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_are_spread_in_an_image_and_kept_in_a_label_map(tmp_path, depth):
    highest = 2**depth - 1
    samples = np.arange(8) % (highest + 1)
    bits = "".join(f"{s:0{depth}b}" for s in samples)
    rows = [int(bits, 2).to_bytes(depth, "big")]
    path = save_raw(tmp_path / "a.png", rows, 8, depth, 0)
    assert picture.read(path, as_label=True).array.ravel().tolist() == samples.tolist()
    assert picture.read(path).array.ravel().tolist() == (samples * 255 // highest).tolist()
    indexed = save_raw(tmp_path / "b.png", rows, 8, depth, 3, chunk(b"PLTE", bytes(range(3 * (highest + 1)))))
    assert picture.read(indexed, as_label=True).array.ravel().tolist() == samples.tolist()


@settings(deadline=None, max_examples=25)
@given(st.data(), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 255, 256, 65535]))
def test_labels_come_back(tmp_path_factory, data, height, width, highest):
    labels = data.draw(arrays(np.int64, (1, height, width), elements=st.integers(0, highest)))
    path = tmp_path_factory.mktemp("labels") / "a.png"
    picture.write_labels(path, labels, Image(labels[None], Grid.picture(height, width)))
    np.testing.assert_array_equal(picture.read(path, as_label=True).array[0], labels)


def test_labels_are_indexed_with_distinct_colours(tmp_path):
    labels = np.arange(256).reshape(1, 16, 16)
    picture.write_labels(tmp_path / "a.png", labels, Image(labels[None], Grid.picture(16, 16)))
    with PIL.Image.open(tmp_path / "a.png") as written:
        assert written.mode == "P"
        colours = np.asarray(written.convert("RGB")).reshape(256, 3)
    assert colours[0].tolist() == [0, 0, 0]
    assert len({tuple(c) for c in colours[:21].tolist()}) == 21
    assert colours[1:].any(axis=1).all()


def test_labels_above_255_are_16_bit_grey(tmp_path):
    labels = np.array([[[0, 300]]])
    picture.write_labels(tmp_path / "a.png", labels, Image(labels[None], Grid.picture(1, 2)))
    assert (tmp_path / "a.png").read_bytes()[24:26] == b"\x10\x00"


@pytest.mark.parametrize("colour_type", [0, 2])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("kept", [0, 5, 20, 30, 0.5, 0.95])
def test_truncated_files_are_named(tmp_path, kept, depth, colour_type):
    size = 40 * depth // 8 * (3 if colour_type else 1)
    path = save_raw(tmp_path / "a.png", [RNG.bytes(size) for _ in range(40)], 40, depth, colour_type)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(UserError, match=r"a\.png: .*may be incomplete; copy or export it again"):
        picture.read(path)


def test_another_format_under_the_name_is_refused(tmp_path):
    PIL.Image.new("L", (9, 9)).save(tmp_path / "a.png", format="JPEG")
    with pytest.raises(UserError, match=r"a\.png: cannot be read as PNG"):
        picture.read(tmp_path / "a.png")


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    save(tmp_path / "a.png", np.zeros((50, 50), np.uint8))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match=r"a\.png: is too large.*at most 2000 pixels"):
        picture.read(tmp_path / "a.png")


def test_labels_on_another_grid_are_a_bug(tmp_path):
    with pytest.raises(ValueError, match="grid"):
        picture.write_labels(
            tmp_path / "a.png", np.zeros((1, 2, 3), int), Image(np.zeros((1, 1, 3, 2)), Grid.picture(3, 2))
        )
