"""Rotation and scaling as one bilinear step, with the same random numbers as batchgenerators' SpatialTransform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from batchgenerators.transforms.abstract_transforms import AbstractTransform
from torch import Tensor

UNKNOWN = -1  # label of what lies outside the image
_SHARE = 0.3  # of the slices that are rotated, and of those that are scaled


@dataclass(frozen=True)
class Spatial(AbstractTransform):
    """From slices of any size to the middle patch of them, rotated by up to `angle` (radians) and scaled.

    A slice that is neither rotated nor scaled, as half of them, is cut without any interpolation.
    """

    patch_size: tuple[int, int]
    angle: float
    scale: tuple[float, float]
    share: float = _SHARE

    def draw(self) -> np.ndarray | None:
        """A matrix [2, 2] from pixels of the patch to pixels of the slice, both from their middle; None: as it is."""
        matrix = np.eye(2)
        if turned := np.random.uniform() < self.share:
            np.random.uniform()  # batchgenerators asks for each axis too
            angle = np.random.uniform(-self.angle, self.angle)
            matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        if scaled := np.random.uniform() < self.share:
            low, high = self.scale
            shrinks = np.random.random() < 0.5 and low < 1
            matrix = matrix * (np.random.uniform(low, 1) if shrinks else np.random.uniform(max(low, 1), high))
        return matrix if (turned or scaled) and not np.array_equal(matrix, np.eye(2)) else None

    def apply(self, image: np.ndarray, labels: np.ndarray, matrix: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Image [C, h, w] float32 and labels [h, w] -> those of the patch."""
        if matrix is None:
            windows = (
                slice((n - patch) // 2, (n - patch) // 2 + patch)
                for n, patch in zip(labels.shape, self.patch_size, strict=True)
            )
            rows, columns = windows
            return image[:, rows, columns], labels[rows, columns]
        images, masks = torch.from_numpy(image)[None], torch.from_numpy(labels)[None]
        images, masks = warp(images, masks, matrix[None], self.patch_size)
        return images[0].numpy(), masks[0].numpy()

    def __call__(self, **data_dict) -> dict:
        """batchgenerators' way in: data [B, C, h, w] and seg [B, 1, h, w]."""
        pairs = [
            self.apply(image, labels[0], self.draw())
            for image, labels in zip(data_dict["data"], data_dict["seg"], strict=True)
        ]
        data_dict["data"] = np.stack([image for image, _ in pairs])
        data_dict["seg"] = np.stack([labels[None] for _, labels in pairs])
        return data_dict


def warp(images: Tensor, labels: Tensor, matrices: np.ndarray, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Images [B, C, h, w] and labels [B, h, w] on any device, seen through matrices [B, 2, 2] as patches of `size`.

    Images linearly, beyond the edge as at the edge; labels by the nearest, beyond the edge UNKNOWN.
    """
    grid = torch.from_numpy(np.stack([_grid(matrix, size, labels.shape[1:]) for matrix in matrices]))
    grid = grid.to(images.device)
    warped = F.grid_sample(images, grid, "bilinear", "border", align_corners=True)
    shifted = (labels[:, None] - UNKNOWN).float()  # what lies outside is sampled as 0
    found = F.grid_sample(shifted, grid, "nearest", "zeros", align_corners=True)
    return warped, found[:, 0].to(labels.dtype) + UNKNOWN


def _grid(matrix: np.ndarray, size: Sequence[int], source: Sequence[int]) -> np.ndarray:
    """Where each pixel of the patch comes from, [height, width, 2] as x and y, on -1 to 1 from first to last pixel."""
    height, width = size
    rows, columns = np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2
    grid = np.empty((height, width, 2), np.float32)
    for axis, n in enumerate(source):
        unit = 2 / max(n - 1, 1)
        down, right = (matrix[axis, 0] * unit * rows), (matrix[axis, 1] * unit * columns)
        np.add(down.astype(np.float32)[:, None], right.astype(np.float32), out=grid[..., 1 - axis])
    return grid
