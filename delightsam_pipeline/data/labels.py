"""What the numbers in a label map mean: classes, regions made of several numbers, and the ignore label."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from delightsam_pipeline.errors import UserError

Entries = dict[str, tuple[int, ...]]
Code = tuple[int, ...]  # a number (n,) or a colour (r, g, b) that stands for a label value in mask files
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def storage_type(highest: int) -> type[np.integer]:
    """The type a label map with values from 0 to `highest` is stored in: uint8, else uint16, int32 or int64."""
    limits = ((255, np.uint8), (65535, np.uint16), (2**31 - 1, np.int32))
    return next((kind for limit, kind in limits if highest <= limit), np.int64)


@dataclass(frozen=True)
class Labels:
    """The targets of a dataset, in the order of the network's outputs; background and ignore are no targets.

    classes : name of each target.
    ids : the label values that make up each target (one without regions).
    class_values : the value written to the output for each target; later targets paint over earlier ones.
    declared : every value a label map may hold, background and ignore included.
    ignore : the value of voxels left out of training and metrics.
    codes : (number or colour in mask files, label value) of the dataset's own, None where files hold label values.
    """

    classes: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    class_values: tuple[int, ...]
    declared: frozenset[int]
    ignore: int | None = None
    codes: tuple[tuple[Code, int], ...] | None = None

    @property
    def has_regions(self) -> bool:
        """Whether targets may overlap, each being a union of label values."""
        return any(len(values) > 1 for values in self.ids)

    @staticmethod
    def parse(value: Any, file: Path, regions_class_order: Any = None, mask_values: Any = None) -> Labels:
        """The entries `labels`, `regions_class_order` and `mask_values` of dataset.json.

        Raises UserError that names `file` and what is wrong with the entry.
        """
        entries = _entries(value, file)
        ignore = entries.pop("ignore", None)
        background = entries.pop("background", None)
        _check_background(background, entries, file)
        _check_ignore(ignore, entries, file)
        _check_values(entries, ignore, file)
        declared = frozenset({0, *(ignore or ()), *(v for values in entries.values() for v in values)})
        if not any(len(values) > 1 for values in entries.values()):
            entries = dict(sorted(entries.items(), key=lambda item: item[1]))
            painted = tuple(values[0] for values in entries.values())
        else:
            painted = _class_order(regions_class_order, entries, declared - {0, *(ignore or ())}, file)
        codes = None if mask_values is None else _codes(mask_values, declared, file)
        return Labels(tuple(entries), tuple(entries.values()), painted, declared, ignore[0] if ignore else None, codes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, undone by `from_dict`, but for the codes, which only the dataset's own files are read by."""
        return {
            "classes": list(self.classes),
            "ids": [list(values) for values in self.ids],
            "class_values": list(self.class_values),
            "declared": sorted(self.declared),
            "ignore": self.ignore,
        }

    @staticmethod
    def from_dict(value: dict[str, Any]) -> Labels:
        """The labels that `to_dict` described."""
        return Labels(
            tuple(value["classes"]),
            tuple(tuple(values) for values in value["ids"]),
            tuple(value["class_values"]),
            frozenset(value["declared"]),
            value["ignore"],
        )


def code_text(code: Code) -> str:
    """A number (n,) or a colour (r, g, b) as dataset.json writes it: 128 or #ff0000."""
    return str(code[0]) if len(code) == 1 else "#" + bytes(code).hex()


def _codes(value: Any, declared: frozenset[int], file: Path) -> tuple[tuple[Code, int], ...]:
    example = 'a map from number or colour to label value such as {"0": 0, "128": 1} or {"#000000": 0, "#ff0000": 1}'
    if not isinstance(value, dict) or not value:
        raise UserError("'mask_values' is not a map", file=file, expected=example, found=json.dumps(value))
    codes: dict[Code, int] = {}
    for key, number in value.items():
        if not ((key.isascii() and key.isdecimal()) or _COLOUR.fullmatch(key)):
            raise UserError("'mask_values' has a wrong key", file=file, expected=example, found=json.dumps(key))
        if type(number) is not int or number not in declared:
            expected = f"one of {' '.join(map(str, sorted(declared)))}"
            raise UserError(f"'mask_values' maps {key} wrongly", file=file, expected=expected, found=json.dumps(number))
        codes[tuple(bytes.fromhex(key[1:])) if key[0] == "#" else (int(key),)] = number
    if len(codes) < len(value):
        raise UserError("'mask_values' names a number or colour twice", file=file, found=", ".join(value))
    if len({len(code) for code in codes}) > 1:
        raise UserError(
            "'mask_values' mixes numbers and colours", file=file, fix="write #000000 for a black background"
        )
    return tuple(sorted(codes.items()))


def _entries(value: Any, file: Path) -> Entries:
    """Name -> sorted label values, after a check of every type."""
    example = 'a map from name to number such as {"background": 0, "tumour": 1}'
    if not isinstance(value, dict) or not value:
        raise UserError("'labels' is not a map", file=file, expected=example, found=json.dumps(value))
    if all(key.isdigit() and isinstance(name, str) and not name.isdigit() for key, name in value.items()):
        corrected = json.dumps({name: int(key) for key, name in value.items()}, ensure_ascii=False)
        raise UserError("'labels' is the wrong way round", file=file, fix=f'write "labels": {corrected}')
    entries: Entries = {}
    for name, number in value.items():
        numbers = [_whole(n) for n in (number if isinstance(number, list) and number else [number])]
        if None in numbers:
            expected = "a whole number, or a list of them for a region"
            raise UserError(f"label '{name}' is not a number", file=file, expected=expected, found=json.dumps(number))
        if len(set(numbers)) != len(numbers):
            raise UserError(f"label '{name}' names a value twice", file=file, found=numbers)
        entries[name] = tuple(sorted(numbers))
    return entries


def _whole(value: Any) -> int | None:
    """The whole number that an entry stands for, 1.0 and "1" too, as nnU-Net reads them; None for all else."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _check_background(background: tuple[int, ...] | None, entries: Entries, file: Path) -> None:
    if background is None:
        fix = 'add "background": 0'
        zero = [name for name, values in entries.items() if values == (0,)]
        raise UserError("'labels' has no 'background'", file=file, fix=f"rename '{zero[0]}'" if zero else fix)
    if background != (0,):
        raise UserError("'background' must be 0", file=file, found=list(background), fix="number the labels from 0")
    if not entries:
        raise UserError("'labels' has nothing but background", file=file, fix="add the classes to segment")


def _check_ignore(ignore: tuple[int, ...] | None, entries: Entries, file: Path) -> None:
    if ignore is None:
        return
    highest = max(v for values in entries.values() for v in values)
    if len(ignore) != 1 or ignore[0] <= highest:
        expected = f"one number above {highest}"
        raise UserError("'ignore' must be the highest label", file=file, expected=expected, found=list(ignore))


def _check_values(entries: Entries, ignore: tuple[int, ...] | None, file: Path) -> None:
    by_values: dict[tuple[int, ...], str] = {}
    for name, values in entries.items():
        if values in by_values:
            found = list(values) if len(values) > 1 else values[0]
            raise UserError(f"labels '{by_values[values]}' and '{name}' have the same value", file=file, found=found)
        if 0 in values:
            raise UserError(f"label '{name}' has value 0, which is background", file=file, fix="number it from 1")
        by_values[values] = name
    values = sorted({0, *(ignore or ()), *(v for values in entries.values() for v in values)})
    if values != list(range(len(values))):
        expected = f"0 to {len(values) - 1}"
        fix = "renumber them in dataset.json and in the label files"
        raise UserError("label values are not consecutive", file=file, expected=expected, found=values, fix=fix)


def _class_order(order: Any, entries: Entries, values: frozenset[int], file: Path) -> tuple[int, ...]:
    expected = f"a list of one label value for each of {', '.join(entries)}; later ones paint over earlier ones"
    if order is None:
        raise UserError("'labels' has regions but there is no 'regions_class_order'", file=file, expected=expected)
    numbers = [_whole(n) for n in order] if isinstance(order, list) else [None]
    if len(numbers) != len(entries) or not values.issuperset(numbers):
        raise UserError("'regions_class_order' is wrong", file=file, expected=expected, found=json.dumps(order))
    return tuple(numbers)
