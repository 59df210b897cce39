# SPDX-License-Identifier: Apache-2.0
"""Tables: what is in them. The page and the summary draw them."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import text
from .findings import Figures, Findings


@dataclass
class Line:
    cells: list[str]  # the first is the line's head
    instead: str = ""  # what stands in place of all but the first


@dataclass
class Table:
    caption: str
    header: list[str]
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        self.lines.append(Line(list(cells)))

    def add_instead(self, head: str, sentence: str) -> None:
        self.lines.append(Line([head], sentence))


def spread(figures: Figures) -> str:
    """Of the rounds' medians; one round has none."""
    return text.number(figures.mad) if len(figures.round_medians) > 1 else text.NONE


def notes(findings: Findings, titles: dict[str, str]) -> list[str]:
    """What the rows say of themselves: each note once, after the titles of its rows."""
    told: dict[str, list[str]] = {}
    for name, title in titles.items():
        row = findings.row(name)
        for note in [*([row.note] if row and row.note else []), *findings.labels(name)]:
            told.setdefault(note, []).append(title)
    return [f"{', '.join(having)}: {note}" for note, having in told.items()]


LATENCY_HEADER = ["p50 us", "± MAD", "p90 us", "p99 us", "p99.9 us", "/ floor", "95 % interval",
                  "values", "outliers"]


def latencies(findings: Findings, caption: str, head: str, names: list[str],
              titles: dict[str, str] | None = None) -> Table:
    """The usual table: one line for each of the rows, whose names are shortened by `titles`."""
    table = Table(caption, [head, *LATENCY_HEADER])
    for name in names:
        title = (titles or {}).get(name, name)
        figures = findings.figures(name)
        if figures is None:
            table.add_instead(title, findings.why_not(name))
            continue
        ratio = figures.ratio
        table.add(
            title,
            text.number(figures.p50),
            spread(figures),
            text.number(figures.p90),
            text.optional(figures.p99),
            text.optional(figures.p999),
            text.ratio(ratio.value) if ratio else text.NONE,
            text.ratio_interval(ratio.interval) if ratio else text.NONE,
            f"{figures.count:,}",
            str(figures.outliers),
        )
    table.notes = notes(findings, {name: (titles or {}).get(name, name) for name in names})
    return table


def markdown(table: Table) -> str:
    def row(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "| " + " | ".join(["---"] + ["---:"] * (len(table.header) - 1)) + " |"
    lines = [table.caption, "", row(table.header), rule]
    for line in table.lines:
        cells = [line.cells[0], line.instead] if line.instead else line.cells
        lines.append(row(cells + [""] * (len(table.header) - len(cells))))
    if table.notes:
        lines += ["", *(f"- {note}" for note in table.notes)]
    return "\n".join(lines) + "\n"
