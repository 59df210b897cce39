# SPDX-License-Identifier: Apache-2.0
"""Numbers as a person reads them: none has a digit that repeating the run would change."""

from __future__ import annotations

import math

from .stats import Interval

NONE = "–"


def number(value: float, digits: int = 3) -> str:
    """Three significant digits, and thousands set apart."""
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    if abs(rounded) >= 10.0 ** (digits - places):  # 9.997 has become 10.0
        places -= 1
    return f"{rounded:,.{max(places, 0)}f}" if places > 0 else f"{rounded:,.0f}"


def optional(value: float | None) -> str:
    return NONE if value is None else number(value)


def count(value: float) -> str:
    """What is exact, such as the place of a point in a sweep."""
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


def time(us: float) -> str:
    """With the unit that needs the fewest digits."""
    if abs(us) >= 999_500:
        return f"{number(us / 1e6)} s"
    if abs(us) >= 999.5:
        return f"{number(us / 1e3)} ms"
    return f"{number(us)} us"


def time_tick(us: float) -> str:
    """A place on an axis: no more digits than it has."""
    if us == 0:
        return "0"
    for unit, us_each in (("s", 1e6), ("ms", 1e3)):
        if us >= us_each * (1 - 1e-9):
            return f"{us / us_each:g} {unit}"
    return f"{us:g} us"


def size_tick(bytes_: float) -> str:
    if bytes_ < 1024:
        return f"{bytes_:g}"
    return size(bytes_).replace(".00 ", " ").replace(".0 ", " ")


def signed_time(us: float) -> str:
    return f"{'−' if us < 0 else '+'}{time(abs(us))}"


def size(count: float) -> str:
    """Bytes."""
    for unit in ("bytes", "KiB", "MiB"):
        if abs(count) < 1023.5:
            return f"{number(count)} {unit}"
        count /= 1024
    return f"{number(count)} GiB"


def ratio(value: float | None) -> str:
    if value is None:
        return NONE
    return f"×{value:.2f}" if value < 9.995 else f"×{number(value)}"


def ratio_interval(interval: Interval | None) -> str:
    if interval is None:
        return NONE
    return f"{ratio(interval.low)[1:]} to {ratio(interval.high)[1:]}"


def percent(share: float) -> str:
    return f"{number(share * 100, 2)} %"


def unit_of(series: str) -> str:
    """The unit at the end of a series' name; empty for counts and ratios."""
    for unit in ("per_s", "us", "bytes"):
        if series == unit or series.endswith(f"_{unit}"):
            return unit
    return ""


def quantity(value: float, series: str) -> str:
    """A value of a series, with its unit."""
    unit = unit_of(series)
    if unit == "us":
        return time(value)
    if unit == "bytes":
        return size(value)
    return f"{number(value)}/s" if unit == "per_s" else number(value)


def quantity_tick(value: float, series: str) -> str:
    unit = unit_of(series)
    if unit == "us":
        return time_tick(value)
    if unit == "bytes":
        return size_tick(value)
    return f"{count(value)}/s" if unit == "per_s" else count(value)


def words(series: str) -> str:
    """What a series is called: its name without the unit."""
    unit = unit_of(series)
    name = series.removesuffix(unit).rstrip("_") if unit else series
    return name.replace("_", " ") or "latency"


def listed(items: list[str], last: str = "and") -> str:
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"
