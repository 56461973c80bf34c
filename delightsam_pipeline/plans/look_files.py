"""Looks kept on disk, so that only cases whose files changed are read again: one file for each case."""

from __future__ import annotations

import importlib.util
import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from delightsam_pipeline import __version__
from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.dataset import Dataset
from delightsam_pipeline.data.formats import files_of
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import digest, identity, writing
from delightsam_pipeline.plans.findings import Finding
from delightsam_pipeline.plans.identification import PixelFacts
from delightsam_pipeline.plans.intensities import Values
from delightsam_pipeline.plans.looks import CaseFacts, Look

VERSION = 2  # of what a look holds; a look of another one is made anew
_ENDING = ".npz"
_DAMAGED = (OSError, EOFError, BadZipFile, zlib.error, ValueError, KeyError, TypeError, IndexError)


def key_of(case: Case, dataset: Dataset) -> str:
    """Changes with all that a look depends on: how the case reads, and what was not annotated in it."""
    return digest(VERSION, reading_key(case, dataset), case.not_annotated)


def reading_key(case: Case, dataset: Dataset) -> str:
    """Changes with all that reading a case depends on: its files, what they mean, and the code that reads them.

    Raises UserError when a file is not there.
    """
    files = [file for path in (*case.images, case.label) for file in files_of(path)]
    meaning = [dataset.labels.to_dict(), dataset.labels.codes, dataset.channel_names, dataset.fix_geometry]
    # a case that could not be read may be now, though its files are the same
    able = [[os.access(path, os.R_OK) for path in files], importlib.util.find_spec("imagecodecs") is not None]
    # a list of cases may come to mean the files of another folder that are called and dated the same
    named = [[path.parent.name, *identity(path)] for path in files]
    return digest(__version__, named, meaning, able)


def load(folder: Path, case: Case, key: str) -> Look | None:
    """The look kept for a case under this key, its `foreground` left on disk (see `load_foreground`).

    None when there is none, or its file is damaged.
    """
    try:
        with np.load(folder / (case.name + _ENDING), allow_pickle=False) as file:
            said = json.loads(file["json"].tobytes())
            if said["key"] != key:
                return None
            findings = [Finding.model_validate(finding) for finding in said["findings"]]
            # findings name the files, which may have been given by another path then
            if findings and said["files"] != _names(case):
                return None
            return _unpacked(said["look"], findings, file["thumbnail"])
    except _DAMAGED:
        return None


def load_foreground(folder: Path, name: str, channel: int) -> Values:
    """The foreground's values in an image channel, of a case whose look was kept."""
    with np.load(folder / (name + _ENDING), allow_pickle=False) as file:
        look = json.loads(file["json"].tobytes())["look"]
        end = sum(look["sizes"][: channel + 1])
        part = slice(end - look["sizes"][channel], end)
        return Values(file["values"][part], file["counts"][part], look["means"][channel], look["squares"][channel])


def save(folder: Path, case: Case, key: str, look: Look) -> None:
    """Keep a case's look under this key."""
    described, arrays = _packed(look)
    findings = [finding.model_dump() for finding in look.findings]
    said = {"key": key, "files": _names(case), "findings": findings, "look": described}
    text = json.dumps(said, allow_nan=False)
    with writing(folder / (case.name + _ENDING)) as file:
        np.savez(file, json=np.frombuffer(text.encode(), np.uint8), **arrays)


def remove_strangers(folder: Path, names: Iterable[str]) -> None:
    """Remove the looks of cases that are gone."""
    known = {name + _ENDING for name in names}
    for file in folder.glob("[!.]*" + _ENDING):
        if file.name not in known:
            file.unlink(missing_ok=True)


def _names(case: Case) -> list[str]:
    return [str(path) for path in (*case.images, case.label)]


def _packed(look: Look) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A look as JSON and arrays; the channels' values stand one after the other."""
    parts = look.foreground
    counts = np.concatenate([part.counts for part in parts])
    described = {
        "facts": look.facts.model_dump(),
        "pixels": look.pixels.model_dump(),
        "content": look.content,
        "sizes": [part.values.size for part in parts],
        "means": [part.mean for part in parts],
        "squares": [part.squares for part in parts],
    }
    arrays = {
        "values": np.concatenate([part.values for part in parts]),
        "counts": counts.astype(np.uint32) if counts.max(initial=0) < 2**32 else counts,
        "thumbnail": look.thumbnail,
    }
    return described, arrays


def _unpacked(described: Mapping[str, Any], findings: Sequence[Finding], thumbnail: np.ndarray) -> Look:
    facts, pixels = CaseFacts.model_validate(described["facts"]), PixelFacts.model_validate(described["pixels"])
    return Look(facts, [], list(findings), pixels, thumbnail, described["content"])


def findings_of(error: UserError, case: str) -> list[Finding]:
    """An error that stopped the look at a case, or the several that it gathers."""
    return [Finding.of(problem, case) for problem in error.problems or (error,)]
