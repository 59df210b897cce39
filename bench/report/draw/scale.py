"""From values to places on an axis, and where its ticks stand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class Scale(Protocol):
    low: float
    high: float

    def __call__(self, value: float) -> float: ...

    def ticks(self, most: int) -> list[float]:
        """At most about `most` of them, inside the axis."""
        ...


@dataclass(frozen=True)
class Linear:
    low: float
    high: float
    start: float  # where `low` is drawn
    end: float

    def __call__(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        return self.start + (value - self.low) / span * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        rough = ((self.high - self.low) or 1.0) / max(most, 1)
        power = 10 ** math.floor(math.log10(rough))
        step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]


@dataclass(frozen=True)
class Log:
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = math.log(self.high / self.low) or 1.0
        return self.start + math.log(value / self.low) / span * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        # The densest that has room; powers of a thousand at last.
        for steps, every in (((1, 1.5, 2, 3, 5, 7), 1), ((1, 2, 5), 1), ((1, 3), 1), ((1,), 1),
                             ((1,), 2), ((1,), 3)):
            ticks = self._at(steps, every)
            if len(ticks) <= most:
                return ticks
        return ticks

    def _at(self, steps: tuple[float, ...], every: int) -> list[float]:
        first = math.floor(math.log10(self.low))
        last = math.ceil(math.log10(self.high))
        return [step * 10.0**power for power in range(first, last + 1) if power % every == 0
                for step in steps
                if self.low * (1 - 1e-9) <= step * 10.0**power <= self.high * (1 + 1e-9)]


def log_around(values: list[float], start: float, end: float, room: float = 0.06) -> Log:
    """A logarithmic axis with some room beyond its values, which must be positive."""
    low, high = min(values), max(values)
    margin = max(high / low, 2) ** room
    return Log(low / margin, high * margin, start, end)
