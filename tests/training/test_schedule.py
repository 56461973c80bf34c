"""Length by epochs and by the clock, and the learning rate along it."""

from __future__ import annotations

import pytest

from delightsam_pipeline.training.schedule import Length, learning_rate


def test_progress_by_epochs():
    length = Length(epochs=4, steps_per_epoch=5)
    assert [length.progress(step, 1e9, 0) for step in (0, 5, 20, 30)] == [0, 0.25, 1, 1]


def test_progress_by_the_clock_keeps_time_for_the_end():
    length = Length(epochs=4, steps_per_epoch=5, seconds=100)
    assert length.progress(10**6, 40, 20) == 0.5
    assert length.progress(0, 80, 20) == 1 == length.progress(0, 500, 20)
    assert length.progress(0, 1, 200) == 1  # the end alone takes longer than there is


def test_learning_rate():
    assert learning_rate(2.0, 0.0, 0.1) == pytest.approx(0.02)
    assert learning_rate(2.0, 0.05, 0.1) == pytest.approx(2 * 0.505)
    assert learning_rate(2.0, 0.1, 0.1) == pytest.approx(2.0)
    assert learning_rate(2.0, 0.55, 0.1) == pytest.approx(2 * 0.5005)
    assert learning_rate(2.0, 1.0, 0.1) == pytest.approx(0.002)
    assert learning_rate(2.0, 0.0, 0.0) == pytest.approx(2.0)
    rates = [learning_rate(1.0, p / 100, 0.2) for p in range(101)]
    assert rates[:21] == sorted(rates[:21]) and rates[20:] == sorted(rates[20:], reverse=True)
