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
    for name, ratio in (("sustained", 0.48), ("sustained-host-net", 0.59)):
        out.row(f"scale/{name}", 460, count=1, series={"per_s": 2100, "rate_ratio": ratio})
    for parked in (250, 1000, 4000):
        for way, size in (("", 150_000), ("host-net/", 48_000)):
            out.row(f"memory/{way}parked={parked}", 120, count=1, parameters={"parked": parked},
                    series={"worker_bytes": size})


def fences(out: Writer) -> None:
    out.row("cgroup/mkdir-rmdir", 62)
    out.row("cgroup/born-in-leaf", 31, "namespace/none")
    out.row("cgroup/written-to-procs", 240, "namespace/none", note="cgroup.procs after the fork")
    out.row("mount/open_tree-clone", 21, "namespace/none")
    out.row("mount/pivot_root", 185, "namespace/none")
    out.row("mount/empty-namespace", None, "namespace/none", unavailable="needs Linux 7.1")
    out.row("fence/seccomp-linear", 130, "namespace/none")
    out.row("fence/seccomp-tree", 46, "namespace/none")
    out.row("fence/capabilities", 26, "namespace/none")
    out.row("fence/rlimits", 27, "namespace/none")
    out.row("fence/id-maps", 39, "namespace/none")
    out.fail("fence/rlimits", "setting RLIMIT_NICE failed: Operation not permitted (EPERM); "
             "run it with CAP_SYS_RESOURCE")
    for way, factor in (("kill-one", 1), ("kill-hundred", 22), ("exit", 0.8)):
        out.row(f"teardown/{way}", 900 * factor, count=10, series={
            "exit_us": 210 * factor, "populated_us": 340 * factor, "rmdir_us": 38 * factor,
            "freed_us": 21_000 * factor**0.2})
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
    for part in (floors, namespaces, paths, fences, peers):
        part(out)
    if options.only:
        def wanted(name: str) -> bool:
            return name.split("/")[0] in options.only

        out.rows = [row for row in out.rows if wanted(row["name"])]
        out.lines = [line for line in out.lines if wanted(line["row"])]
    out.write(options.directory, options.commit)


if __name__ == "__main__":
    main()
