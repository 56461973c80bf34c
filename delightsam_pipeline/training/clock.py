"""The clock of a training run: wall time over all its sittings, and how much of its length is done."""

from __future__ import annotations

import time

from delightsam_pipeline.training.checkpoint import Progress
from delightsam_pipeline.training.schedule import Length


class Clock:
    """Wall time of a run since it began, in this sitting and before, and since its last checkpoint."""

    def __init__(self, length: Length, progress: Progress) -> None:
        self.length, self.progress = length, progress
        self.begin = time.monotonic() - progress.elapsed
        self.saved = time.monotonic()

    def elapsed(self) -> float:
        """Seconds of training so far."""
        return time.monotonic() - self.begin

    def done(self) -> float:
        """Share of the training that is done, 0..1."""
        return self.length.progress(self.progress.step, self.elapsed(), self.progress.validation_seconds)

    def goes_on(self) -> bool:
        """Whether there are steps left; however short its time, a run makes one."""
        return self.done() < 1 or (self.length.seconds is not None and self.progress.step == 0)
