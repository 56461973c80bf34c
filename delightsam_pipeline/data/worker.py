"""A worker process: takes cases from a pipe, works on them, and tells its parent all that happened.

It is started by `crew` as a Python of its own, so it needs no main module that can be imported twice, and a daemonic
process may have it too. Messages are pickled, each after its length; only our own processes are at the two ends.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import struct
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO

from delightsam_pipeline.errors import UserError

# what a worker says: that it waits for its first case, what was logged or warned of, and one end of every case
READY, LOG, WARNING = "ready", "log", "warning"
RESULT, PROBLEM, MEMORY, BUG = "result", "problem", "memory", "bug"
_LENGTH = struct.Struct(">Q")


def send(stream: BinaryIO, message: bytes) -> None:
    """Write one message. Raises OSError when nobody is at the other end."""
    stream.write(_LENGTH.pack(len(message)))
    stream.write(message)
    stream.flush()


def receive(stream: BinaryIO) -> bytes | None:
    """The next message, None when the other end is gone."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    length = _LENGTH.unpack(head)[0]
    message = stream.read(length)
    return message if len(message) == length else None


def main() -> None:
    """Work until the parent closes the pipe, or is no more."""
    # the parent ends its workers, after Ctrl-C too; SystemExit lets half-written files be removed
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what libraries print must not get between the messages
    messages: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(source, messages), daemon=True).start()
    try:
        _work(messages, partial(_tell, target, threading.Lock()))
    except SystemExit as error:  # the thread that listens could not be joined
        os._exit(error.code if isinstance(error.code, int) else int(error.code is not None))


def _listen(source: BinaryIO, messages: queue.SimpleQueue) -> None:
    """Take messages off the pipe. Its end ends the process, in the middle of a case too: nobody waits for it."""
    try:
        while (message := receive(source)) is not None:
            messages.put(message)
    finally:
        os._exit(0)


def _tell(target: BinaryIO, lock: threading.Lock, kind: str, *parts: Any) -> None:
    message = pickle.dumps((kind, *parts))
    with lock:
        try:
            send(target, message)
        except OSError:
            os._exit(1)


def _work(messages: queue.SimpleQueue, tell: Callable) -> None:
    """The first message: levels of logging, and the pickled work. The others: cases."""
    levels, job = pickle.loads(messages.get())
    _pass_on(levels, tell)
    try:
        work = pickle.loads(job)
    except Exception as error:
        tell(BUG, _carried(error, "the work it was to do"))
        sys.exit(1)
    tell(READY)
    while True:
        _one(work, pickle.loads(messages.get()), tell)


def _one(work: Callable, case: Any, tell: Callable) -> None:
    try:
        tell(RESULT, work(case))
    except UserError as error:
        tell(PROBLEM, _carried(error))
    except MemoryError:
        tell(MEMORY)
    except Exception as error:
        tell(BUG, _carried(error, f"case {case.name}"))


def _carried(error: Exception, during: str | None = None) -> Exception:
    """The error as it can be sent: itself where pickle brings it back, else one with its text."""
    trace = "".join(traceback.format_exception(error))
    try:
        same = type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:
        same = False
    if not same:
        user = isinstance(error, UserError)
        error = UserError(str(error)) if user else RuntimeError(f"{type(error).__name__}: {error}")
    if during is not None:
        error.add_note(f"in a worker process, with {during}:\n{trace}")
    return error


def _pass_on(levels: dict[str, int], tell: Callable) -> None:
    """Let the parent have log records and warnings; what it does not show is not sent, or dropped there."""
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger().addHandler(_Handler(tell))
    warnings.simplefilter("always")
    warnings.showwarning = partial(_warn, tell)


def _warn(tell: Callable, message: Warning | str, category: type, filename: str, lineno: int, *_) -> None:
    if category.__module__ != "builtins":  # it may be one that cannot be sent
        category = next(kind for kind in category.__mro__ if kind.__module__ == "builtins")
    modules = [name for name, module in list(sys.modules.items()) if getattr(module, "__file__", None) == filename]
    tell(WARNING, str(message), category, filename, lineno, next(iter(modules), None))


class _Handler(logging.Handler):
    """Sends log records with their text finished, since their arguments may be anything."""

    def __init__(self, tell: Callable) -> None:
        super().__init__()
        self.tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        place = (record.pathname, record.lineno)
        try:
            text = self.format(record)
        except Exception:  # arguments that do not fit: as other handlers take it
            self.handleError(record)
        else:
            self.tell(LOG, logging.LogRecord(record.name, record.levelno, *place, text, None, None))
