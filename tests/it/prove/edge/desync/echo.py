"""Answers every request with its target, and says what it saw: method, target, octets of the body."""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def body(self):
        """Octets of the body; EOFError if it breaks off."""
        if "chunked" not in self.headers.get("transfer-encoding", "").lower():
            return self.take(int(self.headers.get("content-length", 0)))
        octets = 0
        while size := int(self.line().split(b";")[0], 16):
            octets += self.take(size)
            self.line()
        while self.line().strip():
            pass
        return octets

    def take(self, size):
        if len(self.rfile.read(size)) < size:
            raise EOFError
        return size

    def line(self):
        line = self.rfile.readline()
        if not line:
            raise EOFError
        return line

    def answer(self):
        try:
            octets = self.body()
        except EOFError:
            self.close_connection = True
            octets = "-"
        # In one piece: others are answered at the same time.
        os.write(1, f"{self.command} {self.path} {octets}\n".encode("latin-1"))
        said = self.path.encode("latin-1")
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
