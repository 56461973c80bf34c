"""Which trained models a command means."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.paths import means, results_root

log = logging.getLogger(__name__)


def find_models(
    model: Path | None, dataset: str | None, folds: Sequence[str] | None, choose: str = "choose one with -d or -m"
) -> list[Path]:
    """The folder of the model given by -m, or the one trained on `dataset`, or the only one there is; per fold.

    Without `folds` one is taken: `all`, else the lowest. Raises UserError that lists what there is (`choose` says how
    the command takes one), and for folds that cannot be combined.
    """
    _check_choice(folds or ())
    if model is not None:
        if dataset is not None:
            raise UserError("-m and -d exclude each other", fix="give one of them")
        return _given(model, folds)
    found = sorted(file.parent for file in results_root().glob("*/fold_*/model.json"))
    if not found:
        problem = "there is no trained model" + (f", so none called '{dataset}'" if dataset else "")
        raise UserError(problem, file=results_root(), fix="train one with dlsam_train, or give its folder")
    trained = sorted({f.parent for f in found})
    wanted = trained if dataset is None else trained_on(dataset, trained)
    chosen = [f for f in found if f.parent in wanted]
    names = sorted({f.parent.name for f in chosen})
    if len(names) != 1:
        problem = "several models have been trained" if names else f"no model has been trained on '{dataset}'"
        listed = ", ".join(sorted({f.parent.name for f in (chosen or found)}))
        raise UserError(problem, file=results_root(), found=listed, fix=choose)
    return _of_folds(chosen, folds)


def _check_choice(folds: Sequence[str]) -> None:
    doubled = sorted({fold for fold in folds if folds.count(fold) > 1})
    if doubled:
        raise UserError("a fold is named twice", found=", ".join(doubled), fix="name each fold once")
    if "all" in folds and len(folds) > 1:
        fix = "give -f all, or numbered folds only"
        raise UserError("fold all has seen every case, and is not combined with others", found=" ".join(folds), fix=fix)


def _given(model: Path, folds: Sequence[str] | None) -> list[Path]:
    if (model / "model.json").is_file():
        if folds is not None:
            raise UserError("-f does not go with a fold's own folder", file=model, fix="leave out -f")
        return [model]
    folders = [file.parent for file in model.glob("fold_*/model.json")]
    if not folders:
        raise UserError("is not a model folder (no model.json)", file=model, fix="give the folder dlsam_train wrote")
    return _of_folds(folders, folds)


def _of_folds(folders: list[Path], folds: Sequence[str] | None) -> list[Path]:
    in_order = sorted(folders, key=lambda f: (len(f.name), f.name))  # 2 before 10, all last
    by_name = {f.name.removeprefix("fold_"): f for f in in_order}
    if folds is not None:
        missing = next((fold for fold in folds if fold not in by_name), None)
        if missing is not None:
            raise UserError(f"fold {missing} has not been trained", file=folders[0].parent, found=", ".join(by_name))
        return [by_name[fold] for fold in folds]
    chosen = by_name.get("all", in_order[0])
    if len(by_name) > 1:
        log.info("of the folds %s, %s is used; choose another, or several, with -f", ", ".join(by_name), chosen.name)
    return [chosen]


def trained_on(dataset: str, folders: list[Path]) -> list[Path]:
    """The results folders that `dataset` means, several datasets joined with + part by part; else in any order."""
    wanted = dataset.split("+")
    parts = {f: f.name.split("+") for f in folders if f.name.count("+") == dataset.count("+")}
    in_order = [f for f, names in parts.items() if all(map(means, wanted, names))]
    return in_order or [f for f, names in parts.items() if all(any(means(w, n) for w in wanted) for n in names)]
