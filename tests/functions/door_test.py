# SPDX-License-Identifier: Apache-2.0
"""Who is let in, where the daemon listens, and how it leaves."""

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

from node import BROOD, Node, SLOWNESS, function

TOKENS = {
    "anna": ("a" * 32, 'functions = ["echo", "variables"]'),
    "ben": ("b" * 32, 'functions = ["*"]'),
    "carla": ("c" * 32, "admin = true"),
    "old": ("d" * 32, 'functions = ["*"]\nexpires = 2020-01-31T12:00:00+01:00'),
    "soon": ("e" * 32, 'functions = ["*"]\nexpires = 2999-01-31T12:00:00Z'),
}


def tokens_text(tokens):
    return "".join(f'[token.{name}]\nsecret = "{secret}"\n{rest}\n'
                   for name, (secret, rest) in tokens.items())


class Tokens(Node):
    FUNCTIONS = function("echo", "exec cat") + function("variables", "env") + \
        function("request", "cat", input="request") + function("other", "exec cat")

    @classmethod
    def configure(cls, text):
        cls.tokens = os.path.join(cls.directory.name, "tokens.toml")
        if not os.path.exists(cls.tokens): cls.put(TOKENS)
        calls = os.path.join(cls.directory.name, "calls.sqlite")
        super().configure(f'{cls.FUNCTIONS}[http]\ntokens = "{cls.tokens}"\ncalls = "{calls}"\n{text}')

    @classmethod
    def put(cls, tokens, mode=0o600):
        with open(cls.tokens, "w") as file:
            os.fchmod(file.fileno(), mode)
            file.write(tokens_text(tokens))

    def ask(self, target, token=None, method="POST", body=b"x", **fields):
        if token: fields["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20 * SLOWNESS)
        connection.request(method, target, body, fields)
        answer = connection.getresponse()
        answer.body = answer.read()
        connection.close()
        return answer

    def described(self, *_):
        """Its /openapi.json is behind the door, too."""

    def secret(self, name):
        return TOKENS[name][0]

    def test_who_may_call_what(self):
        for name, target, status in (
                ("anna", "/functions/echo", 200), ("anna", "/functions/other", 403),
                ("anna", "/functions/none", 403), ("ben", "/functions/other", 200),
                ("ben", "/functions/none", 404), ("carla", "/functions/echo", 403),
                ("old", "/functions/echo", 401), ("soon", "/functions/echo", 200)):
            self.assertEqual(self.ask(target, self.secret(name)).status, status, (name, target))
        for target in ("/functions", "/metrics", "/openapi.json"):
            for name, status in (("anna", 403), ("ben", 403), ("carla", 200)):
                self.assertEqual(self.ask(target, self.secret(name), "GET", None).status, status)
            self.assertEqual(self.ask(target, None, "GET", None).status, 401)
        self.assertEqual(self.ask("/healthz", None, "GET", None).status, 200)

    def test_what_is_wrong_is_told(self):
        for fields, why in (
                ({}, ""), ({"Authorization": "Bearer " + "x" * 32}, "nobody has this token"),
                ({"Authorization": "Bearer " + "a" * 31}, "nobody has this token"),
                ({"Authorization": "Bearer " + "a" * 33}, "nobody has this token"),
                ({"Authorization": "Bearer"}, "it is not a bearer token"),
                ({"Authorization": "Basic YTpi"}, "it is not a bearer token"),
                ({"Authorization": "Bearer " + "d" * 32}, "the token has expired")):
            answer = self.ask("/functions/echo", **fields)
            self.assertEqual(answer.status, 401, fields)
            challenge = answer.headers["WWW-Authenticate"]
            self.assertTrue(challenge.startswith('Bearer realm="brood"'), challenge)
            self.assertEqual('error="invalid_token"' in challenge, why != "", challenge)
            self.assertIn(why, answer.body.decode())
        answer = self.ask("/functions/other", self.secret("anna"))
        self.assertIn("insufficient_scope", answer.headers["WWW-Authenticate"])
        self.assertEqual(self.ask("/functions/echo", authorization="bearer " + "a" * 32).status, 200)

    def test_a_function_hears_the_name_and_not_the_token(self):
        answer = self.ask("/functions/variables", self.secret("anna"), **{"X-Forwarded-User": "root"})
        lines = answer.body.decode().split("\n")
        self.assertIn("REMOTE_USER=anna", lines)
        self.assertIn("AUTH_TYPE=Bearer", lines)
        self.assertNotIn("a" * 32, answer.body.decode())
        self.assertNotIn("root", answer.body.decode())
        answer = self.ask("/functions/request", self.secret("ben"), **{"X-Forwarded-User": "root"})
        self.assertIn(b"X-Forwarded-User: ben\r\n", answer.body)
        self.assertNotIn(b"Authorization", answer.body)
        self.assertNotIn(b"root", answer.body)

    def test_a_call_is_told_to_who_may_make_it(self):
        answer = self.ask("/functions/other?async=1", self.secret("ben"))
        self.assertEqual(answer.status, 202)
        target = answer.headers["Location"]
        for name, status in (("ben", 200), ("carla", 200), ("anna", 404), ("old", 401)):
            self.assertEqual(self.ask(target, self.secret(name), "GET", None).status, status, name)

    def test_they_are_read_again(self):
        try:
            self.put({"anna": ("n" * 32, TOKENS["anna"][1])})
            self.assertEqual(self.reload(""), "reloaded")
            self.assertEqual(self.ask("/functions/echo", "a" * 32).status, 401)
            self.assertEqual(self.ask("/functions/echo", "n" * 32).status, 200)
            for tokens, mode, why in (
                    (TOKENS, 0o640, "chmod 600"),
                    ({"x": ("short", "admin = true")}, 0o600, "secret"),
                    ({"x": ("x y" * 16, "admin = true")}, 0o600, "secret"),
                    ({"x": ("x" * 32, "")}, 0o600, "it allows nothing"),
                    ({"x": ("x" * 32, "admin = 1")}, 0o600, "admin"),
                    ({"x": ("x" * 32, "functions = 1")}, 0o600, "functions"),
                    ({"x": ("x" * 32, "expires = 2030-01-01")}, 0o600, "expires"),
                    ({"x": ("x" * 32, "colour = 1")}, 0o600, "colour"),
                    ({"x": ("x" * 32, "admin = true"), "y": ("x" * 32, "admin = true")}, 0o600,
                     "the same secret")):
                self.put(tokens, mode)
                self.assertEqual(self.reload(""), "not reloaded", why)
                self.assertIn(why, self.log().splitlines()[-1])
                self.assertEqual(self.ask("/functions/echo", "n" * 32).status, 200)
        finally:
            self.put(TOKENS)
            self.assertEqual(self.reload(""), "reloaded")


class Addresses(unittest.TestCase):
    """Daemons that are started in other ways."""

    def setUp(self):
        import tempfile
        self.directory = tempfile.TemporaryDirectory(prefix="brood_door_")
        self.daemons = []

    def tearDown(self):
        for daemon in self.daemons:
            if daemon.poll() is None:
                daemon.send_signal(signal.SIGTERM)
                self.assertEqual(daemon.wait(40 * SLOWNESS), 0)
            daemon.stderr.close()
        self.directory.cleanup()

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def start(self, http_option, more="", pass_fds=(), options=()):
        name = str(len(self.daemons))
        with open(self.path("config" + name), "w") as file:
            file.write(function("echo", "exec cat") + function("slow", "read s; sleep $s; echo slept") +
                       function("id", f"echo {name}") + more + "[template.default]\nparked = 2\n")
        words = [BROOD, "serve", "--socket", self.path("s" + name), "--config",
                 self.path("config" + name), "--http", http_option, *options]
        if pass_fds:
            words = ["/bin/sh", "-c", f'exec 3<&{pass_fds[0]}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"', "sh", *words]
        daemon = subprocess.Popen(words, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                                  pass_fds=pass_fds)
        self.daemons.append(daemon)
        seen = ""
        while True:
            line = daemon.stderr.readline()
            seen += line
            if '"event":"http"' in line: return daemon, json.loads(line)
            if not line:
                daemon.wait()
                return daemon, seen

    def ask(self, port, target="/functions/echo", body=b"x"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20 * SLOWNESS)
        connection.request("POST", target, body)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return body if answer.status == 200 else (answer.status, body)

    def test_all_addresses_are_for_those_with_tokens(self):
        for address in (":0", "0.0.0.0:0", "[::]:0"):
            daemon, said = self.start(address)
            self.assertEqual(daemon.returncode, 125, said)
            self.assertIn("tokens", said)
        _, event = self.start(":0", "[http]\nopen = true\n")
        self.assertEqual(self.ask(event["port"]), b"x")
        with socket.create_connection(("::1", event["port"])): pass

    def test_names_of_this_machine(self):
        for address in ("localhost:0", "127.0.0.1:0", "[::1]:0"):
            daemon, event = self.start(address)
            with socket.create_connection((event["address"], event["port"])): pass
        for wrong in ("example.org:80", "127.0.0.1", "127.0.0.1:99999", "nonsense"):
            daemon, said = self.start(wrong)
            self.assertEqual(daemon.returncode, 125, said)

    def test_a_unix_socket(self):
        for option in (self.path("door"), "unix:" + self.path("door")):
            daemon, event = self.start(option)
            self.assertEqual(event["path"], self.path("door"))
            self.assertEqual(os.stat(self.path("door")).st_mode & 0o777, 0o600)
            answer = subprocess.run(["curl", "-sS", "--unix-socket", self.path("door"), "-d", "hello",
                                     "http://x/functions/echo"], capture_output=True, check=True)
            self.assertEqual(answer.stdout, b"hello")
            daemon.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(40 * SLOWNESS), 0)
            self.assertFalse(os.path.exists(self.path("door")))

    def restart(self, port, successor):
        """Replaces the daemon while callers call; what they got."""
        answers, wrong, done = [], [], threading.Event()

        def call():
            while not done.is_set():
                try:
                    answers.append(self.ask(port, "/functions/id"))
                except (OSError, http.client.HTTPException) as error:
                    wrong.append(repr(error))

        callers = [threading.Thread(target=call) for _ in range(8)]
        for caller in callers: caller.start()
        time.sleep(0.5)
        for _ in range(3):
            old = self.daemons[-1]
            successor()
            old.send_signal(signal.SIGTERM)
            self.assertEqual(old.wait(40 * SLOWNESS), 0)
            time.sleep(0.3)
        done.set()
        for caller in callers: caller.join()
        self.assertEqual(wrong, [])
        self.assertEqual(sorted(set(answers)), [b"0\n", b"1\n", b"2\n", b"3\n"])

    def test_a_restart_with_an_inherited_socket_refuses_nobody(self):
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            start = lambda: self.start("inherited", pass_fds=(listener.fileno(),))
            _, event = start()
            self.assertTrue(event["inherited"])
            self.restart(listener.getsockname()[1], start)

    def test_a_restart_with_a_shared_port_refuses_nobody(self):
        _, event = self.start("127.0.0.1:0", "[http]\nshare = true\n")
        port = event["port"]
        self.restart(port, lambda: self.start(f"127.0.0.1:{port}", "[http]\nshare = true\n"))

    def test_a_port_is_not_shared_unasked(self):
        _, event = self.start("127.0.0.1:0")
        daemon, said = self.start(f"127.0.0.1:{event['port']}")
        self.assertEqual(daemon.returncode, 125, said)

    def test_an_inherited_socket_that_is_none(self):
        daemon, said = self.start("inherited")
        self.assertEqual(daemon.returncode, 125, said)
        with socket.socket() as idle:
            daemon, said = self.start("inherited", pass_fds=(idle.fileno(),))
            self.assertEqual(daemon.returncode, 125, said)
            self.assertIn("does not listen", said)

    def test_draining_has_an_end(self):
        daemon, event = self.start("127.0.0.1:0", options=["--drain", "700ms"])
        with socket.create_connection(("127.0.0.1", event["port"])) as client:
            client.sendall(b"POST /functions/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n100\n")
            time.sleep(0.3)
            begun = time.monotonic()
            daemon.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(20 * SLOWNESS), 0)
            self.assertGreater(time.monotonic() - begun, 0.6)
            self.assertNotIn(b"200 OK", client.recv(1000))
        said = daemon.stderr.read()
        found = re.search(r'"event":"ending at once".*', said)
        self.assertTrue(found, said)
        self.assertIn('"why":"drain"', found.group(0))
        self.assertIn('"calls":1', found.group(0))

    def test_draining_lets_calls_end(self):
        daemon, event = self.start("127.0.0.1:0")
        with socket.create_connection(("127.0.0.1", event["port"])) as client:
            client.sendall(b"POST /functions/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n1\n")
            time.sleep(0.3)
            daemon.send_signal(signal.SIGTERM)
            self.assertIn(b"200 OK", client.recv(1000))
        self.assertEqual(daemon.wait(20 * SLOWNESS), 0)


if __name__ == "__main__":
    unittest.main()
