"""The planner's memory formula on a GPU: never under what torch allocates, and not far over. `pytest -m gpu`."""

from __future__ import annotations

import numpy as np
import pytest

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.plans.memory import step_bytes

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that CUDA can use"),
]


@pytest.fixture
def two_steps(make_plan_for_tests):
    """A function: two steps of a new network as training has it; before the second, `between` is called."""
    from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec
    from delightsam_pipeline.training.averaging import Average
    from delightsam_pipeline.training.setup import parameter_groups
    from delightsam_pipeline.training.step import Sums, train_step

    def run(device, batch, height, width, channels, targets, between) -> None:
        entries = {"background": 0, **{f"class {n}": n for n in range(1, targets + 1)}}
        plan = make_plan_for_tests(labels=Labels.parse(entries, "dataset.json").to_dict())
        model = DeLightSAM({"head": HeadSpec("MRI", targets, channels)})
        model = model.to(device.torch, memory_format=torch.channels_last)
        average = Average(model)
        optimizer = torch.optim.AdamW(parameter_groups(model, 0.05), lr=1e-3, fused=True)
        values = {
            "head": "head",
            "images": np.random.default_rng(0).standard_normal((batch, channels, height, width), np.float32),
            "labels": np.zeros((batch, height, width), np.int16),
            "annotated": np.ones((batch, targets), bool),
        }
        for step in range(2):
            if step:
                between()
            train_step(model, values, plan, optimizer, device, Sums())
            average.update(model, step + 1)

    return run


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(
    ("batch", "height", "width", "channels", "targets"),
    [(2, 224, 256, 3, 1), (16, 224, 256, 3, 2), (4, 512, 512, 3, 1), (8, 384, 384, 4, 10)],
)
def test_the_formula_bounds_what_a_step_allocates(two_steps, batch, height, width, channels, targets, bf16):
    from delightsam_pipeline.inference.device import Device

    if bf16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU has no bf16")
    device = Device(torch.device("cuda"), bf16, "a test wants it")
    two_steps(device, batch, height, width, channels, targets, torch.cuda.reset_peak_memory_stats)
    peak = torch.cuda.max_memory_allocated()
    told = step_bytes(batch, height, width, channels, targets, bf16)
    assert peak <= told <= 1.2 * peak


def test_nothing_in_a_step_waits_for_the_device(two_steps):
    """After a first step, which makes what later ones keep."""
    from delightsam_pipeline.inference.device import Device

    device = Device(torch.device("cuda"), torch.cuda.is_bf16_supported(including_emulation=False), "a test wants it")
    try:
        two_steps(device, 2, 96, 128, 3, 2, lambda: torch.cuda.set_sync_debug_mode("error"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
