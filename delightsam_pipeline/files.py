"""Writing whole files or none, reading JSON with errors that name the place, and digests."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from delightsam_pipeline.errors import UserError

_DISK_PROBLEMS = {
    errno.EACCES: "cannot be written (no permission)",
    errno.EPERM: "cannot be written (no permission)",
    errno.EROFS: "cannot be written (read-only file system)",
    errno.ENOSPC: "cannot be written (the disk is full)",
    errno.EDQUOT: "cannot be written (the disk quota is used up)",
    errno.EFBIG: "cannot be written (a file-size limit was reached)",
    errno.ENOTDIR: "cannot be written (a part of its path is a file, not a folder)",
    errno.EEXIST: "cannot be written (a file is where a folder should be)",
    errno.EISDIR: "cannot be written (a folder is where a file should be)",
    errno.ENAMETOOLONG: "cannot be written (the name is too long)",
}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write `path` into a UserError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # numpy's and torch's writers say that a disk is full without the system's number
        number = getattr(error, "errno", None)
        if number is not None and number not in _DISK_PROBLEMS:
            raise
        reason = (str(error) or repr(error)).splitlines()[0]
        problem = _DISK_PROBLEMS.get(number, f"cannot be written ({reason})")
        fix = "choose a folder that you can write to, with enough free space"
        raise UserError(problem, file=path, fix=fix) from error


def make_folder(path: Path) -> Path:
    """Create a folder and its parents; UserError when that is not allowed."""
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; renamed to `path` if the block ends well, removed if not.

    The temporary name starts with a dot and keeps the ending, so that writers which look at it work.
    """
    path = Path(path)
    make_folder(path.parent)
    with disk_errors(path):
        handle, name = tempfile.mkstemp(prefix=".writing-", suffix="-" + path.name[-100:], dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_UMASK)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _umask()  # it can only be read by setting it, which threads must not do


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files of `writing` that a killed process left an hour ago or more."""
    for file in folder.glob(".writing-*"):
        if time.time() - file.stat().st_mtime > 3600:
            file.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, whole or not at all; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file, with or without a byte-order mark.

    Raises UserError when it is missing or malformed, with line and column.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError("does not exist", file=path) from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise UserError(f"is not valid JSON: {error.msg} at {place}", file=path, fix="mend the file") from None
    except (ValueError, RecursionError, OSError) as error:
        raise UserError(f"cannot be read ({error})", file=path) from None


def digest(*parts: Any) -> str:
    """16 hexadecimal digits that change when any of the JSON-able parts changes."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identity(path: Path) -> list:
    """Name, size and times of change of a file (of its content, and of its entry): cheap to take, different when the
    file was rewritten, even by a program that restores the time of its content.

    Of a folder (a DICOM series): its name, the size of the files in it, and a digest of their identities.
    The folder above is left out, since one file can be given by several paths. Raises UserError when it is not there.
    """
    try:
        stat = os.stat(path)
        if S_ISDIR(stat.st_mode):
            shown = [Path(entry.path) for entry in os.scandir(path) if entry.is_file() and entry.name[0] != "."]
            files = sorted(identity(file) for file in shown)
            return [Path(path).name, sum(size for _, size, *_ in files), digest(files)]
    except OSError as error:
        raise UserError(f"cannot be looked at ({error.strerror})", file=path) from None
    return [Path(path).name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
