"""A folder whose dataset.json lists its training cases: the Medical Decathlon's layout, and nnU-Net v1's."""

from __future__ import annotations

import json
import os
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.formats import ENDINGS, known_ending, stem_of
from delightsam_pipeline.data.proposal import entries_by_value
from delightsam_pipeline.data.sources.found import Found, case_name
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import read_json

_EXAMPLE = '{"image": "./imagesTr/case.nii.gz", "label": "./labelsTr/case.nii.gz"}'


def lists_cases(folder: Path) -> bool:
    """Whether a folder has a dataset.json with the list `training`. Raises UserError when that is no JSON."""
    if not os.path.isfile(folder / "dataset.json"):
        return False
    value = read_json(folder / "dataset.json")
    return isinstance(value, dict) and isinstance(value.get("training"), list)


def from_list(folder: Path) -> Found:
    """The cases that `training` and `test` list, and what `modality` and `labels` say.

    Listed images that are not there, but with channel numbers are, make it nnU-Net v1's layout.
    Raises UserError when an entry of dataset.json is not what it should be.
    """
    file = folder / "dataset.json"
    value = read_json(file)
    entries = _channel_names(value.get("modality"), file) | _labels(value.get("labels"), file)
    listed = [(entry, True) for entry in value["training"]]
    listed += [(entry, False) for entry in _test_entries(value.get("test", []), file)]
    train, test, problems, numbered = [], [], [], False
    for entry, for_training in listed:
        if not _is_entry(entry, for_training):
            found = json.dumps(entry)[:80]
            problems.append(UserError("lists a wrong entry", file=file, expected=_EXAMPLE, found=found))
            continue
        case = _case(entry, folder)
        problems += _problems(case, file)
        numbered |= case.images[0].name not in (Path(text).name for text in _images(entry))
        (train if for_training else test).append(case)
    layout = "an nnU-Net v1 dataset" if numbered else "the Medical Decathlon's layout"
    return Found(layout, str(folder), tuple(train), tuple(test), entries, tuple(problems))


def _test_entries(value: Any, file: Path) -> list[Any]:
    if not isinstance(value, list):
        raise UserError("'test' is not a list", file=file, found=json.dumps(value)[:80])
    return [entry if isinstance(entry, dict) else {"image": entry} for entry in value]


def _channel_names(value: Any, file: Path) -> dict[str, Any]:
    """The entry channel_names that `modality` means; nothing where there is none."""
    if value is None:
        return {}
    names = [value.get(str(i)) for i in range(len(value))] if isinstance(value, dict) else [value]
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        expected = 'a map from number to name such as {"0": "T1", "1": "T2"}'
        raise UserError("'modality' is wrong", file=file, expected=expected, found=json.dumps(value))
    return {"channel_names": {str(i): name for i, name in enumerate(names)}}


def _labels(value: Any, file: Path) -> dict[str, Any]:
    """The entries that `labels` means, whichever way round it is; nothing where there is none."""
    if value is None:
        return {}
    expected = 'a map from number to name such as {"0": "background", "1": "tumour"}'
    if not isinstance(value, dict) or not value:
        raise UserError("'labels' is wrong", file=file, expected=expected, found=json.dumps(value))
    numbers_first = all(key.isdecimal() for key in value)
    pairs = [(b, a) if numbers_first else (a, b) for a, b in value.items()]
    if not all(isinstance(name, str) and str(number).isdecimal() for name, number in pairs):
        raise UserError("'labels' is wrong", file=file, expected=expected, found=json.dumps(value))
    named = {name: str(number) for name, number in pairs if int(number)}
    if len(named) < sum(bool(int(number)) for _, number in pairs):
        raise UserError("'labels' has two classes of one name", file=file, found=json.dumps(value))
    return entries_by_value(named)


def _is_entry(entry: Any, for_training: bool) -> bool:
    if not isinstance(entry, dict):
        return False
    images, label = _images(entry), entry.get("label")
    return bool(images) and all(isinstance(t, str) for t in ([*images, label] if for_training else images))


def _images(entry: dict[str, Any]) -> list[Any]:
    """One path, or one for each channel."""
    value = entry.get("image")
    return value if isinstance(value, list) else [value]


def _case(entry: dict[str, Any], folder: Path) -> Case:
    files = tuple(folder / text for text in _images(entry))
    stem = stem_of(files[0]) if known_ending(files[0]) else files[0].name
    name = case_name(stem.removesuffix("_0000") if len(files) > 1 else stem)
    label = folder / entry["label"] if isinstance(entry.get("label"), str) else None
    if len(files) == 1 and not files[0].exists():
        rest = files[0].name[len(stem) :]
        channels = (files[0].with_name(f"{stem}_{i:04d}{rest}") for i in count())
        files = tuple(takewhile(Path.exists, channels)) or files
    return Case(name, files, label, name)


def _problems(case: Case, file: Path) -> list[UserError]:
    problems = []
    for path in (*case.images, *([case.label] if case.label else [])):
        if not path.exists():
            problems.append(UserError(f"does not exist, but {file} lists it", file=path))
        elif known_ending(path) is None:
            problems.append(UserError("is in no format that can be read", file=path, expected=" ".join(ENDINGS)))
    return problems
