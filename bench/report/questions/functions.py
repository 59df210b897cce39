# SPDX-License-Identifier: Apache-2.0
"""Functions over HTTP: brood-bench's rows, and what bench/functions/clients wrote beside them."""

from __future__ import annotations

from typing import Any

from .. import text
from ..draw.canvas import Chart
from ..draw.dots import Dot, Dots, Lane
from ..draw.lines import Lines, Panel, Point, Series
from ..findings import Findings
from ..table import Table, latencies
from .section import Section, curves_described, dots_described, lane, sweep
from .spawn import median_of

FLOOR = "function/floor"
RATE_FLOOR = "function/rate/floor"
METHOD = (
    "One caller with a connection that it keeps, from the request's first byte to the answer's "
    "last, a call at a time; each call has an isolate of its own, fully isolated. The function is a "
    "static program that writes what it reads, 64 bytes; the floor is that program with no isolation "
    "and no HTTP, from clone to reaped. All that these calls need stands ready before them. A rate "
    "is that of so many callers at once, each with one call after the other, against the rate of "
    "bare processes made by as many threads as there are processors; there, what stands ready is "
    "soon used up. The real clients are measured once, apart from the rounds."
)
COMMAND = "bench/functions/clients > DIR/functions.json; bench/report/make DIR"


def ask(findings: Findings) -> Section | None:
    names = [row.name for row in findings.rows("function")]
    clients = findings.run.clients
    if not names and not clients:
        return None
    section = Section("functions", "What does a call of a function cost, through HTTP?", "", "",
                      METHOD, "^function/", command="" if names else COMMAND)
    told = []
    if names:
        told += _calls(findings, [name for name in names if "/rate/" not in name], section)
        told += _rates(findings, section)
    if clients:
        told += _clients(clients, section)
    section.answer = "; ".join(told)
    section.answer = (f"{section.answer[:1].upper()}{section.answer[1:]}." if told
                      else "Not told by this run.")
    return section


def _calls(findings: Findings, names: list[str], section: Section) -> list[str]:
    titles = {name: name.removeprefix("function/").replace("/idle", ", now and then")
              for name in names}
    lanes = [lane(findings, name, titles[name]) for name in names]
    floor = findings.figures(FLOOR)
    if any(one.dots for one in lanes):
        section.charts.append(Chart(
            "functions", "One call at a time", dots_described(lanes),
            Dots(lanes, [], "median, its 95 % interval (thick), p99 (thin); log scale",
                 text.time_tick, reference=(floor.p50, "floor") if floor else None)))
    section.tables.append(latencies(findings, "Calls, one at a time", "function", names, titles))
    told = []
    for name in names:
        figures = findings.figures(name)
        if figures is None or figures.ratio is None or name.endswith("/idle"):
            continue
        told.append(f"{titles[name].replace('python/', 'Python, ')} {text.time(figures.p50)}, "
                    f"{text.ratio(figures.ratio.value)} of its floor")
        if name == "function/primed":
            section.figure = f"primed, {text.time(figures.p50)}"
    return told


def _rates(findings: Findings, section: Section) -> list[str]:
    floor = median_of(findings, RATE_FLOOR, "per_s")
    table = Table("Calls a second", ["mode", "connections", "per s", "/ floor", "p50 us", "p99 us"])
    if floor:
        table.notes.append(f"floor: {text.number(floor)} bare processes a second")
    series = []
    best: dict[str, float] = {}
    for base, at in sweep(findings, "concurrency", "function").items():
        mode = base.removeprefix("function/rate/")
        if base == RATE_FLOOR:
            continue
        points = []
        for connections, row in at.items():
            rate, figures = median_of(findings, row, "per_s"), findings.figures(row)
            if rate is None or figures is None:
                table.add_instead(f"{mode}, {text.count(connections)}", findings.why_not(row))
                continue
            table.add(mode, text.count(connections), text.number(rate),
                      f"{rate / floor:.2f}" if floor else text.NONE, text.number(figures.p50),
                      text.optional(figures.p99))
            if floor:
                share = rate / floor
                best[mode] = max(best.get(mode, 0), share)
                points.append(Point(connections, share, share, share,
                                    f"{text.count(connections)} connections: {share:.2f}"))
        if points:
            series.append(Series(mode, points))
    if table.lines:
        section.tables.append(table)
    if series:
        section.charts.append(Chart(
            "functions-rate", "Calls a second, by connections", curves_described(series),
            Lines([Panel("", series)], "connections", "share of the floor's rate", text.count,
                  lambda value: f"{value:g}", log_y=False)))
    return [f"sustained, {mode} reaches {share:.2f} of the floor's rate"
            for mode, share in best.items()]


def _short(version: str) -> str:
    """Of what a program says of its version, its name and number."""
    return " ".join(version.replace("version: ", "").split()[:2])


def _clients(clients: list[dict[str, Any]], section: Section) -> list[str]:
    table = Table("Real clients", ["client", "through", "mode", "connections", "per s", "p50 us",
                                   "p90 us", "p99 us", "calls"])
    table.notes.append("curl: the whole command, its own start among it; posix_spawn: a bare "
                       "process, started by Python")
    lanes: dict[str, list[Lane]] = {}
    rates: dict[str, float] = {}
    for one in clients:
        front = _short(one.get("front") or text.NONE)
        mode = one.get("mode", text.NONE)
        if "latency_us" not in one:
            why = f"failed: {one['failed']}" if "failed" in one else f"skipped: {one['skipped']}"
            table.add_instead(f"{one['client']}, {mode}", why)
            continue
        latency = one["latency_us"]
        table.add(_short(one.get("version") or one["client"]), front, mode,
                  text.count(one["connections"]), text.number(one["rate_per_s"]),
                  text.number(latency["p50"]), text.number(latency["p90"]),
                  text.number(latency["p99"]), f"{one['count']:,}")
        name = f"{one['client']}{', nginx' if one.get('front') else ''}"
        if one["connections"] > 1:
            name += f", {text.count(one['connections'])} connections"
            rates[mode] = max(rates.get(mode, 0), one["rate_per_s"])
        lanes.setdefault(mode, []).append(
            Lane(name, [Dot(0, latency["p50"], latency["p50"], latency["p50"],
                            text.time(latency["p50"]), latency["p99"])]))
    section.tables.append(table)
    if lanes:
        under = [each for mode, found in lanes.items()
                 for each in [Lane(mode, head=True), *found]]
        section.charts.append(Chart(
            "functions-clients", "Real clients", dots_described(under),
            Dots(under, [], "median, p99 (thin); log scale", text.time_tick)))
    if not rates:
        return []
    quickest = max(rates, key=lambda mode: rates[mode])
    return [f"wrk gets {text.number(rates[quickest])} {quickest} calls a second"]
