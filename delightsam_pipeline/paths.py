"""Where things are: the root folder, and from a DATASET (id, name or folder) to its raw folder."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from delightsam_pipeline.errors import UserError

_NNUNET_RAW, _NNUNET_PREPROCESSED = "nnUNet_raw", "nnUNet_preprocessed"
_DATASET_NAME = re.compile(r"Dataset(\d{3,})_(.+)")


def home() -> Path:
    """The root that holds raw/, preprocessed/ and results/: $DLSAM_HOME, else ./dlsam."""
    return Path(os.environ.get("DLSAM_HOME") or "dlsam")


def preprocessed_root() -> Path:
    """Where plans and preprocessed stores are kept."""
    return home() / "preprocessed"


def results_root() -> Path:
    """Where trained models are kept."""
    return home() / "results"


def raw_roots() -> list[Path]:
    """Folders searched for raw datasets: ours, then nnU-Net's when its variable is set."""
    roots = [home() / "raw"]
    if os.environ.get(_NNUNET_RAW):
        roots.append(Path(os.environ[_NNUNET_RAW]))
    return roots


def splits_files(raw: Path) -> list[Path]:
    """Where the splits of a raw dataset may be given, the first that is there holds: beside its data, and where nnU-Net
    keeps those that it trains by, when its variable is set."""
    folders = [raw]
    if os.environ.get(_NNUNET_PREPROCESSED):
        folders.append(Path(os.environ[_NNUNET_PREPROCESSED]) / raw.resolve().name)
    return [folder / "splits_final.json" for folder in folders]


def dataset_folders(roots: list[Path], holds: str) -> list[Path]:
    """Every folder in the roots that is named DatasetXXX_Name or has the file `holds`, sorted within each root."""
    found: list[Path] = []
    for root in roots:
        if root.is_dir():
            found += sorted(f for f in root.iterdir() if _is_dataset(f, holds))
    return found


def _is_dataset(folder: Path, holds: str) -> bool:
    # os.path answers False for what may not be looked into, such as lost+found, where Path would raise
    named = _DATASET_NAME.fullmatch(folder.name) and os.path.isdir(folder)
    return bool(named) or os.path.isfile(folder / holds)


def find_dataset(
    dataset: str,
    roots: list[Path],
    what: str = "raw dataset",
    fix: str = "give an id, a name or a folder",
    holds: str = "dataset.json",
) -> Path:
    """The folder that an id (101), a full name (Dataset101_X), a short name (X) or a path means.

    holds : a file by which such a folder is known, whatever its name; then the whole name is needed.

    Raises UserError when nothing or more than one folder fits; the message lists what is there, and says `fix` where
    no name is near.
    """
    if not dataset.strip():
        raise UserError("the name of the dataset is empty", fix="give an id, a name or a folder")
    looks_like_path = os.sep in dataset or dataset.startswith(".")
    if os.path.isdir(dataset) and (looks_like_path or os.path.isfile(Path(dataset) / holds)):
        return Path(dataset).resolve()
    folders = dataset_folders(roots, holds)
    matches = [f for f in folders if means(dataset, f.name)]
    if len({f.name for f in matches}) > 1:
        names = ", ".join(str(f) for f in matches)
        raise UserError(f"'{dataset}' means more than one {what}", found=names, fix="give the full name")
    if matches:
        return matches[0]
    searched = ", ".join(str(root) for root in roots)
    names = [f.name for f in folders]
    close = difflib.get_close_matches(dataset, names, n=1)
    hint = f"did you mean {close[0]}?" if close else fix
    raise UserError(
        f"no {what} called '{dataset}'",
        expected=f"a folder or one of the datasets in {searched}",
        found=", ".join(names) or "none there",
        fix=hint,
    )


def means(dataset: str, name: str) -> bool:
    """Whether an id (101), a full name or a short name (X) means the dataset called `name` (Dataset101_X)."""
    match = _DATASET_NAME.fullmatch(name)
    if match is None:
        return dataset == name
    same_id = dataset.isascii() and dataset.isdecimal() and dataset.lstrip("0") == match[1].lstrip("0")
    return same_id or dataset in (name, match[2])
