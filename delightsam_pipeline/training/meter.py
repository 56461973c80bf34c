"""What a run says of itself as it goes on: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import logging
import time
from typing import Any

from tqdm import tqdm

from delightsam_pipeline.training.clock import Clock, spell

log = logging.getLogger(__name__)
LINE_EVERY_S = 60.0
_LINE_SHARE = 0.01  # of the time so far, so that the lines of a run of days can still be read
_LOOK_EVERY_S = 1.0
_TASK_FIGURES = (
    "loss {mask_loss:.3f} + patch {patch_loss:.3f}  patch precision {patch_precision:.2f} recall {patch_recall:.2f}"
)


class Meter:
    """The progress of a run: how far, how fast, how long still."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.bar: tqdm | None = None
        self._line_at = self._looked_at = time.monotonic()
        self._no_line_yet = True

    def open(self, made: int) -> None:
        """An epoch begins, or goes on after so many of its steps."""
        name, count = self._name(self.clock.progress.epoch + 1), self.clock.length.steps_per_epoch
        hidden = None if self.clock.ranks.is_first else True  # None: where there is no terminal
        self.bar = tqdm(total=count, initial=made, desc=name, unit="step", disable=hidden, leave=False)

    def close(self) -> None:
        """An epoch has ended."""
        if self.bar is not None:
            self.bar.close()

    def step(self, part) -> None:
        """A step was made; `part` is what its epoch has added up (see epoch.Part)."""
        self.bar.update()
        now = time.monotonic()
        if now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        if not self.bar.disable:
            self.bar.set_postfix_str(f"{part.waiting():.0%} waiting for data, {self._left()}", refresh=False)
        elif self._line_is_due():
            done, count = part.sums.steps, self.clock.length.steps_per_epoch
            name = self._name(self.clock.progress.epoch + 1)
            figures = f"{pace(part.seconds() / done)}, {part.waiting():.0%} waiting for data, {self._left()}"
            self._say("%s, step %d of %d: %s", name, done, count, figures)

    def row(self, row: dict[str, Any]) -> None:
        """An epoch was made, its row of figures is this."""
        done = self.clock.done()
        if not (self._no_line_yet or self._line_is_due() or done >= 1):
            return
        self._no_line_yet = False
        dice = f"  validation Dice {row['dice']:.3f}" if row.get("dice") is not None else ""
        figures = ("feature error {feature_error:.4f}" if "feature_error" in row else _TASK_FIGURES).format(**row)
        speed = f"{pace(row['seconds_per_step'])}, {row['waiting']:.0%} waiting for data"
        left = "" if done >= 1 else f"  {self._left()}"
        self._say("epoch %d (%.0f %%)  %s  %s%s%s", row["epoch"], 100 * done, figures, speed, dice, left)

    def _line_is_due(self) -> bool:
        return time.monotonic() - self._line_at >= max(LINE_EVERY_S, _LINE_SHARE * self.clock.elapsed())

    def _say(self, *line: Any) -> None:
        self._line_at = time.monotonic()
        log.info(*line)

    def _name(self, epoch: int) -> str:
        length = self.clock.length
        return f"epoch {epoch}" if length.seconds is not None else f"epoch {epoch} of {length.epochs}"

    def _left(self) -> str:
        left = self.clock.left()
        return "" if left is None else f"{spell(left)} left"


def pace(seconds_per_step: float) -> str:
    """Steps per second, or seconds per step where that is more than one."""
    return (
        f"{seconds_per_step:.2f} s/step" if seconds_per_step > 1 else f"{1 / max(seconds_per_step, 1e-9):.1f} steps/s"
    )
