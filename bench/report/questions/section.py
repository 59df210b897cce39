# SPDX-License-Identifier: Apache-2.0
"""One question that a run answers, and what the questions share."""

from __future__ import annotations

from dataclasses import dataclass, field

from .. import text
from ..draw.canvas import Chart
from ..draw.dots import Dot, Lane
from ..draw.lines import Point, Series
from ..findings import Figures, Findings
from ..table import Table


@dataclass
class Section:
    slug: str
    question: str
    figure: str  # the answer's one figure, for the list at the top; "" where nothing was measured
    answer: str  # one line, computed from the run
    method: str
    filter: str  # what brood-bench takes to measure this alone
    command: str = ""  # what measures it, when that is not brood-bench
    charts: list[Chart] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def command(findings: Findings, section: Section) -> str:
    if section.command:
        return section.command
    rounds = findings.run.at("effort/rounds")
    full = " --full" if findings.run.at("effort/full") else ""
    count = f" --rounds {rounds}" if rounds else ""
    return f"bench/run{full} --filter '{section.filter}'{count}"


def against(figures: Figures) -> str:
    """×1.79 (1.75 to 1.83)."""
    if figures.ratio is None:
        return text.time(figures.p50)
    interval = figures.ratio.interval
    around = f" ({text.ratio_interval(interval)})" if interval else ""
    return text.ratio(figures.ratio.value) + around


def title_of(name: str) -> str:
    """A row's name without its section."""
    return name.split("/", 1)[-1]


def dot(figures: Figures, series: int = 0, whisker: bool = False) -> Dot:
    """The median of all values, with the interval of its rounds."""
    interval = figures.interval
    low = min(interval.low, figures.p50) if interval else figures.p50
    high = max(interval.high, figures.p50) if interval else figures.p50
    return Dot(series, figures.p50, low, high, text.time(figures.p50),
               figures.p99 or 0 if whisker else 0)


def lane(findings: Findings, name: str, title: str, series: str = "us") -> Lane:
    figures = findings.figures(name, series)
    if figures is None:
        return Lane(title, instead=findings.why_not(name).split(":", 1)[0].split(" ")[0])
    return Lane(title, [dot(figures, whisker=True)])


def dots_described(lanes: list[Lane]) -> str:
    told = [f"{one.label} {', '.join(dot.text for dot in one.dots) or one.instead}"
            for one in lanes if not one.head]
    return "; ".join(told) + "."


def sweep(findings: Findings, parameter: str, section: str) -> dict[str, dict[float, str]]:
    """Rows with that parameter: {name without it: {value: row}}, in order of the values."""
    series: dict[str, dict[float, str]] = {}
    for row in findings.rows(section):
        if parameter in row.parameters:
            series.setdefault(row.without(parameter), {})[row.parameters[parameter]] = row.name
    return {base: dict(sorted(points.items())) for base, points in series.items()}


def curve(findings: Findings, name: str, points: dict[float, str], of: str = "us",
          x_text: str = "") -> Series:
    """A line through the medians of a sweep. What failed leaves a gap, and is told in the table."""
    found = []
    for x, row in points.items():
        figures = findings.figures(row, of)
        if figures is None:
            continue
        one = dot(figures)
        found.append(Point(x, one.value, one.low, one.high,
                           f"{x_text}{text.count(x)}: {text.quantity(one.value, of)}"))
    return Series(name, found)


def drawn(series: list[Series]) -> list[Series]:
    return [one for one in series if one.points]


def curves_described(series: list[Series]) -> str:
    return "; ".join(f"{one.name} from {one.points[0].text} to {one.points[-1].text}"
                     for one in series) + "."
