"""What a network costs: parameters, and floating-point operations of one pass, part by part."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from delightsam_pipeline.model.delightsam import DeLightSAM

# Segment Anything with its largest encoder, which De-LightSAM compares itself with
SAM_VIT_H = 641_090_608


def parameters(model: DeLightSAM) -> dict[str, int | dict[str, int]]:
    """Numbers of parameters: encoder, prompt, decoder, controllers by modality and heads by name.

    Gates are parameters, buffers are not. `joint`, of a model of joint queries alone, is what its heads share in the
    place of their own: the queries and the mask MLP.
    """
    controllers = {spec.modality: model.controller(name) for name, spec in model.specs.items()}
    parts = {"encoder": _count(model.encoder), "prompt": _count(model.prompt), "decoder": _count(model.decoder)}
    if model.joint is not None:
        parts["joint"] = _count(model.joint)
    heads = {name: 0 if model.joint is not None else _count(model.head(name)) for name in model.specs}
    return {**parts, "controllers": {name: _count(module) for name, module in controllers.items()}, "heads": heads}


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def work(model: DeLightSAM, head: str | int, height: int, width: int, batch: int = 1) -> dict[str, int]:
    """Floating-point operations of one pass over images [B, C_in, H, W] of a head: encoder, controller, prompt,
    decoder, head.

    Counted are matrix products and convolutions, a multiply-add as 2; norms, activations and sums are not. Only
    shapes are computed, in half a second at any size. Raises UserError when there is no such head.
    """
    shapes = _without_values(model)
    own, controller = shapes.head(head), shapes.controller(head)
    channels = 3 if own.project is None else own.project.in_channels
    with FlopCounterMode(display=False) as whole:
        shapes(torch.empty(batch, channels, height, width, device="meta"), head)
    with FlopCounterMode(display=False) as shared:
        shapes.encoder(torch.empty(batch, 3, height, width, device="meta"), _uncontrolled(controller))
    by_module = {name: sum(counts.values()) for name, counts in whole.get_flop_counts().items()}
    encoder, prompt, decoder = (by_module[f"DeLightSAM.{part}"] for part in ("encoder", "prompt", "decoder"))
    return {
        "encoder": shared.get_total_flops(),
        "controller": encoder - shared.get_total_flops(),
        "prompt": prompt,
        "decoder": decoder,
        "head": whole.get_total_flops() - encoder - prompt - decoder,
    }


def _without_values(model: DeLightSAM) -> DeLightSAM:
    """A copy whose tensors have shapes alone."""
    meta: dict[int, Tensor] = {
        id(p): nn.Parameter(p.detach().to("meta"), requires_grad=False) for p in model.parameters()
    }
    meta |= {id(b): b.to("meta") for b in model.buffers()}
    return copy.deepcopy(model, meta).eval()


def _uncontrolled(controller: nn.Module) -> SimpleNamespace:
    """In the place of a controller: its statistics, and blocks that leave the shared encoder alone."""
    nothing = SimpleNamespace(attend=lambda output, query, scores: output, mlp=lambda x: 0)
    return SimpleNamespace(blocks=[nothing] * len(controller.blocks), statistics=controller.statistics)
