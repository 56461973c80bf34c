"""What tests of several rooms share: plans with decisions of one's own, and numbers that repeat."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

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


@pytest.fixture
def same_numbers_on_one_core():
    """One thread and a seed of its own for a test that computes with torch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
