"""One process at a time in a folder: locks of the operating system, which vanish with the process that holds them."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import disk_errors

LOCK = ".dlsam.lock"  # the file that is locked; it holds a line about each process that has locked it
_TRIES = 100  # the file may be removed between being opened and being locked
_log = logging.getLogger(__name__)
_SHARERS = 64  # at most, on Windows, whose locks are all exclusive: a sharer takes one byte of so many
_FAR = 2**30  # where these bytes are, since Windows lets nobody read what is locked
_held: dict[Path, int | None] = {}  # folder -> descriptor, of what this process has locked


class _Taken(Exception):
    """Another process has the lock."""


@contextmanager
def only_one(folder: Path, what: str, shared: bool = False) -> Iterator[None]:
    """Hold the folder while the block runs: alone, or together with others that share it.

    what : who holds it, for the message to others. A folder held alone is made if it is not there, and removed
    again if it stays empty. Where nothing can be locked (no such locks, or a folder to share that is read-only)
    the block runs all the same. A folder that this process holds already is its own.
    Raises UserError naming the other process when there is one, and for a folder that cannot be made.
    """
    folder = Path(folder)
    key = folder.resolve()
    if key in _held:
        yield
        return
    made = [place for place in (folder, *folder.parents) if not place.is_dir()]
    try:
        _held[key] = _lock(folder, what, shared)
    except _Taken as taken:
        fix = "wait for it" + ("" if shared else ", or choose another folder with -o")
        raise UserError("another process works on it", file=folder, found=str(taken) or None, fix=fix) from None
    try:
        yield
    finally:
        _release(folder, _held.pop(key, None))
        with suppress(OSError):  # something lies there now
            for place in made:
                place.rmdir()


def _lock(folder: Path, what: str, shared: bool) -> int | None:
    """The descriptor of the locked file; None where nothing can be locked."""
    file = folder / LOCK
    for _ in range(_TRIES):
        try:
            if not shared:
                with disk_errors(folder):
                    folder.mkdir(parents=True, exist_ok=True)
            descriptor = _open(file)
        except OSError as error:
            if shared or error.errno != errno.ENOENT:  # else the one before us has just removed it
                _log.debug("%s: not locked (%s)", folder, error)
                return None
            continue
        try:
            _take(descriptor, shared)
            if _is_still(descriptor, file):
                _sign(descriptor, what, shared)
                return descriptor
        except _Taken:
            holders = _holders(descriptor)
            os.close(descriptor)
            raise _Taken(holders) from None
        except OSError as error:
            _log.info("%s: this file system has no locks (%s); let no other process work on it", folder, error)
            os.close(descriptor)
            return None
        os.close(descriptor)
    return None


def _open(file: Path) -> int:
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return os.open(file, os.O_RDONLY)  # somebody else's: it can be locked, not signed


def _is_still(descriptor: int, file: Path) -> bool:
    """Whether the file was not removed, by the process that had it before, between being opened and being locked."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False


def _sign(descriptor: int, what: str, shared: bool) -> None:
    with suppress(OSError):
        if not shared:
            os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_END)
        os.write(descriptor, f"{os.getpid()}\t{socket.gethostname()}\t{what}\n".encode())


def _holders(descriptor: int) -> str:
    """Who else has signed and is not known to have ended."""
    with suppress(OSError, ValueError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        signed = [line.split("\t") for line in os.read(descriptor, 2**16).decode().splitlines()]
        there = [(pid, host, what) for pid, host, what in signed if not _is_past(int(pid), host)]
        return ", ".join(f"{what} (process {pid} on {host})" for pid, host, what in there)
    return ""


def _is_past(pid: int, host: str) -> bool:
    """Whether a process that has signed cannot have the lock any more: it has ended, or is this one."""
    if host != socket.gethostname():
        return False
    if pid == os.getpid() or os.name == "nt":  # where os.kill would end the process
        return pid == os.getpid()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _release(folder: Path, descriptor: int | None) -> None:
    """Remove the file if nobody else shares it, and let go."""
    if descriptor is None:
        return
    with suppress(_Taken, OSError):
        _let_go(descriptor)
        _take(descriptor, shared=False)
        if _is_still(descriptor, folder / LOCK):
            os.unlink(folder / LOCK)
    with suppress(OSError):
        _let_go(descriptor)  # a process forked since then may have the descriptor too
    os.close(descriptor)


if os.name == "nt":
    import msvcrt

    _places: dict[int, tuple[int, int]] = {}  # descriptor -> first byte and number of bytes that it has locked

    def _take(descriptor: int, shared: bool) -> None:
        for place, count in [(n, 1) for n in range(_SHARERS)] if shared else [(0, _SHARERS)]:
            os.lseek(descriptor, _FAR + place, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, count)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EDEADLK):
                    raise
            else:
                _places[descriptor] = place, count
                return
        raise _Taken

    def _let_go(descriptor: int) -> None:
        place, count = _places.pop(descriptor, (0, 0))
        if count:
            os.lseek(descriptor, _FAR + place, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, count)

else:
    import fcntl

    def _take(descriptor: int, shared: bool) -> None:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _Taken from None

    def _let_go(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _forget() -> None:
        """In a forked process: the locks are the parent's, and must end with it."""
        for descriptor in filter(None, _held.values()):
            os.close(descriptor)
        _held.clear()

    os.register_at_fork(after_in_child=_forget)
