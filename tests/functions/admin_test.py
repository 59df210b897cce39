# SPDX-License-Identifier: Apache-2.0
"""What a person does with functions: list, call, follow, deploy, renew and kill."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import unittest

from node import BROOD, SLOWNESS, Node, function

SERVER = """import http.server, os, sys
print("loaded", VERSION, file=sys.stderr, flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print("asked for", self.path, file=sys.stderr, flush=True)
        body = b"version %d" % VERSION
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
TABLE = """[function.{name}]
command = ["/usr/bin/python3", "/tmp/app/{program}"]
runtime = "http"
timeout = "5s"
volume = [".:/tmp/app:ro"]
"""


class Commands(Node):
    def brood(self, *words, data=None):
        done = subprocess.run([BROOD, words[0], "--socket", os.path.join(self.directory.name, "s"),
                               *words[1:]], input=data, capture_output=True, timeout=60 * SLOWNESS)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def well(self, *words, **keywords):
        status, out, err = self.brood(*words, **keywords)
        self.assertEqual((status, err), (0, ""), out)
        return out

    def sentence(self, *words):
        """What a command says that has come to nothing."""
        status, out, err = self.brood(*words)
        self.assertEqual((status, out), (125, ""), err)
        self.assertTrue(err.startswith("brood: "), err)
        return err


class Admin(Commands):
    CONFIG = ('deployed = "deployed"\n' +
              function("echo", "echo heard >&2; exec cat") +
              function("where", "echo $REQUEST_METHOD $PATH_INFO $QUERY_STRING $HTTP_X_A; cat") +
              function("fail", "echo half; echo why >&2; exit 7") +
              function("sleep", "sleep 1000", concurrency=1) +
              "[http]\ncalls = \"calls.sqlite\"\n")

    def functions(self):
        return {each["name"]: each for each in json.loads(self.well("functions", "--json"))}

    def app(self, name, version, function="app"):
        directory = os.path.join(self.directory.name, name)
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, "server.py"), "w") as file:
            file.write(SERVER.replace("VERSION", str(version)))
        with open(os.path.join(directory, "function.toml"), "w") as file:
            file.write(TABLE.format(name=function, program="server.py"))
        return directory

    def test_a_call_is_a_command(self):
        self.assertEqual(self.well("invoke", "echo", "-d", "some text"), "some text")
        self.assertEqual(self.well("invoke", "echo", "-f", "-", data=b"x" * 300_000), "x" * 300_000)
        self.assertEqual(self.well("invoke", "where", "-X", "PUT", "-p", "/a?b=c", "-H", "X-A: 5", "-d", "y"),
                         "PUT /a b=c 5\ny")
        head = self.well("invoke", "-i", "echo", "-d", "z")
        self.assertIn("HTTP/1.1 200 OK\n", head)
        self.assertIn("Brood-Call-Id: ", head)
        self.assertTrue(head.endswith("\n\nz"))
        status, out, err = self.brood("invoke", "fail")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("the function failed", err)
        self.assertIn("answered 500 (exited)", err)
        self.assertIn('no function "nobody"', self.brood("invoke", "nobody")[2])
        call = json.loads(self.well("invoke", "echo", "--async", "-d", "later"))["id"]
        kept = self.wait_for(lambda: (lambda told: told if told["state"] == "done" else None)(
            json.loads(self.get(f"/calls/{call}")[1])))
        self.assertEqual((kept["output"], kept["attempts"], kept["stderr"]), ("later", 1, "heard\n"))
        listed = {each["id"]: each["state"] for each in json.loads(self.get("/calls?kept=1")[1])}
        self.assertEqual(listed[call], "done")

    def test_the_log_has_each_call_with_its_stderr(self):
        self.call("echo?logged", b"x")
        self.call("fail", b"")
        seen = self.wait_for(lambda: (lambda text: text if "logged" in text else None)(
            self.well("logs", "--function", "echo")))
        line = next(line for line in seen.splitlines() if "logged" in line)
        self.assertRegex(line, r"^\d\d:\d\d:\d\d\.\d{3} echo [0-9a-f]{32} 200 +[0-9.]+ ms  POST /functions/echo\?logged$")
        self.assertIn("| heard", seen)
        every = self.well("logs", "--functions")
        self.assertIn("exited", every)
        self.assertIn("| why", every)
        self.assertIn("no function", self.sentence("logs", "--function", "nobody"))
        with subprocess.Popen([BROOD, "logs", "--socket", os.path.join(self.directory.name, "s"),
                               "-f", "--functions"], stdout=subprocess.PIPE, text=True) as follow:
            try:
                self.assertTrue(follow.stdout.readline())  # what was kept: it has begun
                self.call("where?followed", b"")  # though what was kept is still to be read
                self.assertTrue(any("where?followed" in line for line in iter(follow.stdout.readline, "")))
            finally:
                follow.kill()
        told = self.functions()
        self.assertGreaterEqual(told["echo"]["calls"], 1)
        self.assertGreater(told["echo"]["p99_us"], 0)
        self.assertEqual(told["fail"]["last_error"]["end"], "exited")
        self.assertIn("fail", self.well("functions"))

    def test_a_log_that_nobody_reads_holds_nothing_up(self):
        with socket.socket(socket.AF_UNIX) as idle:
            idle.connect(os.path.join(self.directory.name, "s"))
            idle.sendall(b"GET /logs?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            before = self.call("echo", b"x").status
            for _ in range(300):
                self.assertEqual(self.call("echo?" + "long" * 400, b"x").status, before)

    def test_a_call_is_killed_by_its_id(self):
        answers = []
        caller = threading.Thread(target=lambda: answers.append(self.call("sleep", b"")))
        caller.start()
        running = self.wait_for(lambda: [each for each in json.loads(self.get("/calls")[1])
                                         if each["function"] == "sleep"])
        self.assertEqual(running[0]["request"], "POST /functions/sleep")
        # One that waits on disk, behind it, is cancelled.
        waits = json.loads(self.well("invoke", "sleep", "--async"))["id"]
        self.well("kill", waits)
        self.assertEqual(json.loads(self.get(f"/calls/{waits}")[1])["state"], "cancelled")
        self.well("kill", running[0]["id"])
        caller.join(20 * SLOWNESS)
        self.assertEqual(answers[0].headers["Brood-End"], "killed")
        self.assertIn("no isolate", self.sentence("kill", "f" * 32))

    def test_what_is_deployed_serves_and_is_replaced_once_it_is_ready(self):
        first = self.app("first", 1)
        self.assertEqual(self.well("deploy", first), "added function app\n")
        self.assertEqual(self.call("app", b"").body, b"version 1")
        # New code in the same place, and in another.
        self.app("first", 2)
        self.assertEqual(self.call("app", b"").body, b"version 1")
        self.assertEqual(self.well("reload", "app"), "changed function app\n")
        self.assertEqual(self.call("app", b"").body, b"version 2")
        second = self.app("second", 3)
        self.assertEqual(self.well("deploy", os.path.join(second, "function.toml")), "changed function app\n")
        self.assertEqual(self.call("app", b"").body, b"version 3")
        seen = self.well("logs", "--function", "app")
        self.assertIn("| loaded 3", seen)
        self.assertIn("| asked for /", seen)
        # What does not come up changes nothing.
        broken = self.app("broken", 4)
        with open(os.path.join(broken, "server.py"), "a") as file:
            file.write("this is no Python\n")
        self.assertIn("SyntaxError", self.sentence("deploy", broken))
        self.assertEqual(self.call("app", b"").body, b"version 3")
        self.assertEqual(os.readlink(os.path.join(self.directory.name, "deployed", "app.toml")),
                         os.path.join(second, "function.toml"))
        # Nor what says something wrong, or what is another's.
        for name, text, why in (
                ("no-key", TABLE.format(name="app", program="x") + "nothing = 1\n", "line 6: function app: there is no key nothing"),
                ("settings", 'socket = "x"\n' + TABLE.format(name="app", program="x"), "not settings"),
                ("none", "[template.x]\n", "has no [function.NAME]"),
                ("taken", TABLE.format(name="other", program="server.py") + function("echo", "cat"), "there is a function echo already")):
            wrong = self.app(name, 1)
            with open(os.path.join(wrong, "function.toml"), "w") as file:
                file.write(text)
            self.assertIn(why, self.sentence("deploy", wrong), name)
        self.assertEqual(set(os.listdir(os.path.join(self.directory.name, "deployed"))), {"app.toml"})
        # Nor what others could change.
        os.chmod(wrong, 0o777)
        self.assertIn("chmod go-w", self.sentence("deploy", wrong))
        # It is there after a restart, until it is taken away.
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(20 * SLOWNESS)
        type(self).start()
        self.assertEqual(self.call("app", b"").body, b"version 3")
        self.assertEqual(self.well("deploy", "--remove", "app"), "removed function app\n")
        self.assertEqual(self.call("app", b"").status, 404)
        self.assertIn("nothing was deployed as app", self.sentence("deploy", "--remove", "app"))
        self.assertIn("ENOENT", self.sentence("deploy", "/not/there"))
        # A name leads nowhere else.
        beside = os.path.join(self.directory.name, "beside.toml")
        os.symlink("/nowhere", beside)
        self.assertIn("nothing was deployed", self.sentence("deploy", "--remove", "../beside"))
        self.assertTrue(os.path.islink(beside))

    def test_callers_notice_nothing_of_a_deployment(self):
        self.well("deploy", self.app("busy", 1, "busy"))
        ended, wrong = threading.Event(), []

        def ask():
            while not ended.is_set():
                answer = self.call("busy", b"")
                if answer.status != 200: wrong.append((answer.status, answer.body))
        callers = [threading.Thread(target=ask) for _ in range(4)]
        for each in callers: each.start()
        for version in range(2, 6):
            self.well("deploy", self.app("busy", version, "busy"))
            self.assertEqual(self.call("busy", b"").body, b"version %d" % version)
        ended.set()
        for each in callers: each.join()
        self.assertEqual(wrong, [])
        self.well("deploy", "--remove", "busy")

    def test_a_reload_says_what_has_changed(self):
        self.assertEqual(self.well("reload"), "nothing has changed\n")
        with open(self.config) as file:
            config = file.read()
        try:
            with open(self.config, "w") as file:
                file.write(config.replace("exit 7", "exit 8") + function("more", "cat"))
            self.assertEqual(self.well("reload"), "added function more\nchanged function fail\n")
            with open(self.config, "w") as file:
                file.write("what = 1\n")
            self.assertIn("line 1: there is no setting", self.sentence("reload"))
        finally:
            with open(self.config, "w") as file:
                file.write(config)
        self.assertEqual(self.well("reload"), "changed function fail\nremoved function more\n")
        self.assertIn('no function "nobody"', self.sentence("reload", "nobody"))

    def test_what_a_command_does_not_take_is_refused(self):
        for words, why in ((("invoke",), "takes one function's name"),
                           (("invoke", "a", "b"), "takes one function's name"),
                           (("invoke", "echo", "-d", "x", "-f", "y"), "excludes"),
                           (("invoke", "echo", "-f", "/none"), "reading /none: ENOENT"),
                           (("invoke", "echo", "-H", "no colon"), "-H takes 'Name: value'"),
                           (("invoke", "echo", "-p", "more"), "begins with a slash"),
                           (("invoke", "echo", "-p", "/a b"), "is no path of a request"),
                           (("invoke", "echo HTTP/1.1\r\nX: y\r\n\r\n"), "is no path of a request"),
                           (("invoke", "echo", "-X", "GET /"), "is no method"),
                           (("logs", "--function", "a b"), "is no path of a request"),
                           (("deploy",), "takes one file or directory"),
                           (("deploy", "--remove"), "takes one function's name"),
                           (("reload", "a", "b"), "takes one function's name"),
                           (("functions", "echo"), "takes options only"),
                           (("logs", "--function", "echo", "an-id"), "not of both")):
            self.assertIn(why, self.sentence(*words), words)

    def test_each_option_is_shown_above(self):
        for command, shown in (("functions", {"--json"}), ("deploy", {"--remove"}), ("reload", set()),
                               ("invoke", {"--data", "--file", "--method", "--path", "--header", "--async",
                                           "--include"})):
            told = set(re.findall(r"^  (?:-[a-zA-Z],)?(--[a-z-]+)", self.well(command, "--help"), re.MULTILINE))
            self.assertEqual(told - {"--help", "--help-all", "--socket"}, shown, command)

    def test_who_is_not_the_owner_deploys_nothing(self):
        for method, path in (("POST", "/deploy"), ("DELETE", "/deploy/echo"), ("GET", "/logs"),
                             ("POST", "/reload"), ("POST", "/reload/echo")):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20 * SLOWNESS)
            connection.request(method, path, b"/tmp")
            answer = connection.getresponse()
            self.assertEqual(answer.status, 403)
            self.assertIn(b"only the daemon's owner", answer.read(), path)
            connection.close()

    def test_both_protocols_are_spoken_over_one_socket(self):
        path = os.path.join(self.directory.name, "s")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(b"G")  # the first byte alone
            time.sleep(0.05)
            client.sendall(b"ET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b""
            while piece := client.recv(65536): answer += piece
        self.assertEqual(answer.count(b"200 OK"), 2)
        self.well("ps")


class Secrets(Commands):
    @classmethod
    def configure(cls, text):
        cls.secret = os.path.join(cls.directory.name, "password")
        cls.write("correct-horse\n")
        super().configure(function("tell", "echo $PASSWORD", secret=["PASSWORD=password"]) + text)

    @classmethod
    def write(cls, text, mode=0o600):
        with open(cls.secret, "w") as file:
            file.write(text)
        os.chmod(cls.secret, mode)

    def test_the_function_alone_sees_it(self):
        self.assertEqual(self.well("invoke", "tell"), "correct-horse\n")
        told = [self.well("functions", "--json"), self.well("ps", "-a"), self.well("tree"),
                self.get("/openapi.json")[1], self.get("/metrics")[1], self.log()]
        for each in told:
            self.assertFalse("correct-horse" in each)  # a failure would print all of it
        with open(f"/proc/{self.daemon.pid}/cmdline") as file:
            self.assertNotIn("correct-horse", file.read())

    def test_a_new_one_is_read_with_a_reload(self):
        self.write("second")
        self.assertEqual(self.well("reload"), "changed function tell\n")
        self.assertEqual(self.well("invoke", "tell"), "second\n")
        self.write("third", 0o640)
        self.assertIn("chmod 600", self.sentence("reload"))
        os.unlink(self.secret)
        self.assertIn("ENOENT", self.sentence("reload"))
        self.write("correct-horse\n")
        self.assertEqual(self.well("reload"), "changed function tell\n")


if __name__ == "__main__":
    unittest.main()
