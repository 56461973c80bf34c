"""Which classes were annotated in which case: elsewhere, what a mask leaves as background may be of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.errors import UserError, all_problems, listed

_MAGIC = frozenset("*?[")  # what makes a pattern of a name
_EXAMPLE = '{"CASE": ["liver"], "lung_*": ["lung", "nodule"]}'


@dataclass(frozen=True)
class Annotations:
    """The entry `annotated` of a dataset.json, `file`.

    classes : all of the dataset. by_case : the name of a case, or a pattern that holds for several -> the classes that
    were annotated in it; all were in a case that none holds for.
    """

    file: Path
    classes: tuple[str, ...]
    by_case: dict[str, tuple[str, ...]]

    @staticmethod
    def parse(value: Any, classes: tuple[str, ...], file: Path) -> Annotations:
        """Raises UserError for anything but a map from names to lists of classes that there are."""
        lists = list(value.values()) if isinstance(value, dict) else [None]
        if not all(isinstance(names, list) and all(isinstance(n, str) for n in names) for names in lists):
            raise UserError("'annotated' is not a map", file=file, expected=_EXAMPLE, found=json.dumps(value)[:80])
        problems = []
        for key, names in value.items():
            unknown = sorted(set(names) - set(classes))
            if unknown or not names:
                problem = f"'annotated' has {'a class that there is not' if unknown else 'no class'} for '{key}'"
                expected = f"some of {', '.join(classes)}"
                problems.append(UserError(problem, file=file, expected=expected, found=", ".join(unknown) or "[]"))
        if problems:
            raise all_problems(problems, str(file))
        return Annotations(file, classes, {key: tuple(names) for key, names in value.items()})

    @cached_property
    def _patterns(self) -> tuple[str, ...]:
        return tuple(filter(_is_pattern, self.by_case))

    def missing(self, case: str) -> tuple[str, ...]:
        """The classes that were not annotated in a case, in the order of all. A case's own name goes before patterns.

        Raises UserError when several patterns hold for it.
        """
        keys = [case] if case in self.by_case else [key for key in self._patterns if fnmatchcase(case, key)]
        if len(keys) > 1:
            found, fix = ", ".join(keys), "let one pattern hold for it, or give the case an entry of its own"
            raise UserError(f"'annotated' has several entries for '{case}'", file=self.file, found=found, fix=fix)
        return tuple(name for name in self.classes if keys and name not in self.by_case[keys[0]])

    def require_sense(self, cases: Collection[str], others: Iterable[str] = ()) -> None:
        """Raises UserError for names that hold for none of the training cases or the others, and for classes that were
        annotated in no training case."""
        known = {*cases, *others}
        odd = [key for key in self.by_case if key not in known]
        unknown = [key for key in odd if not (_is_pattern(key) and any(fnmatchcase(name, key) for name in known))]
        if unknown:
            problem = "'annotated' has cases that are not in the dataset"
            raise UserError(problem, file=self.file, found=listed(unknown, 10))
        nowhere = set(self.classes).intersection(*(self.missing(case) for case in cases))
        if nowhere:
            found, fix = ", ".join(sorted(nowhere)), "take them out of 'labels', or mend 'annotated'"
            raise UserError("by 'annotated', classes were annotated in no case", file=self.file, found=found, fix=fix)


def _is_pattern(key: str) -> bool:
    return not _MAGIC.isdisjoint(key)


def require_unseen(array: np.ndarray, labels: Labels, missing: Collection[str], case: str, file: Path) -> None:
    """Raises UserError when a label map of integers holds a class that was not annotated in it (`missing`).

    Values that also belong to a region that was annotated may stand there.
    """
    entries = dict(zip(labels.classes, labels.ids, strict=True))
    drawn = {value for name, ids in entries.items() if name not in missing for value in ids}
    for name in missing:
        if np.isin(array, sorted(set(entries[name]) - drawn)).any():
            problem = f"case {case} holds class '{name}', which by 'annotated' in dataset.json was not annotated in it"
            fix = f"add '{name}' to the classes annotated in case {case}, or mend the mask"
            raise UserError(problem, file=file, fix=fix)
