# SPDX-License-Identifier: Apache-2.0
"""Where the machine stops: what `brood stress` wrote beside the run's own files."""

from __future__ import annotations

from typing import Any

from .. import text
from ..draw.canvas import Chart
from ..draw.lines import Lines, Panel, Point, Series
from ..run import Run
from ..table import Table
from .section import Section, curves_described

METHOD = (
    "Each limit is set low in a user namespace or cgroup of its own, and one after another is added "
    "until the kernel refuses; brood names the limit from the kernel's own counts. Where the kernel "
    "lets nobody set it for a place alone, the machine's own value is reached. The cost of one more "
    "is the mean of those added since the point before. A storm makes and lets go of one after "
    "another at a set rate; the debt is what the kernel still counts, within a twentieth. Isolates "
    "are `sleep`s, each fully isolated and in a cgroup of its own."
)
COMMAND = "brood stress --json > DIR/stress.json; bench/report/make DIR"

# Charts of a few lines each; what is in none of them is in the table.
GROUPS = {
    "Namespaces": ["user-namespaces", "mount-namespaces", "pid-namespaces", "net-namespaces",
                   "ipc-namespaces", "uts-namespaces", "cgroup-namespaces", "time-namespaces"],
    "Processes and cgroups": ["pids-max", "nproc", "pid-max", "cgroups", "dying-cgroups"],
    "Mounts, interfaces, files": ["mounts", "veth-pairs", "inotify-watches", "keys", "nofile"],
}


def ask(run: Run) -> Section | None:
    pushed = [one for one in run.stress if "stopped_by" in one and one["unit"] != "isolates"]
    skipped = [one for one in run.stress if "skipped" in one]
    isolates = [one for one in run.stress if one["unit"] == "isolates" and "curve" in one]
    storms = [one for one in run.stress if "debt" in one]
    if not pushed and not isolates and not storms:
        return None
    section = Section("limits", "Where does this machine stop?", "", "", METHOD, "",
                      command=COMMAND)
    told = []
    if isolates:
        told.append(_isolates(isolates, section))
    if pushed:
        told.append(_limits(pushed, skipped, section))
    if storms:
        told.append(_storms(storms, section))
    section.answer = " ".join(told)
    return section


def _limits(pushed: list[dict[str, Any]], skipped: list[dict[str, Any]],
            section: Section) -> str:
    table = Table("Limits, driven to failure", [
        "what", "the kernel's name", "set here to", "reached", "of", "kernel's word", "first us",
        "last us", "bytes each", "drained after"])
    for one in pushed:
        curve = one["curve"]
        table.add(one["unit"], ", ".join(one.get("named", [])) or "no limit",
                  _count(one["configured"]), _count(one["reached"]), _count(one["set_to"]),
                  one.get("errno", f"none: {one['stopped_by']}"),
                  text.number(curve[0][1]) if curve else text.NONE,
                  text.number(curve[-1][1]) if curve else text.NONE,
                  text.size(one["bytes_each"]) if "bytes_each" in one else text.NONE,
                  text.time(one["drain_ms"] * 1e3) if one["drained"] else "not drained")
    for one in skipped:
        table.add_instead(one["unit"], f"skipped: {one['skipped']}")
    section.tables.append(table)
    units = {one["unit"]: one for one in pushed}
    for title, names in GROUPS.items():
        series = [_curve(units[name], name) for name in names
                  if name in units and len(units[name]["curve"]) > 2]
        if series:
            slug = title.lower().replace(",", "").replace(" ", "-")
            section.charts.append(Chart(
                f"limits-{slug}", f"{title}: the cost of one more", curves_described(series),
                Lines([Panel("", series)], "how many there are",
                      "one more; both scales logarithmic", text.count, text.time_tick)))
    refused = [one for one in pushed if "errno" in one]
    named = [one for one in refused if one["named"] == [one["limit"]]]
    if not section.figure:
        section.figure = f"{len(named)} limits named"
    return (f"{len(refused)} limits were driven to failure in places of their own, and "
            f"{'each' if len(named) == len(refused) else f'{len(named)} of them'} named from the "
            "kernel's counts.")


def _isolates(isolates: list[dict[str, Any]], section: Section) -> str:
    table = Table("Isolates at once", ["wanted", "live", "ended by", "predicted", "in", "bytes each",
                                       "ended after", "processes gone"])
    counts = Table("What the kernel counted", ["what", "before", "at the peak", "after"])
    series = []
    for one in isolates:
        table.add(_count(one["set_to"]), _count(one["reached"]),
                  one.get("sentence", one["stopped_by"]),
                  f"{one['predicted']['limit']} at {_count(one['predicted']['reached'])}",
                  text.time(one["seconds"] * 1e6),
                  text.size(one["bytes_each"]) if "bytes_each" in one else text.NONE,
                  text.time(one["drain_ms"] * 1e3), text.percent(one["recovered"]))
        for name, count in one["counts"].items():
            show = text.size if name.endswith("bytes") else _count
            counts.add(name.replace("_", " "), show(count["before"]), show(count["peak"]),
                       show(count["after"]))
        if len(one["curve"]) > 2:
            series.append(_curve(one, f"of {_count(one['set_to'])}"))
    section.tables += [table, counts]
    if series:
        section.charts.append(Chart(
            "limits-isolates", "Isolates: the cost of one more", curves_described(series),
            Lines([Panel("", series)], "how many are live", "one more", text.count,
                  text.time_tick, log_x=False, log_y=False)))
    most = max(isolates, key=lambda one: one["reached"])
    section.figure = f"{_count(most['reached'])} isolates at once"
    answer = (f"{_count(most['reached'])} isolates were live at once, made in "
              f"{text.time(most['seconds'] * 1e6)}")
    if most["curve"]:
        first, last = most["curve"][0], most["curve"][-1]
        answer += (f"; one more cost {text.time(first[1])} at {_count(first[0])} and "
                   f"{text.time(last[1])} at {_count(last[0])}")
    back = "every count was back" if most["drained"] else "not every count was back"
    return f"{answer}; {back} {text.time(most['drain_ms'] * 1e3)} after the end."


def _storms(storms: list[dict[str, Any]], section: Section) -> str:
    table = Table("Storms", ["what", "a second, wanted", "reached", "made", "p50 us", "p99 us",
                             "most not yet gone", "all gone after", "refused"])
    series = []
    for one in storms:
        latency = one["latency_us"]
        table.add(one["unit"], text.number(one["rate_wanted"]), text.number(one["rate_reached"]),
                  _count(one["made"]), text.number(latency["p50"]), text.number(latency["p99"]),
                  _count(one["peak"]),
                  text.time(one["drain_ms"] * 1e3) if one["drained"] else "not drained",
                  ", ".join(f"{count} {error}" for error, count in one["errors"].items())
                  or text.NONE)
        name = f"{one['unit']}, {text.number(one['rate_wanted'])}/s"
        series.append(Series(name, [
            Point(at, debt, debt, debt, f"after {at:.1f} s: {_count(debt)}")
            for at, debt in one["debt"]]))
    section.tables.append(table)
    section.charts.append(Chart(
        "limits-storms", "Storms: let go of and not yet gone", curves_described(series),
        Lines([Panel("", series)], "seconds", "how many the kernel still has", text.count,
              text.count, log_x=False, log_y=False)))
    behind = [one for one in storms if one["rate_reached"] < 0.95 * one["rate_wanted"]]
    worst = max(storms, key=lambda one: one["peak"])
    answer = (f"At {text.number(worst['rate_reached'])} {worst['unit']} a second up to "
              f"{_count(worst['peak'])} were let go of and not yet gone, and all of them "
              f"{text.time(worst['drain_ms'] * 1e3)} after the end")
    if behind:
        least = min(behind, key=lambda one: one["rate_wanted"])
        answer += (f"; {text.number(least['rate_wanted'])} a second could not be kept up "
                   f"({text.number(least['rate_reached'])})")
    return f"{answer}."


def _curve(one: dict[str, Any], name: str) -> Series:
    return Series(name, [Point(count, us, us, us, f"{_count(count)}: {text.time(us)}")
                         for count, us in one["curve"] if us > 0])


def _count(value: Any) -> str:
    return text.NONE if value is None else text.count(value)
