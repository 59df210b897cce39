# SPDX-License-Identifier: Apache-2.0
"""What each namespace costs, made for the occasion or entered ready made."""

from __future__ import annotations

from .. import text
from ..draw.canvas import Chart
from ..draw.dots import Dots, Lane
from ..draw.lines import Lines, Panel
from ..findings import Findings
from ..table import Table, spread
from .section import Section, curve, curves_described, dot, dots_described, drawn, sweep

FLOOR = "namespace/none"
KINDS = ["mount", "pid", "net", "ipc", "uts", "user", "cgroup", "time"]

METHOD = (
    "A child is cloned with CLONE_VM and CLONE_VFORK, makes (fresh) or enters (prepared) the "
    "namespace, exits, and is reaped: making, and what of the undoing its parent has to wait for. "
    "A network namespace is taken down later by the kernel alone, which no figure here holds. "
    "cgroup and time namespaces are made by unshare in the child. A pid namespace is entered by "
    "the parent before it clones, and left again after. A time namespace can be entered only by "
    "who shares no memory, so that child is forked, and compared with a forked child that does "
    "nothing."
)
SWEEP_METHOD = (
    "The same as for a single namespace, with so many threads of one process at it at once "
    "(concurrency), or so many mounts in the namespace that is copied (mounts)."
)


def ask(findings: Findings) -> Section | None:
    rows = [row for row in findings.rows("namespace") if not row.parameters]
    if not rows:
        return None
    section = Section("namespaces", "What does each namespace cost?", "", "", METHOD,
                      "^namespace/")
    kinds = _kinds(findings)
    floor = findings.figures(FLOOR)
    section.answer = _answer(findings)
    everything = findings.figures("namespace/fresh/all")
    if everything and floor:
        section.figure = f"all eight, {text.signed_time(everything.p50 - floor.p50)}"
    lanes = [_lane(findings, kind) for kind in kinds]
    if any(lane.dots for lane in lanes):
        section.charts.append(Chart(
            "namespaces", "A child with one namespace, fresh and prepared", dots_described(lanes),
            Dots(lanes, ["fresh", "prepared"],
                 "median, its 95 % interval (thick), p99 (thin); log scale", text.time_tick,
                 reference=(floor.p50, "none: the floor") if floor else None)))
    section.tables.append(_table(findings, kinds))
    return section


def ask_sweeps(findings: Findings) -> Section | None:
    section = Section(
        "namespace-sweeps",
        "What do namespaces cost when many are made at once, or much is copied?", "", "", SWEEP_METHOD, "^namespace/.*=")
    told = []
    for parameter, title, x_axis in (
            ("concurrency", "Makers at once", "makers at once"),
            ("mounts", "Mounts in the namespace", "mounts")):
        points = sweep(findings, parameter, "namespace")
        if not points:
            continue
        series = drawn([curve(findings, base.removeprefix("namespace/"), at,
                              x_text=f"{parameter} ") for base, at in points.items()])
        section.tables.append(_sweep_table(findings, parameter, points))
        if not series:
            continue
        section.charts.append(Chart(
            f"namespace-{parameter}", title, curves_described(series),
            Lines([Panel("", series)], x_axis, "median latency; both scales logarithmic",
                  text.count, text.time_tick)))
        worst = max(series, key=lambda one: one.points[-1].y / one.points[0].y)
        first, last = worst.points[0], worst.points[-1]
        if len(worst.points) > 1:
            told.append(f"{worst.name} goes from {text.time(first.y)} to {text.time(last.y)} "
                        f"between {text.count(first.x)} and {text.count(last.x)} "
                        f"{'at once' if parameter == 'concurrency' else parameter}")
            if not section.figure:
                section.figure = (f"{worst.name}, {text.ratio(last.y / first.y)} at "
                                  f"{text.count(last.x)}")
    if not section.tables:
        return None
    section.answer = f"The steepest: {'; '.join(told)}." if told else "Not told by this run."
    return section


def _kinds(findings: Findings) -> list[str]:
    found = dict.fromkeys(row.name.split("/", 2)[2] for row in findings.rows("namespace")
                          if row.name.count("/") == 2 and not row.parameters)
    return sorted(found, key=lambda kind: (
        KINDS.index(kind) if kind in KINDS else len(KINDS), list(found).index(kind)))


def _lane(findings: Findings, kind: str) -> Lane:
    dots = []
    sentences = []
    for series, way in enumerate(("fresh", "prepared")):
        name = f"namespace/{way}/{kind}"
        figures = findings.figures(name)
        row = findings.row(name)
        # One with another floor cannot stand on this axis; the table has it.
        if row is None or row.floor not in ("", FLOOR):
            continue
        if figures is None:
            sentences.append(findings.why_not(name).split(":")[0].split(" ")[0])
        else:
            dots.append(dot(figures, series, whisker=True))
    return Lane(kind, dots, "" if dots else (sentences or ["in the table"])[0])


def _answer(findings: Findings) -> str:
    floor = findings.figures(FLOOR)
    if floor is None:
        return f"Not told by this run: {findings.why_not(FLOOR)}."
    over = {kind: figures.p50 - floor.p50 for kind in KINDS
            if (figures := findings.figures(f"namespace/fresh/{kind}"))}
    if not over:
        return "Not told by this run: no fresh namespace was measured."
    dear = sorted(over, key=lambda kind: -over[kind])[:3]
    answer = "Fresh, over a child with none: " + text.listed(
        [f"{kind} {text.signed_time(over[kind])}" for kind in dear])
    rest = sum(us for kind, us in over.items() if kind not in dear)
    if len(over) > len(dear):
        answer += f", the other {len(over) - len(dear)} together {text.signed_time(rest)}"
    everything = findings.figures("namespace/fresh/all")
    if everything:
        answer += f"; all at once {text.signed_time(everything.p50 - floor.p50)}"
    ready = findings.figures("namespace/prepared/all-but-time")
    if ready:
        answer += f"; entered ready made, all but time {text.signed_time(ready.p50 - floor.p50)}"
    return answer + "."


def _table(findings: Findings, kinds: list[str]) -> Table:
    table = Table("What each namespace costs", [
        "namespace", "", "p50 us", "± MAD", "p99 us", "over the floor", "/ floor",
        "95 % interval", "values", "outliers"])
    names = [row.name for row in findings.rows("namespace")
             if row.name.count("/") == 1 and not row.parameters]
    names += [f"namespace/{way}/{kind}" for kind in kinds for way in ("fresh", "prepared")]
    for name in names:
        row = findings.row(name)
        if row is None:
            continue
        parts = name.split("/")
        head, way = (parts[2], parts[1]) if len(parts) > 2 else (parts[1], "")
        figures = findings.figures(name)
        if figures is None:
            table.add_instead(f"{head}, {way}" if way else head, findings.why_not(name))
            continue
        floor = findings.figures(row.floor) if row.floor else None
        ratio = figures.ratio
        table.add(
            head, way, text.number(figures.p50), spread(figures),
            text.optional(figures.p99),
            text.signed_time(figures.p50 - floor.p50) if floor else text.NONE,
            text.ratio(ratio.value) if ratio else text.NONE,
            text.ratio_interval(ratio.interval) if ratio else text.NONE,
            f"{figures.count:,}", str(figures.outliers))
        if floor and row.floor != FLOOR:
            table.notes.append(f"{head}, {way}: its floor is {row.floor.split('/', 1)[1]}")
    return table


def _sweep_table(findings: Findings, parameter: str,
                 points: dict[str, dict[float, str]]) -> Table:
    table = Table(f"By {parameter}", ["namespace", parameter, "p50 us", "± MAD", "p99 us",
                                      "/ floor", "95 % interval"])
    for base, at in points.items():
        title = base.removeprefix("namespace/")
        for value, name in at.items():
            figures = findings.figures(name)
            if figures is None:
                table.add_instead(f"{title}, {text.count(value)}", findings.why_not(name))
                continue
            ratio = figures.ratio
            table.add(title, text.count(value), text.number(figures.p50),
                      spread(figures), text.optional(figures.p99),
                      text.ratio(ratio.value) if ratio else text.NONE,
                      text.ratio_interval(ratio.interval) if ratio else text.NONE)
    return table
