"""Worker processes: what they tell, how they die, and that nothing is left of them."""

from __future__ import annotations

import logging
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.parallel import each_case, try_each_case
from delightsam_pipeline.errors import UserError

TASKS = '''
import logging, os, signal, sys, threading, warnings
import numpy
from delightsam_pipeline.errors import UserError

class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(one)

class OddForUsers(UserError):
    def __reduce__(self):
        raise TypeError("not me")

def act(case, folder):
    """Does what the case is called; 'once' only the first time."""
    what, _, once = case.name.partition("-")
    if once:
        try:
            os.mkdir(folder / case.name)
        except FileExistsError:
            return what
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "leave":
        sys.exit(3)
    if what == "memory":
        numpy.empty(2**60, numpy.uint8)
    if what == "user":
        raise UserError("is wrong", file="a.png", fix="mend it")
    if what == "hidden":
        raise OddForUsers("is odd", file="b.png")
    return what

def odd(case):
    raise Odd("one", "two")

def divides(case):
    return 1 / 0

def lambdas(case):
    return lambda: 0

def talks(case):
    print("on standard output")
    logging.getLogger("delightsam_pipeline.x").info("a value of %s", case.name)
    logging.getLogger("delightsam_pipeline.x").debug("not asked for")
    warnings.warn("careful", RuntimeWarning)

def mumbles(case):
    logging.getLogger("delightsam_pipeline.x").warning("%d", case.name)
    return case.name

def about(case):
    import SimpleITK
    threads = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    return os.getpid(), "torch" in sys.modules, os.environ["OMP_NUM_THREADS"], threads
'''


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    (tmp_path / "tasks_of_a_test.py").write_text(TASKS)
    monkeypatch.syspath_prepend(tmp_path)
    import tasks_of_a_test

    yield tasks_of_a_test
    del sys.modules["tasks_of_a_test"]


def called(*names: str) -> list[Case]:
    return [Case(name, (Path(f"{name}.nii"),), None, name) for name in names]


def test_what_dies_is_named_and_tried_again_alone_and_the_others_are_done(tasks, tmp_path, caplog):
    names = ["killed", "a", "killed-once", "user", "leave", "b", "crash", "memory-once", "memory", "hidden", "c"]
    cases = [Case(name, (tmp_path / f"{name}.nii",), None, name) for name in names]
    cases[0].images[0].write_bytes(b"0" * 10**8)
    outcomes = dict(zip(names, try_each_case(partial(tasks.act, folder=tmp_path), cases, "work", 2), strict=True))
    errors = {name: str(outcomes.pop(name)) for name in ("killed", "user", "leave", "crash", "memory", "hidden")}
    assert outcomes == {"a": "a", "killed-once": "killed", "b": "b", "memory-once": "memory", "c": "c"}
    killed = "case killed alone was killed by signal 9, very likely out of memory (about 0.95 GB needed, "
    assert killed in errors["killed"] and "killed.nii: the process" in errors["killed"]
    assert "case leave alone ended with exit code 3; check" in errors["leave"]
    assert "case crash alone was killed by signal 11 (SIGSEGV)" in errors["crash"]
    assert "case memory alone ran out of memory (" in errors["memory"]
    assert errors["user"] == "a.png: is wrong; mend it"
    assert errors["hidden"] == "b.png: is odd"
    first = [r.getMessage().split(" case ")[1].split()[0] for r in caplog.records if "tried again" in r.getMessage()]
    assert sorted(first) == ["crash", "killed", "killed-once", "leave", "memory", "memory-once"]


def test_results_come_in_the_cases_order_whatever_the_workers_did(tasks, tmp_path):
    done = each_case(partial(tasks.act, folder=tmp_path), called("killed-once", "1", "2", "leave-once", "4"), "work", 2)
    assert done == ["killed", "1", "2", "leave", "4"]


def test_a_bug_is_raised_as_what_it_is_with_its_place(tasks):
    with pytest.raises(ZeroDivisionError) as error:
        try_each_case(tasks.divides, called("a", "b"), "work", 2)
    assert "in a worker process, with case" in error.value.__notes__[0]
    assert "return 1 / 0" in error.value.__notes__[0]


@pytest.mark.parametrize(
    ("task", "kind", "text"),
    [("odd", RuntimeError, "Odd: one"), ("lambdas", Exception, "(?i)can't (get|pickle) local object|lambda")],
)
def test_what_cannot_be_pickled_is_a_bug_and_no_hang(tasks, task, kind, text):
    with pytest.raises(kind, match=text):
        try_each_case(getattr(tasks, task), called("a", "b"), "work", 2)


def test_work_that_a_worker_cannot_find_is_a_bug(tasks, tmp_path):
    (tmp_path / "tasks_of_a_test.py").write_text("")
    with pytest.raises(AttributeError, match="divides"):
        try_each_case(tasks.divides, called("a", "b"), "work", 2)


def test_logs_and_warnings_come_out_here_and_prints_do_no_harm(tasks, caplog, recwarn):
    caplog.set_level(logging.INFO)
    warnings.simplefilter("default")
    each_case(tasks.talks, called("a", "b"), "work", 2)
    records = [record for record in caplog.records if record.name == "delightsam_pipeline.x"]
    assert sorted(record.getMessage() for record in records) == ["a value of a", "a value of b"]
    assert [(w.category, str(w.message)) for w in recwarn] == [(RuntimeWarning, "careful")]
    warnings.simplefilter("error")
    with pytest.raises(RuntimeWarning, match="careful"):
        each_case(tasks.talks, called("a", "b"), "work", 2)


def test_a_log_line_that_cannot_be_written_is_no_bug_of_the_work(tasks):
    assert each_case(tasks.mumbles, called("a", "b"), "work", 2) == ["a", "b"]


def test_a_worker_has_one_thread_and_no_torch(tasks):
    import torch  # noqa: F401, here it is imported

    workers = each_case(tasks.about, called("a", "b", "c", "d"), "work", 2)
    assert {about[1:] for about in workers} == {(False, "1", 1)}
    assert len({about[0] for about in workers}) in (1, 2)


@pytest.mark.parametrize("executable", [None, "/nowhere/python", sys.prefix, "/bin/false"])
def test_without_worker_processes_the_work_is_done_here(tasks, tmp_path, monkeypatch, caplog, executable):
    monkeypatch.setattr(sys, "executable", executable)
    assert each_case(partial(tasks.act, folder=tmp_path), called("a", "b"), "work", 2) == ["a", "b"]
    assert "worker processes cannot be started" in caplog.text


def test_errors_of_users_keep_their_parts(tasks, tmp_path):
    first, _ = try_each_case(partial(tasks.act, folder=tmp_path), called("user", "a"), "work", 2)
    assert isinstance(first, UserError)
    assert (first.problem, first.file, first.fix) == ("is wrong", "a.png", "mend it")
