"""A block of layers over a few images at a time, to the same numbers as over all of them at once.

Between its norms a block treats each image on its own. A norm needs all images before it can go on, forward for mean
and variance, and back for the two sums by which these change. So the parts are passed several times, each time up to
the next norm of which that is not known yet, and once more when all is known: what is held meanwhile is what goes in,
what comes out, and the inside of one part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Unknown(Exception):
    """A norm cannot go on before it has seen all parts."""


class InParts(torch.autograd.Function):
    """function(*args) in `scope.parts` parts (see Scope.run)."""

    @staticmethod
    def of(scope, function: Callable, args: Sequence[Any]) -> Any:
        """What function(*args) returns, a tensor or several."""
        tensors = [a for a in args if isinstance(a, Tensor)]
        places = [None if isinstance(a, Tensor) else (a,) for a in args]
        # parameters are not among the arguments; this brings the way back here even where no input has a gradient
        trigger = torch.zeros((), requires_grad=True, device=tensors[0].device)
        results = InParts.apply(scope, function, places, trigger, *tensors)
        return results[0] if len(results) == 1 else results

    @staticmethod
    def forward(ctx, scope, function: Callable, places: list, trigger: Tensor, *tensors: Tensor):
        device = tensors[0].device.type
        enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        ctx.scope, ctx.function, ctx.places = scope, function, places
        ctx.autocast = {"device_type": device, "dtype": dtype, "enabled": enabled}
        ctx.save_for_backward(*tensors)
        parts, known, results = list(_parts(scope.parts, tensors)), len(scope.kept), None
        while results is None:
            results = _results(scope, function, places, parts)
        ctx.norms = len(scope.kept) - known
        ctx.rows = [len(of_part[0]) for of_part in results]
        return tuple(torch.cat(of_parts) for of_parts in zip(*results, strict=True))

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor):
        parts = list(_parts(ctx.scope.parts, ctx.saved_tensors))
        wanted = list(zip(*(gradient.split(ctx.rows) for gradient in gradients), strict=True))
        for _ in range(ctx.norms):
            for inputs, of_part in zip(parts, wanted, strict=True):
                leaves, outputs = _passed(ctx, inputs)
                torch.autograd.grad(outputs, [leaf for leaf in leaves if leaf.requires_grad], of_part)
            ctx.scope.keep_returned()
        found = []
        for inputs, of_part in zip(parts, wanted, strict=True):
            leaves, outputs = _passed(ctx, inputs)
            torch.autograd.backward(outputs, of_part)
            found.append([leaf.grad for leaf in leaves])
        return None, None, None, None, *map(_joined, zip(*found, strict=True))


def _parts(count: int, tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors [B, ...] in so many parts, as far as there are images."""
    return map(list, zip(*(t.tensor_split(min(count, len(t))) for t in tensors), strict=True))


def _called(function: Callable, places: Sequence, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """function's results; where `places` has None a tensor is its argument, else what is packed there."""
    left = iter(tensors)
    result = function(*(next(left) if packed is None else packed[0] for packed in places))
    return (result,) if isinstance(result, Tensor) else tuple(result)


def _results(scope, function: Callable, places: Sequence, parts: list) -> list[tuple[Tensor, ...]] | None:
    """The results of all parts; None when they have only shown what the next norm has to know."""
    results = []
    for inputs in parts:
        with suppress(Unknown):
            results.append(_called(function, places, inputs))
    if len(results) == len(parts):
        return results
    scope.keep_statistics()
    return None


def _passed(ctx, inputs: list[Tensor]) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """A part once more, with gradients: what went in and what came out.

    Images need no gradient themselves, but the sums of norms are added up on the way to them.
    """
    leaves = [tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in inputs]
    with torch.enable_grad(), torch.autocast(**ctx.autocast):
        return leaves, _called(ctx.function, ctx.places, leaves)


def _joined(gradients: Sequence[Tensor | None]) -> Tensor | None:
    return None if gradients[0] is None else torch.cat(list(gradients))
