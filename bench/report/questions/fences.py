"""What the other fences cost: cgroups, mounts, and what is put on a process itself."""

from __future__ import annotations

from .. import text
from ..draw.canvas import Chart
from ..draw.dots import Dots
from ..findings import Findings
from ..table import latencies
from .section import Section, against, dots_described, lane, title_of

QUESTIONS = {
    "cgroup": "What does a cgroup cost?",
    "mount": "What does a root of one's own cost?",
    "fence": "What do the fences on the process itself cost?",
}
METHODS = {
    "cgroup": "Each operation alone, from the call to its end; where a row has a floor, the child "
              "of the floor is the same without it.",
    "mount": "Each operation alone, in a child that does nothing else; its floor is that child "
             "without it.",
    "fence": "Filter, capabilities, limits and id maps, each alone in a child that does nothing "
             "else; its floor is that child without it.",
}


def asker(name: str):
    """The question about one of these sections."""

    def ask(findings: Findings) -> Section | None:
        rows = findings.rows(name)
        if not rows:
            return None
        section = Section(name, QUESTIONS[name], "", "", METHODS[name], f"^{name}/")
        names = [row.name for row in rows]
        titles = {one: title_of(one) for one in names}
        found = {one: figures for one in names if (figures := findings.figures(one))}
        section.answer = "Not told by this run."
        if found:
            compared = [one for one in found if found[one].ratio]
            dearest = max(compared or found, key=lambda one: (
                found[one].ratio.value if found[one].ratio else found[one].p50))
            figures = found[dearest]
            floor = findings.figures(findings.run.rows[dearest].floor)
            if floor and figures.ratio:
                section.figure = text.signed_time(figures.p50 - floor.p50)
                section.answer = (f"The dearest is {titles[dearest]}: {section.figure} over its "
                                  f"floor, {against(figures)} of it")
            else:
                section.figure = text.time(figures.p50)
                section.answer = f"The dearest is {titles[dearest]}: {section.figure}"
            section.figure = f"{titles[dearest]}, {section.figure}"
            section.answer += f"; {len(found)} of {len(names)} measured."
            lanes = [lane(findings, one, titles[one]) for one in names]
            section.charts.append(Chart(
                name, QUESTIONS[name].removesuffix("?"), dots_described(lanes),
                Dots(lanes, [], "median, its 95 % interval (thick), p99 (thin); log scale",
                     text.time_tick)))
        table = latencies(findings, QUESTIONS[name].removesuffix("?"), "what", names, titles)
        table.notes += [f"{titles[row.name]}: {row.note}" for row in rows if row.note]
        section.tables.append(table)
        return section

    return ask
