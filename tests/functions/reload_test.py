# SPDX-License-Identifier: Apache-2.0
"""SIGHUP changes functions, and no call notices."""

import os
import threading
import unittest

from node import Node, function

SLOW = "read seconds; sleep $seconds; echo old"
KEPT = function("kept", "exec cat", mode="primed", min=2)


class Reload(Node):
    CONFIG = KEPT + function("before", "echo old") + function("slow", SLOW, concurrency=1)

    def setUp(self):
        self.assertEqual(self.reload(self.CONFIG), "reloaded")

    def zygotes(self):
        """One for each function and one for the default template, when nothing is left of others."""
        found = 0
        ours = os.readlink("/proc/self/ns/pid")
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat") as stat:
                    if int(stat.read().rsplit(")", 1)[1].split()[1]) != self.daemon.pid:
                        continue
                # Its workers are children of the daemon, too, but each in a namespace of its own;
                # and those that keep its slots, which have a name of their own.
                with open(f"/proc/{pid}/comm") as comm:
                    slot = comm.read() == "brood-slot\n"
                found += not slot and os.readlink(f"/proc/{pid}/ns/pid") == ours
            except OSError:
                pass
        return found

    def later(self, name, body):
        """A call in a thread of its own, and where its answer will be."""
        answers = []
        thread = threading.Thread(target=lambda: answers.append(self.call(name, body)))
        thread.start()
        return thread, answers

    def test_added_changed_and_removed(self):
        self.assertEqual(self.call("before").body, b"old\n")
        self.assertEqual(self.reload(KEPT + function("before", "echo new", mode="cold") +
                                     function("added", "echo added", mode="primed", min=1)),
                         "reloaded")
        self.assertEqual(self.call("before").body, b"new\n")
        self.assertEqual(self.call("before").headers["Brood-Path"], "cold")
        self.assertEqual(self.call("added").body, b"added\n")
        self.assertEqual(self.reload(KEPT), "reloaded")
        self.assertEqual(self.call("before").status, 404)
        self.assertEqual(self.call("added").status, 404)

    def test_a_call_that_runs_ends_as_it_began(self):
        for then, status in ((function("slow", "echo new"), 200), ("", 404)):
            self.reload(self.CONFIG)
            running, ran = self.later("slow", b"1\n")
            self.assertTrue(self.wait_for(lambda: self.metric("running", function="slow") == 1))
            waiting, waited = self.later("slow", b"0\n")
            self.assertTrue(self.wait_for(lambda: self.metric("queued", function="slow") == 1))
            self.assertEqual(self.reload(KEPT + then), "reloaded")
            self.assertEqual(self.call("slow").status, status)
            for thread, answers in ((running, ran), (waiting, waited)):
                thread.join()
                self.assertEqual((answers[0].status, answers[0].body), (200, b"old\n"))
            # The last one gone, its isolation goes, too.
            self.assertTrue(self.wait_for(lambda: self.zygotes() == 2 + bool(then)))

    def test_what_is_as_it_was_stays(self):
        self.primed("kept", 2)
        lost = self.metric("primed_lost_total", function="kept")
        accepted = self.metric("calls_accepted_total", function="kept")
        self.assertEqual(self.reload(KEPT), "reloaded")
        self.assertEqual(self.call("kept", b"x").headers["Brood-Path"], "primed")
        self.assertEqual(self.metric("primed_lost_total", function="kept"), lost)
        self.assertEqual(self.metric("calls_accepted_total", function="kept"), accepted + 1)

    def test_counts_go_on(self):
        self.call("before")
        accepted = self.metric("calls_accepted_total", function="before")
        self.reload(KEPT + function("before", "echo new"))
        self.call("before")
        self.assertEqual(self.metric("calls_accepted_total", function="before"), accepted + 1)

    def test_an_error_changes_nothing(self):
        for wrong, why in ((function("kept", "echo new", speed=9), "speed"),
                           (function("kept", "echo new", volume=["/nowhere:/x"]), "/nowhere"),
                           (function("kept", "echo new", template="none"), "no template"),
                           (function("kept", "echo new", seccomp="/etc/passwd"), "function kept"),
                           ("[function.kept\n", "line 1")):
            self.assertTrue(self.wait_for(lambda: self.zygotes() == 4))
            self.assertEqual(self.reload(wrong + function("added", "echo added")), "not reloaded")
            self.assertIn(why, self.log().splitlines()[-1])
            self.assertEqual(self.call("kept", b"x").body, b"x")
            self.assertEqual(self.call("before").body, b"old\n")
            self.assertEqual(self.call("added").status, 404)
            self.assertTrue(self.wait_for(lambda: self.zygotes() == 4))
        self.assertEqual(self.reload(self.CONFIG), "reloaded")

    def test_a_shared_template_changes_its_functions(self):
        text = function("named", "read a; hostname", mode="primed", min=1, template="shared") + \
            "[template.shared]\nparked = 1\nhostname = %s\n"
        for name in ("'first'", "'second'"):
            self.assertEqual(self.reload(text % name), "reloaded")
            self.primed("named", 1)
            self.assertEqual(self.call("named", b"\n").body.decode().strip(), name.strip("'"))

    def test_under_load_no_call_fails(self):
        statuses = []
        done = threading.Event()

        def load():
            while not done.is_set():
                statuses.append(self.call("kept", b"x").status)

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        for i in range(6):
            self.assertEqual(self.reload(function("kept", "exec cat", mode="primed",
                                                  min=2 + i % 2)), "reloaded")
        done.set()
        for thread in threads:
            thread.join()
        self.assertEqual(set(statuses), {200})


if __name__ == "__main__":
    unittest.main()
