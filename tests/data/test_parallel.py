"""Work on many cases: order kept, all problems told, as many workers as the machine has room for."""

from __future__ import annotations

import os

import pytest

from delightsam_pipeline.data import parallel
from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.parallel import each_case, try_each_case, workers_for
from delightsam_pipeline.errors import UserError

LARGE = 4 * 2**20


def make_cases(folder, count: int, size: int) -> list[Case]:
    cases = []
    for number in range(count):
        path = folder / f"{size}-{number}.nii"
        with open(path, "wb") as file:
            file.truncate(size)
        cases.append(Case(str(number), (path,), None, str(number)))
    return cases


def fails_on_odd(case: Case) -> str:
    if int(case.name) % 2:
        raise UserError("is odd", file=case.name)
    return case.name


def test_every_case_has_a_result_or_its_error(tmp_path):
    outcomes = try_each_case(fails_on_odd, make_cases(tmp_path, 4, 10), "work")
    assert [str(outcome) for outcome in outcomes] == ["0", "1: is odd", "2", "3: is odd"]
    assert isinstance(outcomes[1], UserError)


def test_all_problems_are_told(tmp_path):
    with pytest.raises(UserError, match="3 problems in 6 cases") as error:
        each_case(fails_on_odd, make_cases(tmp_path, 6, 10), "work")
    assert [line.strip()[0] for line in str(error.value).splitlines()[1:]] == list("135")


def test_a_bug_is_not_hidden_and_what_has_not_begun_is_dropped(tmp_path):
    tried = []

    def breaks(case: Case) -> None:
        tried.append(case.name)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        each_case(breaks, make_cases(tmp_path, 5, 1), "work")
    assert tried == ["0"]


def test_small_work_is_done_in_this_process(tmp_path):
    cases = make_cases(tmp_path, 8, 1000)
    for workers in (None, 1):
        assert set(each_case(lambda case: os.getpid(), cases, "work", workers)) == {os.getpid()}


def test_no_cases_are_no_work():
    assert each_case(fails_on_odd, [], "work") == each_case(fails_on_odd, [], "work", 3) == []


def test_memory_that_runs_out_here_is_the_problem_of_a_case(tmp_path):
    def large(case: Case) -> str:
        if case.name == "1":
            raise MemoryError
        return case.name

    outcomes = try_each_case(large, make_cases(tmp_path, 3, 10), "work")
    assert outcomes[::2] == ["0", "2"]
    assert ": work on case 1 ran out of memory (about 0.15 GB needed, " in str(outcomes[1])


def test_workers_by_cores_cases_and_what_was_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "cores", lambda: 4)
    monkeypatch.setattr(parallel, "free_memory", lambda: None)
    small, large = (make_cases(tmp_path, 8, size) for size in (100, LARGE))
    assert workers_for(small) == workers_for(small, 1) == 0
    assert workers_for(small, 3) == 3
    assert workers_for(large) == 4
    assert workers_for(large, 1) == 1
    assert workers_for(large, 6) == 6
    assert workers_for(large[:3], 6) == 3


def test_no_more_workers_than_the_largest_cases_leave_room_for(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(parallel, "cores", lambda: 4)
    caplog.set_level("INFO")
    cases = make_cases(tmp_path, 6, LARGE)
    with open(cases[2].images[0], "ab") as file:
        file.truncate(2**30)
    each, largest = parallel._need(cases[0]), parallel._need(cases[2])
    for free, workers in ((largest + 3 * each, 4), (largest + 3 * each - 1, 3), (largest, 1), (0, 1)):
        caplog.clear()
        monkeypatch.setattr(parallel, "free_memory", lambda free=free: free)
        assert workers_for(cases) == workers
        assert ("GB needed" in caplog.text) == (workers < 4)
    assert workers_for(cases[3:], 2) == 1
