# SPDX-License-Identifier: Apache-2.0
"""A caller's side of HTTP/1.1 that reads no byte more than it is asked to."""

import select
import socket
import time

from node import SLOWNESS


class Broken(Exception):
    """An answer that has no end."""

    def __init__(self, why, body=b""):
        super().__init__(why)
        self.body = body


class Connection:
    def __init__(self, port, small=False):
        self.socket = socket.socket()
        self.socket.settimeout(180 * SLOWNESS)
        if small:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = b""
        self.output = memoryview(b"")

    def send(self, data):
        """As much as is taken at once; the rest goes out while answers are read."""
        self.output = memoryview(bytes(self.output) + data)
        self.push()

    def push(self):
        while self.output and select.select([], [self.socket], [], 0)[1]:
            try:
                self.output = self.output[self.socket.send(self.output):]
            except OSError:  # it is read no more: what was answered tells why
                self.output = memoryview(b"")

    def fill(self, most=65536):
        while self.output:
            readable, writable, _ = select.select([self.socket], [self.socket], [], 180 * SLOWNESS)
            if writable:
                self.push()
            if readable:
                break
        piece = self.socket.recv(most)
        if not piece:
            raise EOFError("the connection has ended")
        self.input += piece

    def line(self):
        while (end := self.input.find(b"\r\n")) < 0:
            self.fill()
        line, self.input = self.input[:end], self.input[end + 2:]
        return line.decode()

    def take(self, size, into, slow):
        """Appends as many bytes to `into`."""
        while size > 0:
            if not self.input:
                if slow:
                    time.sleep(0.002)
                self.fill(16384 if slow else 65536)
            piece = self.input[:size]
            self.input = self.input[len(piece):]
            into += piece
            size -= len(piece)

    def fields(self):
        found = {}
        while line := self.line():
            name, value = line.split(": ", 1)
            found[name.lower()] = value
        return found

    def answer(self, slow=False):
        """The next one: status, fields with those behind the body, and body."""
        body = bytearray()
        try:
            version, status, _ = self.line().split(" ", 2)
            if version != "HTTP/1.1":
                raise Broken(f"{version!r} is where an answer should begin")
            fields = self.fields()
            if fields.get("transfer-encoding") == "chunked":
                while size := int(self.line(), 16):
                    self.take(size, body, slow)
                    if self.line():
                        raise Broken("a chunk is longer than it says", bytes(body))
                fields.update(self.fields())
            else:
                self.take(int(fields["content-length"]), body, slow)
            return int(status), fields, bytes(body)
        except (EOFError, OSError, ValueError) as error:
            raise Broken(f"{type(error).__name__}: {error}", bytes(body)) from None

    def some(self):
        """Waits for a piece of what comes."""
        try:
            self.fill(100)
        except (EOFError, OSError):
            pass

    def more(self):
        """Whether something has come that nobody has read."""
        if self.input:
            return True
        if not select.select([self.socket], [], [], 0)[0]:
            return False
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def rest(self):
        """What comes until the other side closes."""
        try:
            while True:
                self.fill()
        except (EOFError, OSError):
            return self.input

    def close(self):
        self.socket.close()
