# SPDX-License-Identifier: Apache-2.0
"""Warm functions: isolates that serve call after call, what they keep, and when they end."""

import concurrent.futures
import json
import os
import signal
import socket
import time
import unittest

from lambda_test import Lambda, runtime

# Tells which isolate answers, how many calls it has had, and what it finds of them.
COUNTS = """
import secrets
own, calls = secrets.token_hex(8), 0
while True:
    event = wait().decode()
    calls += 1
    found = os.path.exists("/tmp/kept")
    open("/tmp/kept", "w").close()
    if event.startswith("sleep "): time.sleep(float(event[6:]))
    if event == "exit": sys.exit(3)
    if event == "lost": respond("null"); time.sleep(1000)
    if event.startswith("say "): print(event[4:], file=sys.stderr)
    if event.startswith("say ") or event == "error":
        ask(call + "error", json.dumps({"errorMessage": "as told", "errorType": "A.B"}))
    elif event.startswith("bytes "):
        respond("x" * int(event[6:]))
    else:
        respond(json.dumps({"own": own, "calls": calls, "found": found}))
"""

# Asks for its next call over another connection before it answers this one.
AHEAD = """
own, calls = os.urandom(8).hex(), 0
def asked(client):
    data = b""
    while b"\\r\\n\\r\\n" not in data: data += client.recv(65536)
    return "invocation/" + data.decode().lower().split("request-id: ")[1].split("\\r")[0] + "/"
def ask_ahead():
    return raw(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
current = ask_ahead()
while True:
    call = asked(current)
    calls += 1
    current = ask_ahead()
    time.sleep(0.01)
    respond(json.dumps({"own": own, "calls": calls}))
"""

# Never stops talking, with helpers, through a pipe as large as it may be.
SHOUTS = """
import fcntl
wait()
try: fcntl.fcntl(2, 1031, 1 << 20)
except OSError: pass
for _ in range(3):
    if os.fork() == 0: break
while True: os.write(2, b"x" * 65536)
"""

# Keeps every connection over which it has answered.
HOARDS = """
kept, calls = [], 0
while True:
    wait()
    calls += 1
    kept.append(http.client.HTTPConnection(address))
    kept[-1].request("POST", "/2018-06-01/runtime/" + call + "response", str(calls))
    kept[-1].getresponse().read()
"""

# Goes on with an error of its first call when it has the second.
LATE_ERROR = """
wait()
late = raw(("POST /2018-06-01/runtime/" + call + "error HTTP/1.1\\r\\nHost: x\\r\\n"
    "Content-Length: 10\\r\\n\\r\\nfirst").encode())
time.sleep(0.1)
respond("1")
wait()
late.sendall(b"other")
late.recv(100)
respond("2")
time.sleep(1000)
"""


def warm(name, script=COUNTS, **settings):
    return runtime(name, script, mode="warm", **{"min": 0, **settings})


class Warm(Lambda):
    CONFIG = warm("first") + warm("counts") + warm("other") + warm("two", concurrency=2) + \
        warm("left", concurrency=1) + warm("stopped", concurrency=1) + \
        warm("few", **{"max-calls": 3}) + \
        warm("young", min=1, **{"max-age": "700ms"}) + \
        warm("brief", idle="300ms") + warm("kept", min=2, idle="300ms") + \
        warm("hurried", timeout="500ms") + \
        warm("lost", timeout="1s", concurrency=2) + \
        warm("ends-early", "sys.exit(4)") + \
        warm("slow", "time.sleep(1)" + COUNTS, concurrency=4) + \
        runtime("default", COUNTS, mode=None, min=None) + \
        warm("ahead", AHEAD, concurrency=1) + \
        warm("hangs", "import secrets\nif secrets.randbelow(2): time.sleep(1000)\n" + COUNTS,
             timeout="500ms", concurrency=1) + \
        warm("shouts", SHOUTS, timeout="3s") + \
        warm("hoards", HOARDS, concurrency=1) + \
        warm("late-error", LATE_ERROR, concurrency=1)

    def counted(self, name, event=b"x"):
        answer = self.call(name, event)
        self.assertEqual(answer.status, 200, answer.body)
        return json.loads(answer.body)

    def isolates(self, name):
        """The pids, here, of those of a function."""
        found = []
        for each in os.listdir("/proc"):
            try:
                with open(f"/proc/{each}/environ", "rb") as file:
                    environ = file.read().split(b"\0")
            except (OSError, ValueError):
                continue
            if f"AWS_LAMBDA_FUNCTION_NAME={name}".encode() in environ:
                found.append(int(each))
        return found

    def test_it_serves_call_after_call(self):
        # Another takes a call where one is slow to ask for its next.
        last, others = self.counted("first"), 0
        self.assertFalse(last["found"])
        for _ in range(50):
            answer = self.call("first", b"x")
            now = json.loads(answer.body)
            if now["own"] == last["own"]:
                self.assertEqual((now["calls"], now["found"]), (last["calls"] + 1, True))
                self.assertEqual(answer.headers["Brood-Path"], "warm")
                self.assertEqual(answer.headers["Brood-Served-Before"], str(last["calls"]))
            else:
                others += 1
            last = now
        self.assertLess(others, 10)

    def test_it_is_what_a_custom_runtime_gets(self):
        modes = {each["name"]: each["mode"] for each in json.loads(self.get("/functions")[1])}
        self.assertEqual(modes["default"], "warm")
        self.primed("default", 1)
        self.assertEqual(self.call("default", b"x").headers["Brood-Path"], "primed")

    def test_functions_share_nothing(self):
        self.counted("counts")
        other = self.counted("other")
        self.assertNotEqual(other["own"], self.counted("counts")["own"])
        again = self.counted("other")
        self.assertEqual((again["own"], again["found"]), (other["own"], True))

    def test_calls_that_come_together_wait_for_whoever_is_free(self):
        with concurrent.futures.ThreadPoolExecutor(16) as callers:
            told = list(callers.map(lambda _: self.counted("two", b"sleep 0.01"), range(100)))
        owners = {each["own"] for each in told}
        self.assertLessEqual(len(owners), 2)
        # Each has told each of its numbers once.
        self.assertEqual(len({(each["own"], each["calls"]) for each in told}), 100)

    def test_a_call_is_not_overtaken(self):
        """Whoever came first is served by the isolate that is ready first."""
        with concurrent.futures.ThreadPoolExecutor(3) as callers:
            slow = callers.submit(self.call, "slow", b"x")
            time.sleep(0.3)
            later = [callers.submit(self.call, "slow", b"x") for _ in range(2)]
            total = [int(each.result().headers["Brood-Total-Us"]) for each in (slow, *later)]
        self.assertTrue(all(each < 3_000_000 for each in total), total)

    def test_after_so_many_calls_comes_another(self):
        told = [self.counted("few") for _ in range(9)]
        self.assertEqual([each["calls"] for each in told], [1, 2, 3] * 3)
        self.assertEqual(len({each["own"] for each in told}), 3)

    def test_one_that_is_old_is_replaced(self):
        first = self.counted("young")["own"]
        self.assertTrue(self.wait_for(lambda: self.counted("young")["own"] != first))
        self.primed("young", 1)

    def test_those_that_nobody_calls_end(self):
        with concurrent.futures.ThreadPoolExecutor(4) as callers:
            list(callers.map(lambda _: self.counted("brief", b"sleep 0.1"), range(4)))
            list(callers.map(lambda _: self.counted("kept", b"sleep 0.1"), range(4)))
        self.assertGreater(len(self.isolates("brief")), 1)
        self.assertTrue(self.wait_for(lambda: self.isolates("brief") == []))
        self.assertTrue(self.wait_for(lambda: len(self.isolates("kept")) == 2))
        self.assertEqual(self.metric("primed", function="kept"), 2)
        self.assertEqual(self.counted("brief")["calls"], 1)

    def test_an_error_is_an_answer_and_it_goes_on(self):
        first = self.counted("counts")
        for _ in range(3):
            self.assertEqual(self.error("counts", "A.B", b"error")["errorMessage"], "as told")
        self.assertEqual(self.counted("counts"),
                         {"own": first["own"], "calls": first["calls"] + 4, "found": True})

    def test_each_call_is_logged_with_its_own_words(self):
        for word in ("first", "second", "third"):
            self.error("other", "A.B", f"say the {word} words".encode())
            self.logged(f"the {word} words")
        said = [each["stderr"] for each in map(json.loads, self.log().splitlines())
                if each.get("function") == "other" and "words" in each.get("stderr", "")]
        self.assertEqual([each.strip() for each in said],
                         ["the first words", "the second words", "the third words"])

    def test_one_that_takes_too_long_is_ended(self):
        before = self.counted("hurried")["own"]
        self.assertEqual(self.call("hurried", b"sleep 10").status, 504)
        after = self.counted("hurried")
        self.assertNotEqual(after["own"], before)
        self.assertEqual((after["calls"], after["found"]), (1, False))

    def test_one_that_ends_in_its_call(self):
        for _ in range(3):
            self.counted("counts")
            answer = self.failed("counts", "exited", b"exit")
            self.assertEqual(answer.headers["Brood-Exit-Code"], "3")
        self.assertEqual(self.counted("counts")["calls"], 1)

    def test_one_that_is_killed_while_nobody_calls(self):
        for _ in range(5):
            self.counted("counts")
            for pid in self.isolates("counts"):
                os.kill(pid, signal.SIGKILL)
            self.assertEqual(self.call("counts", b"x").status, 200)

    @staticmethod
    def stopped(pid):
        """It stands still, or is gone."""
        try:
            with open(f"/proc/{pid}/stat") as file:
                return file.read().rsplit(")", 1)[1].split()[0] in "TZX"
        except (FileNotFoundError, ProcessLookupError):
            return True

    def test_one_that_has_not_read_its_event(self):
        """Whoever stands still reads nothing: killed then, it is as if it had not been called."""
        for _ in range(5):
            first = self.counted("stopped")
            self.assertTrue(self.wait_for(lambda: len(self.isolates("stopped")) == 1))
            pids = self.isolates("stopped")
            for pid in pids: os.kill(pid, signal.SIGSTOP)
            # One that has not stopped yet may still be given the event in the midst of its read.
            self.assertTrue(self.wait_for(lambda: all(self.stopped(pid) for pid in pids)))
            with concurrent.futures.ThreadPoolExecutor() as thread:
                called = thread.submit(self.call, "stopped", b"x")
                time.sleep(0.2)
                for pid in pids:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass  # it had not asked for its next call yet, and was ended
                answer = called.result(timeout=20)
            self.assertEqual(answer.status, 200, answer.body)
            self.assertNotEqual(json.loads(answer.body)["own"], first["own"])

    def test_one_that_never_asks_again_is_replaced(self):
        for _ in range(6):
            self.assertEqual(self.call("lost", b"lost").body, b"null")
            self.assertLessEqual(len(self.isolates("lost")), 4)
        self.assertTrue(self.wait_for(lambda: self.isolates("lost") == []))
        self.assertEqual(self.counted("lost")["calls"], 1)

    def test_one_that_cannot_begin(self):
        for _ in range(3):
            self.assertEqual(self.failed("ends-early", "exited").headers["Brood-Exit-Code"], "4")

    def test_slow_readers_and_senders_hold_nobody_up(self):
        """Whose answer has come has no place any more, and half a request has none yet."""
        length = 200_000
        event = f"bytes {length}".encode()
        head = b"POST /functions/two HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" \
            b"Content-Length: %d\r\n\r\n"
        readers = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(2)]
        with socket.create_connection(("127.0.0.1", self.port)) as sender:
            for each in readers:
                each.sendall(head % len(event) + event)
                time.sleep(0.3)
            sender.sendall(head % 100 + b"x")
            for _ in range(5):
                self.counted("two")
        for each in readers:
            got = b""
            while piece := each.recv(65536):
                got += piece
            each.close()
            self.assertGreaterEqual(got.count(b"x"), length)

    def test_one_that_asks_ahead(self):
        with concurrent.futures.ThreadPoolExecutor(6) as callers:
            told = list(callers.map(lambda _: self.counted("ahead"), range(60)))
        self.assertEqual({(each["own"], each["calls"]) for each in told},
                         {(told[0]["own"], i + 1) for i in range(60)})

    def test_one_that_hangs_at_its_beginning_is_replaced(self):
        statuses = []
        self.assertTrue(self.wait_for(
            lambda: statuses.append(self.call("hangs", b"x").status) or statuses[-1] == 200, 30))
        self.assertLessEqual(set(statuses), {200, 504})
        self.assertLessEqual(len(self.isolates("hangs")), 4)

    def test_one_that_never_stops_talking_holds_nobody_up(self):
        with concurrent.futures.ThreadPoolExecutor(1) as callers:
            shouts = callers.submit(self.call, "shouts", b"x")
            served = 0
            while not shouts.done():
                self.counted("counts")
                served += 1
            self.assertEqual(shouts.result().status, 504)
        self.assertGreater(served, 20)
        self.assertTrue(self.wait_for(lambda: self.isolates("shouts") == []))

    def test_one_that_keeps_its_connections(self):
        self.assertEqual([self.call("hoards", b"x").body for _ in range(60)],
                         [b"%d" % (i + 1) for i in range(60)])

    def test_an_error_of_one_call_is_not_the_nexts(self):
        self.assertEqual([self.call("late-error", b"x").body for _ in range(2)], [b"1", b"2"])

    def test_a_caller_that_leaves_ends_it(self):
        before = self.counted("left")["own"]
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"POST /functions/left HTTP/1.1\r\nHost: x\r\n"
                           b"Content-Length: 9\r\n\r\nsleep 100")
            self.assertTrue(self.wait_for(lambda: self.metric("running", function="left") == 1))
        self.assertTrue(self.wait_for(lambda: self.metric("running", function="left") == 0))
        self.assertNotEqual(self.counted("left")["own"], before)

    def test_none_of_it_leaves_a_descriptor(self):
        self.counted("counts")
        before = self.fds()
        for _ in range(300):
            self.counted("counts")
        self.assertLessEqual(self.fds(), before + 4)


class Changes(Lambda):
    CONFIG = warm("one", min=1)

    def refusal(self, config):
        self.assertEqual(self.reload(config), "not reloaded")
        return json.loads(self.log().splitlines()[-1])["why"]

    def test_what_is_refused(self):
        stdin = "[function.a]\ncommand = ['/bin/cat']\n"
        self.assertIn("runtime", self.refusal(stdin + "mode = 'warm'\n"))
        for key in ("max-calls = 3", "max-age = '1s'", "idle = '1s'"):
            self.assertIn("mode is warm", self.refusal(stdin + key + "\n"))

    def test_new_settings_mean_new_isolates(self):
        self.assertEqual(self.reload(warm("one", min=1)), "reloaded")
        self.primed("one", 1)
        before = json.loads(self.call("one", b"x").body)["own"]
        self.assertEqual(self.reload(warm("one", min=1, env=["NEW=1"])), "reloaded")
        after = json.loads(self.call("one", b"x").body)
        self.assertNotEqual(after["own"], before)
        self.assertEqual(after["calls"], 1)


class Drain(Lambda):
    CONFIG = warm("counts")

    def test_calls_end_before_the_daemon(self):
        with concurrent.futures.ThreadPoolExecutor(2) as callers:
            calls = [callers.submit(self.call, "counts", b"sleep 1") for _ in range(2)]
            self.assertTrue(self.wait_for(lambda: self.metric("running", function="counts") == 2))
            type(self).document = json.loads(self.get("/openapi.json")[1])
            self.daemon.send_signal(signal.SIGTERM)
            self.assertEqual([each.result().status for each in calls], [200, 200])
        self.assertEqual(self.daemon.wait(10), 0)


if __name__ == "__main__":
    unittest.main()
