"""Folders that a command makes: the option that names one, and what must not be there before."""

from __future__ import annotations

import argparse
import re
import shlex
from itertools import count
from pathlib import Path

from delightsam_pipeline.commands.common import folder
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.paths import dataset_folders, means, raw_roots

_DATASET_NAME = re.compile(r"Dataset([0-9]{3,})_(.+)")
_NEARLY = re.compile(r"(?:dataset|task)?[ _-]*([0-9]*)[ _-]*(.*)", re.IGNORECASE | re.DOTALL)


def add_output(parser: argparse.ArgumentParser, metavar: str) -> None:
    """The option -o, --output for a folder that is made."""
    text = "folder to write, new or empty"
    parser.add_argument("-o", "--output", type=folder, required=True, metavar=metavar, help=text)


def require_new(output: Path) -> None:
    """Raises UserError when there is anything but an empty folder."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError("exists and is not an empty folder", file=output, fix="choose another -o, or remove it")


def require_dataset_name(output: Path) -> None:
    """Raises UserError unless a raw dataset is to be called DatasetXXX_Name, with an id that no other one has.

    The others are those beside it; among the folders that ids are looked up in, those in all of them.
    """
    name, parent = output.resolve().name, output.resolve().parent
    roots = raw_roots()
    others = dataset_folders(roots if parent in [root.resolve() for root in roots] else [parent], "dataset.json")
    others = [other for other in others if other.name != name]
    match = _DATASET_NAME.fullmatch(name)
    if match is None:
        expected = "a name such as Dataset301_Lung: an id of three digits or more, and a name"
        fix = _advice(output, _right(name, others))
        raise UserError("is no name of a dataset", file=output, expected=expected, fix=fix)
    same = next((other for other in others if means(match[1], other.name)), None)
    if same is not None:
        fix = _advice(output, f"Dataset{_free(int(match[1]), others)}_{match[2]}")
        raise UserError(f"has an id that another dataset has, {same}", file=output, fix=fix)


def _advice(output: Path, name: str) -> str:
    return f"write -o {shlex.quote(str(output.parent / name))}"


def _right(name: str, others: list[Path]) -> str:
    """The name of a dataset that is near to a name which is none."""
    match = _NEARLY.fullmatch(name)
    return f"Dataset{_free(int(match[1] or 1), others)}_{match[2] or 'Name'}"


def _free(first: int, others: list[Path]) -> str:
    """The first id from a number on that no dataset has."""
    ids = (f"{number:03d}" for number in count(first))
    return next(number for number in ids if not any(means(number, other.name) for other in others))
