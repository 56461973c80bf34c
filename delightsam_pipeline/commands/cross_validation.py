"""The validations of the folds trained on a dataset, put together, and the post-processing chosen on their cases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delightsam_pipeline.commands.common import log
from delightsam_pipeline.commands.models import trained_on
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import read_json, write_json
from delightsam_pipeline.locks import only_one
from delightsam_pipeline.paths import preprocessed_root, results_root

_FOLDS = 5
FOLDER = "cross_validation"


def cross_validate(dataset: str, postprocessing: bool = True, device: str = "auto") -> None:
    """Write and print the scores over all finished folds of the model trained on `dataset`, per head.

    dataset : an id or name, several joined with + for one model over them, or the folder that holds the folds.
    postprocessing : whether it is chosen too, which needs label maps of the held-out cases, predicted on `device`.
    Raises UserError when there is no such model or none of its folds is finished.
    """
    from delightsam_pipeline.evaluation.cross_validation import fold_summaries, folds_line, merge_folds
    from delightsam_pipeline.evaluation.tables import table, write_scores

    folder = _trained(dataset)
    heads, left_out = fold_summaries(folder)
    for fold in left_out:
        log.info("%s is left out: it was validated on the cases it was trained on", fold)
    if not heads:
        fix = "finish dlsam_train with a fold from 0 on"
        raise UserError("no fold has been validated on cases it was not trained on", file=folder, fix=fix)
    every = {file.stem for file in folder.glob("fold_*/plans/*.json")} | set(heads)
    for head in sorted(every - set(heads)):
        log.info("%s is left out: it was not validated here (its head comes from the model that was added to)", head)
    merged = {head: merge_folds(folds, _expected(head)) for head, folds in heads.items()}
    for head, summary in merged.items():
        target = folder / FOLDER / head
        write_json(target / "summary.json", summary)
        write_scores(target / "scores.csv", summary)
        log.info("%s, cross-validation\n%s\n%s", head, folds_line(summary), table(summary))
        log.info("scores of every case in %s", target)
        if postprocessing:
            _postprocess(folder, head, heads[head], device)


def _trained(dataset: str) -> Path:
    """The results folder of the model; for several datasets the one that names them in this order, else in any."""
    if Path(dataset).is_dir() and any(Path(dataset).glob("fold_*")):
        return Path(dataset)
    root = results_root()
    trained = sorted({file.parents[1] for file in root.glob("*/fold_*/model.json")})
    found = trained_on(dataset, trained)
    if len(found) != 1:
        problem = f"'{dataset}' means several models" if found else f"no model has been trained on '{dataset}'"
        listed = ", ".join(f.name for f in found or trained) or "none"
        raise UserError(problem, file=root, found=listed, fix="give the name of one of them, or train one")
    return found[0]


def _expected(head: str) -> int:
    """How many folds there are to train: fewer than five for very few groups."""
    file = preprocessed_root() / head / "splits_final.json"
    splits = read_json(file) if file.is_file() else None
    return len(splits) if isinstance(splits, list) else _FOLDS


def _postprocess(folder: Path, head: str, folds: Mapping[int, dict[str, Any]], device: str) -> None:
    """Choose post-processing for a head, print and keep it; what stands in the way is told, the scores being written.

    It goes to the validated folds, and to others of the same plan, `all` among them; the rest are named.
    """
    from delightsam_pipeline.evaluation.tables import postprocessing_table
    from delightsam_pipeline.inference.model_folder import save_postprocessing
    from delightsam_pipeline.plans.plan import load_plan

    stored = preprocessed_root() / head
    try:
        with only_one(stored, "dlsam_evaluate, which reads it", shared=True):
            chosen = _chosen(folder, stored, folds, device)
    except UserError as error:
        log.warning("%s: no post-processing is chosen: %s", head, error)
        return
    if chosen is None:
        log.info("%s: no post-processing is chosen, since the held-out cases are all one group", head)
        return
    write_json(folder / FOLDER / head / "postprocessing.json", chosen.model_dump(mode="json"))
    digest = load_plan(stored / "plan.json").preprocessing_digest()
    for plan in sorted(folder.glob(f"fold_*/plans/{head}.json")):
        if load_plan(plan).preprocessing_digest() == digest:
            save_postprocessing(plan.parents[1], {head: chosen})
        else:
            log.warning("%s does not get it: it was trained by another plan of %s", plan.parents[1].name, head)
    log.info("%s", postprocessing_table(chosen))


def _chosen(folder: Path, stored: Path, folds: Mapping[int, dict[str, Any]], device: str) -> Any:
    """The Postprocessing of a head, from the cases that its folds' summaries name."""
    from delightsam_pipeline.inference.choosing import choose_postprocessing
    from delightsam_pipeline.plans.plan import load_plan
    from delightsam_pipeline.preprocessing.store import Store

    store, head = Store.load(stored), stored.name
    held_out = {}
    for fold, summary in folds.items():
        plan = folder / f"fold_{fold}" / "plans" / f"{head}.json"
        names = [row["name"] for row in summary["metric_per_case"]]
        same = load_plan(plan).preprocessing_digest() == store.plan.preprocessing_digest()
        if not same or not store.cases.keys() >= set(names):
            fix = "train the fold again, or preprocess as it was then"
            raise UserError(f"fold {fold} was trained on other data or by another plan", file=stored, fix=fix)
        held_out[fold] = [store.cases[name] for name in names]
    return choose_postprocessing(folder, head, store.plan, held_out, device)
