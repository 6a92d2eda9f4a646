from __future__ import annotations

import errno
import hashlib
import os
import shutil
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

ROOT = Path(__file__).resolve().parents[1]
CONTENT = {"manifest.json": b"{}\n", "weights.npz": bytes(range(256)) * 20}
WRONG = {"manifest.json": b"[]\n", "weights.npz": bytes(5120)}
FOLDER = "models/tissue-v1"


def entry(content):
    return FileEntry(hashlib.sha256(content).hexdigest(), len(content))


REGISTRY = Registry(
    artifacts={
        "tissue-v1": Artifact(
            "tissue-v1",
            "model",
            "Tissues",
            "CC0-1.0",
            "none",
            None,
            {name: entry(content) for name, content in CONTENT.items()},
        )
    },
    mirrors=(),
    default_model="tissue-v1",
)


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
def server():
    with Server(CONTENT) as server:
        yield server


@pytest.fixture(autouse=True)
def haste(monkeypatch):
    monkeypatch.setattr(download, "_BACKOFF", 0.01)


@pytest.fixture
def store(tmp_path):
    return Store(registry=REGISTRY, bundled=None, cache=tmp_path / "cache")


@pytest.fixture
def no_sockets(monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_bundled_file_is_used_where_it_lies(store, tmp_path):
    bundled = lay_out(tmp_path / "bundled", CONTENT)
    path = replace(store, bundled=bundled).locate("tissue", "weights.npz")
    assert path == bundled / FOLDER / "weights.npz"
    assert not store.cache.exists()


@pytest.mark.fault
@pytest.mark.parametrize("damage", [b"[]\n", b"{}"])
def test_corrupt_bundled_file_is_refused(store, tmp_path, damage):
    bundled = lay_out(tmp_path / "bundled", {"manifest.json": damage})
    good = lay_out(tmp_path / "mirror", CONTENT)
    spoilt = replace(store, bundled=bundled, mirrors=(str(good),))
    with pytest.raises(VerificationError, match=r"expected .*, got .*[\s\S]*reinstall") as caught:
        spoilt.locate("tissue-v1", "manifest.json")
    assert caught.value.exit_code == 5
    assert (bundled / FOLDER / "manifest.json").read_bytes() == damage


@pytest.mark.fault
@pytest.mark.parametrize("fresh", [0, 10**12])
def test_file_changed_after_it_was_verified_is_noticed(store, tmp_path, monkeypatch, fresh):
    monkeypatch.setattr(store_module, "_FRESH", fresh)
    bundled = lay_out(tmp_path / "bundled", CONTENT)
    with_bundle = replace(store, bundled=bundled)
    path = with_bundle.locate("tissue-v1", "weights.npz")
    status = path.stat()
    time.sleep(0.05)  # beyond one tick of the file system's clock
    path.write_bytes(WRONG["weights.npz"])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(VerificationError, match="expected sha256"):
        with_bundle.locate("tissue-v1", "weights.npz")


@pytest.mark.parametrize(("fresh", "times"), [(0, 1), (10**12, 2)])
def test_only_a_file_at_rest_is_hashed_once(store, tmp_path, monkeypatch, fresh, times):
    hashed: list[int] = []

    def count(file, size):
        hashed.append(size)
        return sha256_of_stream(file, size)

    monkeypatch.setattr(store_module, "_FRESH", fresh)
    monkeypatch.setattr(store_module, "sha256_of_stream", count)
    with_bundle = replace(store, bundled=lay_out(tmp_path / "bundled", CONTENT))
    path = with_bundle.locate("tissue-v1", "weights.npz")
    assert with_bundle.locate("tissue-v1", "weights.npz") == path
    assert hashed == [path.stat().st_size] * times


@pytest.mark.parametrize("scheme", ["folder", "file"])
def test_folder_mirror_is_copied(store, tmp_path, scheme):
    mirror = lay_out(tmp_path / "a mirror", CONTENT)
    name = mirror.as_uri() if scheme == "file" else f"{mirror}/"
    path = replace(store, mirrors=(name,)).locate("tissue-v1", "weights.npz")
    assert path == store.cache / FOLDER / "weights.npz"
    assert path.read_bytes() == CONTENT["weights.npz"]
    assert files_in(store.cache) == ["weights.npz"]


@pytest.mark.parametrize("how", ["good", "good-without-length", "moved"])
def test_url_mirror_is_fetched_once(store, server, how):
    online = replace(store, mirrors=(f"{server.url}/{how}",))
    paths = online.fetch("tissue-v1")
    assert [path.read_bytes() for path in paths] == list(CONTENT.values())
    assert files_in(store.cache) == sorted(CONTENT)
    requests = len(server.requests)
    assert online.fetch("tissue-v1") == paths
    assert len(server.requests) == requests


def test_every_failed_attempt_is_told(store, server, tmp_path):
    failures = {
        f"{server.url}/missing": "404 Not Found",
        f"{server.url}/flipped": "expected sha256",
        f"{server.url}/longer": "more than the expected 5120 bytes",
        str(tmp_path / "none"): "no such file",
        "ftp://zoo.example": "neither",
        "file://elsewhere/zoo": "neither",
        "http://[::1": "Failed to parse",
    }
    with pytest.raises(VerificationError) as caught:
        replace(store, mirrors=tuple(failures)).locate("tissue-v1", "weights.npz")
    lines = caught.value.message.splitlines()
    assert REGISTRY.artifacts["tissue-v1"].files["weights.npz"].sha256 in lines[0]
    for line, (mirror, reason) in zip(lines[1:], failures.items(), strict=True):
        assert line.startswith(f"  {mirror.rstrip('/')}/{FOLDER}/weights.npz: ")
        assert reason in line
    assert caught.value.remedy is not None
    assert str(store.cache / FOLDER / "weights.npz") in caught.value.remedy
    assert "DECODE_ZOO_MIRRORS=" in caught.value.remedy
    assert "zoo/ of a checkout" in caught.value.remedy
    assert files_in(store.cache) == []


DAMAGE = {
    "flipped bit": bytes([1]) + CONTENT["weights.npz"][1:],
    "truncated": CONTENT["weights.npz"][:-1],
}


@pytest.mark.fault
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_cached_file_is_replaced(store, tmp_path, damage):
    lay_out(store.cache, {"weights.npz": DAMAGE[damage]})
    mirror = lay_out(tmp_path / "mirror", CONTENT)
    path = replace(store, mirrors=(str(mirror),)).locate("tissue-v1", "weights.npz")
    assert path.read_bytes() == CONTENT["weights.npz"]
    assert files_in(store.cache) == ["weights.npz"]


@pytest.mark.fault
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_cached_file_that_nobody_replaces_fails_verification(store, tmp_path, damage):
    lay_out(store.cache, {"weights.npz": DAMAGE[damage]})
    path = store.cache / FOLDER / "weights.npz"
    none = str(tmp_path / "none")
    for mirrors, offline, said in (
        ((), False, "no mirror is known"),
        ((none,), False, f"{none}/{FOLDER}/weights.npz: no such file"),
        (("https://zoo.example",), True, "not tried, offline"),
    ):
        with pytest.raises(VerificationError) as caught:
            replace(store, mirrors=mirrors, offline=offline).locate("tissue-v1", "weights.npz")
        assert caught.value.exit_code == 5
        first, second, third = caught.value.message.splitlines()
        assert "weights.npz of tissue-v1" in first
        assert f"{path}: damaged, not used: expected " in second
        assert said in third
        assert f"Delete {path}" in str(caught.value.remedy)
        assert "DECODE_ZOO_MIRRORS" in str(caught.value.remedy)
        assert path.read_bytes() == DAMAGE[damage]


@pytest.mark.fault
@pytest.mark.parametrize("there", ["nothing", "link to nothing", "folder", "pipe"])
def test_file_that_is_not_there_is_not_available(store, there):
    path = lay_out(store.cache, {}) / FOLDER / "weights.npz"
    if there == "link to nothing":
        path.symlink_to("nothing")
    elif there == "folder":
        path.mkdir()
    elif there == "pipe":
        os.mkfifo(path)
    with pytest.raises(ArtifactError) as caught:
        store.locate("tissue-v1", "weights.npz")
    assert caught.value.exit_code == 3


@pytest.mark.fault
@pytest.mark.parametrize("bundled", [True, False])
def test_file_that_may_not_be_read_is_not_called_damaged(store, tmp_path, monkeypatch, bundled):
    # For the test may be run by root, who can read all: with content that nobody takes.
    path = lay_out(tmp_path / "there", WRONG) / FOLDER / "weights.npz"
    closed = replace(store, **{"bundled" if bundled else "cache": tmp_path / "there"})
    monkeypatch.setattr(os, "access", lambda asked, mode: Path(asked) != path)
    for ask in (closed.check, closed.locate):
        with pytest.raises(ArtifactError, match="cannot be read") as caught:
            ask("tissue-v1", "weights.npz")
        assert "damaged" not in str(caught.value)
        assert f"chmod a+r '{path}'" in str(caught.value.remedy)
    if not bundled:  # a mirror that has it helps, where the folder allows it
        mirror = lay_out(tmp_path / "mirror", CONTENT)
        mirrored = replace(closed, mirrors=(str(mirror),))
        with monkeypatch.context() as patch:
            patch.setattr(store_module, "transfer", refuse)
            with pytest.raises(ArtifactError, match=r"weights\.npz cannot be read"):
                mirrored.locate("tissue-v1", "weights.npz")
        assert mirrored.locate("tissue-v1", "weights.npz") == path


def refuse(*args):
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.fault
def test_folder_in_the_place_of_a_cached_file_is_told_before_anything_is_fetched(store, server):
    path = lay_out(store.cache, {}) / FOLDER / "weights.npz"
    path.mkdir()
    mirrored = replace(store, mirrors=(f"{server.url}/good",))
    for ask in (mirrored.check, mirrored.locate):
        with pytest.raises(ArtifactError, match="is a folder") as caught:
            ask("tissue-v1", "weights.npz")
        assert caught.value.remedy == f"Remove the folder {path}."
    assert server.requests == []


@pytest.mark.usefixtures("no_sockets")
def test_check_verifies_without_healing(store, tmp_path):
    mirrored = replace(store, mirrors=(str(lay_out(tmp_path / "mirror", CONTENT)),))
    assert mirrored.check("tissue", "weights.npz") is None
    assert not store.cache.exists()
    lay_out(store.cache, {**CONTENT, "weights.npz": WRONG["weights.npz"]})
    path = store.cache / FOLDER / "weights.npz"
    assert mirrored.check("tissue", "manifest.json") == path.with_name("manifest.json")
    with pytest.raises(VerificationError, match=r"expected sha256[\s\S]*Delete it"):
        mirrored.check("tissue", "weights.npz")
    assert path.read_bytes() == WRONG["weights.npz"]
    bundled = replace(mirrored, bundled=lay_out(tmp_path / "bundled", CONTENT))
    assert bundled.check("tissue", "weights.npz") == tmp_path / "bundled" / FOLDER / "weights.npz"
    assert path.read_bytes() == WRONG["weights.npz"]
    spoilt = replace(mirrored, bundled=lay_out(tmp_path / "spoilt", WRONG))
    with pytest.raises(VerificationError, match="reinstall"):
        spoilt.check("tissue", "weights.npz")
    with pytest.raises(ArtifactError, match="has no file"):
        store.check("tissue", "../weights.npz")


@pytest.mark.fault
@pytest.mark.usefixtures("no_sockets")
def test_offline_opens_no_socket(store):
    url = "https://zoo.example/decode"
    offline = replace(store, mirrors=(url,), offline=True)
    with pytest.raises(ArtifactError) as caught:
        offline.locate("tissue-v1", "weights.npz")
    text = str(caught.value)
    assert f"{url}/{FOLDER}/weights.npz: not tried, offline" in text
    assert hashlib.sha256(CONTENT["weights.npz"]).hexdigest() in text
    assert str(store.cache / FOLDER / "weights.npz") in text
    assert "DECODE_ZOO_OFFLINE" in text
    assert "decode-zoo cache import DIR" in text
    assert caught.value.exit_code == 3
    lay_out(store.cache, WRONG)
    with pytest.raises(VerificationError, match="cache import DIR"):
        offline.check("tissue-v1", "weights.npz")


@pytest.mark.usefixtures("no_sockets")
def test_offline_still_reads_cache_and_folders(store, tmp_path):
    mirror = lay_out(tmp_path / "mirror", CONTENT)
    offline = replace(store, mirrors=("HTTPS://zoo.example", str(mirror)), offline=True)
    path = offline.locate("tissue-v1", "weights.npz")
    assert replace(offline, mirrors=()).locate("tissue-v1", "weights.npz") == path


def test_file_put_by_hand_is_found(store):
    assert not store.has("tissue-v1", "weights.npz")
    lay_out(store.cache, CONTENT)
    assert store.has("tissue", "weights.npz")
    assert store.locate("tissue-v1", "weights.npz").parent == store.cache / FOLDER


@pytest.mark.fault
@pytest.mark.parametrize("name", ["", "../x", "/etc/hostname", "../tissue-v1/weights.npz", "x.npz"])
def test_only_registered_names_are_opened(store, tmp_path, name):
    asked = replace(store, bundled=lay_out(tmp_path / "bundled", CONTENT))
    assert not asked.has("tissue-v1", name)
    with pytest.raises(ArtifactError, match=r"has no file[\s\S]*weights\.npz"):
        asked.locate("tissue-v1", name)
    with pytest.raises(ArtifactError, match="has no file"):
        asked.fetch("tissue-v1", ["weights.npz", name])
    for ask in (asked.has, asked.locate):
        with pytest.raises(ArtifactError, match="decode-zoo ls"):
            ask("../models/tissue-v1", "weights.npz")


@pytest.mark.fault
def test_cache_that_cannot_be_made_is_told(store, tmp_path):
    store.cache.write_bytes(b"a file where the folder should be")
    mirror = lay_out(tmp_path / "mirror", CONTENT)
    with pytest.raises(ArtifactError, match="DECODE_ZOO_CACHE"):
        replace(store, mirrors=(str(mirror),)).locate("tissue-v1", "weights.npz")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_cached_files_have_the_permissions_of_ordinary_ones(store, tmp_path):
    mirror = lay_out(tmp_path / "mirror", CONTENT)
    path = replace(store, mirrors=(str(mirror),)).locate("tissue-v1", "weights.npz")
    assert path.stat().st_mode == (mirror / FOLDER / "weights.npz").stat().st_mode


def test_threads_may_fetch_the_same_file(store, server):
    online = replace(store, mirrors=(f"{server.url}/good",))
    found: list[bytes] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(online.locate("tissue", "weights.npz").read_bytes())
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT["weights.npz"]] * 8
    assert files_in(store.cache) == ["weights.npz"]


def test_progress_bar_is_for_terminals(store, server, monkeypatch, capsys):
    online = replace(store, mirrors=(f"{server.url}/good",))
    online.locate("tissue", "manifest.json", progress=True)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    online.locate("tissue", "weights.npz", progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "weights.npz" in err
    assert "100%" in err


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Pretend that the package lies in an empty folder."""
    package = tmp_path / "site" / "decode_zoo"
    package.mkdir(parents=True)
    monkeypatch.setattr(store_module, "_PACKAGE", package)
    for name in ("DECODE_ZOO_CACHE", "DECODE_ZOO_MIRRORS", "DECODE_ZOO_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return package


def test_installed_package_carries_its_artifacts(installed):
    (installed / "bundled").mkdir()
    write_registry(REGISTRY, installed / "bundled" / "registry.yaml")
    assert builtin_registry_path() == installed / "bundled" / "registry.yaml"
    assert bundled_root() == installed / "bundled"


def test_checkout_is_its_own_bundle(installed):
    write_registry(REGISTRY, installed.parent / "registry.yaml")
    assert builtin_registry_path() == installed.parent / "registry.yaml"
    assert bundled_root() is None
    (installed.parent / "zoo").mkdir()
    assert bundled_root() == installed.parent / "zoo"


def test_package_without_registry_is_told(installed):
    assert bundled_root() is None
    with pytest.raises(ArtifactError, match="reinstall"):
        builtin_registry_path()


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
@pytest.mark.parametrize("how", ["no home", "home of nobody"])
def test_user_without_a_home_needs_a_cache_only_to_fetch(call, monkeypatch, how):
    """What came with the package works without; the rest says what to set."""
    import pwd

    def nobody(*args):
        raise KeyError(args[0])

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr(pwd, "getpwnam", nobody)
    for name in ("HOME", "XDG_CACHE_HOME", "DECODE_ZOO_CACHE"):
        monkeypatch.delenv(name, raising=False)
    if how == "home of nobody":
        monkeypatch.setenv("DECODE_ZOO_CACHE", "~nosuch/x")
    assert Store.default().cache is None
    for line in ("ls", "info gtex-tissue-v1", "verify --all", "fetch gtex-tissue-v1"):
        code, _, err = call(*line.split())
        assert (code, err) == (0, "")
    for line in ("path", "ls", "clean", "import ."):
        code, out, err = call("cache", *line.split())
        assert (code, out) == (3, "")
        assert "no folder to keep fetched files in" in err
        assert "Name a folder in DECODE_ZOO_CACHE" in err
    with pytest.raises(ArtifactError, match="DECODE_ZOO_CACHE"):
        Store(REGISTRY, None, None).locate("tissue", "weights.npz")


@pytest.mark.fault
@pytest.mark.skipif(
    shutil.which("setpriv") is None or os.geteuid() != 0, reason="only root can be somebody else"
)
def test_user_whom_the_system_does_not_know_can_use_what_came_with_the_package():
    """As in many a container: a number without a name, and no home."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if name not in ("HOME", "XDG_CACHE_HOME", "DECODE_ZOO_CACHE")
    }

    def run(*args):
        other = ["setpriv", "--reuid", "54321", "--clear-groups", sys.executable, "-m"]
        return subprocess.run(
            [*other, "decode_zoo", *args], env=ours, cwd=ROOT, text=True, capture_output=True
        )

    done = run("verify", "gtex-tissue-v1")
    assert (done.returncode, done.stderr) == (0, "")
    done = run("cache", "path")
    assert done.returncode == 3
    assert "DECODE_ZOO_CACHE" in done.stderr


def test_import_is_light():
    code = (
        "import sys, decode_zoo.store; "
        "print(sorted({'pooch', 'requests', 'click', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
