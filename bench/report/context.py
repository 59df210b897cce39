# SPDX-License-Identifier: Apache-2.0
"""Where a run was made, in prose; and in what two runs' places differ."""

from __future__ import annotations

from typing import Any

from . import text
from .findings import Findings
from .run import Run


def paragraphs(run: Run) -> list[str]:
    """What the context holds. What it does not hold is left out, not guessed."""

    def at(path: str, otherwise: str = "unknown") -> str:
        value = run.at(path)
        if isinstance(value, bool):
            return "on" if value else "off"
        return otherwise if value is None or value == "" else _plain(value)

    user = {True: " as root", False: " as an ordinary user"}.get(run.at("process/root"), "")
    build = (f"brood {at('brood/version')} at commit {at('brood/commit')}, a {at('build/type')} "
             f"build by {at('build/compiler')}, run from {at('started')} to {at('ended')}{user}.")
    told = [
        f"{build} {run.rounds} {'round' if run.rounds == 1 else 'rounds'} of {len(run.rows)} rows.",
        f"{at('cpu/online')} processors ({at('cpu/model')}), "
        f"{'under a hypervisor' if run.at('cpu/hypervisor') else 'no hypervisor seen'}, "
        f"{at('memory/total_mib')} MiB of memory. Linux {at('kernel/release')} "
        f"({at('kernel/version')}), HZ {at('kernel/hz')}, preemption {at('kernel/preemption')}; "
        f"clock source {at('cpu/clocksource')}.",
        f"Mitigations at work: {at('mitigations/active', 'none')}; vulnerable without: "
        f"{at('mitigations/vulnerable', 'nothing')}. Boot options: "
        f"{at('kernel/boot_options', 'none that matter')}.",
        f"cgroups: {at('cgroup/layout')}, controllers on v2: {at('cgroup/controllers', 'none')}; "
        f"on v1: {at('cgroup/v1_controllers', 'none')}; favordynmods {at('cgroup/favordynmods')}. "
        f"rcu_expedited {at('kernel/rcu_expedited')}, rcu_normal {at('kernel/rcu_normal')}.",
        f"{at('process/mounts')} mounts in the namespace that is copied; IPv6 {at('network/ipv6')}"
        f"; RLIMIT_NOFILE {at('process/rlimit_nofile/soft')} soft, "
        f"{at('process/rlimit_nofile/hard')} hard. Load average {at('load_average/before')} before "
        f"and {at('load_average/after')} after, the run's own work included.",
    ]
    return told


def warnings(findings: Findings) -> list[str]:
    """What a reader has to know before believing anything."""
    run = findings.run
    told = [_sentence(str(warning)) for warning in run.at("warnings", [])]
    if run.at("ended") is None:
        told.append("The run has not ended: what is here is what was measured so far.")
    planned = run.at("effort/rounds")
    if planned and 0 < run.rounds < planned:
        told.append(f"Only {run.rounds} of {planned} rounds were measured.")
    failed = findings.failed()
    if failed:
        told.append(f"{len(failed)} {'row' if len(failed) == 1 else 'rows'} failed, and have no "
                    f"figures: {', '.join(failed)}.")
    return told


def noise_in_short(findings: Findings) -> str:
    found = findings.noise()
    if not found:
        return "This run cannot tell its own noise"
    return (f"Noise of the run: its floors’ medians moved by up to ± "
            f"{text.percent(found[0].mad)} from round to round")


def noise(findings: Findings) -> str:
    """How far the machine was from doing the same thing twice in the same time."""
    all_noise = findings.noise()
    if not all_noise:
        return "No floor was measured in two rounds or more, so this run cannot tell its own noise."
    worst = all_noise[0]
    told = [f"{one.floor} ± {text.percent(one.mad)} (from least to greatest "
            f"{text.percent(one.spread)})" for one in all_noise[:4]]
    return (f"Noise: a floor does the same in every round, and yet its median moved over "
            f"{worst.rounds} rounds by, as median absolute deviation: {'; '.join(told)}. "
            "Differences smaller than that mean nothing.")


# What makes two runs comparable, and what to call it.
PLACE = {
    "machine": "the machine", "cpu/model": "the processor", "cpu/online": "processors online",
    "kernel/release": "the kernel", "kernel/version": "the kernel's build",
    "kernel/preemption": "preemption", "kernel/preemption_mode": "preemption",
    "kernel/boot_options": "boot options", "kernel/rcu_expedited": "rcu_expedited",
    "mitigations/active": "mitigations at work", "mitigations/vulnerable": "missing mitigations",
    "cgroup/layout": "the cgroup layout", "cgroup/favordynmods": "favordynmods",
    "build/type": "the build type", "build/compiler": "the compiler",
    "build/sanitizers": "sanitizers", "process/mounts": "mounts copied",
}


def differences(a: Run, b: Run) -> list[str]:
    told = []
    for path, name in PLACE.items():
        one, other = a.at(path), b.at(path)
        if one != other:
            told.append(f"{name} ({path}): {_plain(one)} and {_plain(other)}")
    return told


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "absent" if value is None else str(value)


def _sentence(said: str) -> str:
    said = said.strip()
    return said[:1].upper() + said[1:] + ("" if said.endswith((".", "!", "?")) else ".")
