# SPDX-License-Identifier: Apache-2.0
"""Latency under load: requests that come whether or not the last one is done."""

from __future__ import annotations

from .. import text
from ..draw.canvas import Chart
from ..draw.lines import Lines, Panel, Point, Series
from ..findings import Figures, Findings
from ..table import Table
from .section import Section, curves_described, sweep
from .spawn import median_of

METHOD = (
    "Open loop: requests come at fixed times, at a share of the rate that the floor reaches alone, "
    "and latency counts from the time a request was due, so that waiting behind others is in it. "
    "Where less is served than is offered, the queue grows for as long as the measurement lasts, "
    "and latency tells its length."
)
PERCENTILES = (("p50", "p50"), ("p99", "p99"), ("p99.9", "p999"))
WAYS = ["floor", "parked", "zygote", "cold"]
# Serving less than this share of what is offered is falling behind.
KEEPS_UP = 0.97


def ask(findings: Findings) -> Section | None:
    points = sweep(findings, "offered", "load")
    points = dict(sorted(points.items(), key=lambda one: _place(one[0])))
    if not points:
        return None
    section = Section("load", "How much load does it carry, and how late does it get?", "", "",
                      METHOD, "^load/")
    panels = []
    for title, attribute in PERCENTILES:
        series = [one for base, at in points.items()
                  if (one := _curve(findings, base, at, attribute)).points]
        if series:
            panels.append(Panel(title, series))
    if panels:
        section.charts.append(Chart(
            "load", "Latency by offered load", " ".join(
                f"{panel.title}: {curves_described(panel.series)}" for panel in panels),
            Lines(panels, "offered, as a share of the floor's own rate",
                  "latency from the scheduled arrival, log scale",
                  text.count, text.time_tick, log_x=False)))
    section.answer, section.figure = _answer(findings, points)
    section.tables.append(_table(findings, points))
    return section


def _place(base: str) -> int:
    name = base.split("/", 1)[1]
    return WAYS.index(name) if name in WAYS else len(WAYS)


def _curve(findings: Findings, base: str, at: dict[float, str], attribute: str) -> Series:
    name = base.split("/", 1)[1]
    found = []
    for share, row in at.items():
        figures = findings.figures(row)
        value = getattr(figures, attribute) if figures else None
        if value:
            found.append(Point(share, value, value, value,
                               f"offered {share:g}: {text.time(value)}"))
    return Series(name, found, dashed=name == "floor")


def _share(findings: Findings, row: str) -> float | None:
    offered, served = (median_of(findings, row, series)
                       for series in ("offered_per_s", "served_per_s"))
    return served / offered if offered and served is not None else None


def _answer(findings: Findings, points: dict[str, dict[float, str]]) -> tuple[str, str]:
    told = []
    figure = ""
    for base, at in points.items():
        name = base.split("/", 1)[1]
        best = None
        for share, row in at.items():
            served = _share(findings, row)
            if served is None or served < KEEPS_UP:
                break
            best = share
        if best is None or name == "floor":
            continue
        tail: Figures | None = findings.figures(at[best])
        late = f", p99 {text.time(tail.p99)} there" if tail and tail.p99 else ""
        told.append(f"{name} keeps up to {best:g} of the floor's rate{late}")
        if name == "parked":
            figure = f"parked, {best:g} of the floor's rate"
    answer = "; ".join(told)
    return (answer[:1].upper() + answer[1:] + "." if told else "Not told by this run.", figure)


def _table(findings: Findings, points: dict[str, dict[float, str]]) -> Table:
    table = Table("Under load", ["path", "offered", "offered/s", "served/s", "p50 us", "p90 us",
                                 "p99 us", "p99.9 us", "values"])
    for base, at in points.items():
        name = base.split("/", 1)[1]
        for share, row in at.items():
            figures = findings.figures(row)
            if figures is None:
                table.add_instead(f"{name}, {share:g}", findings.why_not(row))
                continue
            table.add(name, f"{share:g}",
                      *(text.optional(median_of(findings, row, series))
                        for series in ("offered_per_s", "served_per_s")),
                      text.number(figures.p50), text.number(figures.p90),
                      text.optional(figures.p99), text.optional(figures.p999),
                      f"{figures.count:,}")
    return table
