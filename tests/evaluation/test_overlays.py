"""Pictures: their size, what they show of the image, and where masks are drawn."""

import numpy as np
import pytest
from PIL import Image

from delightsam_pipeline.evaluation.overlays import (
    CLASS_COLOURS,
    REFERENCE_COLOUR,
    best_slice,
    case_panel,
    overlay,
    write_sheet,
)


def has_colour(picture, colour):
    return (picture == np.asarray(colour, np.uint8)).all(axis=-1)


def square(shape, top, left, size, value=1):
    mask = np.zeros(shape, np.uint8)
    mask[top : top + size, left : left + size] = value
    return mask


@pytest.mark.parametrize(
    ("shape", "spacing", "expected"),
    [
        ((64, 100), (1, 1), (256, 400)),
        ((60, 60), (1, 1), (300, 300)),
        ((300, 270), (1, 1), (300, 270)),
        ((32, 64), (2, 1), (256, 256)),
        ((100, 100), (0.5, 1.5), (300, 900)),
        ((2048, 1024), (1, 1), (1024, 512)),
    ],
)
def test_size_and_proportions(shape, spacing, expected):
    picture = overlay(np.zeros((1, *shape), np.float32), spacing=spacing)
    assert picture.dtype == np.uint8
    assert picture.shape == (*expected, 3)


def test_reference_colour_lies_on_the_border_of_the_mask_and_nowhere_else():
    reference = square((64, 64), 10, 20, 8)
    drawn = has_colour(overlay(np.zeros((1, 64, 64)), reference=reference), REFERENCE_COLOUR)
    expected = np.zeros((256, 256), bool)
    expected[40:72, 80:112] = True
    expected[41:71, 81:111] = False
    np.testing.assert_array_equal(drawn, expected)


def test_predicted_classes_are_filled_and_outlined_in_their_own_colours():
    prediction = square((64, 64), 4, 4, 10) + square((64, 64), 40, 30, 6, value=2)
    picture = overlay(np.full((1, 64, 64), 50, np.uint8), prediction)
    first, second = (has_colour(picture, colour) for colour in CLASS_COLOURS[:2])
    assert first[16, 16:56].all() and first[16:56, 55].all()
    assert second[160:184, 120].all()
    assert first.sum() == 4 * 39 and second.sum() == 4 * 23
    assert picture[30, 30].tolist() == [round(0.3 * part) for part in CLASS_COLOURS[0]]
    assert not picture[200, 10].any()


def test_the_fill_lets_the_image_through():
    ramp = np.tile(np.arange(64), (64, 1))[None]
    picture = overlay(ramp, square((64, 64), 8, 8, 48))
    row = picture[128, 40:216].astype(int)
    assert row[-1].sum() - row[0].sum() > 200
    assert (row[:, 0] > row[:, 1]).all()


def test_touching_classes_are_kept_apart_by_a_line():
    prediction = np.ones((64, 64), np.uint8)
    prediction[:, 32:] = 2
    picture = overlay(np.zeros((1, 64, 64)), prediction)
    assert has_colour(picture, CLASS_COLOURS[0])[:, 127].all()
    assert has_colour(picture, CLASS_COLOURS[1])[:, 128].all()


def test_grey_values_are_scaled_between_percentiles():
    image = np.linspace(-1000, 1000, 256 * 256).reshape(1, 256, 256)
    image[0, 0, 0] = 1e9
    picture = overlay(image)
    assert picture[0, 10].tolist() == [0, 0, 0]
    assert picture[-1, -1].tolist() == [255, 255, 255]
    assert abs(int(picture[128, 128, 0]) - 127) <= 1


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_constant_and_undefined_images_are_shown_black(value):
    assert not overlay(np.full((1, 300, 300), value)).any()


def test_photographs_are_shown_as_they_are_and_other_channels_as_grey():
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (3, 300, 280), dtype=np.uint8)
    np.testing.assert_array_equal(overlay(photo), photo.transpose(1, 2, 0))
    sequences = overlay(photo.astype(np.float32))
    assert (sequences == sequences[..., :1]).all()


def test_the_slice_with_the_largest_area_is_shown():
    mask = np.zeros((5, 20, 20), np.uint8)
    mask[1, 5, 5] = mask[3, 5:8, 5:8] = 1
    assert best_slice(mask) == 3
    assert best_slice(np.zeros((5, 4, 4))) == 2


def panel_pictures(panel, size):
    """The three pictures of a panel whose slices are size x size."""
    array = np.asarray(panel)
    return [array[26 : 26 + size, left : left + size] for left in (6 + i * (size + 6) for i in range(3))]


def test_panel_shows_image_reference_and_prediction():
    image = np.random.default_rng(1).random((1, 4, 64, 64)).astype(np.float32)
    reference, prediction = np.zeros((2, 4, 64, 64), np.uint8)
    reference[2, 10:30, 10:30] = 1
    prediction[2, 12:40, 12:40] = 1
    prediction[0] = 2
    alone, expected, predicted = panel_pictures(case_panel(image, prediction, reference, "case_1"), 256)
    np.testing.assert_array_equal(alone, overlay(image[:, 2]))
    np.testing.assert_array_equal(expected, overlay(image[:, 2], reference[2]))
    np.testing.assert_array_equal(predicted, overlay(image[:, 2], prediction[2], reference[2]))


def test_panel_of_an_empty_reference_shows_the_largest_prediction():
    image = np.random.default_rng(1).random((1, 4, 64, 64)).astype(np.float32)
    reference, prediction = np.zeros((2, 4, 64, 64), np.uint8)
    prediction[3, 5:9, 5:9] = 1
    alone, _, _ = panel_pictures(case_panel(image, prediction, reference, "case_1"), 256)
    np.testing.assert_array_equal(alone, overlay(image[:, 3]))


def test_ignored_voxels_are_neither_drawn_nor_counted_for_the_slice():
    image = np.random.default_rng(1).random((1, 4, 64, 64)).astype(np.float32)
    reference = np.full((4, 64, 64), 2, np.uint8)
    reference[1] = square((64, 64), 10, 10, 20)
    prediction = reference * (reference == 1)
    panel = case_panel(image, prediction, reference, "case_1", ignore=2)
    np.testing.assert_array_equal(np.asarray(panel), np.asarray(case_panel(image, prediction, prediction, "case_1")))


def test_panel_can_be_small():
    image, mask = np.zeros((1, 1, 64, 48), np.float32), np.zeros((1, 64, 48), np.uint8)
    small, usual = case_panel(image, mask, mask, "case_1", longest=128), case_panel(image, mask, mask, "case_1")
    assert small.size == (6 + 3 * (96 + 6), 6 + 20 + 128 + 6)
    assert usual.width > 2 * small.width


def test_sheet_holds_every_panel(tmp_path):
    colours = [(200, 10, 10), (10, 200, 10), (10, 10, 200)]
    panels = [(f"case_{i} " * 30, Image.new("RGB", (900, 50 + i), colour)) for i, colour in enumerate(colours)]
    write_sheet(tmp_path / "sheet.png", panels)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        array = np.asarray(sheet)
    for i, colour in enumerate(colours):
        assert has_colour(array, colour).sum() == 900 * (50 + i)
    assert array.shape[1] < 3200
    assert (array[6:20, 6:906] > 100).any()  # the title, shortened to the panel's width
    assert not (array[6:20, 907:912] > 0).any()


def test_sheet_has_as_many_columns_as_asked_for(tmp_path):
    panels = [(f"case_{i}", Image.new("RGB", (50, 40))) for i in range(4)]
    for columns in (1, 2, 4):
        write_sheet(tmp_path / "sheet.png", panels, columns)
        with Image.open(tmp_path / "sheet.png") as sheet:
            assert sheet.size == (6 + columns * 56, 6 + 4 // columns * 66)
