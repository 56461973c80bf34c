"""Pictures: every kind of pixel, label maps there and back, and damaged files."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import PIL.Image
import PIL.ImageOps
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


def save(path, array, **options):
    PIL.Image.fromarray(array).save(path, **options)
    return path


def save_indexed(path, indices, palette, **options):
    indexed = PIL.Image.fromarray(np.asarray(indices, np.uint8))
    indexed.putpalette([value for colour in palette for value in colour])
    indexed.save(path, **options)
    return path


def numbers(path):
    return picture.read(path, as_label=True).array[0, 0]


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


@pytest.mark.parametrize("ending", [".png", ".gif", ".bmp"])
def test_a_palette_is_colours_in_an_image_and_numbers_in_a_label_map(tmp_path, ending):
    indices = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    path = save_indexed(tmp_path / f"a{ending}", indices, [(0, 0, 0), (10, 20, 30), (200, 100, 50)])
    np.testing.assert_array_equal(numbers(path), indices)
    image = picture.read(path)
    assert image.array.shape == (3, 1, 2, 3)
    assert image.array[:, 0, 0, 2].tolist() == [200, 100, 50]


@pytest.mark.parametrize("ending", [".png", ".gif", ".bmp"])
def test_a_palette_of_greys_is_one_channel(tmp_path, ending):
    path = save_indexed(tmp_path / f"a{ending}", [[0, 1], [2, 2]], [(9,) * 3, (80,) * 3, (40,) * 3])
    assert picture.read(path).array.tolist() == [[[[9, 80], [40, 40]]]]


@pytest.mark.parametrize("ending", [".png", ".gif"])
@pytest.mark.parametrize(
    ("indices", "greys", "meant"),
    [
        ([0, 1, 1], [0, 255], [0, 1, 1]),
        ([0, 1, 2], [0, 127, 255], [0, 1, 2]),
        ([0, 1, 1], [255, 0], [255, 0, 0]),
        ([0, 2, 1], [0, 200, 100], [0, 100, 200]),
        ([0, 0, 0], [255], [255, 255, 255]),
        ([0, 1, 1], [7, 7], [0, 1, 1]),
    ],
)
def test_greys_that_a_writer_sorted_anew_are_the_numbers(tmp_path, ending, indices, greys, meant):
    path = save_indexed(tmp_path / f"a{ending}", [indices], [(grey,) * 3 for grey in greys], optimize=False)
    assert numbers(path).tolist() == [meant]


def test_one_shade_of_a_palette_of_colours_is_its_index(tmp_path):
    path = save_indexed(tmp_path / "a.png", [[0, 0]], [(255, 255, 255), (255, 0, 0)])
    assert numbers(path).tolist() == [[0, 0]]


def test_a_gif_of_black_and_white(tmp_path):
    mask = np.array([[0, 255, 255], [255, 0, 0]], np.uint8)
    path = save(tmp_path / "a.gif", mask)
    np.testing.assert_array_equal(picture.read(path).array[0, 0], mask)
    np.testing.assert_array_equal(numbers(path) > 0, mask > 0)
    white = save(tmp_path / "b.gif", np.full((2, 3), 255, np.uint8))
    assert (numbers(white) == 255).all()


def test_transparency_is_dropped(tmp_path):
    for ending in (".gif", ".png"):
        path = save_indexed(tmp_path / f"a{ending}", [[0, 1]], [(5, 6, 7), (1, 2, 3)], transparency=1)
        assert picture.read(path).array[:, 0, 0].tolist() == [[5, 1], [6, 2], [7, 3]]


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_is_grey_or_colour(tmp_path, mode):
    shade = {"L": (70,), "RGB": (200, 40, 90), "CMYK": (0, 255, 255, 0)}[mode]
    PIL.Image.new(mode, (16, 8), shade).save(tmp_path / "a.jpg", quality=95)
    expected = {"L": [70], "RGB": [200, 40, 90], "CMYK": [255, 0, 0]}[mode]
    for as_label in (False, True):
        array = picture.read(tmp_path / "a.jpg", as_label).array
        assert array.shape == (len(expected), 1, 8, 16)
        assert np.abs(array[:, 0].mean(axis=(1, 2)) - expected).max() < 2


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("orientation", range(10))
def test_a_turned_picture_is_read_upright(tmp_path, orientation, deep):
    array = RNG.integers(0, 256, (4, 6), np.uint8).astype(np.uint16 if deep else np.uint8) * (200 if deep else 1)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", array, exif=exif)
    with PIL.Image.open(path) as stored:
        shown = np.asarray(PIL.ImageOps.exif_transpose(stored))
    for as_label in (False, True):
        image = picture.read(path, as_label)
        np.testing.assert_array_equal(image.array[0, 0], shown)
        assert image.grid.shape == (1, *shown.shape)


def test_a_turned_jpeg_is_read_upright(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    ramp = np.repeat(np.arange(0, 240, 5, dtype=np.uint8)[:, None], 16, 1)
    array = picture.read(save(tmp_path / "a.jpg", ramp, exif=exif, quality=95)).array
    assert array.shape == (1, 1, 16, 48) and array[0, 0, 0, 0] > 200 > 20 > array[0, 0, 0, -1]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12"])
def test_exif_that_is_damaged_does_no_harm(tmp_path, ending, exif):
    path = save(tmp_path / f"a{ending}", np.full((8, 16), 3, np.uint8), exif=exif)
    assert (picture.read(path).array == 3).all()


def test_the_content_tells_the_format(tmp_path):
    array = RNG.integers(0, 256, (8, 16, 3), np.uint8)
    for format in ("PNG", "BMP"):
        path = save(tmp_path / "a.jpg", array, format=format)
        np.testing.assert_array_equal(picture.read(path).array[:, 0], array.transpose(2, 0, 1))
    path = save(tmp_path / "b.png", array, format="JPEG")
    assert picture.read(path).array.shape == (3, 1, 8, 16)


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
    for ending in (".png", ".bmp") if highest < 256 else (".png",):
        path = tmp_path_factory.mktemp("labels") / f"a{ending}"
        picture.write_labels(path, labels, Image(labels[None], Grid.picture(height, width)))
        np.testing.assert_array_equal(numbers(path), labels[0])


@pytest.mark.parametrize("ending", [".png", ".bmp"])
def test_labels_are_indexed_with_distinct_colours(tmp_path, ending):
    labels = np.arange(256).reshape(1, 16, 16)
    picture.write_labels(tmp_path / f"a{ending}", labels, Image(labels[None], Grid.picture(16, 16)))
    with PIL.Image.open(tmp_path / f"a{ending}") as written:
        assert written.mode == "P"
        colours = np.asarray(written.convert("RGB")).reshape(256, 3)
    assert colours[0].tolist() == [0, 0, 0]
    assert len({tuple(c) for c in colours[:21].tolist()}) == 21
    assert colours[1:].any(axis=1).all()


def test_labels_above_255_are_16_bit_grey(tmp_path):
    labels = np.array([[[0, 300]]])
    like = Image(labels[None], Grid.picture(1, 2))
    picture.write_labels(tmp_path / "a.png", labels, like)
    assert (tmp_path / "a.png").read_bytes()[24:26] == b"\x10\x00"
    with pytest.raises(UserError, match=r"a\.bmp: label does not fit.*at most 255; found 300; use PNG or TIFF"):
        picture.write_labels(tmp_path / "a.bmp", labels, like)


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


@pytest.mark.parametrize("ending", [".jpg", ".gif", ".bmp"])
@pytest.mark.parametrize("kept", [0, 1, 20, 0.5, 0.9])
def test_other_truncated_pictures_are_named(tmp_path, ending, kept):
    path = save(tmp_path / f"a{ending}", RNG.integers(0, 256, (40, 40), np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(UserError, match=rf"a{ending}: cannot be read as .*may be incomplete; copy or export it again"):
        picture.read(path)


def test_other_formats_are_refused(tmp_path):
    path = save(tmp_path / "a.png", np.zeros((9, 9), np.uint8), format="TIFF")
    with pytest.raises(
        UserError, match=r"a\.png: cannot be read as a picture \(it begins as none of PNG, BMP, JPEG, GIF"
    ):
        picture.read(path)


@pytest.mark.parametrize("ending", [".gif", ".png"])
def test_moving_pictures_are_refused(tmp_path, ending):
    frames = [PIL.Image.fromarray(np.full((4, 5), 60 * i, np.uint8)) for i in range(3)]
    frames[0].save(tmp_path / f"a{ending}", save_all=True, append_images=frames[1:])
    with pytest.raises(
        UserError, match=rf"a{ending}: is a moving picture; expected 1 frame; found 3 frames; save every"
    ):
        picture.read(tmp_path / f"a{ending}")


def test_a_jpeg_with_a_preview_behind_it_is_no_moving_picture(tmp_path):
    first, preview = (PIL.Image.new("L", size, 90) for size in ((16, 8), (4, 2)))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview])
    assert picture.read(tmp_path / "a.jpg").array.shape == (1, 1, 8, 16)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".jpg", ".gif"])
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, ending):
    save(tmp_path / f"a{ending}", np.zeros((50, 50), np.uint8))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match=rf"a{ending}: is too large.*at most 2000 pixels"):
        picture.read(tmp_path / f"a{ending}")


def test_labels_on_another_grid_are_a_bug(tmp_path):
    with pytest.raises(ValueError, match="grid"):
        picture.write_labels(
            tmp_path / "a.png", np.zeros((1, 2, 3), int), Image(np.zeros((1, 1, 3, 2)), Grid.picture(3, 2))
        )
