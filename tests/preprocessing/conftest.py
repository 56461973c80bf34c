"""Plans with decisions of one's own, and raw datasets of tiny files."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest

from delightsam_pipeline.data.dataset import Dataset, load_dataset
from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.plans.plan import DECISIONS, Augmentation, Normalisation, Plan, Training

_LABELS = Labels.parse({"background": 0, "lesion": 1, "vessel": 2}, Path("dataset.json"))
_DEFAULTS = {
    "dataset": "Dataset001_Test",
    "modality": "MRI",
    "modality_id": 7,
    "channel_names": ["T1"],
    "labels": _LABELS.to_dict(),
    "file_ending": ".nii.gz",
    "physical": True,
    "slicing_axis": 0,
    "input": "neighbours",
    "scaling": "spacing",
    "spacing": (1.0, 1.0),
    "patch_size": (64, 64),
    "tile_overlap": 0.25,
    "normalisation": Normalisation(scheme="z-score"),
    "resampling": "linear",
    "augmentation": Augmentation(rotation_degrees=0, scale=(1, 1), flips=(True, True), colour=False),
    "training": Training(
        epochs=1,
        steps_per_epoch=1,
        batch_size=1,
        learning_rate=1e-3,
        weight_decay=0,
        warmup=0,
        foreground_share=0.5,
        patch_loss_weight=0.5,
    ),
    "reasons": dict.fromkeys(DECISIONS, "a test wants it"),
}


@pytest.fixture(scope="session")
def make_plan_for_tests():
    """A function that makes a valid plan with these changes."""
    return lambda **changes: Plan(**_DEFAULTS | changes)


@pytest.fixture(scope="session")
def make_dataset():
    """A function that writes a raw dataset: cases {name: (image, label)}, both [H, W] for pictures or [z, y, x]."""

    def make(folder: Path, cases, spacing=None, **entries) -> Dataset:
        ending = ".png" if spacing is None else ".nii.gz"
        for name, (image, label) in cases.items():
            write_array(folder / "imagesTr" / f"{name}_0000{ending}", image, spacing)
            write_array(folder / "labelsTr" / f"{name}{ending}", label, spacing)
        description = {
            "channel_names": {"0": "ultrasound" if spacing is None else "T1"},
            "labels": {"background": 0, "lesion": 1, "vessel": 2},
            "numTraining": len(cases),
            "file_ending": ending,
        }
        (folder / "dataset.json").write_text(json.dumps(description | entries))
        return load_dataset(folder)

    return make


def write_array(path: Path, array: np.ndarray, spacing) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if spacing is None:
        PIL.Image.fromarray(array).save(path)
    else:
        # x and y run to the left and the back here, to the right and the front in NIfTI
        affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
        nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), affine), path)
