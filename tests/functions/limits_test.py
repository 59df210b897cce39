# SPDX-License-Identifier: Apache-2.0
"""A function that meets its memory limit. Exits with 77 where cgroup2 has no memory controller."""

import json
import os
import re
import sys
import unittest

from node import MODES, Node, function

ALL = (*MODES, "forked")
# tail keeps all of a last line without an end.
HOG = "read word; echo $word; head -c 200m /dev/zero | tail"


def memory_controller():
    """Whether brood could limit memory here: its base, or the top, passes the controller on."""
    with open("/proc/self/mounts") as mounts:
        points = re.findall(r"^\S+ (\S+) cgroup2 ", mounts.read(), re.MULTILINE)
    for point in points:
        with open(os.path.join(point, "cgroup.controllers")) as controllers:
            if "memory" in controllers.read().split():
                return True
    return False


class Limits(Node):
    CONFIG = "".join(
        function(f"hog-{mode}", HOG, mode=mode, min=1, memory="32M") for mode in ALL) + \
        function("echo", "exec cat", min=2) + \
        function("bomb", "for i in $(seq 100); do sleep 1000 & done", mode="cold", pids=16)

    def test_a_function_that_meets_its_memory_limit_is_answered_507(self):
        for mode in ALL:
            with self.subTest(mode):
                answer = self.call(f"hog-{mode}", b"word\n")
                self.assertEqual(answer.status, 507, answer.body)
                self.assertEqual(answer.headers["Brood-End"], "oom")
                self.assertEqual(answer.body, b"the function ran out of memory\n")
                # Whoever shares nothing with it is served as ever.
                self.assertEqual(self.call("echo", b"still").body, b"still")
                self.assertEqual(
                    self.metric("answers_total", function=f"hog-{mode}", status="507"), 1)

    def test_a_function_that_meets_its_pids_limit_fails(self):
        self.assertEqual(self.call("bomb").status, 500)
        self.assertEqual(self.call("echo", b"still").body, b"still")


if __name__ == "__main__":
    if not memory_controller():
        print("missing: the cgroup2 controller memory")
        sys.exit(77)
    if os.geteuid() != 0:
        print("needs root: a handed-over cgroup with the tests in it passes no controllers on")
        sys.exit(77)
    unittest.main()
