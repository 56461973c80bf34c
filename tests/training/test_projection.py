"""The learned projection of images with any number of channels to the network's three inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.inference.model_folder import head_spec
from delightsam_pipeline.model.decoder import Head
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.training.step import Sums, train_step


def batch(channels: int) -> dict:
    """Noise in all channels, and a square that only the last one shows."""
    images = np.random.default_rng(0).normal(0, 1, (2, channels, 64, 64)).astype(np.float32)
    labels = np.zeros((2, 64, 64), np.int16)
    labels[:, 16:48, 16:48] = 1
    images[:, -1] += 3 * labels
    return {"number": 0, "head": "a", "images": images, "labels": labels, "annotated": np.ones((2, 2), bool)}


@pytest.mark.parametrize("channels", [2, 4, 7])
def test_it_begins_with_all_directions_the_same(channels):
    project = Head(1, channels).project
    weight = project.weight.detach().flatten(1)
    product = weight @ weight.T if channels >= 3 else weight.T @ weight
    torch.testing.assert_close(product, torch.eye(min(channels, 3)), atol=1e-6, rtol=0)
    assert not project.bias.any()
    if channels > 3:  # independent channels of variance 1 come out with variance 1
        out = project(torch.randn(1, channels, 200, 200))
        assert out.std(dim=(0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=0.03)


@pytest.mark.parametrize("channels", [2, 4])
def test_it_learns_with_the_network(channels, make_plan_for_tests):
    plan = make_plan_for_tests(input="projection", channel_names=[f"sequence {n}" for n in range(channels)])
    model = DeLightSAM({"a": head_spec(plan)})
    weight = model.head("a").project.weight
    before, optimizer = weight.detach().clone(), torch.optim.AdamW(model.parameters(), lr=1e-2)
    train_step(model, batch(channels), plan, optimizer, choose_device("cpu"), Sums())
    assert (weight.grad.abs() > 1e-6).all()
    assert ((before - weight).abs() > 1e-4).all()


def test_three_channels_need_none():
    assert Head(1, 3).project is None
