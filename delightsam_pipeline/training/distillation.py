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
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.evaluation.summary import TRAINED_ON
from delightsam_pipeline.files import digest, read_json, write_json, write_text
from delightsam_pipeline.inference.device import Device
from delightsam_pipeline.inference.model_folder import head_spec, sha256
from delightsam_pipeline.model.checkpoints import fingerprint
from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec
from delightsam_pipeline.model.pretrained import load_pretrained, weights_file
from delightsam_pipeline.model.teacher import OWN, hand_over, make_teacher, taught_parts
from delightsam_pipeline.preprocessing.store import Store
from delightsam_pipeline.training.features import FeatureCache, Imitation, batches_within, feature_error
from delightsam_pipeline.training.folder import STAGES, remove_weights, require_free
from delightsam_pipeline.training.loading import Source
from delightsam_pipeline.training.loop import train
from delightsam_pipeline.training.setup import Options, Run, Stage, start

log = logging.getLogger(__name__)
RECORD, DONE = "distillation.json", "done"  # in the folder of the stages, and in that of each
# of the whole length of a training, teacher included; what is left out leaves its part to the others
SHARES = {"teacher": 0.4, "body": 0.3, "controllers": 0.1, "refinement": 0.2}


@dataclass(frozen=True)
class Teaching:
    """teacher : a file of SAM's weights, or "wide". refine : train the whole student at the end. cache_bytes : how
    much of the teacher's features may lie on disk."""

    teacher: str
    refine: bool = True
    cache_bytes: float = 2e9


@dataclass
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
        held-out features before and after. Raises UserError as `start`, `train` and `make_teacher` do; what stands
        in the folder and does not belong here is refused before the first step.
        """
        # of settings alone: a state to go on from holds all weights, so the stages may be gone
        tag = f"refinement {self._teacher_hash} {self._pretrained_hash()}"
        if self.options.restart:
            require_free(self.folder, restart=True)
            remove_weights(self.folder)
            shutil.rmtree(self.folder / STAGES, ignore_errors=True)
        student, has_body = self._new_student()
        if not (self.folder / "last.pt").is_file():
            require_free(self.folder, restart=False)
            student = self._stages(student, has_body)
        if student is None:
            return False
        given = {"teacher": self._teacher_name(), "pretrained": _text(self.options.pretrained)}
        final = Stage(student.requires_grad_(True), tag=tag, provenance=given)
        return self._train("refinement", self._start("refinement", final, has_body)) is not None

    def _stages(self, student: DeLightSAM, has_body: bool) -> DeLightSAM | None:
        """The student after all stages but the last; None when stopped before."""
        torch.manual_seed(self.options.seed)
        teacher = make_teacher(self.teaching.teacher, self._specs())
        stage = Stage(teacher, tag=f"teacher {self._teacher_hash}", whole=False)
        teacher = self._train("teacher", self._start("teacher", stage, has_body))
        if teacher is None:
            return None
        hand_over(teacher, student)
        if not has_body:
            for part in taught_parts(student):
                part.requires_grad_(False)
            stage = Stage(student, tag=f"body {fingerprint(student.state_dict())}", whole=False)
            student = self._train("body", self._start("body", stage, has_body))
        return None if student is None else self._distil(student, teacher, has_body)

    def _distil(self, student: DeLightSAM, teacher: DeLightSAM, has_body: bool) -> DeLightSAM | None:
        """The student with controllers that match the teacher's embedding; None when stopped before."""
        student.requires_grad_(False)
        student.controllers.requires_grad_(True)
        plans = {name: store.plan for name, store in self.stores.items()}
        period = batches_within(self.teaching.cache_bytes, plans)
        weights = [sha256(self.folder / STAGES / "teacher" / "model.safetensors"), fingerprint(student.state_dict())]
        key = digest([weights, self.options.seed, {name: plan.model_dump(mode="json") for name, plan in plans.items()}])
        features = self.folder / STAGES / "features"
        imitation = Imitation(teacher, FeatureCache(features, key) if period else None)
        stage = Stage(student, {}, f"controllers {key}", imitation, False, validates=False, period=period or None)
        run = self._start("controllers", stage, has_body)
        if "before" not in self._record():
            self._note("before", run, run.averaged_model(), teacher)
        trained = self._train("controllers", run)
        if trained is not None and "after" not in self._record():
            self._note("after", run, trained, teacher)
            shutil.rmtree(features, ignore_errors=True)
        return trained

    def _start(self, name: str, stage: Stage, has_body: bool) -> Run:
        """The run of a stage; a refinement that is left out is one of no steps, which writes the model."""
        left_out = {"body": has_body, "refinement": not self.teaching.refine}
        shares = {stage: share for stage, share in SHARES.items() if not left_out.get(stage)}
        share = shares.get(name, 0.0) / sum(shares.values())
        plan = next(iter(self.stores.values())).plan
        epochs = plan.training.epochs if self.options.epochs is None else self.options.epochs
        seconds = share * self.options.seconds if share and self.options.seconds is not None else None
        epochs = max(1, round(share * epochs)) if share else 0
        options = replace(self.options, epochs=epochs, seconds=seconds, pretrained=None, restart=False)
        log.info("stage %s (of %s)%s", name, ", ".join(shares), ": done before" if self._is_done(name) else "")
        return start(self.stores, self.folder if stage.whole else self._place(name), options, self.device, stage)

    def _train(self, name: str, run: Run) -> DeLightSAM | None:
        """The network of a stage, trained to its end, in evaluation mode; None when stopped before.

        A stage that was done stays as it is, though the length may have been changed: later ones began with it.
        """
        if not self._is_done(name):
            if not train(run, self.stop):
                return None
            if not run.stage.whole:
                write_text(self._place(name) / DONE, "")
        return run.averaged_model()

    def _place(self, name: str) -> Path:
        return self.folder / STAGES / name

    def _is_done(self, name: str) -> bool:
        return (self._place(name) / DONE).is_file()

    def _specs(self) -> dict[str, HeadSpec]:
        return {name: head_spec(store.plan) for name, store in self.stores.items()}

    def _new_student(self) -> tuple[DeLightSAM, bool]:
        """A student before any training, and whether pretrained weights gave it its encoder."""
        torch.manual_seed(self.options.seed)
        student = DeLightSAM(self._specs())
        if self.options.pretrained is None:
            return student, False
        report = load_pretrained(student, self.options.pretrained)
        log.info("%s", report)
        return student, any(group.what == "encoder" for group in report.taken)

    @cached_property
    def _teacher_hash(self) -> str:
        source = self.teaching.teacher
        if source != OWN and not Path(source).is_file():
            raise UserError("no such weights file", file=source, fix=f"give a file of SAM's weights, or {OWN}")
        return OWN if source == OWN else sha256(Path(source))

    def _teacher_name(self) -> str | dict[str, str]:
        source = self.teaching.teacher
        return OWN if source == OWN else {"file": source, "sha256": self._teacher_hash}

    def _pretrained_hash(self) -> str:
        return "none" if self.options.pretrained is None else sha256(weights_file(self.options.pretrained))

    def _record(self) -> dict[str, Any]:
        file = self.folder / STAGES / RECORD
        return read_json(file) if file.is_file() else {}

    def _note(self, when: str, run: Run, student: DeLightSAM, teacher: DeLightSAM) -> None:
        """Write the error of held-out features into the record, and into the log."""
        held_out = {head: Source.of_cases(run.plans[head], cases) for head, cases in run.held_out.items()}
        errors = feature_error(student, teacher, held_out, self.options.seed, self.device)
        trained_on = any(map(run.is_validated_on_training_cases, run.sources))
        which = "feature error" if trained_on else "held-out feature error"
        for head, values in errors.items():
            share = 100 * values["share_of_variance"]
            log.info("%s, %s %s %.4f, %.0f %% of the variance", head, which, when, values["error"], share)
        note = {"note": TRAINED_ON} if trained_on else {}
        write_json(self.folder / STAGES / RECORD, self._record() | note | {when: errors})


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
