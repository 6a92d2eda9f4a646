"""Mirrors that misbehave, and disks that fail: a clear error, and the next mirror serves."""

from __future__ import annotations

import builtins
import errno
import gc
import os
import re
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

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
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """No long waits."""
    monkeypatch.setattr(download, "_BACKOFF", 0.01)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(CONTENT) as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(REGISTRY, None, tmp_path / "cache")


@pytest.fixture
def good(tmp_path: Path) -> str:
    """A mirror that works."""
    return str(lay_out(tmp_path / "mirror", CONTENT))


def failure(store: Store, *mirrors: str, code: int = 3) -> str:
    """Fail to get a file, leave nothing behind, and say why."""
    with pytest.raises((ArtifactError, VerificationError)) as caught:
        replace(store, mirrors=mirrors).locate("tissue-v1", NAME)
    assert caught.value.exit_code == code
    assert files_in(store.cache) == []
    return str(caught.value)


def got(store: Store, *mirrors: str) -> None:
    """Get a file, and nothing but the file."""
    path = replace(store, mirrors=mirrors).locate("tissue-v1", NAME)
    assert path.read_bytes() == DATA
    assert files_in(store.cache) == [NAME]


# --- what a server can do wrong ----------------------------------------------------------

WRONG_ANSWERS = {
    # another content
    "flipped": "expected sha256 .*, got ",
    "page": "expected 5120 bytes, got .*; it sent a web page",
    "page-without-length": "expected 5120 bytes, got .*; it sent a web page",
    "page-of-same-size": "expected sha256 .*; it sent a web page",
    "empty": "expected 5120 bytes, got 0",
    "other-size": "more than the expected 5120 bytes",
    # another amount
    "truncated-without-length": "expected 5120 bytes, got 5119",
    "longer": "more than the expected 5120 bytes",
    "endless": "more than the expected 5120 bytes",
    "endless-chunks": "more than the expected 5120 bytes",
    "length-too-small": "expected 5120 bytes, got 5119",
    "length-is-no-number": "invalid literal",
    "packed": r"packed \(gzip\)",
    # another status
    "missing": "404 Not Found",
    "forbidden": "403 Forbidden",
    "login": "401 Unauthorized",
    "no-content": "204 No Content",
    "part": "206 Partial Content",
    "unchanged": "304 Not Modified",
    "limited-for-hours": "429 .*, to be asked again after 7200 seconds",
    "limited-until-tomorrow": "503 .*, to be asked again after",
    # redirects
    "circle": "Exceeded 30 redirects.*redirected to http",
    "to-file": r"from http to file \(redirected to file:///etc/hostname\)",
    "to-ftp": "from http to ftp",
    "to-nowhere": "302 Found",
    "to-broken-url": "Invalid IPv6 URL",
    "moved-to-nothing": r"404 Not Found \(redirected to http://127\.0\.0\.1:\d+/missing/[^?]*\?\*\*\*\)\n",
}


# What gives something, and not the file; the others give nothing.
WRONG_FILES = frozenset(
    how for how, said in WRONG_ANSWERS.items() if re.match("expected|more than the", said)
)


@pytest.mark.fault
@pytest.mark.parametrize("how", WRONG_ANSWERS)
def test_wrong_answer_is_told_and_the_next_mirror_serves(
    store: Store, server: Server, good: str, how: str
) -> None:
    mirror = f"{server.url}/{how}"
    text = failure(store, mirror, code=5 if how in WRONG_FILES else 3)
    assert re.search(f"{mirror}/{FOLDER}/{NAME}: .*{WRONG_ANSWERS[how]}", text)
    if how != "circle":
        assert len(server.requests) == (2 if how.startswith("moved") else 1)
    got(store, mirror, good)


@pytest.mark.fault
def test_contradictory_lengths_are_refused(store: Store, server: Server, good: str) -> None:
    with warnings.catch_warnings():
        # urllib3 leaves the connection to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        assert "5120, 1" in failure(store, f"{server.url}/lengths-differ")
        got(store, f"{server.url}/lengths-differ", good)
        gc.collect()


@pytest.mark.fault
@pytest.mark.parametrize("how", sorted(WRONG_FILES))
def test_wrong_file_fails_verification_whatever_other_mirrors_lack(
    store: Store, server: Server, tmp_path: Path, how: str
) -> None:
    others = (f"{server.url}/missing", str(tmp_path / "none"))
    text = failure(store, others[0], f"{server.url}/{how}", others[1], code=5)
    assert "404 Not Found" in text
    assert "no such file" in text
    failure(store, *others, code=3)


BROKEN_OFF = {
    "broken": "500 Internal Server Error",
    "unavailable": "503 Service Unavailable",
    "limited": "429 Too Many Requests",
    "limited-oddly": "429 Too Many Requests",
    "closed": "closed connection",
    "reset": "reset",
    "reset-midway": "(reset|IncompleteRead)",
    "truncated": "IncompleteRead",
    "truncated-chunk": "IncompleteRead",
    "broken-chunks": "invalid literal|InvalidChunkLength",
    "garbage": "BadStatusLine|Connection aborted",
    "header-without-end": "got more than 65536 bytes",
    "too-many-headers": "got more than 100 headers",
}


@pytest.mark.fault
@pytest.mark.parametrize("how", BROKEN_OFF)
def test_busy_or_broken_mirror_is_asked_again_only_after_the_others(
    store: Store, server: Server, good: str, how: str
) -> None:
    mirror = f"{server.url}/{how}"
    assert re.search(f"{mirror}/{FOLDER}/{NAME}: .*({BROKEN_OFF[how]})", failure(store, mirror))
    assert len(server.requests) == 1 + download._RETRIES
    server.requests.clear()
    got(store, mirror, good)
    assert len(server.requests) == 1


@pytest.mark.fault
@pytest.mark.parametrize("how", ["broken-once", "closed-once", "reset-once", "truncated-once"])
def test_passing_fault_is_overcome(
    store: Store, server: Server, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    got(store, f"{server.url}/{how}")
    assert len(server.requests) == 2
    assert "asked again in" in caplog.text


@pytest.mark.fault
@pytest.mark.parametrize("how", ["limited-once", "limited-once-by-date"])
def test_retry_after_is_kept_to(store: Store, server: Server, how: str) -> None:
    start = time.monotonic()
    got(store, f"{server.url}/{how}")
    assert time.monotonic() - start > 0.99
    assert len(server.requests) == 2


@pytest.mark.fault
@pytest.mark.parametrize("how", ["stalled", "stalled-midway"])
def test_silent_mirror_is_left(
    store: Store, server: Server, good: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(download, "_TIMEOUT", (5.0, 0.3))
    assert "timed out" in failure(store, f"{server.url}/{how}")
    got(store, f"{server.url}/{how}", good)


@pytest.mark.fault
@pytest.mark.parametrize("how", ["dripping", "dripping-header", "continuing"])
def test_slow_loris_is_left(
    store: Store, server: Server, good: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(download, "_WINDOW", 0.4)
    start = time.monotonic()
    assert "too slow: fewer than 32768 bytes in 0.4 s" in failure(store, f"{server.url}/{how}")
    assert time.monotonic() - start < 5
    got(store, f"{server.url}/{how}", good)


def test_slow_but_steady_mirror_is_waited_for(
    store: Store, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_WINDOW", 0.6)
    monkeypatch.setattr(download, "_LEAST", 1)
    monkeypatch.setattr(download, "_BLOCK", 512)
    got(store, f"{server.url}/slow-but-steady")


@pytest.mark.fault
def test_name_that_is_never_looked_up_is_left(
    store: Store, good: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: never.wait(5))
    monkeypatch.setattr(download, "_WINDOW", 0.2)
    assert "too slow" in failure(store, "https://zoo.example")
    got(store, "https://zoo.example", good)
    never.set()


@pytest.mark.fault
def test_unknown_host_is_told(store: Store, good: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    text = failure(store, "https://zoo.example")
    assert "zoo.example" in text
    assert "Name or service not known" in text
    got(store, "https://zoo.example", good)


@pytest.mark.fault
def test_refused_connection_is_told(store: Store, good: str) -> None:
    with socket.socket() as reserved:  # bound but not listening: refused
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        assert "refused" in failure(store, url)
        got(store, url, good)


# --- redirects -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["moved", "moved-for-good"])
def test_redirect_is_followed(store: Store, server: Server, how: str) -> None:
    got(store, f"{server.url}/{how}")


@pytest.mark.fault
def test_endless_body_of_a_redirect_is_not_read(store: Store, server: Server) -> None:
    got(store, f"{server.url}/moved-with-endless-page")


def test_url_finally_used_is_told(store: Store, server: Server) -> None:
    with Server(CONTENT, elsewhere=f"{server.url}/flipped") as first:
        text = failure(store, f"{first.url}/elsewhere", code=5)
    assert f"{first.url}/elsewhere/{FOLDER}/{NAME}: not the published file" in text
    assert f"(redirected to {server.url}/flipped/good/{FOLDER}/{NAME})" in text


@pytest.mark.fault
def test_password_in_a_mirror_is_not_shown(store: Store, server: Server) -> None:
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


def test_proxy_of_the_environment_is_used(
    store: Store, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("http_proxy", server.url)
    got(store, "http://zoo.example/good")
    assert server.requests[0].target == f"http://zoo.example/good/{FOLDER}/{NAME}"


@pytest.mark.fault
def test_dead_proxy_is_told(store: Store, good: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{reserved.getsockname()[1]}")
        assert "proxy" in failure(store, "http://zoo.example")
        got(store, "http://zoo.example", good)


def test_requests_carry_our_name_and_ask_for_no_packing(store: Store, server: Server) -> None:
    got(store, f"{server.url}/good")
    headers = server.requests[0].headers
    pattern = rf"decode-zoo/{re.escape(decode_zoo.__version__)} \(Python 3\.\d+\.\S+; \w+\) .*"
    assert re.fullmatch(pattern, headers["User-Agent"])
    assert headers["Accept-Encoding"] == "identity"


# --- folders and file URLs -------------------------------------------------------------


@pytest.fixture(params=["folder", "file URL"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """A mirror on disk without the file, and the file's path there."""
    root = lay_out(tmp_path / "odd one", {})
    return (str(root) if request.param == "folder" else root.as_uri()), root / FOLDER / NAME


@pytest.mark.fault
@pytest.mark.parametrize(
    ("damage", "reason"),
    [(DATA[:-1], "5119"), (DATA + b"!", "more than"), (DATA[::-1], "expected sha256"), (b"", "0")],
    ids=["truncated", "longer", "other", "empty"],
)
def test_file_of_a_folder_is_verified(
    store: Store, odd: tuple[str, Path], good: str, damage: bytes, reason: str
) -> None:
    odd[1].write_bytes(damage)
    assert reason in failure(store, odd[0], code=5)
    got(store, odd[0], good)


@pytest.mark.fault
@pytest.mark.parametrize(
    "kind", ["absent", "folder", "link", "looping link", "pipe", "socket", "device"]
)
def test_what_is_no_plain_file_is_refused_without_hanging(
    store: Store, odd: tuple[str, Path], good: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror, path = odd
    reason = "no such file" if kind == "absent" else f"{kind.split()[-1]}, no ordinary file"
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(Path(good) / FOLDER / NAME)
    elif kind == "looping link":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(path.parent)  # the path of a socket must be short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    elif kind == "device":
        monkeypatch.setattr(download, "local_path", lambda source: Path("/dev/zero"))
        if not os.path.exists("/dev/zero"):
            pytest.skip("no device here")
    assert reason in failure(store, mirror)
    monkeypatch.undo()
    got(store, mirror, good)


@pytest.mark.fault
def test_folder_of_links_in_the_middle_is_no_way_around_the_hash(
    store: Store, tmp_path: Path
) -> None:
    lay_out(tmp_path / "real", {NAME: DATA[::-1]})
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    assert "expected sha256" in failure(store, str(tmp_path / "linked"), code=5)


# --- disks ---------------------------------------------------------------------------------


class Disk:
    """A file whose disk fails after some bytes."""

    def __init__(self, file: Any, room: int, number: int) -> None:
        self._file, self._room, self._number = file, room, number

    def write(self, block: bytes) -> int:
        self._room -= len(block)
        if self._room < 0:
            raise OSError(self._number, os.strerror(self._number))
        return self._file.write(block)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Disk:
        return self

    def __exit__(self, *args: object) -> None:
        self._file.close()


@pytest.mark.fault
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("source", ["server", "folder"])
def test_disk_that_is_full_or_fails_is_told_and_the_cache_is_intact(
    store: Store,
    server: Server,
    good: str,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    number: int,
) -> None:
    other = lay_out(store.cache, {"manifest.json": CONTENT["manifest.json"]})

    def opened(path: Any, mode: str = "r", **keywords: Any) -> Any:
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
def test_disk_that_fails_at_the_end_is_told(
    store: Store, good: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, fail)
    assert os.strerror(errno.EIO) in failure(store, good)


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["folder", "full folder", "pipe", "broken link"])
def test_what_is_in_the_way_in_the_cache_is_told_or_replaced(
    store: Store, good: str, kind: str
) -> None:
    path = lay_out(store.cache, {}) / FOLDER / NAME
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "broken link":
        path.symlink_to(path.with_name("nothing"))
    else:
        path.mkdir()
        if kind == "full folder":
            (path / "mine").touch()
        with pytest.raises(ArtifactError, match=rf"is a folder[\s\S]*Remove the folder {path}"):
            replace(store, mirrors=(good,)).locate("tissue-v1", NAME)
        assert files_in(store.cache) == (["mine"] if kind == "full folder" else [])
        return
    got(store, good)
    assert not path.is_symlink()


# --- temporary files -----------------------------------------------------------------------


def temporary(store: Store, name: str, *, days: float = 0.0) -> Path:
    path = store.cache / FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    then = time.time() - days * 86400
    os.utime(path, (then, then))
    return path


TOKEN = "0123456789abcdef"


def test_temporary_files_that_nobody_wrote_to_for_a_day_are_removed(
    store: Store, good: str
) -> None:
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
        ".notes.part",
        f".{NAME}.part",
        f".{NAME}.0123456789abcdeX.part",
        f".{NAME}.{TOKEN}.part.bak",
        f".\x1b.{TOKEN}.part",
    ],
)
def test_file_that_no_download_of_ours_left_is_never_removed(
    store: Store, good: str, name: str
) -> None:
    left = temporary(store, name, days=99)
    assert leftovers(store.cache) == []
    replace(store, mirrors=(good,)).locate("tissue-v1", NAME)
    assert left.exists()


@pytest.mark.fault
def test_temporary_file_that_may_not_be_removed_is_no_hindrance(
    store: Store, good: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = temporary(store, f".{NAME}.{TOKEN}.part", days=2)
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == left:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    path = replace(store, mirrors=(good,)).locate("tissue-v1", NAME)
    assert path.read_bytes() == DATA
    assert left.exists()
