"""What all commands share: options with 'did you mean', one-line errors, exit codes, signals, logging."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from delightsam_pipeline import __version__
from delightsam_pipeline.errors import UserError

# not __name__, which is __main__ for a command that is run as a module
log = logging.getLogger("delightsam_pipeline.commands")

INTERRUPTED, TERMINATED = 130, 143
_LARGEST = 2**63 - 1  # what torch and numpy can count to
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|)", re.IGNORECASE)
_SECONDS = {"s": 1, "": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


class Parser(argparse.ArgumentParser):
    """An argument parser that answers an unknown option with the nearest known one."""

    def __init__(self, description: str) -> None:
        super().__init__(description=description, allow_abbrev=False)
        self.add_argument("--version", action="version", version=f"delightsam-pipeline {__version__}")
        self.add_argument("--verbose", action="store_true", help="say more about what is done")

    def parse_args(self, args: Sequence[str] | None = None, namespace=None) -> argparse.Namespace:
        args = sys.argv[1:] if args is None else list(args)
        known = [option for action in self._actions for option in action.option_strings]
        # before parsing, which would complain first of the required option that was misspelt
        misspelt = [a for a in args if a.startswith("--") and a.split("=")[0] not in [*known, "--"]]
        parsed, unknown = (None, misspelt) if misspelt else self.parse_known_args(args, namespace)
        if unknown:
            close = difflib.get_close_matches(unknown[0].split("=")[0], known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            self.error(f"unknown argument {unknown[0]}{hint}")
        return parsed


class Stop:
    """Set by Ctrl-C or SIGTERM within its `with` block; asked between steps, so that a run ends with all saved.

    A second Ctrl-C ends the program at once. A second SIGTERM does not: whoever starts processes sends it on to them,
    and they may have had it already.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        for number, code in ((signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)):
            self.before[number] = signal.signal(number, partial(self._ask, code))
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        return self.code is not None

    def _ask(self, code: int, *_) -> None:
        if code == self.code == INTERRUPTED:
            raise KeyboardInterrupt
        if self.code is None:
            log.warning("stopping after this step; Ctrl-C once more to stop at once")
        if self.code is None or code == INTERRUPTED:
            self.code = code


class _Terminated(BaseException):
    """SIGTERM, so that blocks which clean up behind them do so."""


def _on_terminate(*_) -> None:
    raise _Terminated


def run(work: Callable[[], int | None]) -> int:
    """Call `work` and turn what it raises into one line and an exit code.

    0 done, 1 a bug (with traceback), 2 the user's to mend, 3 some cases failed, 130 and 143 on signals.
    """
    signal.signal(signal.SIGTERM, _on_terminate)
    try:
        return work() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    except _Terminated:
        print("terminated", file=sys.stderr)
        return TERMINATED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            problem = UserError(f"cannot be used ({error.strerror})", file=error.filename)
            print(f"error: {problem}", file=sys.stderr)
            return problem.exit_code
        traceback.print_exc()
        print(
            f"\nThis is a bug in delightsam-pipeline {__version__}; please report it with the lines above.",
            file=sys.stderr,
        )
        return 1


def command(parser: Callable[[], Parser], work: Callable[[argparse.Namespace], int | None]) -> Callable[..., int]:
    """The entry point of a command: parse, start logging, work; takes the arguments and returns the exit code."""

    def main(argv: Sequence[str] | None = None) -> int:
        args = parser().parse_args(argv)
        start_logging(args.verbose)
        return run(lambda: work(args))

    return main


def start_logging(verbose: bool) -> None:
    """Messages on standard output, without decoration; warnings are marked."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("delightsam_pipeline").setLevel(logging.DEBUG if verbose else logging.INFO)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


def duration(text: str) -> float:
    """'90', '90s', '20m', '1.5h' or '2d' in seconds, for argparse."""
    match = _TIME.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise argparse.ArgumentTypeError(f"'{text}' is not a duration; write for instance 90s, 20m or 1.5h")
    return float(match[1]) * _SECONDS[match[2].lower()]


def positive(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    if not _is_number(text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return int(text)


def count(text: str) -> int:
    """A whole number from 0 on, for argparse."""
    if not _is_number(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 to {_LARGEST}")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= len(str(_LARGEST)) and int(text) <= _LARGEST


def gigabytes(text: str, least: float = 0.5) -> float:
    """A number of gigabytes from `least` on in bytes, for argparse."""
    try:
        value = float(text.lower().removesuffix("gb").strip())
    except ValueError:
        value = -1.0
    if 0 <= value < least:
        raise argparse.ArgumentTypeError(f"{text} GB is too little, give at least {least:g}")
    if not least <= value < 10000:
        raise argparse.ArgumentTypeError(f"'{text}' is not an amount of memory in GB, such as 8")
    return value * 1e9


def split_datasets(values: Sequence[str]) -> list[str]:
    """DATASET arguments, each perhaps several joined with '+'. Raises UserError for an empty or doubled name."""
    names = [name.strip() for value in values for name in value.split("+")]
    if "" in names:
        raise UserError("a dataset's name is empty", found="+".join(values), fix="write for instance 101+103")
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise UserError("a dataset is named twice", found=", ".join(doubled))
    return names


def folder(text: str) -> Path:
    """A path, for argparse; an empty one is refused."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)
