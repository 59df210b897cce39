# SPDX-License-Identifier: Apache-2.0
"""Questions whose answer is a curve: waiting for many, many zygotes, what a large parent costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .. import text
from ..draw.canvas import Chart
from ..draw.lines import Lines, Panel
from ..findings import LATENCY, Findings
from ..table import Table, latencies, notes, spread
from .section import Section, curve, curves_described, drawn, sweep, title_of


@dataclass(frozen=True)
class Axis:
    """One parameter, and how it is drawn."""

    parameter: str
    title: str  # of the chart
    label: str  # of the axis
    tick: Callable[[float], str] = text.count


def _mib(mib: float) -> str:
    return text.size_tick(mib * 1024 * 1024)


FLOOR_AXES = [
    Axis("parent_mib", "The parent's memory", "memory that the parent has touched", _mib),
    Axis("fds", "The parent's descriptors", "open descriptors of the parent"),
]
WAIT_AXES = [Axis("children", "Waiting for many", "children waited for at once")]
SUSTAINED = {"scale/sustained": "full isolation",
             "scale/sustained-fresh": "full isolation, all namespaces new",
             "scale/sustained-host-net": "all but a network of its own",
             "scale/sustained-host-net-fresh": "all but a network of its own, all namespaces new"}
SCALE_AXES = [
    Axis("concurrency", "By requests at once", "requests at once"),
    Axis("zygotes", "By zygotes", "zygotes"),
    Axis("parked", "By workers kept parked", "workers kept parked"),
]


def ask_wait(findings: Findings) -> Section | None:
    section = _section(
        findings, "wait", "What is the cheapest way to wait for thousands?",
        "So many children stand and wait; then they end, and each is learned of by the one way and "
        "reaped. A value is the time for each child.", WAIT_AXES, "time for each child")
    if section is None:
        return None
    points = sweep(findings, "children", "wait")
    # At the greatest number that most ways have managed.
    counts = sorted({count for at in points.values() for count in at}, reverse=True)
    managed = {count: {title_of(base): figures for base, at in points.items()
                       if count in at and (figures := findings.figures(at[count]))}
               for count in counts}
    most = max((len(found) for found in managed.values()), default=0)
    for count, found in managed.items():
        if len(found) > 1 and len(found) == most:
            order = sorted(found, key=lambda way: found[way].p50)
            best, worst = order[0], order[-1]
            section.figure = f"{best}, {text.time(found[best].p50)} a child"
            section.answer = (
                f"Of {text.count(count)} children {best} costs {text.time(found[best].p50)} each, "
                f"{worst} {text.time(found[worst].p50)}.")
            break
    return section


def ask_floors(findings: Findings) -> Section | None:
    section = _section(
        findings, "floor", "What does the machine itself charge?",
        "Bare system calls and bare ways of starting a program, with no isolation, from a small "
        "parent and from one that has touched so much memory, or holds so many descriptors.",
        FLOOR_AXES, "median latency")
    if section is None:
        return None
    plain = [row.name for row in findings.rows("floor") if not row.parameters]
    if plain:
        section.tables.insert(0, latencies(findings, "What the machine charges", "what", plain,
                                           {name: title_of(name) for name in plain}))
    told = []
    for name in ("floor/fork/exec", "floor/clone3-vfork/exec", "floor/clone3-vfork"):
        if figures := findings.figures(name):
            told.append(f"{title_of(name)} {text.time(figures.p50)}")
            section.figure = f"{title_of(name)}, {text.time(figures.p50)}"
    for base, at in sweep(findings, "parent_mib", "floor").items():
        ends = [(mib, figures) for mib, name in at.items() if (figures := findings.figures(name))]
        if base == "floor/fork/exec" and len(ends) > 1:
            told.append(f"from a parent of {_mib(ends[-1][0])} fork takes "
                        f"{text.ratio(ends[-1][1].p50 / ends[0][1].p50)} of what it takes from one "
                        f"of {_mib(ends[0][0])}")
    if told:
        section.answer = f"Bare: {'; '.join(told)}."
    return section


def ask_scale(findings: Findings) -> Section | None:
    section = _section(
        findings, "scale", "What do more zygotes, or more requests at once, bring?",
        "Requests kept going at once, and so many zygotes to make workers; processes that ran to "
        "their end, a second.", SCALE_AXES, "processes a second", "per_s")
    if section is None:
        return None
    best = None
    for row in findings.rows("scale"):
        figures = findings.figures(row.name, "per_s")
        if figures and (best is None or figures.p50 > best[1]):
            best = (title_of(row.name), figures.p50)
    if best:
        section.figure = f"{text.number(best[1])}/s"
        section.answer = f"The highest rate is {text.number(best[1])} a second, with {best[0]}."
    kept = [f"{text.ratio(ratio.p50)} of the floor's rate behind {title}"
            for name, title in SUSTAINED.items()
            if (ratio := findings.figures(name, "rate_ratio"))]
    if kept:
        section.figure = f"sustained, {kept[0].partition(' behind')[0]}"
        section.answer += f" Workers made anew as fast as they are used: {text.listed(kept)}."
    section.tables.append(_rates(findings))
    return section


def _section(findings: Findings, name: str, question: str, method: str, axes: list[Axis],
             y_axis: str, of: str = LATENCY) -> Section | None:
    rows = findings.rows(name)
    if not rows:
        return None
    section = Section(name, question, "", "Not told by this run.", method, f"^{name}/")
    shown = set()
    for axis in axes:
        points = {base: at for base, at in sweep(findings, axis.parameter, name).items()
                  if not shown.intersection(at.values())}
        shown |= {row for at in points.values() for row in at.values()}
        series = drawn([curve(findings, title_of(base), at, of) for base, at in points.items()])
        if series:
            section.charts.append(Chart(
                f"{name}-{axis.parameter}".replace("_", "-"), axis.title,
                curves_described(series),
                Lines([Panel("", series)], axis.label,
                    y_axis + ("; both scales logarithmic" if of == LATENCY else
                              "; logarithmic across"),
                    axis.tick, _tick(of), log_y=of == LATENCY)))
        if points:
            section.tables.append(_table(findings, axis, points, of))
    rest = [row.name for row in rows if row.name not in shown and row.parameters]
    if rest and of == LATENCY:
        section.tables.append(latencies(findings, "Others", "what", rest,
                                        {one: title_of(one) for one in rest}))
    for table in section.tables[:1]:
        table.notes = notes(findings, {row.name: title_of(row.without(axes[0].parameter))
                                       for row in rows if row.name in shown})
    return section


def _rates(findings: Findings) -> Table:
    """All rows once more, with what only some of them have."""
    table = Table("Rates", ["what", "a second", "least", "greatest", "/ floor", "parking one"])
    for row in findings.rows("scale"):
        rate = findings.figures(row.name, "per_s")
        if rate is None:
            table.add_instead(title_of(row.name), findings.why_not(row.name))
            continue
        ratio = findings.figures(row.name, "rate_ratio")
        parking = findings.figures(row.name, "park_us")
        table.add(title_of(row.name), text.number(rate.p50), text.number(rate.least),
                  text.number(rate.most), text.ratio(ratio.p50) if ratio else text.NONE,
                  text.time(parking.p50) if parking else text.NONE)
    return table


def _tick(of: str) -> Callable[[float], str]:
    return lambda value: text.quantity_tick(value, of)


def _table(findings: Findings, axis: Axis, points: dict[str, dict[float, str]],
           of: str) -> Table:
    unit = {"us": "us", "per_s": "/s"}.get(text.unit_of(of), "")
    table = Table(axis.title, ["way", axis.parameter.replace("_", " "), f"p50 {unit}",
                               "± MAD", f"p90 {unit}", f"p99 {unit}", "values", "outliers"])
    for base, at in points.items():
        for value, name in at.items():
            figures = findings.figures(name, of)
            if figures is None:
                table.add_instead(f"{title_of(base)}, {text.count(value)}",
                                  findings.why_not(name))
                continue
            table.add(title_of(base), text.count(value), text.number(figures.p50),
                      spread(figures), text.number(figures.p90),
                      text.optional(figures.p99), f"{figures.count:,}", str(figures.outliers))
    return table
