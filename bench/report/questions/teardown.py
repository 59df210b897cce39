# SPDX-License-Identifier: Apache-2.0
"""What the end of an isolate costs, and when what it held is free again."""

from __future__ import annotations

from .. import text
from ..draw.canvas import Chart
from ..draw.dots import Dot, Dots, Lane
from ..findings import LATENCY, Findings
from ..table import Table, notes, spread
from .section import Section, dots_described, title_of

METHOD = (
    "A process in a cgroup of its own is let go; from then on, until: it is reaped (the whole), "
    "its cgroup is empty by its own word (populated), the cgroup is removed (rmdir), and the "
    "kernel no longer counts it among the dying (gone), which no caller waits for. net-freed: "
    "network namespaces that have ended, from the end of the last until the kernel's own count "
    "of them is back; a limit of one, in a user namespace of its own, tells that."
)


def ask(findings: Findings) -> Section | None:
    rows = findings.rows("teardown")
    if not rows:
        return None
    section = Section("teardown", "What does ending one cost, and when is it gone?", "", "",
                      METHOD, "^teardown/")
    table = Table("Phases of ending", ["what", "phase", "p50 us", "± MAD", "p90 us", "p99 us",
                                       "values", "outliers"])
    lanes: list[Lane] = []
    told = []
    for row in rows:
        title = title_of(row.name)
        names = [name for name in findings.series_names(row.name)
                 if text.unit_of(name) == "us"]
        names.sort(key=lambda name: (name != LATENCY, _p50(findings, row.name, name)))
        if findings.errors(row.name) or not names:
            table.add_instead(title, findings.why_not(row.name))
            lanes.append(Lane(title, instead=findings.why_not(row.name).split(":")[0].split()[0]))
            continue
        lanes.append(Lane(title, head=True))
        for name in names:
            figures = findings.figures(row.name, name)
            if figures is None:
                continue
            phase = "the whole" if name == LATENCY else text.words(name)
            table.add(title, phase, text.number(figures.p50), spread(figures),
                      text.number(figures.p90), text.optional(figures.p99),
                      f"{figures.count:,}", str(figures.outliers))
            interval = figures.interval
            lanes.append(Lane(phase, [Dot(
                0, figures.p50, min(interval.low, figures.p50) if interval else figures.p50,
                max(interval.high, figures.p50) if interval else figures.p50,
                text.time(figures.p50), figures.p99 or 0)]))
        told.append(_told(findings, row.name, title, names))
        if not section.figure:
            first = findings.figures(row.name, names[0])
            section.figure = f"{title}, {text.time(first.p50)}" if first else ""
    section.answer = f"{told[0]}." if told else "Not told by this run."
    if whole := _story(findings):
        section.figure, section.answer = whole
    if told:
        section.charts.append(Chart(
            "teardown", "The phases of ending", dots_described(lanes),
            Dots(lanes, [], "median, its 95 % interval (thick), p99 (thin); log scale",
                 text.time_tick)))
    table.notes = notes(findings, {row.name: title_of(row.name) for row in rows})
    section.tables.append(table)
    return section


def _story(findings: Findings) -> tuple[str, str] | None:
    """What most readers come for: all namespaces, and when a network namespace is really gone."""
    reaped = findings.figures("teardown/all")
    gone = findings.figures("teardown/all", "gone_us")
    freed = findings.figures("teardown/net-freed/count=1")
    if not (reaped and gone and freed):
        return None
    answer = (f"With all namespaces and a cgroup: reaped after {text.time(reaped.p50)}, the cgroup "
              f"really gone after {text.time(gone.p50)}. A network namespace is freed "
              f"{text.time(freed.p50)} after its last process")
    many = findings.figures("teardown/net-freed/count=1000")
    made = findings.figures("teardown/net-freed/count=1000", "made_per_s")
    rate = findings.figures("teardown/net-freed/count=1000", "freed_per_s")
    if many and made and rate:
        answer += (f"; 1,000 made at {text.quantity(made.p50, 'made_per_s')} are all gone "
                   f"{text.time(many.p50)} after the last, "
                   f"{text.quantity(rate.p50, 'freed_per_s')} from the first to the end")
    return f"reaped {text.time(reaped.p50)}, gone {text.time(freed.p50)}", answer + "."


def _p50(findings: Findings, row: str, series: str) -> float:
    figures = findings.figures(row, series)
    return figures.p50 if figures else 0


def _told(findings: Findings, row: str, title: str, names: list[str]) -> str:
    parts = []
    for name in names:
        figures = findings.figures(row, name)
        if figures and name != LATENCY:
            parts.append(f"{text.words(name)} {text.time(figures.p50)}")
    whole = findings.figures(row)
    told = f"{title}: {text.time(whole.p50)} in all" if whole else title
    return f"{told}{'; ' if whole else ': '}{text.listed(parts)}" if parts else told
