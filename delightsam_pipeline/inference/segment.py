"""Slices through the network and back to the image's grid, one batch at a time, labels only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.inference.device import Device
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.preprocessing.preparation import STRIDE, WayBack, place, stack, tile_origins


def segment(
    model: DeLightSAM, head: str, plan: Plan, slices: np.ndarray, back: WayBack, device: Device, batch_size: int = 8
) -> np.ndarray:
    """Scaled slices [Z, C, h, w] of one case -> labels [z, y, x] on its own grid, uint8 (uint16 above 255).

    The model is used in evaluation mode, whatever mode it is in.
    """
    rows, columns = (torch.from_numpy(m).to(device.torch) for m in back.matrices())
    labels = plan.targets
    kind = np.uint8 if max(labels.class_values) < 256 else np.uint16
    out = np.empty((len(slices), *back.slice_shape), kind)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for begin, logits in _logits(model, head, plan, slices, back, device, batch_size):
            out[begin : begin + len(logits)] = reduce(logits, rows, columns, labels).cpu().numpy().astype(kind)
    model.train(was_training)
    return back.volume(out)


def _logits(model, head, plan: Plan, slices, back: WayBack, device: Device, batch_size: int) -> Iterator:
    """(first slice, mask logits [n, K, canvas/4, canvas/4]) of a few slices at a time."""
    height, width = plan.patch_size
    origins = [
        (y, x)
        for y in tile_origins(back.canvas[0], height, plan.tile_overlap)
        for x in tile_origins(back.canvas[1], width, plan.tile_overlap)
    ]
    at_once = max(1, batch_size // len(origins))
    for begin in range(0, len(slices), at_once):
        chunk = range(begin, min(begin + at_once, len(slices)))
        images = np.stack([stack(slices, z, plan.input) for z in chunk]).astype(np.float32)
        canvas = torch.from_numpy(place(images, back)).to(device.torch)
        if len(origins) == 1:
            yield begin, _forward(model, head, canvas, device)
        else:
            yield begin, _blend(model, head, canvas, origins, plan.patch_size, device, batch_size)


def _forward(model: DeLightSAM, head: str, images: Tensor, device: Device) -> Tensor:
    with device.autocast():
        masks, _, _ = model(images.contiguous(memory_format=torch.channels_last), head)
    return masks.float()


def _blend(model, head, canvas: Tensor, origins, patch: tuple[int, int], device: Device, batch_size: int) -> Tensor:
    """Mask logits of a canvas [n, C, H, W] larger than a tile: weighted means where tiles overlap."""
    n, _, height, width = canvas.shape
    weight = _bump(patch[0] // STRIDE, patch[1] // STRIDE).to(canvas.device)
    places = [(z, y, x) for z in range(n) for y, x in origins]
    total, norm = None, torch.zeros(n, 1, height // STRIDE, width // STRIDE, device=canvas.device)
    for begin in range(0, len(places), batch_size):
        chunk = places[begin : begin + batch_size]
        tiles = torch.stack([canvas[z, :, y : y + patch[0], x : x + patch[1]] for z, y, x in chunk])
        logits = _forward(model, head, tiles, device)
        if total is None:
            total = norm.new_zeros(n, logits.shape[1], *norm.shape[2:])
        for (z, y, x), tile in zip(chunk, logits, strict=True):
            window = (z, slice(None), slice(y // STRIDE, (y + patch[0]) // STRIDE))
            window = (*window, slice(x // STRIDE, (x + patch[1]) // STRIDE))
            total[window] += weight * tile
            norm[window] += weight
    return total / norm


def _bump(height: int, width: int) -> Tensor:
    """[h, w] Gaussian weights, one at the centre and 0.05 or more at the border: a tile knows least there."""
    y, x = (torch.linspace(-1, 1, side) for side in (height, width))
    return torch.exp(-1.5 * (y[:, None] ** 2 + x**2))


def reduce(logits: Tensor, rows: Tensor, columns: Tensor, labels: Labels) -> Tensor:
    """Mask logits [n, K, h, w] -> labels [n, H, W] on the image's grid, class by class, never all classes at once.

    Exclusive classes compete with a background of logit 0; regions are painted in their order where above 0.
    """
    best = result = None
    for k, value in enumerate(labels.class_values):
        full = rows @ logits[:, k] @ columns.T
        if best is None:
            best, result = torch.zeros_like(full), torch.zeros(full.shape, dtype=torch.int32, device=full.device)
        result = torch.where(full > best, value, result)
        if not labels.has_regions:
            best = torch.maximum(best, full)
    return result
