"""The clock of a training run: wall time over all its sittings, how much of its length is done, and what is left."""

from __future__ import annotations

import math
import time

from delightsam_pipeline.training.checkpoint import Progress
from delightsam_pipeline.training.ranks import ALONE, Ranks
from delightsam_pipeline.training.schedule import Length

SAVE_EVERY_S = 300.0
VALIDATION_SHARE = 0.1  # of the time, at most


class Clock:
    """Wall time of a run since it began, in this sitting and before, and since its last checkpoint.

    Of several processes the first one's counts, as it was when they last agreed.
    """

    def __init__(self, length: Length, progress: Progress, ranks: Ranks = ALONE) -> None:
        self.length, self.progress, self.ranks = length, progress, ranks
        self.begin = time.monotonic() - progress.elapsed
        self.saved = self.reported = time.monotonic()  # the last checkpoint, and the last with a picture
        self.saving = 0.0  # seconds that the last checkpoint took
        self.first_step, self.first_elapsed = progress.step, progress.elapsed  # of this sitting
        self._agreed = [progress.elapsed, progress.reserve]

    def agree(self, asked: bool = False) -> bool:
        """Take over the first process's time; whether any process was asked to stop. Once before each step."""
        now = time.monotonic() - self.begin
        asked, self._agreed = self.ranks.agree(asked, now, self.progress.reserve)
        return asked

    def elapsed(self) -> float:
        """Seconds of training so far."""
        return time.monotonic() - self.begin if self.ranks.size == 1 else self._agreed[0]

    def done(self) -> float:
        """Share of the training that is done, 0..1."""
        reserve = self.progress.reserve if self.ranks.size == 1 else self._agreed[1]
        return self.length.progress(self.progress.step, self.elapsed(), reserve)

    def goes_on(self) -> bool:
        """Whether there are steps left; however short its time, a run makes one."""
        return self.done() < 1 or (self.length.seconds is not None and self.progress.step == 0)

    def left(self) -> float | None:
        """Seconds to the end of the whole run, final validation included; None before the first step of a sitting."""
        if self.length.seconds is not None:
            return max(self.length.seconds - self.elapsed(), self.progress.reserve)
        made = self.progress.step - self.first_step
        if not made:
            return None
        steps_left = self.length.epochs * self.length.steps_per_epoch - self.progress.step
        # what has been spent on validations and checkpoints between the steps will be spent again
        per_step = (self.elapsed() - self.first_elapsed) / made
        return max(steps_left, 0) * per_step + self.progress.validation_seconds

    def save_is_due(self) -> bool:
        """Whether the last checkpoint is old."""
        return time.monotonic() - self.saved > SAVE_EVERY_S

    def report_is_due(self) -> bool:
        """Whether the last picture of the history is old; never newer than the last checkpoint."""
        return time.monotonic() - self.reported > SAVE_EVERY_S

    def validation_is_due(self) -> bool:
        """Whether a validation now would keep all of them within their share of the time, and end before training.

        One that would not is left to the final one, which is near.
        """
        takes, since = self.progress.validation_seconds, self.elapsed() - self.progress.validated_at
        due = since >= takes * (1 / VALIDATION_SHARE - 1) and self._training_left() > takes
        return self.ranks.gather(due)[0]

    def _training_left(self) -> float:
        """Seconds until the final validation begins."""
        if self.length.seconds is not None:
            return self.length.seconds - self.elapsed() - self.progress.reserve
        left = self.left()
        return math.inf if left is None else left - self.progress.validation_seconds


def spell(seconds: float) -> str:
    """A duration for people: '45 s', '12 min', '2 h 05 min', '3 d 4 h'."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
