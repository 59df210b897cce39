# SPDX-License-Identifier: Apache-2.0
"""No call sees what another has left, in any mode."""

import os
import signal
import threading
import time
import unittest

from node import MODES, Node, function

ALL = (*MODES, "forked")
CALLS = int(os.environ.get("BROOD_ISOLATION_CALLS") or 5)
LOOK = ("read secret; ls -A /tmp /dev/shm /run/lock 2>/dev/null | grep -c mark; "
        "env | grep -c planted; processes=$(ls /proc); echo \"$processes\" | grep -c '^[0-9]'; "
        "ls -l /proc/$$/fd | grep -v pipe | grep -c -- '->'; "
        "export planted=$secret; echo $secret > /tmp/mark; echo $secret > /dev/shm/mark; "
        "sleep 1000 & true")


class Isolation(Node):
    CONFIG = "".join(function(f"look-{mode}", LOOK, mode=mode, min=2) for mode in ALL) + \
        "".join(function(f"fds-{mode}", "exec ls /proc/self/fd", mode=mode, min=1)
                for mode in MODES) + \
        function("stays", "exec cat", mode="primed", min=1) + \
        function("greets", "printf 'Status: 201\\n\\n'; exec head -c 5", mode="primed", min=1,
                 cgi=True) + \
        function("dies", "exit 1", mode="primed", min=1) + \
        function("fork", "cat; while :; do sleep 1000 & done 2>/dev/null", mode="primed", min=1,
                 timeout="1s", rlimit=["NPROC=64"])

    def test_each_call_finds_what_the_first_has_found(self):
        self.assertTrue(self.wait_for(lambda: '"ready": true' in self.get("/functions")[1]))
        for mode in ALL:
            first = self.call(f"look-{mode}", b"secret\n")
            self.assertEqual(first.status, 200)
            self.assertEqual(first.body.split()[:2], [b"0", b"0"])
            if mode == "forked":
                self.assertEqual(first.headers["Brood-Path"], mode)
            for _ in range(CALLS):
                self.assertEqual(self.call(f"look-{mode}", b"secret\n").body, first.body, mode)
        if not os.environ.get("BROOD_WITHOUT"):
            self.assertGreater(self.metric("workers_in_slots_total", namespaces="used_again"), 0)

    def test_a_call_has_its_pipes_and_no_descriptor_of_the_daemons(self):
        for mode in MODES:
            # The last one is the directory that ls reads.
            self.assertEqual(self.call(f"fds-{mode}").body.split(), [b"0", b"1", b"2", b"3"], mode)

    def workers(self, name="cat"):
        """Processes of the primed function that alone runs as this."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat") as stat:
                    after = stat.read().rsplit(")", 1)[1].split()
                with open(f"/proc/{pid}/comm") as comm:
                    if comm.read() == name + "\n" and int(after[1]) == self.daemon.pid:
                        found.append(int(pid))
            except OSError:
                pass
        return found

    def test_a_primed_worker_that_dies_is_replaced_and_never_serves(self):
        self.primed("stays", 1)
        for _ in range(5):
            self.assertTrue(self.wait_for(self.workers))
            lost = self.metric("primed_lost_total", function="stays")
            killed = self.workers()
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            self.assertTrue(self.wait_for(
                lambda: not any(os.path.exists(f"/proc/{pid}") for pid in killed)))
            self.assertEqual(self.call("stays", b"still").body, b"still")
            self.assertTrue(self.wait_for(
                lambda: self.metric("primed_lost_total", function="stays") > lost))

    @staticmethod
    def stands_still(pid):
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "T"

    def test_a_call_that_meets_a_dying_worker_gets_another(self):
        for _ in range(5):
            self.assertTrue(self.wait_for(self.workers))
            stopped = self.workers()
            # A stopped one lives, but reads nothing of the call until it is killed.
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            # Until it does, it may still read what comes.
            self.assertTrue(self.wait_for(lambda: all(map(self.stands_still, stopped))))
            died = self.metric("misses_total", function="stays", reason="died")
            answers = []
            caller = threading.Thread(
                target=lambda: answers.append(self.call("stays", b"still")))
            caller.start()
            self.assertTrue(self.wait_for(
                lambda: self.metric("running", function="stays") == 1))
            for pid in stopped:
                os.kill(pid, signal.SIGKILL)
            caller.join()
            self.assertEqual((answers[0].status, answers[0].body), (200, b"still"))
            self.assertEqual(self.metric("misses_total", function="stays", reason="died"),
                             died + 1)

    def test_a_dying_worker_that_has_said_something_is_the_calls_end(self):
        heads = []
        self.assertTrue(self.wait_for(lambda: heads or heads.extend(self.workers("head"))))
        for pid in heads:
            os.kill(pid, signal.SIGSTOP)
        self.assertTrue(self.wait_for(lambda: all(map(self.stands_still, heads))))
        answers = []
        caller = threading.Thread(target=lambda: answers.append(self.call("greets", b"still")))
        caller.start()
        self.assertTrue(self.wait_for(lambda: self.metric("running", function="greets") == 1))
        time.sleep(0.1)  # what it had written is read
        for pid in heads:
            os.kill(pid, signal.SIGKILL)
        caller.join()
        self.assertEqual((answers[0].status, answers[0].headers["Brood-End"]), (500, "signalled"))
        self.assertEqual(self.metric("misses_total", function="greets", reason="died"), 0)
        answer = self.call("greets", b"still")
        self.assertEqual((answer.status, answer.body), (201, b"still"))

    def test_a_function_that_cannot_wait_does_not_keep_the_machine_busy(self):
        self.assertTrue(self.wait_for(
            lambda: self.metric("primed_lost_total", function="dies") >= 2))
        self.assertLess(self.metric("primed_lost_total", function="dies"), 40)
        self.assertEqual(self.call("dies").status, 500)

    def test_what_forks_is_ended_whole(self):
        self.assertIn(self.call("fork", b"x").status, (500, 504))
        self.assertTrue(self.wait_for(lambda: self.metric("running", function="fork") == 0))


if __name__ == "__main__":
    unittest.main()
