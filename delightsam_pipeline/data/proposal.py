"""A dataset.json for folders that have none: what the files say, written for the user to check."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.formats import ending_of, read_case
from delightsam_pipeline.data.labels import Code, Labels, code_text
from delightsam_pipeline.data.masks import look_at, seen_colours
from delightsam_pipeline.data.pairs import pair_folders
from delightsam_pipeline.data.parallel import each_case
from delightsam_pipeline.errors import UserError, all_problems
from delightsam_pipeline.files import write_json
from delightsam_pipeline.paths import home

_log = logging.getLogger(__name__)
_PAIRS = (("images", "labels"), ("images", "masks"), ("imagesTr", "labelsTr"))
_MOST_CODES = 64
_ONE_CLASS = Labels.parse({"background": 0, "foreground": 1}, Path("dataset.json"))


def pair_of_folders(folder: Path) -> tuple[Path, Path] | None:
    """The folders of images and of masks in a folder without dataset.json, None where there is no such pair."""
    # os.path answers False for what cannot be a path, where Path would raise
    if os.path.isfile(folder / "dataset.json"):
        return None
    pairs = [(folder / images, folder / labels) for images, labels in _PAIRS]
    return next((pair for pair in pairs if all(map(os.path.isdir, pair))), None)


def propose(folder: Path, modality: str | None = None) -> Path:
    """Write a dataset.json for the images and masks in a `pair_of_folders`, with their modality if it is given; returns
    the folder it was written to.

    That is the folder itself or, when nothing can be written there, one of the same name in $DLSAM_HOME/raw.
    Images and masks belong together by name (see `pairs`). Raises UserError for those that have no partner, and when
    the masks' values are too many to be classes.
    """
    images_folder, labels_folder = pair_of_folders(folder)
    images, labels, problems = pair_folders(images_folder, labels_folder)
    alone = sorted(images.keys() - labels.keys())
    missing = [UserError("has no mask", file=images[n][0], expected=f"{n} in {labels_folder}") for n in alone]
    problems = missing + problems
    if problems:
        raise all_problems(problems, str(folder))
    cases = [Case(name, files, labels[name], name) for name, files in sorted(images.items())]
    value = _entries(cases) | ({"modality": modality} if modality else {})
    try:
        file = folder / "dataset.json"
        write_json(file, value | {"dataset": _files(cases, folder)})
    except UserError:
        file = home() / "raw" / folder.resolve().name / "dataset.json"
        write_json(file, value | {"dataset": _files(cases, None)})
    also = "" if modality else " and add the modality"
    _log.info("%s: proposed from the files; check its names (labels: %s)%s", file, ", ".join(value["labels"]), also)
    return file.parent


def _files(cases: Sequence[Case], base: Path | None) -> dict[str, Any]:
    """The entry `dataset`: paths relative to `base`, absolute without."""

    def text(path: Path) -> str:
        return str(path.resolve()) if base is None else path.relative_to(base).as_posix()

    return {case.name: {"images": [text(p) for p in case.images], "label": text(case.label)} for case in cases}


def _entries(cases: Sequence[Case]) -> dict[str, Any]:
    endings = Counter(ending_of(case.images[0]) for case in cases)
    return {
        "channel_names": channel_names(len(read_case(cases[0].images).array), len(cases[0].images)),
        **label_entries(cases),
        "numTraining": len(cases),
        "file_ending": endings.most_common(1)[0][0],
    }


def channel_names(channels: int, files: int, single: str = "image") -> dict[str, str]:
    """The entry `channel_names` for cases of so many channels in so many files; `single` names an only channel."""
    colours = {3: ("R", "G", "B")} if files == 1 else {}
    names = ({1: (single,)} | colours).get(channels) or tuple(f"channel {i}" for i in range(channels))
    return {str(i): name for i, name in enumerate(names)}


def label_entries(cases: Sequence[Case]) -> dict[str, Any]:
    """The entries `labels` and, where files do not hold 0, 1, 2 ... themselves, `mask_values`."""
    looks = each_case(_codes, cases, "look at masks")
    codes = {code for found, _ in looks for code in found}
    folder, channels = cases[0].label.parent, max(map(len, codes))
    if min(map(len, codes)) < channels:  # colours, and palettes or greys beside them
        codes = set().union(*each_case(_colours, cases, "look at masks"))
    black = (0,) * channels
    if codes == {black}:
        raise UserError("the masks are empty", file=folder, found="nothing but 0")
    if all(one for _, one in looks) and (channels == 1 or len(codes) == 2):
        return {"labels": {"background": 0, "foreground": 1}}
    if black not in codes or len(codes) > _MOST_CODES:
        found = f"{len(codes)} values" + ("" if black in codes else " and no 0")
        fix = "write a dataset.json with labels and mask_values, or mend the masks"
        raise UserError("the masks' values are no classes that can be guessed", file=folder, found=found, fix=fix)
    values = sorted(codes, key=lambda code: (code != black, code))
    labels = {"background": 0} | {f"label_{code_text(code)}": i for i, code in enumerate(values) if i}
    if values == [(i,) for i in range(len(values))]:
        return {"labels": labels}
    return {"labels": labels, "mask_values": {code_text(code): i for i, code in enumerate(values)}}


def _codes(case: Case) -> tuple[set[Code], bool]:
    return look_at(case.label, _ONE_CLASS)


def _colours(case: Case) -> set[Code]:
    return seen_colours(case.label)


def entries_by_value(names: Mapping[str, str]) -> dict[str, Any]:
    """The same entries for classes that are known: from name to the number or colour (`#ff0000`) in mask files.

    Without `background`, that is 0 or black. Raises UserError for what dataset.json could not say.
    """
    colours = any(text.startswith("#") for text in names.values())
    values = {"background": "#000000" if colours else "0"} | dict(names)
    if len({text.lower() for text in values.values()}) < len(values):
        raise UserError("two classes have the same value", found=", ".join(f"{n}={v}" for n, v in values.items()))
    numbers = [int(text) if text.isdecimal() else -1 for text in values.values()]
    if values["background"] == "0" and sorted(numbers) == list(range(len(numbers))):
        return _checked({"labels": dict(zip(values, numbers, strict=True))})
    order = sorted(values, key=lambda name: (name != "background", name == "ignore"))
    labels = {name: i for i, name in enumerate(order)}
    return _checked({"labels": labels, "mask_values": {values[name].lower(): i for name, i in labels.items()}})


def _checked(entries: dict[str, Any]) -> dict[str, Any]:
    Labels.parse(entries["labels"], Path("dataset.json"), mask_values=entries.get("mask_values"))
    return entries
