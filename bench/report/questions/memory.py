"""What a worker that waits costs in memory."""

from __future__ import annotations

from .. import text
from ..draw.canvas import Chart
from ..draw.dots import Dot, Dots, Lane
from ..findings import Findings
from ..table import Table
from .section import Section, dots_described, title_of

METHOD = (
    "What the machine has less of with many parked than with none, by their number: kernel memory, "
    "page tables and namespaces too, which no single process is charged for."
)


def ask(findings: Findings) -> Section | None:
    rows = findings.rows("memory")
    if not rows:
        return None
    section = Section("memory", "How much memory does a waiting worker hold?", "",
                      "Not told by this run.", METHOD, "^memory/")
    table = Table("Memory", ["what", "series", "median", "± MAD", "least", "greatest", "values"])
    lanes = []
    for row in rows:
        names = [name for name in findings.series_names(row.name)
                 if text.unit_of(name) == "bytes"]
        if findings.errors(row.name) or not names:
            table.add_instead(title_of(row.name), findings.why_not(row.name))
            continue
        for name in names:
            figures = findings.figures(row.name, name)
            if figures is None:
                continue
            told = text.size(figures.p50)
            lanes.append(Lane(f"{title_of(row.name)}, {text.words(name)}", [Dot(
                0, figures.p50, figures.least, figures.most, told)]))
            table.add(title_of(row.name), text.words(name), told, text.size(figures.mad),
                      text.size(figures.least), text.size(figures.most), f"{figures.count:,}")
            if not section.figure:
                section.figure = f"{title_of(row.name)}, {told}"
                section.answer = f"{title_of(row.name)}: {told} a worker."
    if lanes:
        section.charts.append(Chart("memory", "Memory of a worker", dots_described(lanes),
                                    Dots(lanes, [], "median, least and greatest (thick)",
                                         text.size_tick, log=False)))
    section.tables.append(table)
    return section
