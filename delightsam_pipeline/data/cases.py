"""From files named CASE_0000.ext to cases: one thing to segment, with one file per channel or one for all."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from delightsam_pipeline.data.dicom_files import is_series, series_files
from delightsam_pipeline.data.formats import ENDINGS, ending_of, known_ending, stem_of
from delightsam_pipeline.errors import UserError, all_problems, listed

_CHANNEL = re.compile(r"(.+)_(\d{4})")
_log = logging.getLogger(__name__)
_NOTES = (".json", ".txt", ".md", ".csv", ".xml", ".raw", ".zraw", "dicomdir")  # sidecars among them
_MOST_LOOKS = 8  # at the series of files in a folder
FileGroups = dict[str, dict[int | None, Path]]


@dataclass(frozen=True)
class Case:
    """One thing to segment.

    images : its files, one per channel, or a single one that holds all channels; a DICOM series is its folder.
    label : its label map, None when there is none.
    group : cases of one patient or video share it, so that splits never part them.
    not_annotated : classes that its label map does not show, though they may be there.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    group: str
    not_annotated: tuple[str, ...] = ()


def input_cases(path: Path, channels: int, ending: str | None = None) -> tuple[Case, ...]:
    """The cases in a file or a folder, sorted by name, without labels; an output is called case.name + ending.

    path : an image, a folder of images, or the folder of one DICOM series; of a first channel the others are found
        beside it.
    channels : number of image channels expected (see `group_cases`).
    ending : read only files with this ending; None for all formats.
    Raises UserError when nothing can be read there, and for missing or surplus channel files.
    """
    path = Path(path)
    if is_series(path) and not is_many_images(path):
        tell_passed_over(path, series_files(path))
        return (_single_case(path, channels, ending),)
    if path.is_file():
        return (_single_case(path, channels, ending),)
    if not path.is_dir():
        raise UserError("does not exist", file=path, expected="an image or a folder of images")
    files = list_files(path, ending)
    if not files:
        raise no_images(path, ending)
    tell_passed_over(path, files)
    images, problems = group_cases(files, channels)
    if problems:
        raise all_problems(problems, str(path))
    return tuple(Case(name, paths, None, name) for name, paths in images.items())


def tell_passed_over(folder: Path, used: Collection[Path]) -> None:
    """Warn of what lies in a folder of images and is none of them; notes and hidden files are nothing to tell."""
    known = {path.name for path in used}
    left = [f.name for f in folder.iterdir() if f.name not in known and not f.name.startswith(".")]
    left = sorted(name for name in left if not name.lower().endswith(_NOTES))
    if left:
        _log.warning("%s: passed over, since they are no images to read here: %s", folder, listed(left, 3))


def _single_case(path: Path, channels: int, ending: str | None) -> Case:
    found = ending_of(path)
    if ending is not None and found != ending.lower():
        raise UserError("has another ending than the data the model was made for", file=path, expected=ending)
    stem = stem_of(path)
    match = _CHANNEL.fullmatch(stem)
    if match is None or int(match[2]) != 0:
        return Case(stem, (path,), None, stem)
    beside = [path.with_name(f"{match[1]}_{i:04d}{path.name[len(stem) :]}") for i in range(1, channels)]
    missing = [other for other in beside if not other.exists()]
    if missing and len(missing) < len(beside):
        raise UserError("is missing", file=missing[0], fix=f"a case needs {channels} channel files, or one for all")
    return Case(match[1], (path,) if missing else (path, *beside), None, match[1])


def is_many_images(folder: Path) -> bool:
    """Whether the DICOM files in a folder are images of their own, such as X-rays, and no slices of a series."""
    from delightsam_pipeline.data.dicom_header import read_header

    files = series_files(folder)
    if len(files) < 2 or any(file.suffix.lower() != ".dcm" for file in files):
        return False
    series, placed = set(), False
    for file in files[:_MOST_LOOKS]:
        try:
            header = read_header(file)
        except UserError:  # told when the case is read
            series.add(file.name)
        else:
            series.add(header.series)
            placed |= header.positions is not None
    return not placed or len(series) == min(len(files), _MOST_LOOKS)


def list_files(folder: Path, ending: str | None = None) -> list[Path]:
    """Image files in a folder, and the folders in it that hold a DICOM series, sorted; hidden ones are left out."""
    wanted = (ending.lower(),) if ending is not None else ENDINGS
    return sorted(f for f in folder.iterdir() if not f.name.startswith(".") and known_ending(f) in wanted)


def no_images(folder: Path, ending: str | None) -> UserError:
    """The error for a folder without a single readable image, with the endings that are there."""
    names = Counter("".join(f.suffixes[-2:]) or f.name for f in folder.iterdir() if not f.name.startswith("."))
    found = ", ".join(f"{count} {name}" for name, count in names.most_common(5)) or "nothing"
    return UserError("has no images that can be read", file=folder, expected=ending or " ".join(ENDINGS), found=found)


def group_cases(files: Iterable[Path], channels: int) -> tuple[dict[str, tuple[Path, ...]], list[UserError]]:
    """Case name -> its files in channel order, sorted by name; and what is wrong with them.

    Either every case has one file (CASE_0000.ext, or CASE.ext), which then must hold all channels (an RGB picture;
    whether it does is seen when it is read), or every case has the files CASE_0000.ext to the last channel's.
    One file per case is assumed when no file has a number above 0000.
    """
    groups: FileGroups = {}
    problems = []
    for path in files:
        name, channel = _split_name(path)
        group = groups.setdefault(name, {})
        if channel in group or (group and None in (channel, *group)):
            other = next(iter(group.values()))
            problems.append(UserError(f"has the same case name as {other.name}", file=path, fix="rename one of them"))
        elif channel is not None and channel >= channels:
            last = f"CASE_{channels - 1:04d}"
            expected = "CASE_0000 only" if channels == 1 else f"CASE_0000 to {last}"
            fix = f"if the number is part of the case's name, add _0000 after it: {name}_{channel:04d}_0000"
            problems.append(UserError("has a number beyond the channels", file=path, expected=expected, fix=fix))
        group[channel] = path
    per_case = channels if any(channel for group in groups.values() for channel in group) else 1
    for name, group in groups.items() if not problems else ():
        missing = [i for i in range(per_case) if i not in group] if per_case > 1 else []
        if missing:
            absent = ", ".join(f"{name}_{i:04d}" for i in missing)
            fix = f"every case needs {per_case} channel files, as others here have"
            problems.append(
                UserError("misses channel files", file=next(iter(group.values())), expected=absent, fix=fix)
            )
    ordered = {name: tuple(group[c] for c in sorted(group, key=lambda c: c or 0)) for name, group in groups.items()}
    return dict(sorted(ordered.items())), problems


def _split_name(path: Path) -> tuple[str, int | None]:
    """CASE_0002.ext -> (CASE, 2); a name without a channel number -> (CASE, None)."""
    stem = stem_of(path)
    match = _CHANNEL.fullmatch(stem)
    return (match[1], int(match[2])) if match else (stem, None)
