"""What a source of images and masks was recognised as, and how its cases are called."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.errors import UserError


@dataclass(frozen=True)
class Found:
    """The cases of a source, called by names that files can have.

    layout, place : what the source was recognised as, and where it lies, for the user to read.
    train : cases with a mask. test : the others, and those that are to be kept for testing.
    entries : what the source itself says for dataset.json: channel_names, labels, mask_values, modality.
    problems : everything wrong with it.
    """

    layout: str
    place: str
    train: tuple[Case, ...]
    test: tuple[Case, ...]
    entries: dict[str, Any] = field(default_factory=dict)
    problems: tuple[UserError, ...] = ()


def case_name(text: str) -> str:
    """A name for a case's files: letters, digits, `_`, `-` and dots inside; anything else becomes `_`."""
    name = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", text))
    return name.strip("._-") or "case"


def same_names(cases: Sequence[Case]) -> list[UserError]:
    """Cases whose names differ at most in capital letters, which some file systems do not tell apart."""
    problems, first = [], {}
    for case in cases:
        other = first.setdefault(case.name.casefold(), case)
        if other is not case:
            fix = "rename one of them, or give names in the column case of a CSV"
            problem = f"would be called {case.name} as {other.images[0]} is"
            problems.append(UserError(problem, file=case.images[0], fix=fix))
    return problems
