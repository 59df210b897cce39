# SPDX-License-Identifier: Apache-2.0
"""What the tests of nodes behind a proxy share: an example's nodes and its proxy, at ports of their
own."""

import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
import unittest

BROOD = os.environ["BROOD_PROGRAM"]
EXAMPLES = os.environ["BROOD_EXAMPLES"]


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


class Cluster(unittest.TestCase):
    NODES = 0
    MORE_PORTS = 0  # beside one for each node
    ENDS_WITHIN = 20  # seconds, of a node that is told to end

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="brood_cluster_")
        self.addCleanup(self.directory.cleanup)
        # All at once: a port that was free a moment ago may be found again.
        self.front, *ports = free_ports(1 + self.NODES + self.MORE_PORTS)
        self.ports, self.more_ports = ports[:self.NODES], ports[self.NODES:]
        self.log = open(os.path.join(self.directory.name, "log"), "w+")
        self.addCleanup(self.log.close)
        self.nodes = [None] * self.NODES

    def start_all(self, proxy, example, replaced):
        """Nodes, and a proxy in front of them: `proxy` makes its command out of its configuration,
        the example with some texts replaced."""
        for i in range(self.NODES):
            self.start(i)
            self.addCleanup(self.end, i)
        with open(os.path.join(EXAMPLES, example)) as file:
            text = file.read()
        for old, new in replaced:
            self.assertIn(old, text)
            text = text.replace(old, str(new))
        config = os.path.join(self.directory.name, example)
        with open(config, "w") as file:
            file.write(text)
        front = subprocess.Popen(proxy(config), stdin=subprocess.DEVNULL, stdout=self.log,
                                 stderr=self.log)
        self.addCleanup(front.wait)
        self.addCleanup(front.terminate)
        self.assertTrue(wait_for(lambda: self.call(b"x") == (200, b"X")), self.logged())

    def logged(self):
        with open(self.log.name) as file:
            return file.read()

    def config(self, i):
        """The configuration of a node."""
        return os.path.join(EXAMPLES, "nodes.toml")

    def start(self, i):
        self.nodes[i] = subprocess.Popen(
            [BROOD, "serve", "--config", self.config(i),
             "--socket", os.path.join(self.directory.name, f"{i}.sock"),
             "--http", f"127.0.0.1:{self.ports[i]}"],
            stdin=subprocess.DEVNULL, stderr=self.log)
        self.assertTrue(wait_for(lambda: answer(self.ports[i], "GET", "/healthz")[0] == 200),
                        self.logged())

    def end(self, i):
        self.nodes[i].send_signal(signal.SIGTERM)
        self.assertIn(self.nodes[i].wait(self.ENDS_WITHIN), (0, -signal.SIGKILL))

    def call(self, body):
        """Through the proxy."""
        return answer(self.front, "POST", "/functions/upper", body)
