"""HD95 and NSD of seeded mask pairs by MONAI, kept for the tests as numbers from outside.

    python benchmarks/outside_metrics.py

needs `pip install monai`. Writes tests/evaluation/reference/monai_surfaces.json (numbers and versions) and .npz (the
masks, packed), which tests/evaluation/test_surfaces.py reproduces without MONAI.
"""

from __future__ import annotations

import json
from pathlib import Path

import monai
import numpy as np
import scipy
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import gaussian_filter

FOLDER = Path(__file__).parents[1] / "tests" / "evaluation" / "reference"
# name: shape, spacing, smoothness in voxels, share of the image, tolerance
PAIRS = {
    "2D": ((60, 70), (1.0, 1.0), 8, 0.2, 2.0),
    "2D anisotropic": ((80, 50), (0.45, 1.3), 6, 0.3, 1.0),
    "2D many parts at the border": ((90, 90), (1.0, 1.0), 3, 0.4, 2.0),
    "2D nearly full": ((40, 40), (2.0, 2.0), 5, 0.9, 3.0),
    "3D": ((30, 36, 40), (1.0, 1.0, 1.0), 5, 0.2, 2.0),
    "3D thick slices": ((12, 48, 44), (5.0, 0.8, 0.8), 4, 0.25, 2.0),
    "3D anisotropic in every direction": ((20, 30, 40), (3.1, 1.7, 0.6), 4, 0.3, 2.0),
    "3D many parts at the border": ((24, 24, 24), (1.0, 1.0, 2.5), 2, 0.5, 1.0),
}


def blob(random: np.random.Generator, shape: tuple[int, ...], smoothness: float, share: float) -> np.ndarray:
    """A random smooth field above the quantile that leaves `share` of the image."""
    field = gaussian_filter(random.standard_normal(shape), smoothness, mode="constant")
    return field > np.quantile(field, 1 - share)


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray, tuple[float, ...], float]]:
    """Name -> prediction, reference, spacing, tolerance."""
    random, result = np.random.default_rng(2024), {}
    for name, (shape, spacing, smoothness, share, tolerance) in PAIRS.items():
        field = random.standard_normal(shape)
        first, second = (
            gaussian_filter(field + 0.7 * random.standard_normal(shape), smoothness, mode="constant") for _ in range(2)
        )
        masks = [each > np.quantile(each, 1 - share) for each in (first, second)]
        result[name] = (*masks, spacing, tolerance)
    for name, spacing in (("2D", (1.0, 1.0)), ("3D", (4.0, 1.5, 0.7))):
        shape = (25, 31, 28)[-len(spacing) :]
        one, other = np.zeros((2, *shape), bool)
        one[tuple(side // 3 for side in shape)] = True
        other[(0,) * len(shape)] = True
        large = blob(random, shape, 4, 0.2)
        result[f"{name} one voxel and many"] = (one, large, spacing, 2.0)
        result[f"{name} two voxels apart"] = (one, other, spacing, 2.0)
        result[f"{name} the same"] = (large, large, spacing, 0.0)
    return result


def main() -> None:
    """Compute and write."""
    numbers, masks = {}, {}
    for name, (prediction, reference, spacing, tolerance) in pairs().items():
        batch = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, reference)]
        options = {"include_background": True, "spacing": list(spacing)}
        hd95 = compute_hausdorff_distance(*batch, percentile=95, **options).item()
        nsd = compute_surface_dice(*batch, class_thresholds=[tolerance], **options).item()
        given = {"shape": prediction.shape, "spacing": spacing, "tolerance": tolerance}
        numbers[name] = {**given, "HD95": hd95, "NSD": nsd}
        masks[name] = np.packbits(np.stack([prediction, reference]))
    versions = {"monai": monai.__version__, "scipy": scipy.__version__, "numpy": np.__version__}
    text = json.dumps({"versions": versions, "pairs": numbers}, indent=1)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "monai_surfaces.json").write_text(text + "\n", encoding="utf-8")
    np.savez_compressed(FOLDER / "monai_surfaces.npz", **masks)


if __name__ == "__main__":
    main()
