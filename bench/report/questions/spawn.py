# SPDX-License-Identifier: Apache-2.0
"""What one isolated process costs, by the way it is spawned, and where the time goes."""

from __future__ import annotations

import re

from .. import text
from ..draw.canvas import Chart
from ..draw.dots import Dots
from ..draw.waterfall import Fall, Phase, Waterfall
from ..findings import Findings
from ..stats import median
from ..table import Table, latencies
from .section import Section, against, dots_described, lane

FLOOR = "spawn/clone3-vfork"
BURST = "spawn/burst"
TITLES = {
    "spawn/brood-parked": "brood, parked",
    "spawn/brood-zygote": "brood, zygote",
    "spawn/brood-zygote-fresh/net-again": "brood, zygote, all new but the network namespace",
    "spawn/brood-zygote-fresh/user-again": "brood, zygote, all new but the user namespace",
    "spawn/brood-zygote-fresh/no-filter": "brood, zygote, all namespaces new, no filter",
    "spawn/brood-zygote-fresh": "brood, zygote, all namespaces new",
    "spawn/brood-cold": "brood, cold",
    "spawn/clone3-namespaces": "clone3, eight namespaces",
    "spawn/fork": "fork",
    "spawn/vfork": "vfork",
    "spawn/posix_spawn": "posix_spawn",
    FLOOR: "clone3(VM|VFORK): the floor",
    "spawn/brood-parked/idle": "one now and then: brood, parked",
    "spawn/brood-zygote/idle": "one now and then: brood, zygote",
    "spawn/brood-cold/idle": "one now and then: brood, cold",
    FLOOR + "/idle": "one now and then: the floor",
}
# The moments of an outcome's timeline (spawn/launch/reap.cc), for a run that does not number its
# steps.
FIRST = ["request", "ordered", "born", "cloned", "ids_mapped"]
LAST = ["set_up", "woken", "launched", "exec", "reaped"]
# Phases shorter than this share of the whole are drawn together with their neighbours.
SMALL = 0.012

METHOD = (
    "The payload is a static program that only exits. A value is real time as the caller sees it, "
    "from its first call to the child reaped, and each exit status is checked. One follows the "
    "other at once, so that each also pays for the teardown of those before it; or comes after 20 ms of "
    "quiet, and pays for sleeping processors, as its floor does. brood's processes "
    "have eight namespaces (three of a worker before, from zygotes), a cgroup each, a read-only root, no capabilities and the system "
    "call filter; what a parked worker cost ahead of its request is not in here, nor the first slots "
    "of a zygote, which 64 workers have used before. In the waterfall "
    "a bar is the median of one phase, so that bars need not add up to the median of the whole."
)


def ask(findings: Findings) -> Section | None:
    names = [row.name for row in findings.rows("spawn") if row.name != BURST]
    if not names:
        return None
    names.sort(key=lambda name: list(TITLES).index(name) if name in TITLES else len(TITLES))
    section = Section("spawn", "What does one isolated process cost, beside a bare one?", "", "",
                      METHOD, "^spawn/")
    parked = findings.figures("spawn/brood-parked")
    floor = findings.figures(FLOOR)
    if parked and parked.ratio and floor:
        section.figure = f"parked, {text.ratio(parked.ratio.value)} the floor's time"
        section.answer = (f"From a parked worker {against(parked)} of the floor's time, "
                          f"{text.time(parked.p50)} against {text.time(floor.p50)}")
        rest = [(way, findings.figures(f"spawn/brood-{way}")) for way in ("zygote", "cold")]
        told = [f"{way} {text.ratio(one.ratio.value)}" for way, one in rest if one and one.ratio]
        section.answer += f"; {text.listed(told)}" if told else ""
        quiet = findings.figures("spawn/brood-parked/idle")
        if quiet and quiet.ratio:
            section.answer += (f". One now and then, in a quiet moment: parked "
                               f"{against(quiet)} of what the floor takes then")
        section.answer += "."
    else:
        section.answer = f"Not told by this run: {findings.why_not('spawn/brood-parked')}."
    if falls := _falls(findings):
        section.charts.append(Chart(
            "waterfall", "The phases of one spawn",
            " ".join(f"{fall.title}: {fall.total}; "
                     + ", ".join(f"{phase.name} {text.time(phase.duration)}"
                                 for phase in fall.phases) + "." for fall in falls),
            Waterfall(falls, text.time, text.time_tick,
                      (floor.p50, f"floor {text.time(floor.p50)}") if floor else None)))
    lanes = [lane(findings, name, TITLES.get(name, name)) for name in names]
    if any(one.dots for one in lanes):
        section.charts.append(Chart(
            "spawn", "From call to reaped, by way of spawning", dots_described(lanes),
            Dots(lanes, [], "median, its 95 % interval (thick), p99 (thin); log scale",
                 text.time_tick,
                 reference=(floor.p50, "floor") if floor else None)))
    section.tables.append(latencies(findings, "What each way of spawning costs", "way", names,
                                    TITLES))
    if steps := _steps_table(findings):
        section.tables.append(steps)
    return section


def steps(findings: Findings, name: str) -> list[Phase]:
    """The medians of a row's phases, in the order in which they happen."""
    found: dict[str, str] = {}
    for series in findings.series_names(name):
        if match := re.fullmatch(r"step_(.+)_us", series):
            found[match[1]] = series
    row = findings.row(name)
    order = list(row.steps) if row else []

    def place(step: str) -> tuple[int, int, str]:
        if numbered := re.match(r"(\d+)_", step):
            return (1, int(numbered[1]), step)
        if step in order:
            return (1, order.index(step), step)
        if step in FIRST:
            return (0, FIRST.index(step), step)
        return (2, LAST.index(step), step) if step in LAST else (1, 0, step)

    phases = []
    for step in sorted(found, key=place):
        if figures := findings.figures(name, found[step]):
            phases.append(Phase(re.sub(r"^\d+_", "", step).replace("_", " "), figures.p50))
    return phases


def merged(phases: list[Phase], least: float) -> list[Phase]:
    """Neighbours that are too short to be seen, as one."""
    kept: list[Phase] = []
    small: list[Phase] = []

    def flush() -> None:
        if small:
            name = small[0].name if len(small) == 1 else f"{small[0].name} … {small[-1].name}"
            kept.append(Phase(name, sum(phase.duration for phase in small)))
            small.clear()

    for phase in phases:
        if phase.duration < least:
            small.append(phase)
        else:
            flush()
            kept.append(phase)
    flush()
    return kept


def _falls(findings: Findings) -> list[Fall]:
    falls = []
    for name in ("spawn/brood-parked", "spawn/brood-zygote", "spawn/brood-cold"):
        figures = findings.figures(name)
        phases = steps(findings, name)
        if figures is None or not phases:
            continue
        total = text.time(figures.p50)
        if figures.ratio:
            total += f" = {text.ratio(figures.ratio.value)}"
        whole = sum(phase.duration for phase in phases)
        falls.append(Fall(TITLES[name], total, merged(phases, whole * SMALL)))
    return falls


def _steps_table(findings: Findings) -> Table | None:
    table = Table("Where the time goes: medians of the phases", ["phase", "way", "us", "share"])
    for name in ("spawn/brood-parked", "spawn/brood-zygote", "spawn/brood-cold"):
        phases = steps(findings, name)
        whole = sum(phase.duration for phase in phases)
        for phase in phases:
            table.add(phase.name, TITLES[name], text.number(phase.duration),
                      text.percent(phase.duration / whole) if whole else text.NONE)
    return table if table.lines else None


def median_of(findings: Findings, name: str, series: str) -> float | None:
    """Over rounds; for what is one value a round."""
    values = findings.values(name, series)
    return median(values) if values else None
