"""The processes of a training: one alone, or several that share every batch out and stay equal to the bit."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from delightsam_pipeline.errors import UserError

T = TypeVar("T")


class SharedError(UserError):
    """What all processes find alike, so that it is enough when the first says it (see `said_once`)."""


# how long one waits for another at most; a process that died is noticed at once
TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class Ranks:
    """This process among the `size` of a training: number `rank` of all, `local` of the `local_size` on its machine.

    Of one process alone everything here is trivial. What all do together, all must do in the same order.
    Raises UserError when another process has died, or has not answered for half an hour.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files, logs and shows a bar."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """Which of some items are this process's: rank, rank + size, ..."""
        return slice(self.rank, None, self.size)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, without a gradient."""
        total = tensor.detach().clone()
        if self.size > 1:
            with _answered(self):
                dist.all_reduce(total)
        return total

    def whole(self, own: Tensor) -> Tensor:
        """What a process has added up over its part of a batch -> the sum over the batch, with a gradient to its part.

        All compute the same loss of it, so that the sum of their gradients is that of the whole batch.
        """
        return own if self.size == 1 else with_gradient(self.sum(own), own)

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient that there is by its sum over all processes, which have the same ones."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.size == 1 or not gradients:
            return
        total = self.sum(torch.cat([g.flatten() for g in gradients]))
        parts = total.split([g.numel() for g in gradients])
        torch._foreach_copy_(gradients, [part.view(g.shape) for part, g in zip(parts, gradients, strict=True)])

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of the first process."""
        if self.size > 1:
            with _answered(self):
                for tensor in tensors:
                    sent = tensor.detach().contiguous()
                    dist.broadcast(sent, 0)
                    tensor.detach().copy_(sent)

    def agree(self, asked: bool, *numbers: float) -> tuple[bool, list[float]]:
        """Whether any process was asked, and the numbers of the first."""
        if self.size == 1:
            return asked, list(numbers)
        said = self.sum(torch.tensor([asked, *(n if self.is_first else 0.0 for n in numbers)], dtype=torch.float64))
        return bool(said[0]), said[1:].tolist()

    def gather(self, value: T) -> list[T]:
        """A small value of every process, in their order."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            with _answered(self):
                dist.all_gather_object(values, value)
        return values

    def gather_shares(self, items: Sequence[T]) -> list[T]:
        """What each process made of its share of some items, in the items' own order."""
        shares = self.gather(list(items))
        return [shares[n % self.size][n // self.size] for n in range(sum(map(len, shares)))]


ALONE = Ranks()


def with_gradient(total: Tensor, own: Tensor) -> Tensor:
    """The value of a total, detached, of which `own` is a part, with the gradient going to the part."""
    return total + (own - own.detach())


def launched() -> Ranks:
    """What torchrun says, or whoever else set RANK, WORLD_SIZE and LOCAL_RANK; one process alone when nobody did.

    Raises UserError when that is not whole.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ALONE
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in names if name not in os.environ]
    if missing:
        fix = "start it with torchrun, or unset WORLD_SIZE"
        raise UserError("WORLD_SIZE asks for several processes", found=f"no {', '.join(missing)}", fix=fix)
    try:
        rank, size, local = (int(os.environ[name]) for name in names[:3])
        return Ranks(rank, size, local, int(os.environ.get("LOCAL_WORLD_SIZE", local + 1)))
    except ValueError as error:
        raise UserError("RANK, WORLD_SIZE and LOCAL_RANK must be numbers", found=str(error)) from None


@contextmanager
def joined(ranks: Ranks, device: torch.device) -> Iterator[None]:
    """Within it the processes are connected: by NCCL between GPUs, by gloo on CPUs. They leave it together.

    Raises UserError when they cannot be.
    """
    if ranks.size == 1:
        yield
        return
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"several processes cannot train on {device.type}", fix="start one, or use --device cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        fix = "see docs/how-to/cluster.md"
        raise UserError(f"the processes cannot connect at {place}", found=_first_line(error), fix=fix) from error
    yield
    # whoever started them may end all when one has left, and the first may be writing still. Not after an error: those
    # who died cannot take part
    ranks.gather(None)
    dist.destroy_process_group()


@contextmanager
def said_once(ranks: Ranks) -> Iterator[None]:
    """Within it, with several processes, a SharedError is said by the first, and all end with its exit code."""
    try:
        yield
    except SharedError as error:
        if ranks.size == 1:
            raise
        if ranks.is_first:
            print(f"error: {error}", file=sys.stderr, flush=True)
        ranks.gather(None)  # whoever started them may end all when one has left
        raise SystemExit(error.exit_code) from None


@contextmanager
def _answered(ranks: Ranks) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        fix = "look at the other processes' messages; the same command goes on from the last checkpoint"
        here = f"process {ranks.rank} of {ranks.size}: another process of the group has died or does not answer"
        raise UserError(here, found=_first_line(error), fix=fix) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
