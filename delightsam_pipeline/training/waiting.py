"""How long the device waits for data, measured without making it wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.inference.device import Device
from delightsam_pipeline.training.loading import batches
from delightsam_pipeline.training.setup import Run
from delightsam_pipeline.training.workers import WorkerDied


def loader_of(run: Run, step: int, workers: int):
    """The batches of a run from a step on, made by so many processes; its `close` ends them."""
    part = run.ranks.rank, run.ranks.size
    return batches(run.sources, run.options.seed, step, workers, run.stage.period, part=part)


class Waiting:
    """Batches from a loader, and the seconds in which nothing was computed for want of them.

    On a GPU the process runs ahead of the device, and its waiting costs nothing as long as the device is busy: there
    the time counts between the end of a step on the device and the arrival of the next batch.
    """

    def __init__(self, loader: Iterator, device: Device) -> None:
        self.loader = loader
        self.device = device.torch
        self.on_gpu = self.device.type == "cuda"
        self.total = 0.0
        self._pairs: deque[tuple[Any, Any]] = deque()

    def next(self) -> dict[str, Any]:
        """The next batch. Raises UserError when a loader process has died."""
        begin = time.perf_counter()
        ended = self._mark() if self.on_gpu else None  # the last step
        try:
            batch = next(self.loader)
        except WorkerDied as error:
            fix = "if nothing was said above, memory ran out: give fewer --workers, or 0; the run goes on from its"
            raise UserError("a loader process has died", fix=f"{fix} checkpoint") from error
        if self.on_gpu:
            self._pairs.append((ended, self._mark()))
            self._collect()
        else:
            self.total += time.perf_counter() - begin
        return batch

    def _collect(self) -> None:
        """Add up the pauses that the device has come past."""
        while self._pairs and self._pairs[0][1].query():
            before, after = self._pairs.popleft()
            self.total += before.elapsed_time(after) / 1000

    def _mark(self) -> torch.cuda.Event:
        """An event behind all that the device has been given so far."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event
