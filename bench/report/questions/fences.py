# SPDX-License-Identifier: Apache-2.0
"""What isolation costs beside namespaces: cgroups, mounts, and what is put on a process itself."""

from __future__ import annotations

from .. import text
from ..draw.canvas import Chart
from ..draw.dots import Dots
from ..draw.lines import Lines, Panel
from ..findings import Findings
from ..table import latencies
from .section import (Section, against, curve, curves_described, dots_described, drawn, lane,
                      sweep, title_of)

QUESTIONS = {
    "cgroup": "What does a cgroup cost?",
    "mount": "What does a root of one's own cost?",
    "fence": "What does isolating the process itself cost?",
}
TITLES = {
    "cgroup": "A child, and its way into a cgroup",
    "mount": "Mounts, and the way to another root",
    "fence": "Filter, capabilities, limits, id maps",
}
METHODS = {
    "cgroup": "A child that only exits, from clone3 to reaped. It is born in its cgroup (into: "
              "CLONE_INTO_CGROUP), or cloned and then moved there by its pid (procs); in a cgroup "
              "kept for all, or in a fresh one, made and removed for each. Idle: after 20 ms of "
              "quiet, when the kernel's fast path for moving has been given up and has to be won "
              "back through an RCU grace period.",
    "mount": "Each operation alone, in a child that does nothing else; its floor is that child "
             "without it.",
    "fence": "Filter, capabilities, limits and id maps, each alone in a child that does nothing "
             "else; its floor is that child without it.",
}


def _over(findings: Findings, name: str) -> str:
    """What a row takes more than its floor, "+8.1 us"; empty where one of them is missing."""
    row = findings.row(name)
    figures = findings.figures(name)
    floor = findings.figures(row.floor) if row and row.floor else None
    return text.signed_time(figures.p50 - floor.p50) if figures and floor else ""


def _time(findings: Findings, name: str, series: str = "us") -> str:
    figures = findings.figures(name, series)
    return text.time(figures.p50) if figures else ""


def _cgroups(findings: Findings) -> tuple[str, str] | None:
    born, moved = _over(findings, "cgroup/into"), _over(findings, "cgroup/procs")
    quiet_born = _over(findings, "cgroup/into/idle")
    quiet_moved = _over(findings, "cgroup/procs/idle")
    if not (born and moved and quiet_born and quiet_moved):
        return None
    favoured = _over(findings, "cgroup/procs/favordynmods/idle")
    return (f"born in it {quiet_born}, moved {quiet_moved}",
            f"Back to back, being born in one costs {born} and being moved there {moved}; after a "
            f"quiet moment {quiet_born} and {quiet_moved}"
            + (f", which favordynmods makes {favoured}." if favoured else "."))


def _mounts(findings: Findings) -> tuple[str, str] | None:
    apart = _time(findings, "mount/tree/one-by-one")
    whole = _time(findings, "mount/tree/open_tree")
    each = [f"{name} {_time(findings, f'mount/{name}')}"
            for name in ("bind", "tmpfs", "proc", "devpts", "overlay")
            if _time(findings, f"mount/{name}")]
    if not (apart and whole and each):
        return None
    return (f"20 binds {apart}, copied {whole}",
            f"One mount: {text.listed(each)}. A tree of 20 binds takes {apart} made one by one and "
            f"{whole} copied as a whole.")


def _fences(findings: Findings) -> tuple[str, str] | None:
    parts = [(name, _over(findings, f"fence/{row}"))
             for name, row in (("no_new_privs", "no_new_privs"),
                               ("a filter of one instruction", "seccomp/allow-all"),
                               ("brood's filter", "seccomp/default"),
                               ("one that compares 400 numbers in turn", "seccomp/linear-400"),
                               ("dropping all capabilities", "capabilities"),
                               ("16 limits", "rlimits"), ("a user namespace with its map",
                                                          "user+map"))]
    known = [f"{name} {over}" for name, over in parts if over]
    if not known:
        return None
    own = _over(findings, "fence/seccomp/default")
    return f"brood's filter {own}" if own else known[0], f"{text.listed(known)}."


TOLD = {"cgroup": _cgroups, "mount": _mounts, "fence": _fences}


def _at_once(findings: Findings, name: str) -> list[Chart]:
    """How the costs grow with several threads at it."""
    series = drawn([curve(findings, title_of(base), points, x_text="threads: ")
                    for base, points in sweep(findings, "concurrency", name).items()])
    if not series:
        return []
    return [Chart(f"{name}-concurrency", "Several threads at once", curves_described(series),
                  Lines([Panel("", series)], "threads", "median latency; both scales logarithmic",
                        text.count, text.time_tick))]


def asker(name: str):
    """The question about one of these sections."""

    def ask(findings: Findings) -> Section | None:
        rows = findings.rows(name)
        if not rows:
            return None
        section = Section(name, QUESTIONS[name], "", "", METHODS[name], f"^{name}/")
        names = [row.name for row in rows if "concurrency" not in row.parameters]
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
            if told := TOLD[name](findings):
                section.figure, section.answer = told
            lanes = [lane(findings, one, titles[one]) for one in names]
            section.charts.append(Chart(
                name, TITLES[name], dots_described(lanes),
                Dots(lanes, [], "median, its 95 % interval (thick), p99 (thin); log scale",
                     text.time_tick)))
        section.charts += _at_once(findings, name)
        table = latencies(findings, TITLES[name], "what", names, titles)
        section.tables.append(table)
        return section

    return ask
