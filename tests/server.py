"""A mirror on loopback that can misbehave.

The first part of a path says how: ``/truncated/models/tissue-v1/weights.npz`` is answered in the
way ``truncated`` with the file that is registered as ``weights.npz``. A way is an entry of
`ANSWERS`, `UNSIZED` or `MOVED`, or a method of `Handler`; with ``-once`` behind it, the second
answer is good.
"""

from __future__ import annotations

import gzip
import select
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

PAGE = b"<!doctype html><title>Log in</title><p>Welcome to the wireless network."

# Answers with a length: the body, the status, and headers.
ANSWERS = {
    "good": lambda data: (data, 200, {}),
    "flipped": lambda data: (data[:-1] + bytes([data[-1] ^ 1]), 200, {}),
    "page": lambda data: (PAGE, 200, {"Content-Type": "text/html; charset=utf-8"}),
    "packed": lambda data: (gzip.compress(data), 200, {"Content-Encoding": "gzip"}),
    "missing": lambda data: (b"no\n", 404, {}),
    "part": lambda data: (data, 206, {"Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}"}),
    "broken": lambda data: (b"no\n", 500, {}),
    "limited": lambda data: (b"no\n", 429, {"Retry-After": "1"}),
    "limited-for-hours": lambda data: (b"no\n", 429, {"Retry-After": "7200"}),
    "truncated": lambda data: (data[:-1], 200, {"Content-Length": str(len(data))}),
    "to-file": lambda data: (b"", 302, {"Location": "file:///etc/hostname"}),
}
# Answers without one: the body.
UNSIZED = {
    "good-without-length": lambda data: data,
    "truncated-without-length": lambda data: data[:-1],
    "longer": lambda data: data + b"!",
}
# Redirects: the way that they lead to, and what stands behind the path.
MOVED = {
    "moved": ("good", ""),
    "moved-for-good": ("moved", "?signature=abc"),  # as hosts hand out signed addresses
    "moved-to-nothing": ("missing", "?signature=secret"),
    "circle": ("circle", ""),
}


class Server:
    """A server of some files, running as long as the ``with`` block.

    `files` maps the last part of a path to its content; `elsewhere` is where the redirects
    lead that leave this server, and where a tunnel through it ends; `how`, if set, is the way of
    every answer, whatever the path. Of each of the `requests`, `target` is an absolute URL if the
    client took this server for its proxy.
    """

    def __init__(self, files, *, tls=None, elsewhere=""):
        self.files, self.elsewhere, self.how = files, elsewhere, ""
        self.requests: list[SimpleNamespace] = []
        self.closing = threading.Event()
        handler = type("BoundHandler", (Handler,), {"mirror": self})
        self._httpd = _Httpd(("127.0.0.1", 0), handler)
        if tls is not None:
            self._httpd.socket = tls.wrap_socket(
                self._httpd.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._httpd.server_address[1]
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(
            target=self._httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, error, trace):
        self.closing.set()
        self._httpd.shutdown()
        self._httpd.server_close()
        self._thread.join()


class _Httpd(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # many processes at once

    def handle_error(self, request, client_address):
        """Say nothing: that a client hangs up is what many tests are about."""


class Handler(BaseHTTPRequestHandler):
    mirror: Server
    protocol_version = "HTTP/1.1"

    def note(self):
        self.close_connection = True
        self.mirror.requests.append(SimpleNamespace(target=self.path, headers=self.headers))

    def do_GET(self):
        self.note()
        _, how, *_, name = urlsplit(self.path).path.split("/")
        self.answer(self.mirror.how or how, self.mirror.files[name])

    def answer(self, how, data):
        if how.endswith("-once"):
            how = how.removesuffix("-once") if len(self.mirror.requests) == 1 else "good"
        if how in MOVED:
            there, query = MOVED[how]
            self.whole(b"", 302, Location=self.path.replace(f"/{how}/", f"/{there}/") + query)
        elif how in ANSWERS:
            body, status, headers = ANSWERS[how](data)
            self.whole(body, status, **headers)
        elif how in UNSIZED:
            self.begin()
            self.wfile.write(UNSIZED[how](data))
        else:
            getattr(self, how.replace("-", "_"))(data)

    def do_CONNECT(self):
        """Be a proxy that has a way to one server only, whoever is asked for."""
        self.note()
        if not self.mirror.elsewhere:
            self.whole(b"no\n", 403)
            return
        there = urlsplit(self.mirror.elsewhere)
        with socket.create_connection((there.hostname, there.port)) as server:
            self.begin()
            other = {self.connection: server, server: self.connection}
            while True:
                for end in select.select(list(other), [], [])[0]:
                    if not (data := end.recv(1 << 16)):
                        return
                    other[end].sendall(data)

    def log_message(self, format, *args):
        pass

    def begin(self, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def whole(self, body, status, **headers):
        self.begin(status, **{"Content-Length": len(body), **headers})
        self.wfile.write(body)

    def pour(self, block, pause=0.0):
        """Send a block again and again, until the client has enough."""
        while not self.mirror.closing.is_set():
            self.wfile.write(block)
            time.sleep(pause)

    # --- without a length --------------------------------------------------------------

    def endless(self, data):
        self.begin()
        self.pour(bytes(1 << 16))

    def moved_with_endless_page(self, data):
        self.begin(302, Location=self.path.replace("/moved-with-endless-page/", "/good/"))
        self.pour(bytes(1 << 16))

    def elsewhere(self, data):
        there = self.mirror.elsewhere + self.path.replace("/elsewhere/", "/good/")
        self.whole(b"", 302, Location=there)

    # --- broken or slow connections ----------------------------------------------------

    def closed(self, data):
        pass

    def reset(self, data):
        # Not to linger means to reset instead of to close.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def slow_but_steady(self, data):
        self.begin(**{"Content-Length": len(data)})
        for start in range(0, len(data), 512):
            self.wfile.write(data[start : start + 512])
            time.sleep(0.1)

    def stalled(self, data):
        self.mirror.closing.wait()

    def stalled_midway(self, data):
        self.begin(**{"Content-Length": len(data)})
        self.wfile.write(data[: len(data) // 2])
        self.mirror.closing.wait()

    def dripping(self, data):
        self.begin(**{"Content-Length": len(data)})
        self.pour(b"x", 0.02)

    def dripping_header(self, data):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        self.pour(b"x", 0.02)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def serving(folder):
    """Serve a folder as any web server would, at the URL that is given."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def certificate(folder, host="127.0.0.1"):
    """Make a certificate that vouches for itself: the server's side, and a client's CA bundle."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    kind = "IP" if host[0].isdigit() else "DNS"
    key, public = folder / "key.pem", folder / "certificate.pem"
    options = ["-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    names = ["-subj", "/CN=decode-zoo test", "-addext", f"subjectAltName={kind}:{host}"]
    command = ["openssl", "req", *options, "-keyout", key, "-out", public, *names]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, key)
    return context, public
