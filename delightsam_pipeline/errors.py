"""Errors that a user can mend, each one line: what is wrong, expected, found, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class UserError(Exception):
    """Something in the user's data, folders or options is wrong; commands print it as one line and exit with 2.

    Parameters
    ----------
    problem : what is wrong, without a full stop.
    file : the file or folder concerned, put first.
    expected, found : what should have been there and what was.
    fix : what the user can do about it.

    All of them stay attributes; `problems` holds the single errors that this one gathers (see `all_problems`).
    """

    exit_code = 2

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        expected: object = None,
        found: object = None,
        fix: str | None = None,
    ) -> None:
        text = f"{file}: {problem}" if file is not None else problem
        if expected is not None:
            text += f"; expected {expected}"
        if found is not None:
            text += f"; found {found}"
        if fix is not None:
            text += f"; {fix}"
        super().__init__(" ".join(text.split()))
        self.problem, self.file, self.expected, self.found, self.fix = problem, file, expected, found, fix
        self.problems: tuple[UserError, ...] = ()

    def __reduce__(self) -> tuple:
        return _rebuild, (type(self), str(self), self.__dict__)


def _rebuild(kind: type[UserError], text: str, parts: dict) -> UserError:
    """An error that comes back from a worker process keeps its finished text and its parts."""
    error = kind(text)
    error.__dict__.update(parts)
    return error


def listed(names: Sequence[str], most: int, joint: str = ", ") -> str:
    """The names or, where there are more than `most`, the first of them and how many more there are."""
    return joint.join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


class SomeCasesFailed(UserError):
    """Some cases failed and all others are done; commands list the failures and exit with 3."""

    exit_code = 3


def all_problems(problems: Sequence[UserError], what: str, kind: type[UserError] = UserError) -> UserError:
    """One error of a kind out of many: a single UserError as it is, others as one line each under a count."""
    if len(problems) == 1 and type(problems[0]) is kind:
        return problems[0]
    error = kind(f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'} in {what}")
    error.args = ("\n  ".join([str(error) + ":", *map(str, problems)]),)
    error.problems = tuple(problems)
    return error
