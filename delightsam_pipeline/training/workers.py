"""Things made one after the other by processes of their own, in the order of their numbers."""

from __future__ import annotations

import ctypes
import multiprocessing
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any

import numpy as np
import torch

_AHEAD = 2  # what each process makes before it is asked for
_ALIGNED = 64  # bytes
_SHARED = Path("/dev/shm")

Make = Callable[[int], dict[str, Any]]


class WorkerDied(RuntimeError):
    """A process was ended from outside, or for want of memory."""


class InOrder(Iterator):
    """make(first), make(first + 1), ... without end; the same whatever the number of processes (0: none).

    make : of a number a dict. largest : bytes that its arrays take at most; they come through shared memory where the
    system has room for it (containers often have but 64 MB), else through pipes, which costs several times as much.
    An exception in a process is raised here. Raises WorkerDied when a process has died.
    """

    def __init__(self, make: Make, first: int, workers: int, largest: int) -> None:
        self._make, self._next = make, first
        self._processes: list[multiprocessing.Process] = []
        self._connections: list[Connection] = []
        self._desks: list[_Desk] = []
        size = _places(largest) if _has_room(workers * _AHEAD * _places(largest)) else 0
        for _ in range(workers):
            here, there = multiprocessing.Pipe()
            desk = _Desk(RawArray(ctypes.c_byte, _AHEAD * size), size)
            process = multiprocessing.Process(target=_serve, args=(there, make, desk, workers), daemon=True)
            process.start()
            there.close()  # of the process alone from now on, so that its death ends the pipe
            self._processes.append(process)
            self._connections.append(here)
            self._desks.append(desk)
        for number in range(first, first + _AHEAD * workers):
            self._connections[number % workers].send(number)

    def __next__(self) -> dict[str, Any]:
        found = self._received() if self._processes else self._make(self._next)
        self._next += 1
        return found

    def _received(self) -> dict[str, Any]:
        workers = len(self._processes)
        which = self._next % workers
        try:
            found = self._connections[which].recv()
            if isinstance(found, Exception):
                raise found
            found = self._desks[which].take(found)
            self._connections[which].send(self._next + _AHEAD * workers)  # its place is free again
        except (EOFError, ConnectionError):
            raise WorkerDied("a loader process is no longer alive") from None
        return found

    @property
    def pids(self) -> list[int]:
        """Of the processes."""
        return [process.pid for process in self._processes]

    def close(self) -> None:
        """End the processes; what they had made is lost."""
        for process in self._processes:
            process.kill()
        for process, connection in zip(self._processes, self._connections, strict=True):
            process.join()
            connection.close()


@dataclass(frozen=True)
class _Desk:
    """Shared memory on which a process lays the arrays of what it makes, in one of two places of `size` bytes."""

    memory: ctypes.Array
    size: int

    def lay(self, found: dict[str, Any], place: int) -> dict[str, Any]:
        """What was made, with where its arrays lie instead of these; itself when there is no place for them."""
        arrays = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
        if sum(_places(array.nbytes) for array in arrays.values()) > self.size:
            return found
        begin, laid = place * self.size, {}
        for name, array in arrays.items():
            laid[name] = _Lying(begin, array.shape, array.dtype.str)
            laid[name].view(self.memory)[...] = array
            begin += _places(array.nbytes)
        return found | laid

    def take(self, found: dict[str, Any]) -> dict[str, Any]:
        """What was made, with copies of its arrays."""
        return {n: v.view(self.memory).copy() if isinstance(v, _Lying) else v for n, v in found.items()}


@dataclass(frozen=True)
class _Lying:
    """An array in shared memory, from byte `begin` on."""

    begin: int
    shape: tuple[int, ...]
    dtype: str

    def view(self, memory: ctypes.Array) -> np.ndarray:
        count = int(np.prod(self.shape))
        return np.frombuffer(memory, self.dtype, count, self.begin).reshape(self.shape)


def _places(size: int) -> int:
    """Bytes for an array of so many."""
    return -(-size // _ALIGNED) * _ALIGNED


def _has_room(size: int) -> bool:
    return not _SHARED.is_dir() or shutil.disk_usage(_SHARED).free > 2 * size


def _serve(connection: Connection, make: Make, desk: _Desk, workers: int) -> None:
    """Make what is asked for, until the asking process is gone."""
    _belong_to_parent()
    torch.set_num_threads(1)
    try:
        while True:
            number = connection.recv()
            connection.send(_made(make, number, desk, number // workers % _AHEAD))
    except (EOFError, ConnectionError):
        return


def _made(make: Make, number: int, desk: _Desk, place: int) -> dict[str, Any] | Exception:
    try:
        return desk.lay(make(number), place)
    except Exception as error:  # whatever it is, the asking process raises it
        error.add_note(f"In a loader process:\n{traceback.format_exc()}")
        return error


def _belong_to_parent() -> None:
    """Leave Ctrl-C to the parent, let SIGTERM end this process, and die when the parent was killed (Linux)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
