# SPDX-License-Identifier: Apache-2.0
"""Calls that nobody waits for: none that was accepted is lost, whatever happens to the daemon."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
import unittest

from node import BROOD, Node, function


class Async(Node):
    CONFIG = ""
    CALLS = 'calls = "calls.sqlite"\n'
    FUNCTIONS = (
        function("echo", "exec cat", mode="primed", min=2) +
        """[function.server]
runtime = "http"
command = ["/usr/bin/python3", "-c", "import http.server\\nclass H(http.server.BaseHTTPRequestHandler):\\n def do_POST(self):\\n  body = self.path.encode() + b' ' + self.rfile.read(int(self.headers['Content-Length']))\\n  self.send_response(201)\\n  self.send_header('Content-Length', str(len(body)))\\n  self.end_headers()\\n  self.wfile.write(body)\\nhttp.server.HTTPServer(('127.0.0.1', 8080), H).serve_forever()"]
""" +
        function("slow", "read seconds; sleep $seconds; echo slept", concurrency=4) +
        function("one", "read seconds; sleep $seconds; echo one", concurrency=1, queue=0) +
        function("fail", "echo half; exit 7") +
        function("hang", "sleep 1000", timeout="300ms") +
        function("halfway", "head -c 200000 /dev/zero; exit 3") +
        function("long", "head -c 100000 /dev/zero | tr '\\0' x") +
        function("binary", "printf '\\377\\001'") +
        function("cgi", "printf 'Status: 201\\nX-A: b\\n\\nmade'", cgi=True) +
        function("small", "exec cat", **{"max-body": "1000"}))

    @classmethod
    def setUpClass(cls):
        cls.CONFIG = cls.FUNCTIONS + "[http]\n" + cls.CALLS
        super().setUpClass()

    @classmethod
    def start(cls):
        cls.cwd = cls.directory.name
        super().start()

    def accepted(self, name, body=b"", **keywords):
        """The id of a call that was accepted."""
        answer = self.call(f"{name}?async=1", body, **keywords)
        self.assertEqual(answer.status, 202, answer.body)
        call = json.loads(answer.body)
        self.assertEqual(answer.headers["Location"], f"/calls/{call['id']}")
        return call["id"]

    def state(self, call):
        status, text = self.get(f"/calls/{call}")
        self.assertEqual(status, 200, text)
        return json.loads(text)

    def ended(self, call, seconds=20):
        found = []

        def ends():
            found[:] = [self.state(call)]
            return found[0]["state"] in ("done", "given-up")
        self.assertTrue(self.wait_for(ends, seconds), found)
        schema = self.document["components"]["schemas"]["Call"]
        self.assertLessEqual(set(schema["required"]), set(found[0]))
        self.assertLessEqual(set(found[0]), set(schema["properties"]))
        return found[0]

    def kill(self):
        self.daemon.kill()
        self.daemon.wait()
        # The kernel may hold its sockets for a moment longer, until its ring is gone.
        path = os.path.join(self.directory.name, "s")

        def refused():
            with socket.socket(socket.AF_UNIX) as client:
                return client.connect_ex(path) != 0
        self.assertTrue(self.wait_for(refused))

    def restart(self):
        self.kill()
        self.start()


class Results(Async):
    def test_a_server_hears_the_whole_request(self):
        answer = self.call("server/a/b?c=d", b"the body", headers={"Prefer": "respond-async"})
        self.assertEqual(answer.status, 202)
        location = answer.headers["Location"]
        call = self.wait_for(lambda: [each for each in [json.loads(self.get(location)[1])]
                                      if each["state"] == "done"])[0]
        self.assertEqual((call["status"], call["output"]), (201, "/a/b?c=d the body"))

    def test_the_result_is_what_a_caller_would_have_got(self):
        before = time.time()
        call = self.ended(self.accepted("echo", b"hello"))
        self.assertEqual((call["function"], call["state"], call["status"], call["output"],
                          call["attempts"]), ("echo", "done", 200, "hello", 1))
        self.assertLessEqual(before - 1, call["accepted"])
        self.assertLessEqual(call["accepted"], call["started"])
        self.assertLessEqual(call["started"], call["ended"])
        self.assertIn(call["headers"]["Brood-Path"], ("primed", "parked", "cold"))
        for phase in ("Queue", "Spawn", "Run", "Total"):
            self.assertGreaterEqual(int(call["headers"][f"Brood-{phase}-Us"]), 0)
        self.assertFalse(call["output_truncated"])

    def test_states_on_the_way(self):
        first = self.accepted("one", b"1\n")
        second = self.accepted("one", b"0\n")
        self.assertTrue(self.wait_for(lambda: self.state(first)["state"] == "running"))
        self.assertEqual(self.state(second)["state"], "waiting")
        self.assertNotIn("status", self.state(first))
        self.assertEqual(self.ended(second)["output"], "one\n")
        self.assertLessEqual(self.ended(first)["ended"], self.ended(second)["started"])

    def test_failures_are_results(self):
        call = self.ended(self.accepted("fail"))
        self.assertEqual((call["status"], call["headers"]["Brood-Exit-Code"]), (500, "7"))
        self.assertEqual(self.ended(self.accepted("hang"))["status"], 504)
        call = self.ended(self.accepted("halfway"))
        self.assertEqual((call["status"], call["headers"]["Brood-End"]), (500, "exited"))
        call = self.ended(self.accepted("cgi"))
        self.assertEqual((call["status"], call["headers"]["X-A"], call["output"]),
                         (201, "b", "made"))

    def test_output_is_bounded(self):
        call = self.ended(self.accepted("long"))
        self.assertEqual((call["status"], call["output"], call["output_truncated"]),
                         (200, "x" * 65536, True))
        self.assertIn("Brood-Run-Us", call["headers"])

    def test_output_that_is_no_text(self):
        call = self.ended(self.accepted("binary"))
        self.assertEqual(base64.b64decode(call["output_base64"]), b"\xff\x01")

    def test_bodies_are_bounded(self):
        self.assertEqual(self.call("small?async=1", b"x" * 1001).status, 413)
        self.assertEqual(self.call("echo?async=1", b"x" * ((1 << 20) + 1)).status, 413)
        pieces = (b"x" * 600 for _ in range(2))
        self.assertEqual(self.call("small?async=1", pieces, encode_chunked=True,
                                   headers={"Transfer-Encoding": "chunked"}).status, 413)
        body = b"x" * (1 << 20)
        self.assertEqual(self.ended(self.accepted("echo", body))["output"], "x" * 65536)
        self.assertEqual(self.ended(self.accepted("echo", iter([b"a", b"b"]), encode_chunked=True,
                                    headers={"Transfer-Encoding": "chunked"}))["output"], "ab")

    def test_a_caller_who_waits_is_served_beside_many_who_do_not(self):
        calls = [self.accepted("slow", b"0.2\n") for _ in range(20)]
        self.assertEqual(self.call("slow", b"0\n").status, 200)
        for call in calls:
            self.assertEqual(self.ended(call)["output"], "slept\n")

    def test_what_there_is_not(self):
        self.assertEqual(self.get("/calls/none")[0], 404)
        self.assertEqual(self.get("/calls/" + "0" * 32)[0], 404)
        self.assertEqual(self.call("none?async=1").status, 404)
        self.assertEqual(self.call("../calls/x").status, 404)
        self.assertEqual(self.call("echo?async=0", b"now").body, b"now")
        self.assertEqual(self.call("echo?x&async=1", b"later").status, 202)
        self.assertEqual(self.call("echo", b"later", headers={"Prefer": "respond-async"}).status, 202)
        answer = self.call("echo?async=2", b"x")
        self.assertEqual((answer.status, answer.body), (400, b'async takes 0 or 1, not "2"\n'))
        answer = self.call("echo?async=1", b"", "GET")
        self.assertEqual((answer.status, answer.headers["Allow"]), (405, "POST"))

    def test_curl_with_an_expectation(self):
        answer = subprocess.run(
            ["curl", "-sS", "-H", "Expect: 100-continue", "--data-binary", "@-", "-i",
             f"http://127.0.0.1:{self.port}/functions/echo?async=1"],
            input=b"~" * 100000, capture_output=True, timeout=20, check=True).stdout
        self.assertTrue(answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted"))

    def test_the_file_is_nobody_elses(self):
        for name in ("calls.sqlite", "calls.sqlite-wal"):
            mode = os.stat(os.path.join(self.directory.name, name)).st_mode
            self.assertEqual(mode & 0o777, 0o600, name)

    def test_a_second_daemon_on_the_file_does_not_start(self):
        second = subprocess.run(
            [BROOD, "serve", "--socket", os.path.join(self.directory.name, "second"),
             "--config", self.config, "--http", "127.0.0.1:0"], cwd=self.cwd, timeout=20,
            capture_output=True)
        self.assertNotEqual(second.returncode, 0)
        self.assertIn(b"in use by another daemon", second.stderr)
        self.assertEqual(self.ended(self.accepted("echo", b"first"))["output"], "first")

    def test_metrics(self):
        self.ended(self.accepted("echo", b"x"))
        self.assertTrue(self.wait_for(lambda: self.metric("async_running") == 0))
        self.assertEqual(self.metric("async_waiting"), 0)


class Killed(Async):
    def test_what_waits_and_what_runs_is_run_after_a_kill(self):
        running = [self.accepted("slow", b"1\n") for _ in range(4)]
        waiting = [self.accepted("slow", b"0\n") for _ in range(4)]
        self.assertTrue(self.wait_for(
            lambda: all(self.state(call)["state"] == "running" for call in running)))
        self.restart()
        for call in running:
            self.assertEqual((self.ended(call)["output"], self.ended(call)["attempts"]),
                             ("slept\n", 2))
        for call in waiting:
            self.assertEqual((self.ended(call)["output"], self.ended(call)["attempts"]),
                             ("slept\n", 1))

    def test_after_five_attempts_it_is_given_up(self):
        call = self.accepted("slow", b"1000\n")
        for attempt in range(1, 6):
            self.assertTrue(self.wait_for(lambda: self.state(call)["state"] == "running"))
            self.assertEqual(self.state(call)["attempts"], attempt)
            self.restart()
        state = self.state(call)
        self.assertEqual((state["state"], state["attempts"]), ("given-up", 5))
        self.assertNotIn("status", state)
        # And it stays that way.
        self.restart()
        self.assertEqual(self.state(call)["state"], "given-up")

    def test_results_are_still_there_after_a_kill(self):
        call = self.ended(self.accepted("echo", b"kept"))
        self.restart()
        self.assertEqual(self.state(call["id"]), call)

    def test_nothing_that_was_accepted_is_lost_under_kills_and_load(self):
        accepted, done = [], threading.Event()

        def load():
            while not done.is_set():
                body = os.urandom(8).hex()
                try:
                    answer = self.call("echo?async=1", body.encode())
                    if answer.status == 202:
                        accepted.append((json.loads(answer.body)["id"], body))
                except (OSError, ValueError, http.client.HTTPException):
                    time.sleep(0.05)

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            time.sleep(0.4)
            self.restart()
        time.sleep(0.2)
        done.set()
        for thread in threads:
            thread.join()
        self.assertGreater(len(accepted), 20)
        for call, body in accepted:
            self.assertEqual((self.ended(call)["state"], self.ended(call)["output"]),
                             ("done", body))

    def test_a_daemon_told_to_end_ends_what_runs_and_leaves_what_waits(self):
        running = self.accepted("one", b"1\n")
        waiting = self.accepted("one", b"0\n")
        self.assertTrue(self.wait_for(lambda: self.state(running)["state"] == "running"))
        self.daemon.send_signal(signal.SIGTERM)
        self.assertEqual(self.daemon.wait(20), 0)
        self.start()
        self.assertEqual((self.state(running)["state"], self.state(running)["attempts"]),
                         ("done", 1))
        self.assertEqual((self.ended(waiting)["output"], self.ended(waiting)["attempts"]),
                         ("one\n", 1))

    def test_a_daemon_told_twice_leaves_what_ran_to_the_next(self):
        call = self.accepted("slow", b"2\n")
        self.assertTrue(self.wait_for(lambda: self.state(call)["state"] == "running"))
        before = len(self.log())
        self.daemon.send_signal(signal.SIGTERM)
        self.assertTrue(self.wait_for(lambda: '"draining"' in self.log()[before:]))
        self.daemon.send_signal(signal.SIGTERM)
        self.assertEqual(self.daemon.wait(20), 0)
        self.start()
        self.assertEqual((self.ended(call)["output"], self.ended(call)["attempts"]),
                         ("slept\n", 2))

    def test_a_function_that_is_gone_is_told(self):
        blocker = self.accepted("one", b"1\n")
        call = self.accepted("one", b"0\n")
        self.assertTrue(self.wait_for(lambda: self.state(blocker)["state"] == "running"))
        self.kill()
        self.configure(self.CONFIG.replace("[function.one]", "[function.other]"))
        self.start()
        self.assertEqual((self.ended(call)["state"], self.ended(call)["status"]), ("done", 404))
        self.configure(self.CONFIG)
        self.restart()


class Bounded(Async):
    CALLS = Async.CALLS + 'keep = "1s"\nmax-calls = 3\n'

    def test_what_has_ended_is_removed(self):
        call = self.ended(self.accepted("echo"))["id"]
        self.assertTrue(self.wait_for(lambda: self.get(f"/calls/{call}")[0] == 404))

    def test_so_many_may_wait_or_run(self):
        calls = [self.accepted("one", b"0.5\n") for _ in range(3)]
        answer = self.call("one?async=1", b"0\n")
        self.assertEqual((answer.status, answer.headers["Retry-After"]), (429, "1"))
        self.assertTrue(self.wait_for(lambda: self.metric("async_running") +
                                      self.metric("async_waiting") == 0))
        self.accepted("echo")


@unittest.skipIf(os.geteuid() != 0, "needs root, to mount a small disk")
class Full(Async):
    """The file is on a disk of 3 MiB."""

    CALLS = 'calls = "disk/calls.sqlite"\n'

    @classmethod
    def start(cls):
        cls.disk = os.path.join(cls.directory.name, "disk")
        if not os.path.exists(cls.disk):
            os.mkdir(cls.disk)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3M", "none", cls.disk], check=True)
        super().start()

    @classmethod
    def ended_daemon(cls):
        subprocess.run(["umount", cls.disk], check=True)

    def test_a_full_disk_refuses_and_loses_nothing(self):
        accepted = [self.accepted("one", b"2\n")]
        refused = 0
        while refused < 3:
            answer = self.call("one?async=1", b"0\n" + b"x" * 500_000)
            if answer.status == 202:
                accepted.append(json.loads(answer.body)["id"])
                self.assertLess(len(accepted), 20)
            else:
                self.assertEqual((answer.status, answer.headers["Retry-After"]), (503, "1"))
                refused += 1
        self.assertGreater(len(accepted), 1)
        self.logged("make room on its disk")
        # Those who wait for their answers need no disk.
        self.assertEqual(self.call("echo", b"x").body, b"x")
        subprocess.run(["mount", "-o", "remount,size=64M", self.disk], check=True)
        for call in accepted:
            self.assertEqual(self.ended(call)["output"], "one\n")
        self.assertEqual(self.ended(self.accepted("echo", b"x"))["output"], "x")


class Nowhere(Async):
    CALLS = ""

    def test_without_a_file_it_is_refused(self):
        answer = self.call("echo?async=1", b"x")
        self.assertEqual(answer.status, 501)
        self.assertIn(b"calls", answer.body)
        self.assertEqual(self.get("/calls/x")[0], 501)


del Async  # which has no tests of its own

if __name__ == "__main__":
    unittest.main()
