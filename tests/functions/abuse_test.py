# SPDX-License-Identifier: Apache-2.0
"""What an attacker sends is refused by the book, while others are served."""

import socket
import time
import unittest

from node import Node, function, read_all

CALL = b"POST /functions/echo HTTP/1.1\r\nHost: x\r\n"


class Abuse(Node):
    CONFIG = function("echo", "exec cat", mode="primed", min=2) + (
        '[http]\nheader-timeout = "1s"\nbody-timeout = "1s"\nidle-timeout = "2s"\n'
        "max-connections = 64\n")

    def expect(self, status, request):
        answer = self.raw(request)
        self.assertEqual(answer[:12], b"HTTP/1.1 %d" % status, request[:200])
        # One answer, and no other request out of what came behind.
        self.assertEqual(answer.count(b"HTTP/1.1 "), 1, answer)
        self.assertEqual(self.call("echo", b"others").body, b"others")

    def test_two_lengths(self):
        smuggled = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        for fields in (b"Content-Length: 3\r\nContent-Length: 4\r\n",
                       b"Content-Length: 3\r\nContent-Length: 3\r\n",
                       b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
                       b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
                       b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                       b"Content-Length: +3\r\n", b"Content-Length: 0x3\r\n",
                       b"Content-Length: -1\r\n", b"Content-Length: 3, 3\r\n",
                       b"Content-Length: 99999999999999999999\r\n",
                       b"Content-Length : 3\r\n", b"Host: y\r\n"):
            self.expect(400, CALL + fields + b"\r\n0\r\n\r\n" + smuggled)

    def test_codings(self):
        for coding in (b"gzip, chunked", b"xchunked", b"chunked, chunked", b"identity"):
            self.expect(501, CALL + b"Transfer-Encoding: " + coding + b"\r\n\r\n0\r\n\r\n")
        self.expect(400, b"POST /functions/echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n")

    def test_bad_chunks(self):
        for chunk in (b"x\r\n", b"-1\r\n", b"3\r\nabcX", b"ffffffffffffffffff\r\n", b"3\nabc\n"):
            self.expect(400, CALL + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"\r\n\r\n")

    def test_bad_heads(self):
        self.expect(400, b"POST /functions/echo HTTP/1.1\r\n\r\n")  # no Host
        self.expect(400, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        self.expect(400, b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n")
        self.expect(400, b"GET /healthz HTTP/1.1\r\nHost: x\r\nA\x00b: c\r\n\r\n")
        self.expect(417, CALL + b"Expect: wonders\r\nContent-Length: 0\r\n\r\n")

    def test_long_heads(self):
        self.expect(431, CALL + b"A: " + b"x" * 20000 + b"\r\n\r\n")
        self.expect(431, CALL + b"A: b\r\n" * 4000 + b"\r\n")
        self.expect(414, b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")

    def test_slow_head_and_slow_body(self):
        self.expect(408, CALL[:20])
        self.expect(408, CALL + b"Content-Length: 5\r\n\r\nab")
        self.assertTrue(self.wait_for(lambda: self.metric("running") == 0))

    def test_a_bad_chunk_behind_an_answer_that_has_begun(self):
        # The function echoes while it is sent more, and has to be told that there is no more.
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
            client.sendall(CALL + b"Transfer-Encoding: chunked\r\n\r\n" +
                           b"10000\r\n" + b"x" * 65536 + b"\r\n" +
                           b"10000\r\n" + b"x" * 65536 + b"\r\n")
            self.assertTrue(client.recv(12).startswith(b"HTTP/1.1 200"))
            gone = self.metric("callers_gone_total")
            client.sendall(b"bad\r\n" * 100)
            answer = read_all(client)
            self.assertFalse(answer.endswith(b"0\r\n\r\n"))
            self.assertNotIn(b"HTTP/1.1", answer)
        self.assertTrue(self.wait_for(lambda: self.metric("running") == 0))
        self.assertEqual(self.metric("callers_gone_total"), gone + 1)

    def test_drops_of_a_head_do_not_buy_time(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as client:
            start = time.monotonic()
            try:
                for byte in CALL:
                    client.sendall(bytes([byte]))
                    time.sleep(0.1)
            except OSError:
                pass
            self.assertLess(time.monotonic() - start, 4)

    def test_idle_connections_are_bounded_and_end(self):
        before = self.fds()
        crowd = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(64)]
        self.assertIn(b"503", self.raw(b""))
        self.assertTrue(self.wait_for(lambda: self.fds() <= before + 4))
        self.assertEqual(self.call("echo", b"x").status, 200)
        for each in crowd:
            each.close()


if __name__ == "__main__":
    unittest.main()
