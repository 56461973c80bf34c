"""The same work on many cases, in a few threads, with the problems of all of them gathered."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.errors import UserError, all_problems
from delightsam_pipeline.files import identity

Result = TypeVar("Result")
_SMALL_MB = 8
_MOST = 8


def workers_for(cases: Sequence[Case], asked: int | None = None) -> int:
    """Threads for reading cases: as many as asked, else one for small work and at most one per core for the rest."""
    if asked is not None:
        return max(1, asked)
    megabytes = sum(identity(path)[1] for case in cases for path in case.images if path.exists()) / 2**20
    return 1 if megabytes < _SMALL_MB else max(1, min(os.cpu_count() or 1, len(cases), _MOST))


def each_case(
    work: Callable[[Case], Result], cases: Sequence[Case], what: str, workers: int | None = None
) -> list[Result]:
    """`work` on every case, results in the cases' order; `what` names the work on the progress bar.

    Threads, not processes: reading, decompressing and resampling release Python's lock, and a few small pictures
    should not pay for starting processes. All cases are tried; then one UserError lists those that failed.
    """
    results, problems = [], []
    pool = ThreadPoolExecutor(workers_for(cases, workers))
    try:
        futures = [pool.submit(work, case) for case in cases]
        for future in tqdm(futures, desc=what, disable=None, unit="case"):
            try:
                results.append(future.result())
            except UserError as error:
                problems.append(error)
    finally:
        # on Ctrl-C what has not begun is dropped
        pool.shutdown(wait=True, cancel_futures=True)
    if problems:
        raise all_problems(problems, f"{len(cases)} cases")
    return results
