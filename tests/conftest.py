"""What tests of several rooms share: plans with decisions of one's own, the release's weights, numbers that repeat."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
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


def _make_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """One tensor of the layout, drawn from a generator that its name seeds."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        return np.abs(values) * 0.5 + 0.5
    if name.endswith(("running_mean", "bias")):
        return 0.1 * values
    if len(shape) >= 2:
        return values / np.float32(np.sqrt(np.prod(shape[1:])))
    return 1 + 0.1 * values if name.endswith("weight") else 0.1 * values


@pytest.fixture(scope="session")
def make_tensor():
    """make_tensor(name, shape): one tensor of a layout, from its name alone, as a numpy array."""
    return _make_tensor


@pytest.fixture(scope="session")
def release_state() -> dict[str, torch.Tensor]:
    """A release checkpoint; queries are scaled up and the patch bias set so that both patch values occur.

    The weights are not trained: they only make every tensor matter. The layout holds name and shape of all 504.
    """
    layout = json.loads((Path(__file__).parent / "model" / "reference" / "release_layout.json").read_text())
    state = {name: torch.from_numpy(np.asarray(_make_tensor(name, tuple(shape)))) for name, shape in layout.items()}
    state["mask_query.weight"] = state["mask_query.weight"] * 16
    state["patch_decoder.3.bias"] = torch.tensor([-0.60064])
    return state


@pytest.fixture
def same_numbers_on_one_core():
    """One thread and a seed of its own for a test that computes with torch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
