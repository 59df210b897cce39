# SPDX-License-Identifier: Apache-2.0
"""What a caller gets, in every mode."""

import concurrent.futures
import http.client
import json
import os
import socket
import subprocess
import threading
import time
import unittest

from node import BROOD, MODES, Node, function


class Calls(Node):
    CONFIG = "".join(
        function(f"{name}-{mode}", script, mode=mode, min=2, **settings)
        for mode in MODES
        for name, script, settings in [
            ("echo", "exec cat", {}),
            ("exit", "cat; echo a secret >&2; exit 7", {}),
            # What is written before anybody looks lies in the pipe, longer than what is kept.
            ("chatty", "read line; printf '%060000d' 0 >&2; echo the end >&2; exit 1", {}),
            ("crash", "cat; exec /usr/bin/python3 -c 'import ctypes; ctypes.string_at(0)'", {}),
            ("hang", "cat; sleep 1000", {"timeout": "300ms"}),
            ("flood", "cat >/dev/null; exec yes", {"timeout": "20s"}),
            ("ignore", "read line; echo got $line", {}),
            ("halfway", "cat; head -c 200000 /dev/zero; exit 3", {}),
        ]
    ) + function("cgi", 'read a; printf "Status: 201\\r\\nX-A: $a\\r\\nConnection: x\\r\\n\\r\\nyes"',
                 cgi=True, mode="primed", min=1) \
      + function("variables-cold", "env; cat", mode="cold") \
      + function("variables-parked", "env; cat", env=["HTTP_X_OWN=mine"]) \
      + "".join(function(f"request-{mode}", "cat", mode=mode, input="request", min=1)
                for mode in (*MODES, "forked")) \
      + "".join(function(f"sleeps-{mode}", "read x; sleep 1000", mode=mode, min=1)
                for mode in (*MODES, "forked")) \
      + """[function.server]
runtime = "http"
command = ["/usr/bin/python3", "-c", "import http.server, time\\nclass H(http.server.BaseHTTPRequestHandler):\\n def do_POST(self): time.sleep(1000)\\nhttp.server.HTTPServer(('127.0.0.1', 8080), H).serve_forever()"]
""" \
      + function("no-body", 'printf "Status: 204\\n\\ndropped"', cgi=True) \
      + function("moved", 'printf "Location: /there\\n\\n"', cgi=True) \
      + function("reason", 'printf "STATUS: 418 I am a teapot\\n\\n"', cgi=True) \
      + function("bad-cgi", "cat; echo no head", cgi=True) \
      + function("long", "head -c 300000 /dev/zero | tr '\\0' '~'") \
      + function("small", "exec cat", **{"max-body": "1000"}) \
      + function("one", "read a; sleep $a; echo done", concurrency=1, queue=1,
                 **{"queue-timeout": "500ms"})

    def test_echo(self):
        for mode in MODES:
            for body in (b"", b"x", bytes(range(256)) * 4096):
                answer = self.call(f"echo-{mode}", body)
                self.assertEqual((answer.status, answer.body), (200, body), mode)

    def test_the_path_is_told(self):
        self.primed("echo-primed", 1)
        for mode in MODES:
            answer = self.call(f"echo-{mode}", b"x")
            self.assertEqual(answer.headers["Brood-Path"], mode)
            for phase in ("Queue", "Spawn", "Run", "Total"):
                self.assertGreaterEqual(int(answer.headers[f"Brood-{phase}-Us"]), 0)

    def test_exit_status(self):
        for mode in MODES:
            answer = self.call(f"exit-{mode}", b"partial")
            self.assertEqual(answer.status, 500)
            self.assertEqual(answer.headers["Brood-Exit-Code"], "7")
            self.assertNotIn(b"secret", answer.body)
        self.logged("a secret")

    def test_the_last_of_its_stderr_is_logged(self):
        for mode in MODES:
            self.call(f"chatty-{mode}", b"go\n")
            call = self.wait_for(lambda: [
                call for call in map(json.loads, self.log().splitlines())
                if call.get("function") == f"chatty-{mode}"])[0]
            self.assertEqual(call["stderr"], "0" * (4096 - 8) + "the end\n", mode)

    def test_crash(self):
        for mode in MODES:
            answer = self.call(f"crash-{mode}")
            self.assertEqual((answer.status, answer.headers["Brood-Signal"]), (500, "11"), mode)

    def test_timeout(self):
        for mode in MODES:
            start = time.monotonic()
            self.assertEqual(self.call(f"hang-{mode}").status, 504)
            self.assertLess(time.monotonic() - start, 5)

    def test_body_that_is_not_read(self):
        for mode in MODES:
            answer = self.call(f"ignore-{mode}", b"first\n" + b"x" * 30000)
            self.assertEqual((answer.status, answer.body), (200, b"got first\n"))

    def test_a_failure_behind_the_head_breaks_the_answer_off(self):
        for mode in MODES:
            with self.assertRaises((http.client.IncompleteRead, ConnectionResetError)):
                self.call(f"halfway-{mode}")

    def test_an_answer_that_is_broken_off_is_counted_once(self):
        for mode in MODES:
            name = f"halfway-{mode}"
            names = ("calls_accepted_total", "answers_total", "answers_broken_total",
                     "callers_gone_total", "paths_total")
            before = [self.metric(each, function=name) for each in names]
            self.raw(f"POST /functions/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
                     "Connection: close\r\n\r\n".encode())
            after = [self.metric(each, function=name) for each in names]
            self.assertEqual([b - a for a, b in zip(before, after)], [1, 0, 1, 0, 1])

    def test_an_answer_before_a_broken_one_comes_whole(self):
        head = b"POST /functions/%b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        body = b"y" * 60000
        for mode in (each.encode() for each in MODES):
            name = "halfway-" + mode.decode()
            before = self.metric("answers_broken_total", function=name)
            with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
                client.sendall(head % (b"echo-" + mode, len(body)) + body +
                               head % (b"halfway-" + mode, 0))
                # Nothing is read until both have ended.
                self.assertTrue(self.wait_for(
                    lambda: self.metric("answers_broken_total", function=name) > before))
                answer = b""
                while piece := client.recv(65536):
                    answer += piece
            self.assertIn(body + b"HTTP/1.1 200 OK\r\n", answer)
            self.assertFalse(answer.endswith(b"0\r\n\r\n"))

    def test_who_reads_slowly_is_waited_for(self):
        # More than the kernel holds for such a reader, less than the daemon does: the function has
        # long ended when most of it is read.
        size = 300_000
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect(("127.0.0.1", self.port))
        client.sendall(f"POST /functions/long HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
                       "Connection: close\r\n\r\n".encode())
        self.assertTrue(self.wait_for(
            lambda: self.metric("answers_total", function="long", status=200) == 1))
        time.sleep(3)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
        client.close()
        self.assertEqual(answer.count(b"~"), size)
        self.assertTrue(answer.endswith(b"\r\n\r\n"))

    def test_flood_goes_no_faster_than_it_is_read(self):
        for mode in MODES:
            client = socket.create_connection(("127.0.0.1", self.port), timeout=20)
            client.sendall(f"POST /functions/flood-{mode} HTTP/1.1\r\nHost: x\r\n"
                           "Content-Length: 0\r\n\r\n".encode())
            self.assertTrue(client.recv(12).startswith(b"HTTP/1.1 200"))
            before = self.memory()
            time.sleep(0.5)
            self.assertLess(self.memory() - before, 8 << 10)
            client.close()
            self.assertTrue(self.wait_for(
                lambda: self.metric("running", function=f"flood-{mode}") == 0), mode)

    def memory(self):
        with open(f"/proc/{self.daemon.pid}/status") as status:
            return int(next(line for line in status if line.startswith("VmRSS")).split()[1])

    def test_a_caller_that_vanishes_ends_its_isolate(self):
        before = self.metric("callers_gone_total")
        for mode in MODES:
            client = socket.create_connection(("127.0.0.1", self.port))
            client.sendall(f"POST /functions/flood-{mode} HTTP/1.1\r\nHost: x\r\n"
                           "Content-Length: 10\r\n\r\nhalf".encode())
            self.assertTrue(self.wait_for(
                lambda: self.metric("running", function=f"flood-{mode}") == 1))
            client.close()
            self.assertTrue(self.wait_for(
                lambda: self.metric("running", function=f"flood-{mode}") == 0))
        self.assertEqual(self.metric("callers_gone_total"), before + len(MODES))

    def test_what_calls_have_held_is_let_go_of(self):
        # The namespaces of those that have ended: also while primed workers stand ready.
        self.primed("echo-primed", 2)
        before = self.fds()
        for mode in MODES:
            for _ in range(30):
                self.assertEqual(self.call(f"echo-{mode}", b"x").status, 200)
        self.assertTrue(self.wait_for(lambda: self.fds() <= before + 16), self.fds())

    def test_cgi(self):
        answer = self.call("cgi", b"value\n")
        self.assertEqual((answer.status, answer.headers["X-A"], answer.body),
                         (201, "value", b"yes"))
        self.assertNotEqual(answer.headers["Connection"], "x")
        self.assertEqual(self.call("bad-cgi").status, 502)

    def test_too_long(self):
        self.assertEqual(self.call("small", b"x" * 1000).status, 200)
        self.assertEqual(self.call("small", b"x" * 1001).status, 413)
        pieces = (b"x" * 600 for _ in range(2))
        self.assertEqual(self.call("small", pieces, encode_chunked=True,
                                   headers={"Transfer-Encoding": "chunked"}).status, 413)

    def test_queue(self):
        statuses = []
        def call(seconds):
            answer = self.call("one", seconds)
            statuses.append((answer.status, answer.headers["Retry-After"]))
        first = threading.Thread(target=call, args=(b"2\n",))
        first.start()
        self.assertTrue(self.wait_for(lambda: self.metric("running", function="one") == 1))
        second = threading.Thread(target=call, args=(b"0\n",))
        second.start()
        self.assertTrue(self.wait_for(lambda: self.metric("queued", function="one") == 1))
        call(b"0\n")
        self.assertEqual(statuses, [(429, "1")])
        second.join()
        self.assertEqual(statuses[1:], [(503, "1")])
        first.join()
        self.assertEqual(statuses[2:], [(200, None)])
        self.assertEqual(self.metric("running", function="one"), 0)

    def test_the_request_is_told_in_variables(self):
        for mode in ("cold", "parked"):
            answer = self.call(f"variables-{mode}/a%20b?q=%20", b"the body", "PUT",
                               {"X-Own": "theirs", "Content-Type": "text/x", "Proxy": "evil",
                                "Authorization": "Basic x"})
            text = answer.body.decode()
            self.assertTrue(text.endswith("the body"), text)
            lines = text.split("\n")
            for line in ("REQUEST_METHOD=PUT", "PATH_INFO=/a b", "QUERY_STRING=q=%20",
                         f"SCRIPT_NAME=/functions/variables-{mode}", "CONTENT_LENGTH=8",
                         "CONTENT_TYPE=text/x", "REMOTE_ADDR=127.0.0.1", "SERVER_NAME=127.0.0.1",
                         f"SERVER_PORT={self.port}", "GATEWAY_INTERFACE=CGI/1.1",
                         "HTTP_X_OWN=" + ("theirs" if mode == "cold" else "mine")):
                self.assertIn(line, lines)
            for secret in ("HTTP_PROXY", "HTTP_AUTHORIZATION"):
                self.assertNotIn(secret, text)

    def test_the_request_on_stdin(self):
        for mode in (*MODES, "forked"):
            for body, coded in ((b"the body", False), (b"", False), (b"in pieces", True)):
                answer = self.call(f"request-{mode}/x/y?z", iter([body]) if coded else body,
                                   "PATCH", {"X-A": "1", "Connection": "close"},
                                   encode_chunked=coded)
                head, _, rest = answer.body.partition(b"\r\n\r\n")
                lines = head.split(b"\r\n")
                self.assertEqual((lines[0], rest), (b"PATCH /x/y?z HTTP/1.1", body), mode)
                self.assertIn(b"X-A: 1", lines)
                self.assertNotIn(b"Connection: close", lines)

    def test_cgi_answers_by_the_book(self):
        answer = self.call("no-body")
        self.assertEqual((answer.status, answer.body, answer.headers["Content-Length"]),
                         (204, b"", None))
        answer = self.call("moved")
        self.assertEqual((answer.status, answer.headers["Location"]), (302, "/there"))
        answer = self.call("reason")
        self.assertEqual((answer.status, answer.reason), (418, "I am a teapot"))

    def test_a_call_has_an_id_and_can_be_killed(self):
        answer = self.call("echo-cold", b"x")
        self.assertRegex(answer.headers["Brood-Call-Id"], "^[0-9a-f]{32}$")
        failed = self.call("exit-cold", b"x")
        self.logged(f'"id":"{failed.headers["Brood-Call-Id"]}"')
        for name in [f"sleeps-{mode}" for mode in (*MODES, "forked")] + ["server"]:
            with concurrent.futures.ThreadPoolExecutor() as thread:
                killed = thread.submit(self.call, name, b"")
                running = self.wait_for(lambda: [each for each in json.loads(self.get("/calls")[1])
                                                 if each["function"] == name])
                self.assertEqual(len(running), 1)
                time.sleep(0.2)
                call = running[0]["id"]
                self.assertEqual(self.delete(f"/calls/{call}"), 204)
                answer = killed.result(timeout=20)
                self.assertEqual((answer.status, answer.headers["Brood-End"],
                                  answer.headers["Brood-Call-Id"]), (500, "killed", call), name)
            self.assertEqual(self.delete(f"/calls/{call}"), 404)
        self.assertTrue(self.wait_for(lambda: json.loads(self.get("/calls")[1]) == []))

    def delete(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("DELETE", path)
        status = connection.getresponse().status
        connection.close()
        self.described("DELETE", path, status, {})
        return status

    def test_variables_of_files_and_of_the_daemon(self):
        path = f"{self.directory.name}/variables"
        with open(path, "w") as file:
            file.write("# comment\n\nFROM_FILE=a b\nBOTH=file\nHOME\n")
        more = function("of-files", "env", env=["BOTH=key", "PATH"], **{"env-file": path})
        self.assertEqual(self.reload(self.CONFIG + more), "reloaded")
        lines = self.call("of-files").body.decode().split("\n")
        for line in ("FROM_FILE=a b", "BOTH=key", f"PATH={os.environ['PATH']}",
                     f"HOME={os.environ.get('HOME', '')}"):
            self.assertIn(line, lines)
        with open(path, "w") as file: file.write("FROM_FILE=other\n")
        self.assertEqual(self.reload(self.CONFIG + more), "reloaded")
        self.assertIn("FROM_FILE=other", self.call("of-files").body.decode())
        self.assertEqual(self.reload(self.CONFIG), "reloaded")

    def test_a_head_has_no_body(self):
        answer = self.call("echo-cold", b"", "HEAD")
        self.assertEqual((answer.status, answer.body), (200, b""))

    def test_what_there_is(self):
        self.assertEqual(self.get("/healthz"), (200, "ok\n"))
        names = [each["name"] for each in json.loads(self.get("/functions")[1])]
        self.assertIn("echo-primed", names)
        self.assertEqual(self.get("/functions/none")[0], 404)
        self.assertEqual(self.get("/functions/echo-cold"), (200, ""))
        none = self.call("none")
        self.assertEqual((none.status, none.body),
                         (404, b'there is no function "none"; /functions lists those that there are\n'))
        self.assertIn("/functions/NAME", self.get("/nothing")[1])
        self.assertEqual(self.call("../healthz").status, 404)

    def test_curl_with_an_expectation(self):
        answer = subprocess.run(
            ["curl", "-sS", "-H", "Expect: 100-continue", "--data-binary", "@-", "-i",
             f"http://127.0.0.1:{self.port}/functions/echo-primed"],
            input=b"~" * 100000, capture_output=True, timeout=20, check=True).stdout
        self.assertTrue(answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"))
        self.assertEqual(answer.count(b"~"), 100000)

    def test_pipelined_answers_come_in_order(self):
        request = (b"POST /functions/echo-primed HTTP/1.1\r\nHost: x\r\n"
                   b"Transfer-Encoding: chunked\r\n%s\r\n2\r\n%02d\r\n0\r\n\r\n")
        answer = self.raw(b"".join(
            request % (b"Connection: close\r\n" if i == 19 else b"", i) for i in range(20)))
        self.assertEqual(answer.count(b"HTTP/1.1 200 OK"), 20)
        at = [answer.index(b"\r\n\r\n%02d" % i) for i in range(20)]
        self.assertEqual(at, sorted(at))


class Port(Node):
    CONFIG = function("echo", "exec cat")

    def test_one_that_is_let_go_of_a_moment_later(self):
        """As that of a daemon that was killed, to which io_uring holds on."""
        held = socket.create_server(("127.0.0.1", 0))
        port = held.getsockname()[1]
        threading.Timer(0.3, held.close).start()
        second = subprocess.Popen(
            [BROOD, "serve", "--socket", self.directory.name + "/second", "--config", self.config,
             "--http", f"127.0.0.1:{port}"], stderr=subprocess.PIPE)
        lines = iter(second.stderr.readline, b"")
        self.assertTrue(any(b'"event":"http"' in line for line in lines))
        second.terminate()
        second.communicate()
        self.assertEqual(second.returncode, 0)

    def test_one_that_another_has_is_told(self):
        told = subprocess.run(
            [BROOD, "serve", "--socket", self.directory.name + "/second", "--config", self.config,
             "--http", f"127.0.0.1:{self.port}"], stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(told.returncode, 125)
        self.assertIn(f"listening for HTTP on 127.0.0.1 port {self.port}".encode(), told.stderr)


if __name__ == "__main__":
    unittest.main()
