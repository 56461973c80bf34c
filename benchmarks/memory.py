"""What a training step takes of memory, counted and measured, against the formula that the planner's batch rests on.

    python benchmarks/memory.py
    python benchmarks/memory.py --device cuda

On a CPU: the bytes of every distinct storage that autograd saves, over a grid of sizes, batches, classes and inputs, in
fp32 and under bf16 autocast; the most bytes alive at once in a whole step; and the growth of a process by it. With
--device cuda: the most bytes that torch has allocated there in a step. Results go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import weakref
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, commit, hardware
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from delightsam_pipeline.inference.device import Device, choose_device
from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec
from delightsam_pipeline.model.tiny_vit import offsets
from delightsam_pipeline.plans.memory import saved_bytes, step_bytes
from delightsam_pipeline.plans.plan import LabelEntries, Plan
from delightsam_pipeline.plans.release import release_plan
from delightsam_pipeline.training.averaging import Average
from delightsam_pipeline.training.setup import parameter_groups
from delightsam_pipeline.training.step import Sums, task_loss, train_step

HEAD, SMALL = "head", (64, 64)
MOST_IN_BF16 = 300_000  # pixels


@dataclass(frozen=True)
class Case:
    """One batch: images [batch, channels, height, width] with so many classes."""

    batch: int
    height: int
    width: int
    channels: int = 3
    targets: int = 1
    bf16: bool = False


# every side is a multiple of 32; at most a million pixels in a batch, which takes 3 GB
GRID = [
    Case(batch, height, width, channels, targets)
    for batch, height, width, channels, targets in (
        *((1, 96, 128, 3, targets) for targets in (1, 2, 10, 30)),
        *((1, 96, 128, channels, 2) for channels in (1, 2, 4)),
        *((batch, 96, 128, 3, 2) for batch in (2, 4, 16)),
        *((1, 32, 352, 3, 1), (1, 64, 96, 3, 1), (2, 160, 288, 3, 1), (1, 192, 192, 3, 5), (16, 224, 256, 3, 1)),
        *((4, 224, 256, 3, 30), (2, 224, 480, 4, 3), (2, 384, 384, 3, 1), (1, 512, 512, 3, 1), (2, 512, 512, 3, 10)),
        *((1, 544, 736, 3, 2), (1, 640, 1024, 3, 1), (1, 1024, 1024, 3, 1)),
    )
]
WHOLE_STEPS = [Case(2, 96, 128, targets=2), Case(4, 224, 256), Case(2, 224, 256, targets=20), Case(2, 384, 384)]
ON_GPU = [
    *(Case(batch, 224, 256, targets=targets) for batch, targets in ((1, 1), (2, 30), (16, 2), (64, 1))),
    *(Case(16, 96, 128), Case(8, 384, 384, channels=4), Case(4, 512, 512, targets=10), Case(4, 1024, 1024)),
]


class Training:
    """A new network with optimiser and average on a device, as a run has them, and steps of it on random batches."""

    def __init__(self, case: Case, device: Device) -> None:
        self.plan, self.device = _plan(case.targets), device
        model = DeLightSAM({HEAD: HeadSpec("MRI", case.targets, case.channels)})
        self.model = model.to(device.torch, memory_format=torch.channels_last)
        self.average = Average(self.model)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model, 0.05), lr=1e-3, fused=True)

    def loss(self, case: Case) -> torch.Tensor:
        """The objective on a batch, ready for its way back."""
        return task_loss(self.model, _batch(case), self.plan, self.device)[0]

    def step(self, case: Case) -> None:
        """One whole step."""
        train_step(self.model, _batch(case), self.plan, self.optimizer, self.device, Sums())


def _plan(targets: int) -> Plan:
    values = list(range(1, targets + 1))
    labels = LabelEntries(
        classes=[f"class {n}" for n in values],
        ids=[[n] for n in values],
        class_values=values,
        declared=[0, *values],
        ignore=None,
    )
    return release_plan("fundus").model_copy(update={"labels": labels})


def _batch(case: Case) -> dict[str, Any]:
    shape = (case.batch, case.channels, case.height, case.width)
    return {
        "head": HEAD,
        "images": np.random.default_rng(0).standard_normal(shape, np.float32),
        "labels": np.zeros((case.batch, case.height, case.width), np.int16),
        "annotated": np.ones((case.batch, case.targets), bool),
    }


def _cpu(case: Case) -> Device:
    return Device(torch.device("cpu"), case.bf16, "as counted")


def count_saved(case: Case) -> int:
    """Bytes of all distinct storages saved for one backward pass, parameters left out."""
    training = Training(case, _cpu(case))
    own = {p.untyped_storage().data_ptr() for p in training.model.parameters()}
    offsets.cache_clear()  # what the cache holds counts once
    kept: dict[int, torch.UntypedStorage] = {}

    def save(tensor: torch.Tensor) -> None:  # a tensor that its own graph held would never go
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage

    with torch.autograd.graph.saved_tensors_hooks(save, lambda nothing: nothing):
        training.loss(case)
    return sum(storage.nbytes() for storage in kept.values())


class _Alive(TorchDispatchMode):
    """Counts the bytes of all storages that come to life and go within it."""

    def __init__(self, begin: list[torch.Tensor]) -> None:
        super().__init__()
        self.now = self.most = 0
        self.sizes: dict[int, int] = {}
        for tensor in begin:
            self._take(tensor)

    def _take(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self.sizes:
            return
        self.sizes[storage._cdata] = storage.nbytes()
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._drop, storage._cdata)

    def _drop(self, key: int) -> None:
        self.now -= self.sizes.pop(key)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._take(leaf)
        return out


def count_step(case: Case) -> int:
    """Most bytes alive at once in a whole step, of all tensors that torch makes."""
    training = Training(case, _cpu(case))
    training.step(case)  # gradients and moments exist from here on
    with _Alive(_held(training)) as alive:
        training.step(case)
    return alive.most


def _held(training: Training) -> list[torch.Tensor]:
    """What lives between steps; not kept in a variable, since a step frees the gradients before."""
    moments = [value for state in training.optimizer.state.values() for value in state.values()]
    gradients = [parameter.grad for parameter in training.model.parameters()]
    held = [*training.model.state_dict().values(), *training.average.tensors.values(), *moments, *gradients]
    return [value for value in held if isinstance(value, torch.Tensor)]


def process_growth(case: Case) -> int:
    """Bytes by which a process of its own grows from a small step to this one."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_growth, case).result()


def _growth(case: Case) -> int:
    torch.set_num_threads(1)
    training = Training(case, _cpu(case))
    training.step(Case(1, *SMALL, case.channels, case.targets, case.bf16))
    before = _most_resident()
    training.step(case)
    return _most_resident() - before


def _most_resident() -> int:
    """Most bytes this process has had in memory (Linux; what getrusage says begins with the parent's)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _step_growth(batch: int, height: int, width: int, channels: int, targets: int, bf16: bool) -> int:
    """What the formula says of `process_growth`."""
    small = step_bytes(1, *SMALL, channels, targets, bf16)
    return step_bytes(batch, height, width, channels, targets, bf16) - small


def gpu_peak(case: Case, device: Device) -> int:
    """Most bytes that torch has allocated on a GPU during a step, after one to warm up."""
    training = Training(case, device)
    training.step(case)
    torch.cuda.synchronize(device.torch)
    torch.cuda.reset_peak_memory_stats(device.torch)
    training.step(case)
    return torch.cuda.max_memory_allocated(device.torch)


def compare(what: str, cases: list[Case], measure: Callable[[Case], int], formula: Callable[..., int]) -> list[dict]:
    """Measure all cases and set the formula beside them; printed and returned."""
    print(f"\n{what}\nbatch  size       channels  classes  precision  measured MB  formula MB  ratio")
    rows = []
    for case in cases:
        value = measure(case)
        told = formula(case.batch, case.height, case.width, case.channels, case.targets, case.bf16)
        rows.append({"what": what, **asdict(case), "measured": value, "formula": told, "ratio": round(told / value, 3)})
        batch = f"{case.batch:5d}  {f'{case.height}x{case.width}':9s}  {case.channels:8d}  {case.targets:7d}"
        numbers = f"{value / 1e6:11.0f}  {told / 1e6:10.0f}  {told / value:5.3f}"
        print(f"{batch}  {'bf16' if case.bf16 else 'fp32':9s}  {numbers}", flush=True)
    return rows


def _in_bf16(cases: list[Case], bf16: bool) -> list[Case]:
    return [Case(**asdict(case) | {"bf16": bf16}) for case in cases]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="cpu is the default")
    kind = parser.parse_args().device
    if kind == "cuda":
        device = choose_device(kind)
        cases = _in_bf16(ON_GPU, device.bf16)
        rows = compare("allocated on the GPU", cases, lambda case: gpu_peak(case, device), step_bytes)
    else:
        # a processor without instructions for bf16 takes minutes for a large batch
        both = [*GRID, *_in_bf16([c for c in GRID if c.batch * c.height * c.width <= MOST_IN_BF16], True)]
        steps = [case for bf16 in (False, True) for case in _in_bf16(WHOLE_STEPS, bf16)]
        rows = compare("saved for the way back", both, count_saved, saved_bytes)
        rows += compare("alive at once in a step", steps, count_step, step_bytes)
        rows += compare("growth of a process from a small step to this one", steps, process_growth, _step_growth)
    record = {"hardware": hardware(), "commit": commit(), "torch": torch.__version__, "rows": rows}
    file = RESULTS / f"memory-{kind}.json"
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {file}")


if __name__ == "__main__":
    main()
