# SPDX-License-Identifier: Apache-2.0
"""The example of two nodes behind nginx: one is killed under load, and no caller notices."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

BROOD = os.environ["BROOD_PROGRAM"]
EXAMPLES = os.environ["BROOD_EXAMPLES"]
NGINX = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def answer(port, method, target, body=None):
    """Status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, target, body)
    response = connection.getresponse()
    result = response.status, response.read()
    connection.close()
    return result


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return True
        except OSError:
            pass
        if time.monotonic() > end:
            return False
        time.sleep(0.02)


@unittest.skipUnless(NGINX, "nginx is not installed")
class TwoNodes(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="brood_nginx_")
        self.addCleanup(self.directory.cleanup)
        self.front, *self.ports = free_ports(3)
        self.log = open(os.path.join(self.directory.name, "log"), "w+")
        self.addCleanup(self.log.close)
        self.nodes = [None, None]
        for i in range(2):
            self.start(i)
            self.addCleanup(self.end, i)
        with open(os.path.join(EXAMPLES, "nginx.conf")) as file:
            text = file.read()
        # Ports and places of its own: another nginx may run here.
        for old, new in (("8080", self.front), ("8081", self.ports[0]), ("8082", self.ports[1]),
                         ("/run", self.directory.name), ("/var/log/nginx", self.directory.name)):
            self.assertIn(old, text)
            text = text.replace(old, str(new))
        config = os.path.join(self.directory.name, "nginx.conf")
        with open(config, "w") as file:
            file.write(text)
        self.nginx = subprocess.Popen([NGINX, "-c", config, "-g", "daemon off;"],
                                      stdin=subprocess.DEVNULL, stderr=self.log)
        self.addCleanup(self.nginx.wait)
        self.addCleanup(self.nginx.terminate)
        self.assertTrue(wait_for(lambda: self.through_nginx(b"x") == (200, b"X")), self.logged())

    def logged(self):
        with open(self.log.name) as file:
            return file.read()

    def start(self, i):
        self.nodes[i] = subprocess.Popen(
            [BROOD, "serve", "--config", os.path.join(EXAMPLES, "nodes.toml"),
             "--socket", os.path.join(self.directory.name, f"{i}.sock"),
             "--http", f"127.0.0.1:{self.ports[i]}"],
            stdin=subprocess.DEVNULL, stderr=self.log)
        self.assertTrue(wait_for(lambda: answer(self.ports[i], "GET", "/healthz")[0] == 200),
                        self.logged())

    def end(self, i):
        self.nodes[i].send_signal(signal.SIGTERM)
        self.assertIn(self.nodes[i].wait(20), (0, -signal.SIGKILL))

    def through_nginx(self, body):
        return answer(self.front, "POST", "/functions/upper", body)

    def accepted(self, i):
        """Calls that a node has accepted."""
        return int(re.search(rb'^brood_calls_accepted_total\{function="upper"\} (\d+)',
                             answer(self.ports[i], "GET", "/metrics")[1], re.MULTILINE).group(1))

    def test_calls_go_to_both(self):
        for _ in range(20):
            self.assertEqual(self.through_nginx(b"abc"), (200, b"ABC"))
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
                    got = self.through_nginx(body)
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
                got = self.through_nginx(b"abc")
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
