"""Masks as people have them: numbers or colours in a file become declared label values, and sentences say how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from delightsam_pipeline.data.fitting import require_fit
from delightsam_pipeline.data.formats import read_stored
from delightsam_pipeline.data.image import Image
from delightsam_pipeline.data.labels import Code, Labels, code_text, storage_type
from delightsam_pipeline.errors import UserError, listed

_WHOLE = 1e-3  # scaled integers come back as floats this near to whole numbers
_GREY = 8  # channels this near to each other are a grey that JPEG has tinted
_NOISE = 16  # what JPEG adds to a flat value
_FLAT = 8  # neighbours in JPEG that differ by less are one area
_FLAT_SHARE = 0.1  # of the pixels beside the levels: contours have hardly any
_BRIGHT = 200  # the least maximum of a lossy mask whose one class is white
_NEAR = 64  # ringing leaves most pixels this near to a class's own value
_RINGING_SHARE = 0.05  # of pixels further away than that, which lie along contours
_LOSSY = (".jpg", ".jpeg")


def read_labels(path: Path, labels: Labels | None = None, image: Image | None = None) -> Image:
    """The label map [1, z, y, x] in `path`, on canonical axes, in the smallest unsigned type that holds it.

    labels : what may stand in it; None takes the numbers as they are.
    image : what it was drawn on, whose grid it must have (`fitting.fitted` takes others too).
    The result's `notes` say what was done to the file's content.
    Raises UserError when the file cannot be read, does not fit the image, or holds what was not declared.
    """
    colours = labels is not None and labels.codes is not None and len(labels.codes[0][0]) == 3
    stored = read_stored(path, colours)
    array, notes = _colours(stored.array, path) if colours else _numbers_or_colours(stored.array, path)
    if labels is not None:
        array, done = _decoded(array, labels, path)
        notes += done
    elif len(array) != 1:
        fix = "save the mask with one number per class instead of colours or several channels"
        raise UserError("is not a label map: its channels differ", file=path, expected="1 channel", found=3, fix=fix)
    array = array.astype(storage_type(int(array.max())), copy=False)
    mask = replace(stored, array=array, notes=tuple(notes))
    return mask if image is None else require_fit(mask, image)


def look_at(path: Path, labels: Labels) -> tuple[set[Code], bool]:
    """The numbers or colours that a mask file holds as they are stored, and whether they can be read as `labels`.

    Raises UserError when it cannot be read or is no mask.
    """
    array, _ = _numbers_or_colours(read_stored(path).array, path)
    try:
        _decoded(array, labels, path)
    except UserError:
        return set(_codes_in(array)), False
    return set(_codes_in(array)), True


def seen_colours(path: Path) -> set[Code]:
    """The colours in a mask file, those of palettes and greys too. Raises UserError as `look_at` does."""
    return set(_codes_in(_colours(read_stored(path, colours=True).array, path)[0]))


def _colours(array: np.ndarray, path: Path) -> tuple[np.ndarray, list[str]]:
    """Colours [3, z, y, x] of what is seen, greys among them."""
    if array.dtype != np.uint8 or len(array) not in (1, 3):
        found = f"{len(array)} channels of {array.dtype}"
        raise UserError("is not a mask of colours", file=path, expected="8 bits, grey or colour", found=found)
    return np.broadcast_to(array, (3, *array.shape[1:])), []


def _numbers_or_colours(array: np.ndarray, path: Path) -> tuple[np.ndarray, list[str]]:
    """Whole numbers [1, z, y, x], or colours [3, z, y, x] where the channels really differ."""
    notes = []
    if len(array) > 1:
        spread = int(np.ptp(array, axis=0).max()) if array.dtype.kind in "iu" else np.inf
        if spread == 0 or (_is_lossy(path) and array.dtype == np.uint8 and spread <= _GREY):
            array = array[:1]
            notes.append("its colour channels are the same: one was taken")
        elif len(array) != 3 or array.dtype != np.uint8:
            fix = "save the mask with one number per class"
            raise UserError("is not a label map", file=path, expected="1 channel", found=len(array), fix=fix)
    if array.dtype.kind == "f":
        rounded = np.rint(array)
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(array - rounded) <= _WHOLE)
        if wrong.any():
            fix = "export the mask again, with nearest-neighbour interpolation if it was resampled"
            more = f" and {int(wrong.sum()) - 1} more" if wrong.sum() > 1 else ""
            found = f"{array[wrong][0]:.6g}{more}"
            raise UserError("has label values that are not whole numbers", file=path, found=found, fix=fix)
        array = rounded.astype(np.int64)
        notes.append("its floating-point values are whole numbers: read as such")
    if array.min() < 0:
        raise UserError("the label map has negative values", file=path, found=f"{array.min():g}", fix="make them 0")
    return array, notes


def _codes_in(array: np.ndarray) -> dict[Code, int]:
    """How often each number (n,) or colour (r, g, b) occurs in [1 or 3, z, y, x]."""
    counts: dict[int, int] = {}
    for plane in _packed(array):  # by slices: the whole volume would be sorted at once
        for value, count in zip(*np.unique(plane, return_counts=True), strict=True):
            counts[int(value)] = counts.get(int(value), 0) + int(count)
    return {_unpacked(value, len(array)): count for value, count in counts.items()}


def _packed(array: np.ndarray) -> Iterator[np.ndarray]:
    """Slices [y, x], a colour as one number."""
    for z in range(array.shape[1]):
        plane = array[:, z]
        yield plane[0] if len(plane) == 1 else np.dot(plane.astype(np.int32).transpose(1, 2, 0), (65536, 256, 1))


def _unpacked(value: int, channels: int) -> Code:
    return (value,) if channels == 1 else (value >> 16, value >> 8 & 255, value & 255)


def _decoded(array: np.ndarray, labels: Labels, path: Path) -> tuple[np.ndarray, list[str]]:
    """Label values [1, z, y, x] of numbers or colours, and what was done."""
    found = _codes_in(array)
    if labels.codes is not None:
        return _by_codes(array, found, dict(labels.codes), path)
    if len(array) == 1 and labels.declared.issuperset(v for (v,) in found):
        return array, []
    one_class = labels.declared == {0, 1}
    black = (0,) * len(array)
    others = [code for code in found if code != black]
    if one_class and len(others) == 1 and (len(array) == 3 or others[0][0] in (255, 65535)):
        return (array != 0).any(axis=0, keepdims=True), [f"{code_text(others[0])} was read as 1"]
    if one_class and len(array) == 1 and array.dtype == np.uint8 and max(v for (v,) in found) >= _BRIGHT:
        levels = {(0,): 0, (255,): 1}
        if _is_ringing(array, levels, path):
            return _nearest(array, levels), ["values between 0 and 255 (lossy or smoothed) were read as 1 from 128 on"]
    raise _undeclared(found, labels.declared, path)


def _by_codes(array: np.ndarray, found: dict[Code, int], codes: dict[Code, int], path: Path) -> tuple:
    """Label values by the dataset's own table of numbers or colours."""
    if codes.keys() >= found.keys():
        return _exactly(array, {code: codes[code] for code in found}), ["values were read by mask_values"]
    comparable = array.dtype == np.uint8 and len(next(iter(codes))) == len(array)
    if comparable and _is_ringing(array, codes, path):
        return _nearest(array, codes), ["values were read by mask_values, lossy ones as the nearest"]
    raise _undeclared(found, codes.keys(), path, "add them to mask_values in dataset.json, or mend the mask")


def _exactly(array: np.ndarray, codes: dict[Code, int]) -> np.ndarray:
    result = np.zeros(array.shape[1:], np.int64)
    for code, value in codes.items():
        result[np.logical_and.reduce([plane == v for plane, v in zip(array, code, strict=True)])] = value
    return result[None]


def _nearest(array: np.ndarray, codes: dict[Code, int]) -> np.ndarray:
    """Each pixel's label is that of the code with the smallest distance."""
    best, result = np.full(array.shape[1:], np.iinfo(np.int32).max, np.int32), np.zeros(array.shape[1:], np.int64)
    for code, value in sorted(codes.items()):
        distance = sum((plane.astype(np.int32) - v) ** 2 for plane, v in zip(array, code, strict=True))
        result[distance <= best] = value
        best = np.minimum(best, distance)
    return result[None]


def _is_ringing(array: np.ndarray, codes: dict[Code, int], path: Path) -> bool:
    """Whether the values of a picture [C, 1, H, W] beside the codes are what lossy or smoothed contours leave.

    Such values are few, lie in thin lines, and, but in JPEG, which keeps no value exactly, none of them stands out. A
    class that nobody declared has an area, or is one value that stands out.
    """
    if array.shape[1] > 1:
        return False
    plane, lossy = array[:, 0].astype(np.int16), _is_lossy(path)
    away = np.full(plane.shape[1:], 255, np.int16)
    for code in codes:
        away = np.minimum(away, np.abs(plane - np.array(code, np.int16)[:, None, None]).max(axis=0))
    beside = away > (_NOISE if lossy else 0)
    if (away > _NEAR).mean() > _RINGING_SHARE:
        return False
    if (beside & (_steps(plane) <= (_FLAT if lossy else 0))).sum() > _FLAT_SHARE * beside.sum():
        return False
    counts = np.array(list(_codes_in(array[:, :, beside][:, :, None]).values())) if beside.any() else np.zeros(0, int)
    return lossy or (len(counts) > 2 and counts.max() <= counts.sum() / 2)


def _steps(plane: np.ndarray) -> np.ndarray:
    """[C, H, W] -> [H, W], the largest difference from one of the four neighbours."""
    padded = np.pad(plane, ((0, 0), (1, 1), (1, 1)), mode="edge")
    inner = slice(1, -1)
    neighbours = ((slice(None, -2), inner), (slice(2, None), inner), (inner, slice(None, -2)), (inner, slice(2, None)))
    return np.max([np.abs(plane - padded[:, rows, columns]).max(axis=0) for rows, columns in neighbours], axis=0)


def _is_lossy(path: Path) -> bool:
    return Path(path).suffix.lower() in _LOSSY


def _undeclared(found: dict[Code, int], declared, path: Path, fix: str | None = None) -> UserError:
    """The error for values that nobody declared, with the entry for dataset.json that may declare them."""
    declared = sorted(code if isinstance(code, tuple) else (code,) for code in declared)
    codes = sorted(found)
    shown = listed([code_text(code) for code in codes], 20, " ")
    # a mask that holds a declared value too means what it says by it
    strange = not set(codes) & set(declared[1:])
    if fix is None and strange and 1 < len(codes) == len(declared):
        entry = ", ".join(f'"{code_text(code)}": {value}' for code, (value,) in zip(codes, declared, strict=True))
        fix = f'if that is what they mean, write "mask_values": {{{entry}}} in dataset.json, else mend the mask'
    elif fix is None:
        fix = "declare them in dataset.json (labels, or mask_values for numbers and colours of your own), or mend it"
    expected = " ".join(map(code_text, declared))
    return UserError("has undeclared label values", file=path, expected=expected, found=shown, fix=fix)
