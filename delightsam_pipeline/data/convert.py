"""A recognised source as a raw dataset in nnU-Net v2's format: its dataset.json, and its files, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.copies import DECODE, Step, perform, steps_of
from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.data.formats import known_ending, read_case
from delightsam_pipeline.data.parallel import try_each_case
from delightsam_pipeline.data.proposal import channel_names, entries_by_value, label_entries
from delightsam_pipeline.data.sources.found import Found, same_names
from delightsam_pipeline.errors import UserError, all_problems
from delightsam_pipeline.files import disk_errors, make_folder, write_json

_UNFINISHED = ".converting-"  # how the folder of a conversion that is going on begins
_ABANDONED_S = 3600.0  # without a change in such a folder


@dataclass(frozen=True)
class Conversion:
    """What is to be written.

    steps : case name -> its files. entries : of dataset.json.
    """

    found: Found
    steps: dict[str, list[Step]]
    entries: dict[str, Any]

    @property
    def decoded(self) -> int:
        """How many files are made anew out of DICOM."""
        return sum(step.how == DECODE for steps in self.steps.values() for step in steps)


def plan_conversion(
    found: Found,
    modality: str | None = None,
    names_of_channels: Sequence[str] | None = None,
    labels: Mapping[str, str | None] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Conversion:
    """Everything that a conversion will do; nothing is written.

    modality, names_of_channels : before what the source says. labels : names of classes in the order of the masks'
    values, or each with its value (a number or a colour `#ff0000`). tags : what modality DICOM's Modality means.
    Raises UserError with all problems of the source, and when it has no masks, or its masks no classes that can be
    guessed.
    """
    steps, problems = {}, [*found.problems, *same_names([*found.train, *found.test])]
    for case, part in (*((case, "Tr") for case in found.train), *((case, "Ts") for case in found.test)):
        try:
            steps[case.name] = steps_of(case, part)
        except UserError as error:
            problems.append(error)
    if len({len(case.images) for case in (*found.train, *found.test)}) > 1:
        fix = "give every case one file for each channel, or one for all"
        problems.append(UserError("its cases have different numbers of image files", file=found.place, fix=fix))
    if problems:
        raise all_problems(problems, found.place)
    if not found.train:
        raise UserError("no image has a mask to train on", file=found.place, found=f"{len(found.test)} images")
    first = read_case(found.train[0].images)
    modality = modality or found.entries.get("modality") or (tags or {}).get(first.modality)
    endings = {ending for ending in map(known_ending, _images(steps)) if ending}
    groups = {case.name: case.group for case in found.train}
    entries = {
        "channel_names": _channels(found, len(first.array), modality, names_of_channels),
        **_labels(found, labels or {}),
        "numTraining": len(found.train),
        **({"file_ending": endings.pop()} if len(endings) == 1 else {}),
        **({"modality": modality} if modality else {}),
        **({} if groups == {name: name for name in groups} else {"group": groups}),
    }
    return Conversion(found, steps, entries)


def _images(steps: Mapping[str, Sequence[Step]]) -> list[Path]:
    """The files to be made in imagesTr and imagesTs."""
    return [Path(step.target) for several in steps.values() for step in several if step.target.startswith("images")]


def _channels(found: Found, count: int, modality: str | None, names: Sequence[str] | None) -> dict[str, str]:
    """The entry `channel_names`; `count` is how many channels the first case has."""
    files = found.train[0].images
    if len(files) not in (1, count):
        fix = "give one file for each channel, or one for all"
        raise UserError(
            "has several channels in some of its files", file=files[0], expected=len(files), found=count, fix=fix
        )
    read = channel_names(count, len(files), modality or "image")
    given = {str(i): name for i, name in enumerate(names)} if names else found.entries.get("channel_names", read)
    if len(given) != count:
        expected = f"{len(given)} ({', '.join(given.values())})"
        problem = "the number of channels is not that of their names"
        fix = "name every channel with --channel-names"
        raise UserError(problem, file=files[0], expected=expected, found=count, fix=fix)
    return given


def _labels(found: Found, wanted: Mapping[str, str | None]) -> dict[str, Any]:
    """The entries `labels` and `mask_values`: as wanted, as the source says, or as its masks hold them."""
    valued = {name: value for name, value in wanted.items() if value is not None}
    if valued and len(valued) < len(wanted):
        fix = "write NAME=VALUE for all of them, or for none"
        raise UserError("only some labels have a value", found=" ".join(wanted), fix=fix)
    if valued:
        return entries_by_value(valued)
    entries = {key: found.entries[key] for key in ("labels", "mask_values") if key in found.entries}
    entries = entries or label_entries(found.train)
    old = _by_value(entries)
    new = [name for name in wanted if name != "background"]
    if not new:
        return entries
    if len(new) != len(old):
        expected = f"{len(old)} names ({', '.join(old)})"
        fix = "name every class, in this order, or write NAME=VALUE"
        raise UserError(
            "the masks have another number of classes than names are given", expected=expected, found=len(new), fix=fix
        )
    renamed = dict(zip(old, new, strict=True))
    return entries | {"labels": {renamed.get(name, name): value for name, value in entries["labels"].items()}}


def _by_value(entries: Mapping[str, Any]) -> list[str]:
    """The classes but background, in the order of their numbers or colours in the masks."""
    codes = {value: code for code, value in entries.get("mask_values", {}).items()}
    texts = {name: codes.get(value, str(value)) for name, value in entries["labels"].items() if name != "background"}
    return sorted(texts, key=lambda name: int(texts[name].removeprefix("#"), 16 if texts[name][0] == "#" else 10))


def convert(conversion: Conversion, output: Path, link: str | None = None) -> int:
    """Write the dataset to `output`, which is new or empty; nothing is left there when that fails.

    link : "hard" or "symbolic" links instead of copies. Returns how many files were copied though links were wanted.
    Raises UserError with everything that could not be read or written.
    """
    output = output.resolve()
    make_folder(output.parent)
    _remove_leftovers(output.parent)
    with disk_errors(output):
        temporary = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=output.parent))
    try:
        folder = temporary / output.name
        for steps in conversion.steps.values():
            for step in steps:
                make_folder((folder / step.target).parent)
        parts = (("Tr", conversion.found.train), ("Ts", conversion.found.test))
        work = partial(_make, steps=conversion.steps, folder=folder, link=link)
        outcomes = [outcome for part, cases in parts for outcome in try_each_case(work, cases, f"images{part}")]
        problems = [outcome for outcome in outcomes if isinstance(outcome, UserError)]
        if problems:
            raise all_problems(problems, conversion.found.place)
        write_json(folder / "dataset.json", conversion.entries)
        load_dataset(folder)
        with disk_errors(output):
            if output.is_dir():
                output.rmdir()
            os.replace(folder, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sum(outcomes)


def _remove_leftovers(folder: Path) -> None:
    """Delete the copies that killed runs left in a folder, when nothing in them has changed for an hour."""
    for left in folder.glob(f"{_UNFINISHED}*"):
        with suppress(OSError):  # another run has just ended
            latest = max(path.lstat().st_mtime for path in (left, *left.rglob("*")))
            if time.time() - latest > _ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)


def _make(case: Case, steps: Mapping[str, Sequence[Step]], folder: Path, link: str | None) -> int:
    """The files of one case; how many were copied though links were wanted."""
    return sum(not perform(step, folder, link) for step in steps[case.name])
