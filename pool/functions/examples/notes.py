#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A server, as any other: keeps notes in its memory for as long as its isolate lives."""

import http.server
import os

notes = {}


class Notes(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/":
            self.answer(200, "".join(f"{path}\n" for path in sorted(notes)).encode())
        elif self.path in notes:
            self.answer(200, notes[self.path])
        else:
            self.answer(404, b"there is no such note\n")

    def do_PUT(self):
        notes[self.path] = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer(201, b"kept\n")

    def log_message(self, *_):
        """Calls are in brood's own log."""


if __name__ == "__main__":
    address = ("127.0.0.1", int(os.environ["PORT"]))
    http.server.ThreadingHTTPServer(address, Notes).serve_forever()
