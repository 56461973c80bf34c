"""Work on many cases: order kept, all problems told, no crowd of threads for small work."""

from __future__ import annotations

import threading
import time

import pytest

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.parallel import each_case, workers_for
from delightsam_pipeline.errors import UserError


def make_cases(folder, count: int, size: int) -> list[Case]:
    cases = []
    for number in range(count):
        path = folder / f"{number}.png"
        path.write_bytes(b"0" * size)
        cases.append(Case(str(number), (path,), None, str(number)))
    return cases


def test_results_come_in_the_cases_order(tmp_path):
    def slow_first(case: Case) -> int:
        time.sleep(0.05 if case.name == "0" else 0)
        return int(case.name)

    assert each_case(slow_first, make_cases(tmp_path, 6, 10), "work", workers=3) == list(range(6))


def test_all_problems_are_told_and_every_case_is_tried(tmp_path):
    tried = []

    def fails_on_odd(case: Case) -> None:
        tried.append(case.name)
        if int(case.name) % 2:
            raise UserError("is odd", file=case.name)

    with pytest.raises(UserError, match="3 problems in 6 cases") as error:
        each_case(fails_on_odd, make_cases(tmp_path, 6, 10), "work")
    assert sorted(tried) == list("012345")
    assert [line.strip()[0] for line in str(error.value).splitlines()[1:]] == list("135")


def test_a_bug_is_not_hidden_and_what_has_not_begun_is_dropped(tmp_path):
    tried = []

    def breaks(case: Case) -> None:
        tried.append(case.name)
        if case.name == "0":
            raise ZeroDivisionError
        time.sleep(0.02)

    with pytest.raises(ZeroDivisionError):
        each_case(breaks, make_cases(tmp_path, 500, 1), "work", workers=1)
    assert len(tried) < 500


def test_small_pictures_start_no_crowd_of_threads(tmp_path):
    names = set()
    each_case(lambda case: names.add(threading.current_thread().name), make_cases(tmp_path, 8, 1000), "work")
    assert len(names) == 1


def test_number_of_workers(tmp_path):
    large = make_cases(tmp_path, 3, 4 * 2**20)
    assert 1 <= workers_for(large) <= 3
    assert workers_for(large, 5) == 5
    assert workers_for(large[:1]) == 1
