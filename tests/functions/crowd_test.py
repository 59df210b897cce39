# SPDX-License-Identifier: Apache-2.0
"""Thousands of connections that send nothing, or hardly anything: others are served as before.

BROOD_CROWD: how many, 10,000 by default."""

import json
import os
import resource
import signal
import socket
import statistics
import time
import unittest

import node
from node import Node
from soak_client import Broken, Connection

CROWD = int(os.environ.get("BROOD_CROWD") or 10_000)
FUNCTION = os.environ["BROOD_SOAK_FUNCTION"]
SPARE = 4000  # descriptors that the daemon, or this test, may need beside them
CALLS = 150
# How much longer a call may take with all of them there. They cost a look five times a second, and
# what is sent by the slow; on a busy machine the measurement itself differs by a half.
SLOWER = 4
BODY = b"crowd echo 0\n" + b"x" * 100
REQUEST = (b"POST /functions/echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY) +
           BODY)


class Crowd:
    """A process of its own that holds connections, each of which sends `head`, a byte at a time."""

    def __init__(self, port, head=b"", address="127.0.0.1"):
        ready, tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.hold(port, head, address, tell)
            finally:
                os._exit(1)
        os.close(tell)
        self.told = os.read(ready, 100)
        os.close(ready)

    @staticmethod
    def hold(port, head, address, tell):
        connections = []
        for _ in range(CROWD):
            # From another address: the ports of one are soon used up.
            connections.append(socket.create_connection(("127.0.0.1", port), 60, (address, 0)))
            connections[-1].sendall(head[:10])
        os.write(tell, b"ready")
        at = 10
        while head:
            # All of them within a quarter of the time that a head may take.
            for i, each in enumerate(connections):
                if i % 50 == 0:
                    time.sleep(50 * 5 / CROWD)
                try:
                    each.send(head[at:at + 1])
                except OSError:
                    pass
            at += 1
        signal.pause()

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class Crowds(Node):
    CONFIG = (f"[function.echo]\ncommand = {json.dumps([FUNCTION])}\nmode = \"primed\"\nmin = 8\n"
              '[http]\nmax-connections = 16384\nheader-timeout = "20s"\nidle-timeout = "300s"\n')

    @classmethod
    def setUpClass(cls):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < CROWD + SPARE:
            raise unittest.SkipTest(f"RLIMIT_NOFILE is {hard}: too few for {CROWD} connections")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        super().setUpClass()

    def milliseconds(self):
        """Of a call: the median over one connection that is kept, and over one for each."""
        self.primed("echo", 8)
        kept, fresh = [], []
        connection = Connection(self.port)
        for _ in range(CALLS):
            kept.append(self.timed(connection))
            start = time.monotonic()
            another = Connection(self.port)
            fresh.append(time.monotonic() - start + self.timed(another))
            another.close()
        connection.close()
        return statistics.median(kept) * 1e3, statistics.median(fresh) * 1e3

    def timed(self, connection):
        start = time.monotonic()
        connection.send(REQUEST)
        status, _, body = connection.answer()
        seconds = time.monotonic() - start
        self.assertEqual((status, body), (200, BODY))
        return seconds

    def crowd(self, **how):
        """Others' calls among a crowd, against those before it came."""
        alone = self.milliseconds()
        # Those that have ended hold some until a quiet moment.
        last = 0
        while last != (last := self.fds()):
            time.sleep(1)
        descriptors = last
        crowd = Crowd(self.port, **how)
        try:
            self.assertEqual(crowd.told, b"ready")
            self.assertTrue(self.wait_for(lambda: self.fds() >= descriptors + CROWD))
            among = self.milliseconds()
            there = self.fds()
        finally:
            crowd.end()
        print(f"\n{CROWD} of {how}: kept {alone[0]:.2f} -> {among[0]:.2f} ms, "
              f"fresh {alone[1]:.2f} -> {among[1]:.2f} ms; {there} descriptors")
        self.assertGreater(there, CROWD)
        self.assertLess(among[0], SLOWER * alone[0])
        self.assertLess(among[1], SLOWER * alone[1])
        self.assertTrue(self.wait_for(lambda: self.fds() <= descriptors + 16, 20))

    def test_idle(self):
        self.crowd()

    def test_slow_heads(self):
        self.crowd(head=b"POST /functions/echo HTTP/1.1\r\nHost: " + b"x" * 1000,
                   address="127.0.0.2")


class Full(Node):
    """What happens at the last connection that there may be."""

    MOST = 32
    quiet = None  # sockets without any connection
    CONFIG = (f"[function.echo]\ncommand = {json.dumps([FUNCTION])}\nmode = \"parked\"\n"
              f"[http]\nmax-connections = {MOST}\nheader-timeout = \"60s\"\n"
              'idle-timeout = "60s"\n')

    def setUp(self):
        self.connections = []
        self.addCleanup(lambda: [each.close() for each in self.connections])
        # What the test before has closed counts until the daemon has seen it.
        self.assertTrue(self.wait_for(lambda: self.served() == 200))
        if self.quiet is None:
            type(self).quiet = self.sockets()
        self.assertTrue(self.wait_for(lambda: self.sockets() <= self.quiet))

    def sockets(self):
        """How many the daemon has."""
        count = 0
        for number in os.listdir(f"/proc/{self.daemon.pid}/fd"):
            try:
                count += os.readlink(f"/proc/{self.daemon.pid}/fd/{number}").startswith("socket:")
            except FileNotFoundError:
                pass
        return count

    def connect(self, count, data=b""):
        for _ in range(count):
            self.connections.append(Connection(self.port))
            self.connections[-1].send(data)
        return self.connections[-count:]

    def served(self):
        """The status that somebody new is answered with, who goes again."""
        connection = Connection(self.port)
        connection.send(REQUEST.replace(b"Host", b"Connection: close\r\nHost"))
        status = connection.answer()[0]
        # Until the daemon has closed it, it counts.
        connection.rest()
        connection.close()
        return status

    @staticmethod
    def closed(connections):
        count = 0
        for each in connections:
            each.socket.settimeout(0)
            try:
                count += not each.socket.recv(1, socket.MSG_PEEK)
            except ConnectionResetError:
                count += 1
            except BlockingIOError:
                pass
        return count

    def test_those_that_have_just_come_stay(self):
        crowd = self.connect(self.MOST)
        self.assertEqual(self.served(), 503)
        self.assertEqual(self.closed(crowd), 0)

    def test_the_idle_make_room_longest_first(self):
        slow = self.connect(4, REQUEST[:20])
        old = self.connect(4)
        kept = self.connect(self.MOST - 8)
        time.sleep(0.5)
        for each in kept:
            each.send(REQUEST)
        for each in kept:
            self.assertEqual(each.answer()[0], 200)
        time.sleep(1.2)
        for _ in range(6):
            self.assertEqual(self.served(), 200)
        self.assertTrue(self.wait_for(lambda: self.closed(old) > 0))
        self.assertEqual(self.closed(slow), 0)
        self.assertEqual(self.closed(kept), 0)

    def test_then_those_whose_head_is_slow(self):
        slow = self.connect(self.MOST, REQUEST[:20])
        self.assertEqual(self.served(), 503)
        time.sleep(1.2)
        self.assertEqual(self.served(), 200)
        # The first ones, and they are told.
        self.assertIn(b"408", slow[0].rest())

    def test_whoever_is_served_stays(self):
        busy = self.connect(self.MOST, REQUEST[:-1])
        time.sleep(1.2)
        self.assertEqual(self.served(), 503)
        for each in busy:
            each.send(REQUEST[-1:])
        for each in busy:
            self.assertEqual(each.answer()[0], 200)


class FewDescriptors(Node):
    """Connections leave descriptors for the calls."""

    CONFIG = (f"[function.echo]\ncommand = {json.dumps([FUNCTION])}\nmode = \"parked\"\n"
              "concurrency = 8\n")
    LIMIT = 512

    @classmethod
    def setUpClass(cls):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        # The daemon's: it inherits them.
        resource.setrlimit(resource.RLIMIT_NOFILE, (cls.LIMIT, limits[1]))
        cls.limits = limits
        super().setUpClass()

    @classmethod
    def start(cls):
        # Under `prlimit` for the hard one, which this process could not take back.
        program = node.BROOD
        script = os.path.join(cls.directory.name, "brood")
        with open(script, "w") as file:
            file.write(f"#!/bin/sh\nulimit -Hn {cls.LIMIT}\nexec {program} \"$@\"\n")
        os.chmod(script, 0o755)
        node.BROOD = script
        try:
            super().start()
        finally:
            node.BROOD = program
            resource.setrlimit(resource.RLIMIT_NOFILE, cls.limits)

    def test_calls_are_served(self):
        crowd = [Connection(self.port) for _ in range(self.LIMIT)]
        self.assertLess(self.fds(), self.LIMIT)
        time.sleep(1.2)
        for _ in range(20):
            answer = self.call("echo", BODY)
            self.assertEqual((answer.status, answer.body), (200, BODY))
        # Those that are there are served, too, but for the few that made room.
        served = 0
        for each in crowd:
            each.send(REQUEST)
            try:
                served += each.answer()[0] == 200
            except Broken:
                pass
            each.close()
        self.assertGreater(served, self.LIMIT // 5)


if __name__ == "__main__":
    unittest.main()
