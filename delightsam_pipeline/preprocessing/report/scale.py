"""From values to places along a chart's axis, with ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Scale:
    """An axis from value `low` at pixel `begin` to `high` at `end`; a logarithmic one needs low > 0."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    @staticmethod
    def around(values: Iterable[float], begin: float, end: float, log: bool = False) -> Scale:
        """The axis that holds all values with a little room; values that are all the same stand in its middle."""
        values = list(values)
        low, high = min(values), max(values)
        if log:
            room = max((high / low) ** 0.04, 1.1)
            return Scale(low / room, high * room, begin, end, True)
        room = 0.04 * (high - low) or max(0.1 * abs(high), 1e-9)
        return Scale(low - room, high + room, begin, end)

    def __call__(self, value: float) -> float:
        """The pixel of a value; values beyond the ends are held there."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, max(value, self._least)))
        share = (value - low) / (high - low)
        return self.begin + min(max(share, 0.0), 1.0) * (self.end - self.begin)

    @property
    def _least(self) -> float:
        return self.low if self.log else -math.inf

    def ticks(self, most: int = 5) -> list[float]:
        """Round values within the axis, about `most` of them."""
        if not self.log or self.high / self.low < 8:
            return self._even_ticks(most)
        powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
        parts = (1,) if len(powers) > 3 else (1, 2, 5)
        steps = max(1, math.ceil(len(powers) / most))
        values = [part * 10.0**power for power in (powers.start - 1, *powers[::steps]) for part in parts]
        return [value for value in values if self.low <= value <= self.high]

    def _even_ticks(self, most: int) -> list[float]:
        span = self.high - self.low
        magnitude = 10.0 ** math.floor(math.log10(span / most))
        step = next(s * magnitude for s in _STEPS if span / (s * magnitude) <= most)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [k * step for k in range(first, last + 1)]
