"""A teacher's embedding as what a student is to match, kept on disk between rounds of the same batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from delightsam_pipeline.inference.device import Device
from delightsam_pipeline.inference.model_folder import save_weights
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.training.augmentation import transforms
from delightsam_pipeline.training.loading import Source, make_batch
from delightsam_pipeline.training.step import Whole, on_device, same

CHANNELS, STRIDE = 256, 16  # of the embedding
_CHECKED = 8  # batches per head by which features are compared


class FeatureCache:
    """Embeddings [B, 256, H/16, W/16] of batches by their number, as float16 in `folder`/`key`; other keys go."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / key
        for file in folder.glob("*/*.safetensors"):
            if file.parent != self.folder:
                file.unlink()

    def get(self, number: int) -> Tensor | None:
        """The embedding, float16 on the CPU; None when it is not there or damaged."""
        try:
            return load_file(self._file(number))["embedding"]
        except (OSError, SafetensorError, KeyError):
            return None

    def put(self, number: int, embedding: Tensor) -> None:
        """Keep an embedding, float16."""
        save_weights(self._file(number), {"embedding": embedding.half()})

    def _file(self, number: int) -> Path:
        return self.folder / f"{number}.safetensors"


def batches_within(limit: float, plans: Mapping[str, Plan]) -> int:
    """How many batches' embeddings fit into `limit` bytes, in whole rounds of the heads; 0 when not even one does."""
    largest = max(
        plan.training.batch_size * CHANNELS * plan.patch_size[0] * plan.patch_size[1] // STRIDE**2 * 2
        for plan in plans.values()
    )
    return int(limit // largest) // len(plans) * len(plans)


@dataclass(frozen=True)
class Imitation:
    """The objective of distillation (De-LightSAM, MDKD): mean squared error of the embedding to the teacher's."""

    teacher: DeLightSAM
    cache: FeatureCache | None = None

    def __call__(
        self, student: DeLightSAM, batch: dict[str, Any], plan: Plan, device: Device, whole: Whole = same
    ) -> tuple[Tensor, dict[str, Tensor]]:
        embedding, wanted = self.both(student, batch, device)
        squares = F.mse_loss(embedding, wanted, reduction="sum")
        total, count = whole(torch.stack([squares, squares.new_full((), wanted.numel())]))
        error = total / count
        return error, {"feature_error": error}

    def both(self, student: DeLightSAM, batch: dict[str, Any], device: Device) -> tuple[Tensor, Tensor]:
        """The student's embedding of a batch and the teacher's, float32."""
        images = on_device(batch, device)
        wanted = self._wanted(images, batch, device)
        with device.autocast():
            embedding = student.encode(images, batch["head"])[0]
        return embedding.float(), wanted

    @torch.no_grad()
    def _wanted(self, images: Tensor, batch: dict[str, Any], device: Device) -> Tensor:
        """The teacher's embedding of a batch in the precision that the cache keeps, from there if it is there."""
        kept = self.cache.get(batch["number"]) if self.cache is not None else None
        if kept is None:
            with device.autocast():
                kept = self.teacher.encode(images, batch["head"])[0].half()
            if self.cache is not None:
                self.cache.put(batch["number"], kept)
        return kept.to(device.torch).float()


@torch.no_grad()
def feature_error(
    student: DeLightSAM, teacher: DeLightSAM, sources: Mapping[str, Source], seed: int, device: Device
) -> dict[str, dict[str, float]]:
    """Per head, on a few batches drawn as in training: the mean squared error of the student's embedding, and what
    share that is of the variance of the teacher's. Both networks in evaluation mode."""
    errors = {}
    for head, source in sources.items():
        own, error, variance = {head: source}, 0.0, 0.0
        pipelines = {head: transforms(source.plan)}
        for number in range(_CHECKED):
            batch = make_batch(own, pipelines, seed, number)
            embedding, wanted = Imitation(teacher).both(student, batch, device)
            error += float(F.mse_loss(embedding, wanted)) / _CHECKED
            variance += float(wanted.var()) / _CHECKED
        errors[head] = {"error": error, "share_of_variance": error / variance}
    return errors
