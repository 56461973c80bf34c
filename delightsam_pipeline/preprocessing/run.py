"""Planning and preprocessing one raw dataset: fingerprint, plan, splits and store, each skipped when it stands."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from textwrap import indent
from typing import Any

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.checks import check_case
from delightsam_pipeline.data.dataset import Dataset
from delightsam_pipeline.data.parallel import each_case
from delightsam_pipeline.data.splits import Split, load_splits, make_splits
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import make_folder, read_json, remove_leftovers, write_json
from delightsam_pipeline.paths import splits_files
from delightsam_pipeline.plans.draft import shown
from delightsam_pipeline.plans.findings import Finding, counted, table
from delightsam_pipeline.plans.finetuning import Pretrained
from delightsam_pipeline.plans.fingerprint import as_nnunet, fingerprint
from delightsam_pipeline.plans.look_files import reading_key
from delightsam_pipeline.plans.overrides import check_overrides
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.plans.planner import make_plan
from delightsam_pipeline.preprocessing.preparation import Preparation
from delightsam_pipeline.preprocessing.store import is_complete, remove_case, save_case

log = logging.getLogger(__name__)


def plan_dataset(
    dataset: Dataset,
    folder: Path,
    modality: str | None = None,
    memory_bytes: float = 8e9,
    workers: int | None = None,
    *,
    max_size: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    plans_from: Pretrained | None = None,
) -> Plan:
    """Fingerprint and plan a dataset into `folder`; only cases whose files have changed are read again.

    memory_bytes, max_size, overrides, plans_from : see `make_plan`; all that is said counts for this plan alone.
    Raises one UserError with a table of all that is wrong with the data (bad cases, a modality that is not clear), or
    for bad splits beside them; then no plan is written. What is only strange is told.
    """
    overrides = check_overrides(overrides or {})
    modality = _one_modality(modality, overrides)
    make_folder(folder.parent)
    splits = _splits(dataset)
    print_ = fingerprint(dataset, folder, modality, workers, splits)
    _tell(print_.findings, dataset)
    for note, count in print_.notes.items():
        log.info("%s: %d of %d masks: %s", dataset.name, count, len(dataset.cases), note)
    plan = make_plan(
        print_,
        dataset.labels,
        dataset.file_ending,
        memory_bytes,
        max_size=max_size,
        overrides=overrides,
        plans_from=plans_from,
    )
    _tell_dropped(folder / "plan.json", plan)
    _write(folder / "fingerprint.json", print_.model_dump(mode="json"))
    _write(folder / "dataset_fingerprint.json", as_nnunet(print_))
    _write(folder / "plan.json", plan.model_dump(mode="json"))
    _write(folder / "splits_final.json", splits)
    _write(folder / "groups.json", {case.name: case.group for case in dataset.cases})
    _write(folder / "annotated.json", _annotated_classes(dataset))
    return plan


def _tell(findings: Sequence[Finding], dataset: Dataset) -> None:
    """Log what was found, or raise it when there is an error among it."""
    told = table(findings, dataset.folder)
    errors = [finding for finding in findings if finding.level == "error"]
    if len(errors) == len(findings) == 1:
        raise UserError(errors[0].problem, file=errors[0].file or None, fix=errors[0].fix or None)
    if errors:
        error = UserError(f"{counted(findings)} in {dataset.folder}")
        error.args = (f"{error}:\n{indent(told, '  ')}",)
        raise error
    if findings:
        log.warning("%s: %s\n%s", dataset.name, counted(findings), indent(told, "  "))


def _one_modality(modality: str | None, overrides: Mapping[str, Any]) -> str | None:
    given = overrides.get("modality", modality)
    if modality not in (None, given):
        raise UserError(f"the modality is given as '{modality}' and set as '{given}'", fix="give it once")
    return given


def _tell_dropped(file: Path, plan: Plan) -> None:
    """Warn of what the plan that stands there was told and this one is not."""
    with suppress(UserError, AttributeError):
        before = read_json(file) if file.is_file() else {}
        told = before.get("overrides", {})
        dropped = [f"{name}={shown(value)}" for name, value in told.items() if name not in plan.overrides]
        if before.get("plans_from") and plan.plans_from is None:
            dropped.append(f"the scale of {before['plans_from']}")
        if dropped:
            text = "%s: the plan before had %s; not said again, that is for the rules now"
            log.warning(text, plan.dataset, ", ".join(dropped))


def _annotated_classes(dataset: Dataset) -> dict[str, list[str]]:
    """Case -> classes annotated in it, of the cases where not all are."""
    partial = [case for case in dataset.cases if case.not_annotated]
    return {case.name: [c for c in dataset.labels.classes if c not in case.not_annotated] for case in partial}


def _write(file: Path, value: Any) -> None:
    """Write JSON, unless that is what the file holds."""
    with suppress(UserError):
        if read_json(file) == value:
            return
    write_json(file, value)


def _splits(dataset: Dataset) -> list[Split]:
    """Splits that are given are honoured, when they fit the cases; else they are made from names and groups.

    Those that nnU-Net keeps may part what the entry `group` holds together, and are then passed over.
    """
    names = [case.name for case in dataset.cases]
    for file in filter(Path.is_file, splits_files(dataset.folder)):
        if file.parent == dataset.folder or all(case.group == case.name for case in dataset.cases):
            log.info("%s: the folds are those of %s", dataset.name, file)
            return load_splits(file, names)
        log.info("%s: %s is not used, since dataset.json has groups", dataset.name, file)
    if len({case.group for case in dataset.cases}) < 2:
        log.warning("%s: all cases are one group, so there is one fold, validated on what it trains on", dataset.name)
        return [{"train": names, "val": names}]
    return make_splits(names, {case.name: case.group for case in dataset.cases})


def preprocess(dataset: Dataset, plan: Plan, folder: Path, workers: int | None = None) -> int:
    """Fill the store in `folder`; finished cases are skipped. Returns how many cases were done now.

    Raises UserError listing all cases that failed; the others are done.
    """
    cases = make_folder(folder / "cases")
    remove_leftovers(cases)
    _remove_strangers(cases, {case.name for case in dataset.cases})
    inputs = {case.name: reading_key(case, dataset) for case in dataset.cases}
    todo = [case for case in dataset.cases if not is_complete(cases, case.name, inputs[case.name], plan)]
    alone = replace(dataset, cases=())  # every case is pickled apart
    work = functools.partial(_prepare, dataset=alone, plan=plan, folder=cases, inputs=inputs)
    each_case(work, todo, "preprocess", workers)
    return len(todo)


def _prepare(case: Case, dataset: Dataset, plan: Plan, folder: Path, inputs: dict[str, str]) -> None:
    image, label = check_case(case, dataset)
    preparation = Preparation(plan)
    slices, back = preparation.image(image)
    mask = preparation.labels(label.array[0], back)
    save_case(folder, case.name, slices, mask, label.array[0], back, inputs[case.name], plan)


def _remove_strangers(folder: Path, names: set[str]) -> None:
    """Cases that are no longer in the dataset must not be trained on."""
    for ending in (".json", ".slices.npy"):  # a killed run leaves arrays without the rest
        for file in folder.glob(f"[!.]*{ending}"):
            if file.name.removesuffix(ending) not in names:
                remove_case(folder, file.name.removesuffix(ending))
