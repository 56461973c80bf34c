"""TIFF: every kind of number and packing without loss, volumes with their spacing, label maps there and back."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import SimpleITK
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from delightsam_pipeline.data import tiff
from delightsam_pipeline.data.image import Grid, Image
from delightsam_pipeline.errors import UserError

RNG = np.random.default_rng(0)
INTEGERS = ("u1", "i1", "u2", "i2", "u4", "i4")
FLOATS = ("f2", "f4", "f8")
IMAGECODECS = importlib.util.find_spec("imagecodecs") is not None
NEEDS = r"\.tif: needs the package imagecodecs; found LZW, .* pip install 'delightsam-pipeline\[tiff\]', or save it"


def noise(kind: str, *shape: int) -> np.ndarray:
    if kind[0] == "f":
        return RNG.normal(0, 1000, shape).astype(kind)
    limits = np.iinfo(kind)
    return RNG.integers(limits.min, limits.max, shape, kind, endpoint=True)


def lzw(content: bytes) -> bytes:
    """Packed without packing: every byte a code of 9 bits, the table emptied (256) before codes would grow to 10."""
    codes = [code for i in range(0, len(content), 250) for code in (256, *content[i : i + 250])] + [257]
    bits = np.array([code >> shift & 1 for code in codes for shift in range(8, -1, -1)], np.uint8)
    return np.packbits(bits).tobytes()


def write_lzw(path: Path, array: np.ndarray, byteorder: str = "<", **options: str | list[str]) -> None:
    """Every plane in one strip."""
    tifffile.imwrite(path, array, byteorder=byteorder, **options)
    planes = array if options.get("planarconfig") == "separate" else array[None]
    contents = [lzw(plane.astype(plane.dtype.newbyteorder(byteorder)).tobytes()) for plane in planes]
    sizes = [len(content) for content in contents]
    offsets = [path.stat().st_size + sum(sizes[:i]) for i in range(len(sizes))]
    with tifffile.TiffFile(path, mode="r+") as file:
        for tag, value in ((259, 5), (273, offsets), (279, sizes)):
            file.pages[0].tags[tag].overwrite(value)
    path.write_bytes(path.read_bytes() + b"".join(contents))


def spaced(path: Path, *spacing: float) -> Path:
    path.with_suffix(".json").write_text(json.dumps({"spacing": spacing}))
    return path


def assert_stored(path: Path, array: np.ndarray) -> None:
    """`array` [(z,) H, W(, C)] is what both ways of reading find, in its type."""
    for as_label in (False, True):
        found = tiff.read(path, as_label).array
        assert found.dtype == (np.float32 if array.dtype.kind == "f" else array.dtype.newbyteorder("="))
        np.testing.assert_array_equal(np.moveaxis(found, 0, -1).reshape(array.shape), array.astype(found.dtype))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", INTEGERS + FLOATS)
def test_every_kind_of_number_in_grey_and_colour(tmp_path, kind, order):
    for big in (False, True):
        grey, colour = noise(kind, 5, 7), noise(kind, 5, 7, 3)
        tifffile.imwrite(tmp_path / "a.tif", grey, byteorder=order, bigtiff=big, photometric="minisblack")
        assert_stored(tmp_path / "a.tif", grey)
        tifffile.imwrite(tmp_path / "b.tif", colour, byteorder=order, bigtiff=big, photometric="rgb")
        assert_stored(tmp_path / "b.tif", colour)
    image = tiff.read(tmp_path / "b.tif")
    assert image.array.shape == (3, 1, 5, 7) and image.grid == Grid.picture(5, 7)


@pytest.mark.parametrize("layout", [{"tile": (16, 32)}, {"rowsperstrip": 4}, {}])
@pytest.mark.parametrize("packing", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_tiles_strips_and_planes(tmp_path, kind, packing, layout):
    colour = noise(kind, 37, 53, 3)
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb", **packing, **layout)
    assert_stored(tmp_path / "a.tif", colour)
    planes = {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "b.tif", colour.transpose(2, 0, 1), **planes, **packing, **layout)
    assert_stored(tmp_path / "b.tif", colour)


@pytest.mark.parametrize("packing", ["LZW", "Deflate", "PackBits"])
@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "u4", "f4"])
def test_packings_are_read_exactly_or_refused(tmp_path, kind, packing):
    writer = SimpleITK.ImageFileWriter()
    writer.UseCompressionOn()
    writer.SetCompressor(packing)
    for name, array in (("a", noise(kind, 9, 11)), ("b", noise(kind, 9, 11, 3)), ("c", noise(kind, 4, 9, 11))):
        writer.SetFileName(str(spaced(tmp_path / f"{name}.tif", 3, 2, 1)))
        writer.Execute(SimpleITK.GetImageFromArray(array, isVector=name == "b"))
        if (name, packing) == ("b", "LZW") and kind != "u1" and not IMAGECODECS:
            with pytest.raises(UserError, match=NEEDS):
                tiff.read(tmp_path / "b.tif")
        else:
            assert_stored(tmp_path / f"{name}.tif", array)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", INTEGERS + FLOATS)
def test_lzw_is_read_exactly_or_refused(tmp_path, kind, order):
    array = noise(kind, 9, 11)
    write_lzw(tmp_path / "a.tif", array, byteorder=order, photometric="minisblack")
    if IMAGECODECS or kind in ("u1", "u2") or (order == "<" and kind not in ("i1", "f2", "f8")):
        assert_stored(tmp_path / "a.tif", array)
    else:
        with pytest.raises(UserError, match=NEEDS):
            tiff.read(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("shape", "options", "exact"),
    [
        ((4, 5, 6), {"photometric": "rgb", "planarconfig": "separate", "extrasamples": ["unassalpha"]}, True),
        ((2, 5, 6), {"photometric": "minisblack", "planarconfig": "separate", "extrasamples": ["unassalpha"]}, False),
        ((5, 6, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, True),
        ((5, 6, 4), {"photometric": "rgb", "extrasamples": ["assocalpha"]}, False),
    ],
)
def test_lzw_planes_and_alpha_are_read_exactly_or_refused(tmp_path, shape, options, exact):
    array = noise("u1", *shape)
    write_lzw(tmp_path / "a.tif", array, metadata=None, **options)
    if IMAGECODECS or exact:
        channels = np.moveaxis(array, 0, -1) if "planarconfig" in options else array
        assert_stored(tmp_path / "a.tif", channels[..., :-1])
    else:
        with pytest.raises(UserError, match=NEEDS):
            tiff.read(tmp_path / "a.tif")


@pytest.mark.parametrize("predictor", [1, 2, 3])
def test_predicted_floats(tmp_path, predictor):
    array = noise("f4", 37, 53)
    options = {"compression": "tiff_lzw", "tiffinfo": {317: predictor}, "strip_size": 999}
    PIL.Image.fromarray(array).save(tmp_path / "a.tif", **options)
    assert_stored(tmp_path / "a.tif", array)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_within(tmp_path, channels):
    ramp = np.stack([*np.meshgrid(np.arange(80), np.arange(60)), np.full((60, 80), 90)], -1).astype(np.uint8)
    ramp = ramp if channels == 3 else ramp[..., 0]
    PIL.Image.fromarray(ramp).save(tmp_path / "a.tif", compression="jpeg", quality=95, strip_size=80 * 3 * 16)
    array = tiff.read(tmp_path / "a.tif").array
    assert array.shape == (channels, 1, 60, 80)
    assert np.abs(np.moveaxis(array[:, 0], 0, -1).reshape(ramp.shape).astype(int) - ramp).max() <= 4


@pytest.mark.parametrize("packing", ["raw", "group3", "group4", "tiff_ccitt", "tiff_lzw", "packbits"])
def test_one_bit(tmp_path, packing):
    mask = RNG.random((9, 13)) > 0.5
    PIL.Image.fromarray(mask).save(tmp_path / "a.tif", compression=packing)
    np.testing.assert_array_equal(tiff.read(tmp_path / "a.tif", as_label=True).array[0, 0], mask)
    np.testing.assert_array_equal(tiff.read(tmp_path / "a.tif").array[0, 0], mask * 255)


def test_where_white_is_0_an_image_is_turned_round_and_a_label_map_only_of_one_bit(tmp_path):
    path = tmp_path / "a.tif"
    for kind, inverse in (("u1", lambda a: 255 - a), ("u2", lambda a: 65535 - a), ("f4", lambda a: -a)):
        for write in (tifffile.imwrite, write_lzw):
            array = noise(kind, 5, 7)
            write(path, array, photometric="miniswhite")
            np.testing.assert_array_equal(tiff.read(path).array[0, 0], inverse(array))
            np.testing.assert_array_equal(tiff.read(path, as_label=True).array[0, 0], array)
    bright = RNG.random((5, 7)) > 0.5
    tifffile.imwrite(path, ~bright, photometric="miniswhite")
    np.testing.assert_array_equal(tiff.read(path).array[0, 0], bright * 255)
    np.testing.assert_array_equal(tiff.read(path, as_label=True).array[0, 0], bright)


def test_alpha_is_dropped_and_other_channels_are_kept(tmp_path):
    for kept, kind, extra in ((1, "minisblack", "unassalpha"), (3, "rgb", "assocalpha"), (3, "rgb", "unspecified")):
        array = noise("u2", 5, 7, kept + 1)
        tifffile.imwrite(
            tmp_path / "a.tif", array, photometric=kind, extrasamples=[extra], planarconfig="contig", metadata=None
        )
        assert_stored(tmp_path / "a.tif", array[..., :kept])
    array = noise("u2", 5, 7, 4)
    tifffile.imwrite(tmp_path / "b.tif", array, photometric="minisblack", planarconfig="contig")
    assert_stored(tmp_path / "b.tif", array)


def test_palettes(tmp_path):
    indices = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    for table in ([(0, 0, 0), (10, 20, 30), (200, 100, 50)], [(0, 0, 0), (90, 90, 90), (255, 255, 255)]):
        indexed = PIL.Image.fromarray(indices)
        indexed.putpalette([value for colour in table for value in colour])
        indexed.save(tmp_path / "a.tif", compression="tiff_lzw")
        assert (tiff.read(tmp_path / "a.tif", as_label=True).array[0, 0] == indices).all()
        array = tiff.read(tmp_path / "a.tif").array
        assert len(array) == (1 if table[1] == (90, 90, 90) else 3)
        assert array[:, 0, 0, 2].tolist() == list(table[2])[: len(array)]


@pytest.mark.parametrize("packing", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_read_upright(tmp_path, orientation, packing):
    array = noise("u1", 4, 6)
    PIL.Image.fromarray(array).save(tmp_path / "a.tif", compression=packing, tiffinfo={274: orientation})
    exif = PIL.Image.Exif()
    exif[274] = orientation
    PIL.Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
    with PIL.Image.open(tmp_path / "a.png") as stored:
        assert_stored(tmp_path / "a.tif", np.asarray(PIL.ImageOps.exif_transpose(stored)))


def test_pages_are_slices_with_the_spacing_beside_them(tmp_path):
    volume, colours = noise("i2", 4, 5, 6), noise("u1", 4, 5, 6, 3)
    tifffile.imwrite(spaced(tmp_path / "a.tif", 3, 0.5, 0.25), volume, photometric="minisblack")
    image = tiff.read(tmp_path / "a.tif")
    assert image.grid == Grid((4, 5, 6), (3, 0.5, 0.25)) and image.grid.physical
    assert_stored(tmp_path / "a.tif", volume)
    tifffile.imwrite(spaced(tmp_path / "b.tif", 3, 0.5, 0.25), colours, photometric="rgb")
    assert_stored(tmp_path / "b.tif", colours)


@pytest.mark.parametrize("sidecar", ["c1.json", "c1_0001.json"])
def test_channel_numbers_are_left_out_of_the_name_of_the_spacing(tmp_path, sidecar):
    tifffile.imwrite(tmp_path / "c1_0001.tif", noise("u1", 4, 5, 6), photometric="minisblack")
    (tmp_path / sidecar).write_text('{"spacing": [3, 2, 1]}')
    assert tiff.read(tmp_path / "c1_0001.tif").grid.spacing == (3, 2, 1)


def test_a_volume_without_spacing_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "c1_0000.tif", noise("u1", 4, 5, 6), photometric="minisblack")
    expected = r'c1_0000\.tif: has 4 pages but no spacing; .* c1\.json .*\{"spacing": \[2\.5, 0\.7, 0\.7\]\}'
    with pytest.raises(UserError, match=expected):
        tiff.read(tmp_path / "c1_0000.tif")
    (tmp_path / "c1.json").write_text('{"shapes": []}')
    with pytest.raises(UserError, match=expected):
        tiff.read(tmp_path / "c1_0000.tif")


@pytest.mark.parametrize(
    "wrong", ["[1, 1]", "[1, 1, 0]", "[1, 1, NaN]", "[1, 1, Infinity]", '"1"', "[1, 1, true]", "3"]
)
def test_a_wrong_spacing_is_refused(tmp_path, wrong):
    tifffile.imwrite(tmp_path / "a.tif", noise("u1", 4, 5, 6), photometric="minisblack")
    (tmp_path / "a.json").write_text(f'{{"spacing": {wrong}}}')
    with pytest.raises(UserError, match=r"a\.json: 'spacing' is wrong; expected 3 positive numbers, mm"):
        tiff.read(tmp_path / "a.tif")


def test_a_picture_may_have_a_spacing(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise("u1", 5, 6), resolution=(300, 300))
    assert tiff.read(tmp_path / "a.tif").grid == Grid.picture(5, 6)
    (tmp_path / "a.json").write_text('{"shapes": []}')
    assert tiff.read(tmp_path / "a.tif").grid == Grid.picture(5, 6)
    assert tiff.read(spaced(tmp_path / "a.tif", 0.5, 0.25)).grid == Grid((1, 5, 6), (1, 0.5, 0.25))
    assert tiff.read(spaced(tmp_path / "a.tif", 2, 0.5, 0.25)).grid == Grid((1, 5, 6), (2, 0.5, 0.25))


@settings(deadline=None, max_examples=25)
@given(st.data(), st.tuples(*[st.integers(1, 9)] * 3), st.sampled_from([1, 255, 256, 65535]), st.booleans())
def test_labels_come_back(tmp_path_factory, data, shape, highest, physical):
    shape = shape if physical else (1, *shape[1:])
    spacing = data.draw(st.tuples(*[st.floats(1e-3, 1e3)] * 3))
    grid = Grid(shape, spacing) if physical else Grid.picture(*shape[1:])
    labels = data.draw(arrays(np.int64, shape, elements=st.integers(0, highest)))
    path = tmp_path_factory.mktemp("labels") / "a.tif"
    tiff.write_labels(path, labels, Image(labels[None], grid))
    image = tiff.read(path, as_label=True)
    assert image.grid == grid and image.array.dtype == (np.uint8 if labels.max() < 256 else np.uint16)
    np.testing.assert_array_equal(image.array[0], labels)


def test_written_labels_are_read_alike_by_others(tmp_path):
    labels = RNG.integers(0, 3, (4, 50, 60))
    tiff.write_labels(tmp_path / "a.tif", labels, Image(labels[None], Grid((4, 50, 60), (3.0, 0.5, 0.25))))
    assert json.loads((tmp_path / "a.json").read_text()) == {"spacing": [3.0, 0.5, 0.25]}
    assert (tmp_path / "a.tif").stat().st_size < labels.size / 2
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), labels)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / "a.tif")), labels)
    with PIL.Image.open(tmp_path / "a.tif") as pages:
        pages.seek(3)
        np.testing.assert_array_equal(np.asarray(pages), labels[3])


def test_labels_on_another_grid_are_a_bug(tmp_path):
    with pytest.raises(ValueError, match="grid"):
        tiff.write_labels(
            tmp_path / "a.tif", np.zeros((1, 2, 3), int), Image(np.zeros((1, 1, 3, 2)), Grid.picture(3, 2))
        )
