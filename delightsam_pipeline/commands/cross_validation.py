"""The validations of the folds trained on a dataset, put together."""

from __future__ import annotations

from pathlib import Path

from delightsam_pipeline.commands.common import log
from delightsam_pipeline.commands.models import trained_on
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import read_json, write_json
from delightsam_pipeline.paths import preprocessed_root, results_root

_FOLDS = 5


def cross_validate(dataset: str) -> None:
    """Write and print the scores over all finished folds of the model trained on `dataset`, per head.

    dataset : an id or name, several joined with + for one model over them, or the folder that holds the folds.
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
        file = folder / ("cross_validation.json" if len(every) == 1 else f"cross_validation_{head}.json")
        write_json(file, summary)
        write_scores(file.with_suffix(".csv"), summary)
        log.info("%s, cross-validation\n%s\n%s", head, folds_line(summary), table(summary))
        log.info("scores of every case in %s and the .csv beside it", file)


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
