"""Masks as people have them become declared label values, with a sentence, or are refused with what to do."""

from __future__ import annotations

import io
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.data.masks import read_labels
from delightsam_pipeline.errors import UserError

SHAPE = (30, 40)
ONE = Labels.parse({"background": 0, "lesion": 1}, Path("dataset.json"))
TWO = Labels.parse({"background": 0, "a": 1, "b": 2}, Path("dataset.json"))


def coded(**values: int) -> Labels:
    return Labels.parse({"background": 0, "a": 1, "b": 2}, Path("dataset.json"), None, values)


def disc(shape=SHAPE) -> np.ndarray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return ((y / shape[0] - 0.5) ** 2 + (x / shape[1] - 0.4) ** 2 < 0.06).astype(np.uint8)


def save(path: Path, array, **options) -> Path:
    PIL.Image.fromarray(np.asarray(array)).save(path, **options)
    return path


def nifti(path: Path, data: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), path)
    return path


def read(path: Path, labels: Labels | None = ONE) -> tuple[np.ndarray, str]:
    result = read_labels(path, labels)
    return result.array[0, 0], "; ".join(result.notes)


def test_declared_numbers_need_no_note(tmp_path):
    array, notes = read(save(tmp_path / "a.png", disc()))
    np.testing.assert_array_equal(array, disc())
    assert array.dtype == np.uint8 and notes == ""


@pytest.mark.parametrize("ending", [".png", ".bmp", ".gif", ".tif"])
def test_white_on_black_is_class_1(tmp_path, ending):
    array, notes = read(save(tmp_path / f"a{ending}", disc() * np.uint8(255)))
    np.testing.assert_array_equal(array, disc())
    assert notes == "255 was read as 1" or ending == ".gif"  # which has a palette, with numbers of its own


def test_white_of_16_bits_and_white_everywhere(tmp_path):
    array, notes = read(save(tmp_path / "a.png", disc().astype(np.uint16) * 65535))
    np.testing.assert_array_equal(array, disc())
    assert notes == "65535 was read as 1"
    assert read(save(tmp_path / "b.png", np.full(SHAPE, 255, np.uint8)))[0].all()


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_masks_of_one_bit(tmp_path, ending):
    array, notes = read(save(tmp_path / f"a{ending}", disc().astype(bool)))
    np.testing.assert_array_equal(array, disc())
    assert notes in ("", "255 was read as 1")


def test_grey_saved_as_colour(tmp_path):
    array, notes = read(save(tmp_path / "a.bmp", np.repeat(disc()[..., None] * np.uint8(255), 3, 2)))
    np.testing.assert_array_equal(array, disc())
    assert notes == "its colour channels are the same: one was taken; 255 was read as 1"


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_ringing_is_rounded_away(tmp_path, channels):
    mask = np.squeeze(np.repeat(disc((90, 120))[..., None] * np.uint8(255), channels, 2))
    file = save(tmp_path / "a.jpg", mask, quality=60)
    assert len(np.unique(PIL.Image.open(file))) > 10
    array, notes = read(file)
    assert (array != disc((90, 120))).mean() < 0.002 and "were read as 1 from 128 on" in notes


def test_smoothed_contours_in_png_are_rounded_too(tmp_path):
    large = PIL.Image.fromarray(disc((120, 160)) * np.uint8(255)).resize((80, 60), PIL.Image.Resampling.BILINEAR)
    assert len(np.unique(large)) > 4
    array, notes = read(save(tmp_path / "a.png", large))
    assert (array != disc((60, 80))).mean() < 0.01 and "from 128 on" in notes


@pytest.mark.parametrize("value", [2, 100, 128])
def test_a_class_that_nobody_declared_is_no_ringing(tmp_path, value):
    mask = disc() * np.uint8(255)
    mask[:2, :3] = value
    with pytest.raises(UserError, match=rf"a\.png: has undeclared label values; expected 0 1; found 0 {value} 255"):
        read(save(tmp_path / "a.png", mask))


def test_photographs_are_no_masks(tmp_path):
    rng = np.random.default_rng(0)
    for ending in (".png", ".jpg"):
        with pytest.raises(UserError, match="has undeclared label values"):
            read(save(tmp_path / f"a{ending}", rng.integers(0, 256, SHAPE, np.uint8)))


@pytest.mark.parametrize("values", [range(1, 60), [1, 2, 3, 255]])
def test_many_objects_or_classes_with_a_void_are_no_ringing(tmp_path, values):
    """Squares of nine pixels a side, with a pixel of background between them."""
    mask = np.zeros((100, 100), np.uint8)
    for i, value in enumerate(np.resize(values, 100)):
        mask[i // 10 * 10 : i // 10 * 10 + 9, i % 10 * 10 : i % 10 * 10 + 9] = value
    mask[mask == 59] = 255
    with pytest.raises(UserError, match="has undeclared label values"):
        read(save(tmp_path / "a.png", mask))


@pytest.mark.parametrize("grey", [60, 128, 200])
def test_areas_of_another_grey_in_jpeg_are_classes(tmp_path, grey):
    mask = disc((200, 300)) * np.uint8(255)
    mask[:40, :50] = grey
    with pytest.raises(UserError, match="has undeclared label values"):
        read(save(tmp_path / "a.jpg", mask, quality=90))


def test_dark_colours_are_colours(tmp_path):
    dark = disc()[..., None] * np.array([0, 0, 3], np.uint8)
    assert read(save(tmp_path / "a.png", dark))[1] == "#000003 was read as 1"
    dark[:4, :4] = 0, 0, 2
    with pytest.raises(UserError, match="found #000000 #000002 #000003"):
        read(save(tmp_path / "a.png", dark))
    values = {"#000000": 0, "#000002": 1, "#000003": 2}
    np.testing.assert_array_equal(read(tmp_path / "a.png", coded(**values))[0], dark[..., 2] - (dark[..., 2] > 0))


@pytest.mark.parametrize("ending", [".png", ".gif", ".bmp", ".tif"])
def test_palettes_by_the_colours_of_mask_values(tmp_path, ending):
    mask = disc() * np.where(np.arange(40) < 15, 1, 2).astype(np.uint8)
    picture = PIL.Image.fromarray(mask, "P")
    picture.putpalette(bytes([0, 0, 0, 255, 0, 0, 0, 255, 0]))
    picture.save(tmp_path / f"a{ending}")
    labels = coded(**{"#000000": 0, "#ff0000": 2, "#00ff00": 1})
    np.testing.assert_array_equal(read(tmp_path / f"a{ending}", labels)[0], np.array([0, 2, 1])[mask])


def test_numbers_that_mask_values_does_not_have(tmp_path):
    labels = coded(**{"0": 0, "85": 1, "255": 2})
    with pytest.raises(UserError, match="expected 0 85 255; found 0 1 2"):
        read(save(tmp_path / "a.png", disc() * np.where(np.arange(40) < 15, 1, 2).astype(np.uint8)), labels)
    for ending in (".png", ".jpg"):
        with pytest.raises(UserError, match="expected 0 85 255; found #000000"):
            read(save(tmp_path / f"b{ending}", disc((96, 96))[..., None] * np.array([255, 0, 0], np.uint8)), labels)


def test_one_colour_on_black_is_class_1(tmp_path):
    red = disc()[..., None] * np.array([255, 0, 0], np.uint8)
    array, notes = read(save(tmp_path / "a.png", red))
    np.testing.assert_array_equal(array, disc())
    assert notes == "#ff0000 was read as 1"
    red[0, 0] = 0, 255, 0
    with pytest.raises(UserError, match="expected 0 1; found #000000 #00ff00 #ff0000; declare them"):
        read(save(tmp_path / "b.png", red))


def test_palettes_give_their_numbers(tmp_path):
    mask = disc() * np.where(np.arange(40) < 15, 1, 2).astype(np.uint8)
    picture = PIL.Image.fromarray(mask, "P")
    picture.putpalette(bytes([0, 0, 0, 128, 0, 0, 0, 128, 0]))
    for ending in (".png", ".gif", ".bmp"):
        picture.save(tmp_path / f"a{ending}")
        np.testing.assert_array_equal(read(tmp_path / f"a{ending}", TWO)[0], mask)


def test_a_palette_of_white_and_black_is_read_by_its_colours(tmp_path):
    picture = PIL.Image.fromarray(1 - disc(), "P")
    picture.putpalette(bytes([255, 255, 255, 0, 0, 0]))
    picture.save(tmp_path / "a.gif")
    np.testing.assert_array_equal(read(tmp_path / "a.gif")[0], disc())


def test_grey_levels_by_mask_values(tmp_path):
    file = save(tmp_path / "a.png", disc() * np.uint8(127) + np.eye(*SHAPE, dtype=np.uint8) * 64)
    with pytest.raises(UserError, match=r"found 0 64 127 191; declare them"):
        read(file, TWO)
    save(file, disc() * np.uint8(255) - 127 * disc() * (np.arange(40) < 15).astype(np.uint8))
    with pytest.raises(UserError, match=r'write "mask_values": {"0": 0, "128": 1, "255": 2} in dataset\.json'):
        read(file, TWO)
    array, notes = read(file, coded(**{"0": 0, "128": 1, "255": 2}))
    np.testing.assert_array_equal(array, disc() * np.where(np.arange(40) < 15, 1, 2))
    assert notes == "values were read by mask_values"
    with pytest.raises(UserError, match=r"expected 0 255; found 0 128 255; add them to mask_values"):
        read(file, coded(**{"0": 0, "255": 2}))


def test_colours_by_mask_values_exact_and_lossy(tmp_path):
    labels = coded(**{"#000000": 0, "#ff0000": 1, "#00ff00": 2})
    shape = (96, 128)
    truth = disc(shape) * np.where(np.arange(128) < 50, 1, 2)
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)[truth]
    np.testing.assert_array_equal(read(save(tmp_path / "a.png", colours), labels)[0], truth)
    array, notes = read(save(tmp_path / "b.jpg", colours, quality=95, subsampling=0), labels)
    assert (array != truth).mean() < 0.01 and "lossy ones as the nearest" in notes
    assert not read(save(tmp_path / "empty.png", np.zeros(SHAPE, np.uint8)), labels)[0].any()


def test_float_labels_that_are_whole_are_read(tmp_path):
    data = np.zeros((5, 4, 3), np.float64)
    data[1:3] = 2
    data[0] = 1 - 1e-6
    image = read_labels(nifti(tmp_path / "a.nii.gz", data), TWO)
    assert image.array.dtype == np.uint8 and image.array.shape == (1, 3, 4, 5)
    assert np.bincount(image.array.ravel()).tolist() == [24, 12, 24]
    assert image.notes == ("its floating-point values are whole numbers: read as such",)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (0.5, "not whole numbers; found 0.5"),
        (np.nan, "not whole"),
        (-1, "negative values; found -1"),
        (np.inf, "whole"),
    ],
)
def test_labels_that_are_no_labels(tmp_path, value, problem):
    data = np.zeros((5, 4, 3), np.float32)
    data[2, 2, 2] = value
    with pytest.raises(UserError, match=rf"a\.nii: .*{problem}"):
        read_labels(nifti(tmp_path / "a.nii", data))


def test_without_a_declaration_numbers_stay_as_they_are(tmp_path):
    with pytest.raises(UserError, match="negative values; found -7"):
        read_labels(nifti(tmp_path / "a.nii", np.full((5, 4, 3), -7, np.int16)))
    image = read_labels(nifti(tmp_path / "a.nii", np.full((5, 4, 3), 70000, np.int32)))
    assert image.array.dtype == np.int32 and (image.array == 70000).all()
    with pytest.raises(UserError, match=r"b\.png: is not a label map"):
        read(save(tmp_path / "b.png", np.stack([disc(), disc(), 2 - disc()], -1) * np.uint8(80)), None)


def test_an_animation_is_no_mask(tmp_path):
    frames = [PIL.Image.fromarray(disc() * np.uint8(v)) for v in (100, 255)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    (tmp_path / "a.gif").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match=r"a\.gif: .*2"):
        read(tmp_path / "a.gif")


def test_no_meaning_is_guessed_for_values_beside_declared_ones(tmp_path):
    """1 is declared, so that 7 is a mistake and no other way of writing 2."""
    file = tmp_path / "a.png"
    plane = np.zeros((40, 40), np.uint8)
    plane[5:15, 5:15], plane[20:30, 20:30] = 1, 7
    PIL.Image.fromarray(plane).save(file)
    labels = Labels.parse({"background": 0, "a": 1, "b": 2}, tmp_path / "dataset.json")
    with pytest.raises(UserError, match="found 0 1 7; declare them") as error:
        read(file, labels)
    assert '"7"' not in str(error.value)
