"""What a report's pictures are made of: planes, outlines, and the round trip over the mask grid."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from delightsam_pipeline.data.image import Grid
from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.inference.segment import reduce
from delightsam_pipeline.preprocessing.preparation import WayBack, place
from delightsam_pipeline.preprocessing.report.network import brought_back, round_trip
from delightsam_pipeline.preprocessing.report.pictures import outline, reduced, reduced_mask, scale_bar
from delightsam_pipeline.preprocessing.report.planes import centre, planes, window
from delightsam_pipeline.preprocessing.store import StoredCase, save_case

CLASSES = Labels.parse({"background": 0, "lesion": 1, "vessel": 2}, Path("dataset.json"))
REGIONS = Labels.parse({"background": 0, "whole": [1, 2], "core": 2}, Path("dataset.json"), [1, 2])


def filled(path: str, shape: tuple[int, int]) -> np.ndarray:
    """The pixels that an outline surrounds: crossings to the left of each are counted."""
    crossings = np.zeros((shape[0], shape[1] + 1), int)
    for x, y, length in re.findall(r"M(\d+) (\d+)v(\d+)", path):
        crossings[int(y) : int(y) + int(length), int(x)] += 1
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1


@pytest.mark.parametrize("seed", range(5))
def test_an_outline_holds_exactly_its_mask(seed):
    mask = np.random.default_rng(seed).random((9, 13)) < 0.4
    path = outline(mask)
    assert (filled(path, mask.shape) == mask).all()
    turned = re.sub(r"M(\d+) (\d+)([hv])", lambda m: f"M{m[2]} {m[1]}{'v' if m[3] == 'h' else 'h'}", path)
    assert (filled(turned, mask.T.shape) == mask.T).all()


def test_an_outline_runs_along_the_borders_of_pixels():
    mask = np.zeros((4, 5), bool)
    mask[1:3, 2:5] = True
    assert sorted(re.findall(r"M[^M]+", outline(mask))) == ["M2 1h3", "M2 1v2", "M2 3h3", "M5 1v2"]


def test_large_pictures_shrink_with_their_masks():
    picture = np.zeros((60, 90, 3), np.uint8)
    picture[:, 45:, 1] = 200
    small, mask = reduced(picture, 30), reduced_mask(picture[..., 1] > 0, 30)
    assert small.shape == (20, 30, 3) and mask.shape == (20, 30)
    assert ((small[..., 1] > 100) == mask).all() and mask.sum() == 300
    assert reduced(picture) is picture


@pytest.mark.parametrize(("mm", "length"), [(10, 2), (40, 10), (170, 50), (1000, 200), (2, None)])
def test_the_scale_bar_is_round_and_true(mm, length):
    parts = scale_bar((100, 200), mm)
    assert len(parts) == (0 if length is None else 3)
    if parts:
        assert float(parts[0].get("x2")) - 6 == pytest.approx(200 * length / mm, abs=0.06)
        assert parts[2].text == f"{length} mm"


def test_planes_go_through_the_foreground():
    ring = np.zeros((5, 40, 40), bool)
    y, x = np.mgrid[:40, :40] - 19.5
    ring[2] = np.abs(np.hypot(y, x) - 12) < 2  # its centre of mass is outside of it
    assert ring[centre(ring)]
    assert centre(np.zeros((4, 6, 8), bool)) == (2, 3, 4)


def test_single_slices_have_one_plane_and_pictures_no_directions():
    assert [plane.axis for plane in planes(Grid((30, 1, 20), (1.0, 1.0, 1.0)), (3, 0, 4), ".nii.gz")] == [1]
    (picture,) = planes(Grid.picture(30, 20), (0, 3, 4), ".png")
    assert (picture.letters, picture.size) == ("", (30, 20))
    assert [plane.letters for plane in planes(Grid((3, 4, 5), (1.0, 1.0, 1.0)), (0, 0, 0), ".tif")] == ["", "", ""]


@pytest.mark.parametrize(("median", "name"), [(40, "soft-tissue"), (-700, "lung"), (600, "bone")])
def test_the_window_of_ct_fits_the_foreground(make_plan_for_tests, median, name):
    numbers = {"lower": [0], "upper": [1], "mean": [0], "std": [1]}
    plan = make_plan_for_tests(modality="CT", modality_id=6, normalisation={"scheme": "ct"} | numbers)
    shown = window(np.zeros((2, 2, 2)), plan, median)
    assert name in shown.words and shown.low < median < shown.high


def way_back(shape=(60, 50), scaled=(90, 75), canvas=(96, 96)) -> WayBack:
    offset = tuple((side - n) // 2 // 4 * 4 for side, n in zip(canvas, scaled, strict=True))
    return WayBack(Grid((3, *shape), (3.0, 1.0, 1.0)), 0, scaled, offset, canvas)


def masks(scaled=(90, 75)) -> np.ndarray:
    """[3, h, w]: two classes that touch, a thin line of the second."""
    mask = np.zeros((3, *scaled), np.uint8)
    mask[:, 20:60, 10:40], mask[:, 20:60, 40:74] = 1, 2  # near the padding, whose cells are shared
    mask[1, 75, 5:70] = 2
    return mask


@pytest.mark.parametrize("labels", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_masks_come_back_as_predictions_do(labels):
    """The same as cell means given to the prediction's own way back."""
    back, mask = way_back(), masks()
    ids = [np.isin(mask, values) for values in labels.ids]
    background = ~np.logical_or.reduce(ids)
    shares = [cell_means(place(part.astype(float), back, 0.0)) for part in ids]
    rest = 0.5 if labels.has_regions else cell_means(place(background.astype(float), back, 1.0))
    logits = torch.from_numpy(np.stack([share - rest for share in shares], axis=1)).float()
    painted = reduce(logits, *(torch.from_numpy(m) for m in back.matrices()), labels).numpy()
    returned = dict(brought_back(mask, back, labels))
    expected = np.zeros_like(painted)
    for k, value in enumerate(labels.class_values):
        expected[returned[k]] = value
    assert (expected != painted).mean() < 1e-4  # ties of shares alone
    assert painted[0, 27, 20] == 1 and painted[0, 27, 35] == 2


def cell_means(canvas: np.ndarray) -> np.ndarray:
    return canvas.reshape(len(canvas), canvas.shape[1] // 4, 4, canvas.shape[2] // 4, 4).mean(axis=(2, 4))


@pytest.fixture
def stored(tmp_path, make_plan_for_tests):
    def store(mask, labels, missing=()) -> StoredCase:
        back = way_back(mask.shape[1:], mask.shape[1:], (96, 96))
        slices = np.zeros((len(mask), 1, *mask.shape[1:]), np.float32)
        save_case(tmp_path, "c", slices, mask, mask, back, "", make_plan_for_tests(labels=labels.to_dict()))
        present = tuple(tuple(np.flatnonzero(np.isin(mask, ids).any(axis=(1, 2)))) for ids in labels.ids)
        return StoredCase("c", tmp_path, back, present, None, missing)

    return store


def test_thin_structures_are_lost_on_the_mask_grid(stored):
    mask = np.zeros((2, 90, 75), np.uint8)
    mask[0, 20:60, 10:60] = 1
    mask[1, 70, 5:70] = 2
    left, dice = round_trip(stored(mask, CLASSES), mask, 1, CLASSES)
    assert dice["lesion"] > 0.97 and dice["vessel"] == 0
    assert not left[1].any()


def test_what_nobody_annotated_is_not_judged(stored):
    with_ignore = Labels.parse({"background": 0, "lesion": 1, "vessel": 2, "ignore": 3}, Path("dataset.json"))
    mask = np.zeros((2, 90, 75), np.uint8)
    mask[:, 20:60, 12:52] = 1
    mask[:, 20:60, 30] = 3  # comes back as lesion
    mask[0, 0, 0] = 2
    _, dice = round_trip(stored(mask, with_ignore, missing=(1,)), mask, 0, with_ignore)
    assert list(dice) == ["lesion"] and dice["lesion"] > 0.99
