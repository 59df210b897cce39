# SPDX-License-Identifier: Apache-2.0
"""A daemon of its own for each test class, with the functions of its configuration."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import description

BROOD = os.environ["BROOD_PROGRAM"]
MODES = ("cold", "parked", "primed")
# Guards against hanging are as many times longer; see tests/slowness.h.
SLOWNESS = int(os.environ.get("BROOD_TEST_SLOWNESS") or 1)

def fitting(settings):
    """Without min where it would have no effect, and be refused."""
    mode = settings.get("mode", "parked")
    useless = mode == "cold" or (mode == "parked" and "template" in settings)
    return {key: value for key, value in settings.items() if not (useless and key == "min")}


# sh, given a script on stdin's place: each function is one script.
def function(name, script, **settings):
    settings = fitting(settings)
    lines = [f"[function.{name}]", f"command = {json.dumps(['/bin/sh', '-c', script])}"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


def read_all(client):
    """What comes until the other side closes, or breaks off."""
    answer = b""
    try:
        while piece := client.recv(65536):
            answer += piece
    except ConnectionResetError:
        pass
    return answer


class Node(unittest.TestCase):
    """Starts `brood serve --http` with CONFIG, and ends it: nothing may be left.

    Whatever it answers is held against its /openapi.json."""

    CONFIG = ""
    HTTP = "127.0.0.1:0"
    OPTIONS = []
    cwd = None  # where the daemon starts; None: here

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory(prefix="brood_functions_")
        cls.config = os.path.join(cls.directory.name, "brood.toml")
        cls.configure(cls.CONFIG)
        cls.log_file = open(os.path.join(cls.directory.name, "log"), "a")
        cls.start()

    @classmethod
    def start(cls):
        before = len(cls.log())
        cls.daemon = subprocess.Popen(
            [BROOD, "serve", "--socket", os.path.join(cls.directory.name, "s"),
             "--config", cls.config, "--http", cls.HTTP, *cls.OPTIONS],
            stderr=cls.log_file, stdin=subprocess.DEVNULL, cwd=cls.cwd)
        found = cls.wait_for(
            lambda: re.search(r'"event":"http"(?:.*"port":(\d+))?.*', cls.log()[before:]), 20)
        if not found:
            cls.daemon.kill()
            raise AssertionError("the daemon did not start: " + cls.log()[before:])
        cls.port = int(found.group(1) or 0)
        cls.cgroup = re.search(r'"cgroup":"([^"]*)"', cls.log()[before:]).group(1)

    @classmethod
    def tearDownClass(cls):
        cls.daemon.send_signal(signal.SIGTERM)
        try:
            status = cls.daemon.wait(20 * SLOWNESS)
        except subprocess.TimeoutExpired:
            cls.daemon.kill()
            cls.daemon.wait()
            raise
        cls.ended_daemon()
        log = cls.log()
        cls.log_file.close()
        cls.directory.cleanup()
        if status != 0:
            raise AssertionError(f"the daemon ended with {status}: {log}")
        if cls.cgroup and os.path.exists(cls.cgroup):
            raise AssertionError(f"{cls.cgroup} was left behind")

    @classmethod
    def ended_daemon(cls):
        """What is to be done before its directory is removed."""

    @classmethod
    def configure(cls, text):
        with open(cls.config, "w") as file:
            file.write(text + "[template.default]\nparked = 2\n")

    def reload(self, text):
        """Has the daemon read another configuration; the event that it logs."""
        self.configure(text)
        before = len(self.log())
        self.daemon.send_signal(signal.SIGHUP)
        found = self.wait_for(lambda: re.search(r'"event":"((?:not )?reloaded)"',
                                                self.log()[before:]), 20)
        return found.group(1)

    @classmethod
    def log(cls):
        with open(cls.log_file.name) as file:
            return file.read()

    def logged(self, text):
        """Its log has this, or soon: an answer is sent before its call is logged."""
        self.assertTrue(self.wait_for(lambda: text in self.log()), f"{text}: {self.log()}")

    @staticmethod
    def wait_for(condition, seconds=10):
        end = time.monotonic() + seconds * SLOWNESS
        while True:
            result = condition()
            if result or time.monotonic() > end:
                return result
            time.sleep(0.01)

    def call(self, name, body=b"", method="POST", headers={}, **keywords):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20 * SLOWNESS)
        connection.request(method, f"/functions/{name}", body, headers, **keywords)
        response = connection.getresponse()
        response.body = response.read()
        connection.close()
        self.described(method, f"/functions/{name}", response.status, dict(response.headers))
        return response

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20 * SLOWNESS)
        connection.request("GET", path)
        response = connection.getresponse()
        answer = response.status, response.read().decode()
        connection.close()
        if path != "/openapi.json":
            self.described("GET", path, response.status, dict(response.headers))
        return answer

    def described(self, method, target, status, headers):
        if "document" not in vars(type(self)):
            type(self).document = json.loads(self.get("/openapi.json")[1])
        self.assertIsNone(description.check(self.document, method, target, status, headers))

    def metric(self, name, **labels):
        """The sum of the metric's values that have the labels."""
        total = 0
        for line in self.get("/metrics")[1].splitlines():
            if re.split("[{ ]", line)[0] == f"brood_{name}" and all(
                    f'{key}="{value}"' in line for key, value in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def primed(self, name, count):
        self.assertTrue(self.wait_for(lambda: self.metric("primed", function=name) >= count))

    def raw(self, data, seconds=20, shut=False):
        """All that comes back for the bytes, until the other side closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds * SLOWNESS) as client:
            client.sendall(data)
            if shut:
                client.shutdown(socket.SHUT_WR)
            answer = read_all(client)
        request = re.match(rb"([A-Z]+) (/\S*) HTTP/1\.[01]\r\n", data)
        head = re.match(rb"HTTP/1\.1 (\d+) [^\r]*\r\n(.*?)\r\n\r\n", answer, re.DOTALL)
        if request and head:
            fields = dict(line.split(": ", 1) for line in head.group(2).decode().split("\r\n"))
            self.described(request.group(1).decode(), request.group(2).decode(),
                           int(head.group(1)), fields)
        return answer

    def fds(self):
        return len(os.listdir(f"/proc/{self.daemon.pid}/fd"))


if __name__ == "__main__":
    sys.exit("this is what the tests share")
