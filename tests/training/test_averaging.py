"""The moving average covers statistics, keeps what does not change, and follows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from delightsam_pipeline.model.layers import ConvNorm, Statistics
from delightsam_pipeline.training.averaging import Average


class Small(nn.Module):
    """A batch norm with a modality's statistics, and a weight."""

    def __init__(self):
        super().__init__()
        self.conv = ConvNorm(2, 2)
        self.conv.bn.index = 0
        self.statistics = nn.ModuleList([Statistics(torch.zeros(2), torch.ones(2))])


def test_by_hand():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = Average(model, decay=0.3)
    nn.init.ones_(model.weight)
    average.update(model, 1)  # decay 2 / 11, below 0.3
    assert average.tensors["weight"].item() == pytest.approx(9 / 11)
    average.update(model, 100)  # 0.3 from now on
    assert average.tensors["weight"].item() == pytest.approx(1 - 0.3 * 2 / 11)


def test_statistics_are_averaged():
    model = Small().train()
    average = Average(model)
    model.conv(3 + torch.randn(4, 2, 8, 8), model.statistics)
    average.update(model, 1)
    mean, state = model.statistics[0].mean, average.tensors
    assert set(state) == set(model.state_dict())
    assert mean.abs().min() > 0
    assert torch.allclose(state["statistics.0.mean"], mean * 9 / 11)


def test_what_does_not_change_stays_bit_identical():
    model = nn.Linear(50, 50)
    average = Average(model, decay=0.9)
    weight = model.weight.detach().clone()
    for step in range(1, 60):
        model.bias.data.normal_()
        average.update(model, step)
    assert torch.equal(average.tensors["weight"], weight)
    assert not torch.equal(average.tensors["bias"], model.bias)
    assert torch.equal(model.weight, weight)


def test_it_converges():
    model = nn.Linear(4, 4)
    average = Average(model)
    model.weight.data.fill_(2.0)
    for step in range(1, 80):
        average.update(model, step)
    assert torch.allclose(average.tensors["weight"], model.weight, atol=1e-3)


def test_saved_averages_are_taken_over_as_copies():
    model, saved = nn.Linear(2, 2), {"weight": torch.ones(2, 2), "bias": torch.zeros(2)}
    average = Average(model)
    average.load(saved)
    average.update(model, 1)
    assert torch.equal(saved["weight"], torch.ones(2, 2))
    assert not torch.equal(average.tensors["weight"], saved["weight"])
