"""A CSV of paths: one case a row."""

from __future__ import annotations

import csv
import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.formats import known_ending, stem_of
from delightsam_pipeline.data.sources.found import Found, case_name
from delightsam_pipeline.errors import UserError

_log = logging.getLogger(__name__)
_DELIMITERS = ",;\t"
_CHANNEL = re.compile(r"image_(\d+)")
_OTHERS = ("mask", "case", "group", "split", "modality")
_EXAMPLE = "image,mask (and, if you like, case,group,split,modality; image_0,image_1 ... for several channels)"


@dataclass(frozen=True)
class _Row:
    """One line: its place as `file:line`, the text in each column, and whether there are more fields than columns."""

    place: str
    cells: dict[str, str]
    surplus: bool


def from_table(file: Path) -> Found:
    """The cases in a CSV with the columns image (or image_0, image_1 ...) and mask, and perhaps others.

    Paths are relative to the file; a DICOM series is its folder. Fields are parted by comma, semicolon or tab.
    Without `split`, rows without a mask are for testing. The problems say the line.
    Raises UserError when the file cannot be read, or its columns are wrong.
    """
    columns, rows = _rows(file)
    images = _image_columns(columns, file)
    train, test, problems = [], [], []
    places: dict[str, str] = {}  # of each name, without regard to capital letters
    for row in rows:
        paths = {column: file.parent / row.cells[column] for column in (*images, "mask") if row.cells.get(column)}
        split = row.cells.get("split", "").lower() or ("train" if "mask" in paths else "test")
        wrong = _problems(row, paths, images, split)
        case = None if wrong else _case(row, paths, images)
        if case is not None and places.setdefault(case.name.casefold(), row.place) != row.place:
            fix = "give each row a name of its own in the column case"
            problem = f"its case would be called {case.name} as that of {places[case.name.casefold()]} is"
            wrong = [UserError(problem, file=row.place, fix=fix)]
        problems += wrong
        if not wrong:
            (test if split == "test" else train).append(case)
    modalities = sorted({row.cells["modality"] for row in rows if row.cells.get("modality")}, key=str.casefold)
    if len({name.casefold() for name in modalities}) > 1:
        found, fix = ", ".join(modalities), "write a CSV for each modality: a dataset has one"
        problems.append(UserError("names several modalities", file=file, found=found, fix=fix))
    entries = {"modality": modalities[0]} if modalities else {}
    return Found("a CSV of paths", str(file), tuple(train), tuple(test), entries, tuple(problems))


def _rows(file: Path) -> tuple[list[str], list[_Row]]:
    """The names of the columns, and the rows that are not empty."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            reader = csv.reader(stream, delimiter=max(_DELIMITERS, key=first.count), strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except FileNotFoundError:
        raise UserError("does not exist", file=file) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot be read as CSV ({error})", file=file, fix="save it as CSV in UTF-8") from None
    filled = [(number, cells) for number, cells in lines if any(cells)]
    if len(filled) < 2:
        raise UserError("has no rows", file=file, expected=_EXAMPLE)
    columns = [name.lower() for name in filled[0][1]]
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        raise UserError("has two columns of one name", file=file, found=", ".join(doubled))
    rows = [
        _Row(f"{file}:{number}", dict(zip(columns, cells, strict=False)), any(cells[len(columns) :]))
        for number, cells in filled[1:]
    ]
    return columns, rows


def _image_columns(columns: Sequence[str], file: Path) -> list[str]:
    """The columns of images, by channel."""
    numbers = sorted(int(match[1]) for match in map(_CHANNEL.fullmatch, columns) if match)
    images = [f"image_{number}" for number in numbers]
    if ("image" in columns) == bool(images) or numbers != list(range(len(numbers))):
        found = ", ".join(columns)
        raise UserError("has no column of images, or channels missing", file=file, expected=_EXAMPLE, found=found)
    known = [*(images or ["image"]), *_OTHERS]
    unknown = [name for name in columns if name not in known]
    for name in unknown:
        near = difflib.get_close_matches(name, [known for known in known if known not in columns], n=1)
        if near:
            raise UserError(f"has an unknown column '{name}'", file=file, fix=f"did you mean {near[0]}?")
    if unknown:
        _log.warning("%s: columns passed over: %s", file, ", ".join(unknown))
    return images or ["image"]


def _problems(row: _Row, paths: Mapping[str, Path], images: Sequence[str], split: str) -> list[UserError]:
    problems = [UserError(f"has no {column}", file=row.place) for column in images if column not in paths]
    for column, path in paths.items():
        if not path.exists():
            problems.append(UserError(f"its {column} does not exist", file=row.place, found=path))
        elif known_ending(path) is None:
            problems.append(UserError(f"its {column} is in no format that can be read", file=row.place, found=path))
    if split not in ("train", "test"):
        fix = "write train for cases to validate on too: folds are made of them"
        expected = "train or test"
        problems.append(UserError("has an unknown split", file=row.place, expected=expected, found=split, fix=fix))
    if split == "train" and "mask" not in paths:
        problems.append(UserError("has no mask", file=row.place, fix="give one, or write test in the column split"))
    if row.surplus:
        fix = "put paths that hold the delimiter in quotes"
        problems.append(UserError("has more fields than there are columns", file=row.place, fix=fix))
    return problems


def _case(row: _Row, paths: Mapping[str, Path], images: Sequence[str]) -> Case:
    name = case_name(row.cells.get("case") or stem_of(paths[images[0]]).removesuffix("_0000"))
    files = tuple(paths[column] for column in images)
    return Case(name, files, paths.get("mask"), row.cells.get("group") or name)
