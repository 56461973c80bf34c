"""Planning and preprocessing one raw dataset: fingerprint, plan, splits and store, each skipped when it stands."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from delightsam_pipeline.data.dataset import Case, Dataset, check_case
from delightsam_pipeline.data.parallel import each_case
from delightsam_pipeline.data.splits import Split, load_splits, make_splits
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import digest, identity, make_folder, read_json, write_json
from delightsam_pipeline.plans.fingerprint import Fingerprint, fingerprint, inputs_digest
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.plans.planner import make_plan
from delightsam_pipeline.preprocessing.preparation import Preparation
from delightsam_pipeline.preprocessing.store import is_complete, remove_case, save_case

log = logging.getLogger(__name__)


def plan_dataset(
    dataset: Dataset, folder: Path, modality: str | None = None, memory_bytes: float = 8e9, workers: int | None = None
) -> Plan:
    """Fingerprint and plan a dataset into `folder`; the fingerprint is kept when the files have not changed.

    Raises UserError for bad cases, bad splits beside them, or when the modality is not clear; then nothing is written.
    """
    make_folder(folder.parent)
    splits = _splits(dataset)
    print_ = _kept_fingerprint(dataset, folder / "fingerprint.json", modality)
    if print_ is None:
        print_ = fingerprint(dataset, modality, workers)
    for note, count in print_.notes.items():
        log.info("%s: %d of %d masks: %s", dataset.name, count, len(dataset.cases), note)
    plan = make_plan(print_, dataset.labels, dataset.file_ending, memory_bytes)
    _write(folder / "fingerprint.json", print_.model_dump(mode="json"))
    _write(folder / "plan.json", plan.model_dump(mode="json"))
    _write(folder / "splits_final.json", splits)
    _write(folder / "groups.json", {case.name: case.group for case in dataset.cases})
    return plan


def _write(file: Path, value: Any) -> None:
    """Write JSON, unless that is what the file holds."""
    with suppress(UserError):
        if read_json(file) == value:
            return
    write_json(file, value)


def _kept_fingerprint(dataset: Dataset, file: Path, modality: str | None) -> Fingerprint | None:
    if not file.is_file():
        return None
    try:
        kept = Fingerprint.model_validate(read_json(file))
    except (UserError, ValueError):
        return None
    wanted = modality or dataset.modality
    evidence = kept.modality_evidence
    # a modality that was given once holds no longer when none, or another one, is given now
    same = evidence.startswith(f"given as '{wanted}'") if wanted else not evidence.startswith("given as ")
    if kept.inputs != inputs_digest(dataset) or not same:
        return None
    log.info("%s: the files have not changed, the fingerprint is kept", dataset.name)
    return kept


def _splits(dataset: Dataset) -> list[Split]:
    """Splits beside the raw data are honoured, when they fit the cases; else they are made from names and groups."""
    names = [case.name for case in dataset.cases]
    raw = dataset.folder / "splits_final.json"
    if raw.is_file():
        return load_splits(raw, names)
    if len({case.group for case in dataset.cases}) < 2:
        log.warning("%s: all cases are one group, so there is one fold, validated on what it trains on", dataset.name)
        return [{"train": names, "val": names}]
    return make_splits(names, {case.name: case.group for case in dataset.cases})


def preprocess(dataset: Dataset, plan: Plan, folder: Path, workers: int | None = None) -> int:
    """Fill the store in `folder`; finished cases are skipped. Returns how many cases were done now.

    Raises UserError listing all cases that failed; the others are done.
    """
    cases = make_folder(folder / "cases")
    _remove_strangers(cases, {case.name for case in dataset.cases})
    inputs = {case.name: digest([identity(path) for path in (*case.images, case.label)]) for case in dataset.cases}
    todo = [case for case in dataset.cases if not is_complete(cases, case.name, inputs[case.name], plan)]
    each_case(lambda case: _prepare(case, dataset, plan, cases, inputs[case.name]), todo, "preprocess", workers)
    return len(todo)


def _prepare(case: Case, dataset: Dataset, plan: Plan, folder: Path, inputs: str) -> None:
    image, label = check_case(case, dataset)
    preparation = Preparation(plan)
    slices, back = preparation.image(image)
    mask = preparation.labels(label.array[0], back)
    save_case(folder, case.name, slices, mask, label.array[0], back, inputs, plan)


def _remove_strangers(folder: Path, names: set[str]) -> None:
    """Cases that are no longer in the dataset must not be trained on."""
    for file in folder.glob("*.json"):
        if file.stem not in names and not file.name.startswith("."):
            remove_case(folder, file.stem)
