"""What the data doctor finds: one line each, with the file, the problem and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from delightsam_pipeline.errors import UserError


class Finding(BaseModel):
    """One thing found in a dataset.

    level : "error" stops the planning, "warning" is told and recorded. file : what it is about; a case's first image
    where no other file is to blame. problem : one sentence without a full stop. fix : what the user can do.
    case : the case's name, None for the dataset as a whole.
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


def table(findings: Sequence[Finding]) -> str:
    """The findings as lines, errors first."""
    ordered = sorted(findings, key=lambda finding: finding.level)
    lines = [f"{f.level}: {f.file}: {f.problem}{'; ' + f.fix if f.fix else ''}" for f in ordered]
    return "\n".join(lines)
