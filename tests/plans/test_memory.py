"""The memory formula against what autograd really saves, and as a bound that grows with everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.inference.device import Device
from delightsam_pipeline.model import tiny_vit
from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec
from delightsam_pipeline.plans.memory import padded, saved_bytes, step_bytes, window_side
from delightsam_pipeline.training.step import task_loss


@pytest.fixture
def saved(make_plan_for_tests, same_numbers_on_one_core):
    """A function: bytes of the distinct storages that autograd saves for a batch, parameters left out."""

    def count(batch: int, height: int, width: int, channels: int, targets: int, bf16: bool, regions: bool) -> int:
        values = list(range(1, targets + 1))
        entries = {"background": 0} | {f"class {n}": values[n - 1 :] if regions else n for n in values}
        labels = Labels.parse(entries, "dataset.json", values if regions else None)
        assert labels.has_regions == regions
        plan = make_plan_for_tests(labels=labels.to_dict())
        model = DeLightSAM({"head": HeadSpec("MRI", targets, channels)})
        model = model.to(memory_format=torch.channels_last)
        own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        shape = (batch, channels, height, width)
        batch_values = {
            "head": "head",
            "images": np.random.default_rng(0).standard_normal(shape, np.float32),
            "labels": np.zeros((batch, height, width), np.int16),
            "annotated": np.ones((batch, targets), bool),
        }
        storages = {}

        def save(tensor):  # and nothing back: a tensor that its own graph held would never go
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()

        tiny_vit.offsets.cache_clear()
        with torch.autograd.graph.saved_tensors_hooks(save, lambda nothing: nothing):
            task_loss(model, batch_values, plan, Device(torch.device("cpu"), bf16, "counted"))
        return sum(storage.nbytes() for place, storage in storages.items() if place not in own)

    return count


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(
    ("batch", "height", "width", "channels", "targets", "regions"),
    [(2, 64, 96, 3, 1, False), (1, 64, 96, 3, 30, False), (1, 128, 64, 4, 3, True)],
)
def test_the_formula_is_within_a_tenth(saved, batch, height, width, channels, targets, regions, bf16):
    counted = saved(batch, height, width, channels, targets, bf16, regions)
    assert saved_bytes(batch, height, width, channels, targets, bf16) == pytest.approx(counted, rel=0.1)


def test_the_weights_are_counted():
    """What a step holds beside saved tensors: five numbers of four bytes for every parameter."""
    model = DeLightSAM({"head": HeadSpec("MRI", 2)})
    held = 5 * 4 * sum(parameter.numel() for parameter in model.parameters())
    rest = step_bytes(1, 64, 64, 3, 2) / 1.1 - saved_bytes(1, 64, 64, 3, 2, bf16=False)
    assert held <= rest <= held + 1e6


def test_windows_are_those_of_the_network():
    for side in range(1, 80):
        for largest in (7, 14):
            assert window_side(side, largest) == tiny_vit.window_side(side, largest, fit=True)
            assert padded(side, largest) % window_side(side, largest) == 0
            assert side <= padded(side, largest) < side + window_side(side, largest)


def test_everything_that_grows_takes_more():
    least = (1, 64, 64, 3, 1)
    for place, more in enumerate((2, 96, 96, 4, 2)):
        grown = (*least[:place], more, *least[place + 1 :])
        for bf16 in (False, True):
            assert step_bytes(*grown, bf16=bf16) > step_bytes(*least, bf16=bf16)
    assert step_bytes(16, 256, 256, 3, 1, bf16=True) < step_bytes(16, 256, 256, 3, 1, bf16=False)
