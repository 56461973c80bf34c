"""Several folds' networks as one: logits are averaged, and only of models that answer the same question."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from delightsam_pipeline.data.image import Grid, Image
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.inference.ensemble import Ensemble
from delightsam_pipeline.inference.model_folder import describe_model, head_spec, load_model, save_weights
from delightsam_pipeline.inference.predictor import Predictor
from delightsam_pipeline.inference.segment import segment
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.preprocessing.preparation import Preparation

CPU = choose_device("cpu")
HEADS = ("Dataset001_MR", "Dataset002_US")


class Shifted(nn.Module):
    """A network whose logits are raised."""

    def __init__(self, network, by):
        super().__init__()
        self.network, self.by = network, by

    def forward(self, images, head):
        return self.network(images, head)[0] + self.by, None, None


def picture(size=(50, 83)):
    array = np.random.default_rng(0).integers(0, 255, (1, 1, *size)).astype(np.uint8)
    return Image(array, Grid.picture(*size))


def volume(shape=(3, 150, 101)):
    return Image(np.random.default_rng(0).normal(0, 100, (1, *shape)).astype(np.float32), Grid(shape, (2.0, 1.0, 1.0)))


@pytest.mark.parametrize("patch", [(160, 128), (64, 64)])
def test_logits_are_averaged(make_plan, threshold, patch):
    plan = make_plan(patch_size=patch)
    slices, back = Preparation(plan).image(volume())

    def labels(network):
        return segment(network, "head", plan, slices, back, CPU)

    up, down, between = (Shifted(threshold(), by) for by in (0.5, -0.25, 0.125))
    result = labels(Ensemble([up, down]))
    assert np.mean(result != labels(between)) < 1e-4
    assert all(np.mean(result != labels(one)) > 0.05 for one in (up, down))


class Constant(nn.Module):
    """The same logit everywhere."""

    def __init__(self, logit):
        super().__init__()
        self.logit = logit

    def forward(self, images, head):
        n, _, height, width = images.shape
        return torch.full((n, 1, height // 4, width // 4), self.logit), None, None


def test_neither_votes_nor_probabilities_are_averaged(make_plan):
    plan = make_plan()
    slices, back = Preparation(plan).image(volume())
    sure_against_two = Ensemble([Constant(logit) for logit in (10.0, -2.0, -2.0)])
    assert (segment(sure_against_two, "head", plan, slices, back, CPU) == 1).all()


@pytest.fixture
def second(model_folder, tmp_path):
    """second(plans=None): a model beside that of `model_folder`, with other weights, and perhaps other plans."""

    def _second(plans=None):
        plans = model_folder[1] if plans is None else plans
        torch.manual_seed(5)
        network = DeLightSAM({head: head_spec(plan) for head, plan in plans.items()})
        describe_model(tmp_path / "second", network, plans, {})
        save_weights(tmp_path / "second" / "model.safetensors", network.state_dict())
        return tmp_path / "second"

    return _second


def test_two_folders_predict_what_their_mean_says(model_folder, second):
    folders = [model_folder[0], second()]
    networks = [load_model(folder)[0] for folder in folders]
    image, plan = picture(), model_folder[1]["Dataset002_US"]
    slices, back = Preparation(plan).image(image)

    class Mean(nn.Module):
        def forward(self, images, head):
            return (networks[0](images, head)[0] + networks[1](images, head)[0]) / 2, None, None

    # the forms round differently in bf16
    exact = replace(CPU, bf16=False)
    expected = segment(Mean(), "Dataset002_US", plan, slices, back, exact)
    result = replace(Predictor.load(folders, "cpu"), device=exact).predict(image, "US")
    assert np.mean(result != expected) < 1e-3
    for folder in folders:
        alone = replace(Predictor.load(folder, "cpu"), device=exact)
        assert np.mean(result != alone.predict(image, "US")) > 0.02


def test_one_folder_in_a_list_is_that_model(model_folder):
    assert isinstance(Predictor.load([model_folder[0]], "cpu").model, DeLightSAM)


def test_other_heads_are_refused(model_folder, second):
    folder = second({HEADS[0]: model_folder[1][HEADS[0]]})
    with pytest.raises(UserError) as error:
        Predictor.load([model_folder[0], folder], "cpu")
    found = f"{folder}: has other heads than {model_folder[0]}; expected {', '.join(HEADS)}; found {HEADS[0]}; "
    assert str(error.value).startswith(found)


@pytest.mark.parametrize(
    "change",
    [
        {"patch_size": (96, 64)},
        {"spacing": (2.0, 1.0)},
        {"labels": {"classes": ["lump"], "ids": [[1]], "class_values": [1], "declared": [0, 1], "ignore": None}},
    ],
)
def test_another_plan_is_refused(model_folder, second, make_plan, change):
    plans = model_folder[1] | {HEADS[0]: make_plan(dataset=HEADS[0], input="neighbours", **change)}
    with pytest.raises(UserError) as error:
        Predictor.load([model_folder[0], second(plans)], "cpu")
    for word in ("second: head 'Dataset001_MR' was trained with another plan than in ", str(model_folder[0])):
        assert word in str(error.value)


def test_a_longer_training_is_no_other_plan(model_folder, second):
    plans = {
        head: plan.model_copy(update={"training": plan.training.model_copy(update={"epochs": 9})})
        for head, plan in model_folder[1].items()
    }
    Predictor.load([model_folder[0], second(plans)], "cpu")
