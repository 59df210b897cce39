# SPDX-License-Identifier: Apache-2.0
"""What a worker that waits costs in memory."""

from __future__ import annotations

from .. import text
from ..draw.canvas import Chart
from ..draw.dots import Dot, Dots, Lane
from ..findings import Findings
from ..run import Row
from ..table import Table
from .section import Section, dots_described, title_of

METHOD = (
    "What the machine has less of with many parked than with none, by their number: kernel memory, "
    "page tables and namespaces too, which no single process is charged for."
)


def _title(row: Row) -> str:
    """1,000 parked, host-net."""
    parked = row.parameters.get("parked")
    if parked is None:
        return title_of(row.name)
    way = row.base.partition("/")[2]
    return f"{text.count(parked)} parked{', ' + way if way else ''}"


def ask(findings: Findings) -> Section | None:
    rows = findings.rows("memory")
    if not rows:
        return None
    section = Section("memory", "How much memory does a waiting worker hold?", "",
                      "Not told by this run.", METHOD, "^memory/")
    table = Table("Memory", ["what", "series", "median", "± MAD", "least", "greatest", "values"])
    lanes = []
    each: list[str] = []
    for row in rows:
        names = [name for name in findings.series_names(row.name)
                 if text.unit_of(name) == "bytes"]
        if findings.errors(row.name) or not names:
            table.add_instead(_title(row), findings.why_not(row.name))
            continue
        for name in names:
            figures = findings.figures(row.name, name)
            if figures is None:
                continue
            told = text.size(figures.p50)
            title = _title(row)
            lanes.append(Lane(title, [Dot(
                0, figures.p50, figures.least, figures.most, told)]))
            table.add(title, text.words(name), told,
                      text.size(figures.mad) if len(figures.round_medians) > 1 else text.NONE,
                      text.size(figures.least), text.size(figures.most), f"{figures.count:,}")
            each.append(f"{title}, {told}")
    if lanes:
        section.figure = each[0]
        section.answer = f"A worker holds, of {'; of '.join(each)}."
        section.charts.append(Chart("memory", "Memory of a worker", dots_described(lanes),
                                    Dots(lanes, [], "median, least and greatest (thick)",
                                         text.size_tick, log=False, unit=1024)))
    section.tables.append(table)
    return section
