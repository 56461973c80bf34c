"""The same work on many cases: here when it is small, else in worker processes; every case gets its own end."""

from __future__ import annotations

import logging
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from typing import TypeVar

from tqdm import tqdm

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.crew import Death, NoWorkers, results
from delightsam_pipeline.data.footprint import footprint, stored_bytes
from delightsam_pipeline.data.machine import cores, free_memory
from delightsam_pipeline.errors import UserError, all_problems

Result = TypeVar("Result")
_log = logging.getLogger(__name__)
_SMALL = 8 * 2**20  # bytes of images on disk: done sooner than workers have started
_OF_A_WORKER = 150e6  # bytes it takes with its libraries
_PER_STORED = 8  # bytes at the peak per byte of a case's arrays: 2 in fingerprints, 4 to 8 in preprocessing, measured


def each_case(
    work: Callable[[Case], Result], cases: Sequence[Case], what: str, workers: int | None = None
) -> list[Result]:
    """`try_each_case`, raising one UserError that lists the cases that failed."""
    outcomes = try_each_case(work, cases, what, workers)
    problems = [outcome for outcome in outcomes if isinstance(outcome, UserError)]
    if problems:
        raise all_problems(problems, f"{len(cases)} cases")
    return outcomes


def try_each_case(
    work: Callable[[Case], Result], cases: Sequence[Case], what: str, workers: int | None = None
) -> list[Result | UserError]:
    """`work` on every case: its result, or the UserError that it raised, in the cases' order.

    work : a function of a module, or functools.partial of one: it and its results are pickled for worker processes
        (see `workers_for`). A MemoryError becomes a UserError; any other exception than these two is a bug, ends the
        work, and is raised as it is.
    what : names the work on the progress bar. workers : processes at most; None decides by cores and memory.

    A case whose worker dies (killed, crashed, out of memory) is tried again alone when the others are done; if it
    fails then too, its outcome is a UserError that says what happened.
    """
    outcomes: dict[int, Result | UserError] = {}
    done = closing(_outcomes(work, cases, workers_for(cases, workers)))
    with tqdm(total=len(cases), desc=what, disable=None, unit="case") as bar, done as pairs:
        for number, outcome in pairs:
            outcomes[number] = outcome
            bar.update()
    return [outcomes[number] for number in range(len(cases))]


def workers_for(cases: Sequence[Case], asked: int | None = None) -> int:
    """How many worker processes work on these cases; 0 is this process itself, for little data.

    At most as many as asked (else one per core), one per case, and no more than fit into free memory at once.
    """
    if asked in (None, 1) and sum(map(stored_bytes, cases)) < _SMALL:
        return 0
    wanted = min(asked or cores(), len(cases))
    free = free_memory()
    if wanted < 2 or free is None:
        return wanted
    fitting, needed = 0, 0.0
    for need in sorted(map(_need, cases), reverse=True)[:wanted]:
        needed += need
        fitting += needed <= free
    if fitting < wanted:
        _log.info("%d workers, not %d: %s", max(1, fitting), wanted, _memory(needed, free))
    return max(1, fitting)


def _need(case: Case) -> float:
    """Bytes that a worker takes for a case, about."""
    return _OF_A_WORKER + _PER_STORED * footprint(case)


def _memory(need: float, free: float | None) -> str:
    text = f"about {need / 1e9:.2g} GB needed"
    return text if free is None else f"{text}, {free / 1e9:.2g} GB free"


def _outcomes(
    work: Callable[[Case], Result], cases: Sequence[Case], count: int
) -> Iterator[tuple[int, Result | UserError]]:
    """(number, outcome) of every case, in the order they are done."""
    left, given_up = dict(enumerate(cases)), {}
    try:
        if count:
            yield from _by_workers(pickle.dumps(work), left, given_up, count)
    except NoWorkers as error:
        _log.warning("worker processes cannot be started (%s): working without", error)
    for number, case in left.items():
        yield number, given_up.get(number) or _here(work, case)


def _here(work: Callable[[Case], Result], case: Case) -> Result | UserError:
    try:
        return work(case)
    except UserError as error:
        return error
    except MemoryError:
        return _given_up(case, Death(None, free_memory()), f"work on case {case.name}")


def _by_workers(
    job: bytes, left: dict[int, Case], given_up: dict[int, UserError], count: int
) -> Iterator[tuple[int, Result | UserError]]:
    """Takes what is done out of `left`; what died is tried once more, alone, and is in `given_up` until then."""
    for alone in (False, True):
        with closing(results(job, dict(left), 1 if alone else count)) as done:
            for number, outcome in done:
                if isinstance(outcome, Death):
                    who = f"the process that worked on case {left[number].name}{' alone' if alone else ''}"
                    given_up[number] = _given_up(left[number], outcome, who)
                    if not alone:
                        _log.warning("%s; it is tried again alone at the end", given_up[number].problem)
                        continue
                    outcome = given_up[number]
                del left[number]
                yield number, outcome


def _given_up(case: Case, death: Death, who: str) -> UserError:
    fix = "free memory, or use a machine that has more"
    if death.exit_code is None:
        cause = f"ran out of memory ({_memory(_need(case), death.free)})"
    elif death.exit_code == -9:
        cause = f"was killed by signal 9, very likely out of memory ({_memory(_need(case), death.free)})"
    else:
        cause, fix = f"ended with exit code {death.exit_code}", "check its files, or report this as a bug"
        with suppress(ValueError):
            cause = f"was killed by signal {-death.exit_code} ({signal.Signals(-death.exit_code).name})"
    return UserError(f"{who} {cause}", file=case.images[0], fix=fix)
