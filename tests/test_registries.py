"""Registries of the user's own: files, URLs, copies of them, and what they may not do."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from decode_zoo import download
from decode_zoo.artifact import Artifact, FileEntry
from decode_zoo.errors import ArtifactError, DecodeZooError, InputError
from decode_zoo.registries import fetch_text, join_registries, registry_places
from decode_zoo.registry import Registry, write_registry
from decode_zoo.store import Store
from tests.server import Server

SITES = Artifact("sites-v1", "features", "S", "L", "C", None, {"a.npz": FileEntry("a" * 64, 3)})
TISSUE = Artifact("tissue-v1", "model", "T", "L", "C", "sites-v1", {"b": FileEntry("b" * 64, 1)})
BUILTIN = Registry(
    {"sites-v1": SITES, "tissue-v1": TISSUE},
    ("https://zoo.example",),
    "tissue-v1",
    {"liver-v2": "tissue-v1"},
)
MINE = Artifact("mine-v1", "model", "M", "L", "C", "sites-v1", {"c.npz": FileEntry("c" * 64, 1)})


def text(*artifacts, folder, **kwargs):
    path = folder / "written.yaml"
    write_registry(Registry({a.id: a for a in artifacts}, (), **kwargs), path)  # type: ignore[arg-type]
    return path.read_bytes()


def other(artifact, digit):
    files = {name: FileEntry(digit * 64, 9) for name in artifact.files}
    return Artifact(artifact.id, artifact.kind, "X", "L", "C", artifact.features, files)


@pytest.fixture
def host():
    with Server({}, elsewhere="http://zoo.example") as server:
        yield server


@pytest.fixture
def url(host):
    return f"{host.url}/good/registry.yaml"


def serve(host, body):
    host.files = {"registry.yaml": body}


def join(cache, *places, offline=False):
    return join_registries(BUILTIN, places, cache, offline=offline)


def age(cache):
    """Make the copies old enough to be refreshed."""
    os.utime(copy_in(cache), (1, 1))


# --- files ---------------------------------------------------------------------------


def test_places_are_separated_as_mirrors_are(monkeypatch):
    assert registry_places() == ()
    monkeypatch.setenv("DECODE_ZOO_REGISTRY", " /a.yaml, https://x/r.yaml\t/a.yaml,,file:///b ")
    assert registry_places() == ("/a.yaml", "https://x/r.yaml", "file:///b")
    assert join_registries(BUILTIN, (), Path("none"), offline=False) is BUILTIN


@pytest.mark.parametrize("named", ["path", "file URL", "relative path"])
def test_registry_in_a_file_brings_its_folder_as_mirror(tmp_path, monkeypatch, named):
    zoo = tmp_path / "my zoo"
    zoo.mkdir()
    path = zoo / "registry.yaml"
    write_registry(Registry({"mine-v1": MINE}, ("https://lab.example",)), path)
    monkeypatch.chdir(zoo)
    place = {"path": str(path), "file URL": path.as_uri(), "relative path": "registry.yaml"}[named]
    joined = join(tmp_path, place)
    assert joined.resolve("mine") == MINE
    assert joined.origins["mine-v1"].place == str(path)
    assert joined.origins["mine-v1"].mirrors == (str(zoo), "https://lab.example")
    assert "tissue-v1" not in joined.origins
    assert (joined.mirrors, joined.default_model) == (BUILTIN.mirrors, "tissue-v1")


def test_each_artifact_is_asked_of_its_own_zoo(tmp_path):
    """The name of a lab's model is nobody else's business."""
    path = tmp_path / "r.yaml"
    path.write_bytes(text(MINE, folder=tmp_path))
    store = Store(join(tmp_path, str(path)), None, tmp_path, ("/first", "https://zoo.example"))
    assert store.mirrors_of(MINE) == ("/first", str(tmp_path))
    assert store.mirrors_of(TISSUE) == ("/first", "https://zoo.example")


def test_the_same_artifact_in_both_is_no_contradiction(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes(text(SITES, MINE, folder=tmp_path, same_as={"liver-v2": "tissue-v1"}))
    joined = join(tmp_path, str(path))
    assert set(joined.origins) == {"mine-v1"}
    assert joined.same_as == BUILTIN.same_as


@pytest.mark.fault
@pytest.mark.parametrize(
    ("artifacts", "same_as"),
    [
        ([other(TISSUE, "e")], {}),
        ([other(SITES, "e")], {}),
        ([MINE], {"tissue-v1": "mine-v1"}),
        ([MINE], {"liver-v2": "mine-v1"}),
        ([Artifact("liver-v2", "model", "L", "L", "C", None, MINE.files)], {}),
    ],
    ids=["model", "feature set", "second name", "other second name", "model for a second name"],
)
def test_no_registry_redefines_what_is_built_in(tmp_path, artifacts, same_as):
    path = tmp_path / "r.yaml"
    path.write_bytes(text(*artifacts, folder=tmp_path, same_as=same_as))
    with pytest.raises(InputError, match="another artifact of this name") as caught:
        join(tmp_path, str(path))
    assert str(caught.value).startswith(str(path))


@pytest.mark.fault
def test_two_registries_that_contradict_each_other_are_both_named(tmp_path):
    for name, artifact in (("a", MINE), ("b", other(MINE, "e"))):
        (tmp_path / name).write_bytes(text(artifact, folder=tmp_path))
    with pytest.raises(InputError, match=r"/b: .*registry /.*/a has another"):
        join(tmp_path, str(tmp_path / "a"), str(tmp_path / "b"))


@pytest.mark.fault
def test_a_higher_version_does_not_take_over_a_name(tmp_path):
    """Who asks for ``tissue`` gets decode-zoo's newest, whatever else is listed."""
    names = ("tissue-v99", "liver-v99", "mine-v2", "mine-v10")
    found = [Artifact(n, "model", "T", "L", "C", None, MINE.files) for n in names]
    (tmp_path / "r").write_bytes(text(*found, folder=tmp_path))
    later = Artifact("mine-v77", "model", "T", "L", "C", None, MINE.files)
    (tmp_path / "s").write_bytes(text(later, folder=tmp_path))
    joined = join(tmp_path, str(tmp_path / "r"), str(tmp_path / "s"))
    assert joined.resolve("tissue").id == "tissue-v1"
    assert joined.resolve("liver").id == "tissue-v1"
    assert joined.resolve("mine").id == "mine-v10"
    assert joined.resolve("tissue-v99").id == "tissue-v99"


@pytest.mark.fault
def test_registry_cannot_complete_one_before_it(tmp_path):
    """What a model reads is said by who lists the model, not by who comes later."""
    (tmp_path / "r").write_bytes(text(replace(MINE, features="late-v1"), folder=tmp_path))
    (tmp_path / "s").write_bytes(text(replace(SITES, id="late-v1"), folder=tmp_path))
    with pytest.raises(InputError, match="'late-v1' is no feature set here"):
        join(tmp_path, str(tmp_path / "r"), str(tmp_path / "s"))
    assert "mine-v1" in join(tmp_path, str(tmp_path / "s"), str(tmp_path / "r")).artifacts


@pytest.mark.fault
def test_password_in_the_place_of_a_registry_is_not_shown(tmp_path):
    with pytest.raises(InputError) as caught:
        join(tmp_path, "https://me:sec/secret@zoo.example/r.yaml?token=secret")
    assert "secret" not in str(caught.value)


@pytest.mark.fault
def test_a_model_without_its_feature_set_is_refused(tmp_path):
    lost = Artifact("mine-v1", "model", "M", "L", "C", "gone-v1", MINE.files)
    path = tmp_path / "r.yaml"
    path.write_bytes(text(lost, folder=tmp_path))
    with pytest.raises(InputError, match="'gone-v1' is no feature set here") as caught:
        join(tmp_path, str(path))
    assert str(caught.value).startswith(str(path))


@pytest.mark.fault
@pytest.mark.parametrize(
    "place",
    [
        "ftp://x/r.yaml",
        "http://zoo.example/r.yaml",
        "https://me:pw@x/r.yaml",
        "https://x/r?token=1",
        "file://host/r.yaml",
        "/none/registry.yaml",
        ".",
    ],
)
def test_places_that_no_registry_is_read_from(tmp_path, place):
    with pytest.raises(InputError):
        join(tmp_path, place)


# --- URLs ----------------------------------------------------------------------------


def test_registry_at_a_url_is_kept_and_not_asked_for_again_at_once(tmp_path, url, host):
    serve(host, text(MINE, folder=tmp_path))
    cache = tmp_path / "cache"
    first = join(cache, url)
    assert first.resolve("mine-v1") == MINE
    assert first.origins["mine-v1"].place == url
    assert first.origins["mine-v1"].mirrors == (url.removesuffix("/registry.yaml"),)
    assert join(cache, url) == first
    assert [request.target for request in host.requests] == ["/good/registry.yaml"]
    age(cache)
    serve(host, text(MINE, replace(MINE, id="mine-v2"), folder=tmp_path))
    assert join(cache, url).resolve("mine").id == "mine-v2"
    assert len(host.requests) == 2


# Ways of tests/server.py, and texts that are no registry.
BAD = {
    **{
        how: (how, b"format_version: 1")
        for how in ("missing", "page", "endless", "elsewhere", "to-file", "dripping", "packed")
    },
    "binary": ("good", bytes(range(256))),
    "cut off": ("good", b"format_version: 1\nmirrors: ["),
}


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(download, "_BACKOFF", 0.01)
    monkeypatch.setattr(download, "_TIMEOUT", (5.0, 0.5))
    monkeypatch.setattr(download, "_WINDOW", 0.5)


@pytest.mark.fault
@pytest.mark.parametrize("case", BAD)
def test_registry_that_cannot_be_had_is_an_error_of_ours(tmp_path, url, host, impatient, case):
    host.how, body = BAD[case]
    serve(host, body)
    with pytest.raises(DecodeZooError, match="registry"):
        join(tmp_path, url)
    assert not (tmp_path / "registries").exists()


@pytest.mark.fault
@pytest.mark.parametrize("case", ["missing", "page", "dripping", "cut off"])
def test_failed_refresh_leaves_the_last_good_copy(tmp_path, url, host, impatient, caplog, case):
    serve(host, text(MINE, folder=tmp_path))
    cache = tmp_path / "cache"
    good = join(cache, url)
    copy = copy_in(cache)
    content = copy.read_bytes()
    age(cache)
    host.how, body = BAD[case]
    serve(host, body)
    assert join(cache, url) == good
    assert "last good copy" in caplog.text
    assert copy_in(cache).read_bytes() == content
    asked = len(host.requests)
    assert join(cache, url) == good
    assert len(host.requests) == asked  # a host that fails is not asked at every command


MODEL = replace(MINE, id="mine-v2")
CHANGES = {
    "other files": ([other(MODEL, "e")], {"my-v1": "mine-v2"}),
    "another feature set": ([replace(MODEL, features="tiny-v1")], {"my-v1": "mine-v2"}),
    "no feature set": ([replace(MODEL, features=None)], {"my-v1": "mine-v2"}),
    "another kind": ([replace(MODEL, kind="features", features=None)], {"my-v1": "mine-v1"}),
    "another same_as": ([MODEL], {"my-v1": "mine-v1"}),
    "same_as instead of a model": ([], {"my-v1": "mine-v1", "mine-v2": "mine-v1"}),
    "model instead of a same_as": ([MODEL, replace(MODEL, id="my-v1")], {}),
}


@pytest.mark.fault
@pytest.mark.parametrize("gone", [False, True], ids=["at once", "after it was gone"])
@pytest.mark.parametrize("case", CHANGES)
def test_refresh_that_changes_what_an_id_means_is_refused(tmp_path, url, host, caplog, case, gone):
    cache, tiny = tmp_path / "cache", other(replace(SITES, id="tiny-v1"), "d")
    serve(host, text(MINE, tiny, MODEL, folder=tmp_path, same_as={"my-v1": "mine-v2"}))
    good = join(cache, url)
    age(cache)
    if gone:
        serve(host, text(MINE, tiny, folder=tmp_path))
        good = join(cache, url)
        assert "mine-v2" not in good.artifacts
        age(cache)
    artifacts, same_as = CHANGES[case]
    serve(host, text(MINE, tiny, *artifacts, folder=tmp_path, same_as=same_as))
    assert join(cache, url) == good
    assert "an id never changes its meaning" in caplog.text
    assert f"delete {copy_in(cache)}" in caplog.text


def test_id_may_come_back_with_the_meaning_that_it_had(tmp_path, url, host):
    for artifacts in ((MINE, MODEL), (MINE,), (MINE, replace(MODEL, title="In other words"))):
        serve(host, text(*artifacts, folder=tmp_path))
        assert len(join(tmp_path, url).artifacts) == 2 + len(artifacts)
        age(tmp_path)


def copy_in(cache):
    """The one copy of a registry."""
    (path,) = (path for path in (cache / "registries").rglob("*") if path.is_file())
    return path


def forge(copy, data):
    """Write a copy that is whole, as somebody else could."""
    kept = json.loads(copy.read_bytes().partition(b"\n")[2])
    body = json.dumps({**kept, "text": data.decode()}).encode()
    head = b"sha256 of what follows: " + hashlib.sha256(body).hexdigest().encode()
    copy.write_bytes(head + b"\n" + body)


@pytest.mark.fault
@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
@pytest.mark.parametrize(
    "how",
    [
        "writable for the group",
        "writable for all",
        "folder writable for the group",
        "a link",
        "of another registry",
        *(["of another user", "in the folder of another user"] if os.geteuid() == 0 else []),
    ],
)
def test_copy_that_another_can_have_written_is_not_used(tmp_path, url, host, how):
    """Who may write to a shared cache vouches for no registry."""
    serve(host, text(MINE, folder=tmp_path))
    cache = tmp_path / "cache"
    good = join(cache, url)
    copy = copy_in(cache)
    forge(copy, text(other(MINE, "e"), folder=tmp_path))
    assert join(cache, url, offline=True) != good  # so well is it forged
    if how.startswith("writable"):
        copy.chmod(0o664 if how.endswith("group") else 0o646)
    elif how == "folder writable for the group":
        copy.parent.chmod(0o770)
    elif how == "a link":
        copy.rename(tmp_path / "forged")
        copy.symlink_to(tmp_path / "forged")
    elif how == "of another registry":
        copy.write_bytes(copy.read_bytes().replace(b"/good/registry", b"/good/registrx"))
        body = copy.read_bytes().partition(b"\n")[2]
        head = b"sha256 of what follows: " + hashlib.sha256(body).hexdigest().encode()
        copy.write_bytes(head + b"\n" + body)
    elif how == "of another user":
        os.chown(copy, 54321, -1)
    else:
        os.chown(copy.parent, 54321, -1)
    with pytest.raises(ArtifactError, match="not in the cache"):
        join(cache, url, offline=True)
    assert join(cache, url) == good


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_each_user_of_a_shared_cache_has_copies_of_their_own(tmp_path, url, host, mask):
    serve(host, text(MINE, folder=tmp_path))
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o2775)
    before = os.umask(mask)
    try:
        good = join(cache, url)
    finally:
        os.umask(before)
    copy = copy_in(cache)
    assert copy.parent == cache / "registries" / str(os.geteuid())
    assert (copy.stat().st_mode & 0o777, copy.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    # Where the others make theirs.
    assert (cache / "registries").stat().st_mode & 0o2070 == 0o2070
    assert join(cache, url, offline=True) == good


@pytest.mark.fault
def test_damaged_copy_is_not_used(tmp_path, url, host):
    serve(host, text(MINE, folder=tmp_path))
    good = join(tmp_path, url)
    copy = copy_in(tmp_path)
    copy.write_bytes(copy.read_bytes().replace(b"cccc", b"cccd", 1))
    with pytest.raises(ArtifactError, match="not in the cache"):
        join(tmp_path, url, offline=True)
    assert join(tmp_path, url) == good
    assert len(host.requests) == 2
    assert join(tmp_path, url, offline=True) == good


def test_without_a_place_for_copies_a_registry_is_fetched_each_time(tmp_path, url, host):
    serve(host, text(MINE, folder=tmp_path))
    for _ in range(2):
        joined = join_registries(BUILTIN, (url,), None, offline=False)
        assert joined.resolve("mine-v1") == MINE
    assert len(host.requests) == 2
    with pytest.raises(ArtifactError, match="offline"):
        join_registries(BUILTIN, (url,), None, offline=True)


@pytest.mark.fault
def test_cache_that_cannot_be_written_does_not_stop_a_registry(tmp_path, url, host):
    serve(host, text(MINE, folder=tmp_path))
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    assert join(tmp_path / "cache", url).resolve("mine-v1") == MINE


@pytest.mark.fault
def test_offline_opens_no_socket_for_a_registry(tmp_path, url, host, monkeypatch):
    serve(host, text(MINE, folder=tmp_path))
    good = join(tmp_path, url)
    age(tmp_path)

    def refuse(*args, **kwargs):
        raise RuntimeError("a socket was opened")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    assert join(tmp_path, url, offline=True) == good
    with pytest.raises(ArtifactError, match="offline") as caught:
        join(tmp_path, f"{url}x", offline=True)
    assert "DECODE_ZOO_OFFLINE" in str(caught.value.remedy)
    assert len(host.requests) == 1


def test_redirects_on_the_same_footing_are_followed(host):
    serve(host, b"here")
    assert fetch_text(f"{host.url}/moved-for-good/registry.yaml", 10) == b"here"
    assert host.requests[-1].target == "/good/registry.yaml?signature=abc"


@pytest.mark.fault
def test_what_a_signed_redirect_is_signed_with_is_not_shown(host):
    serve(host, b"")
    with pytest.raises(ArtifactError, match=r"404.*registry\.yaml\?\*\*\*") as caught:
        fetch_text(f"{host.url}/moved-to-nothing/registry.yaml", 10)
    assert "secret" not in str(caught.value)
