# SPDX-License-Identifier: Apache-2.0
"""Functions that are servers: what they hear of a request, and what a caller gets of them."""

import concurrent.futures
import http.client
import json
import os
import signal
import socket
import time
import unittest

from node import Node, SLOWNESS, read_all

# What the servers of these tests begin with.
SERVER = """
import hashlib, http.server, json, os, secrets, signal, socket, sys, threading, time
own = secrets.token_hex(8)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))
    def answer(self, body, status=200, **fields):
        self.send_response(status)
        for name, value in fields.items(): self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD": self.wfile.write(body)
    def raw(self, text):
        self.wfile.write(text)
        self.wfile.flush()
        self.close_connection = True
    def do(self): self.answer(b"")
    def __getattr__(self, name):
        if name.startswith("do_"): return self.do
        raise AttributeError(name)
class Threading(http.server.ThreadingHTTPServer):
    request_queue_size = 128
def serve(handler, server=Threading):
    server(("127.0.0.1", int(os.environ["PORT"])), handler).serve_forever()
"""

ECHO = """
class Echo(Handler):
    def do(self):
        body = self.body()
        told = {"method": self.command, "path": self.path, "fields": list(self.headers.items()),
                "own": own, "bytes": len(body), "hash": hashlib.sha256(body).hexdigest()}
        self.answer(json.dumps(told).encode(), X_Own="yes", Set_Cookie="a=1", Brood_Path="forged",
                    Keep_Alive="timeout=5")
serve(Echo)
"""

# Does what its path says.
ODD = """
class Odd(Handler):
    def do(self):
        what, _, rest = self.path[1:].partition("/")
        if what == "own": return self.answer(own.encode())
        if what == "port":
            self.body()
            return self.answer(b"%d" % self.client_address[1])
        if what == "sleep":
            time.sleep(float(rest))
            return self.answer(own.encode())
        if what == "status": return self.answer(b"" if rest in ("204", "304") else b"x", int(rest))
        if what == "reason": return self.raw(b"HTTP/1.1 299 As It Likes\\r\\nContent-Length: 1\\r\\n\\r\\nx")
        if what == "to-the-end": return self.raw(b"HTTP/1.0 200 OK\\r\\nX-A: b\\r\\n\\r\\n" + b"e" * 100000)
        if what == "chunks-head": return self.raw(b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n")
        if what == "chunks": return self.raw(b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n"
                                             b"3\\r\\nabc\\r\\n4;x=y\\r\\ndefg\\r\\n0\\r\\nX-T: 1\\r\\n\\r\\n")
        if what == "early": return self.raw(b"HTTP/1.1 103 Early Hints\\r\\nLink: <a>\\r\\n\\r\\n"
                                            b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
        if what == "short": return self.raw(b"HTTP/1.1 200 OK\\r\\nContent-Length: 9\\r\\n\\r\\nhalf")
        if what == "unasked": return self.raw(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: x\\r\\n"
                                              b"Connection: Upgrade\\r\\n\\r\\n")
        if what == "junk": return self.raw(b"this is not HTTP\\r\\n\\r\\n")
        if what == "nothing": return self.raw(b"")
        if what == "exit": os._exit(3)
        if what == "kill": __import__("ctypes").string_at(0)
        if what == "events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            for i in range(3):
                self.wfile.write(f"data: {i}\\n\\n".encode())
                self.wfile.flush()
                time.sleep(0.3)
            self.close_connection = True
            return
        if what == "long": return self.answer(b"~" * int(rest))
        if what == "upgrade":
            self.raw(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: echo\\r\\nConnection: Upgrade\\r\\n"
                     b"Sec-WebSocket-Accept: yes\\r\\n\\r\\nhello")
            while data := self.connection.recv(65536): self.connection.sendall(data.upper())
            return
        self.answer(self.body())
serve(Odd)
"""

# As ODD, but it waits a while before it listens, and is not ready before its path says so.
SLOW = """
time.sleep(0.3)
begun = time.monotonic()
class Slow(Handler):
    def do(self):
        if self.path == "/ready": return self.answer(b"", 200 if time.monotonic() - begun > 0.5 else 503)
        self.answer(f"{time.monotonic() - begun}".encode())
serve(Slow)
"""

# One connection at a time, as simple servers are.
SINGLE = """
class Single(Handler):
    def do(self): self.answer(own.encode())
serve(Single, http.server.HTTPServer)
"""

# Closes each connection a moment after its first answer, without having said so.
FICKLE = """
class Fickle(Handler):
    def do(self):
        self.answer(own.encode())
        self.wfile.flush()
        self.close_connection = True
serve(Fickle)
"""


def server(name, script, **settings):
    lines = [f"[function.{name}]", 'runtime = "http"',
             f"command = {json.dumps(['/usr/bin/python3', '-c', SERVER + script])}",
             f'env = ["FUNCTION={name}"]']
    lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


class Http(Node):
    CONFIG = server("echo", ECHO, **{"max-body": "8M"}) + server("odd", ODD) + \
        server("crash", ODD, min=0) + \
        server("reads", ODD, **{"max-inflight": 1, "reads-bodies": True}) + \
        server("narrow", ODD, **{"max-inflight": 1, "concurrency": 4, "idle": "300ms", "min": 0}) + \
        server("wide", ODD, **{"max-inflight": 4, "concurrency": 8, "min": 0}) + \
        server("hurried", ODD, timeout="500ms", min=0) + \
        server("slow", SLOW, **{"ready-path": "/ready", "min": 0}) + \
        server("single", SINGLE, min=0) + server("fickle", FICKLE, min=0) + \
        server("few", ODD, **{"max-calls": 3, "min": 0}) + \
        server("ends-early", "sys.exit(4)", min=0) + \
        server("silent", "time.sleep(1000)", timeout="700ms", min=0) + \
        server("other-port", ODD, port=18080, min=0) + \
        server("two", ODD, min=1)

    def told(self, target, *args, **keywords):
        answer = self.call("echo" + target, *args, **keywords)
        self.assertEqual(answer.status, 200, answer.body)
        return json.loads(answer.body), answer

    def raw(self, request):
        client = socket.create_connection(("127.0.0.1", self.port), timeout=20 * SLOWNESS)
        client.sendall(request)
        return client

    def test_the_request_is_passed_on(self):
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            told, _ = self.told("/a%20b//c?x=%41&y", b"body", method, {"X-A": "1"})
            self.assertEqual((told["method"], told["path"], told["bytes"]),
                             (method, "/a%20b//c?x=%41&y", 4))
        told, _ = self.told("?q", method="GET", headers={
            "X-A": "1", "Cookie": "c=d", "Authorization": "Basic x", "TE": "trailers",
            "Connection": "close, X-Drop", "X-Drop": "1", "Keep-Alive": "1",
            "X-Forwarded-For": "10.0.0.1", "X-Forwarded-Prefix": "/forged",
            "Host": "example.org", "Proxy-Authorization": "no"})
        fields = {name.lower(): value for name, value in told["fields"]}
        self.assertEqual(told["path"], "/?q")
        self.assertEqual(
            {name: fields.get(name) for name in
             ("x-a", "cookie", "authorization", "te", "connection", "x-drop", "keep-alive", "host",
              "x-forwarded-for", "x-forwarded-prefix", "x-forwarded-proto", "proxy-authorization")},
            {"x-a": "1", "cookie": "c=d", "authorization": "Basic x", "te": None,
             "connection": None, "x-drop": None, "keep-alive": None, "host": "example.org",
             "x-forwarded-for": "10.0.0.1, 127.0.0.1", "x-forwarded-prefix": "/functions/echo",
             "x-forwarded-proto": "http", "proxy-authorization": None})

    def test_the_answer_is_passed_back(self):
        _, answer = self.told("/")
        self.assertEqual((answer.headers["X-Own"], answer.headers["Set-Cookie"]), ("yes", "a=1"))
        self.assertIsNone(answer.headers["Keep-Alive"])
        self.assertIn(answer.headers.get_all("Brood-Path"), (["warm"], ["primed"]))
        for status in (200, 201, 404, 500, 503):
            answer = self.call(f"odd/status/{status}", method="GET")
            self.assertEqual((answer.status, answer.body), (status, b"x"))
        for status in (204, 304):
            answer = self.call(f"odd/status/{status}", method="GET")
            self.assertEqual((answer.status, answer.body), (status, b""))
        self.assertEqual(self.call("odd/reason", method="GET").reason, "As It Likes")
        self.assertEqual(self.call("odd/to-the-end", method="GET").body, b"e" * 100000)
        self.assertEqual(self.call("odd/chunks", method="GET").body, b"abcdefg")
        self.assertEqual(self.call("odd/early", method="GET").body, b"ok")

    def test_a_head_has_the_length_of_a_get(self):
        answer = self.call("odd/long/1234", method="HEAD")
        self.assertEqual((answer.headers["Content-Length"], answer.body), ("1234", b""))

    def test_bodies_of_any_length_both_ways(self):
        for size in (0, 1, 65536, 1 << 20, 8 << 20):
            body = os.urandom(size)
            self.assertEqual(self.call("odd/body", body).body, body) if size < 1 << 21 else None
            told, _ = self.told("/", body)
            self.assertEqual(told["bytes"], size)
            pieces = (body[i:i + 30000] for i in range(0, size, 30000))
            again, _ = self.told("/", pieces, encode_chunked=True,
                                 headers={"Transfer-Encoding": "chunked"})
            self.assertEqual(again["hash"], told["hash"])
        answer = self.call("odd/long/20000000")
        self.assertEqual(len(answer.body), 20000000)

    def test_too_long_a_body(self):
        self.assertEqual(self.call("echo/", b"x" * ((8 << 20) + 1)).status, 413)
        # It is told also to who is still sending.
        for _ in range(5):
            pieces = (b"x" * 100000 for _ in range(100))
            answer = self.call("echo/", pieces, encode_chunked=True,
                               headers={"Transfer-Encoding": "chunked"})
            self.assertEqual(answer.status, 413)

    def test_one_isolate_serves_call_after_call(self):
        first, _ = self.told("/")
        for _ in range(50):
            told, answer = self.told("/")
            self.assertEqual(told["own"], first["own"])
        self.assertGreater(int(answer.headers["Brood-Served-Before"]), 49)

    def test_requests_over_one_connection(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20 * SLOWNESS)
        for i in range(20):
            connection.request("GET", f"/functions/odd/long/{i * 1000}")
            self.assertEqual(len(connection.getresponse().read()), i * 1000)
        connection.close()

    def in_parallel(self, name, count):
        with concurrent.futures.ThreadPoolExecutor(count) as threads:
            answers = list(threads.map(lambda _: self.call(name), range(count)))
        self.assertEqual({each.status for each in answers}, {200})
        return [each.body for each in answers]

    def test_calls_at_once_in_one_isolate(self):
        self.assertEqual(len(set(self.in_parallel("wide/sleep/1", 4))), 1)
        self.assertEqual(len(set(self.in_parallel("wide/sleep/1", 8))), 2)

    def test_one_at_a_time_where_told_so(self):
        self.assertEqual(len(set(self.in_parallel("narrow/sleep/1", 4))), 4)
        # Those that are not needed end, all of them.
        self.assertTrue(self.wait_for(lambda: self.function("narrow")["primed"] == 0))

    def function(self, name):
        return next(each for each in json.loads(self.get("/functions")[1])
                    if each["name"] == name)

    def test_it_is_called_once_it_is_ready(self):
        answer = self.call("slow/")
        self.assertEqual(answer.status, 200, answer.body)
        self.assertGreater(float(answer.body), 0.5)

    def test_another_port(self):
        self.assertEqual(self.call("other-port/own").status, 200)

    def test_a_server_of_one_connection_at_a_time(self):
        for _ in range(3):
            self.assertEqual(len(self.call("single/").body), 16)
        self.assertEqual(len(set(self.in_parallel("single/", 4))), 1)

    def test_a_server_that_closes_what_it_had_kept(self):
        first = self.call("fickle/").body
        for _ in range(30):
            self.assertEqual(self.call("fickle/", method="GET").body, first)

    def test_a_body_that_is_not_read_is_nobody_elses_request(self):
        smuggled = b"GET /long/77 HTTP/1.1\r\nHost: x\r\n\r\n"
        own = self.call("two/own").body
        for _ in range(20):
            self.assertEqual(self.call("two/own", smuggled).body, own)
            self.assertEqual(self.call("two/own", method="GET").body, own)
            # Answered before its body has come.
            late = self.raw(b"POST /functions/two/own HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
            answer = b""
            while own not in answer: answer += late.recv(4096)
            self.assertEqual(self.call("two/own", method="GET").body, own)
            late.close()

    def test_a_server_that_reads_bodies_keeps_its_connection(self):
        ports = {self.call("reads/port", b"a body").body for _ in range(20)}
        self.assertEqual(len(ports), 1)
        ports = {self.call("narrow/port", b"a body").body for _ in range(5)}
        self.assertGreater(len(ports), 1)

    def test_what_parts_requests_is_not_the_callers_to_say(self):
        smuggled = b"GET /long/77 HTTP/1.1\r\nHost: x\r\nX-Forwarded-User: root\r\n\r\n"
        for named in (b"content-length", b"Content-Length, host", b"host, transfer-encoding"):
            client = self.raw(b"POST /functions/odd/body HTTP/1.1\r\nHost: example.org\r\n"
                              b"Connection: close, " + named + b"\r\nContent-Length: " +
                              str(len(smuggled)).encode() + b"\r\n\r\n" + smuggled)
            self.assertTrue(read_all(client).endswith(b"\r\n\r\n" + smuggled), named)
            client.close()
        told, _ = self.told("/", b"1234", "POST", {"Connection": "close, Host, Content-Length"})
        self.assertEqual(told["bytes"], 4)
        fields = [name.lower() for name, _ in told["fields"]]
        self.assertEqual((fields.count("host"), fields.count("content-length")), (1, 1))

    def test_nobody_passes_for_another(self):
        told, _ = self.told("/", headers={"X-Forwarded-User": "root", "x_forwarded_user": "root",
                                          "X_Forwarded-Prefix": "/forged"})
        self.assertNotIn("root", str(told))
        self.assertNotIn("forged", str(told["fields"]))

    def test_a_caller_who_resets_at_once(self):
        """It is answered 100 while it is gone already."""
        for _ in range(200):
            client = self.raw(b"POST /functions/odd/body HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                              b"Content-Length: 5\r\n\r\n")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        self.assertEqual(self.call("odd/own").status, 200)
        self.assertTrue(self.wait_for(lambda: self.function("odd")["running"] == 0))

    def test_a_head_without_a_length_gets_none(self):
        answer = self.call("odd/chunks-head", method="HEAD")
        self.assertEqual((answer.status, answer.headers["Content-Length"]), (200, None))

    def test_an_isolate_ends_after_its_calls(self):
        seen = [self.call("few/own").body for _ in range(9)]
        self.assertEqual([seen.count(each) for each in dict.fromkeys(seen)], [3, 3, 3])

    def test_what_comes_is_passed_on_as_it_comes(self):
        client = self.raw(b"GET /functions/odd/events HTTP/1.1\r\nHost: x\r\n\r\n")
        begun = time.monotonic()
        came = {}
        data = b""
        while b"data: 2" not in data:
            data += client.recv(65536)
            for i in range(3):
                if f"data: {i}".encode() in data: came.setdefault(i, time.monotonic() - begun)
        self.assertGreater(came[2] - came[0], 0.4)
        self.assertIn(b"text/event-stream", data)
        client.close()

    def test_an_upgrade_is_a_tunnel(self):
        upgrade = b"Connection: keep-alive, Upgrade\r\nUpgrade: echo\r\nSec-WebSocket-Key: k\r\n"
        client = self.raw(b"GET /functions/odd/upgrade HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\nahead")
        data = b""
        while b"AHEAD" not in data: data += client.recv(65536)
        head, _, rest = data.partition(b"\r\n\r\n")
        self.assertEqual(rest, b"helloAHEAD")
        self.assertTrue(head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"), head)
        for line in (b"Upgrade: echo", b"Connection: Upgrade", b"Sec-WebSocket-Accept: yes"):
            self.assertIn(line, head)
        for i in range(100):
            client.sendall(b"x" * 5000)
            got = b""
            while len(got) < 5000: got += client.recv(65536)
            self.assertEqual(got, b"X" * 5000)
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(read_all(client), b"")
        self.assertEqual(self.call("odd/own").status, 200)

    def test_a_caller_who_leaves(self):
        before = self.function("hurried")["running"]
        for _ in range(20):
            client = self.raw(b"GET /functions/odd/sleep/0.2 HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(0.01)
            client.close()
        self.assertTrue(self.wait_for(lambda: self.function("odd")["running"] == before))
        self.assertEqual(self.call("odd/own").status, 200)

    def test_what_is_no_answer(self):
        for what in ("junk", "nothing", "unasked"):
            answer = self.call(f"odd/{what}")
            self.assertEqual((answer.status, answer.headers["Brood-End"]), (502, "no_answer"), what)
        with self.assertRaises((http.client.IncompleteRead, ConnectionResetError)):
            self.call("odd/short")
        self.assertEqual(self.call("odd/own").status, 200)

    def test_an_isolate_that_ends(self):
        for what, status in (("exit", 500), ("kill", 500)):
            first = self.call("crash/own").body
            answer = self.call(f"crash/{what}", b"", "POST")
            self.assertEqual(answer.status, status, answer.body)
            self.assertNotEqual(self.call("crash/own").body, first)
        answer = self.call("ends-early/")
        self.assertEqual((answer.status, answer.headers["Brood-Exit-Code"]), (500, "4"))

    def test_one_killed_between_two_calls(self):
        for _ in range(5):
            self.assertEqual(self.call("two/own").status, 200)
            for pid in self.processes("two"): os.kill(pid, signal.SIGKILL)
            answer = self.call("two/own", method="GET")
            self.assertEqual(answer.status, 200, answer.body)

    def processes(self, name):
        """Its servers' pids, here."""
        found = []
        for each in os.listdir("/proc"):
            try:
                with open(f"/proc/{each}/environ", "rb") as file: environ = file.read()
            except (OSError, ValueError):
                continue
            if b"PORT=8080" in environ.split(b"\0") and f"FUNCTION={name}".encode() in environ:
                found.append(int(each))
        return found

    def test_a_timeout(self):
        first = self.call("hurried/own").body
        answer = self.call("hurried/sleep/10")
        self.assertEqual((answer.status, answer.headers["Brood-End"]), (504, "timeout"))
        self.assertNotEqual(self.call("hurried/own").body, first)

    def test_one_that_never_listens(self):
        answer = self.call("silent/")
        self.assertEqual((answer.status, answer.headers["Brood-End"]), (504, "timeout"))

    def test_what_cannot_be(self):
        for settings, why in (
                ({"mode": "cold"}, "warm"), ({"net": "host"}, "network namespace"),
                ({"cgi": True}, "cgi"), ({"input": "request"}, "input"),
                ({"max-inflight": 0}, "max-inflight"), ({"max-inflight": 1000}, "max-inflight"),
                ({"ready-path": "ready"}, "ready-path"), ({"port": 0}, "port")):
            text = server("wrong", ODD, **settings)
            self.assertEqual(self.reload(self.CONFIG + text), "not reloaded", settings)
            self.assertTrue(self.wait_for(lambda: why in self.log().splitlines()[-1]), settings)


if __name__ == "__main__":
    unittest.main()
