"""Bootstrap intervals: of known coverage, over groups, and only where there is enough to say."""

import numpy as np
import pytest

from delightsam_pipeline.evaluation.intervals import mean_intervals


def cases(*shape, seed=0):
    return np.random.default_rng(seed).normal(0.8, 0.1, shape)


def names(count):
    return [f"c{i}" for i in range(count)]


def test_a_large_sample_has_the_interval_of_the_normal_distribution():
    values = cases(400, 1, 1)
    [[[low, high]]], _ = mean_intervals(values, names(400))
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_the_true_mean_lies_within_most_intervals():
    hits = 0
    for seed in range(60):
        [[[low, high]]], _ = mean_intervals(cases(40, 1, 1, seed=seed), names(40))
        hits += low < 0.8 < high
    assert 51 <= hits <= 60


def test_the_same_interval_every_time():
    values = cases(20, 2, 3)
    assert mean_intervals(values, names(20)) == mean_intervals(values, names(20))


def test_cases_of_a_group_count_as_one():
    """Forty copies of ten cases are known no better than ten cases are."""
    few = cases(10, 1, 1)
    [[[low, high]]], _ = mean_intervals(few, names(10))
    [[copied]], _ = mean_intervals(np.repeat(few, 40, axis=0), list(np.repeat(names(10), 40)))
    [[alone]], _ = mean_intervals(np.repeat(few, 40, axis=0), names(400))
    assert copied == pytest.approx([low, high])
    assert alone[1] - alone[0] < (high - low) / 3


def test_constant_values_have_an_interval_without_width():
    per_class, overall = mean_intervals(np.full((10, 2, 1), 0.25), names(10))
    assert per_class == [[[0.25, 0.25]], [[0.25, 0.25]]] and overall == [[0.25, 0.25]]


def test_under_ten_groups_nothing_is_said():
    assert mean_intervals(cases(9, 2, 1), names(9)) == ([[None], [None]], [None])
    assert mean_intervals(cases(30, 1, 1), names(9) + ["c8"] * 21) == ([[None]], [None])


def test_ten_groups_must_have_a_value():
    values = cases(20, 3, 2)
    values[9:, 1, 0] = np.nan  # nine are left
    values[:, 2, 0] = np.nan  # a class that is nowhere
    per_class, overall = mean_intervals(values, names(20))
    assert per_class[1][0] is None and per_class[2][0] is None
    assert None not in (per_class[0][0], per_class[1][1], per_class[2][1])
    assert overall[0] is None and overall[1] is not None
    _, overall = mean_intervals(values[:, ::2], names(20))
    assert overall[0] == pytest.approx(per_class[0][0])


def test_the_mean_over_classes_is_that_of_the_class_means():
    values = cases(30, 2, 1)
    values[:, 1] = 0.5
    (first, _), overall = mean_intervals(values, names(30))
    assert overall[0] == pytest.approx([(end + 0.5) / 2 for end in first[0]])
