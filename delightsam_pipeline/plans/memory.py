"""What a training step takes of memory, without torch: a formula whose coefficients benchmarks/memory.py checks.

The network keeps, for its way back, values of every input pixel, of every token that attention looks at (windows are
padded to whole ones), attention scores of every pair of tokens in a window, and masks at full size for every class.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

# stages with attention: stride, largest window, width, blocks; a head of attention is 32 wide
_STAGES = ((8, 7, 128, 2), (16, 14, 160, 6), (16, 7, 320, 2))
_HEAD_WIDTH = 32
_PARAMETERS, _PARAMETERS_PER_CLASS = 12_470_281, 256
_COPIES = 5 * 4  # bytes a parameter: weight, gradient, two moments of AdamW, moving average
_LOSS = 13  # bytes per class and pixel that the loss takes for a moment, beside what it saves
_OWN = 1.1  # for the workspaces of the library that computes: measured as growth of a process on a CPU


@dataclass(frozen=True)
class _Bytes:
    """Saved bytes: per input pixel, per class and input pixel, per channel and pixel of a projection, per class and
    image, per value of an attention token, per attention score, and once (copies of the weights)."""

    pixel: float
    mask: float
    projected: float
    query: float
    token: float
    score: float
    once: float


# bf16 is counted with the operations that autocast leaves in fp32 on a GPU; on a CPU there are fewer: 2 to 7 % less
_FP32 = _Bytes(2207, 15.8, 4.1, 57_000, 32, 8.1, 75_000)
_BF16 = _Bytes(1184, 15.6, 2.4, 39_700, 21, 10.2, 24.9e6)


def window_side(side: int, largest: int) -> int:
    """Side of the windows over `side` tokens: the smallest that needs no more windows than the largest does."""
    return ceil(side / ceil(side / largest))


def padded(side: int, largest: int) -> int:
    """Tokens that windows over `side` tokens cover."""
    return ceil(side / largest) * window_side(side, largest)


def saved_bytes(batch: int, height: int, width: int, channels_in: int, targets: int, bf16: bool) -> int:
    """Bytes that autograd keeps for the backward pass of a batch, forward pass and loss together.

    channels_in : 3, or the channels of a learned projection. targets : classes or regions. bf16 : under autocast.
    """
    cost = _BF16 if bf16 else _FP32
    projected = 0 if channels_in == 3 else channels_in
    image = height * width * (cost.pixel + cost.mask * targets + cost.projected * projected) + cost.query * targets
    for stride, largest, features, blocks in _STAGES:
        sides = height // stride, width // stride
        tokens = padded(sides[0], largest) * padded(sides[1], largest) * blocks
        in_window = window_side(sides[0], largest) * window_side(sides[1], largest)
        image += tokens * (cost.token * features + cost.score * in_window * features / _HEAD_WIDTH)
    return round(batch * image + cost.once)


def step_bytes(batch: int, height: int, width: int, channels_in: int, targets: int, bf16: bool = False) -> int:
    """Most bytes that training on such batches takes at once: what is saved, weights, gradients, optimiser, average,
    the loss's own needs, and a tenth for workspaces. For a network of one head; the arguments as in `saved_bytes`."""
    held = _COPIES * (_PARAMETERS + _PARAMETERS_PER_CLASS * targets) + _LOSS * batch * height * width * targets
    return round(_OWN * (held + saved_bytes(batch, height, width, channels_in, targets, bf16)))
