"""What a time budget keeps for the final validation, from samples of it that are taken again as training goes on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from delightsam_pipeline.training.clock import Clock
from delightsam_pipeline.training.setup import Run
from delightsam_pipeline.training.validation import Stopped, validate

_KEPT = 3  # samples, the quickest of which counts: others are slowed down by what else the machine does
_SECOND = 0.05  # of the budget, after which there is a second sample
_CHEAP, _DOUBTFUL = 0.03, 0.4  # of the budget: one more sample before training ends, and a reserve that needs it


class Reserve:
    """Seconds of a run's time budget that its final validation will take, kept in `progress.reserve`.

    One case of each head is validated, which tells how long all of them take: at first by their sizes, and after a
    whole validation by what that took. It is done anew ever more rarely, so that no sample is trusted that was taken
    while the machine was busy with something else.
    """

    def __init__(self, run: Run, clock: Clock, stop: Callable[[], bool] = lambda: False) -> None:
        self.run, self.clock, self.stop = run, clock, stop
        self.budget = run.length.seconds or 0.0
        self.kept = bool(self.budget) and run.stage.validates
        self.wanted = self.kept and run.ranks.is_first
        all_work, of_sample = sum(map(_work, run.held_out.values())), sum(_work(c[:1]) for c in run.held_out.values())
        self.times_sample = max(1.0, (run.progress.times_sample or all_work / of_sample) / run.ranks.size)
        self.samples: deque[float] = deque(maxlen=_KEPT)
        self.sampled_at = self.interval = 0.0

    def begin(self) -> None:
        """Take the first sample of a sitting; its first pass only warms up: it takes many times as long as others."""
        if not self.wanted:
            return
        self._sample()
        self.samples.clear()
        self._sample()
        if self.samples:
            taken = self.samples[-1]
            self.interval = max(2 * taken, min(10 * taken, _SECOND * self.budget))

    def look(self) -> None:
        """Take a sample if it is time for one, or if training is about to end on the word of an old one.

        The first of several processes takes it; when training is about to end, all hear what it said.
        """
        if self.wanted:
            self._look()
        if self.kept and self.clock.done() >= 1:
            self.clock.agree()

    def _look(self) -> None:
        since = self.clock.elapsed() - self.sampled_at
        if since >= self.interval:
            self._sample()
            self.interval *= 2
        elif self.clock.done() >= 1 and self._is_worth_another(since):
            self._sample()

    def learn(self, seconds: float, of_first: float) -> None:
        """A whole validation took so long, and the first cases of all heads in it so long together."""
        self.times_sample = seconds / max(of_first, 1e-9)
        self.run.progress.times_sample = self.times_sample * self.run.ranks.size
        self.sampled_at = self.clock.elapsed()
        self._set()

    def _is_worth_another(self, since: float) -> bool:
        """Whether training should not end before one more sample was taken, so long after the last."""
        if not self.samples:
            return False
        is_cheap = self.samples[-1] < min(_CHEAP * self.budget, since / 10)
        return is_cheap or self.run.progress.reserve > _DOUBTFUL * self.budget

    def _sample(self) -> None:
        """Validate the first case of each head, unless `stop` ends that: the run is about to end then."""
        begin, run = time.monotonic(), self.run
        model = run.averaged_model()
        try:
            for head, cases in run.held_out.items():
                validate(model, head, run.plans[head], cases[:1], run.device, self.stop, surfaces=run.stage.whole)
        except Stopped:
            return
        self.samples.append(time.monotonic() - begin)
        self.sampled_at = self.clock.elapsed()
        self._set()

    def _set(self) -> None:
        if self.samples:
            self.run.progress.reserve = min(self.samples) * self.times_sample + self.clock.saving
            if not self.run.progress.validated_at:
                self.run.progress.validation_seconds = self.run.progress.reserve


def _work(cases) -> float:
    """What validating cases costs, in pixels of the network's input."""
    return float(sum(case.count * case.back.canvas[0] * case.back.canvas[1] for case in cases)) or 1.0
