"""Which cases train and which validate: nnU-Net's five folds, by group where cases belong together."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from delightsam_pipeline.errors import UserError, all_problems, listed
from delightsam_pipeline.files import read_json

_log = logging.getLogger(__name__)
Split = dict[str, list[str]]
_FOLDS = 5
_SEED = 12345
_SHOWN = 10


def make_splits(names: Sequence[str], groups: Mapping[str, str]) -> list[Split]:
    """Folds [{"train": names, "val": names}], names sorted; a group is never cut through.

    names : all cases. groups : case -> group; a case without an entry is its own group.
    Five folds over the sorted groups, shuffled as nnU-Net does; with fewer than five groups, leave one out.
    Raises UserError when there is only one group.
    """
    names = sorted(set(names))
    group_of = {name: groups.get(name, name) for name in names}
    if len(set(group_of.values())) == len(names):
        group_of = {name: name for name in names}
    units = sorted(set(group_of.values()))
    if len(units) < 2:
        what = "all cases belong to one group" if len(names) > 1 else "there is only one case"
        raise UserError(f"{what}, so none is left to validate on", fix="add cases, or train with fold all")
    splits = []
    for chosen in _validation_units(len(units)):
        held_out = {units[i] for i in chosen}
        train = [name for name in names if group_of[name] not in held_out]
        splits.append({"train": train, "val": [name for name in names if group_of[name] in held_out]})
    return splits


def _validation_units(count: int) -> list[np.ndarray]:
    """The units each fold validates on: scikit-learn's KFold(5, shuffle=True, random_state=12345), or one each."""
    order = np.arange(count)
    if count < _FOLDS:
        return np.split(order, count)
    np.random.RandomState(_SEED).shuffle(order)
    return np.array_split(order, _FOLDS)


def load_splits(path: Path, names: Sequence[str]) -> list[Split]:
    """A splits_final.json, checked against the dataset's case names.

    Cases may be in no fold at all, as nnU-Net has it; there is a warning.
    Raises UserError for a wrong form, unknown names, names in both parts, and empty parts.
    """
    value = read_json(path)
    if not isinstance(value, list) or not value or not all(_is_split(split) for split in value):
        raise UserError("is not a list of splits", file=path, expected='[{"train": [names], "val": [names]}, ...]')
    known, used, problems = set(names), set(), []
    for fold, split in enumerate(value):
        train, val = set(split["train"]), set(split["val"])
        used |= train | val
        if not train or not val:
            problems.append(UserError(f"fold {fold} has no cases to train or to validate on", file=path))
        if train & val:
            found = listed(sorted(train & val), _SHOWN)
            problems.append(UserError(f"fold {fold} trains and validates on the same cases", file=path, found=found))
        if (train | val) - known:
            found = listed(sorted((train | val) - known), _SHOWN)
            problems.append(UserError(f"fold {fold} has cases that are not in the dataset", file=path, found=found))
    if problems:
        raise all_problems(problems, str(path))
    if known - used:
        message = "%s: %d cases are in no fold, so that only fold all trains on them: %s"
        _log.warning(message, path, len(known - used), listed(sorted(known - used), _SHOWN))
    return [{"train": sorted(set(s["train"])), "val": sorted(set(s["val"]))} for s in value]


def _is_split(value: Any) -> bool:
    if not isinstance(value, dict) or not {"train", "val"} <= value.keys():
        return False
    parts = (value["train"], value["val"])
    return all(isinstance(part, list) and all(isinstance(n, str) for n in part) for part in parts)


def fold_cases(splits: Sequence[Split], fold: str, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """(train, val) of a fold "0", "1", ...; "all" trains and validates on every case.

    Raises UserError when there is no such fold.
    """
    if fold == "all":
        return sorted(names), sorted(names)
    if fold not in map(str, range(len(splits))):
        numbers = f"0 to {len(splits) - 1}" if len(splits) > 1 else "0"
        raise UserError("no such fold", expected=f"{numbers}, or all", found=fold)
    split = splits[int(fold)]
    return list(split["train"]), list(split["val"])
