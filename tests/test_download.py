"""Mirrors that misbehave, and disks that fail: a clear error, and the next mirror serves."""

from __future__ import annotations

import errno
import io
import os
import re
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import decode_zoo
from decode_zoo import download
from decode_zoo.download import leftovers
from decode_zoo.errors import ArtifactError, VerificationError
from decode_zoo.store import Store
from tests.server import Server
from tests.test_store import CONTENT, DATA, FOLDER, NAME, REGISTRY, files_in, lay_out


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "_BACKOFF", 0.01)
    with Server(CONTENT) as server:
        yield server


@pytest.fixture
def store(tmp_path):
    return Store(REGISTRY, None, tmp_path / "cache")


@pytest.fixture
def good(tmp_path):
    """A mirror that works."""
    return str(lay_out(tmp_path / "mirror", CONTENT))


def failure(store, *mirrors, code=3):
    """Fail to get a file, leave nothing behind, and say why."""
    with pytest.raises((ArtifactError, VerificationError)) as caught:
        replace(store, mirrors=mirrors).locate("tissue-v1", NAME)
    assert caught.value.exit_code == code
    assert files_in(store.cache) == []
    return str(caught.value)


def got(store, *mirrors):
    """Get a file, and nothing but the file."""
    path = replace(store, mirrors=mirrors).locate("tissue-v1", NAME)
    assert path.read_bytes() == DATA
    assert files_in(store.cache) == [NAME]


# --- what a server can do wrong ----------------------------------------------------------

# What gives something, and not the file.
WRONG_FILES = {
    "flipped": "expected sha256 .*, got ",
    "page": "expected 5120 bytes, got .*; it sent a web page",
    "truncated-without-length": "expected 5120 bytes, got 5119",
    "longer": "more than the expected 5120 bytes",
    "endless": "more than the expected 5120 bytes",
}
NOTHING = {
    "packed": r"packed \(gzip\)",
    "missing": "404 Not Found",
    "part": "206 Partial Content",
    "limited-for-hours": "429 .*, to be asked again after 7200 seconds",
    "circle": "Exceeded 30 redirects.*redirected to http",
    "to-file": r"from http to file \(redirected to file:///etc/hostname\)",
    "moved-to-nothing": r"404 Not Found \(redirected to http://[^?]*/missing/[^?]*\?\*\*\*\)\n",
}
REQUESTS = {"circle": 31, "moved-to-nothing": 2}


@pytest.mark.fault
@pytest.mark.parametrize("how", [*WRONG_FILES, *NOTHING])
def test_wrong_answer_is_described_and_the_next_mirror_serves(store, server, good, tmp_path, how):
    mirror, wrong = f"{server.url}/{how}", how in WRONG_FILES
    text = failure(store, mirror, code=5 if wrong else 3)
    assert re.search(f"{mirror}/{FOLDER}/{NAME}: .*{(WRONG_FILES | NOTHING)[how]}", text)
    assert len(server.requests) == REQUESTS.get(how, 1)
    # A wrong file fails verification, whatever other mirrors lack.
    none = (f"{server.url}/missing", str(tmp_path / "none"))
    text = failure(store, none[0], mirror, none[1], code=5 if wrong else 3)
    assert "404 Not Found" in text
    assert "no such file" in text
    got(store, mirror, good)


BROKEN_OFF = {
    "broken": "500 Internal Server Error",
    "closed": "closed connection",
    "reset": "reset",
    "truncated": "IncompleteRead",
}


@pytest.mark.fault
@pytest.mark.parametrize("how", BROKEN_OFF)
def test_busy_or_broken_mirror_is_asked_again_only_after_the_others(store, server, good, how):
    mirror = f"{server.url}/{how}"
    assert re.search(f"{mirror}/{FOLDER}/{NAME}: .*({BROKEN_OFF[how]})", failure(store, mirror))
    assert len(server.requests) == 1 + download._RETRIES
    server.requests.clear()
    got(store, mirror, good)
    assert len(server.requests) == 1


@pytest.mark.fault
@pytest.mark.parametrize(("how", "wait"), [("truncated-once", 0), ("limited-once", 0.99)])
def test_passing_fault_is_overcome_and_retry_after_kept_to(store, server, caplog, how, wait):
    start = time.monotonic()
    got(store, f"{server.url}/{how}")
    assert time.monotonic() - start > wait
    assert len(server.requests) == 2
    assert "asked again in" in caplog.text


@pytest.mark.fault
@pytest.mark.parametrize(
    ("how", "limit", "seconds", "words"),
    [
        ("stalled", "_TIMEOUT", (5.0, 0.3), "timed out"),
        ("stalled-midway", "_TIMEOUT", (5.0, 0.3), "timed out"),
        ("dripping", "_WINDOW", 0.4, "too slow: fewer than 32768 bytes in 0.4 s"),
        ("dripping-header", "_WINDOW", 0.4, "too slow: fewer than 32768 bytes in 0.4 s"),
    ],
)
def test_silent_or_slow_mirror_is_left(
    store, server, good, monkeypatch, how, limit, seconds, words
):
    monkeypatch.setattr(download, limit, seconds)
    start = time.monotonic()
    assert words in failure(store, f"{server.url}/{how}")
    assert time.monotonic() - start < 5
    got(store, f"{server.url}/{how}", good)


def test_slow_but_steady_mirror_is_waited_for(store, server, monkeypatch):
    monkeypatch.setattr(download, "_WINDOW", 0.6)
    monkeypatch.setattr(download, "_LEAST", 1)
    monkeypatch.setattr(download, "_BLOCK", 512)
    got(store, f"{server.url}/slow-but-steady")


@pytest.mark.fault
@pytest.mark.parametrize("words", ["too slow", "Name or service not known"])
def test_name_that_is_unknown_or_never_looked_up_is_left(store, good, monkeypatch, words):
    never = threading.Event()

    def look_up(*args, **kwargs):
        if words == "too slow":
            never.wait(5)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(download, "_WINDOW", 0.2 if words == "too slow" else 60)
    assert words in failure(store, "https://zoo.example")
    got(store, "https://zoo.example", good)
    never.set()


@pytest.mark.fault
@pytest.mark.parametrize("what", ["mirror", "proxy"])
def test_refused_connection_is_described(store, good, monkeypatch, what):
    with socket.socket() as reserved:  # bound but not listening: refused
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        if what == "proxy":
            monkeypatch.setenv("HTTP_PROXY", url)
            monkeypatch.setenv("http_proxy", url)
            url = "http://zoo.example"
        text = failure(store, url)
        assert "refused" in text
        assert what == "mirror" or "proxy" in text
        got(store, url, good)


def test_url_finally_used_is_named(store, server):
    with Server(CONTENT, elsewhere=f"{server.url}/flipped") as first:
        text = failure(store, f"{first.url}/elsewhere", code=5)
    assert f"{first.url}/elsewhere/{FOLDER}/{NAME}: not the published file" in text
    assert f"(redirected to {server.url}/flipped/good/{FOLDER}/{NAME})" in text


@pytest.mark.fault
def test_password_in_a_mirror_is_not_shown(store, server):
    mirror = server.url.replace("://", "://user:secret@")
    with Server(CONTENT, elsewhere=f"{mirror}/missing") as first:
        text = failure(
            store,
            f"{mirror}/missing",
            f"{server.url}/missing".replace("://", "://user:sec/secret@"),
            f"{server.url}/missing?signature=secret",
            f"{first.url}/elsewhere".replace("://", "://me:secret@"),
            "http://user:secret@[::1",
        )
    assert "secret" not in text
    assert server.requests[0].headers["Authorization"].startswith("Basic")


def test_proxy_of_the_environment_is_used_and_requests_carry_our_name(store, server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("http_proxy", server.url)
    got(store, "http://zoo.example/good")
    (request,) = server.requests
    assert request.target == f"http://zoo.example/good/{FOLDER}/{NAME}"
    pattern = rf"decode-zoo/{re.escape(decode_zoo.__version__)} \(Python 3\.\d+\.\S+; \w+\) .*"
    assert re.fullmatch(pattern, request.headers["User-Agent"])
    assert request.headers["Accept-Encoding"] == "identity"


# --- folders -----------------------------------------------------------------------------


@pytest.mark.fault
@pytest.mark.parametrize(
    ("there", "words"),
    [
        (DATA[:-1], "5119"),
        (DATA + b"!", "more than"),
        (DATA[::-1], "expected sha256"),
        (None, "no such file"),
        (Path.mkdir, "folder, no ordinary file"),
        (lambda path: path.symlink_to("manifest.json"), "link, no ordinary file"),
        (os.mkfifo, "pipe, no ordinary file"),
    ],
    ids=["truncated", "longer", "other", "nothing", "folder", "link", "pipe"],
)
def test_file_of_a_folder_is_verified_and_nothing_else_is_read(store, tmp_path, good, there, words):
    root = lay_out(tmp_path / "odd one", {"manifest.json": DATA})
    wrong = isinstance(there, bytes)
    if wrong:
        (root / FOLDER / NAME).write_bytes(there)
    elif there:
        there(root / FOLDER / NAME)
    for mirror in (str(root), root.as_uri()):
        assert words in failure(store, mirror, code=5 if wrong else 3)
    got(store, str(root), good)


# --- disks ---------------------------------------------------------------------------------


class FullDisk(io.FileIO):
    def write(self, block):
        if self.tell() + len(block) > 2048:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(block)


@pytest.mark.fault
@pytest.mark.parametrize("source", ["server", "folder"])
def test_full_disk_is_an_error_and_the_cache_is_intact(store, server, good, monkeypatch, source):
    other = lay_out(store.cache, {"manifest.json": CONTENT["manifest.json"]})
    monkeypatch.setattr(download, "_BLOCK", 1024)
    monkeypatch.setattr(download, "open", FullDisk, raising=False)
    mirrors = (f"{server.url}/good", good) if source == "server" else (good, f"{server.url}/good")
    with pytest.raises(ArtifactError) as caught:
        replace(store, mirrors=mirrors).locate("tissue-v1", NAME)
    assert os.strerror(errno.ENOSPC) in caught.value.message
    assert str(store.cache) in caught.value.message
    assert "5120 bytes, in DECODE_ZOO_CACHE" in str(caught.value.remedy)
    assert len(server.requests) == (source == "server")  # no other mirror can help
    assert files_in(store.cache) == ["manifest.json"]
    assert (other / FOLDER / "manifest.json").read_bytes() == CONTENT["manifest.json"]


@pytest.mark.fault
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_disk_that_fails_at_the_end_is_an_error(store, good, monkeypatch, call):
    def fail(*args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, fail)
    assert os.strerror(errno.EIO) in failure(store, good)


# --- temporary files -----------------------------------------------------------------------

TOKEN = "0123456789abcdef"
# With their age in days; names of former versions have more between name and token.
GONE = {f".{NAME}.{TOKEN}.part": 1.1, f".{NAME}.ffffffff-1-{TOKEN}.part": 1.1}
KEPT = {
    f".{NAME}.{TOKEN[::-1]}.part": 0.9,
    "notes.part": 99,
    f".{NAME}.part": 99,
    f".{NAME}.{TOKEN}.part.bak": 99,
    f".\x1b.{TOKEN}.part": 99,
}


@pytest.mark.fault
def test_only_our_downloads_temporary_files_older_than_a_day_are_removed(store, good, monkeypatch):
    folder = lay_out(store.cache, dict.fromkeys([*GONE, *KEPT], b"half")) / FOLDER
    for name, days in (GONE | KEPT).items():
        then = time.time() - days * 86400
        os.utime(folder / name, (then, then))
    assert leftovers(store.cache) == sorted(folder / name for name in GONE)
    unlink, stuck = Path.unlink, min(GONE)

    def refuse(path, missing_ok=False):
        if path.name == stuck:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:  # what may not be removed is no hindrance
        patch.setattr(Path, "unlink", refuse)
        path = replace(store, mirrors=(good,)).locate("tissue-v1", NAME)
    assert path.read_bytes() == DATA
    assert files_in(store.cache) == sorted([NAME, stuck, *KEPT])
    path.unlink()
    replace(store, mirrors=(good,)).locate("tissue-v1", NAME)
    assert files_in(store.cache) == sorted([NAME, *KEPT])
