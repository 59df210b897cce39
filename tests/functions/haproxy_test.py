# SPDX-License-Identifier: Apache-2.0
"""The example of three nodes behind HAProxy: killed, drained and restarted under load, they cost no
call. BROOD_HAPROXY_CALLS: how many; 4,000 unless told otherwise."""

import http.client
import os
import random
import shutil
import signal
import socket
import threading
import time
import unittest

from cluster import Cluster, wait_for

HAPROXY = shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin")
CALLS = int(os.environ.get("BROOD_HAPROXY_CALLS", "4000"))
CALLERS = 24  # of 48 places, or 32 while a node is away


@unittest.skipUnless(HAPROXY, "haproxy is not installed")
class ThreeNodes(Cluster):
    NODES = MORE_PORTS = 3
    ENDS_WITHIN = 40

    def setUp(self):
        super().setUp()
        self.agents = self.more_ports
        # For the test to look at it.
        self.stats = os.path.join(self.directory.name, "stats")
        self.start_all(lambda config: [HAPROXY, "-db", "-f", config], "haproxy.cfg", [
            ("127.0.0.1:8080", f"127.0.0.1:{self.front}"),
            ("global\n", f"global\n  stats socket {self.stats} level admin\n")] + [
            (f"127.0.0.1:808{i + 1} agent-port 908{i + 1}",
             f"127.0.0.1:{self.ports[i]} agent-port {self.agents[i]}") for i in range(self.NODES)])

    def config(self, i):
        config = os.path.join(self.directory.name, f"{i}.toml")
        with open(super().config(i)) as nodes, open(config, "w") as file:
            file.write(nodes.read() + f'\n[http]\nagent = "127.0.0.1:{self.agents[i]}"\n')
        return config

    def ask(self, i, name=None):
        with socket.create_connection(("127.0.0.1", self.agents[i]), timeout=10) as client:
            if name is not None: client.sendall(name.encode() + b"\n")
            return client.makefile().read()

    def states(self):
        """Of each node, as HAProxy has it: state, and the calls at once that it sends."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.stats)
            client.sendall(b"show stat\n")
            rows = [line.split(",") for line in client.makefile().read().splitlines() if line]
        names = rows[0]
        return {row[1]: (row[names.index("status")], row[names.index("slim")]) for row in rows[1:]
                if row[0] == "nodes" and row[1] != "BACKEND"}

    def test_a_node_says_what_it_takes(self):
        self.assertEqual(self.ask(0, "upper"), "ready up maxconn:16\n")
        self.assertEqual(self.ask(0), "ready up maxconn:16\n")
        self.assertEqual(self.ask(0, "nobody"), 'down#there is no function "nobody"\n')
        self.assertEqual(self.ask(0, "x" * 100)[:5], "down#")
        self.assertTrue(wait_for(lambda: set(self.states().values()) == {("UP", "16")}), self.states())

    def test_those_who_ask_for_long_hold_nobody_up(self):
        idle = [socket.create_connection(("127.0.0.1", self.agents[0])) for _ in range(200)]
        self.assertTrue(wait_for(lambda: self.ask(0, "upper") == "ready up maxconn:16\n"))
        for each in idle: each.close()

    def test_a_draining_node_gets_no_more(self):
        # One that runs a call for a while says that it drains until that is over.
        with socket.create_connection(("127.0.0.1", self.ports[0])) as slow:
            slow.sendall(b"POST /functions/upper HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
            time.sleep(0.2)
            self.nodes[0].send_signal(signal.SIGTERM)
            self.assertTrue(wait_for(lambda: self.ask(0) == "drain\n"))
            for _ in range(50): self.assertEqual(self.call(b"x"), (200, b"X"))
            slow.sendall(b"b")
            self.assertIn(b"200 OK", slow.recv(65536))
        self.assertEqual(self.nodes[0].wait(40), 0)
        self.start(0)
        self.assertTrue(wait_for(lambda: self.states()["one"][0] == "UP"))

    def test_no_call_is_lost_whatever_happens_to_nodes(self):
        draw = random.Random(18)
        lock = threading.Lock()
        left, answers, wrong = [CALLS], {200: 0, 503: 0}, []

        def load(number):
            while True:
                with lock:
                    if left[0] == 0: return
                    left[0] -= 1
                    mine = left[0]
                body = f"call {number} {mine}".encode()
                try:
                    status, text = self.call(body)
                except (OSError, http.client.HTTPException) as error:
                    status, text = repr(error), b""
                with lock:
                    if (status == 200 and text == body.upper()) or status == 503:
                        answers[status] += 1
                    else:
                        wrong.append((status, text))
        callers = [threading.Thread(target=load, args=(n,)) for n in range(CALLERS)]
        for each in callers: each.start()
        happened = 0
        while any(each.is_alive() for each in callers):
            i = happened % 3
            what = ("kill", "drain", "stop")[draw.randrange(3)]
            if what == "stop":  # starved of processor time
                self.nodes[i].send_signal(signal.SIGSTOP)
                time.sleep(0.3)
                self.nodes[i].send_signal(signal.SIGCONT)
            else:
                self.nodes[i].send_signal(signal.SIGKILL if what == "kill" else signal.SIGTERM)
                self.nodes[i].wait(60)
                self.start(i)
            happened += 1
            time.sleep(draw.uniform(0.2, 0.8))
        for each in callers: each.join()
        print(f"\n{answers[200]} answered, {answers[503]} with 503; {happened} nodes killed, drained or "
              "stopped", flush=True)
        self.assertEqual(wrong, [])
        self.assertEqual(sum(answers.values()), CALLS)
        self.assertGreater(happened, 0)
        self.assertLess(answers[503], CALLS / 100)


if __name__ == "__main__":
    unittest.main()
