"""Plans with decisions of one's own, a model folder, and a network whose answer is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.inference.model_folder import describe_model, head_spec, save_weights
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.plans.plan import Normalisation

_ONE_CLASS = Labels.parse({"background": 0, "lesion": 1}, Path("dataset.json")).to_dict()


@pytest.fixture(autouse=True)
def one_core(same_numbers_on_one_core):
    """For every test here."""


@pytest.fixture(scope="session")
def make_plan(make_plan_for_tests):
    """A function that makes a valid plan with these changes."""
    return lambda **changes: make_plan_for_tests(
        **{"labels": _ONE_CLASS, "input": "repeat", "tile_overlap": 0.5} | changes
    )


class Threshold(nn.Module):
    """In the network's place: logits are the intensities' means over 4 x 4 pixels, each class' a little lower."""

    def __init__(self, classes: int = 1):
        super().__init__()
        self.classes = classes
        self.sizes = []

    def forward(self, images, head):
        assert not self.training
        self.sizes.append(tuple(images.shape))
        masks = F.avg_pool2d(images[:, :1], 4)
        return torch.cat([masks - 0.3 * k for k in range(self.classes)], dim=1), None, None


@pytest.fixture(scope="session")
def threshold():
    return Threshold


@pytest.fixture(scope="session")
def bands():
    """A plan's change, and a dark and a bright value as far from zero after it: straight borders are met exactly."""
    middle = (123.675 + 116.28 + 103.53) / 3
    return {"normalisation": Normalisation(scheme="photograph")}, middle - 100, middle + 100


@pytest.fixture(scope="session")
def model_folder(make_plan, tmp_path_factory):
    """A model of two heads with random weights: folder, plans, network."""
    folder = tmp_path_factory.mktemp("model")
    picture = {"physical": False, "scaling": "fit", "file_ending": ".png", "modality": "ultrasound", "modality_id": 2}
    plans = {
        "Dataset001_MR": make_plan(dataset="Dataset001_MR", input="neighbours"),
        "Dataset002_US": make_plan(dataset="Dataset002_US", **picture),
    }
    model = DeLightSAM({head: head_spec(plan) for head, plan in plans.items()}).eval()
    describe_model(folder, model, plans, {"note": "random weights"})
    save_weights(folder / "model.safetensors", model.state_dict())
    return folder, plans, model
