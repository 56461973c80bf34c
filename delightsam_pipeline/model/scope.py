"""What the layers know of a training step: whose images the batch is made of, and how little memory they may take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from delightsam_pipeline.model.in_parts import InParts, Unknown


class Sharers(Protocol):
    """The processes that share a batch out: the number of this one, how many there are, and a sum over them all."""

    rank: int
    size: int

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, without a gradient."""


@dataclass
class Scope:
    """One for all layers of a model; training sets it.

    ranks : the processes that share each batch out; None for one. recompute : on the way forward keep what goes into a
    block alone, and compute the block again on the way back. parts : into how many a block cuts its images then.

    Within a step, by number of the norm: kept, the mean, variance and number of values [C], [C], [1] of the whole
    batch; returned, what the way back adds up over it, [2 C + 1]; updated, whose running statistics have taken the
    batch in (None outside of a step, when every pass is taken in). rows : what parts have added so far of one norm.
    """

    ranks: Sharers | None = None
    recompute: bool = False
    parts: int = 1
    kept: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)
    returned: dict[int, Tensor] = field(default_factory=dict)
    updated: set[int] | None = None
    rows: dict[int, list[Tensor]] = field(default_factory=dict)

    @property
    def sees_all(self) -> bool:
        """Whether a norm has the whole batch before it."""
        return self.ranks is None and self.parts == 1

    @contextmanager
    def step(self) -> Iterator[None]:
        """Within it all passes are of one batch, which running statistics take in once."""
        self.updated = set()
        try:
            yield
        finally:
            self.updated = None
            self.forget()

    def forget(self) -> None:
        """Drop what is known of a batch, but not that running statistics have taken it in."""
        self.kept.clear()
        self.returned.clear()
        self.rows.clear()

    def is_new(self, norm: int) -> bool:
        """Whether running statistics have still to take in what this norm sees; asked once per pass."""
        if self.updated is None:
            return True
        new = norm not in self.updated
        self.updated.add(norm)
        return new

    def run(self, function: Callable, *args: Any) -> Any:
        """function(*args), with little memory if so set. Then it draws no random numbers, every tensor among its
        arguments is of B images, and what it returns are tensors of B images or of one row per call."""
        if not (self.recompute and torch.is_grad_enabled()):
            return function(*args)
        if self.parts == 1:
            return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False)
        return InParts.of(self, function, args)

    def statistics(self, norm: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and variance (of the values themselves) of the whole batch and their number, given this process's
        images [B, C, H, W] or a part of them. Raises Unknown for a part when the others have still to be seen."""
        if norm not in self.kept:
            self.rows.setdefault(norm, []).append(_row(x))
            if self.parts > 1:
                raise Unknown
            self.keep_statistics()
        return self.kept[norm]

    def keep_statistics(self) -> None:
        """Pool the statistics that all parts have noted, here and elsewhere."""
        ((norm, rows),) = self.rows.items()
        self.rows.clear()
        own = _pooled(torch.stack(rows))
        if self.ranks is not None:
            # gathered, not summed: sums of squares would cancel
            every = own.new_zeros(self.ranks.size, len(own))
            every[self.ranks.rank] = own
            own = _pooled(self.ranks.sum(every))
        half = len(own) // 2
        self.kept[norm] = own[:half], own[half:-1], own[-1:]

    def over_all(self, norm: int, sums: Tensor) -> Tensor:
        """What the way back adds up over the whole batch, given the sums [2 C + 1] over the images that pass at once.

        Of parts, the last norm whose sums are not known yet notes them; what comes before it is of no use then.
        """
        if norm in self.returned:
            return self.returned[norm]
        if not self.rows or norm in self.rows:
            self.rows.setdefault(norm, []).append(sums)
        if self.parts > 1:
            return sums
        self.keep_returned()
        return self.returned[norm]

    def keep_returned(self) -> None:
        """Add up the sums that all parts have noted, here and elsewhere."""
        ((norm, rows),) = self.rows.items()
        self.rows.clear()
        own = torch.stack(rows).sum(dim=0)
        self.returned[norm] = own if self.ranks is None else self.ranks.sum(own)


def _row(x: Tensor) -> Tensor:
    """Mean, variance and number of values of [B, C, H, W] over B, H and W: [2 C + 1], float32."""
    var, mean = torch.var_mean(x.detach().float(), dim=(0, 2, 3), correction=0)
    return torch.cat([mean, var, mean.new_full((1,), x.numel() / x.shape[1])])


def _pooled(rows: Tensor) -> Tensor:
    """Such rows of parts [n, 2 C + 1] -> that of all, [2 C + 1]."""
    half = rows.shape[1] // 2
    means, variances, counts = rows[:, :half], rows[:, half:-1], rows[:, -1:]
    share = counts / counts.sum()
    mean = (share * means).sum(dim=0)
    var = (share * (variances + (means - mean) ** 2)).sum(dim=0)
    return torch.cat([mean, var, counts.sum(dim=0)])
