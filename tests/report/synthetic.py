# SPDX-License-Identifier: Apache-2.0
"""Writes a run that nobody measured, with everything a full run may hold, for the tests of the
report: synthetic.py DIR [--rounds N] [--seed N] [--slower REGEX=FACTOR]

Its figures are made up. The seed decides all of them.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path
from typing import Any

CONTEXT: dict[str, Any] = {
    "brood": {"version": "0.1.0", "commit": "0123456789ab"},
    "build": {"compiler": "gcc 12.2.0", "type": "Release", "assertions": False,
              "optimized": True, "sanitizers": ""},
    "started": "2030-01-01T00:00:00Z",
    "ended": "2030-01-01T00:14:00Z",
    "machine": "synthetic",
    "cpu": {"model": "None Such", "online": 2, "usable": 2, "threads_share_cores": 0,
            "hypervisor": True, "clocksource": "kvm-clock"},
    "mitigations": {"active": "meltdown, spectre_v1", "vulnerable": "spec_store_bypass",
                    "details": {"meltdown": "Mitigation: PTI"}},
    "kernel": {"release": "6.18.0", "version": "#1 SMP PREEMPT_DYNAMIC", "machine": "x86_64",
               "preemption": "dynamic", "hz": 250, "boot_options": "mitigations=auto",
               "rcu_expedited": 1, "rcu_normal": 0},
    "cgroup": {"layout": "hybrid", "usable": True, "controllers": ["hugetlb"],
               "v1_controllers": ["cpu", "memory"], "favordynmods": False},
    "network": {"ipv6": "enabled", "fb_tunnels_only_for_init_net": 0},
    "memory": {"total_mib": 24105, "available_mib": 23465, "swap_mib": 0},
    "process": {"root": True, "rlimit_nofile": {"soft": 20000, "hard": 20000}, "mounts": 20},
    "load_average": {"before": [0.1, 0.2, 0.2], "after": [1.4, 1.6, 1.0]},
    "warnings": ["these figures are made up"],
}

FRESH = {"mount": 42, "pid": 2.6, "net": 303, "ipc": 101, "uts": 0.7, "user": 3.1, "cgroup": 1.6,
         "time": 1.9, "all": 487, "net+loopback": 327, "mount+proc+tmp": 46, "user+map": 13.5,
         "net+ipc": 398, "mount+pid": 46, "pid+net": 306}
PREPARED = {"mount": 2.3, "pid": 4.4, "net": 1.4, "ipc": 2.2, "uts": 1.9, "user": 1.9,
            "cgroup": 2.7, "all-but-time": 15.9}
STEPS = {
    "brood-cold": {"request": 60, "cloned": 520, "ids_mapped": 110, "hostname": 8, "loopback": 95,
                   "root": 230, "proc": 80, "dev": 60, "tmp": 24, "pivot_root": 160,
                   "capabilities": 3, "no_new_privs": 1, "seccomp": 62, "launched": 4,
                   "exec": 280, "reaped": 700},
    "brood-zygote": {"request": 40, "ordered": 50, "cloned": 430, "ids_mapped": 120,
                     "attach_root": 90, "proc": 75, "dev": 50, "seccomp": 70, "launched": 6,
                     "exec": 290, "reaped": 770},
    "brood-parked": {"request": 12, "woken": 65, "exec": 260, "reaped": 520},
}
PEERS = {
    "brood-submit": (3.1, "brood submit -- /true; all eight namespaces, a cgroup, seccomp"),
    "brood-run": (6.4, "brood run --rootfs R -- /true; all eight namespaces, a cgroup, seccomp"),
    "minijail": (9.7, "minijail0 -P R -v -p -e -l -- /true; no user namespace"),
    "bubblewrap": (13.9, "bwrap --unshare-all --ro-bind R / --proc /proc --tmpfs /tmp /true"),
    "isolate": (26.6, "isolate --init; --run; --cleanup; a fixed box, no seccomp"),
    "nsjail": (22.6, "nsjail -Mo --chroot R -q -- /true"),
    "crun": (22.0, "crun run, the OCI default spec"),
    "unshare": (38.0, "unshare -mpnuiC --fork with mounts by hand"),
    "runc": (71.0, "runc run, the OCI default spec"),
    "systemd-nspawn": (95.0, "systemd-nspawn -D R --private-network --as-pid2 /true"),
    "docker": (649.0, "docker run --rm --network none IMAGE /true"),
}


class Writer:
    def __init__(self, seed: int, rounds: int, slower: list[tuple[str, float]]) -> None:
        self.random = random.Random(seed)
        self.rounds = rounds
        self.slower = slower
        self.rows: list[dict[str, Any]] = []
        self.lines: list[dict[str, Any]] = []
        self.drift = [self.random.gauss(1, 0.02) for _ in range(rounds)]

    def row(self, name: str, us: float | None, floor: str = "", count: int = 40,
            spread: float = 0.2, series: dict[str, float] | None = None, every: int = 1, **keys: Any) -> None:
        self.rows.append({"name": name, **({"floor": floor} if floor else {}), **keys,
                          "iterations": count, "every": every})
        if "unavailable" in keys:
            return
        factor = 1.0
        for pattern, by in self.slower:
            if re.search(pattern, name):
                factor *= by
        for number in range(0, self.rounds, every):
            values: dict[str, list[float]] = {}
            if us is not None:
                values["us"] = [self._one(us * factor * self.drift[number], spread)
                                for _ in range(count)]
            for key, centre in (series or {}).items():
                values[key] = ([self._one(centre, 0.08) for _ in range(count)] if centre else [0])
            self.lines.append({"round": number, "row": name, "at_s": number * 40.0,
                               "values": values})

    def fail(self, name: str, error: str) -> None:
        for line in self.lines:
            if line["row"] == name and line["round"] % 2 == 1:
                line.pop("values")
                line["error"] = error

    def write(self, directory: Path, commit: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        context = {**CONTEXT, "brood": {"version": "0.1.0", "commit": commit},
                   "effort": {"rounds": self.rounds, "full": True}}
        (directory / "context.json").write_text(json.dumps(context, indent=2) + "\n")
        (directory / "rows.json").write_text(
            json.dumps({"format": 1, "rows": self.rows}, indent=1) + "\n")
        self.lines.sort(key=lambda line: line["round"])
        (directory / "samples.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in self.lines))

    def _one(self, centre: float, spread: float) -> float:
        """Mostly a little more than it has to be, at times much more."""
        value = centre * (1 + abs(self.random.gauss(0, spread / 2)))
        if self.random.random() < 0.015:
            value *= self.random.uniform(1.8, 4)
        return float(f"{value:.6g}")


def floors(out: Writer) -> None:
    out.row("floor/getppid", 0.11)
    out.row("floor/pipe", 9.4)
    out.row("floor/page_fault", 37)
    for way, us in (("fork/exit", 310), ("fork/exec", 1800), ("fork/exec-dynamic", 3900),
                    ("vfork/exec", 462), ("posix_spawn/exec", 654), ("clone3-vfork/exec", 470)):
        out.row(f"floor/{way}", us)
    for mib in (1, 16, 128, 1024):
        for way, us, each in (("fork/exec", 1750, 14), ("vfork/exec", 465, 0.02),
                              ("clone3-vfork/exec", 470, 0.02), ("posix_spawn/exec", 650, 0.02)):
            out.row(f"floor/{way}/parent={mib}MiB", us + each * mib, count=20,
                    parameters={"parent_mib": mib})
    for fds in (16, 1000, 10000):
        for way, us in (("fork/exec", 1750), ("clone3-vfork/exec", 470)):
            out.row(f"floor/{way}/fds={fds}", us + fds * 0.1, count=20, parameters={"fds": fds})


def namespaces(out: Writer) -> None:
    none, forked = "namespace/none", "namespace/none-forked"
    out.row(none, 25)
    out.row(forked, 824)
    for kind, us in FRESH.items():
        out.row(f"namespace/fresh/{kind}", 25 + us, none,
                leaves_debt="net" in kind or kind == "all")
    for kind, us in PREPARED.items():
        out.row(f"namespace/prepared/{kind}", 25 + us, none)
    out.row("namespace/prepared/time", 899, forked)
    for concurrency in (1, 2, 4, 8, 16):
        for kind in ("net", "mount", "all"):
            us = (25 + FRESH[kind]) * (1 + 0.45 * (concurrency - 1))
            out.row(f"namespace/fresh/{kind}/concurrency={concurrency}", us,
                    f"namespace/none/concurrency={concurrency}",
                    series={"per_s": concurrency / us * 1e6},
                    parameters={"concurrency": concurrency})
        out.row(f"namespace/none/concurrency={concurrency}", 25 * (1 + 0.3 * (concurrency - 1)),
                parameters={"concurrency": concurrency})
    for mounts in (20, 200, 2000):
        out.row(f"namespace/fresh/mount/mounts={mounts}", 40 + 1.3 * mounts, none,
                parameters={"mounts": mounts})
        out.row(f"namespace/prepared/mount/mounts={mounts}", 27.6, none,
                parameters={"mounts": mounts})


def paths(out: Writer) -> None:
    floor = "spawn/clone3-vfork"
    out.row(floor, 470)
    for way, us in (("fork", 1800), ("vfork", 462), ("posix_spawn", 654),
                    ("clone3-namespaces", 1190)):
        out.row(f"spawn/{way}", us, floor)
    for way, steps in STEPS.items():
        series = {f"step_{i:02d}_{name}_us": us for i, (name, us) in enumerate(steps.items())}
        out.row(f"spawn/{way}", sum(steps.values()), floor, series=series, leaves_debt=True)
    out.row("spawn/burst", None, count=1, series={
        "rate_ratio": 0.9, "per_s": 1057, "floor_per_s": 1181, "p50_us": 477_000,
        "p99_us": 938_000, "floor_p50_us": 409_000, "floor_p99_us": 1_010_000, "park_us": 1811,
        "worker_bytes": 150_000, "failed": 0, "left": 0},
        note="1,000 asked for at once, out of as many parked")
    for share in (0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95):
        for way, us, limit in (("floor", 480, 1.0), ("parked", 860, 0.98), ("zygote", 2000, 0.62),
                               ("cold", 2400, 0.5)):
            wait = us / max(1 - share / limit, 0.004)
            out.row(f"load/{way}/offered={share}", wait, spread=0.8, count=120,
                    series={"offered_per_s": 2100 * share,
                            "served_per_s": 2100 * min(share, limit)},
                    parameters={"offered": share})
    for way, us in (("clone3-vfork", 560), ("brood-parked", 900), ("brood-zygote", 1900),
                    ("brood-cold", 2300)):
        out.row(f"spawn/{way}/idle", us, "" if way == "clone3-vfork" else f"{floor}/idle", count=10,
                parameters={"idle_ms": 20})
    for zygotes in (1, 2, 4):
        for concurrency in (1, 2, 4, 8):
            rate = 600 * zygotes**0.3 * concurrency**0.2
            out.row(f"scale/zygotes={zygotes}/concurrency={concurrency}", 1e6 / rate, count=1,
                    parameters={"concurrency": concurrency, "zygotes": zygotes},
                    series={"per_s": rate})
    for parked in (16, 64, 256):
        out.row(f"scale/parked={parked}", 500, count=1, parameters={"parked": parked},
                series={"per_s": 2000, "park_us": 720})
    for name, ratio in (("sustained", 0.48), ("sustained-fresh", 0.2),
                        ("sustained-host-net", 0.59), ("sustained-host-net-fresh", 0.4)):
        out.row(f"scale/{name}", 460, count=1, series={"per_s": 2100, "rate_ratio": ratio})
    for parked in (250, 1000, 4000):
        for way, size in (("", 150_000), ("host-net/", 48_000)):
            out.row(f"memory/{way}parked={parked}", 120, count=1, parameters={"parked": parked},
                    series={"worker_bytes": size})


def fences(out: Writer) -> None:
    out.row("cgroup/none", 25)
    out.row("cgroup/none/idle", 180)
    out.row("cgroup/mkdir", 62)
    for way, us, idle in (("into", 31, 200), ("into-fresh", 60, 260), ("procs", 34, 11_900),
                          ("procs-fresh", 70, 12_000)):
        out.row(f"cgroup/{way}", us, "cgroup/none",
                note="cgroup.procs after the fork" if way == "procs" else "")
        out.row(f"cgroup/{way}/idle", idle, "cgroup/none/idle", count=10)
    for way, us in (("bind", 4.2), ("bind/open_tree", 4.4), ("tmpfs", 11), ("proc", 13),
                    ("devpts", 13), ("overlay", 50), ("tree/one-by-one", 87),
                    ("tree/open_tree", 26), ("root/in-the-tree", 30), ("root/pivot_root", 185)):
        out.row(f"mount/{way}", us)
    out.row("mount/root/CLONE_EMPTY_MNTNS", None, unavailable="needs Linux 7.1")
    out.row("fence/none", 25)
    for way, us in (("seccomp/allow-all", 38), ("seccomp/default", 82), ("seccomp/linear-400", 1100),
                    ("capabilities", 74), ("rlimits", 31), ("user+map", 39)):
        out.row(f"fence/{way}", us, "fence/none")
    out.fail("fence/rlimits", "setting RLIMIT_NICE failed: Operation not permitted (EPERM); "
             "run it with CAP_SYS_RESOURCE")
    for kinds, us in (("none", 60), ("net", 90), ("all", 180)):
        out.row(f"teardown/{kinds}", us, "" if kinds == "none" else "teardown/none", count=10,
                series={"populated_us": us + 8, "rmdir_us": us + 45, "gone_us": 53_000})
    for number in (1, 1000):
        out.row(f"teardown/net-freed/count={number}", 80_000, count=2,
                parameters={"count": number}, series={"made_per_s": 1800, "freed_per_s": 1600})
    for children in (1, 10, 100, 1000, 10000):
        for way, us, each in (("sigchld", 9, 0.09), ("waitid", 8, 0.07), ("epoll", 7, 0.0004),
                              ("ring-poll", 6.5, 0.0003), ("ring-waitid", 6, 0.05)):
            if way == "sigchld" and children == 10000:
                out.row(f"wait/{way}/children={children}", None, parameters={"children": children},
                        unavailable="needs 10,000 descriptors more than RLIMIT_NOFILE")
                continue
            out.row(f"wait/{way}/children={children}", us + each * children, count=6, every=2,
                    parameters={"children": children})


def peers(out: Writer) -> None:
    out.row("peer/floor", 2200, count=8, note="the static payload with no isolation")
    for peer, (ms, note) in PEERS.items():
        out.row(f"peer/{peer}", ms * 1000, "peer/floor", count=8 if ms < 100 else 2, note=note,
                series={"left": 1 if peer == "bubblewrap" else 0})
    out.row("peer/podman", None, "peer/floor", unavailable="podman is not installed")
    out.row("peer/firejail", 50_000, "peer/floor", count=4, note="firejail --noprofile")
    out.fail("peer/firejail", "firejail ended with status 1: cannot mount /proc")


def functions(out: Writer) -> None:
    out.row("function/floor", 1_300)
    for mode, us in (("cold", 19_000), ("parked", 3_100), ("primed", 700)):
        out.row(f"function/{mode}", us, "function/floor")
    out.row("function/floor/idle", 1_500, count=15)
    out.row("function/primed/idle", 900, "function/floor/idle", count=15)
    out.row("function/rate/floor", 1_200, series={"per_s": 900}, parameters={"concurrency": 2})
    for mode, rate in (("parked", 420), ("primed", 510)):
        for connections in (2, 8):
            out.row(f"function/rate/{mode}/connections={connections}", 1e6 * connections / rate,
                    "function/rate/floor", series={"per_s": rate},
                    parameters={"concurrency": connections})
    out.row("function/python/floor", 140_000, count=8, every=3)
    out.row("function/python/primed", 2_900, "function/python/floor", count=8, every=3)
    out.row("function/python/cold", None, "function/python/floor",
            unavailable="there is no /usr/bin/python3")


def clients() -> list[dict[str, Any]]:
    """What bench/functions/clients prints: some that were measured, one failed, one skipped."""
    found: list[dict[str, Any]] = [{"client": "nginx", "skipped": "it is not installed"}]
    for name, us, connections in (("Python", 900, 1), ("curl", 9_000, 1), ("wrk", 16_000, 8)):
        for mode, factor in (("parked", 3.0), ("primed", 1.0)):
            found.append({"client": name, "version": f"{name} 1.2", "mode": mode, "front": "",
                          "connections": connections, "count": 200,
                          "rate_per_s": connections * 1e6 / (us * factor),
                          "latency_us": {f"p{percent}": us * factor * (1 + percent / 200)
                                         for percent in (50, 75, 90, 95, 99)}})
    found.append({"client": "wrk", "mode": "cold", "front": "", "failed": "3 of 200 calls failed."})
    return found


def stress() -> list[dict[str, Any]]:
    """What `brood stress --json` prints: some that are refused, one without a limit, one skipped."""
    curve = [[count, us + count * us / 4000] for count in (1, 2, 5, 20, 80, 300, 500)
             for us in (340.0,)]
    pushed = {"what": "", "where": "/proc/sys/user/x", "configured": 96365, "set_to": 500,
              "there_before": 0, "reached": 500, "stopped_by": "limit", "seconds": 0.2,
              "curve": curve, "bytes_each": 181_000, "drained": True, "drain_ms": 91.5}
    found: list[dict[str, Any]] = [
        {**pushed, "unit": unit, "limit": limit, "errno": error, "named": [limit],
         "predicted": {"limit": limit, "reached": 500}}
        for unit, limit, error in (("net-namespaces", "user.max_net_namespaces", "ENOSPC"),
                                   ("uts-namespaces", "user.max_uts_namespaces", "ENOSPC"),
                                   ("pids-max", "pids.max", "EAGAIN"),
                                   ("mounts", "fs.mount-max", "ENOSPC"))]
    found.append({**pushed, "unit": "veth-pairs", "limit": "", "configured": None, "set_to": None,
                  "stopped_by": "up-to", "predicted": {"limit": "none", "reached": None}})
    found.append({"unit": "threads-max", "skipped": "it is the whole machine's alone"})
    three = {"before": 90, "peak": 20_200, "after": 91}
    found.append({"unit": "isolates", "what": "", "set_to": 20_000, "reached": 20_000,
                  "launchers": 8, "raised": [{"file": "/proc/sys/kernel/pid_max", "from": 32768,
                                              "to": 27_000}],
                  "predicted": {"limit": "up-to", "reached": 20_000}, "processes_seen": 20_110,
                  "stopped_by": "up-to", "seconds": 61.0,
                  "curve": [[count, 2500 + count / 10] for count in range(500, 20_001, 500)],
                  "bytes_each": 560_000, "drained": True, "drain_ms": 31_000, "recovered": 1.0,
                  "counts": {"threads": three, "cgroups": three,
                             "available_bytes": {"before": 24e9, "peak": 12e9, "after": 23.9e9}}})
    for rate in (500, 2000):
        found.append({"unit": "net-namespaces", "what": "", "rate_wanted": rate,
                      "rate_reached": min(rate, 1800), "made": rate * 10,
                      "errors": {"ENOSPC": 3} if rate == 2000 else {},
                      "latency_us": {"p50": 420.0, "p99": 9000.0, "max": 20_000.0},
                      "debt": [[at / 4, rate // 10 + at] for at in range(40)] + [[10.1, 0]],
                      "peak": rate // 10 + 39, "drained": True, "drain_ms": 90.0})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--commit", default="0123456789ab")
    parser.add_argument("--slower", action="append", default=[], metavar="REGEX=FACTOR")
    parser.add_argument("--only", action="append", metavar="SECTION")
    options = parser.parse_args()
    slower = [(pattern, float(by)) for pattern, by in
              (one.rsplit("=", 1) for one in options.slower)]
    out = Writer(options.seed, options.rounds, slower)
    for part in (floors, namespaces, paths, fences, peers, functions):
        part(out)
    if options.only:
        def wanted(name: str) -> bool:
            return name.split("/")[0] in options.only

        out.rows = [row for row in out.rows if wanted(row["name"])]
        out.lines = [line for line in out.lines if wanted(line["row"])]
    out.write(options.directory, options.commit)
    if not options.only:
        (options.directory / "stress.json").write_text(json.dumps(stress(), indent=1) + "\n")
        (options.directory / "functions.json").write_text(
            json.dumps(clients(), indent=1) + "\n")


if __name__ == "__main__":
    main()
