"""The data doctor: what is wrong or strange with the cases of a raw dataset, one at a time and beside each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.dataset import Dataset
from delightsam_pipeline.data.fitting import RESAMPLED
from delightsam_pipeline.data.formats import describe
from delightsam_pipeline.data.image import Grid, Image
from delightsam_pipeline.data.splits import Split
from delightsam_pipeline.plans.duplicates import duplicates
from delightsam_pipeline.plans.findings import Finding
from delightsam_pipeline.plans.outliers import outliers

if TYPE_CHECKING:
    from delightsam_pipeline.plans.looks import Look

_SMALLEST_SIDE = 8  # pixels of a slice
_LEAST_MM, _LEAST_LARGEST_MM, _MOST_MM = 0.001, 0.01, 50  # spacings beyond are more likely in another unit
_LOST_SHARE, _LOST_CASES = 0.5, 5  # spacings of 1 x 1 x 1 mm that are not the dataset's own


def of_case(image: Image, label: Image, case: Case, dataset: Dataset) -> list[Finding]:
    """What is worth telling about a case whose files could be read: image [C, z, y, x], label map [1, z, y, x]."""
    file = str(case.images[0])
    found = [
        *_constant(image, label, case, dataset),
        *_tiny(image.grid, file, case.name),
        *_implausible(image.grid, file, case.name),
    ]
    for note in label.notes:
        if note.startswith(RESAMPLED):
            sentence, _, detail = note.partition(";")
            fix = "look at the mask on its image in a viewer; it is good only if both headers are right"
            problem = f"lies on another grid than its image and was {sentence};{detail}"
            found.append(Finding(level="warning", file=str(case.label), problem=problem, fix=fix, case=case.name))
    return found


def across(looks: Mapping[str, Look], dataset: Dataset, splits: list[Split]) -> list[Finding]:
    """What the comparison of all cases shows; looks by case name, those that could be read."""
    cases = {case.name: case for case in dataset.cases if case.name in looks}
    return [
        *_empty(looks, cases),
        *_rare(looks, dataset),
        *_mixed(looks, dataset),
        *_lost_spacing(looks, cases),
        *_names(dataset),
        *duplicates(looks, cases, splits),
        *outliers(looks, cases),
    ]


def _constant(image: Image, label: Image, case: Case, dataset: Dataset) -> list[Finding]:
    constant = [bool(_is_constant(channel)) for channel in image.array]
    file, fix = str(case.images[0]), "export the image again, or leave the case out"
    if all(constant):
        level = "error" if label.array.any() else "warning"
        problem = f"is constant: every voxel has one value; found {image.array.flat[0]:g}"
        return [Finding(level=level, file=file, problem=problem, fix=fix, case=case.name)]
    if len(case.images) == 1:
        return []  # a channel of a colour picture may well be black
    fix = "export the channel again; a case that lacks it is better left out, unless many do"
    return [
        Finding(
            level="warning",
            file=str(file),
            problem=f"one of its channels is constant; found {channel.flat[0]:g} in all of '{name}'",
            fix=fix,
            case=case.name,
        )
        for file, name, channel, same in zip(case.images, dataset.channel_names, image.array, constant, strict=True)
        if same
    ]


def _is_constant(channel: np.ndarray) -> bool:
    """Whether [z, y, x] holds one value; a look at some voxels spares most images the whole one."""
    first = channel.flat[0]
    return not (channel[..., ::7, ::7] != first).any() and not (channel != first).any()


def _tiny(grid: Grid, file: str, name: str) -> list[Finding]:
    if sorted(grid.shape)[1] >= _SMALLEST_SIDE:  # the smallest side may be that across slices
        return []
    problem = f"is tiny: a slice has a side of less than {_SMALLEST_SIDE} pixels; found {describe(grid)}"
    fix = "check the file; a thumbnail or a cut-out in its place?"
    return [Finding(level="warning", file=file, problem=problem, fix=fix, case=name)]


def _implausible(grid: Grid, file: str, name: str) -> list[Finding]:
    low, high = min(grid.spacing), max(grid.spacing)
    if not grid.physical or (low >= _LEAST_MM and _LEAST_LARGEST_MM <= high <= _MOST_MM):
        return []
    problem = f"has an implausible spacing; found {describe(grid)}"
    fix = "check the header: lengths may be in another unit than it says, or the spacing may be lost"
    return [Finding(level="warning", file=file, problem=problem, fix=fix, case=name)]


def _empty(looks: Mapping[str, Look], cases: Mapping[str, Case]) -> list[Finding]:
    empty = [name for name, look in looks.items() if not any(look.facts.voxels.values())]
    fix = "fine if there is nothing to mark; else check that the mask was saved"
    problem = f"its mask is empty, as {len(empty)} of {len(looks)} masks are"
    return [
        Finding(level="warning", file=str(cases[name].label), problem=problem, fix=fix, case=name) for name in empty
    ]


def _rare(looks: Mapping[str, Look], dataset: Dataset) -> list[Finding]:
    """Classes that no case has, or a single one; told only where there is anything to learn at all."""
    seen = Counter(name for look in looks.values() for name, voxels in look.facts.voxels.items() if voxels)
    if not seen or len(looks) < len(dataset.cases):
        return []
    file, found = str(dataset.folder / "dataset.json"), []
    for name in dataset.labels.classes:
        known = sum(name in look.facts.voxels for look in looks.values())
        partly = f", annotated in {known} of {len(looks)} cases" if known < len(looks) else ""
        if not seen[name]:
            problem = f"a declared class occurs in no case; found no voxel of '{name}'{partly}"
            fix = "take it out of 'labels', or check the masks; a model cannot learn it"
            found.append(Finding(level="warning", file=file, problem=problem, fix=fix))
        elif seen[name] == 1 < len(looks):
            case = next(case for case, look in looks.items() if look.facts.voxels.get(name))
            problem = f"a declared class occurs in a single case; found '{name}' only in {case}{partly}"
            fix = "add cases that have it; it cannot be trained and validated both"
            found.append(Finding(level="warning", file=file, problem=problem, fix=fix))
    return found


def _mixed(looks: Mapping[str, Look], dataset: Dataset) -> list[Finding]:
    """Images of several kinds in one dataset."""
    facts, file, found = [look.facts for look in looks.values()], str(dataset.folder), []
    volumes = sum(fact.physical and min(fact.shape) > 1 for fact in facts)
    pictures = [fact for fact in facts if not fact.physical and fact.shape[0] == 1]
    if volumes and pictures:
        problem = f"mixes volumes and pictures; found {volumes} volumes and {len(pictures)} pictures"
        fix = "make a dataset of each; they can be trained together: dlsam_train A+B"
        found.append(Finding(level="error", file=file, problem=problem, fix=fix))
    colour = [fact for fact in pictures if len(fact.intensities) == 3]
    grey = sum(fact.intensities[0] == fact.intensities[1] == fact.intensities[2] for fact in colour)
    if 0 < grey < len(colour):
        problem = f"mixes grey and coloured pictures; found {grey} of {len(colour)} without colour"
        fix = "fine if they come from one kind of device; else make a dataset of each and train both: dlsam_train A+B"
        found.append(Finding(level="warning", file=file, problem=problem, fix=fix))
    depths = Counter(fact.dtype for fact in pictures)
    if len(depths) > 1:
        shown = ", ".join(f"{count} of {dtype}" for dtype, count in depths.most_common())
        problem = f"mixes pictures of several bit depths; found {shown}"
        fix = "check that white is the highest value in all of them"
        found.append(Finding(level="warning", file=file, problem=problem, fix=fix))
    return found


def _lost_spacing(looks: Mapping[str, Look], cases: Mapping[str, Case]) -> list[Finding]:
    """Volumes of 1 x 1 x 1 mm where most others are not."""
    volumes = {n: look.facts for n, look in looks.items() if look.facts.physical and min(look.facts.shape) > 1}
    ones = [name for name, fact in volumes.items() if set(fact.spacing) == {1.0}]
    if len(volumes) < _LOST_CASES or len(ones) > _LOST_SHARE * len(volumes):
        return []
    problem = f"has a spacing of 1 x 1 x 1 mm; {len(volumes) - len(ones)} of {len(volumes)} volumes have another"
    fix = "check whether the true spacing was lost; if so, export the volume again"
    return [Finding(level="warning", file=str(cases[n].images[0]), problem=problem, fix=fix, case=n) for n in ones]


def _names(dataset: Dataset) -> list[Finding]:
    """Case names that are one on file systems which do not tell upper and lower case apart."""
    alike: dict[str, list[str]] = {}
    for case in dataset.cases:
        alike.setdefault(case.name.casefold(), []).append(case.name)
    problem = "case names differ in upper and lower case only; found {}"
    fix = "rename one: on Windows and macOS one would overwrite the other"
    return [
        Finding(level="warning", file=str(dataset.folder), problem=problem.format(", ".join(names)), fix=fix)
        for names in alike.values()
        if len(names) > 1
    ]
