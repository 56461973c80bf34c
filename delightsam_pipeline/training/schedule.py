"""How long a training lasts, by epochs or by the clock, and the learning rate along it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Length:
    """`epochs` of `steps_per_epoch`, or `seconds` of wall time when given (final validation included)."""

    epochs: int
    steps_per_epoch: int
    seconds: float | None = None

    def progress(self, step: int, elapsed: float, reserve: float) -> float:
        """Share of the training that is done, 0..1; `reserve` seconds of a time budget are kept for the end."""
        if self.seconds is not None:
            return min(1.0, elapsed / max(self.seconds - reserve, 1e-9))
        steps = self.epochs * self.steps_per_epoch
        return min(1.0, step / steps) if steps else 1.0


def learning_rate(base: float, progress: float, warmup: float) -> float:
    """Linear from a hundredth to `base` over the share `warmup`, then half a cosine down to a thousandth."""
    if progress < warmup:
        return base * (0.01 + 0.99 * progress / warmup)
    along = (progress - warmup) / max(1 - warmup, 1e-9)
    return base * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * min(along, 1.0))))
