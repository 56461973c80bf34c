"""Weights and input built from tensor names alone; outputs computed with the authors' public release.

The weights are not trained: they only make every tensor matter. reference/release_layout.json holds name and shape of
the 504 tensors of a release checkpoint, reference/release_outputs.npz what the authors' code makes of these weights
and images.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

REFERENCE = Path(__file__).parent / "reference"


@pytest.fixture(autouse=True)
def one_core(same_numbers_on_one_core):
    """For every test here."""


def make_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
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
def release_state() -> dict[str, torch.Tensor]:
    """A release checkpoint; queries are scaled up and the patch bias set so that both patch values occur."""
    layout = json.loads((REFERENCE / "release_layout.json").read_text())
    state = {name: torch.from_numpy(np.asarray(make_tensor(name, tuple(shape)))) for name, shape in layout.items()}
    state["mask_query.weight"] = state["mask_query.weight"] * 16
    state["patch_decoder.3.bias"] = torch.tensor([-0.60064])
    return state


@pytest.fixture(scope="session")
def release_images() -> torch.Tensor:
    """Two noisy wave images [2, 3, 1024, 1024], already scaled."""
    images = np.random.default_rng(7).standard_normal((2, 3, 1024, 1024)).astype(np.float32)
    y, x = np.mgrid[0:1024, 0:1024] / 1024
    for b in range(2):
        for c in range(3):
            images[b, c] = 0.3 * images[b, c] + 2 * np.sin(2 * np.pi * ((b + 1) * x * (c + 1) + y * (b + 2)))
    return torch.from_numpy(images)


@pytest.fixture(scope="session")
def release_outputs() -> dict[str, torch.Tensor]:
    """What the authors' code computes: masks_0 .. masks_5, patch_map and embedding."""
    with np.load(REFERENCE / "release_outputs.npz", allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}
