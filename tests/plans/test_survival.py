"""How much of a mask survives on coarser grids."""

from __future__ import annotations

import numpy as np
import pytest

from delightsam_pipeline.plans.survival import CELLS, largest_cell, survival, surviving


def disc(side: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return y**2 + x**2 <= radius**2


def lines(side: int) -> np.ndarray:
    mask = np.zeros((side, side), bool)
    mask[5::13] = True
    return mask


def test_a_large_disc_survives_and_thin_lines_do_not():
    large, thin = (survival(mask[None]) for mask in (disc(160, 60), lines(160)))
    at_8 = CELLS.index(8.0)
    assert large[at_8] > 0.97
    assert thin[at_8] < 0.3
    assert largest_cell(large, 0.95) > 4 > 2.5 > largest_cell(thin, 0.95)


def test_a_curve_begins_at_one_and_falls():
    for mask in (disc(128, 50), disc(128, 12), lines(128), disc(128, 20) & ~disc(128, 16)):
        curve = survival(mask[None])
        assert len(curve) == len(CELLS) and curve[0] == 1
        assert all(0 <= value <= 1 for value in curve)
        assert curve[-1] < 1
        # cells that happen to fit do a little better; once most of a mask is lost, luck decides
        steps = np.diff(curve)[np.array(curve[:-1]) > 0.6]
        assert steps.max() < 0.06


def test_cells_of_two_by_hand():
    at_2 = CELLS.index(2.0)
    mask = np.zeros((1, 4, 4), bool)
    mask[0, :2, :2] = True  # fills a cell, whose value falls to 3/4 and 9/16 at its inner pixels: all come back
    assert survival(mask)[at_2] == 1
    mask[:] = False
    mask[0, 1] = True  # half of the upper cells: 1/2 in row 0, 3/8 in row 1, so row 0 comes back instead
    assert survival(mask)[at_2] == 0
    both = np.concatenate([np.zeros_like(mask), mask])
    both[0, :2, :2] = True
    assert survival(both)[at_2] == pytest.approx(2 * 4 / (8 + 8))  # pixels of all slices together


def test_no_foreground_has_no_curve():
    assert survival(np.zeros((3, 8, 8), bool)) is None


def test_empty_slices_do_not_count():
    mask = np.zeros((40, 32, 32), bool)
    mask[7] = disc(32, 9)
    assert survival(mask) == survival(mask[7:8])


def test_a_part_of_the_slices_is_enough():
    generator = np.random.default_rng(0)
    for size, part in (((37, 90), np.s_[8:20, 31:32]), ((64, 51), np.s_[0:30, 20:51]), ((200, 9), np.s_[150:200, 0:9])):
        whole = np.zeros((14, *size), bool)
        whole[3:][:, *part] = generator.random(whole[3:][:, *part].shape) > 0.3
        crop = whole[2:][:, *part]
        assert survival(crop, (part[0].start, part[1].start), size) == survival(whole)


def test_large_slices_are_worked_on_one_by_one(monkeypatch):
    masks = np.random.default_rng(0).random((5, 40, 50)) > 0.4
    at_once = survival(masks)
    monkeypatch.setattr("delightsam_pipeline.plans.survival._PIXELS", 40 * 50 * 2)
    assert survival(masks) == at_once


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_largest_cell_is_where_the_curve_meets_the_threshold(threshold):
    curve = survival(disc(100, 14)[None])
    cell = largest_cell(curve, threshold)
    assert surviving(curve, cell) >= threshold
    assert surviving(curve, cell * 1.05) < threshold


def test_between_cells_and_at_the_ends():
    curve = [1.0, 1.0, 1.0, 0.9, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.0]
    assert [surviving(curve, cell) for cell in CELLS] == pytest.approx(curve)
    assert surviving(curve, np.sqrt(3 * 4)) == pytest.approx(0.7)  # half-way on a logarithmic scale
    assert largest_cell(curve, 0.9) == pytest.approx(3, rel=0.03)
    assert largest_cell([1.0] * len(CELLS), 0.95) == pytest.approx(CELLS[-1])
    assert largest_cell([0.5] * len(CELLS), 0.95) == CELLS[0]
