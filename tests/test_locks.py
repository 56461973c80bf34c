"""One process at a time in a folder, with real other processes: refused, shared, ended, killed."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys

import pytest

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.locks import LOCK, only_one

HOLD = """
import os, sys, time
from pathlib import Path
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.locks import only_one

try:
    with only_one(Path(sys.argv[1]), "another command", shared=sys.argv[2] == "shared"):
        child = os.fork() if sys.argv[3:] else os.getpid()
        if not sys.argv[3:] or not child:  # a child says so itself: then it has let go of its parent's locks
            print(os.getpid(), flush=True)
        {}
except UserError as error:
    print(error, flush=True)
"""


@pytest.fixture
def hold():
    """hold(folder, how, *fork): a process that has the folder until its standard input ends, and what it said."""
    started = []

    def _hold(folder, how="alone", *fork):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        wait = "time.sleep(600) if not child else sys.stdin.read()" if fork else "sys.stdin.read()"
        started.append(subprocess.Popen([sys.executable, "-c", HOLD.format(wait), folder, how, *fork], **pipes))
        return started[-1], started[-1].stdout.readline().strip()

    yield _hold
    for process in started:
        process.kill()
        process.communicate()


def refused(folder, shared=False) -> str:
    with pytest.raises(UserError) as error, only_one(folder, "a test", shared):
        pass
    return str(error.value)


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path, hold):
    first, said = hold(tmp_path / "a" / "b")
    assert said == str(first.pid)
    who = f"found another command (process {first.pid} on {socket.gethostname()})"
    message = f"{tmp_path / 'a' / 'b'}: another process works on it; {who}; wait for it"
    assert refused(tmp_path / "a" / "b") == f"{message}, or choose another folder with -o"
    assert refused(tmp_path / "a" / "b", shared=True) == message
    first.communicate()
    assert not (tmp_path / "a").exists()  # it was made, and nothing was written into it
    with only_one(tmp_path, "a test"):
        assert "a test (process" in hold(tmp_path)[1]
        (tmp_path / "b").mkdir()
    assert os.listdir(tmp_path) == ["b"]


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("fork", [(), ("fork",)])
def test_a_lock_ends_with_the_process_that_was_killed(tmp_path, hold, fork):
    first, said = hold(tmp_path, "alone", *fork)
    assert f"process {first.pid} on" in refused(tmp_path)
    first.send_signal(signal.SIGKILL)
    first.wait()
    try:
        assert (tmp_path / LOCK).is_file()
        with only_one(tmp_path, "a test"):
            if fork:
                os.kill(int(said), 0)  # the child of the process that was killed is still there
    finally:
        if fork:
            os.kill(int(said), signal.SIGKILL)


def test_readers_share_and_keep_writers_out(tmp_path, hold):
    first, _ = hold(tmp_path, "shared")
    second, said = hold(tmp_path, "shared")
    assert said == str(second.pid)
    assert all(f"(process {process.pid} on" in refused(tmp_path) for process in (first, second))
    first.communicate()
    assert f"found another command (process {second.pid} on" in refused(tmp_path)  # not the one that has ended
    second.communicate()
    assert os.listdir(tmp_path) == []
    with only_one(tmp_path, "a test"):
        pass


def test_a_process_does_not_lock_itself_out(tmp_path, hold):
    with only_one(tmp_path, "a test", shared=True):
        with only_one(tmp_path, "a test"):
            pass
        assert "a test" in hold(tmp_path)[1]  # the inner block has not let go


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything may be written")
def test_what_is_read_only_can_be_shared(tmp_path, hold):
    tmp_path.chmod(0o555)
    try:
        assert hold(tmp_path, "shared")[1].isdecimal()
        with only_one(tmp_path, "a test", shared=True):
            assert os.listdir(tmp_path) == []
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.skipif(os.name == "nt", reason="flock")
def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, caplog):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with caplog.at_level("INFO"), only_one(tmp_path / "a", "a test"):
        (tmp_path / "a" / "b").touch()
    assert "this file system has no locks ([Errno" in caplog.text and (tmp_path / "a" / "b").is_file()
