"""dlsam_train in two processes: the files of one, stopped as one, and taken up again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.training.loop import train
from delightsam_pipeline.training.ranks import Ranks
from delightsam_pipeline.training.setup import Options, start

EPOCHS = 3


def begin(store, output, size):
    """The command in so many processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = os.environ | {"OMP_NUM_THREADS": "1", "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1"}
    base |= {"MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": str(size), "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "delightsam_pipeline.commands.train", str(store.folder), "0", "--device", "cpu"]
    command += ["--epochs", str(EPOCHS), "--workers", "0", "-o", str(output)]
    ranks = [base | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [subprocess.Popen(command, env=env, **said) for env in ranks]


def end(processes):
    """(exit code, standard output, standard error) of each."""
    said = [process.communicate(timeout=200) for process in processes]
    return [(process.returncode, *texts) for process, texts in zip(processes, said, strict=True)]


@pytest.fixture(scope="module")
def store(make_store, blobs):
    training = {"batch_size": 3, "steps_per_epoch": 2}
    return make_store("Dataset001_US", "ultrasound", *blobs(8, seed=1), training=training, patch_size=(64, 64))


@pytest.fixture(scope="module")
def one(store, tmp_path_factory):
    """The folder of an undisturbed run of one process."""
    folder = tmp_path_factory.mktemp("one") / "model"
    ((code, _, error),) = end(begin(store, folder, 1))
    assert code == 0, error
    return folder


def files(folder):
    return {str(file.relative_to(folder)) for file in folder.rglob("*")}


def test_stopped_together_and_taken_up_by_two_again(store, one, tmp_path):
    two = begin(store, tmp_path, 2)
    until = time.monotonic() + 150
    while not (tmp_path / "last.pt").exists() and time.monotonic() < until:
        time.sleep(0.02)
    two[1].send_signal(signal.SIGTERM)  # the other is told by the processes themselves
    (first, said, error), (second, silent, _) = end(two)
    assert (first, second) == (143, 143), error
    assert "one of 2 processes" in said and "stopped and saved" in said and not silent
    for code, _, error in end(begin(store, tmp_path, 2)):
        assert code == 0, error
    assert files(tmp_path) == files(one)
    expected, found = (pd.read_csv(folder / "progress.csv") for folder in (one, tmp_path))
    assert found["step"].tolist() == expected["step"].tolist() == [2, 4, 6]
    # a processor that computes in bfloat16 rounds sums of other parts differently
    np.testing.assert_allclose(found["mask_loss"], expected["mask_loss"], atol=0.03)
    names = [
        pd.read_csv(f / "validation" / store.folder.name / "scores.csv").iloc[:, 0].tolist() for f in (one, tmp_path)
    ]
    assert names[0] == names[1] and len(names[0]) >= 2  # of a validation that was shared out
    assert json.loads((tmp_path / "model.json").read_text())["provenance"]["processes"] == 2


def test_more_processes_than_images(store, tmp_path):
    run = start({"us": store}, tmp_path, Options("0"), choose_device("cpu"), ranks=Ranks(0, 4))
    with pytest.raises(UserError, match="a batch has 3 images, fewer than processes; found 4 processes; start fewer"):
        train(run)


def test_what_all_find_is_said_by_the_first(make_store, blobs, tmp_path):
    training = {"batch_size": 1, "steps_per_epoch": 2}
    small = make_store("Dataset002_US", "ultrasound", *blobs(5, seed=1), training=training, patch_size=(64, 64))
    (first, _, error), (second, _, silent) = end(begin(small, tmp_path / "model", 2))
    assert (first, second) == (2, 2), silent
    assert error.count("a batch has 1 images, fewer than processes") == 1 and "error:" not in silent


class Beside(Ranks):
    """The first of two processes, the other of which was given a longer training."""

    def gather(self, value):
        return [value, value | {"length": "9 epochs"}]


def test_processes_with_other_lengths(store, tmp_path):
    run = start({"us": store}, tmp_path, Options("0", epochs=2), choose_device("cpu"), ranks=Beside(0, 2))
    with pytest.raises(UserError, match="do not begin with the same; found length: 2 epochs, 9 epochs; let all see"):
        train(run)


def test_a_device_too_small_for_one_image(store, tmp_path, caplog):
    def no_room(*_):
        raise torch.OutOfMemoryError("no room")

    run = start({"us": store}, tmp_path, Options("0"), choose_device("cpu"))
    run.model.decoder.register_forward_pre_hook(no_room)
    with pytest.raises(UserError, match=r"the device's memory does not suffice for a step; .*--gpu-memory"):
        train(run)
    assert sum("from now on" in record.getMessage() for record in caplog.records) == 3


def test_what_a_step_does_to_save_memory_is_recorded(store, tmp_path):
    def no_room(*_):
        if not run.model.scope.recompute:
            raise torch.OutOfMemoryError("no room")

    run = start({"us": store}, tmp_path, Options("0", epochs=1), choose_device("cpu"))
    run.model.decoder.register_forward_pre_hook(no_room)
    assert not train(run, lambda: run.progress.step == 1)
    run = start({"us": store}, tmp_path, Options("0", epochs=1), choose_device("cpu"))
    assert train(run)
    memory = json.loads((tmp_path / "model.json").read_text())["provenance"]["memory"]
    assert memory == "activations computed again on the way back"
