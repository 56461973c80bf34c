"""One process of a training on random data; run by test_ranks.py with RANK, WORLD_SIZE, ... set, or alone.

python ranks_worker.py FOLDER SCENARIO ...: writes FOLDER/SCENARIO-RANK.npz with the losses and the weights.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.inference.device import Device
from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec
from delightsam_pipeline.model.tiny_vit import TinyViT
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.plans.release import release_plan
from delightsam_pipeline.training.ranks import Ranks, joined, launched
from delightsam_pipeline.training.setup import parameter_groups
from delightsam_pipeline.training.step import Sums, train_step

BATCH, SIDE, NARROW = 4, 64, (32, 32, 32, 32)
DEVICE = Device(torch.device("cpu"), False, "fp32, whose rounding hides no error")
STEPS = {"whole": 20, "frozen": 5, "parts": 3, "uneven": 2, "dies": 5}


def plan_for(batch_size: int) -> Plan:
    """A plan of one class."""
    plan = release_plan("fundus")
    labels = plan.labels.model_copy(update={"classes": ["a"], "ids": [[1]], "class_values": [1], "declared": [0, 1]})
    training = plan.training.model_copy(update={"batch_size": batch_size})
    return plan.model_copy(update={"labels": labels, "training": training, "patch_size": (SIDE, SIDE)})


def network(scenario: str) -> DeLightSAM:
    """A new network; with a frozen body, one to which the head is added."""
    torch.manual_seed(0)
    if scenario != "frozen":
        return DeLightSAM({"new": HeadSpec("MRI", 1, 3)}, encoder=TinyViT(widths=NARROW))
    model = DeLightSAM({"old": HeadSpec("CT", 1, 3)}, encoder=TinyViT(widths=NARROW))
    model.add_head("new", HeadSpec("MRI", 1, 3))
    model.freeze_all_but(["new"])
    return model


def batch_of(step: int, plan: Plan, ranks: Ranks) -> dict:
    """This process's part of a batch of bright rectangles."""
    generator = np.random.default_rng(step)
    count = plan.training.batch_size
    images = generator.standard_normal((count, 3, SIDE, SIDE)).astype(np.float32)
    labels = np.zeros((count, SIDE, SIDE), np.int16)
    for label, (top, left) in zip(labels, generator.integers(0, 34, (count, 2)), strict=True):
        label[top : top + 20, left : left + 30] = 1
    images += 2 * labels[:, None]
    annotated = np.ones((count, 1), bool)
    values = {"images": images, "labels": labels, "annotated": annotated}
    return {"number": step, "head": "new"} | {name: value[ranks.share] for name, value in values.items()}


def train(
    scenario: str, ranks: Ranks, prepare: Callable[[DeLightSAM], object] = lambda model: None
) -> dict[str, np.ndarray]:
    """The losses of all steps, and the weights after them; `prepare` gets the network before."""
    plan = plan_for(3 if scenario == "uneven" else BATCH)
    model = network(scenario).to(memory_format=torch.channels_last).train()
    model.scope.ranks = ranks if ranks.size > 1 else None
    if scenario == "parts":
        model.scope.recompute, model.scope.parts = True, 2
    prepare(model)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.05), lr=1e-3, fused=True)
    losses = []
    for step in range(STEPS[scenario]):
        if scenario == "dies" and step == 2 and ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        sums = Sums()
        train_step(model, batch_of(step, plan, ranks), plan, optimizer, DEVICE, sums, ranks=ranks)
        losses.append(sorted(sums.row().items()))
    return {"losses": np.array([[value for _, value in row] for row in losses])} | {
        name: value.numpy() for name, value in model.state_dict().items()
    }


def main(folder: Path, scenarios: list[str]) -> int:
    """All scenarios in one group of processes."""
    torch.set_num_threads(1)
    ranks = launched()
    try:
        with joined(ranks, torch.device("cpu")):
            for scenario in scenarios:
                np.savez(folder / f"{scenario}-{ranks.rank}.npz", **train(scenario, ranks))
            if ranks.is_first:
                time.sleep(1)
                (folder / "written").touch()
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0 if (folder / "written").exists() else 1  # nobody leaves before the first has written all


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
