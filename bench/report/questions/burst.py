# SPDX-License-Identifier: Apache-2.0
"""A thousand processes asked for at once: how near the bare rate that comes."""

from __future__ import annotations

from .. import text
from ..draw.canvas import Chart
from ..draw.dots import Dot, Dots, Lane
from ..findings import Findings
from ..stats import median, median_interval
from ..table import Table
from .section import Section, dots_described
from .spawn import BURST

METHOD = (
    "All are asked for at once, first of the floor and then of brood, in each round anew; the rate "
    "is their number by the time from the first request to the last process reaped. Latencies in a "
    "burst are mostly waiting for one's turn. The workers were parked before the clock started; "
    "what that took is told."
)
KNOWN = {
    "rate_ratio": "rate / floor's rate",
    "per_s": "processes a second",
    "floor_per_s": "processes a second, floor",
    "p50_us": "p50 latency",
    "floor_p50_us": "p50 latency, floor",
    "p99_us": "p99 latency",
    "floor_p99_us": "p99 latency, floor",
    "park_us": "parking one worker, ahead of its request",
    "worker_bytes": "memory of a parked worker",
}
COUNTS = {"failed": "failed", "left": "left behind"}


def ask(findings: Findings) -> Section | None:
    if findings.row(BURST) is None:
        return None
    section = Section("burst", "How near the bare rate do a thousand at once come?", "", "",
                      METHOD, f"^{BURST}$")
    ratios = findings.values(BURST, "rate_ratio")
    if not ratios:
        section.answer = f"Not told by this run: {findings.why_not(BURST)}."
        return section
    section.figure = f"{text.ratio(median(ratios))} the floor's rate"
    interval = median_interval(ratios)
    if interval:
        around = f" ({text.ratio_interval(interval)})"
    elif len(ratios) > 1:
        around = f" ({len(ratios)} bursts: {min(ratios):.2f} to {max(ratios):.2f})"
    else:
        around = " (a single burst)"
    section.answer = f"{text.ratio(median(ratios))}{around} of the floor's rate"
    rates = [findings.values(BURST, series) for series in ("per_s", "floor_per_s")]
    if all(rates):
        section.answer += (f", {text.number(median(rates[0]))} processes a second against "
                           f"{text.number(median(rates[1]))}")
    failed, left = (sum(findings.values(BURST, series)) for series in COUNTS)
    section.answer += f"; {failed:,.0f} failed, {left:,.0f} left behind." if failed or left else (
        "; none failed, nothing left behind.")
    lanes = [_lane(findings, title, series) for title, series in (
        ("p50", "p50_us"), ("p50, floor", "floor_p50_us"),
        ("p99", "p99_us"), ("p99, floor", "floor_p99_us"))]
    lanes = [lane for lane in lanes if lane.dots]
    if lanes:
        section.charts.append(Chart(
            "burst", "Latency in a burst", dots_described(lanes),
            Dots(lanes, ["brood", "floor"], "median over bursts, least and greatest (thick)",
                 text.time_tick, log=False)))
    section.tables.append(_table(findings))
    return section


def _lane(findings: Findings, title: str, series: str) -> Lane:
    values = findings.values(BURST, series)
    if not values:
        return Lane(title)
    middle = median(values)
    return Lane(title, [Dot(int("floor" in series), middle, min(values), max(values),
                            text.time(middle))])


def _table(findings: Findings) -> Table:
    table = Table("Bursts", ["", "median", "± MAD", "least", "greatest", "bursts"])
    for series, title in KNOWN.items():
        figures = findings.figures(BURST, series)
        if figures is None:
            continue
        values = findings.values(BURST, series)
        cells = [text.quantity(value, series)
                 for value in (median(values), figures.mad, figures.least, figures.most)]
        if len(values) == 1:
            cells[1:] = [text.NONE] * 3
        table.add(title, *cells, str(len(values)))
    for series, title in COUNTS.items():
        values = findings.values(BURST, series)
        if values:
            table.add(title, f"{sum(values):,.0f} in all", "", "", "", str(len(values)))
    table.notes = findings.labels(BURST)
    row = findings.row(BURST)
    if row and row.note:
        table.notes.append(row.note)
    return table
