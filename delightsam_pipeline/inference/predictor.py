"""A trained model, ready to predict: images in, labels on their own grids out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from delightsam_pipeline.data.formats import read_case, write_labels
from delightsam_pipeline.data.image import Image
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.evaluation.postprocessing import Postprocessing, postprocess, voxel_size
from delightsam_pipeline.inference.device import Device, choose_device
from delightsam_pipeline.inference.ensemble import Ensemble, inference_form, load_networks
from delightsam_pipeline.inference.model_folder import joined_postprocessing
from delightsam_pipeline.inference.segment import segment
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.paths import means
from delightsam_pipeline.plans.modalities import lookup
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.preprocessing.preparation import Preparation, WayBack


@dataclass(frozen=True)
class Predictor:
    """A model, or several folds' as one, with the plans of its heads on a device.

    It predicts through the inference form of the model as it is when a modality is first asked for.
    postprocessing : per head, what is done to its label maps; heads that are not there are left as they are.
    """

    model: DeLightSAM | Ensemble
    plans: dict[str, Plan]
    device: Device
    batch_size: int = 8
    postprocessing: Mapping[str, Postprocessing] = field(default_factory=dict)
    _forms: dict[str, nn.Module] = field(default_factory=dict, init=False, repr=False, compare=False)

    @staticmethod
    def load(
        folder: str | Path | Sequence[str | Path],
        device: str = "auto",
        checkpoint: str = "model",
        batch_size: int = 8,
        postprocessing: bool = True,
    ) -> Predictor:
        """Load a model folder, or several whose mask logits are to be averaged; nothing else is needed.

        postprocessing : whether what was chosen for the model, if anything, is applied.
        Raises UserError when one is incomplete or damaged, or several do not fit each other.
        """
        folders = [folder] if isinstance(folder, str | Path) else folder
        folders = [Path(f) for f in folders]
        model, plans = load_networks(folders, checkpoint)
        chosen_rules = joined_postprocessing(folders, plans) if postprocessing else {}
        chosen = choose_device(device)
        model = model.to(chosen.torch, memory_format=torch.channels_last)
        return Predictor(model, plans, chosen, batch_size, chosen_rules)

    def head(self, wanted: str | None = None) -> str:
        """The head called `wanted` (its name, or its modality by any name), or the only one.

        Raises UserError listing them.
        """
        if wanted is None and len(self.plans) == 1:
            return next(iter(self.plans))
        known = lookup(wanted) if wanted else None
        modality = known.name if known else wanted
        names = [name for name, plan in self.plans.items() if wanted == name or modality == plan.modality]
        names = names or [name for name in self.plans if wanted is not None and means(wanted, name)]
        if len(names) == 1:
            return names[0]
        listed = ", ".join(f"{name} ({plan.modality})" for name, plan in self.plans.items())
        problem = f"no single head is called '{wanted}'" if wanted else "this model has several heads"
        raise UserError(problem, found=listed, fix="choose one with --head")

    def predict(self, image: Image, head: str | None = None) -> np.ndarray:
        """Labels [z, y, x] on the image's grid, after post-processing."""
        name = self.head(head)
        slices, back = Preparation(self.plans[name]).image(image)
        labels, chosen = self.segment(name, slices, back), self.postprocessing.get(name)
        if chosen is None or not chosen.rules:
            return labels
        return postprocess(labels, chosen.rules, self.plans[name].targets, voxel_size(chosen.unit, image.grid))

    def segment(self, head: str, slices: np.ndarray, back: WayBack) -> np.ndarray:
        """Scaled slices [Z, C, h, w] of a case -> labels [z, y, x] on its own grid, as the network gives them."""
        return segment(self._form(head), head, self.plans[head], slices, back, self.device, self.batch_size)

    def _form(self, head: str) -> nn.Module:
        """What predicts the heads of this head's modality, made once."""
        modality = self.plans[head].modality
        if modality not in self._forms:
            self._forms[modality] = inference_form(self.model, head)
        return self._forms[modality]

    def predict_files(self, files: tuple[Path, ...], output: Path, head: str | None = None) -> tuple[Image, np.ndarray]:
        """Read a case (one file per channel), segment it and write its labels; returns image and labels."""
        image = read_case(files)
        labels = self.predict(image, head)
        write_labels(output, labels, image)
        return image, labels
