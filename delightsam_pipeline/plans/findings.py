"""What the data doctor finds: the file, the problem and how to mend it, and all of them as one table."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from delightsam_pipeline.errors import UserError

_FILES_SHOWN = 5
_GROUPS_SHOWN = 25
_CHANGING = re.compile(r"\S*[/\\]\S*|\d[\d.,e+-]*")  # paths and numbers


class Finding(BaseModel):
    """One thing found in a dataset.

    level : "error" stops the planning, "warning" is told and recorded. file : what it is about; a case's first image
    where no other file is to blame. problem : one sentence without a full stop, details of the case after a semicolon.
    fix : what the user can do. case : the case's name, None for the dataset as a whole.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Literal["error", "warning"]
    file: str
    problem: str
    fix: str = ""
    case: str | None = None

    @staticmethod
    def of(error: UserError, case: str | None = None) -> Finding:
        """An error as a finding: expected and found become part of the problem."""
        parts = [error.problem]
        parts += [f"expected {error.expected}"] if error.expected is not None else []
        parts += [f"found {error.found}"] if error.found is not None else []
        problem = " ".join("; ".join(parts).split())
        return Finding(level="error", file=str(error.file or ""), problem=problem, fix=error.fix or "", case=case)


def table(findings: Sequence[Finding], folder: Path | None = None) -> str:
    """The findings as lines for people, errors first; "" when there are none.

    The same problem of several files is told once, with at most five of them; at most 25 problems are told. What is
    left out is counted. folder : files in it are called by their place in it.
    """
    groups: dict[tuple[str, str], list[Finding]] = {}
    if folder is not None:
        findings = [f.model_copy(update={"problem": f.problem.replace(f"{folder}{os.sep}", "")}) for f in findings]
    for finding in sorted(findings, key=lambda finding: finding.level):
        groups.setdefault((finding.level, _CHANGING.sub("...", _sentence(finding))), []).append(finding)
    told = [_told(same, sentence, folder) for (_, sentence), same in list(groups.items())[:_GROUPS_SHOWN]]
    rest = [finding for same in list(groups.values())[_GROUPS_SHOWN:] for finding in same]
    return "\n".join([*told, *([f"and {counted(rest)} of other kinds"] if rest else [])])


def counted(findings: Sequence[Finding]) -> str:
    """How many: "1 error and 12 warnings"."""
    numbers = [sum(finding.level == level for finding in findings) for level in ("error", "warning")]
    parts = [f"{n} {word}{'s' if n > 1 else ''}" for n, word in zip(numbers, ("error", "warning"), strict=True) if n]
    return " and ".join(parts) or "no problems"


def _sentence(finding: Finding) -> str:
    return finding.problem.partition(";")[0]


def _told(same: Sequence[Finding], sentence: str, folder: Path | None) -> str:
    """One problem, with the files that have it and how to mend it."""
    first = same[0]
    fix = [f"  -> {first.fix}"] if first.fix else []
    if len(same) == 1:
        where = f"{place(first, folder)}: " if first.file else ""
        return "\n".join([f"{first.level}: {where}{first.problem}", *fix])
    problems = {finding.problem for finding in same}
    sentences = {_sentence(finding) for finding in same}
    heading = (problems if len(problems) == 1 else sentences if len(sentences) == 1 else {sentence}).pop()
    lines = [f"{first.level}: {len(same)} files: {heading}"]
    for finding in same[:_FILES_SHOWN]:
        detail = finding.problem.removeprefix(heading).lstrip("; ")
        lines.append(f"  {place(finding, folder)}{': ' if detail else ''}{detail}")
    if len(same) > _FILES_SHOWN:
        lines.append(f"  and {len(same) - _FILES_SHOWN} more")
    return "\n".join(lines + fix)


def place(finding: Finding, folder: Path | None) -> str:
    """A file by its place in the folder, the folder itself by its name."""
    file = Path(finding.file)
    if folder is None or not file.is_relative_to(folder):
        return finding.file
    return folder.name if file == folder else str(file.relative_to(folder))
