"""Statistics of intensities that add up over cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from delightsam_pipeline.plans.intensities import Values


def reference(array: np.ndarray) -> dict[str, float]:
    low, median, high = np.percentile(array, (0.5, 50, 99.5))
    return {
        "mean": array.mean(),
        "std": array.std(),
        "min": array.min(),
        "max": array.max(),
        "median": median,
        "percentile_00_5": low,
        "percentile_99_5": high,
    }


whole_numbers = arrays.arrays(np.int16, st.integers(0, 60), elements=st.integers(-1200, 3000))


@settings(deadline=None, max_examples=40)
@given(st.lists(whole_numbers, min_size=1, max_size=4))
def test_whole_numbers_are_exact_over_any_parts(parts):
    whole = np.concatenate(parts).astype(float)
    summary = Values.merged([Values.of(part) for part in parts]).summary()
    if whole.size == 0:
        assert summary == {}
        return
    assert summary == pytest.approx(reference(whole), rel=1e-9, abs=1e-9)
    assert summary == pytest.approx(Values.of(whole).summary(), rel=1e-9, abs=1e-9)


def test_a_volume_of_whole_numbers_by_hand():
    summary = Values.of(np.array([[[1, 2], [2, 7]]], np.uint8)).summary()
    assert summary["mean"] == 3 and summary["median"] == 2
    assert summary["std"] == pytest.approx(np.sqrt((4 + 1 + 1 + 16) / 4))
    assert summary["min"] == 1 and summary["max"] == 7
    assert summary["percentile_99_5"] == pytest.approx(2 + 0.985 * 5)  # place 2.985 of 0..3


def test_fractions_are_within_a_thousandth_of_their_range():
    generator = np.random.default_rng(0)
    parts = [
        generator.normal(100, 15, 120_000).astype(np.float32),
        generator.exponential(40, (3, 100, 300)).astype(np.float32),
        generator.normal(0, 1, 50).astype(np.float32),  # a small case weighs little, and is not left out
    ]
    whole = np.concatenate([part.ravel() for part in parts]).astype(float)
    expected = reference(whole)
    allowed = 1e-3 * (expected["percentile_99_5"] - expected["percentile_00_5"])
    merged = Values.merged([Values.of(part) for part in parts]).summary()
    assert merged == pytest.approx(expected, abs=allowed)
    assert (merged["min"], merged["max"]) == (expected["min"], expected["max"])
    assert Values.of(whole).summary() == pytest.approx(expected, abs=allowed)
    assert Values.of(whole).values.size < 30_000  # or it would not be small


def test_nothing_has_no_summary():
    nothing = Values.of(np.zeros((0, 3)))
    assert nothing.summary() == {}
    assert Values.merged([nothing, nothing]).summary() == {}
    some = Values.of(np.arange(5))
    assert Values.merged([nothing, some]).summary() == some.summary()
