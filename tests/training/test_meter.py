"""What a run says of itself: how far, how fast, how long still, and not too often."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.training import clock, meter
from delightsam_pipeline.training.board import BOARD, Board, require_tensorboard
from delightsam_pipeline.training.checkpoint import Progress
from delightsam_pipeline.training.clock import Clock, spell
from delightsam_pipeline.training.meter import Meter, pace
from delightsam_pipeline.training.report import closing
from delightsam_pipeline.training.schedule import Length
from delightsam_pipeline.training.waiting import Waiting


class FakeTime:
    def __init__(self, monkeypatch, *modules):
        self.now = 50.0
        for module in modules:
            monkeypatch.setattr(module, "time", self)

    def monotonic(self):
        return self.now

    perf_counter = monotonic


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (600, "10 min"), (7500, "2 h 05 min"), (3 * 86400 + 4 * 3600, "3 d 4 h")],
)
def test_durations_for_people(seconds, text):
    assert spell(seconds) == text


def test_pace():
    assert pace(0.2) == "5.0 steps/s" and pace(3) == "3.00 s/step"


def test_time_left_of_epochs_counts_validations_and_the_final_one(monkeypatch):
    time, progress = FakeTime(monkeypatch, clock), Progress(step=100, elapsed=1000.0, validation_seconds=30.0)
    ticking = Clock(Length(10, 50), progress)
    assert ticking.left() is None
    time.now, progress.step = time.now + 120, 140  # 40 steps at 3 s
    assert ticking.left() == pytest.approx(360 * 3 + 30)


def test_time_left_of_a_budget(monkeypatch):
    time, progress = FakeTime(monkeypatch, clock), Progress(step=1, elapsed=100.0)
    ticking = Clock(Length(10, 50, seconds=600), progress)
    time.now += 200
    assert ticking.left() == pytest.approx(300)


def lines_of(monkeypatch, caplog, hours, epoch_seconds, steps):
    """How many lines a run has, each of whose epochs takes so long, off a terminal."""
    time, progress = FakeTime(monkeypatch, clock, meter), Progress()
    ticking = Clock(Length(10**6, steps), progress)
    saying = Meter(ticking)
    part = SimpleNamespace(sums=SimpleNamespace(steps=1), seconds=lambda: 2.0, waiting=lambda: 0.04)
    row = {"mask_loss": 1, "patch_loss": 1, "patch_precision": 1, "patch_recall": 1, "waiting": 0.04, "dice": 0.5}
    with caplog.at_level(logging.INFO):
        while ticking.elapsed() < hours * 3600:
            saying.open(0)
            for _ in range(steps):
                time.now += epoch_seconds / steps
                progress.step += 1
                saying.step(part)
            saying.close()
            progress.epoch += 1
            saying.row(row | {"epoch": progress.epoch, "seconds_per_step": epoch_seconds / steps})
    return [record.getMessage() for record in caplog.records]


def test_short_epochs_do_not_have_a_line_each(monkeypatch, caplog):
    lines = lines_of(monkeypatch, caplog, hours=0.5, epoch_seconds=5, steps=2)
    assert 25 <= len(lines) <= 32
    assert lines[0].startswith("epoch 1 (0 %)  loss 1.000 + patch 1.000")
    assert "2.50 s/step, 4% waiting for data  validation Dice 0.500" in lines[0] and lines[0].endswith(" left")


def test_long_epochs_have_lines_within_them_fewer_as_time_goes_on(monkeypatch, caplog):
    lines = lines_of(monkeypatch, caplog, hours=24, epoch_seconds=7200, steps=720)
    assert 200 <= len(lines) <= 450
    assert lines[0].startswith("epoch 1 of 1000000, step 1 of 720: 2.00 s/step, 4% waiting for data, ")


def test_waiting_for_data_is_measured(monkeypatch):
    from delightsam_pipeline.training import waiting

    time = FakeTime(monkeypatch, waiting)

    def slow():
        while True:
            time.now += 0.5
            yield {}

    data = Waiting(slow(), choose_device("cpu"))
    data.next(), data.next()
    assert data.total == pytest.approx(1.0)


def test_the_closing_words():
    rows = [{"epoch": n, "dice": d} for n, d in enumerate([0.1, 0.3, 0.5, None, 0.7, 0.8], 1)]
    progress = Progress(step=60, epoch=6, elapsed=7500.0, waited=750.0, history=rows)
    text = closing(progress)
    assert text.startswith("trained for 6 epochs (60 steps) in 2 h 05 min, 10% of it waiting for data")
    assert "validation Dice 0.800 at the end, at best 0.800 after epoch 6" in text and "still rising" in text
    level = Progress(step=60, epoch=6, history=[row | {"dice": 0.8} for row in rows])
    assert "still rising" not in closing(level)


def test_tensorboard_is_an_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"needs the package tensorboard; pip install .*\[tensorboard\]"):
        require_tensorboard()


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for step in (0, 10):  # a second sitting goes on after the first row, the second of which was lost
        board = Board(tmp_path, step)
        for at in range(step + 10, 30, 10):
            board.add({"epoch": at // 10, "step": at, "mask_loss": 1 / (step + at), "dice": None})
        board.close()
    read = EventAccumulator(str(tmp_path / BOARD))
    read.Reload()
    found = [(event.step, event.value) for event in read.Scalars("mask_loss")]
    assert found == [(10, pytest.approx(1 / 10)), (20, pytest.approx(1 / 30))] and "dice" not in read.Tags()["scalars"]


def test_what_went_wrong_in_a_loader_process_stays_what_it_is():
    def broken():
        raise RuntimeError("not a process that died")
        yield

    with pytest.raises(RuntimeError, match="not a process that died"):
        Waiting(broken(), choose_device("cpu")).next()
