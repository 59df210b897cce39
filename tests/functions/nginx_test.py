# SPDX-License-Identifier: Apache-2.0
"""The example of two nodes behind nginx: one is killed under load, and no caller notices."""

import http.client
import os
import re
import shutil
import signal
import threading
import time
import unittest

from cluster import Cluster, answer, wait_for

NGINX = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")


@unittest.skipUnless(NGINX, "nginx is not installed")
class TwoNodes(Cluster):
    NODES = 2

    def setUp(self):
        super().setUp()
        # Ports and places of its own: another nginx may run here.
        self.start_all(lambda config: [NGINX, "-c", config, "-g", "daemon off;"], "nginx.conf", (
            ("8080", self.front), ("8081", self.ports[0]), ("8082", self.ports[1]),
            ("/run", self.directory.name), ("/var/log/nginx", self.directory.name)))

    def accepted(self, i):
        """Calls that a node has accepted."""
        return int(re.search(rb'^brood_calls_accepted_total\{function="upper"\} (\d+)',
                             answer(self.ports[i], "GET", "/metrics")[1], re.MULTILINE).group(1))

    def test_calls_go_to_both(self):
        for _ in range(20):
            self.assertEqual(self.call(b"abc"), (200, b"ABC"))
        for i in range(2):
            self.assertGreater(self.accepted(i), 0)

    def test_a_node_that_is_killed_costs_no_call(self):
        done = threading.Event()
        answers, wrong = [], []

        def load(number):
            count = 0
            while not done.is_set():
                body = f"call {number} {count}".encode()
                count += 1
                try:
                    got = self.call(body)
                except (OSError, http.client.HTTPException) as error:
                    got = error
                answers.append(got)
                if got != (200, body.upper()):
                    wrong.append(got)

        threads = [threading.Thread(target=load, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        try:
            for i in (0, 1):
                time.sleep(0.7)
                self.nodes[i].kill()
                self.nodes[i].wait()
                alone = len(answers)
                # The other one serves on.
                self.assertTrue(wait_for(lambda: len(answers) > alone + 50), wrong[:5])
                self.start(i)
                # And this one serves again.
                self.assertTrue(wait_for(lambda: self.accepted(i) > 20), wrong[:5])
        finally:
            done.set()
            for thread in threads:
                thread.join()
        self.assertGreater(len(answers), 200)
        self.assertEqual(wrong, [])

    def test_a_node_that_drains_costs_no_call(self):
        done = threading.Event()
        wrong = []

        def load():
            while not done.is_set():
                got = self.call(b"abc")
                if got != (200, b"ABC"):
                    wrong.append(got)

        thread = threading.Thread(target=load)
        thread.start()
        time.sleep(0.3)
        self.nodes[0].send_signal(signal.SIGTERM)
        self.assertEqual(self.nodes[0].wait(20), 0)
        time.sleep(0.3)
        done.set()
        thread.join()
        self.assertEqual(wrong, [])
        self.start(0)


if __name__ == "__main__":
    unittest.main()
