"""Two processes that share the batches out do what one does, stay equal to the bit, and end together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.training.ranks import ALONE, Ranks, launched

WORKER = Path(__file__).parent / "ranks_worker.py"
SCENARIOS = ("whole", "frozen", "parts", "uneven")


def begin(folder: Path, size: int, *scenarios: str) -> list[subprocess.Popen]:
    """The worker in `size` processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = os.environ | {"OMP_NUM_THREADS": "1", "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1"}
    base |= {"MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": str(size), "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, str(WORKER), str(folder), *scenarios]
    ranks = [base | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    return [subprocess.Popen(command, env=env, stderr=subprocess.PIPE, encoding="utf-8") for env in ranks]


def end(processes: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """Exit code and standard error of each, once all have ended."""
    said = [process.communicate(timeout=120)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """done(size, scenario, rank): what the worker wrote in a group of that size."""
    folders = {size: tmp_path_factory.mktemp(f"of{size}") for size in (1, 2)}
    groups = [begin(folder, size, *SCENARIOS) for size, folder in folders.items()]
    for process in [p for group in groups for p in group]:
        assert process.wait(timeout=200) == 0, process.stderr.read()
    return lambda size, scenario, rank=0: np.load(folders[size] / f"{scenario}-{rank}.npz")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_two_processes_train_as_one(done, scenario):
    one, two = done(1, scenario), done(2, scenario)
    assert len(one["losses"]) >= 2 and one["losses"][0, 0] > 1
    np.testing.assert_allclose(two["losses"], one["losses"], atol=1e-4)
    for name in one.files:
        if "statistics" in name:
            np.testing.assert_allclose(two[name], one[name], atol=1e-3, rtol=1e-3, err_msg=name)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_their_weights_stay_equal_to_the_bit(done, scenario):
    first, second = done(2, scenario, 0), done(2, scenario, 1)
    assert first.files == second.files
    for name in first.files:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_the_death_of_one_ends_the_other_with_one_line(tmp_path):
    (code, said), (killed, _) = end(begin(tmp_path, 2, "dies"))
    assert killed == -signal.SIGKILL and code == 2
    said = [line for line in said.splitlines() if "another process" in line]
    assert len(said) == 1
    assert said[0].startswith("process 0 of 2: another process of the group has died") and "last checkpoint" in said[0]


def test_alone_everything_is_trivial():
    assert ALONE.agree(True, 2.5) == (True, [2.5]) and ALONE.gather("a") == ["a"]
    assert list(range(5))[ALONE.share] == ALONE.gather_shares(list(range(5))) == list(range(5))


def test_shares_of_two_are_apart():
    assert [list(range(5))[Ranks(rank, 2).share] for rank in range(2)] == [[0, 2, 4], [1, 3]]


def test_what_the_launcher_says(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert launched() is ALONE
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(UserError, match="no RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT; start it with torchrun"):
        launched()
    for name, value in {"RANK": "5", "LOCAL_RANK": "1", "MASTER_ADDR": "here", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert launched() == Ranks(5, 8, 1, 2)
