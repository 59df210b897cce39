# SPDX-License-Identifier: Apache-2.0
"""The questions, in the order in which the page asks them: one file a subject."""

from __future__ import annotations

from collections.abc import Callable

from ..findings import Findings
from . import (burst, curves, fences, functions, limits, load, memory, namespaces, others, peers,
               spawn, teardown)
from .section import Section

Ask = Callable[[Findings], Section | None]

# The question, and the section of rows that it is about.
QUESTIONS: list[tuple[str, Ask]] = [
    ("spawn", burst.ask),
    ("spawn", spawn.ask),
    ("peer", peers.ask),
    ("load", load.ask),
    ("function", functions.ask),
    ("namespace", namespaces.ask),
    ("namespace", namespaces.ask_sweeps),
    ("mount", fences.asker("mount")),
    ("cgroup", fences.asker("cgroup")),
    ("fence", fences.asker("fence")),
    ("teardown", teardown.ask),
    ("wait", curves.ask_wait),
    ("scale", curves.ask_scale),
    ("memory", memory.ask),
    ("floor", curves.ask_floors),
]
KNOWN = list(dict.fromkeys(name for name, _ in QUESTIONS))


def ask_all(findings: Findings) -> list[Section]:
    """Of sections of which the run has something to show: figures, or failures."""
    held = {row.section for row in findings.run.rows.values()
            if findings.measured(row.name) or findings.errors(row.name)}
    if findings.run.clients:
        held.add("function")
    asked = [section for name, ask in QUESTIONS if name in held and (section := ask(findings))]
    asked += [others.ask(findings, name) for name in sorted(held - set(KNOWN))]
    if stops := limits.ask(findings.run):
        asked.append(stops)
    return asked


def absent(findings: Findings) -> dict[str, str]:
    """The sections that the run has nothing of, and why."""
    missing = {}
    for name in KNOWN:
        rows = findings.rows(name)
        if any(findings.measured(row.name) or findings.errors(row.name) for row in rows):
            continue
        reasons = dict.fromkeys(findings.why_not(row.name).removeprefix("skipped: ")
                                for row in rows)
        missing[name] = "; ".join(reasons) or "this run has no such rows"
    return missing
