"""Bytes that a training step saves for its backward pass, per input pixel: what the planner's batch size rests on.

    python benchmarks/memory.py

Counts every distinct storage that autograd saves in the forward pass and the loss, in fp32 and under bf16 autocast.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F

from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec
from delightsam_pipeline.training.losses import mask_loss, patch_loss, patch_targets


def saved_bytes(batch: int, height: int, width: int, targets: int, bf16: bool) -> int:
    """Bytes of all distinct storages saved for one backward pass, parameters left out."""
    model = DeLightSAM({"head": HeadSpec("MRI", targets)})
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes: dict[int, int] = {}
    kept = []

    def save(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    images = torch.randn(batch, 3, height, width)
    masks, valid = torch.zeros(batch, targets, height, width), torch.ones(batch, 1, height, width)
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits, patches, _ = model(images, "head")
        full = F.interpolate(logits.float(), size=(height, width), mode="bilinear", align_corners=False)
        mask_loss(full, masks, valid, exclusive=True) + patch_loss(patches.float(), *patch_targets(masks, valid))
    return sum(sizes.values())


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("batch  size       classes  precision  bytes per pixel")
    for batch, height, width, targets in ((4, 96, 128, 2), (2, 224, 256, 1), (1, 384, 384, 1), (2, 224, 256, 10)):
        for bf16 in (False, True):
            per_pixel = saved_bytes(batch, height, width, targets, bf16) / (batch * height * width)
            precision = "bf16" if bf16 else "fp32"
            print(f"{batch:5d}  {height:4d}x{width:<4d}  {targets:7d}  {precision:9s}  {per_pixel:.0f}")


if __name__ == "__main__":
    main()
