"""The store: where files are found, how they are verified, and what the environment says."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from decode_zoo import download
from decode_zoo import store as store_module
from decode_zoo.artifact import Artifact, FileEntry
from decode_zoo.errors import ArtifactError, VerificationError
from decode_zoo.files import sha256_of_stream
from decode_zoo.registry import Registry, write_registry
from decode_zoo.store import Store, builtin_registry_path, bundled_root, cache_root
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
    """Make a folder as a mirror, the cache and zoo/ have it."""
    folder = root / FOLDER
    folder.mkdir(parents=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return root


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if not path.is_dir())


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "_BACKOFF", 0.01)
    with Server(CONTENT) as server:
        yield server


@pytest.fixture
def store(tmp_path):
    return Store(registry=REGISTRY, bundled=None, cache=tmp_path / "cache")


@pytest.fixture
def mirror(tmp_path):
    """A folder that has all files."""
    return str(lay_out(tmp_path / "a mirror", CONTENT))


@pytest.fixture
def path(store):
    """Where the cache has a file."""
    return lay_out(store.cache, {}) / FOLDER / NAME


# --- here ------------------------------------------------------------------------------


@pytest.mark.parametrize(("fresh", "times"), [(0, 1), (10**12, 2)])
def test_file_at_rest_is_hashed_once_and_a_change_is_noticed(
    store, tmp_path, monkeypatch, fresh, times
):
    hashed: list[int] = []

    def count(file, size):
        hashed.append(size)
        return sha256_of_stream(file, size)

    monkeypatch.setattr(store_module, "_FRESH", fresh)
    monkeypatch.setattr(store_module, "sha256_of_stream", count)
    bundled = lay_out(tmp_path / "bundled", CONTENT)
    with_bundle = replace(store, bundled=bundled)
    path = with_bundle.locate("tissue", NAME)
    assert path == with_bundle.locate("tissue-v1", NAME) == bundled / FOLDER / NAME
    assert hashed == [len(DATA)] * times
    assert not store.cache.exists()
    status = path.stat()
    time.sleep(0.05)  # beyond one tick of the file system's clock
    path.write_bytes(WRONG[NAME])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(VerificationError, match="expected sha256"):
        with_bundle.locate("tissue-v1", NAME)


@pytest.mark.fault
@pytest.mark.parametrize("damage", [b"[]\n", b"{}"])
def test_corrupt_bundled_file_is_refused(store, tmp_path, mirror, damage):
    bundled = lay_out(tmp_path / "bundled", {"manifest.json": damage})
    spoilt = replace(store, bundled=bundled, mirrors=(mirror,))
    for ask in (spoilt.locate, spoilt.check):
        with pytest.raises(VerificationError, match=r"expected .*, got .*[\s\S]*reinstall"):
            ask("tissue-v1", "manifest.json")
    assert (bundled / FOLDER / "manifest.json").read_bytes() == damage


def test_check_verifies_without_healing(store, tmp_path, mirror, monkeypatch):
    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, None)
    mirrored = replace(store, mirrors=(mirror,))
    assert mirrored.check("tissue", NAME) is None
    assert not store.cache.exists()
    path = lay_out(store.cache, {**CONTENT, NAME: WRONG[NAME]}) / FOLDER / NAME
    assert mirrored.check("tissue", "manifest.json") == path.with_name("manifest.json")
    with pytest.raises(VerificationError, match=r"expected sha256[\s\S]*Delete it"):
        mirrored.check("tissue", NAME)
    bundled = lay_out(tmp_path / "bundled", CONTENT)
    assert replace(mirrored, bundled=bundled).check("tissue", NAME) == bundled / FOLDER / NAME
    assert path.read_bytes() == WRONG[NAME]


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


@pytest.mark.parametrize("scheme", ["folder", "file"])
def test_folder_mirror_is_copied(store, mirror, scheme):
    named = Path(mirror).as_uri() if scheme == "file" else f"{mirror}/"
    path = replace(store, mirrors=(named,)).locate("tissue-v1", NAME)
    assert path == store.cache / FOLDER / NAME
    assert path.read_bytes() == DATA
    assert files_in(store.cache) == [NAME]
    # As of any other file: nothing is left of the temporary one's.
    assert path.stat().st_mode == (Path(mirror) / FOLDER / NAME).stat().st_mode


@pytest.mark.parametrize(
    "how", ["good", "good-without-length", "moved-for-good", "moved-with-endless-page"]
)
def test_url_mirror_is_fetched_once(store, server, how):
    online = replace(store, mirrors=(f"{server.url}/{how}",))
    paths = online.fetch("tissue-v1")
    assert [path.read_bytes() for path in paths] == list(CONTENT.values())
    assert files_in(store.cache) == sorted(CONTENT)
    requests = len(server.requests)
    assert online.fetch("tissue-v1") == paths
    assert len(server.requests) == requests


def test_threads_may_fetch_the_same_file(store, server):
    online = replace(store, mirrors=(f"{server.url}/good",))
    found: list[bytes] = []

    def fetch():
        found.append(online.locate("tissue", NAME).read_bytes())

    threads = [threading.Thread(target=fetch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [DATA] * 8
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
@pytest.mark.parametrize("damaged", [b"\1" + DATA[1:], DATA[:-1]], ids=["flipped", "truncated"])
def test_damaged_cached_file_is_replaced_or_fails_verification(store, tmp_path, mirror, damaged):
    path = lay_out(store.cache, {NAME: damaged}) / FOLDER / NAME
    none = str(tmp_path / "none")
    for mirrors, offline, said in (
        ((), False, "no mirror is known"),
        ((none,), False, f"{none}/{FOLDER}/{NAME}: no such file"),
        (("https://zoo.example",), True, "not tried, offline"),
    ):
        with pytest.raises(VerificationError) as caught:
            replace(store, mirrors=mirrors, offline=offline).locate("tissue-v1", NAME)
        first, second, third = caught.value.message.splitlines()
        assert f"{NAME} of tissue-v1" in first
        assert f"{path}: damaged, not used: expected " in second
        assert said in third
        assert f"Delete {path}" in str(caught.value.remedy)
        assert path.read_bytes() == damaged
    assert replace(store, mirrors=(mirror,)).locate("tissue-v1", NAME).read_bytes() == DATA
    assert files_in(store.cache) == [NAME]


@pytest.mark.fault
@pytest.mark.parametrize("there", ["nothing", "link to nothing", "pipe"])
def test_what_is_no_file_in_the_cache_is_not_available_and_replaced(store, path, mirror, there):
    if there == "link to nothing":
        path.symlink_to("nothing")
    elif there == "pipe":
        os.mkfifo(path)
    with pytest.raises(ArtifactError):
        store.locate("tissue-v1", NAME)
    assert replace(store, mirrors=(mirror,)).locate("tissue-v1", NAME).read_bytes() == DATA
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
@pytest.mark.parametrize("bundled", [True, False])
def test_file_that_may_not_be_read_is_not_called_damaged(
    store, tmp_path, mirror, monkeypatch, bundled
):
    # For the test may be run by root, who can read all: with content that nobody takes.
    path = lay_out(tmp_path / "there", WRONG) / FOLDER / NAME
    closed = replace(store, **{"bundled" if bundled else "cache": tmp_path / "there"})
    monkeypatch.setattr(os, "access", lambda asked, mode: Path(asked) != path)
    for ask in (closed.check, closed.locate):
        with pytest.raises(ArtifactError, match="cannot be read") as caught:
            ask("tissue-v1", NAME)
        assert "damaged" not in str(caught.value)
        assert f"chmod a+r '{path}'" in str(caught.value.remedy)
    if not bundled:  # a mirror that has it helps, where the folder allows it
        mirrored = replace(closed, mirrors=(mirror,))

        def refuse(*args):
            raise PermissionError(errno.EACCES, "Permission denied")

        with monkeypatch.context() as patch:
            patch.setattr(store_module, "transfer", refuse)
            with pytest.raises(ArtifactError, match=r"weights\.npz cannot be read"):
                mirrored.locate("tissue-v1", NAME)
        assert mirrored.locate("tissue-v1", NAME) == path


@pytest.mark.fault
def test_cache_that_cannot_be_made_is_an_error_of_ours(store, mirror):
    store.cache.write_bytes(b"a file where the folder should be")
    with pytest.raises(ArtifactError, match="DECODE_ZOO_CACHE"):
        replace(store, mirrors=(mirror,)).locate("tissue-v1", NAME)


def test_progress_bar_is_for_terminals(store, server, monkeypatch, capsys):
    online = replace(store, mirrors=(f"{server.url}/good",))
    online.locate("tissue", "manifest.json", progress=True)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    online.locate("tissue", NAME, progress=True)
    out, err = capsys.readouterr()
    assert (out, NAME in err, "100%" in err) == ("", True, True)


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
    checkout = installed.parent
    write_registry(REGISTRY, checkout / "registry.yaml")
    assert builtin_registry_path() == checkout / "registry.yaml"
    assert bundled_root() is None
    (checkout / "zoo").mkdir()
    assert bundled_root() == checkout / "zoo"
    (installed / "bundled").mkdir()
    write_registry(REGISTRY, installed / "bundled" / "registry.yaml")
    assert builtin_registry_path() == installed / "bundled" / "registry.yaml"
    assert bundled_root() == installed / "bundled"


def test_default_store_reads_the_environment(installed, tmp_path, monkeypatch):
    with_mirror = replace(REGISTRY, mirrors=("https://zoo.example",))
    write_registry(with_mirror, installed.parent / "registry.yaml")
    plain = Store.default()
    assert plain == Store(with_mirror, None, cache_root(), ("https://zoo.example",), False)
    assert "decode-zoo" in plain.cache.parts
    monkeypatch.setenv("DECODE_ZOO_CACHE", str(tmp_path / "c"))
    monkeypatch.setenv("DECODE_ZOO_MIRRORS", " /a, http://b/c\t/d ,")
    monkeypatch.setenv("DECODE_ZOO_OFFLINE", "1")
    store = Store.default()
    assert store.cache == tmp_path / "c"
    assert store.mirrors == ("/a", "http://b/c", "/d", "https://zoo.example")
    assert store.offline
    monkeypatch.setenv("DECODE_ZOO_OFFLINE", "False")
    assert not Store.default().offline


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
    assert Store.default().cache is None
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


def test_import_is_light():
    code = (
        "import sys, decode_zoo.store; "
        "print(sorted({'pooch', 'requests', 'click', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
