"""Worker processes from the parent's side: started, given cases, listened to, and ended in any event."""

from __future__ import annotations

import logging
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from delightsam_pipeline.data import worker as protocol
from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.machine import free_memory

_THREADS = "OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS VECLIB_MAXIMUM_THREADS NUMEXPR_NUM_THREADS"
_ONE_THREAD = dict.fromkeys([*_THREADS.split(), "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"], "1")
_PATIENCE_S = 1.0  # for a process that is to end
_LOOK_S = 0.5  # Ctrl-C does not wake a wait on Windows


class NoWorkers(Exception):
    """A worker process cannot be started here."""


@dataclass(frozen=True)
class Death:
    """A case's worker is no more, or had no memory: exit_code as `subprocess` has it (-9: killed by signal 9), None
    when it said itself that memory ran out; free: bytes that were free when the case was begun, None if unknown."""

    exit_code: int | None
    free: int | None


@dataclass(eq=False)
class _Member:
    """A worker process, the thread that reads what it says, and the case it has: None until it is ready."""

    process: subprocess.Popen
    thread: threading.Thread | None = None
    number: int | None = None
    free: int | None = None


def results(job: bytes, cases: Mapping[int, Case], count: int) -> Iterator[tuple[int, Any]]:
    """(number, outcome) of every case as each is done, worked on by `count` processes.

    job : the pickled function. An outcome is its result, the UserError it raised, or a Death: the process is then
    replaced, and the case is left to the caller. Log records and warnings of the workers come out in this process.
    Raises what else the function raised, with the worker's traceback as a note, and NoWorkers. To be closed.
    """
    events: queue.SimpleQueue = queue.SimpleQueue()
    todo = deque(cases.items())
    everyone, crew, shown = [], set(), {}

    def start() -> None:
        member = _start(job, events)
        everyone.append(member)
        crew.add(member)

    try:
        for _ in range(min(count, len(todo))):
            start()
        while crew:
            member, message = _next(events)
            if member not in crew:
                continue
            if message is None:
                crew.remove(member)
                if member.number is None:
                    raise NoWorkers(f"exit code {member.process.returncode}")
                yield member.number, Death(member.process.returncode, member.free)
                if todo:
                    start()
                continue
            kind, *parts = pickle.loads(message)
            if _passed_on(kind, parts, shown):
                continue
            if kind != protocol.READY:
                yield member.number, Death(None, member.free) if kind == protocol.MEMORY else parts[0]
            if todo:
                _give(member, *todo.popleft())
            else:
                crew.remove(member)
                member.process.stdin.close()
    finally:
        _end(crew, everyone)


def _start(job: bytes, events: queue.SimpleQueue) -> _Member:
    # the same search path as here, whatever a script or a notebook has made of it
    code = f"import sys; sys.path[:] = {sys.path!r}; from {protocol.__name__} import main; main()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    # a group of its own: Ctrl-C is for this process, which then ends its workers
    apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else {"process_group": 0}
    try:
        process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | _ONE_THREAD, **pipes, **apart)
    except (OSError, TypeError) as error:
        raise NoWorkers(str(error)) from error
    levels = {name: logging.getLogger(name).getEffectiveLevel() for name in ("", "delightsam_pipeline")}
    member = _Member(process)
    member.thread = threading.Thread(target=_read, args=(member, pickle.dumps((levels, job)), events), daemon=True)
    member.thread.start()
    return member


def _read(member: _Member, first: bytes, events: queue.SimpleQueue) -> None:
    """Send the first message, then put all that the worker says among the events, and None when it has ended."""
    process = member.process
    try:
        protocol.send(process.stdin, first)
        while (message := protocol.receive(process.stdout)) is not None:
            events.put((member, message))
    except OSError:  # it ended before it had read all
        pass
    finally:
        _wait(process, _PATIENCE_S)
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                pipe.close()
        events.put((member, None))


def _next(events: queue.SimpleQueue) -> tuple[_Member, bytes | None]:
    while True:
        try:
            return events.get(timeout=_LOOK_S)
        except queue.Empty:
            continue


def _give(member: _Member, number: int, case: Case) -> None:
    member.number, member.free = number, free_memory()
    with suppress(OSError, ValueError):  # it has just died, which is told next
        protocol.send(member.process.stdin, pickle.dumps(case))


def _passed_on(kind: str, parts: list, shown: dict) -> bool:
    """Show what a worker logged or warned of, as if it had been here; raise its bug. False for all else."""
    if kind == protocol.LOG:
        logger = logging.getLogger(parts[0].name)
        if logger.isEnabledFor(parts[0].levelno):
            logger.handle(parts[0])
    elif kind == protocol.WARNING:
        text, category, file, line, module = parts
        warnings.warn_explicit(text, category, file, line, module, shown)
    elif kind == protocol.BUG:
        raise parts[0]
    return kind in (protocol.LOG, protocol.WARNING)


def _end(crew: set[_Member], everyone: list[_Member]) -> None:
    """End those that are still at work at once, and wait until none is left."""
    for member in crew:
        member.process.terminate()
    deadline = time.monotonic() + _PATIENCE_S
    for member in everyone:
        _wait(member.process, max(0.0, deadline - time.monotonic()))
        member.thread.join(_PATIENCE_S)


def _wait(process: subprocess.Popen, seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
