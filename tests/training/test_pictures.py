"""A few fixed cases along a run: which, and when there is another column."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from delightsam_pipeline.training.pictures import KEPT, PICTURE, add_column, chosen
from delightsam_pipeline.training.validation import View


@pytest.fixture(scope="module")
def store(make_store, blobs):
    images, masks = blobs(6)
    masks[2][:] = 0
    return make_store("Dataset001_US", "ultrasound", images, masks, patch_size=(64, 64))


@pytest.fixture
def add(store, tmp_path):
    """add(epoch, share): a column of an epoch of ten steps, after which so much of the training is done."""
    cases = list(store.cases.values())

    def _add(epoch, share):
        views = {case.name: View(0, np.full((64, 64), epoch % 2, np.uint8), case.labels()[0]) for case in cases}
        rows = [{"name": case.name, "metrics": {"1": {"Dice": epoch / 100}}} for case in cases]
        add_column(tmp_path, epoch, 10 * epoch, share, store.plan, cases, views, {"metric_per_case": rows})

    return _add


def columns(folder):
    with np.load(folder / KEPT) as kept:
        return [int(kept[name][0]) for name in kept if name.endswith(".at")]


def test_cases_that_show_something_spread_over_all(store):
    assert [case.name for case in chosen(list(store.cases.values()))] == ["case0", "case1", "case3", "case5"]


def test_a_column_for_every_tenth_of_the_training_and_six_at_most(add, tmp_path):
    widths = []
    for epoch in range(5, 101, 5):
        add(epoch, epoch / 100)
        with Image.open(tmp_path / PICTURE) as picture:
            widths.append(picture.width)
    found = columns(tmp_path)
    assert len(found) == 6 and found[0] == 5 and found[-1] == 100
    assert max(np.diff(found)) <= 35
    assert widths[0] == widths[1] < widths[2] < widths[-1] == max(widths)


def test_columns_that_a_killed_run_left_go(add, tmp_path):
    for epoch in (1, 5, 9):
        add(epoch, epoch / 10)
    add(7, 0.7)
    assert columns(tmp_path) == [1, 5, 7]


def test_what_is_damaged_is_begun_anew(add, tmp_path):
    add(1, 0.1)
    (tmp_path / KEPT).write_bytes((tmp_path / KEPT).read_bytes()[:100])
    add(5, 0.5)
    assert columns(tmp_path) == [5]
