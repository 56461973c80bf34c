"""A dataset.json for folders that have none: what the files say, written for the user to check."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from delightsam_pipeline.data.cases import Case, no_images
from delightsam_pipeline.data.dataset import files_by_case
from delightsam_pipeline.data.formats import ending_of, read_case, stem_of
from delightsam_pipeline.data.labels import Labels, code_text
from delightsam_pipeline.data.masks import look_at, seen_colours
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


def propose(folder: Path) -> Path:
    """Write a dataset.json for the images and masks in a `pair_of_folders`; returns the folder it was written to.

    That is the folder itself or, when nothing can be written there, one of the same name in $DLSAM_HOME/raw.
    Images and masks belong together by the same stem. Raises UserError for those that have no partner, and when the
    masks' values are too many to be classes.
    """
    images_folder, labels_folder = pair_of_folders(folder)
    labels, doubled = files_by_case(labels_folder)
    images, problems = _images(images_folder, labels)
    problems += doubled
    for name in sorted(images.keys() - labels.keys()):
        problems.append(UserError("has no mask", file=images[name], expected=f"{name} in {labels_folder}"))
    for name in sorted(labels.keys() - images.keys()):
        problems.append(UserError("has no image", file=labels[name], expected=f"{name} in {images_folder}"))
    if problems:
        raise all_problems(problems, str(folder))
    cases = [Case(name, (file,), labels[name], name) for name, file in sorted(images.items())]
    value = _entries(cases)
    try:
        file = folder / "dataset.json"
        write_json(file, value | {"dataset": _files(cases, folder)})
    except UserError:
        file = home() / "raw" / folder.resolve().name / "dataset.json"
        write_json(file, value | {"dataset": _files(cases, None)})
    shown = ", ".join(value["labels"])
    _log.info("%s: proposed from the files; check its names (labels: %s) and add the modality", file, shown)
    return file.parent


def _images(folder: Path, labels: Collection[str]) -> tuple[dict[str, Path], list[UserError]]:
    """Case name -> image, and what is wrong; cases are called as their masks are, so that img_0001 may be a name."""
    images, problems = files_by_case(folder)
    cut, doubled = files_by_case(folder, lambda file: stem_of(file).removesuffix("_0000"))
    if not images:
        raise no_images(folder, None)
    if sum(name in labels for name in cut) > sum(name in labels for name in images):
        return cut, doubled
    return images, problems


def _files(cases: Sequence[Case], base: Path | None) -> dict[str, Any]:
    """The entry `dataset`: paths relative to `base`, absolute without."""

    def text(path: Path) -> str:
        return str(path.resolve()) if base is None else path.relative_to(base).as_posix()

    return {case.name: {"images": [text(p) for p in case.images], "label": text(case.label)} for case in cases}


def _entries(cases: Sequence[Case]) -> dict[str, Any]:
    channels = len(read_case(cases[0].images).array)
    names = {1: ("image",), 3: ("R", "G", "B")}.get(channels) or tuple(f"channel {i}" for i in range(channels))
    endings = Counter(ending_of(case.images[0]) for case in cases)
    return {
        "channel_names": {str(i): name for i, name in enumerate(names)},
        **_label_entries(cases),
        "numTraining": len(cases),
        "file_ending": endings.most_common(1)[0][0],
    }


def _label_entries(cases: Sequence[Case]) -> dict[str, Any]:
    """The entries `labels` and, where files do not hold 0, 1, 2 ... themselves, `mask_values`."""
    looks = each_case(lambda case: look_at(case.label, _ONE_CLASS), cases, "look at masks")
    codes = {code for found, _ in looks for code in found}
    folder, channels = cases[0].label.parent, max(map(len, codes))
    if min(map(len, codes)) < channels:  # colours, and palettes or greys beside them
        codes = set().union(*each_case(lambda case: seen_colours(case.label), cases, "look at masks"))
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
