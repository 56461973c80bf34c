"""Worker processes of every kind of parent: scripts, notebooks, threads, daemons, and parents that are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TASKS = """
import os, time
from pathlib import Path
from delightsam_pipeline.files import writing

def process(case):
    return os.getpid()

def never_ends(case):
    with writing(Path(f"{case.name}.txt")):
        Path(f"worker-{os.getpid()}").touch()
        while case.name == "spins":
            pass
        time.sleep(600)
"""
BEGIN = """
import os, signal, sys, threading, multiprocessing
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background have it ignored
from pathlib import Path
import tasks
from delightsam_pipeline.commands.common import run
from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.parallel import each_case

cases = [Case(name, (Path(name),), None, name) for name in ("spins", "sleeps")]

def work():
    pids = each_case(tasks.process, cases, "work", 2)
    print("done", len(pids), os.getpid() in pids, flush=True)
"""
ENDS = {
    "script": "work()",
    "thread": "thread = threading.Thread(target=work); thread.start(); thread.join()",
    "daemon": """
if __name__ == "__main__":
    process = multiprocessing.Process(target=work, daemon=True)
    process.start()
    process.join()
""",
}


def start(folder: Path, end: str) -> subprocess.Popen:
    (folder / "tasks.py").write_text(TASKS)
    (folder / "script.py").write_text(BEGIN + end)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "script.py"], cwd=folder, **pipes)


@pytest.mark.parametrize("end", ENDS)
def test_a_parent_needs_no_guard_and_may_be_a_thread_or_a_daemon(tmp_path, end):
    assert start(tmp_path, ENDS[end]).communicate(timeout=60)[0].splitlines() == ["done 2 False"]


def test_code_from_standard_input_as_in_a_notebook(tmp_path):
    (tmp_path / "tasks.py").write_text(TASKS)
    done = subprocess.run(
        [sys.executable, "-"], input=BEGIN + "work()", cwd=tmp_path, timeout=60, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr.count("Error")) == ("done 2 False\n", 0)


def is_running(pid: int) -> bool:
    """Whether a process is there, and more than an entry that waits to be collected."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def wait_for(happened, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.02)
    return happened()


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9), (signal.SIGHUP, -1)]
)
def test_workers_end_with_their_parent_in_the_middle_of_a_case(tmp_path, number, code):
    parent = start(tmp_path, 'sys.exit(run(lambda: each_case(tasks.never_ends, cases, "work", 2)))')
    workers: list[int] = []
    try:
        assert wait_for(lambda: len(list(tmp_path.glob("worker-*"))) == 2)
        workers = [int(file.name.split("-")[1]) for file in tmp_path.glob("worker-*")]
        assert all(map(is_running, [parent.pid, *workers]))
        parent.send_signal(number)
        output = parent.communicate(timeout=60)[0]
        assert wait_for(lambda: not any(map(is_running, workers)), 5)
    finally:
        for pid in filter(is_running, [parent.pid, *workers]):
            os.kill(pid, signal.SIGKILL)
    assert parent.returncode == code
    assert "Traceback" not in output
    if code > 0:  # asked to end, a worker removes what it had half written
        assert not list(tmp_path.glob(".writing*"))


@pytest.mark.skipif(os.name == "nt", reason="process groups")
def test_ctrl_c_reaches_the_parent_alone(tmp_path):
    parent = start(tmp_path, 'sys.exit(run(lambda: each_case(tasks.never_ends, cases, "work", 2)))')
    try:
        assert wait_for(lambda: len(list(tmp_path.glob("worker-*"))) == 2)
        workers = [int(file.name.split("-")[1]) for file in tmp_path.glob("worker-*")]
        assert {os.getpgid(pid) for pid in workers}.isdisjoint({os.getpgid(parent.pid)})
    finally:
        parent.terminate()
        parent.communicate(timeout=60)
