# SPDX-License-Identifier: Apache-2.0
"""The same job, done by others on the same machine."""

from __future__ import annotations

from .. import text
from ..draw.canvas import Chart
from ..draw.dots import Dots
from ..findings import Findings
from ..table import Table
from .section import Section, dots_described, lane, title_of

FLOOR = "peer/floor"
METHOD = (
    "The whole command, from its start to its end, as a shell would run it; all take turns in "
    "every round. The floor is the same static program, started by the same means with no isolation. "
    "Peers isolate more or less than one another: the note says how each was called and what that "
    "gives. What a peer leaves behind is counted after each round."
)


def ask(findings: Findings) -> Section | None:
    rows = findings.rows("peer")
    if not rows:
        return None
    section = Section("peers", "How do others do the same job?", "", "Not told by this run.",
                      METHOD, "^peer/")
    names = [row.name for row in rows]

    def place(name: str) -> tuple[bool, float]:
        figures = findings.figures(name)
        return (figures is None, figures.p50 if figures else 0)

    names.sort(key=place)
    lanes = [lane(findings, name, title_of(name)) for name in names]
    floor = findings.figures(FLOOR)
    if any(one.dots for one in lanes):
        section.charts.append(Chart(
            "peers", "The whole command, from start to end", dots_described(lanes),
            Dots(lanes, [], "median, its 95 % interval (thick), p99 (thin); log scale",
                 text.time_tick,
                 reference=(floor.p50, "floor") if floor else None)))
        section.answer, section.figure = _answer(findings, names)
    section.tables.append(_table(findings, names))
    section.tables.append(_commands(findings, names))
    return section


def _answer(findings: Findings, names: list[str]) -> tuple[str, str]:
    told = {title_of(name): figures for name in names
            if name != FLOOR and (figures := findings.figures(name))}
    own = next((name for name in told if name.startswith("brood")), None)
    others = [name for name in told if not name.startswith("brood")]
    if not own:
        return "brood itself was not measured beside them.", ""
    answer = f"{own} {text.time(told[own].p50)}"
    if told[own].ratio:
        answer += f", {text.ratio(told[own].ratio.value)} of the floor"
    if others:
        nearest, last = others[0], others[-1]
        answer += f"; the quickest other, {nearest}, {text.time(told[nearest].p50)}"
        if last != nearest:
            answer += f", the slowest, {last}, {text.time(told[last].p50)}"
    return answer + ".", f"{own}, {text.time(told[own].p50)}"


def _left(findings: Findings, name: str) -> str:
    values = findings.values(name, "left")
    if not values:
        return text.NONE
    return f"{sum(values):,.0f}" if any(values) else "nothing"


def _times(findings: Findings, name: str, other: str) -> str:
    one, beside = findings.figures(name), findings.figures(other)
    return text.ratio(one.p50 / beside.p50) if one and beside and beside.p50 else text.NONE


def _table(findings: Findings, names: list[str]) -> Table:
    table = Table("Peers, the quickest first", ["peer", "p50 ms", "± MAD", "p90 ms", "/ floor",
                                                "95 % interval", "/ brood run", "/ parked",
                                                "left behind", "values"])
    table.notes.append("/ parked: against a request to a parked worker, from the call to reaped "
                       "(spawn/brood-parked)")
    for name in names:
        figures = findings.figures(name)
        if figures is None:
            table.add_instead(title_of(name), findings.why_not(name))
            continue
        ratio = figures.ratio
        table.add(title_of(name), text.number(figures.p50 / 1000),
                  (text.number(figures.mad / 1000) if len(figures.round_medians) > 1
                   else text.NONE),
                  text.number(figures.p90 / 1000),
                  text.ratio(ratio.value) if ratio else text.NONE,
                  text.ratio_interval(ratio.interval) if ratio else text.NONE,
                  _times(findings, name, "peer/brood-run"),
                  _times(findings, name, "spawn/brood-parked"),
                  _left(findings, name), f"{figures.count:,}")
    return table


def _commands(findings: Findings, names: list[str]) -> Table:
    table = Table("What was run", ["peer", "version", "command, and what isolation it gives"])
    versions = findings.run.at("peers", {})
    for name in names:
        note = findings.run.rows[name].note
        version = versions.get(title_of(name), "") if isinstance(versions, dict) else ""
        if isinstance(version, dict):
            version = version.get("version", "")
        if note or version:
            table.add(title_of(name), str(version), note)
    return table
