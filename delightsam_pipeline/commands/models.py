"""Which trained model a command means."""

from __future__ import annotations

import logging
from pathlib import Path

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.paths import means, results_root

log = logging.getLogger(__name__)


def find_model(model: Path | None, dataset: str | None, fold: str | None) -> Path:
    """The folder of the model given by -m, or the one trained on `dataset`, or the only one there is.

    Among folds of one training `all` is preferred, then the lowest. Raises UserError that lists what there is.
    """
    if model is not None:
        if dataset is not None:
            raise UserError("-m and -d exclude each other", fix="give one of them")
        return _given(model, fold)
    found = sorted(file.parent for file in results_root().glob("*/fold_*/model.json"))
    if not found:
        fix = "train one with dlsam_train, or give its folder with -m"
        raise UserError("there is no trained model", file=results_root(), fix=fix)
    chosen = found if dataset is None else _trained_on(dataset, found)
    names = sorted({f.parent.name for f in chosen})
    if len(names) != 1:
        problem = "several models have been trained" if names else f"no model has been trained on '{dataset}'"
        listed = ", ".join(sorted({f.parent.name for f in (chosen or found)}))
        raise UserError(problem, file=results_root(), found=listed, fix="choose one with -d or -m")
    return _fold_of(chosen, fold)


def _given(model: Path, fold: str | None) -> Path:
    if (model / "model.json").is_file():
        if fold is not None:
            raise UserError("-f does not go with a fold's own folder", file=model, fix="leave out -f")
        return model
    folds = sorted(file.parent for file in model.glob("fold_*/model.json"))
    if not folds:
        raise UserError("is not a model folder (no model.json)", file=model, fix="give the folder dlsam_train wrote")
    return _fold_of(folds, fold)


def _fold_of(folders: list[Path], fold: str | None) -> Path:
    by_name = {f.name.removeprefix("fold_"): f for f in folders}
    if fold is not None:
        if fold not in by_name:
            raise UserError(f"fold {fold} has not been trained", file=folders[0].parent, found=", ".join(by_name))
        return by_name[fold]
    chosen = by_name.get("all") or by_name[min(by_name)]
    if len(by_name) > 1:
        log.info("of the folds %s, %s is used; choose another with -f", ", ".join(by_name), chosen.name)
    return chosen


def _trained_on(dataset: str, folders: list[Path]) -> list[Path]:
    """The folds in a results folder that `dataset` means, several joined with + part by part; else in any order."""
    wanted = dataset.split("+")
    parts = {f: f.parent.name.split("+") for f in folders if f.parent.name.count("+") == dataset.count("+")}
    in_order = [f for f, names in parts.items() if all(map(means, wanted, names))]
    return in_order or [f for f, names in parts.items() if all(any(means(w, n) for w in wanted) for n in names)]
