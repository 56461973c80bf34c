"""Signals: the first asks a run to end with all saved; whoever starts processes may send SIGTERM again."""

from __future__ import annotations

import signal

import pytest

from delightsam_pipeline.commands.common import INTERRUPTED, TERMINATED, Stop


def test_sigterm_may_come_again():
    with Stop() as stop:
        assert not stop()
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
        assert stop() and stop.code == TERMINATED


@pytest.mark.parametrize("other", [[], [signal.SIGTERM]])
def test_a_second_ctrl_c_ends_at_once(other):
    with Stop() as stop:
        for number in [*other, signal.SIGINT, *other]:
            signal.raise_signal(number)
        assert stop.code == INTERRUPTED
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
