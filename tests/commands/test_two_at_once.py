"""Two commands at once on the same folders: the second says who works there, and nothing is mixed up."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.locks import LOCK, only_one

NAME = "Dataset007_Squares"
HOLD = """
import sys
from pathlib import Path
from delightsam_pipeline.locks import only_one

with only_one(Path(sys.argv[1]), "somebody", shared=sys.argv[2:] == ["shared"]):
    print(flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def own(home, empty, monkeypatch):
    """A home of the test's own with a raw and a preprocessed dataset."""
    shutil.copytree(home, empty / "own", ignore=shutil.ignore_patterns("results"))
    monkeypatch.setenv("DLSAM_HOME", str(empty / "own"))
    return empty / "own"


@pytest.fixture
def elsewhere():
    """elsewhere(folder): another process that holds a folder; elsewhere(folder, "shared"): that shares it."""
    started = []

    def _elsewhere(*arguments):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen([sys.executable, "-c", HOLD, *map(str, arguments)], **pipes))
        started[-1].stdout.readline()
        return started[-1]

    yield _elsewhere
    for process in started:
        process.kill()
        process.communicate()


def test_a_dataset_is_preprocessed_by_one_and_not_while_it_is_read(own, elsewhere, fails, call):
    for how in ((), ("shared",)):
        other = elsewhere(own / "preprocessed" / NAME, *how)
        line = fails("plan_and_preprocess", "-d", "7")
        assert f"{NAME}: another process works on it; found somebody (process {other.pid} on " in line
        assert line.endswith("; wait for it, or choose another folder with -o")
        assert call("plan_and_preprocess", "-d", "7", "-o", "another").code == 0
        other.communicate()
    assert call("plan_and_preprocess", "-d", "7").code == 0
    assert not list(own.rglob(LOCK))


def test_nothing_is_trained_on_what_is_being_preprocessed(own, elsewhere, fails):
    other = elsewhere(own / "preprocessed" / NAME)
    line = fails("train", "7", "0")
    assert f"found somebody (process {other.pid} on " in line and line.endswith("; wait for it")
    assert not (own / "results").exists()


def test_what_is_wrong_leaves_no_folder(own, fails):
    assert "fold" in fails("train", "7", "9", "--device", "cpu")
    assert not (own / "results").exists() and not list(own.rglob(LOCK))


def test_a_lock_that_a_killed_process_left_does_not_make_a_folder_somebody_elses(empty):
    from delightsam_pipeline.training.folder import require_free

    (empty / LOCK).touch()
    require_free(empty, restart=False)
    (empty / "thesis.txt").touch()
    with pytest.raises(UserError, match="holds other files and no model"):
        require_free(empty, restart=False)


def test_a_training_that_runs_holds_its_folder_and_its_data(own, empty, environment, fails):
    code = "import sys; from delightsam_pipeline.commands.train import main; sys.exit(main())"
    arguments = ("7", "0", "--device", "cpu", "--workers", "0", "--time-budget", "10m")
    target = own / "results" / NAME / "fold_0"
    with only_one(own / "preprocessed" / NAME, "a test", shared=True):  # as another fold's training would have it
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], env=environment | {"DLSAM_HOME": str(own), "OMP_NUM_THREADS": "1"}
        )
        try:
            deadline = time.monotonic() + 120
            while not (target / "model.json").is_file() and time.monotonic() < deadline:
                assert process.poll() is None
                time.sleep(0.1)
        except BaseException:
            process.kill()
            raise
    try:
        assert f"fold_0: another process works on it; found dlsam_train (process {process.pid} on " in fails(
            "train", *arguments
        )
        line = fails("plan_and_preprocess", "-d", "7")  # this process, which had it before, is not named
        assert f"found dlsam_train, which reads it (process {process.pid} on " in line
    finally:
        process.kill()
        process.wait()
    assert os.path.isfile(target / LOCK)
    with only_one(target, "a test"), only_one(own / "preprocessed" / NAME, "a test"):
        pass
