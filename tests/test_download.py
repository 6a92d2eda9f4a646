"""Mirrors that misbehave, and disks that fail: a clear error, and the next mirror serves."""

from __future__ import annotations

import builtins
import errno
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
from tests.test_store import CONTENT, FOLDER, REGISTRY, files_in, lay_out

NAME = "weights.npz"
DATA = CONTENT[NAME]


@pytest.fixture(autouse=True)
def haste(monkeypatch):
    """No long waits."""
    monkeypatch.setattr(download, "_BACKOFF", 0.01)


@pytest.fixture
def server():
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

WRONG_ANSWERS = {
    # another content
    "flipped": "expected sha256 .*, got ",
    "page": "expected 5120 bytes, got .*; it sent a web page",
    # another amount
    "truncated-without-length": "expected 5120 bytes, got 5119",
    "longer": "more than the expected 5120 bytes",
    "endless": "more than the expected 5120 bytes",
    "packed": r"packed \(gzip\)",
    # another status
    "missing": "404 Not Found",
    "part": "206 Partial Content",
    "limited-for-hours": "429 .*, to be asked again after 7200 seconds",
    # redirects
    "circle": "Exceeded 30 redirects.*redirected to http",
    "to-file": r"from http to file \(redirected to file:///etc/hostname\)",
    "moved-to-nothing": r"404 Not Found \(redirected to http://127\.0\.0\.1:\d+/missing/[^?]*\?\*\*\*\)\n",
}


# What gives something, and not the file; the others give nothing.
WRONG_FILES = frozenset(
    how for how, said in WRONG_ANSWERS.items() if re.match("expected|more than the", said)
)


@pytest.mark.fault
@pytest.mark.parametrize("how", WRONG_ANSWERS)
def test_wrong_answer_is_told_and_the_next_mirror_serves(store, server, good, how):
    mirror = f"{server.url}/{how}"
    text = failure(store, mirror, code=5 if how in WRONG_FILES else 3)
    assert re.search(f"{mirror}/{FOLDER}/{NAME}: .*{WRONG_ANSWERS[how]}", text)
    if how != "circle":
        assert len(server.requests) == (2 if how.startswith("moved") else 1)
    got(store, mirror, good)


@pytest.mark.fault
@pytest.mark.parametrize("how", sorted(WRONG_FILES))
def test_wrong_file_fails_verification_whatever_other_mirrors_lack(store, server, tmp_path, how):
    others = (f"{server.url}/missing", str(tmp_path / "none"))
    text = failure(store, others[0], f"{server.url}/{how}", others[1], code=5)
    assert "404 Not Found" in text
    assert "no such file" in text
    failure(store, *others, code=3)


BROKEN_OFF = {
    "broken": "500 Internal Server Error",
    "limited": "429 Too Many Requests",
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
@pytest.mark.parametrize("how", ["broken-once", "truncated-once"])
def test_passing_fault_is_overcome(store, server, caplog, how):
    got(store, f"{server.url}/{how}")
    assert len(server.requests) == 2
    assert "asked again in" in caplog.text


@pytest.mark.fault
def test_retry_after_is_kept_to(store, server):
    start = time.monotonic()
    got(store, f"{server.url}/limited-once")
    assert time.monotonic() - start > 0.99
    assert len(server.requests) == 2


@pytest.mark.fault
@pytest.mark.parametrize("how", ["stalled", "stalled-midway"])
def test_silent_mirror_is_left(store, server, good, monkeypatch, how):
    monkeypatch.setattr(download, "_TIMEOUT", (5.0, 0.3))
    assert "timed out" in failure(store, f"{server.url}/{how}")
    got(store, f"{server.url}/{how}", good)


@pytest.mark.fault
@pytest.mark.parametrize("how", ["dripping", "dripping-header"])
def test_slow_loris_is_left(store, server, good, monkeypatch, how):
    monkeypatch.setattr(download, "_WINDOW", 0.4)
    start = time.monotonic()
    assert "too slow: fewer than 32768 bytes in 0.4 s" in failure(store, f"{server.url}/{how}")
    assert time.monotonic() - start < 5
    got(store, f"{server.url}/{how}", good)


def test_slow_but_steady_mirror_is_waited_for(store, server, monkeypatch):
    monkeypatch.setattr(download, "_WINDOW", 0.6)
    monkeypatch.setattr(download, "_LEAST", 1)
    monkeypatch.setattr(download, "_BLOCK", 512)
    got(store, f"{server.url}/slow-but-steady")


@pytest.mark.fault
def test_name_that_is_never_looked_up_is_left(store, good, monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: never.wait(5))
    monkeypatch.setattr(download, "_WINDOW", 0.2)
    assert "too slow" in failure(store, "https://zoo.example")
    got(store, "https://zoo.example", good)
    never.set()


@pytest.mark.fault
def test_unknown_host_is_told(store, good, monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    text = failure(store, "https://zoo.example")
    assert "zoo.example" in text
    assert "Name or service not known" in text
    got(store, "https://zoo.example", good)


@pytest.mark.fault
def test_refused_connection_is_told(store, good):
    with socket.socket() as reserved:  # bound but not listening: refused
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        assert "refused" in failure(store, url)
        got(store, url, good)


# --- redirects -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["moved", "moved-for-good"])
def test_redirect_is_followed(store, server, how):
    got(store, f"{server.url}/{how}")


@pytest.mark.fault
def test_endless_body_of_a_redirect_is_not_read(store, server):
    got(store, f"{server.url}/moved-with-endless-page")


def test_url_finally_used_is_told(store, server):
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


# --- proxies, and who we say we are ------------------------------------------------------


def test_proxy_of_the_environment_is_used(store, server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("http_proxy", server.url)
    got(store, "http://zoo.example/good")
    assert server.requests[0].target == f"http://zoo.example/good/{FOLDER}/{NAME}"


@pytest.mark.fault
def test_dead_proxy_is_told(store, good, monkeypatch):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{reserved.getsockname()[1]}")
        assert "proxy" in failure(store, "http://zoo.example")
        got(store, "http://zoo.example", good)


def test_requests_carry_our_name_and_ask_for_no_packing(store, server):
    got(store, f"{server.url}/good")
    headers = server.requests[0].headers
    pattern = rf"decode-zoo/{re.escape(decode_zoo.__version__)} \(Python 3\.\d+\.\S+; \w+\) .*"
    assert re.fullmatch(pattern, headers["User-Agent"])
    assert headers["Accept-Encoding"] == "identity"


# --- folders and file URLs -------------------------------------------------------------


@pytest.fixture(params=["folder", "file URL"])
def odd(request, tmp_path):
    """A mirror on disk without the file, and the file's path there."""
    root = lay_out(tmp_path / "odd one", {})
    return (str(root) if request.param == "folder" else root.as_uri()), root / FOLDER / NAME


@pytest.mark.fault
@pytest.mark.parametrize(
    ("damage", "reason"),
    [(DATA[:-1], "5119"), (DATA + b"!", "more than"), (DATA[::-1], "expected sha256"), (b"", "0")],
    ids=["truncated", "longer", "other", "empty"],
)
def test_file_of_a_folder_is_verified(store, odd, good, damage, reason):
    odd[1].write_bytes(damage)
    assert reason in failure(store, odd[0], code=5)
    got(store, odd[0], good)


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["absent", "folder", "link", "pipe", "device"])
def test_what_is_no_plain_file_is_refused_without_hanging(store, odd, good, kind, monkeypatch):
    mirror, path = odd
    reason = "no such file" if kind == "absent" else f"{kind.split()[-1]}, no ordinary file"
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(Path(good) / FOLDER / NAME)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        monkeypatch.setattr(download, "local_path", lambda source: Path("/dev/zero"))
        if not os.path.exists("/dev/zero"):
            pytest.skip("no device here")
    assert reason in failure(store, mirror)
    monkeypatch.undo()
    got(store, mirror, good)


@pytest.mark.fault
def test_folder_of_links_in_the_middle_is_no_way_around_the_hash(store, tmp_path):
    lay_out(tmp_path / "real", {NAME: DATA[::-1]})
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    assert "expected sha256" in failure(store, str(tmp_path / "linked"), code=5)


# --- disks ---------------------------------------------------------------------------------


class Disk:
    """A file whose disk fails after some bytes."""

    def __init__(self, file, room, number):
        self._file, self._room, self._number = file, room, number

    def write(self, block):
        self._room -= len(block)
        if self._room < 0:
            raise OSError(self._number, os.strerror(self._number))
        return self._file.write(block)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self._file.close()


@pytest.mark.fault
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("source", ["server", "folder"])
def test_disk_that_is_full_or_fails_is_told_and_the_cache_is_intact(
    store, server, good, monkeypatch, source, number
):
    other = lay_out(store.cache, {"manifest.json": CONTENT["manifest.json"]})

    def opened(path, mode="r", **keywords):
        file = builtins.open(path, mode, **keywords)  # noqa: SIM115
        return Disk(file, 2048, number) if "x" in mode else file

    monkeypatch.setattr(download, "_BLOCK", 1024)
    monkeypatch.setattr(download, "open", opened, raising=False)
    mirrors = (f"{server.url}/good", good) if source == "server" else (good, f"{server.url}/good")
    with pytest.raises(ArtifactError) as caught:
        replace(store, mirrors=mirrors).locate("tissue-v1", NAME)
    assert os.strerror(number) in caught.value.message
    assert str(store.cache) in caught.value.message
    assert "5120 bytes, in DECODE_ZOO_CACHE" in str(caught.value.remedy)
    assert len(server.requests) == (source == "server")  # no other mirror can help
    assert files_in(store.cache) == ["manifest.json"]
    assert (other / FOLDER / "manifest.json").read_bytes() == CONTENT["manifest.json"]


@pytest.mark.fault
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_disk_that_fails_at_the_end_is_told(store, good, monkeypatch, call):
    def fail(*args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, fail)
    assert os.strerror(errno.EIO) in failure(store, good)


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["folder", "pipe", "broken link"])
def test_what_is_in_the_way_in_the_cache_is_told_or_replaced(store, good, kind):
    path = lay_out(store.cache, {}) / FOLDER / NAME
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "broken link":
        path.symlink_to(path.with_name("nothing"))
    else:
        path.mkdir()
        with pytest.raises(ArtifactError, match=rf"is a folder[\s\S]*Remove the folder {path}"):
            replace(store, mirrors=(good,)).locate("tissue-v1", NAME)
        assert files_in(store.cache) == []
        return
    got(store, good)
    assert not path.is_symlink()


# --- temporary files -----------------------------------------------------------------------


def temporary(store, name, *, days=0.0):
    path = store.cache / FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    then = time.time() - days * 86400
    os.utime(path, (then, then))
    return path


TOKEN = "0123456789abcdef"


def test_temporary_files_that_nobody_wrote_to_for_a_day_are_removed(store, good):
    names = (f".{NAME}.{TOKEN}.part", f".{NAME}.ffffffff-1-{TOKEN}.part")  # and of former versions
    gone = [temporary(store, name, days=1.1) for name in names]
    kept = temporary(store, f".{NAME}.{TOKEN[::-1]}.part", days=0.9)
    assert leftovers(store.cache) == sorted(gone)
    path = replace(store, mirrors=(good,)).locate("tissue-v1", NAME)
    assert files_in(store.cache) == sorted([path.name, kept.name])


@pytest.mark.fault
@pytest.mark.parametrize(
    "name",
    [
        "notes.part",
        f".{NAME}.part",
        f".{NAME}.{TOKEN}.part.bak",
        f".\x1b.{TOKEN}.part",
    ],
)
def test_file_that_no_download_of_ours_left_is_never_removed(store, good, name):
    left = temporary(store, name, days=99)
    assert leftovers(store.cache) == []
    replace(store, mirrors=(good,)).locate("tissue-v1", NAME)
    assert left.exists()


@pytest.mark.fault
def test_temporary_file_that_may_not_be_removed_is_no_hindrance(store, good, monkeypatch):
    left = temporary(store, f".{NAME}.{TOKEN}.part", days=2)
    unlink = Path.unlink

    def refuse(path, missing_ok=False):
        if path == left:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    path = replace(store, mirrors=(good,)).locate("tissue-v1", NAME)
    assert path.read_bytes() == DATA
    assert left.exists()
