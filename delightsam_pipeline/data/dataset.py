"""A raw dataset: dataset.json, checked, and its training cases."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from delightsam_pipeline.data.annotations import Annotations
from delightsam_pipeline.data.cases import Case, group_cases, list_files, no_images, tell_passed_over
from delightsam_pipeline.data.formats import ENDINGS, ending_of, stem_of
from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.errors import UserError, all_problems, listed
from delightsam_pipeline.files import read_json

_log = logging.getLogger(__name__)
_CASE_NAME = re.compile(r"[^./\\\0][^/\\\0]*")  # files are named after cases
_REQUIRED = {
    "channel_names": '{"0": "CT"}',
    "labels": '{"background": 0, "tumour": 1}',
}


@dataclass(frozen=True)
class Definitions:
    """What a dataset's images and labels mean.

    channel_names : in channel order. file_ending : of the images, None for any format.
    groups : from case to patient or video; a case without an entry is its own. annotations : which classes were
    annotated in which case.
    """

    labels: Labels
    channel_names: tuple[str, ...]
    file_ending: str | None
    groups: dict[str, str]
    annotations: Annotations


@dataclass(frozen=True)
class Dataset:
    """A raw dataset in nnU-Net v2's format.

    name : the folder's name. channel_names : in channel order. file_ending : the images', in lower case.
    modality : as given in dataset.json, or None. cases : the training cases, sorted by name.
    fix_geometry : whether masks that lie on another grid than their image are resampled to it (see `fitting.fitted`).
    """

    folder: Path
    name: str
    labels: Labels
    channel_names: tuple[str, ...]
    file_ending: str
    modality: str | None
    cases: tuple[Case, ...]
    fix_geometry: bool = False


def load_dataset(folder: Path, fix_geometry: bool = False) -> Dataset:
    """Read dataset.json and find the training cases; no image is opened (see `checks.check_case`).

    Raises UserError that says everything found wrong: entries of dataset.json, or files missing and surplus.
    """
    folder = Path(folder)
    file = folder / "dataset.json"
    value, known = _read(file)
    channel_names, ending = known.channel_names, known.file_ending
    if "dataset" in value:
        cases = _listed_cases(value["dataset"], folder, len(channel_names), file)
    else:
        cases = _found_cases(folder, len(channel_names), ending)
    if not cases:
        raise UserError("has no training cases", file=folder)
    if value.get("numTraining", len(cases)) != len(cases):
        _log.warning("%s: numTraining is %s but there are %d training cases", file, value["numTraining"], len(cases))
    _tell_unused(value, file)
    cases = _annotated(_grouped(cases, known.groups, file), known.annotations, folder)
    ending = ending or ending_of(cases[0].images[0])
    name = folder.resolve().name
    return Dataset(folder, name, known.labels, channel_names, ending, value.get("modality"), cases, fix_geometry)


def load_definitions(file: Path) -> Definitions:
    """What a dataset.json declares; no other file is looked at. Raises UserError that says what is wrong with it."""
    return _read(file)[1]


def _read(file: Path) -> tuple[dict[str, Any], Definitions]:
    value = read_json(file)
    if not isinstance(value, dict):
        raise UserError("is not a JSON object", file=file, expected='{"channel_names": ..., "labels": ...}')
    value = _with_channel_names(value, file)
    _check_entries(value, file)
    channel_names = _channel_names(value["channel_names"], file)
    labels = Labels.parse(value["labels"], file, value.get("regions_class_order"), value.get("mask_values"))
    ending, groups = _file_ending(value.get("file_ending"), file), _groups(value.get("group", {}), file)
    annotations = Annotations.parse(value.get("annotated", {}), labels.classes, file)
    return value, Definitions(labels, channel_names, ending, groups, annotations)


def _with_channel_names(value: dict[str, Any], file: Path) -> dict[str, Any]:
    """The entries with `channel_names` where it has its older name, `modality`, which nnU-Net v2 takes too."""
    names, labels = value.get("modality"), value.get("labels")
    if not isinstance(names, dict):
        return value
    if not isinstance(labels, dict) or "background" not in labels:
        fix = "rename 'modality' to 'channel_names', and turn 'labels' into name: number"
        raise UserError("is in the format of nnU-Net v1", file=file, fix=fix)
    if value.get("channel_names", names) != names:
        fix = "take out 'modality', which is an older name of 'channel_names'"
        raise UserError("'modality' and 'channel_names' differ", file=file, fix=fix)
    return {key: entry for key, entry in value.items() if key != "modality"} | {"channel_names": names}


def _tell_unused(value: dict[str, Any], file: Path) -> None:
    """Say of an entry that nnU-Net obeys that it has no effect here."""
    if "overwrite_image_reader_writer" in value:
        _log.info("%s: overwrite_image_reader_writer is not used, files are read by what they are", file)


def _check_entries(value: dict[str, Any], file: Path) -> None:
    missing = [f'"{key}": {example}' for key, example in _REQUIRED.items() if key not in value]
    if missing:
        raise UserError("lacks entries", file=file, fix=f"add {', '.join(missing)}")
    modality = value.get("modality")
    if not (modality is None or (isinstance(modality, str) and modality.strip())):
        raise UserError("'modality' is not a name", file=file, found=json.dumps(modality))


def _channel_names(value: Any, file: Path) -> tuple[str, ...]:
    expected = 'a map from number to name such as {"0": "T1", "1": "T2"}'
    if not isinstance(value, dict) or not value:
        raise UserError("'channel_names' is not a map", file=file, expected=expected, found=json.dumps(value))
    if all(type(v) is int or (isinstance(v, str) and v.isdecimal()) for v in value.values()):
        corrected = {str(number): name for name, number in value.items() if not name.isdecimal()}
        if len(corrected) == len(value):
            fix = f'write "channel_names": {json.dumps(corrected, ensure_ascii=False)}'
            raise UserError("'channel_names' is the wrong way round", file=file, fix=fix)
    names = [value.get(str(i)) for i in range(len(value))]
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise UserError("'channel_names' is wrong", file=file, expected=expected, found=json.dumps(value))
    return tuple(names)


def _file_ending(value: Any, file: Path) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or value.lower() not in ENDINGS:
        expected = " ".join(ENDINGS)
        raise UserError("'file_ending' is unknown", file=file, expected=expected, found=json.dumps(value))
    return value.lower()


def _found_cases(folder: Path, channels: int, ending: str | None) -> tuple[Case, ...]:
    """The cases in imagesTr and labelsTr; a label map may have another format than its image."""
    for part in ("imagesTr", "labelsTr"):
        if not (folder / part).is_dir():
            raise UserError(f"has no folder {part}", file=folder)
    files = list_files(folder / "imagesTr", ending)
    if not files:
        raise no_images(folder / "imagesTr", ending)
    tell_passed_over(folder / "imagesTr", files)
    images, problems = group_cases(files, channels)
    labels, doubled = files_by_case(folder / "labelsTr")
    problems += doubled
    for name in sorted(images.keys() - labels.keys()):
        expected = folder / "labelsTr" / (name + (ending or ".png, or another format"))
        problems.append(UserError("has no label map", file=images[name][0], expected=expected))
    for name in sorted(labels.keys() - images.keys()):
        expected = folder / "imagesTr" / f"{name}_0000{ending or ''}"
        problems.append(UserError("has no image", file=labels[name], expected=expected))
    if problems:
        raise all_problems(problems, str(folder))
    return tuple(Case(name, paths, labels[name], name) for name, paths in images.items())


def files_by_case(folder: Path, name_of: Callable[[Path], str] = stem_of) -> tuple[dict[str, Path], list[UserError]]:
    """Case name -> its only file, of any format, sorted; and cases that have two.

    Raises UserError when the folder is not there.
    """
    if not folder.is_dir():
        raise UserError("is not a folder" if folder.exists() else "does not exist", file=folder)
    files: dict[str, Path] = {}
    problems = []
    for file in list_files(folder):
        name = name_of(file)
        if name in files:
            problem = f"case {name} has two files"
            problems.append(UserError(problem, file=file, found=files[name], fix="remove one of them"))
        files[name] = file
    return files, problems


def _listed_cases(value: Any, folder: Path, channels: int, file: Path) -> tuple[Case, ...]:
    """The cases of the entry `dataset`: explicit files, relative to the folder or with environment variables."""
    example = '{"CASE": {"images": ["a.nii.gz"], "label": "b.nii.gz"}}'
    if not isinstance(value, dict):
        raise UserError("'dataset' is not a map", file=file, expected=example, found=json.dumps(value)[:80])
    cases, problems = [], []
    for name, entry in sorted(value.items()):
        if not _CASE_NAME.fullmatch(name):
            problem = f"case '{name}' of 'dataset' has a name that no file can have"
            problems.append(UserError(problem, file=file, expected="no dot at its beginning, and no / or \\"))
            continue
        images = entry.get("images") if isinstance(entry, dict) else None
        label = entry.get("label") if isinstance(entry, dict) else None
        if not isinstance(images, list) or not all(isinstance(p, str) for p in [*images, label]):
            problems.append(UserError(f"case '{name}' of 'dataset' is wrong", file=file, expected=example))
            continue
        if len(images) not in (1, channels):
            expected = f"1 or {channels}" if channels > 1 else "1"
            problem = f"case '{name}' of 'dataset' has the wrong number of images"
            problems.append(UserError(problem, file=file, expected=expected, found=len(images)))
        paths = [folder / os.path.expandvars(p) for p in [*images, label]]
        problems += [_missing(p, name) for p in paths if not p.exists()]
        cases.append(Case(name, tuple(paths[:-1]), paths[-1], name))
    if problems:
        raise all_problems(problems, str(file))
    return tuple(cases)


def _missing(path: Path, case: str) -> UserError:
    fix = "set the environment variable in its path" if "$" in str(path) else None
    return UserError(f"does not exist, but dataset.json lists it for case '{case}'", file=path, fix=fix)


def _groups(value: Any, file: Path) -> dict[str, str]:
    """The entry `group`, checked."""
    if not isinstance(value, dict) or not all(isinstance(group, str) for group in value.values()):
        found = json.dumps(value)[:80]
        raise UserError("'group' is not a map", file=file, expected='{"CASE": "patient"}', found=found)
    return value


def _grouped(cases: tuple[Case, ...], groups: dict[str, str], file: Path) -> tuple[Case, ...]:
    """The cases with their groups; a case without one stays its own group."""
    unknown = sorted(groups.keys() - {case.name for case in cases})
    if unknown:
        raise UserError("'group' has cases that are not in the dataset", file=file, found=listed(unknown, 10))
    return tuple(replace(case, group=groups.get(case.name, case.name)) for case in cases)


def _annotated(cases: tuple[Case, ...], annotations: Annotations, folder: Path) -> tuple[Case, ...]:
    """The cases with the classes that were not annotated in them; the entry may name test cases too."""
    tests = files_by_case(folder / "labelsTs")[0] if (folder / "labelsTs").is_dir() else ()
    annotations.require_sense([case.name for case in cases], tests)
    return tuple(replace(case, not_annotated=annotations.missing(case.name)) for case in cases)
