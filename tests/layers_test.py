#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Includes between folders go one way: ARCHITECTURE.md has the picture."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Each folder may include from those above it in its list, from its parent folder, and, as a whole,
# from what comes before it: spawn, then pool, then bench.
ORDER = [
    "spawn/base", "spawn", "spawn/child", "spawn/ready", "spawn/host", "spawn/limits",
    "spawn/cgroup", "spawn/seccomp", "spawn/plan", "spawn/launch",
    "pool", "pool/core", "pool/daemon", "pool/http", "pool/functions", "pool/burst", "pool/doctor",
    "pool/stress", "pool/cli",
    "bench/harness", "bench/measures", "bench/peers", "bench/functions", "bench",
]
INCLUDE = re.compile(r'^#include "((?:spawn|pool|bench|tests)/[^"]+)"', re.MULTILINE)


def sources():
    for top in ("spawn", "pool", "bench"):
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in (".cc", ".h", ".S"):
                yield path.relative_to(ROOT)


class Layers(unittest.TestCase):
    def test_every_folder_has_its_place(self):
        folders = {str(path.parent) for path in sources() if "examples" not in path.parts}
        self.assertEqual(folders, set(ORDER))

    def test_includes_go_one_way(self):
        wrong = []
        for path in sources():
            folder = str(path.parent)
            for include in INCLUDE.findall((ROOT / path).read_text()):
                other = str(pathlib.PurePath(include).parent)
                if other not in ORDER or ORDER.index(other) > ORDER.index(folder):
                    wrong.append(f"{path} includes {include}")
        self.assertEqual(wrong, [])

    def test_public_headers_include_public_headers_only(self):
        wrong = []
        for folder in ("spawn", "pool"):
            for path in sorted((ROOT / folder).glob("*.h")):
                for include in INCLUDE.findall(path.read_text()):
                    if str(pathlib.PurePath(include).parent) not in ("spawn", "pool"):
                        wrong.append(f"{path.relative_to(ROOT)} includes {include}")
        self.assertEqual(wrong, [])

    def test_every_file_says_its_licence(self):
        without = [str(path) for path in sources()
                   if "SPDX-License-Identifier: Apache-2.0" not in (ROOT / path).read_text()[:200]]
        self.assertEqual(without, [])


if __name__ == "__main__":
    unittest.main()
