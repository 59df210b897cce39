# SPDX-License-Identifier: Apache-2.0
"""Many thousands of calls at full load, of functions and callers that do all they should not.

BROOD_SOAK_CALLS: how many, 100,000 by default. BROOD_SOAK_SEED: what is drawn from."""

import collections
import json
import os
import random
import subprocess
import threading
import time
import unittest

from node import BROOD, MODES, Node
from soak_client import Broken, Connection

FUNCTION = os.environ["BROOD_SOAK_FUNCTION"]
CALLS = int(os.environ.get("BROOD_SOAK_CALLS") or 100_000)
SEED = int(os.environ.get("BROOD_SOAK_SEED") or 1)
CALLERS = 24  # at once
PARKED = 8
PRIMED = 4

# What the functions do, and how often of a hundred times.
ACTIONS = {"echo": 36, "short": 20, "exit": 8, "crash": 5, "hang": 2, "fork": 8, "flood": 7,
           "errors": 6, "slow": 4, "late": 4}
# What the callers do.
MANNERS = {"kept": 45, "pipelined": 25, "fresh": 15, "vanish in the body": 5,
           "vanish in the answer": 5, "vanish at once": 5}


def settings(mode, suffix, **words):
    words = {"command": [FUNCTION], "mode": mode, "queue": 4096, "queue-timeout": "120s",
             "concurrency": 16, **({"min": PRIMED} if mode == "primed" else {}), **words}
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in words.items())
    return f"[function.{suffix}-{mode}]\n{lines}template = \"default\"\n"


class Wanted:
    """One call, and what is to come of it."""

    def __init__(self, draw, number):
        self.id = f"{number:x}-{draw.getrandbits(64):016x}"
        self.mode = draw.choices(MODES, (15, 40, 45))[0]
        self.action = draw.choices(list(ACTIONS), ACTIONS.values())[0]
        self.function = f"{'hang' if self.action == 'hang' else 'work'}-{self.mode}"
        self.number = {
            "exit": draw.randint(1, 120), "crash": draw.choice((4, 11)),
            "fork": draw.randint(1, 4), "flood": draw.choice((100, 1024, 4096)),
            "errors": draw.choice((1, 64, 1024)), "slow": draw.randint(100, 2000),
            "late": draw.randint(1, 120)}.get(self.action, 0)
        self.name = {"short": "early"}.get(self.action, self.action)
        self.line = f"{self.id} {self.name} {self.number}\n".encode()
        filler = 0
        if self.action in ("echo", "slow"):
            filler = draw.choice((0, 10, 5000, 40_000))
        elif draw.random() < 0.2:
            filler = draw.choice((100, 20_000))  # which nobody reads
        self.body = self.line + draw.randbytes(filler)
        self.chunked = draw.random() < 0.3
        self.draw = draw

    def request(self, last=False):
        head = f"POST /functions/{self.function} HTTP/1.1\r\nHost: soak\r\n"
        if last:
            head += "Connection: close\r\n"
        if not self.chunked:
            return f"{head}Content-Length: {len(self.body)}\r\n\r\n".encode() + self.body
        pieces = [f"{head}Transfer-Encoding: chunked\r\n\r\n".encode()]
        at = 0
        while at < len(self.body):
            size = self.draw.randint(1, 10_000)
            piece = self.body[at:at + size]
            pieces.append(b"%x\r\n%b\r\n" % (len(piece), piece))
            at += size
        return b"".join(pieces) + b"0\r\n\r\n"

    def wrong(self, answer):
        """What is wrong with the answer; None if nothing is."""
        status, fields, body = answer
        expected, name, value, content = 200, None, None, self.line
        if self.action == "exit":
            expected, name, value = 500, "brood-exit-code", str(self.number)
        elif self.action == "crash":
            expected, name, value = 500, "brood-signal", str(self.number)
        elif self.action == "hang":
            expected, name, value = 504, "brood-end", "timeout"
        elif self.action in ("echo", "slow"):
            content = self.body
        elif self.action == "flood":
            content = self.line + b"~" * (self.number << 10)
        elif self.action == "late":
            return "it is whole, though the function failed"
        if status != expected:
            return f"{status} instead of {expected}: {fields} {body[:200]!r}"
        if name and fields.get(name) != value:
            return f"{name} is {fields.get(name)} instead of {value}"
        if status == 200 and body != content:
            return f"{len(body)} bytes, {body[:60]!r}, instead of {len(content)}, {content[:60]!r}"
        return None


class Caller(threading.Thread):
    """Makes calls until there are none left to be made."""

    def __init__(self, number, port, take):
        super().__init__()
        self.draw = random.Random(SEED * 1000 + number)
        self.port = port
        self.take = take
        self.connection = None
        self.statuses = collections.Counter()
        self.broken = 0
        self.vanished = 0
        self.wrongs = []
        self.calls = collections.Counter()

    def run(self):
        try:
            while numbers := self.take(self.draw.randint(2, 6)):
                manner = self.draw.choices(list(MANNERS), MANNERS.values())[0]
                calls = [Wanted(self.draw, number) for number in numbers]
                if manner == "pipelined":
                    self.in_turn(calls)
                elif manner in ("kept", "fresh"):
                    for call in calls:
                        self.in_turn([call], fresh=manner == "fresh")
                else:
                    for call in calls:
                        self.vanish(call, manner)
            self.close()
        except Exception as error:  # of the test itself: it must not be lost with the thread
            self.wrongs.append(f"{type(error).__name__}: {error}")

    def in_turn(self, calls, fresh=False):
        """Sends all at once, and reads the answers in their order. Those behind an answer that is
        the connection's last have not been looked at, and are sent again."""
        while calls:
            if fresh:
                self.close()
            if self.connection is None:
                self.connection = Connection(self.port, small=self.draw.random() < 0.2)
            try:
                # One that is answered early is not read to its end, as any server may do.
                self.connection.send(b"".join(call.request(fresh) for call in calls))
                last = False
                while calls and not last:
                    call = calls[0]
                    slow = call.action in ("flood", "late") and self.draw.random() < 0.1
                    answer = self.connection.answer(slow)
                    calls.pop(0)
                    self.calls[call.action] += 1
                    self.statuses[answer[0]] += 1
                    if wrong := call.wrong(answer):
                        self.wrongs.append(f"{call.function} {call.line!r}: {wrong}")
                    last = answer[1].get("connection") == "close"
                if last:
                    if self.connection.rest():
                        self.wrongs.append(f"{call.line!r}: more than one answer came")
                    self.close()
            except Broken as broken:
                call = calls.pop(0)
                self.calls[call.action] += 1
                self.broken += 1
                # What was sent of it has to be right, too.
                if call.action != "late" or not (call.line + b"~" * (200 << 10)).startswith(
                        broken.body):
                    self.wrongs.append(f"{call.function} {call.line!r}: broken off: {broken} "
                                       f"after {len(broken.body)} bytes")
                self.close(checked=False)

    def vanish(self, call, manner):
        self.close()
        connection = Connection(self.port)
        request = call.request()
        head = request.index(b"\r\n\r\n") + 4
        if manner == "vanish in the body":
            request = request[:self.draw.randint(head, len(request) - 1)]
        connection.send(request)
        if manner == "vanish in the answer":
            connection.some()
        connection.close()
        self.vanished += 1
        self.calls[manner] += 1

    def close(self, checked=True):
        if self.connection is None:
            return
        if checked and self.connection.more():
            self.wrongs.append("there is an answer to no request")
        self.connection.close()
        self.connection = None


class Soak(Node):
    CONFIG = "".join(settings(mode, "work", timeout="60s") +
                     settings(mode, "hang", timeout="250ms") for mode in MODES)

    @classmethod
    def configure(cls, text):
        with open(cls.config, "w") as file:
            file.write(f"{text}[template.default]\nparked = {PARKED}\n")

    def calls(self, count):
        """Makes so many; the callers, who have counted."""
        lock = threading.Lock()
        left = count

        def take(wanted):
            nonlocal left
            with lock:
                numbers = range(left, max(left - wanted, 0), -1)
                left -= len(numbers)
                return numbers

        callers = [Caller(i, self.port, take) for i in range(CALLERS)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        return callers

    def quiet(self):
        """Whether nobody waits, all workers are there again, and nothing else is."""
        return (self.metric("running") == 0 and self.metric("queued") == 0 and
                self.metric("primed") == 2 * PRIMED and self.stats()["parked"] == PARKED)

    def ask(self, command):
        return json.loads(subprocess.run(
            [BROOD, command, "--json", "--socket", os.path.join(self.directory.name, "s")],
            capture_output=True, check=True).stdout)

    def stats(self):
        return self.ask("stats")

    def settled(self):
        """What there is once nothing goes on. Namespaces of those that have ended are let go of in
        quiet moments, some time later."""
        self.assertTrue(self.wait_for(self.quiet, 60), self.get("/metrics")[1])
        last = None
        for _ in range(20):
            now = self.state()
            if last and all(now[what] == last[what] for what in now if what not in ("kib", "slots")):
                break
            last = now
            time.sleep(1)
        return now

    def state(self):
        """All that could be left behind, each as a number."""
        pid = self.daemon.pid
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.split(":", 1) for line in file.read().splitlines())
        with open(f"/proc/{pid}/mountinfo") as file:
            mounts = len(file.readlines())
        processes = cgroups = 0
        for directory, _, files in os.walk(self.cgroup) if self.cgroup else ():
            cgroups += 1
            try:
                with open(os.path.join(directory, "cgroup.procs")) as file:
                    processes += len(file.readlines())
            except OSError:
                pass
        children = 0
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                children += len(file.read().split())
        files = len(os.listdir(self.directory.name))
        # As many as are of use, which is not the same each time.
        slots = self.ask("tree")["slots"]
        return {"fds": self.fds(), "mounts": mounts, "processes": processes and processes - slots,
                "cgroups": cgroups, "children": children - slots, "slots": slots, "threads": int(status["Threads"]), "files": files,
                "kib": int(status["VmRSS"].split()[0])}

    def test_soak(self):
        # Long enough for everything that is kept for later to have been made.
        warm = max(CALLS // 10, 500)
        start = time.monotonic()
        callers = self.calls(warm)
        before = self.settled()
        began = time.monotonic()
        callers += self.calls(CALLS - warm)
        seconds = time.monotonic() - began
        after = self.settled()
        wrongs = [wrong for caller in callers for wrong in caller.wrongs]
        print(f"{CALLS} calls in {time.monotonic() - start:.0f} s, {(CALLS - warm) / seconds:.0f} "
              f"a second\n  before {before}\n  after  {after}")
        self.assertEqual(wrongs[:10], [])

        # Each was answered once: what the callers have counted is what the daemon has.
        statuses = sum((caller.statuses for caller in callers), collections.Counter())
        vanished = sum(caller.vanished for caller in callers)
        broken = sum(caller.broken for caller in callers)
        answered = sum(statuses.values())
        self.assertEqual(answered + broken + vanished, CALLS)
        accepted = self.metric("calls_accepted_total")
        gone = self.metric("callers_gone_total")
        daemons = {status: self.metric("answers_total", status=status)
                   for status in (200, 429, 500, 503, 504)}
        print(f"  accepted {accepted:.0f}: answered {daemons}, "
              f"broken off {self.metric('answers_broken_total'):.0f}, gone {gone:.0f}\n"
              f"  callers: {dict(statuses)}, broken off {broken}, vanished {vanished}\n"
              f"  {dict(sum((caller.calls for caller in callers), collections.Counter()))}")
        self.assertEqual(accepted, self.metric("answers_total") + gone +
                         self.metric("answers_broken_total"))
        self.assertEqual(accepted, CALLS)
        # A caller who vanishes may have been answered before that was noticed.
        unseen = 0
        for status in set(daemons) | set(statuses):
            self.assertGreaterEqual(self.metric("answers_total", status=status), statuses[status])
            unseen += self.metric("answers_total", status=status) - statuses[status]
        self.assertGreaterEqual(self.metric("answers_broken_total"), broken)
        unseen += self.metric("answers_broken_total") - broken
        self.assertEqual(unseen + gone, vanished)
        # A path for each that came so far as to get an isolate.
        self.assertLessEqual(self.metric("paths_total"), accepted)
        self.assertGreaterEqual(self.metric("paths_total"), answered + broken)

        # And nothing has stayed.
        same = ("mounts", "processes", "children", "threads", "files")
        self.assertTrue(self.wait_for(lambda: all(
            now[what] == before[what] for now in (self.state(),) for what in same)),
            f"{before}, {self.state()}")
        self.assertLessEqual(after["fds"], before["fds"] + 8)
        self.assertLessEqual(after["slots"], before["slots"] + 64)
        self.assertLessEqual(after["cgroups"], before["cgroups"] + 16)
        # Whatever a call would keep is multiplied by their number.
        self.assertLess(after["kib"] - before["kib"], max(4096, before["kib"] // 4))
        self.assertEqual(self.get("/healthz"), (200, "ok\n"))


if __name__ == "__main__":
    unittest.main()
