"""The fingerprint: what a raw dataset is, put together from the looks at its cases."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.dataset import Dataset
from delightsam_pipeline.data.formats import files_of
from delightsam_pipeline.data.image import Grid
from delightsam_pipeline.data.parallel import try_each_case
from delightsam_pipeline.data.splits import Split
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import digest, identity, make_folder, remove_leftovers
from delightsam_pipeline.plans import doctor, look_files
from delightsam_pipeline.plans.findings import Finding
from delightsam_pipeline.plans.identification import Evidence, dicom_modality_of, identify
from delightsam_pipeline.plans.intensities import Values
from delightsam_pipeline.plans.look_files import findings_of, load_foreground
from delightsam_pipeline.plans.looks import ANISOTROPY, CaseFacts, Look, look, slicing_axis

__all__ = ["ANISOTROPY", "CaseFacts", "Fingerprint", "fingerprint", "inputs_digest", "median_grid", "slicing_axis"]

Outcome = Look | list[Finding]  # what could be measured, or why nothing could

_log = logging.getLogger(__name__)


class Fingerprint(BaseModel):
    """The dataset in numbers.

    physical : whether all files have a spacing in mm. dtype : the most frequent. modality : "" when it is not clear.
    intensities : per channel, over the foreground of all cases, which count the same (see `Values.summary`).
    present_in : per class, the number of cases that show it, of those it was annotated in. notes : in how many cases
    something was done to the masks on reading. cases : those that could be read. findings : of all cases; with an error
    among them there is no plan.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    version: Literal[2] = 2
    dataset: str
    inputs: str
    physical: bool
    dtype: str
    channel_names: list[str]
    modality: str
    modality_confidence: float
    modality_evidence: str
    intensities: list[dict[str, float]]
    present_in: dict[str, int] = {}
    notes: dict[str, int] = {}
    findings: list[Finding] = []
    cases: list[CaseFacts]


def inputs_digest(dataset: Dataset) -> str:
    """Changes when any image or label file, or dataset.json, changes."""
    files = [dataset.folder / "dataset.json"]
    files += [file for case in dataset.cases for path in (*case.images, case.label) for file in files_of(path)]
    return digest([identity(path) for path in files])


def fingerprint(
    dataset: Dataset,
    folder: Path | None = None,
    modality: str | None = None,
    workers: int | None = None,
    splits: Sequence[Split] = (),
) -> Fingerprint:
    """Read, check and measure every case, and put together what was found.

    folder : where looks are kept; those of cases that have not changed are not made again. modality : as given by the
    user, before dataset.json's. splits : the folds, for what is wrong across them.
    Nothing wrong with the data is raised: it stands in `findings`.
    """
    folder = None if folder is None else folder / "looks"
    outcomes = _outcomes(dataset, folder, workers)
    looks = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Look)}
    findings = [
        f for outcome in outcomes.values() for f in (outcome.findings if isinstance(outcome, Look) else outcome)
    ]
    findings += doctor.across(looks, dataset, list(splits))
    if looks and not any(sum(look.facts.voxels.values()) for look in looks.values()):
        fix = "check that the labels belong to the images and hold the declared values"
        error = UserError("no case has any foreground", file=dataset.folder, fix=fix)
        findings.append(Finding.of(error))
    evidence = Evidence("", 0.0, "not clear")
    try:
        evidence = _modality(modality or dataset.modality, dataset, looks.values())
    except UserError as error:
        # while no case can be read, that is what has to be mended
        findings += [Finding.of(error)] if looks else []
    return _put_together(dataset, list(looks.values()), folder, evidence, findings)


def _outcomes(dataset: Dataset, folder: Path | None, workers: int | None) -> dict[str, Outcome]:
    """Case name -> what could be measured or what is wrong, in the cases' order."""
    known: dict[str, Outcome] = {}
    keys: dict[str, str] = {}
    if folder is not None:
        make_folder(folder)
        remove_leftovers(folder)
        look_files.remove_strangers(folder, (case.name for case in dataset.cases))
        keys = {case.name: look_files.key_of(case, dataset) for case in dataset.cases}
        kept = {case.name: look_files.load(folder, case, keys[case.name]) for case in dataset.cases}
        known = {name: look for name, look in kept.items() if look is not None}
    todo = [case for case in dataset.cases if case.name not in known]
    if todo:
        # every case is pickled apart: its dataset need not hold all of them
        work = partial(_looked, dataset=replace(dataset, cases=()), folder=folder, keys=keys)
        for case, outcome in zip(todo, try_each_case(work, todo, "fingerprint", workers), strict=True):
            # an error is not kept: what stood in the way of reading may be gone next time, the files being the same
            known[case.name] = findings_of(outcome, case.name) if isinstance(outcome, UserError) else outcome
    elif folder is not None:
        _log.info("%s: the files have not changed, the fingerprint is kept", dataset.name)
    return {case.name: known[case.name] for case in dataset.cases}


def _looked(case: Case, dataset: Dataset, folder: Path | None, keys: Mapping[str, str]) -> Look:
    """Look at a case, and keep the look at once, so that a killed run loses little; its many values stay on disk."""
    found = look(case, dataset)
    if folder is None:
        return found
    look_files.save(folder, case, keys[case.name], found)
    return replace(found, foreground=[])


def _modality(given: str | None, dataset: Dataset, looks: Collection[Look]) -> Evidence:
    facts = [look.pixels for look in looks]
    return identify(given, dataset.channel_names, dicom_modality_of(facts), facts)


def _put_together(
    dataset: Dataset, looks: Sequence[Look], folder: Path | None, evidence: Evidence, findings: list[Finding]
) -> Fingerprint:
    cases = [look.facts for look in looks]
    dtypes = Counter(case.dtype for case in cases).most_common(1)
    channels = range(len(dataset.channel_names))
    return Fingerprint(
        dataset=dataset.name,
        inputs=inputs_digest(dataset),
        physical=bool(cases) and all(case.physical for case in cases),
        dtype=dtypes[0][0] if dtypes else "",
        channel_names=list(dataset.channel_names),
        modality=evidence.modality,
        modality_confidence=evidence.confidence,
        modality_evidence=evidence.reason,
        intensities=[_intensities(looks, folder, channel) for channel in channels],
        present_in={name: sum(case.voxels.get(name, 0) > 0 for case in cases) for name in dataset.labels.classes},
        notes=dict(Counter(note for case in cases for note in case.notes)),
        findings=findings,
        cases=cases,
    )


def _intensities(looks: Sequence[Look], folder: Path | None, channel: int) -> dict[str, float]:
    """The summary of all cases, each of which counts the same however large its foreground is, as in nnU-Net.

    folder : where the looks' values are read from, one case at a time; None when the looks hold them.
    """
    each = 2**62 // max(1, len(looks))
    parts = (
        look.foreground[channel] if folder is None else load_foreground(folder, look.facts.name, channel)
        for look in looks
    )
    return Values.merged(part.repeated(each) for part in parts).summary()


def as_nnunet(print_: Fingerprint) -> dict[str, Any]:
    """The same under the names that nnU-Net v2 gives in its dataset_fingerprint.json, axes z y x."""
    channels = range(len(print_.channel_names))
    return {
        "spacings": [list(case.spacing) for case in print_.cases],
        "shapes_after_crop": [list(case.nonzero_box) for case in print_.cases],
        "foreground_intensity_properties_per_channel": {str(c): print_.intensities[c] for c in channels},
        "median_relative_size_after_cropping": float(np.median([case.nonzero_share for case in print_.cases])),
    }


def median_grid(print_: Fingerprint) -> Grid:
    """A grid of the dataset's median shape and spacing."""
    shape = np.median([case.shape for case in print_.cases], axis=0).round().astype(int)
    spacing = np.median([case.spacing for case in print_.cases], axis=0)
    return Grid(tuple(int(v) for v in shape), tuple(float(v) for v in spacing), physical=print_.physical)
