"""Runs that are stopped, killed and made longer: they go on exactly where they were."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from delightsam_pipeline.commands.train import main
from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.training import clock
from delightsam_pipeline.training.loop import train
from delightsam_pipeline.training.setup import Options, start

EPOCHS, STEPS = 4, 2
TIMES = {"seconds_per_step", "waiting", "elapsed"}  # in a row of the history
KILLED = """
import sys
from delightsam_pipeline.training import clock
clock.SAVE_EVERY_S = 0.0
from delightsam_pipeline.commands.train import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def stores(make_store, blobs):
    short = {"training": {"batch_size": 2, "steps_per_epoch": STEPS}, "patch_size": (64, 64)}
    return {"us": make_store("Dataset001_US", "ultrasound", *blobs(5, seed=1), **short)}


def begin(stores, folder, epochs=EPOCHS, **options):
    return start(stores, folder, Options("0", epochs=epochs, **options), choose_device("cpu"))


def after(count):
    """A `stop` that lets so many steps pass."""
    asked = iter(range(count))
    return lambda: next(asked, None) is None


def figures(run):
    """What the history says of training, without times; validations come by the clock."""
    return [{k: v for k, v in row.items() if k not in TIMES and "dice" not in k} for row in run.progress.history]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def equal_runs(run, other):
    state = same(run.model.state_dict(), other.model) and same(run.average.tensors, other.average)
    return state and figures(run) == other.figures


@pytest.fixture(scope="module")
def undisturbed(stores, tmp_path_factory):
    """A run of four epochs in one go."""
    folder, threads = tmp_path_factory.mktemp("run"), torch.get_num_threads()
    torch.set_num_threads(1)
    run = begin(stores, folder)
    assert train(run)
    torch.set_num_threads(threads)
    return SimpleNamespace(
        folder=folder, model=run.model.state_dict(), average=run.average.tensors, figures=figures(run)
    )


@pytest.mark.parametrize("steps", [2 * STEPS, 2 * STEPS + 1], ids=["between epochs", "within an epoch"])
def test_a_stopped_run_goes_on_as_if_undisturbed(undisturbed, stores, tmp_path, steps):
    """With loader processes in the second sitting. Stops are asked for within validations too, which may be there."""
    first = begin(stores, tmp_path)
    assert not train(first, lambda: first.progress.step >= steps)
    assert first.progress.step == steps
    second = begin(stores, tmp_path, workers=2)
    assert second.progress.step == steps and same(second.model.state_dict(), first.model.state_dict())
    assert train(second)
    assert equal_runs(second, undisturbed)


def test_checkpoints_are_written_within_an_epoch(undisturbed, stores, tmp_path, monkeypatch):
    """An epoch may last hours: what ends a run without a word costs what came after the last checkpoint only."""

    class Death(BaseException):
        pass

    def die_in_the_second_epoch():
        if first.progress.step == STEPS + 1:
            raise Death
        return False

    monkeypatch.setattr(clock, "SAVE_EVERY_S", 0.0)
    first = begin(stores, tmp_path)
    with pytest.raises(Death):
        train(first, die_in_the_second_epoch)
    second = begin(stores, tmp_path)
    assert second.progress.step == STEPS + 1 and len(second.progress.history) == 1
    assert train(second)
    assert equal_runs(second, undisturbed)


def test_kill_9_at_any_moment(undisturbed, stores, tmp_path):
    """The command in a process of its own, which saves after every step, so that it may be killed while it does."""
    store, folder = stores["us"].folder, tmp_path / "model"
    arguments = [str(store), "0", "--epochs", str(EPOCHS), "--device", "cpu", "-o", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", KILLED, *arguments], env=environment, stdout=subprocess.DEVNULL)
    until, last = time.monotonic() + 120, folder / "last.pt"
    while not last.is_file() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    run = begin({store.name: stores["us"]}, folder)
    assert 0 < run.progress.step < EPOCHS * STEPS
    assert main(arguments) == 0
    run = begin({store.name: stores["us"]}, folder)
    assert run.progress.step == EPOCHS * STEPS
    assert figures(run) == undisturbed.figures


def test_weights_older_than_the_final_state_are_written_again(undisturbed, stores):
    """As when a run is killed after its last state and before its last weights."""
    weights = undisturbed.folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(b"of an earlier checkpoint")
    os.utime(weights, ns=(0, 0))
    assert train(begin(stores, undisturbed.folder))
    assert weights.read_bytes() == whole


def test_a_finished_run_can_be_made_longer(undisturbed, stores, caplog):
    longer = begin(stores, undisturbed.folder, epochs=2 * EPOCHS)
    with caplog.at_level(logging.INFO):
        assert not train(longer, lambda: longer.progress.epoch > EPOCHS)
    assert longer.progress.step == (EPOCHS + 1) * STEPS
    assert "another length: 50 % are done, before it were 100 %; the learning rate goes from" in caplog.text
    rates = [row["learning_rate"] for row in longer.progress.history]
    assert rates[-1] > 2 * rates[-2]


def test_a_time_budget_can_be_made_larger(stores, tmp_path):
    cpu = choose_device("cpu")
    assert train(start(stores, tmp_path, Options("0", seconds=0.01), cpu))
    longer = start(stores, tmp_path, Options("0", seconds=3600), cpu)
    assert longer.progress.step == 1
    assert not train(longer, lambda: longer.progress.step == 3)
    assert longer.progress.step == 3


def test_a_stop_file_ends_the_run(stores, tmp_path, monkeypatch, caplog):
    """One that lay there before does not; the same command goes on afterwards."""
    from delightsam_pipeline.training import epoch, folder

    monkeypatch.setattr(folder, "_LOOK_EVERY_S", 0.0)
    model, made = tmp_path / "model", epoch.train_step

    def step_and_ask(*arguments):
        made(*arguments)
        (model / "stop").touch()

    monkeypatch.setattr(epoch, "train_step", step_and_ask)
    model.mkdir()
    (model / "stop").touch()
    arguments = [str(stores["us"].folder), "0", "--epochs", "50", "--device", "cpu", "-o", str(model)]
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with caplog.at_level(logging.INFO):
        assert main(arguments) == 143
    for number, handler in before.items():
        signal.signal(number, handler)
    assert not (model / "stop").exists() and (model / "last.pt").is_file()
    assert begin({stores["us"].folder.name: stores["us"]}, model).progress.step == 1
