# SPDX-License-Identifier: Apache-2.0
"""Requests that two readers might read differently (RFC 9112): one reading, and never a second
request out of one's body; by itself, and with nginx in front."""

import os
import re
import shutil
import socket
import subprocess
import unittest

from node import SLOWNESS, Node, function, read_all

NGINX = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")

# What must never be reached, when it stands where only a body, or nothing, may be.
HIDDEN = b"POST /functions/hidden HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
ECHO = b"POST /functions/echo HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"

# Each is refused with one of these, and the connection is closed.
REFUSED = {
    "a length beside chunks": (400, ECHO + b"Content-Length: 4\r\n" + CHUNKED + b"\r\n0\r\n\r\n"),
    "chunks beside a length": (400, ECHO + CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n"),
    "two lengths": (400, ECHO + b"Content-Length: 0\r\nContent-Length: 60\r\n\r\n"),
    "a list of lengths": (400, ECHO + b"Content-Length: 0, 0\r\n\r\n"),
    "an empty length": (400, ECHO + b"Content-Length:\r\n\r\n"),
    "a length that is signed": (400, ECHO + b"Content-Length: +0\r\n\r\n"),
    "a length in another base": (400, ECHO + b"Content-Length: 0x0\r\n\r\n"),
    "a length with a space in it": (400, ECHO + b"Content-Length: 0 0\r\n\r\n"),
    "a name with a space behind": (400, ECHO + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    "a name with a space before": (400, ECHO + b"A: b\r\n Transfer-Encoding: chunked\r\n\r\n"),
    "a name with a tab in it": (400, ECHO + b"Transfer\tEncoding: chunked\r\n\r\n0\r\n\r\n"),
    "a field without a name": (400, ECHO + b": chunked\r\n\r\n"),
    "a field without a colon": (400, ECHO + b"Transfer-Encoding\r\n\r\n"),
    "a coding on the next line": (400, ECHO + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    "a folded field": (400, ECHO + b"A: b\r\n\tc\r\nContent-Length: 0\r\n\r\n"),
    "a fold before all fields": (400, b"POST /functions/echo HTTP/1.1\r\n A: b\r\nHost: x\r\n\r\n"),
    "another coding": (501, ECHO + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "a coding in quotes": (501, ECHO + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n'),
    "a coding and a vertical tab": ((400, 501), ECHO + b"Transfer-Encoding: \x0bchunked\r\n\r\n"),
    "two codings": ((400, 501), ECHO + CHUNKED + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    "chunks in HTTP/1.0": (400, b"POST /functions/echo HTTP/1.0\r\n" + CHUNKED + b"\r\n0\r\n\r\n"),
    "lines that end with LF": (400, (ECHO + b"Content-Length: 0\r\n\r\n").replace(b"\r\n", b"\n")),
    "a line that ends with LF": (400, ECHO + b"A: b\nContent-Length: 0\r\n\r\n"),
    "a line that ends with CR": (400, ECHO + b"A: b\rContent-Length: 0\r\n\r\n"),
    "a NUL": (400, ECHO + b"A: b\x00c\r\n\r\n"),
    "two hosts": (400, ECHO + b"Host: y\r\n\r\n"),
    "a host with a space": (400, b"POST /functions/echo HTTP/1.1\r\nHost: x y\r\n\r\n"),
    "a host with a path": (400, b"POST /functions/echo HTTP/1.1\r\nHost: x/y\r\n\r\n"),
    "a list of hosts": (400, b"POST /functions/echo HTTP/1.1\r\nHost: x, y\r\n\r\n"),
    "no host": (400, b"POST /functions/echo HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
    "two spaces": (400, b"POST  /functions/echo HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a tab": (400, b"POST\t/functions/echo HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a target with a space": (400, b"POST /functions/echo x HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a target with a control": (400, b"POST /functions/ec\x01ho HTTP/1.1\r\nHost: x\r\n\r\n"),
    "no version": (400, b"POST /functions/echo\r\nHost: x\r\n\r\n"),
    "another protocol": (400, b"POST /functions/echo HTCPCP/1.0\r\nHost: x\r\n\r\n"),
    "HTTP/2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "a method that is none": (400, b"PO(ST /functions/echo HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a chunk's length signed": (400, ECHO + CHUNKED + b"\r\n+3\r\nabc\r\n0\r\n\r\n"),
    "a chunk's length with 0x": (400, ECHO + CHUNKED + b"\r\n0x3\r\nabc\r\n0\r\n\r\n"),
    "a chunk's length and a space": (400, ECHO + CHUNKED + b"\r\n 3\r\nabc\r\n0\r\n\r\n"),
    "no chunk's length": (400, ECHO + CHUNKED + b"\r\n\r\nabc\r\n0\r\n\r\n"),
    "a chunk's length too great": (400, ECHO + CHUNKED + b"\r\n10000000000000003\r\nabc\r\n0\r\n\r\n"),
    "a chunk's line that ends with LF": (400, ECHO + CHUNKED + b"\r\n3\nabc\r\n0\r\n\r\n"),
    "an extension that ends with LF": (400, ECHO + CHUNKED + b"\r\n3;a\nabc\r\n0\r\n\r\n"),
    "a chunk longer than it says": (400, ECHO + CHUNKED + b"\r\n3\r\nabcd\r\n0\r\n\r\n"),
    "a chunk shorter than it says": (400, ECHO + CHUNKED + b"\r\n5\r\nabc\r\n0\r\n\r\n"),
    "a length behind the chunks": (400, ECHO + CHUNKED +
                                   b"\r\n3\r\nabc\r\n0\r\nContent-Length: 9\r\n\r\n"),
    "a chunk that ends with LF": (400, ECHO + CHUNKED + b"\r\n3\r\nabc\n0\r\n\r\n"),
}

# Each is one request, whose function is given the body that is beside it.
TAKEN = {
    "an extension": (b"abc", ECHO + CHUNKED + b"\r\n3;a=b;c=\"d e\"\r\nabc\r\n0;e\r\n\r\n"),
    "zeros before a chunk's length": (b"abc", ECHO + CHUNKED + b"\r\n003\r\nabc\r\n000\r\n\r\n"),
    "trailers": (b"abc", ECHO + CHUNKED + b"\r\n3\r\nabc\r\n0\r\nA: b\r\nC: d\r\n\r\n"),
    "zeros before a length": (b"abc", ECHO + b"Content-Length: 003\r\n\r\nabc"),
    "spaces around a length": (b"abc", ECHO + b"Content-Length: \t3 \t\r\n\r\nabc"),
    "a coding in capitals": (b"abc", ECHO + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    "an empty line before": (b"abc", b"\r\n" + ECHO + b"Content-Length: 3\r\n\r\nabc"),
    "the absolute form": (b"abc", b"POST http://elsewhere/functions/echo HTTP/1.1\r\nHost: x\r\n"
                                  b"Content-Length: 3\r\n\r\nabc"),
    "its scheme in capitals": (b"abc", b"POST HTTP://elsewhere/functions/echo HTTP/1.1\r\n"
                                       b"Host: x\r\nContent-Length: 3\r\n\r\nabc"),
    "an empty host": (b"abc", ECHO.replace(b"Host: x", b"Host:") + b"Content-Length: 3\r\n\r\nabc"),
    "a host that is an IPv6 address": (b"abc", ECHO.replace(b"Host: x", b"Host: [::1]:80") +
                                       b"Content-Length: 3\r\n\r\nabc"),
    "letters of another code": (b"abc", ECHO + b"A: \xc3\xa4\r\nContent-Length: 3\r\n\r\nabc"),
}


class Smuggling(Node):
    CONFIG = function("echo", "exec cat", mode="primed", min=2) + function("hidden", "exec cat") + \
        '[http]\nheader-timeout = "2s"\nbody-timeout = "2s"\nidle-timeout = "3s"\n'

    def setUp(self):
        self.before = self.metric("calls_accepted_total", function="hidden")

    def reached(self):
        """How often, by this test."""
        return self.metric("calls_accepted_total", function="hidden") - self.before

    @staticmethod
    def statuses(answer):
        return [int(each) for each in re.findall(rb"HTTP/1\.[01] (\d+) ", answer)]

    def test_refused(self):
        for name, (status, request) in REFUSED.items():
            with self.subTest(name):
                answer = self.raw(request + HIDDEN)
                statuses = self.statuses(answer)
                self.assertEqual(len(statuses), 1, answer)
                self.assertIn(statuses[0], status if isinstance(status, tuple) else (status,))
                self.assertIn(b"\r\nConnection: close\r\n", answer)
        self.assertEqual(self.reached(), 0)

    def test_taken(self):
        for name, (body, request) in TAKEN.items():
            with self.subTest(name):
                last = ECHO + b"Connection: close\r\nContent-Length: 4\r\n\r\nlast"
                answer = self.raw(request + last)
                self.assertEqual(self.statuses(answer), [200, 200], answer)
                self.assertIn(b"\r\n\r\n" + body + b"HTTP/1.1 200", answer)
                self.assertTrue(answer.endswith(b"\r\n\r\nlast"))

    def test_one_byte_at_a_time(self):
        for name, (status, request) in list(REFUSED.items())[::4]:
            with self.subTest(name):
                with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    try:
                        for byte in request + HIDDEN:
                            client.sendall(bytes([byte]))
                        answer = b"".join(iter(lambda: client.recv(65536), b""))
                    except OSError:  # closed while bytes were still on their way to it
                        continue
                    self.assertEqual(len(self.statuses(answer)), 1, answer)
        for name, (body, request) in TAKEN.items():
            with self.subTest(name):
                with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    for byte in request:
                        client.sendall(bytes([byte]))
                    answer = b""
                    while not answer.endswith(b"\r\n\r\n" + body):
                        piece = client.recv(65536)
                        self.assertTrue(piece, answer)
                        answer += piece
                    self.assertEqual(self.statuses(answer), [200])
        self.assertEqual(self.reached(), 0)

    def test_garbage_behind_a_request(self):
        answer = self.raw(ECHO + b"Content-Length: 3\r\n\r\nabc" + b"garbage\r\n\r\n" + HIDDEN)
        self.assertEqual(self.statuses(answer), [200, 400], answer)
        self.assertEqual(self.reached(), 0)

    def test_http_1_0(self):
        old = b"POST /functions/echo HTTP/1.0\r\n%sContent-Length: 3\r\n\r\nabc"
        answer = self.raw(old % b"" + HIDDEN)
        self.assertEqual(self.statuses(answer), [200], answer)
        answer = self.raw(old % b"Connection: Keep-Alive\r\n" + old % b"")
        self.assertEqual(self.statuses(answer), [200, 200], answer)
        self.assertEqual(answer.lower().count(b"\r\nconnection: keep-alive\r\n"), 1)
        self.assertEqual(answer.lower().count(b"\r\nconnection: close\r\n"), 1)
        # Neither had a Host, which HTTP/1.0 did not know.
        self.assertEqual(self.reached(), 0)

    def test_other_forms_of_target(self):
        for head in (b"OPTIONS * HTTP/1.1", b"CONNECT x:443 HTTP/1.1", b"TRACE / HTTP/1.1"):
            answer = self.raw(head + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
            self.assertEqual(len(self.statuses(answer)), 1, answer)
            self.assertIn(self.statuses(answer)[0], (400, 404, 405), answer)

    def test_a_body_where_none_is_looked_for(self):
        # An answer before the body has come: what follows is no request.
        for target in (b"GET /healthz", b"POST /functions/none", b"PUT /functions/echo"):
            answer = self.raw(target + b" HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                              % len(HIDDEN) + HIDDEN)
            self.assertEqual(len(self.statuses(answer)), 1, answer)
        self.assertEqual(self.reached(), 0)

    @unittest.skipUnless(NGINX, "nginx is not installed")
    def test_behind_nginx(self):
        """Whatever nginx makes of it, it and we read the same: nothing hidden is reached, and the
        connection that they share between requests of several callers stays in step."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            front = free.getsockname()[1]
        place = os.path.join(self.directory.name, "nginx")
        os.mkdir(place)
        config = os.path.join(place, "nginx.conf")
        with open(config, "w") as file:
            temporary = "".join(f"{name}_temp_path {place}/{name}; " for name in
                                ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            file.write(
                f"worker_processes 1; pid {place}/pid; error_log {place}/log; events {{}}\n"
                f"http {{ access_log off; {temporary}\n"
                f"upstream brood {{ server 127.0.0.1:{self.port}; keepalive 1; }}\n"
                f"server {{ listen 127.0.0.1:{front}; client_header_timeout 2s;\n"
                "client_body_timeout 2s; location / { proxy_pass http://brood;\n"
                "proxy_http_version 1.1; proxy_set_header Connection \"\";\n"
                "proxy_request_buffering off; } } }\n")
        nginx = subprocess.Popen([NGINX, "-e", f"{place}/log", "-c", config, "-g", "daemon off;"],
                                 stdin=subprocess.DEVNULL)
        try:
            def through(data):
                with socket.create_connection(("127.0.0.1", front), 20 * SLOWNESS) as client:
                    client.sendall(data)
                    return read_all(client)

            last = ECHO + b"Connection: close\r\nContent-Length: 4\r\n\r\n"

            def up():
                try:
                    return through(last + b"mine").endswith(b"mine")
                except OSError:
                    return False

            self.assertTrue(self.wait_for(up, 20))
            # nginx itself takes LF for a line's end and folds nothing: what it takes as a whole
            # request it sends on as one that is beyond doubt.
            for name, (_, request) in REFUSED.items():
                with self.subTest(name):
                    seen = self.reached()
                    answer = through(
                        request + HIDDEN.replace(b"Host: x", b"Host: x\r\nConnection: close"))
                    # Where nginx reads two requests it says so, by two answers.
                    statuses = self.statuses(answer)
                    self.assertLessEqual(len(statuses), 2, answer)
                    self.assertLessEqual(self.reached() - seen, max(len(statuses) - 1, 0), answer)
                    self.assertTrue(through(last + b"mine").endswith(b"mine"), name)
            for name, (body, request) in TAKEN.items():
                with self.subTest(name):
                    answer = through(request + last + b"last")
                    # Some nginx refuses, as it may.
                    if self.statuses(answer) != [400]:
                        self.assertEqual(self.statuses(answer), [200, 200], answer)
                        self.assertTrue(answer.endswith(b"last"), answer)
        finally:
            nginx.terminate()
            nginx.wait()


if __name__ == "__main__":
    unittest.main()
