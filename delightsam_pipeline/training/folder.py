"""The folder of a run: what may not be overwritten, what must go when a run begins, and what describes the model."""

from __future__ import annotations

import logging
import math
import shutil
import time
from datetime import date
from pathlib import Path

import torch

from delightsam_pipeline import __version__
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.inference.model_folder import describe_model
from delightsam_pipeline.locks import LOCK
from delightsam_pipeline.training.economy import economy
from delightsam_pipeline.training.setup import Run

log = logging.getLogger(__name__)
STOP = "stop"
_LOOK_EVERY_S = 1.0
STAGES = "stages"  # what comes before a model's own training lies in this folder of it


def require_free(folder: Path, restart: bool) -> None:
    """Raises UserError for a folder that holds other things than a run, and for a finished model without `restart`."""
    others = [file for file in folder.iterdir() if file.name not in (STAGES, LOCK)] if folder.is_dir() else []
    if others and not (folder / "model.json").is_file():
        raise UserError("holds other files and no model", file=folder, fix="choose a new folder with -o")
    if (folder / "model.safetensors").is_file() and not (folder / "last.pt").is_file() and not restart:
        fix = "use --restart to replace it, or choose another folder with -o"
        raise UserError("holds a model whose training cannot go on (no last.pt)", file=folder, fix=fix)


def remove_weights(folder: Path) -> None:
    """Weights and plans of an earlier run must not be taken for those of the one that begins."""
    old = [folder / name for name in ("model.safetensors", "best.safetensors", "last.pt", "progress.csv")]
    curves = [folder / "progress.png", *folder.glob("validation/*/progress.*"), *folder.glob("tensorboard/events.*")]
    for file in [*old, *curves, *folder.glob("plans/*.json")]:
        file.unlink(missing_ok=True)


def remove_scores(folder: Path) -> None:
    """The scores of weights that training goes on from are not those of the weights it will end with."""
    for name in ("summary.json", "scores.csv", "worst_cases.png"):
        for file in folder.glob(f"validation/*/{name}"):
            file.unlink(missing_ok=True)
    for labels in folder.glob("validation/*/labels"):
        shutil.rmtree(labels, ignore_errors=True)


class StopFile:
    """A file `stop` in a run's folder: whoever makes it asks the run to end, as Ctrl-C does.

    Within its `with` block a call says whether it is there, looking once a second. An old one is removed at the
    beginning, and the one that was obeyed at the end.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / STOP
        self.asked = False
        self._looked_at = -math.inf

    def __enter__(self) -> StopFile:
        if self.file.exists():
            log.info("%s is from before this run: removed", self.file)
            self.file.unlink(missing_ok=True)
        return self

    def __exit__(self, *_) -> None:
        if self.asked:
            self.file.unlink(missing_ok=True)

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self.asked and now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            self.asked = self.file.exists()
            if self.asked:
                log.warning("found %s: stopping", self.file)
        return self.asked


def describe(run: Run) -> None:
    """Write model.json and the plans."""
    provenance = {
        "package": f"delightsam-pipeline {__version__}",
        "torch": torch.__version__,
        "device": run.device.reason,
        "date": date.today().isoformat(),
        "fold": run.options.fold,
        "seed": run.options.seed,
        "pretrained": run.progress.pretrained,
        "training_cases": {head: [case.name for case in source.cases] for head, source in run.sources.items()},
        "intended_use": "research; not for clinical use",
    }
    if run.ranks.size > 1:
        provenance["processes"] = run.ranks.size
    if economy(run.model) is not None:
        provenance["memory"] = economy(run.model)
    describe_model(run.folder, run.model, run.plans, provenance | run.stage.provenance)
