"""How an axis is divided: matplotlib's scales, with ticks that a reader counts in."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator


def divide(axis: Axis, log: bool, values: list[float], tick: Callable[[float], str], most: int,
           room: float = 0.05) -> None:
    """Chooses scale, limits and at most about `most` ticks for `values`. A logarithmic axis takes
    only what is positive."""
    limits = axis.axes.set_xlim if axis.axis_name == "x" else axis.axes.set_ylim
    if log:
        values = [value for value in values if value > 0] or [1.0]
        low, high = min(values), max(values)
        margin = max(high / low, 2) ** room
        scale = axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale
        scale("log")
        limits(low / margin, high * margin)
        decades = high / low
        subs = (1.0, 2.0, 5.0) if decades < 60 else (1.0,)
        axis.set_major_locator(LogLocator(base=10, subs=subs, numticks=most + 2))
        axis.set_minor_locator(NullLocator())
    else:
        limits(min(0, *values), max([*values, 0]) * (1 + room) or 1)
        axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axis.set_minor_formatter(NullFormatter())
