"""Input for the release's weights, and what the authors' public release makes of both (reference/release_outputs.npz).

The weights are those of tests/conftest.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

REFERENCE = Path(__file__).parent / "reference"


@pytest.fixture(autouse=True)
def one_core(same_numbers_on_one_core):
    """For every test here."""


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
