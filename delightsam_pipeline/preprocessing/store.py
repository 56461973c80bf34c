"""The preprocessed store: all that training needs of a dataset, in a folder that can be carried elsewhere.

fingerprint.json  dataset_fingerprint.json (as nnU-Net has it)  looks/ (what was measured on single cases)
plan.json  splits_final.json  groups.json (case -> patient or video)
annotated.json (case -> classes annotated in it, where that is not all)
cases/CASE.slices.npy  slices, float16 [Z, C, h, w]
cases/CASE.mask.npy    labels beside them, uint8 or int16 [Z, h, w]
cases/CASE.labels.npz  labels on the image's own grid [z, y, x], compressed
cases/CASE.json        way back, what the slices hold; written last, so that its presence means a whole case
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from delightsam_pipeline.data.splits import Split, load_splits
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import read_json, write_json, writing
from delightsam_pipeline.plans.plan import Plan, load_plan
from delightsam_pipeline.preprocessing.preparation import WayBack

_AGAIN = "run dlsam_plan_and_preprocess again"
_ENDINGS = (".json", ".slices.npy", ".mask.npy", ".labels.npz")


@dataclass(frozen=True)
class StoredCase:
    """One case of a store; arrays are mapped from disk when asked for.

    present : per target, the slices (numbers) that hold some of it; none where it was not annotated.
    group : cases of one patient or video share it; None in stores that do not say.
    not_annotated : the targets (numbers) that its labels do not show, though they may be there.
    """

    name: str
    folder: Path
    back: WayBack
    present: tuple[tuple[int, ...], ...]
    group: str | None = None
    not_annotated: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """Number of slices."""
        return self.back.grid.shape[self.back.axis]

    def slices(self) -> np.ndarray:
        """float16 [Z, C, h, w], read from disk slice by slice as it is indexed."""
        return _mapped(self.folder / f"{self.name}.slices.npy")

    def mask(self) -> np.ndarray:
        """Labels [Z, h, w] beside the slices."""
        return _mapped(self.folder / f"{self.name}.mask.npy")

    def labels(self) -> np.ndarray:
        """Labels [z, y, x] on the image's own grid."""
        path = self.folder / f"{self.name}.labels.npz"
        with _readable(path), np.load(path, allow_pickle=False) as file:
            return file["labels"]


def _mapped(path: Path) -> np.ndarray:
    with _readable(path):
        return np.load(path, mmap_mode="r", allow_pickle=False)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, ValueError, BadZipFile, zlib.error) as error:
        fix = "delete it and preprocess the dataset again"
        raise UserError(f"cannot be read ({error})", file=path, fix=fix) from None


@dataclass(frozen=True)
class Store:
    """A dataset's preprocessed folder."""

    folder: Path
    plan: Plan
    splits: list[Split]
    cases: dict[str, StoredCase]

    @staticmethod
    def load(folder: Path) -> Store:
        """Open a store. Raises UserError when it is incomplete or does not belong to its plan."""
        plan_file = folder / "plan.json"
        if not plan_file.is_file():
            fix = f"run dlsam_plan_and_preprocess -d {folder.name}"
            raise UserError("has not been preprocessed (no plan.json)", file=folder, fix=fix)
        plan = load_plan(plan_file)
        cases = _load_cases(folder, plan)
        return Store(folder, plan, _load_splits(folder, list(cases)), cases)


def _load_cases(folder: Path, plan: Plan) -> dict[str, StoredCase]:
    cases, groups = {}, _load_groups(folder / "groups.json")
    missing = _load_not_annotated(folder / "annotated.json", plan.targets.classes)
    for file in sorted(f for f in (folder / "cases").glob("*.json") if not f.name.startswith(".")):
        value = read_json(file)
        try:
            known = groups.get(file.stem), missing.get(file.stem, ())
            made_with, case = value["plan"], _case(file.stem, folder / "cases", value, *known)
        except (KeyError, TypeError, ValueError):
            raise UserError("does not describe a preprocessed case", file=file, fix=_AGAIN) from None
        if made_with != plan.preprocessing_digest():
            raise UserError("was made with another plan than plan.json", file=file, fix=_AGAIN)
        cases[file.stem] = case
    return cases


def _load_groups(file: Path) -> dict[str, str]:
    """Case -> group; empty for stores made before groups were kept."""
    groups = read_json(file) if file.is_file() else {}
    if not isinstance(groups, dict) or not all(isinstance(group, str) for group in groups.values()):
        raise UserError("is not a map from case to group", file=file, fix=_AGAIN)
    return groups


def _load_not_annotated(file: Path, classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Case -> targets (numbers) that were not annotated in it; empty for stores made before that was kept."""
    annotated = read_json(file) if file.is_file() else {}
    lists = list(annotated.values()) if isinstance(annotated, dict) else [None]
    if not all(isinstance(names, list) and all(name in classes for name in names) for names in lists):
        raise UserError("is not a map from case to classes of plan.json", file=file, fix=_AGAIN)
    return {case: tuple(k for k, c in enumerate(classes) if c not in names) for case, names in annotated.items()}


def _load_splits(folder: Path, names: list[str]) -> list[Split]:
    """The store's splits; one fold that validates on what it trains on is what planning makes of a single group."""
    file = folder / "splits_final.json"
    value = read_json(file) if file.is_file() else []
    try:
        wanted = {name for split in value for part in split.values() for name in part}
    except (AttributeError, TypeError):
        wanted = set()
    if not names or not file.is_file() or wanted - set(names):
        found = f"{len(names)} of {max(len(wanted), len(names))} cases"
        raise UserError("is not completely preprocessed", file=folder, found=found, fix=_AGAIN)
    if value == [{"train": names, "val": names}]:
        return value
    return load_splits(file, names)


def _case(name: str, folder: Path, value: dict[str, Any], group: str | None, missing: tuple[int, ...]) -> StoredCase:
    present = tuple(() if k in missing else tuple(slices) for k, slices in enumerate(value["present"]))
    return StoredCase(name, folder, WayBack.from_dict(value["way_back"]), present, group, missing)


def is_complete(folder: Path, name: str, inputs: str, plan: Plan) -> bool:
    """Whether the case was stored whole, from the same files (their digest `inputs`) and plan."""
    try:
        value = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    whole = all((folder / f"{name}{ending}").is_file() for ending in _ENDINGS)
    return whole and value.get("inputs") == inputs and value.get("plan") == plan.preprocessing_digest()


def remove_case(folder: Path, name: str) -> None:
    """Remove a case's files."""
    for ending in _ENDINGS:
        (folder / f"{name}{ending}").unlink(missing_ok=True)


def save_case(
    folder: Path,
    name: str,
    slices: np.ndarray,
    mask: np.ndarray,
    labels: np.ndarray,
    back: WayBack,
    inputs: str,
    plan: Plan,
) -> None:
    """Write one case; arrays as StoredCase gives them."""
    (folder / f"{name}.json").unlink(missing_ok=True)
    with writing(folder / f"{name}.slices.npy") as file:
        np.save(file, slices.astype(np.float16))
    with writing(folder / f"{name}.mask.npy") as file:
        np.save(file, mask)
    with writing(folder / f"{name}.labels.npz") as file:
        np.savez_compressed(file, labels=labels)
    present = [np.flatnonzero(np.isin(mask, ids).any(axis=(1, 2))).tolist() for ids in plan.targets.ids]
    way_back = back.to_dict()
    digest = plan.preprocessing_digest()
    write_json(folder / f"{name}.json", {"inputs": inputs, "plan": digest, "way_back": way_back, "present": present})
