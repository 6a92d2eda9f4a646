"""The store: where files are found, how they are fetched and verified, and how that can fail.

Whatever a mirror or disk does, there is a clear error, and the next mirror serves.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import decode_zoo
from decode_zoo.core.errors import ArtifactError, VerificationError
from decode_zoo.zoo import download
from decode_zoo.zoo import store as store_module
from decode_zoo.zoo.artifact import Artifact, FileEntry
from decode_zoo.zoo.registry import Registry, write_registry
from decode_zoo.zoo.store import Store, builtin_registry_path, bundled_root, cache_root
from tests.server import Server

CONTENT = {"manifest.json": b"{}\n", "weights.npz": bytes(range(256)) * 20}
WRONG = {"manifest.json": b"[]\n", "weights.npz": bytes(5120)}
FOLDER = "models/tissue-v1"
NAME = "weights.npz"
DATA = CONTENT[NAME]


def entry(content):
    return FileEntry(hashlib.sha256(content).hexdigest(), len(content))


FILES = {name: entry(content) for name, content in CONTENT.items()}
TISSUE = Artifact("tissue-v1", "model", "Tissues", "CC0-1.0", "none", None, FILES)
REGISTRY = Registry({"tissue-v1": TISSUE}, mirrors=(), default_model="tissue-v1")


def lay_out(root, content):
    """Make a folder as a good, the cache and zoo/ have it."""
    folder = root / FOLDER
    folder.mkdir(parents=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return root


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if not path.is_dir())


def fail(number):
    """Return a function that fails as the system does."""

    def failing(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return failing


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "_BACKOFF", 0.01)
    with Server(CONTENT) as server:
        yield server


@pytest.fixture
def store(tmp_path):
    return Store(registry=REGISTRY, bundled=None, cache=tmp_path / "cache")


@pytest.fixture
def good(tmp_path):
    """A folder that has all files."""
    return str(lay_out(tmp_path / "a mirror", CONTENT))


@pytest.fixture
def path(store):
    """Where the cache has a file."""
    return lay_out(store.cache, {}) / FOLDER / NAME


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


# --- here ------------------------------------------------------------------------------


def test_bundled_file_comes_first_and_its_change_is_noticed(store, tmp_path, monkeypatch):
    monkeypatch.setattr("decode_zoo.core.files._FRESH", 0)  # so that its hash is remembered
    bundled = lay_out(tmp_path / "bundled", CONTENT)
    with_bundle = replace(store, bundled=bundled)
    path = with_bundle.locate("tissue", NAME)
    assert path == with_bundle.locate("tissue-v1", NAME) == bundled / FOLDER / NAME
    assert not store.cache.exists()
    status = path.stat()
    time.sleep(0.05)  # beyond one tick of the file system's clock
    path.write_bytes(WRONG[NAME])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(VerificationError, match="expected sha256"):
        with_bundle.locate("tissue-v1", NAME)


@pytest.mark.fault
def test_corrupt_bundled_file_is_refused(store, tmp_path, good):
    bundled = lay_out(tmp_path / "bundled", WRONG)
    spoilt = replace(store, bundled=bundled, mirrors=(good,))
    for ask in (spoilt.locate, spoilt.check):
        with pytest.raises(VerificationError, match=r"expected .*, got .*[\s\S]*reinstall"):
            ask("tissue-v1", "manifest.json")
    assert (bundled / FOLDER / "manifest.json").read_bytes() == WRONG["manifest.json"]


def test_check_verifies_without_healing(store, path, good, monkeypatch):
    mirrored = replace(store, mirrors=(good,))
    assert mirrored.check("tissue", NAME) is None
    path.write_bytes(WRONG[NAME])
    with pytest.raises(VerificationError, match=r"expected sha256[\s\S]*Delete it"):
        mirrored.check("tissue", NAME)
    assert path.read_bytes() == WRONG[NAME]
    path.write_bytes(DATA)
    assert mirrored.check("tissue", NAME) == path


@pytest.mark.fault
@pytest.mark.parametrize("name", ["", "../x", "/etc/hostname", "../tissue-v1/weights.npz", "x.npz"])
def test_only_registered_names_are_opened(store, tmp_path, name):
    asked = replace(store, bundled=lay_out(tmp_path / "bundled", CONTENT))
    assert not asked.has("tissue-v1", name)
    with pytest.raises(ArtifactError, match=r"has no file[\s\S]*weights\.npz"):
        asked.locate("tissue-v1", name)
    with pytest.raises(ArtifactError, match="has no file"):
        asked.fetch("tissue-v1", [NAME, name])
    with pytest.raises(ArtifactError, match="decode-zoo ls"):
        asked.has("../models/tissue-v1", NAME)


# --- brought here ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    ["folder", "file URL", "good-without-length", "moved-for-good", "moved-with-endless-page"],
)
def test_files_are_brought_from_a_mirror_once(store, server, good, how):
    mirrors = {"folder": f"{good}/", "file URL": Path(good).as_uri()}
    mirrored = replace(store, mirrors=(mirrors.get(how, f"{server.url}/{how}"),))
    paths = mirrored.fetch("tissue-v1")
    assert paths == [store.cache / FOLDER / name for name in CONTENT]
    assert [path.read_bytes() for path in paths] == list(CONTENT.values())
    assert files_in(store.cache) == sorted(CONTENT)
    # As of any other file: nothing is left of the temporary one's.
    assert paths[0].stat().st_mode == (Path(good) / FOLDER / "manifest.json").stat().st_mode
    requests = len(server.requests)
    assert mirrored.fetch("tissue-v1") == paths
    assert len(server.requests) == requests


def test_threads_may_fetch_the_same_file(store, server):
    online = replace(store, mirrors=(f"{server.url}/good",))
    with ThreadPoolExecutor(8) as threads:
        paths = list(threads.map(online.locate, ["tissue"] * 8, [NAME] * 8))
    assert [path.read_bytes() for path in paths] == [DATA] * 8
    assert files_in(store.cache) == [NAME]


def test_every_failed_attempt_is_described(store, server, tmp_path):
    failures = {
        f"{server.url}/missing": "404 Not Found",
        f"{server.url}/flipped": "expected sha256",
        str(tmp_path / "none"): "no such file",
        "ftp://zoo.example": "neither",
        "file://elsewhere/zoo": "neither",
        "http://[::1": "Failed to parse",
    }
    with pytest.raises(VerificationError) as caught:
        replace(store, mirrors=tuple(failures)).locate("tissue-v1", NAME)
    first, *lines = caught.value.message.splitlines()
    assert FILES[NAME].sha256 in first
    for line, (mirror, reason) in zip(lines, failures.items(), strict=True):
        assert line.startswith(f"  {mirror.rstrip('/')}/{FOLDER}/{NAME}: ")
        assert reason in line
    for words in (str(store.cache / FOLDER / NAME), "DECODE_ZOO_MIRRORS=", "zoo/ of a checkout"):
        assert words in str(caught.value.remedy)
    assert files_in(store.cache) == []


@pytest.mark.fault
@pytest.mark.parametrize(
    ("mirrors", "offline", "said"),
    [
        ((), False, "no mirror is known"),
        (("/none",), False, f"/none/{FOLDER}/{NAME}: no such file"),
        (("https://zoo.example",), True, "not tried, offline"),
    ],
)
def test_damaged_cached_file_is_replaced_or_fails_verification(
    store, path, good, mirrors, offline, said
):
    path.write_bytes(DATA[:-1])
    with pytest.raises(VerificationError) as caught:
        replace(store, mirrors=mirrors, offline=offline).locate("tissue-v1", NAME)
    first, second, third = caught.value.message.splitlines()
    assert f"{NAME} of tissue-v1" in first
    assert f"{path}: damaged, not used: expected " in second
    assert said in third
    assert f"Delete {path}" in str(caught.value.remedy)
    assert path.read_bytes() == DATA[:-1]
    got(store, good)


@pytest.mark.fault
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("nothing")])
def test_what_is_no_file_in_the_cache_is_not_available_and_replaced(store, path, good, make):
    make(path)
    with pytest.raises(ArtifactError):
        store.locate("tissue-v1", NAME)
    got(store, good)
    assert not path.is_symlink()


@pytest.mark.fault
def test_folder_in_the_place_of_a_cached_file_is_refused_before_a_fetch(store, server, path):
    path.mkdir()
    mirrored = replace(store, mirrors=(f"{server.url}/good",))
    for ask in (mirrored.check, mirrored.locate):
        with pytest.raises(ArtifactError, match="is a folder") as caught:
            ask("tissue-v1", NAME)
        assert caught.value.remedy == f"Remove the folder {path}."
    assert server.requests == []


@pytest.mark.fault
@pytest.mark.parametrize("where", ["bundled", "cache"])
def test_file_that_may_not_be_read_is_not_called_damaged(store, tmp_path, monkeypatch, where):
    # For the test may be run by root, who can read all: with content that nobody takes.
    path = lay_out(tmp_path / "there", WRONG) / FOLDER / NAME
    closed = replace(store, **{where: tmp_path / "there"})
    monkeypatch.setattr(os, "access", lambda asked, mode: Path(asked) != path)
    for ask in (closed.check, closed.locate):
        with pytest.raises(ArtifactError, match="cannot be read") as caught:
            ask("tissue-v1", NAME)
        assert "damaged" not in str(caught.value)
        assert f"chmod a+r '{path}'" in str(caught.value.remedy)


@pytest.mark.fault
def test_cached_file_that_may_not_be_read_is_replaced_where_the_folder_allows_it(
    store, path, good, monkeypatch
):
    path.write_bytes(WRONG[NAME])
    monkeypatch.setattr(os, "access", lambda asked, mode: Path(asked) != path)
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "transfer", fail(errno.EACCES))
        with pytest.raises(ArtifactError, match=r"weights\.npz cannot be read"):
            replace(store, mirrors=(good,)).locate("tissue-v1", NAME)
    got(store, good)


def test_progress_bar_is_for_terminals(store, server, monkeypatch, capsys):
    online = replace(store, mirrors=(f"{server.url}/good",))
    online.locate("tissue", "manifest.json", progress=True)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    online.locate("tissue", NAME, progress=True)
    out, err = capsys.readouterr()
    assert (out, NAME in err, "100%" in err) == ("", True, True)


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
    ("how", "words"),
    [
        ("stalled", "timed out"),
        ("stalled-midway", "timed out"),
        ("dripping", "too slow: fewer than 32768 bytes in 0.6 s"),
        ("dripping-header", "too slow: fewer than 32768 bytes in 0.6 s"),
    ],
)
def test_silent_or_slow_mirror_is_left(store, server, good, monkeypatch, how, words):
    monkeypatch.setattr(download, "_TIMEOUT", (5.0, 0.3))
    monkeypatch.setattr(download, "_WINDOW", 0.6)
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
@pytest.mark.parametrize(("words", "window"), [("too slow", 0.2), ("Name or service", 60)])
def test_name_that_is_unknown_or_never_looked_up_is_left(store, good, monkeypatch, words, window):
    never = threading.Event()

    def look_up(*args, **kwargs):
        if words == "too slow":
            never.wait(5)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(download, "_WINDOW", window)
    assert words in failure(store, "https://zoo.example")
    got(store, "https://zoo.example", good)
    never.set()


@pytest.mark.fault
def test_refused_connection_is_described(store, monkeypatch):
    with socket.socket() as reserved:  # bound but not listening: refused
        reserved.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        assert "refused" in failure(store, proxy)
        monkeypatch.setenv("http_proxy", proxy)
        assert "proxy" in failure(store, "http://zoo.example")


@pytest.mark.fault
def test_password_in_a_mirror_is_not_shown(store, server):
    missing = f"{server.url}/missing"
    mirror = missing.replace("://", "://user:secret@")
    with Server(CONTENT, elsewhere=mirror) as first:
        text = failure(
            store,
            mirror,
            missing.replace("://", "://user:sec/secret@"),
            f"{missing}?signature=secret",
            f"{first.url}/elsewhere".replace("://", "://me:secret@"),
            "http://user:secret@[::1",
        )
    assert "secret" not in text
    assert server.requests[0].headers["Authorization"].startswith("Basic")


def test_proxy_of_the_environment_is_used_and_requests_carry_our_name(store, server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    got(store, "http://zoo.example/good")
    (request,) = server.requests
    assert request.target == f"http://zoo.example/good/{FOLDER}/{NAME}"
    name = f"decode-zoo/{decode_zoo.__version__} (Python 3."
    assert request.headers["User-Agent"].startswith(name)
    assert request.headers["Accept-Encoding"] == "identity"


# --- folders -----------------------------------------------------------------------------


@pytest.mark.fault
@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda path: path.write_bytes(DATA[::-1]), 5, "expected sha256"),
        (lambda path: path.write_bytes(DATA + b"!"), 5, "more than"),
        (Path.mkdir, 3, "folder, no ordinary file"),
        (lambda path: path.symlink_to("manifest.json"), 3, "link, no ordinary file"),
        (os.mkfifo, 3, "pipe, no ordinary file"),
    ],
)
def test_file_of_a_folder_is_verified_and_nothing_else_is_read(
    store, tmp_path, good, make, code, words
):
    root = lay_out(tmp_path / "odd one", {"manifest.json": DATA})
    make(root / FOLDER / NAME)
    assert words in failure(store, str(root), code=code)
    got(store, str(root), good)


# --- disks ---------------------------------------------------------------------------------


class FullDisk(io.FileIO):
    def write(self, block):
        return super().write(block) if self.tell() < 2048 else fail(errno.ENOSPC)()


@pytest.mark.fault
@pytest.mark.parametrize(
    ("module", "name", "failing", "number"),
    [
        (download, "open", FullDisk, errno.ENOSPC),
        (os, "fsync", fail(errno.EIO), errno.EIO),
        (os, "replace", fail(errno.EIO), errno.EIO),
    ],
)
def test_disk_that_fails_is_an_error_and_the_cache_is_intact(
    store, server, good, monkeypatch, module, name, failing, number
):
    other = lay_out(store.cache, {"manifest.json": b"{}"}) / FOLDER / "manifest.json"
    monkeypatch.setattr(download, "_BLOCK", 1024)
    monkeypatch.setattr(module, name, failing, raising=False)
    with pytest.raises(ArtifactError) as caught:
        replace(store, mirrors=(good, f"{server.url}/good")).locate("tissue-v1", NAME)
    assert os.strerror(number) in caught.value.message
    assert str(store.cache) in caught.value.message
    assert "5120 bytes, in DECODE_ZOO_CACHE" in str(caught.value.remedy)
    assert server.requests == []  # no other mirror can help
    assert files_in(store.cache) == ["manifest.json"]
    assert other.read_bytes() == b"{}"


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
    mirrored = replace(store, mirrors=(good,))
    with monkeypatch.context() as patch:  # what may not be removed is no hindrance
        patch.setattr(Path, "unlink", fail(errno.EACCES))
        mirrored.locate("tissue-v1", "manifest.json")
    mirrored.locate("tissue-v1", NAME)
    assert [name for name in files_in(folder) if name in GONE | KEPT] == sorted(KEPT)
    assert (folder / NAME).read_bytes() == DATA


# --- the installation and the environment ----------------------------------------------


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Pretend that the package lies in an empty folder."""
    package = tmp_path / "site" / "decode_zoo"
    package.mkdir(parents=True)
    monkeypatch.setattr(store_module, "_PACKAGE", package)
    monkeypatch.delenv("DECODE_ZOO_CACHE")
    return package


def test_package_carries_its_artifacts_and_a_checkout_has_them_in_zoo(installed):
    assert bundled_root() is None
    with pytest.raises(ArtifactError, match="reinstall"):
        builtin_registry_path()
    for registry, root in (
        (installed.parent / "registry.yaml", installed.parent / "zoo"),
        (installed / "bundled/registry.yaml", installed / "bundled"),
    ):
        root.mkdir()
        write_registry(REGISTRY, registry)
        assert (builtin_registry_path(), bundled_root()) == (registry, root)


def test_default_store_reads_the_environment(installed, tmp_path, monkeypatch):
    with_mirror = replace(REGISTRY, mirrors=("https://zoo.example",))
    write_registry(with_mirror, installed.parent / "registry.yaml")
    plain = Store.default()
    assert plain == Store(with_mirror, None, cache_root(), ("https://zoo.example",), False)
    assert "decode-zoo" in plain.cache.parts
    monkeypatch.setenv("DECODE_ZOO_CACHE", str(tmp_path / "c"))
    monkeypatch.setenv("DECODE_ZOO_MIRRORS", " /a, http://b/c\t/d ,")
    mirrors = ("/a", "http://b/c", "/d", "https://zoo.example")
    for switch, offline in {"1": True, "False": False}.items():
        monkeypatch.setenv("DECODE_ZOO_OFFLINE", switch)
        assert Store.default() == Store(with_mirror, None, tmp_path / "c", mirrors, offline)


@pytest.mark.fault
@pytest.mark.skipif(os.name == "nt", reason="Windows has another way to find a home")
@pytest.mark.parametrize("cache", [None, "~nosuch/x"], ids=["no home", "home of nobody"])
def test_user_without_a_home_needs_a_cache_only_to_fetch(call, monkeypatch, cache):
    """As in many a container: what came with the package works; the rest says what to set."""
    import pwd

    def nobody(*args):
        raise KeyError(args[0])

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr(pwd, "getpwnam", nobody)
    for name in ("HOME", "XDG_CACHE_HOME", "DECODE_ZOO_CACHE"):
        monkeypatch.delenv(name, raising=False)
    if cache:
        monkeypatch.setenv("DECODE_ZOO_CACHE", cache)
    for line in ("ls", "info gtex-tissue-v1", "verify gtex-tissue-v1", "fetch gtex-tissue-v1"):
        code, _, err = call(*line.split())
        assert (code, err) == (0, "")
    for line in ("path", "ls", "clean", "import ."):
        code, out, err = call("cache", *line.split())
        assert (code, out) == (3, "")
        assert "no folder to keep fetched files in" in err
        assert "Name a folder in DECODE_ZOO_CACHE" in err
    with pytest.raises(ArtifactError, match="DECODE_ZOO_CACHE"):
        Store(REGISTRY, None, None).locate("tissue", NAME)
