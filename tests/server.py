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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
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

    def __init__(
        self,
        files: Mapping[str, bytes],
        *,
        tls: ssl.SSLContext | None = None,
        elsewhere: str = "",
    ) -> None:
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

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._httpd.shutdown()
        self._httpd.server_close()
        self._thread.join()


class _Httpd(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # twenty processes at once

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: that a client hangs up is what many tests are about."""


class Handler(BaseHTTPRequestHandler):
    """Each public lowercase method is a way to answer."""

    mirror: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        _, how, *_, name = urlsplit(self.path).path.split("/")
        self.close_connection = True
        self.mirror.requests.append(Request(self.path, self.headers))
        self.mirror.asked[self.path] += 1
        answer: Callable[[bytes], None] = getattr(self, (self.mirror.how or how).replace("-", "_"))
        answer(self.mirror.files[name])

    def do_CONNECT(self) -> None:
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

    def log_message(self, format: str, *args: object) -> None:
        pass

    def begin(self, status: int = 200, **headers: object) -> None:
        """Send a status line and headers; ``Content_Length`` is ``Content-Length``."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def whole(self, body: bytes, status: int = 200, **headers: object) -> None:
        self.begin(status, Content_Length=len(body), **headers)
        self.wfile.write(body)

    def refuse(self, status: int, **headers: object) -> None:
        self.whole(b"no\n", status, **headers)

    def redirect(self, where: str, status: int = 302) -> None:
        self.refuse(status, Location=where)

    def pour(self, block: bytes, pause: float = 0.0) -> None:
        """Send a block again and again, until the client has enough."""
        while not self.mirror.closing.is_set():
            self.wfile.write(block)
            time.sleep(pause)

    # --- in order ------------------------------------------------------------------

    def good(self, data: bytes) -> None:
        self.whole(data)

    def good_chunked(self, data: bytes) -> None:
        self.begin(Transfer_Encoding="chunked")
        self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))

    def good_without_length(self, data: bytes) -> None:
        self.begin()
        self.wfile.write(data)

    def slow_but_steady(self, data: bytes) -> None:
        self.begin(Content_Length=len(data))
        for start in range(0, len(data), 512):
            self.wfile.write(data[start : start + 512])
            time.sleep(0.1)

    # --- another content -------------------------------------------------------------

    def flipped(self, data: bytes) -> None:
        self.whole(data[:-1] + bytes([data[-1] ^ 1]))

    def page(self, data: bytes) -> None:
        self.whole(PAGE, Content_Type="text/html; charset=utf-8")

    def page_without_length(self, data: bytes) -> None:
        self.begin(Content_Type="text/html")
        self.wfile.write(PAGE)

    def page_of_same_size(self, data: bytes) -> None:
        self.whole((PAGE + b" " * len(data))[: len(data)], Content_Type="text/html")

    def empty(self, data: bytes) -> None:
        self.whole(b"")

    def other_size(self, data: bytes) -> None:
        self.whole(data + b"!")

    # --- another amount --------------------------------------------------------------

    def truncated(self, data: bytes) -> None:
        self.begin(Content_Length=len(data))
        self.wfile.write(data[:-1])

    def truncated_without_length(self, data: bytes) -> None:
        self.begin()
        self.wfile.write(data[:-1])

    def truncated_chunk(self, data: bytes) -> None:
        self.begin(Transfer_Encoding="chunked")
        self.wfile.write(b"%x\r\n%s" % (len(data), data[:-1]))

    def broken_chunks(self, data: bytes) -> None:
        self.begin(Transfer_Encoding="chunked")
        self.wfile.write(b"size\r\n" + data)

    def longer(self, data: bytes) -> None:
        self.begin()
        self.wfile.write(data + b"!")

    def endless(self, data: bytes) -> None:
        self.begin()
        self.pour(bytes(1 << 16))

    def endless_chunks(self, data: bytes) -> None:
        self.begin(Transfer_Encoding="chunked")
        self.pour(b"10000\r\n" + bytes(1 << 16) + b"\r\n")

    def length_too_small(self, data: bytes) -> None:
        self.begin(Content_Length=len(data) - 1)
        self.wfile.write(data)

    def length_is_no_number(self, data: bytes) -> None:
        self.begin(Content_Length="many")
        self.wfile.write(data)

    def lengths_differ(self, data: bytes) -> None:
        self.begin(Content_Length=f"{len(data)}, 1")
        self.wfile.write(data)

    def packed(self, data: bytes) -> None:
        self.whole(gzip.compress(data), Content_Encoding="gzip")

    # --- another status --------------------------------------------------------------

    def missing(self, data: bytes) -> None:
        self.refuse(404)

    def forbidden(self, data: bytes) -> None:
        self.refuse(403)

    def login(self, data: bytes) -> None:
        self.refuse(401, WWW_Authenticate="Basic")

    def no_content(self, data: bytes) -> None:
        self.begin(204)

    def part(self, data: bytes) -> None:
        self.whole(data, 206, Content_Range=f"bytes 0-{len(data) - 1}/{len(data)}")

    def unchanged(self, data: bytes) -> None:
        self.begin(304)

    def broken(self, data: bytes) -> None:
        self.refuse(500)

    def unavailable(self, data: bytes) -> None:
        self.refuse(503)

    def limited(self, data: bytes) -> None:
        self.refuse(429)

    def limited_for_hours(self, data: bytes) -> None:
        self.refuse(429, Retry_After=7200)

    def limited_until_tomorrow(self, data: bytes) -> None:
        self.refuse(503, Retry_After=formatdate(time.time() + 86400, usegmt=True))

    def limited_oddly(self, data: bytes) -> None:
        self.refuse(429, Retry_After="soon")

    # --- better the next time --------------------------------------------------------

    def then_good(self, data: bytes, first: Callable[[bytes], None]) -> None:
        (first if self.mirror.asked[self.path] == 1 else self.good)(data)

    def limited_once(self, data: bytes) -> None:
        self.then_good(data, lambda data: self.refuse(429, Retry_After=1))

    def limited_once_by_date(self, data: bytes) -> None:
        # Whole seconds only: two ahead is more than one.
        date = formatdate(time.time() + 2, usegmt=True)
        self.then_good(data, lambda data: self.refuse(503, Retry_After=date))

    def broken_once(self, data: bytes) -> None:
        self.then_good(data, self.broken)

    def reset_once(self, data: bytes) -> None:
        self.then_good(data, self.reset)

    def closed_once(self, data: bytes) -> None:
        self.then_good(data, self.closed)

    def truncated_once(self, data: bytes) -> None:
        self.then_good(data, self.truncated)

    # --- broken connections ----------------------------------------------------------

    def closed(self, data: bytes) -> None:
        pass

    def reset(self, data: bytes) -> None:
        # Not to linger means to reset instead of to close.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def reset_midway(self, data: bytes) -> None:
        self.begin(Content_Length=len(data))
        self.wfile.write(data[: len(data) // 2])
        time.sleep(0.05)
        self.reset(data)

    def garbage(self, data: bytes) -> None:
        self.wfile.write(b"\x16\x03\x01 SSH-2.0 hello\r\n\r\n" + data)

    def header_without_end(self, data: bytes) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        self.pour(bytes([120]) * 4096)

    def too_many_headers(self, data: bytes) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        self.pour(b"X: y\r\n" * 100)

    # --- no haste --------------------------------------------------------------------

    def stalled(self, data: bytes) -> None:
        self.mirror.closing.wait()

    def stalled_midway(self, data: bytes) -> None:
        self.begin(Content_Length=len(data))
        self.wfile.write(data[: len(data) // 2])
        self.mirror.closing.wait()

    def dripping(self, data: bytes) -> None:
        self.begin(Content_Length=len(data))
        self.pour(b"x", 0.02)

    def dripping_header(self, data: bytes) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        self.pour(b"x", 0.02)

    def continuing(self, data: bytes) -> None:
        self.pour(b"HTTP/1.1 100 Continue\r\n\r\n", 0.02)

    # --- redirects -------------------------------------------------------------------

    def moved(self, data: bytes) -> None:
        self.redirect(self.path.replace("/moved/", "/good/"))

    def moved_for_good(self, data: bytes) -> None:
        # With a query, as many hosts hand out signed addresses.
        self.redirect(self.path.replace("/moved-for-good/", "/moved/") + "?signature=abc", 308)

    def moved_to_nothing(self, data: bytes) -> None:
        self.redirect(self.path.replace("/moved-to-nothing/", "/missing/") + "?signature=secret")

    def circle(self, data: bytes) -> None:
        self.redirect(self.path)

    def elsewhere(self, data: bytes) -> None:
        self.redirect(self.mirror.elsewhere + self.path.replace("/elsewhere/", "/good/"))

    def to_file(self, data: bytes) -> None:
        self.redirect("file:///etc/hostname")

    def to_ftp(self, data: bytes) -> None:
        self.redirect("ftp://127.0.0.1/weights.npz")

    def to_nowhere(self, data: bytes) -> None:
        self.refuse(302)

    def to_broken_url(self, data: bytes) -> None:
        self.redirect("http://[::1")

    def moved_with_endless_page(self, data: bytes) -> None:
        self.begin(302, Location=self.path.replace("/moved-with-endless-page/", "/good/"))
        self.pour(bytes(1 << 16))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder as any web server would, at the URL that is given."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def certificate(folder: Path, host: str = "127.0.0.1") -> tuple[ssl.SSLContext, Path]:
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
