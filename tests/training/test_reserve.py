"""The time that a budget keeps for its final validation is that of this machine, not that of a bad moment."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch.distributed as dist

from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.training import clock, epoch, loop, meter, reserve, validation
from delightsam_pipeline.training.loop import train
from delightsam_pipeline.training.ranks import Ranks
from delightsam_pipeline.training.reserve import Reserve
from delightsam_pipeline.training.setup import Options, start

BUDGET, STEP = 600.0, 25.0  # seconds of the clock below


@pytest.fixture(scope="module")
def stores(make_store, blobs):
    short = {"training": {"batch_size": 1, "steps_per_epoch": 4}, "patch_size": (64, 64)}
    return {"us": make_store("Dataset001_US", "ultrasound", *blobs(20), **short)}


class FakeTime:
    """A clock on which a step takes 25 seconds, and a validated case as many as `cases` say, at last one."""

    def __init__(self, monkeypatch, cases):
        self.now, self.cases = 1000.0, list(cases)
        for module in (clock, epoch, loop, meter, reserve, validation):
            monkeypatch.setattr(module, "time", self)
        self.real_segment, self.real_step = validation.segment, epoch.train_step
        monkeypatch.setattr(validation, "segment", self.segment)
        monkeypatch.setattr(epoch, "train_step", self.step)

    def monotonic(self):
        return self.now

    def segment(self, *arguments):
        self.now += self.cases.pop(0) if self.cases else 1.0
        return self.real_segment(*arguments)

    def step(self, *arguments):
        self.now += STEP
        return self.real_step(*arguments)


def begin(stores, folder, seconds=BUDGET):
    return start(stores, folder, Options("0", seconds=seconds), choose_device("cpu"))


def test_a_slow_moment_at_the_start_does_not_cut_training_short(stores, tmp_path, monkeypatch):
    """Four cases at a hundred seconds each would leave nothing of the ten minutes."""
    faked = FakeTime(monkeypatch, cases=[100.0, 100.0])
    run, begun = begin(stores, tmp_path), faked.now
    assert train(run)
    assert run.progress.reserve == pytest.approx(4)
    assert run.progress.step >= (BUDGET - 200 - 4) / STEP - 2
    assert BUDGET - STEP <= faked.now - begun <= 1.05 * BUDGET


def test_a_machine_that_is_slow_to_the_end_keeps_its_budget(stores, tmp_path, monkeypatch):
    faked = FakeTime(monkeypatch, cases=[40.0] * 30)
    run, begun = begin(stores, tmp_path), faked.now
    assert train(run)
    assert run.progress.reserve == pytest.approx(160)
    assert BUDGET - 2 * STEP <= faked.now - begun <= 1.05 * BUDGET


def test_the_quickest_of_the_last_samples_counts(stores, tmp_path, monkeypatch):
    FakeTime(monkeypatch, cases=[9.0, 10.0, 3.0, 5.0, 5.0, 5.0])
    run = begin(stores, tmp_path)
    watched, found = Reserve(run, clock.Clock(run.length, run.progress)), []
    watched.begin()
    for _ in range(4):
        watched.interval = 0.0
        watched.look()
        found.append(run.progress.reserve / 4)
    assert found == pytest.approx([3, 3, 3, 5])


def test_a_whole_validation_says_how_many_times_the_first_case_it_takes(stores, tmp_path):
    run = begin(stores, tmp_path)
    watched = Reserve(run, clock.Clock(run.length, run.progress))
    assert watched.times_sample == pytest.approx(4)  # by sizes: four equal cases
    watched.begin()
    before = run.progress.reserve
    watched.learn(seconds=10.0, of_first=1.0)
    assert run.progress.reserve == pytest.approx(2.5 * before)


def test_what_a_whole_validation_said_holds_in_the_next_sitting(stores, tmp_path):
    run = begin(stores, tmp_path)
    Reserve(run, clock.Clock(run.length, run.progress)).learn(seconds=10.0, of_first=1.0)
    assert Reserve(run, clock.Clock(run.length, run.progress)).times_sample == pytest.approx(10)
    halved = replace(run, ranks=Ranks(0, 2))  # two processes share the cases out
    assert Reserve(halved, clock.Clock(run.length, run.progress)).times_sample == pytest.approx(5)


def test_several_processes_go_on_when_the_last_sample_says_so(stores, tmp_path, monkeypatch):
    """A group of one process stands for two."""
    faked = FakeTime(monkeypatch, cases=[1.0, 200.0])
    run = replace(begin(stores, tmp_path), ranks=Ranks(0, 2))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        watched = Reserve(run, timed := clock.Clock(run.length, run.progress, run.ranks))
        watched.begin()
        assert run.progress.reserve == pytest.approx(400)  # half of four cases
        faked.now += 100
        timed.agree()
        assert timed.done() >= 1
        watched.look()
        assert run.progress.reserve == pytest.approx(2) and timed.done() < 1
    finally:
        dist.destroy_process_group()


def test_a_sample_can_be_stopped(stores, tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "segment", None)
    run = begin(stores, tmp_path)
    watched = Reserve(run, clock.Clock(run.length, run.progress), stop=lambda: True)
    watched.begin()
    watched.look()
    assert run.progress.reserve == 0


@pytest.mark.parametrize(("elapsed", "due"), [(430, True), (440, False), (560, False)])
def test_no_validation_begins_that_would_not_end_before_training(stores, tmp_path, elapsed, due):
    """80 seconds are kept for the final one, and it takes as long: there is room for another until 440."""
    run = begin(stores, tmp_path)
    run.progress.validation_seconds, run.progress.reserve, run.progress.elapsed = 80.0, 80.0, float(elapsed)
    run.progress.validated_at = -1000.0
    assert clock.Clock(run.length, run.progress).validation_is_due() == due


@pytest.mark.parametrize(("epoch", "due"), [(8, True), (9, False)])
def test_no_validation_begins_just_before_the_final_one(stores, tmp_path, epoch, due):
    """Of ten epochs of 100 seconds, where one takes 150."""
    run = start(stores, tmp_path, Options("0", epochs=10), choose_device("cpu"))
    timed = clock.Clock(run.length, run.progress)
    run.progress.step, run.progress.validation_seconds, run.progress.validated_at = 4 * epoch, 150.0, -2000.0
    timed.begin -= 100.0 * epoch
    assert timed.validation_is_due() == due


def test_without_a_budget_nothing_is_measured(stores, tmp_path, monkeypatch):
    monkeypatch.setattr(reserve, "validate", None)
    run = start(stores, tmp_path, Options("0", epochs=1), choose_device("cpu"))
    watched = Reserve(run, clock.Clock(run.length, run.progress))
    watched.begin()
    watched.look()
    assert run.progress.reserve == 0
