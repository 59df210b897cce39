# SPDX-License-Identifier: Apache-2.0
"""Sections that this report has no question for: their rows, as they are."""

from __future__ import annotations

from .. import text
from ..findings import LATENCY, Findings
from ..table import Table, latencies
from .section import Section, title_of

METHOD = "As the rows' names say."


def ask(findings: Findings, name: str) -> Section:
    names = [row.name for row in findings.rows(name)]
    section = Section(f"other-{name}", f"What else was measured: {name}", "", "", METHOD,
                      f"^{name}/")
    measured = sum(1 for one in names if findings.measured(one))
    section.answer = f"{measured} of {len(names)} rows measured."
    section.tables.append(latencies(findings, f"Rows of {name}", "row", names,
                                    {one: title_of(one) for one in names}))
    extra = Table("Beside the latency", ["row", "series", "median", "least", "greatest", "values"])
    for one in names:
        for series in findings.series_names(one):
            figures = findings.figures(one, series)
            if series == LATENCY or figures is None:
                continue
            extra.add(title_of(one), text.words(series),
                      *(text.quantity(value, series)
                        for value in (figures.p50, figures.least, figures.most)),
                      f"{figures.count:,}")
    if extra.lines:
        section.tables.append(extra)
    return section
