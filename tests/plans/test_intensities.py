"""Statistics of intensities that add up over cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from delightsam_pipeline.plans import intensities
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


def agree(summary: dict[str, float], whole: np.ndarray) -> None:
    """Fractions may be off by a thousandth of the inner range; the extremes may not."""
    expected = reference(whole.astype(float))
    allowed = 1e-3 * (expected["percentile_99_5"] - expected["percentile_00_5"])
    assert (summary["min"], summary["max"]) == (expected["min"], expected["max"])
    assert summary == pytest.approx(expected, rel=1e-9, abs=allowed)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        arrays.arrays(np.float32, st.integers(0, 60), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
        min_size=1,
        max_size=4,
    )
)
def test_few_fractions_are_exact_over_any_parts(parts):
    whole = np.concatenate(parts).astype(float)
    summary = Values.merged([Values.of(part) for part in parts]).summary()
    assert (summary == pytest.approx(reference(whole), rel=1e-6)) if whole.size else summary == {}


# what a case may hold, from a generator and a number of voxels
SHAPES = {
    "normal": lambda g, n: g.normal(0, 1, n),
    "exponential": lambda g, n: g.exponential(1, n),
    "heavy tails": lambda g, n: g.standard_cauchy(n),
    "heavy tail": lambda g, n: g.pareto(0.3, n).clip(max=1e30),
    "many scales": lambda g, n: g.lognormal(0, 5, n),
    "two far apart": lambda g, n: np.where(g.random(n) < 0.5, g.normal(0, 1e-3, n), g.normal(1, 1e-3, n)),
    "halves exactly": lambda g, n: np.arange(n) % 2 + g.normal(0, 1e-4, n),
    "just an outer share": lambda g, n: np.where(np.arange(n) % 200 == 0, 1e4, 0) + g.normal(0, 1e-4, n),
    "mostly one value": lambda g, n: np.where(g.random(n) < 0.02, g.lognormal(0, 4, n), 0),
    "one value, strays": lambda g, n: np.where(g.random(n) < 0.004, g.lognormal(0, 4, n), 7),
    "few values": lambda g, n: g.choice([0.1, 0.2, 31.7], n),
    "one of 1e30": lambda g, n: np.where(np.arange(n) == n // 2, 1e30, g.normal(0, 1, n)),
}


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(SHAPES)),
    st.integers(10_000, 60_000),
    st.sampled_from([1e-6, 1.0, 1e4]),
    st.sampled_from([0.0, 50.0, -1e6]),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 2**32),
)
def test_fractions_of_any_distribution(shape, count, scale, offset, dtype, seed):
    whole = (SHAPES[shape](np.random.default_rng(seed), count) * scale + offset).astype(dtype)
    values = Values.of(whole)
    agree(values.summary(), whole)
    assert values.values.size < 20_000 and values.counts.sum() == count


@pytest.mark.parametrize("share", [0.005, 0.3, 0.5, 0.995])
@pytest.mark.parametrize("beyond", [-2, -1, 0, 1, 2])
def test_a_gap_right_at_a_percentile(share, beyond):
    generator = np.random.default_rng(0)
    low = round(share * 20_000) + beyond  # of 20,001: the percentile's own place is share * 20,000
    whole = np.concatenate([generator.normal(0, 1, low), generator.normal(1e4, 1, 20_001 - low)])
    agree(Values.of(whole).summary(), whole)


@pytest.mark.parametrize("beyond", [-2, 0, 1])
def test_a_gap_far_out_in_one_case_is_at_the_percentile_of_all(beyond):
    generator = np.random.default_rng(0)
    most, strays = generator.normal(0, 1, 998_000), generator.normal(500, 1, 2000 + beyond)
    first, second = np.concatenate([most, strays]), np.full(3015, 1000.0)
    whole = np.concatenate([first, second])
    agree(Values.merged([Values.of(first), Values.of(second)]).summary(), whole)


def test_a_little_around_a_large_value():
    whole = 1e6 + np.random.default_rng(0).uniform(-1, 1, 100_000)
    summary = Values.of(whole).summary()
    agree(summary, whole)
    assert summary["std"] == pytest.approx(whole.std(), rel=1e-9)


def one_after_the_other(parts: list[Values]) -> Values:
    """75 at a time, each time with all before them."""
    whole = parts[0]
    for begin in range(1, len(parts), 75):
        whole = Values.merged([whole, *parts[begin : begin + 75]])
    return whole


def scales(generator: np.random.Generator) -> list[np.ndarray]:
    return [generator.normal(3, 1, 9000) * 10 ** generator.uniform(0, 6) for _ in range(300)]


def one_huge(generator: np.random.Generator) -> list[np.ndarray]:
    return [generator.normal(0, 1e6 if number == 3 else 1, 9000) for number in range(300)]


def strays_in_some(generator: np.random.Generator) -> list[np.ndarray]:
    """Half of the cases reach far out, all together do not: one step for a whole case would be far too wide."""
    parts = []
    for number in range(300):
        stray = generator.random(9000) < (0.008 if number % 2 else 0.001)
        parts.append(np.where(stray, generator.normal(1e5, 1e4, 9000), generator.normal(0, 1, 9000)))
    return parts


@pytest.mark.parametrize("kind", [scales, one_huge, strays_in_some])
def test_300_cases_in_any_order(kind):
    cases = [case.astype(np.float32) for case in kind(np.random.default_rng(0))]
    whole = np.concatenate(cases)
    parts = [Values.of(case) for case in cases]
    agree(Values.merged(parts).summary(), whole)
    merged = one_after_the_other(parts[::-1])
    agree(merged.summary(), whole)
    assert merged.values.size < 600_000 and merged.counts.sum() == whole.size


def test_a_large_case_is_looked_at_in_blocks(monkeypatch):
    generator = np.random.default_rng(0)
    whole = np.concatenate(
        [generator.normal(0, 1, 40_000), generator.normal(0, 1e5, 300), generator.normal(0, 1, 40_000)]
    )
    at_once = Values.of(whole).summary()
    monkeypatch.setattr(intensities, "_BLOCK", 2000)
    agree(Values.of(whole).summary(), whole)
    agree(at_once, whole)
    numbers = generator.integers(-3000, 3000, (3, 50, 60)).astype(np.int16)
    assert Values.of(numbers).summary() == pytest.approx(reference(numbers.astype(float)), rel=1e-12)


def test_all_numbers_of_16_bits_are_kept():
    signed, unsigned = np.arange(-(2**15), 2**15).astype(np.int16), np.arange(2**16).astype(np.uint16)
    merged = Values.merged([Values.of(np.repeat(signed, 3)), Values.of(unsigned)])
    assert merged.values.size == 2**16 + 2**15
    assert merged.counts[[0, 2**15, -1]].tolist() == [3, 4, 1]
    agree(merged.summary(), np.concatenate([np.repeat(signed, 3).astype(int), unsigned]))


def test_true_and_false_are_numbers():
    assert Values.of(np.array([True, False, True, True])).summary()["mean"] == 0.75


def test_nothing_has_no_summary():
    nothing = Values.of(np.zeros((0, 3)))
    assert nothing.summary() == {}
    assert Values.merged([nothing, nothing]).summary() == {}
    some = Values.of(np.arange(5))
    assert Values.merged([nothing, some]).summary() == some.summary()


def test_sets_of_any_size_can_count_the_same():
    generator = np.random.default_rng(0)
    small, large = generator.normal(5, 1, 1000), generator.normal(0, 3, 20_000).astype(np.float32)
    same = [Values.of(part).repeated(2**61) for part in (small, large, large[:0])]
    agree(Values.merged(same).summary(), np.concatenate([np.repeat(small, 20), large]))
