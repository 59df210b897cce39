# SPDX-License-Identifier: Apache-2.0
"""How an axis is divided: matplotlib's scales, with ticks that a reader counts in."""

from __future__ import annotations

import math
from collections.abc import Callable

from matplotlib.axis import Axis
from matplotlib.ticker import (FixedLocator, FuncFormatter, MaxNLocator, NullFormatter,
                               NullLocator)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round places on a logarithmic axis: the densest that has room for so many, and powers of ten
    at last."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    places: list[float] = []
    for steps, every in (((1, 1.5, 2, 3, 5, 7), 1), ((1, 2, 5), 1), ((1, 3), 1), ((1,), 1),
                         ((1,), 2), ((1,), 3)):
        places = [step * 10.0**power for power in powers if power % every == 0 for step in steps
                  if low <= step * 10.0**power <= high]
        if len(places) <= most:
            break
    return places


def divide(axis: Axis, log: bool, values: list[float], tick: Callable[[float], str], most: int,
           room: float = 0.05, unit: float = 1) -> None:
    """Chooses scale, limits and at most about `most` ticks for `values`. A logarithmic axis takes
    only what is positive; the ticks of a linear one are round in `unit`, 1024 for bytes."""
    limits = axis.axes.set_xlim if axis.axis_name == "x" else axis.axes.set_ylim
    if log:
        values = [value for value in values if value > 0] or [1.0]
        low, high = min(values), max(values)
        margin = max(high / low, 2) ** room
        scale = axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale
        scale("log")
        limits(low / margin, high * margin)
        axis.set_major_locator(FixedLocator(ticks(low / margin, high * margin, most)))
        axis.set_minor_locator(NullLocator())
    else:
        highest = max([*values, 0]) * (1 + room) or 1
        limits(min([*values, 0]), highest)
        places = MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(0, highest / unit)
        axis.set_major_locator(FixedLocator([place * unit for place in places
                                             if place * unit <= highest]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axis.set_minor_formatter(NullFormatter())
