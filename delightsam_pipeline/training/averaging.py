"""An exponential moving average of a model's weights and statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Average:
    """The averaged copy: every tensor of the model's state that may move, the batch-norm statistics included.

    Frozen parameters are left out. The decay rises with the steps, so that a short run is not held back by its
    beginning. A tensor that does not change stays bit-identical in the average.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        self.tensors = {n: value.detach().clone() for n, value in model.state_dict().items() if n not in frozen}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model's state after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        state = model.state_dict()
        torch._foreach_lerp_(list(self.tensors.values()), [state[name] for name in self.tensors], 1 - decay)

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over saved averages."""
        for name, value in self.tensors.items():
            value.copy_(tensors[name])
