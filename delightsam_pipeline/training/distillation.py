"""Distillation in stages (De-LightSAM, MDKD): a teacher learns the task, and controllers learn its features.

1. teacher: SAM's encoder is adapted to all modalities by the segmentation objective, or a wider network of our own
   is trained by it. 2. body: where no pretrained weights give the shared encoder, it is trained by the segmentation
   objective under the teacher's decoder, so that both speak of the same features. 3. controllers: each modality's
   controller alone is trained to match the teacher's embedding. 4. refinement: the student, which has the teacher's
   decoder, prompt generator and heads, is trained as a whole.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from delightsam_pipeline.files import digest, read_json, write_json
from delightsam_pipeline.inference.device import Device
from delightsam_pipeline.inference.model_folder import head_spec, sha256
from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec
from delightsam_pipeline.model.pretrained import load_pretrained
from delightsam_pipeline.model.teacher import OWN, hand_over, make_teacher, taught_parts
from delightsam_pipeline.preprocessing.store import Store
from delightsam_pipeline.training.features import FeatureCache, Imitation, batches_within, feature_error
from delightsam_pipeline.training.loading import Source
from delightsam_pipeline.training.loop import STAGES, is_finished, train
from delightsam_pipeline.training.setup import Options, Run, Stage, start

log = logging.getLogger(__name__)
# of the whole length of a training, teacher included; what is left out leaves its part to the others
SHARES = {"teacher": 0.4, "body": 0.3, "controllers": 0.1, "refinement": 0.2}


@dataclass(frozen=True)
class Teaching:
    """teacher : a file of SAM's weights, or "wide". refine : train the whole student at the end. cache_bytes : how
    much of the teacher's features may lie on disk."""

    teacher: str
    refine: bool = True
    cache_bytes: float = 2e9


@dataclass(frozen=True)
class Distillation:
    """A training by distillation into `folder`; see `run`."""

    stores: Mapping[str, Store]
    folder: Path
    options: Options
    device: Device
    teaching: Teaching
    stop: Callable[[], bool] = lambda: False

    def run(self) -> bool:
        """All stages, each of which goes on where it was. False when `stop` asked to end before the end.

        Beside what `train` writes: stages/NAME of each stage, and stages/distillation.json with the errors of
        held-out features before and after. Raises UserError as `start`, `train` and `make_teacher` do.
        """
        teacher = self._train("teacher", self._start("teacher", self._teacher()))
        if teacher is None:
            return False
        student = self._student(teacher)
        if "body" in self._shares():
            for part in taught_parts(student):
                part.requires_grad_(False)
            student = self._train("body", self._start("body", Stage(student, tag="body", whole=False)))
        if student is not None:
            student = self._distil(student, teacher)
        if student is None:
            return False
        provenance = {"teacher": self.teaching.teacher, "pretrained": _text(self.options.pretrained)}
        stage = Stage(student.requires_grad_(True), tag="refinement", provenance=provenance)
        return self._train("refinement", self._start("refinement", stage)) is not None

    def _shares(self) -> dict[str, float]:
        """Share of the whole length of each stage that takes place."""
        left_out = {"body": self.options.pretrained is not None, "refinement": not self.teaching.refine}
        shares = {name: share for name, share in SHARES.items() if not left_out.get(name)}
        return {name: share / sum(shares.values()) for name, share in shares.items()}

    def _start(self, name: str, stage: Stage) -> Run:
        """The run of a stage; a refinement that is left out is one of no steps, which writes the model."""
        share = self._shares().get(name, 0.0)
        plan = next(iter(self.stores.values())).plan
        epochs = plan.training.epochs if self.options.epochs is None else self.options.epochs
        seconds = share * self.options.seconds if share and self.options.seconds is not None else None
        epochs = max(1, round(share * epochs)) if share else 0
        options = replace(self.options, epochs=epochs, seconds=seconds, pretrained=None)
        folder = self.folder if stage.whole else self.folder / STAGES / name
        return start(self.stores, folder, options, self.device, stage)

    def _train(self, name: str, run: Run) -> DeLightSAM | None:
        """The network of a stage, trained to its end, in evaluation mode; None when stopped before."""
        done = not run.whole and is_finished(run)
        log.info("stage %s (of %s)%s", name, ", ".join(self._shares()), ": done before" if done else "")
        return run.averaged_model() if done or train(run, self.stop) else None

    def _specs(self) -> dict[str, HeadSpec]:
        return {name: head_spec(store.plan) for name, store in self.stores.items()}

    def _teacher(self) -> Stage:
        torch.manual_seed(self.options.seed)
        source = self.teaching.teacher
        teacher = make_teacher(source, self._specs())
        return Stage(teacher, tag=f"teacher {source if source == OWN else sha256(Path(source))}", whole=False)

    def _student(self, teacher: DeLightSAM) -> DeLightSAM:
        """A new student with what the teacher hands over."""
        torch.manual_seed(self.options.seed)
        student = DeLightSAM(self._specs())
        if self.options.pretrained is not None:
            log.info("%s", load_pretrained(student, self.options.pretrained))
        hand_over(teacher, student)
        return student

    def _distil(self, student: DeLightSAM, teacher: DeLightSAM) -> DeLightSAM | None:
        """The student with controllers that match the teacher's embedding; None when stopped before."""
        student.requires_grad_(False)
        student.controllers.requires_grad_(True)
        plans = {name: store.plan for name, store in self.stores.items()}
        period = batches_within(self.teaching.cache_bytes, plans)
        weights = sha256(self.folder / STAGES / "teacher" / "model.safetensors")
        key = digest([weights, self.options.seed, {name: plan.model_dump(mode="json") for name, plan in plans.items()}])
        features = self.folder / STAGES / "features"
        imitation = Imitation(teacher, FeatureCache(features, key) if period else None)
        run = self._start("controllers", Stage(student, {}, f"controllers {key}", imitation, False, period or None))
        file = self.folder / STAGES / "distillation.json"
        held_out = {name: Source.of_cases(plan, run.held_out[name]) for name, plan in plans.items()}
        record = read_json(file) if run.progress.step and file.is_file() else {}
        if "before" not in record:
            record["before"] = self._error(run.averaged_model(), teacher, held_out)
            write_json(file, record)
        trained = self._train("controllers", run)
        if trained is not None and "after" not in record:
            record["after"] = self._error(trained, teacher, held_out)
            write_json(file, record)
            shutil.rmtree(features, ignore_errors=True)
        return trained

    def _error(self, student: DeLightSAM, teacher: DeLightSAM, held_out: Mapping[str, Source]) -> dict[str, Any]:
        """The error of held-out features, in numbers and in the log."""
        errors = feature_error(student, teacher, held_out, self.options.seed, self.device)
        for head, values in errors.items():
            log.info("%s, held-out feature error %.4f, %.0f %% of the variance", head, *_shown(values))
        return errors


def _shown(values: Mapping[str, float]) -> tuple[float, float]:
    return values["error"], 100 * values["share_of_variance"]


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
