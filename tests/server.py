"""A mirror on loopback that can misbehave.

The first part of a path says how: ``/truncated/models/tissue-v1/weights.npz`` is answered by
`Handler.truncated` with the file that is registered as ``weights.npz``.
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
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

PAGE = b"<!doctype html><title>Log in</title><p>Welcome to the wireless network."


@dataclass(frozen=True)
class Request:
    """What a client asked for: an absolute URL, if it took this server for its proxy."""

    target: str
    headers: Message


class Server:
    """A server of some files, running as long as the ``with`` block.

    `files` maps the last part of a path to its content; `elsewhere` is where the redirects
    lead that leave this server, and where a tunnel through it ends; `how`, if set, is the way of
    every answer, whatever the path.
    """

    def __init__(self, files, *, tls=None, elsewhere=""):
        self.files = files
        self.elsewhere = elsewhere
        self.how = ""
        self.requests: list[Request] = []
        self.asked: Counter[str] = Counter()
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
    request_queue_size = 64  # twenty processes at once

    def handle_error(self, request, client_address):
        """Say nothing: that a client hangs up is what many tests are about."""


class Handler(BaseHTTPRequestHandler):
    """Each public lowercase method is a way to answer."""

    mirror: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        _, how, *_, name = urlsplit(self.path).path.split("/")
        self.close_connection = True
        self.mirror.requests.append(Request(self.path, self.headers))
        self.mirror.asked[self.path] += 1
        answer: Callable[[bytes], None] = getattr(self, (self.mirror.how or how).replace("-", "_"))
        answer(self.mirror.files[name])

    def do_CONNECT(self):
        """Be a proxy that has a way to one server only, whoever is asked for."""
        self.close_connection = True
        self.mirror.requests.append(Request(self.path, self.headers))
        if not self.mirror.elsewhere:
            self.refuse(403)
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
        """Send a status line and headers; ``Content_Length`` is ``Content-Length``."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def whole(self, body, status=200, **headers):
        self.begin(status, Content_Length=len(body), **headers)
        self.wfile.write(body)

    def refuse(self, status, **headers):
        self.whole(b"no\n", status, **headers)

    def redirect(self, where, status=302):
        self.refuse(status, Location=where)

    def pour(self, block, pause=0.0):
        """Send a block again and again, until the client has enough."""
        while not self.mirror.closing.is_set():
            self.wfile.write(block)
            time.sleep(pause)

    # --- in order ------------------------------------------------------------------

    def good(self, data):
        self.whole(data)

    def good_without_length(self, data):
        self.begin()
        self.wfile.write(data)

    def slow_but_steady(self, data):
        self.begin(Content_Length=len(data))
        for start in range(0, len(data), 512):
            self.wfile.write(data[start : start + 512])
            time.sleep(0.1)

    # --- another content -------------------------------------------------------------

    def flipped(self, data):
        self.whole(data[:-1] + bytes([data[-1] ^ 1]))

    def page(self, data):
        self.whole(PAGE, Content_Type="text/html; charset=utf-8")

    def empty(self, data):
        self.whole(b"")

    # --- another amount --------------------------------------------------------------

    def truncated(self, data):
        self.begin(Content_Length=len(data))
        self.wfile.write(data[:-1])

    def truncated_without_length(self, data):
        self.begin()
        self.wfile.write(data[:-1])

    def longer(self, data):
        self.begin()
        self.wfile.write(data + b"!")

    def endless(self, data):
        self.begin()
        self.pour(bytes(1 << 16))

    def packed(self, data):
        self.whole(gzip.compress(data), Content_Encoding="gzip")

    # --- another status --------------------------------------------------------------

    def missing(self, data):
        self.refuse(404)

    def part(self, data):
        self.whole(data, 206, Content_Range=f"bytes 0-{len(data) - 1}/{len(data)}")

    def broken(self, data):
        self.refuse(500)

    def limited(self, data):
        self.refuse(429)

    def limited_for_hours(self, data):
        self.refuse(429, Retry_After=7200)

    # --- better the next time --------------------------------------------------------

    def then_good(self, data, first):
        (first if self.mirror.asked[self.path] == 1 else self.good)(data)

    def limited_once(self, data):
        self.then_good(data, lambda data: self.refuse(429, Retry_After=1))

    def broken_once(self, data):
        self.then_good(data, self.broken)

    def truncated_once(self, data):
        self.then_good(data, self.truncated)

    # --- broken connections ----------------------------------------------------------

    def closed(self, data):
        pass

    def reset(self, data):
        # Not to linger means to reset instead of to close.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def garbage(self, data):
        self.wfile.write(b"\x16\x03\x01 SSH-2.0 hello\r\n\r\n" + data)

    # --- no haste --------------------------------------------------------------------

    def stalled(self, data):
        self.mirror.closing.wait()

    def stalled_midway(self, data):
        self.begin(Content_Length=len(data))
        self.wfile.write(data[: len(data) // 2])
        self.mirror.closing.wait()

    def dripping(self, data):
        self.begin(Content_Length=len(data))
        self.pour(b"x", 0.02)

    def dripping_header(self, data):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        self.pour(b"x", 0.02)

    # --- redirects -------------------------------------------------------------------

    def moved(self, data):
        self.redirect(self.path.replace("/moved/", "/good/"))

    def moved_for_good(self, data):
        # With a query, as many hosts hand out signed addresses.
        self.redirect(self.path.replace("/moved-for-good/", "/moved/") + "?signature=abc", 308)

    def moved_to_nothing(self, data):
        self.redirect(self.path.replace("/moved-to-nothing/", "/missing/") + "?signature=secret")

    def circle(self, data):
        self.redirect(self.path)

    def elsewhere(self, data):
        self.redirect(self.mirror.elsewhere + self.path.replace("/elsewhere/", "/good/"))

    def to_file(self, data):
        self.redirect("file:///etc/hostname")

    def moved_with_endless_page(self, data):
        self.begin(302, Location=self.path.replace("/moved-with-endless-page/", "/good/"))
        self.pour(bytes(1 << 16))


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
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            key,
            "-out",
            public,
            "-days",
            "2",
            "-subj",
            "/CN=decode-zoo test",
            "-addext",
            f"subjectAltName={kind}:{host}",
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, key)
    return context, public
