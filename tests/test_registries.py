"""Registries of the user's own: files, URLs, copies of them, and what they may not do."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from dataclasses import replace

import pytest

from decode_zoo.core.errors import ArtifactError, DecodeZooError, InputError
from decode_zoo.zoo import download
from decode_zoo.zoo.artifact import Artifact, FileEntry
from decode_zoo.zoo.registry import Origin, Registry, write_registry
from decode_zoo.zoo.remote import join_registries, registry_places
from decode_zoo.zoo.store import Store
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


def other(artifact, digit="e"):
    files = {name: FileEntry(digit * 64, 9) for name in artifact.files}
    return replace(artifact, title="X", files=files)


@pytest.fixture
def host():
    with Server({}, elsewhere="http://zoo.example") as server:
        yield server


@pytest.fixture
def url(host):
    return f"{host.url}/good/registry.yaml"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def write(tmp_path):
    """Write a registry of artifacts to a file."""

    def write(*artifacts, name="r.yaml", mirrors=(), same_as=None):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        write_registry(Registry({a.id: a for a in artifacts}, mirrors, None, same_as or {}), path)
        return path

    return write


@pytest.fixture
def serve(host, write):
    """Let the host have a registry of artifacts."""

    def serve(*artifacts, **named):
        host.files = {"registry.yaml": write(*artifacts, name="served.yaml", **named).read_bytes()}

    return serve


def join(cache, *places, offline=False):
    return join_registries(BUILTIN, tuple(map(str, places)), cache, offline=offline)


def copy_in(cache):
    """The one copy of a registry."""
    (path,) = (path for path in (cache / "registries").rglob("*") if path.is_file())
    return path


def age(cache):
    """Make the copy old enough to be refreshed."""
    os.utime(copy_in(cache), (1, 1))


# --- files ---------------------------------------------------------------------------


def test_places_are_separated_as_mirrors_are(cache, monkeypatch):
    monkeypatch.setenv("DECODE_ZOO_REGISTRY", " /a.yaml, https://x/r.yaml\t/a.yaml,,file:///b ")
    assert registry_places() == ("/a.yaml", "https://x/r.yaml", "file:///b")


@pytest.mark.parametrize("named", ["path", "file URL", "relative path"])
def test_registry_in_a_file_brings_its_folder_as_mirror(cache, write, monkeypatch, named):
    path = write(MINE, name="my zoo/registry.yaml", mirrors=("https://lab.example",))
    monkeypatch.chdir(path.parent)
    joined = join(cache, {"path": path, "file URL": path.as_uri()}.get(named, path.name))
    assert joined.resolve("mine") == MINE
    mirrors = (str(path.parent), "https://lab.example")
    assert joined.origins == {"mine-v1": Origin(str(path), mirrors)}
    assert (joined.mirrors, joined.default_model) == (BUILTIN.mirrors, "tissue-v1")
    # Each artifact is asked of its own zoo: the name of a lab's model is nobody else's business.
    store = Store(joined, None, cache, ("/first", "https://zoo.example"))
    assert store.mirrors_of(MINE) == ("/first", *mirrors)
    assert store.mirrors_of(TISSUE) == ("/first", "https://zoo.example")


def test_the_same_artifact_in_both_is_no_contradiction(cache, write):
    joined = join(cache, write(SITES, MINE, same_as={"liver-v2": "tissue-v1"}))
    assert set(joined.origins) == {"mine-v1"}
    assert joined.same_as == BUILTIN.same_as


@pytest.mark.fault
@pytest.mark.parametrize(
    ("artifact", "same_as"),
    [
        (other(TISSUE), {}),
        (other(SITES), {}),
        (MINE, {"tissue-v1": "mine-v1"}),
        (MINE, {"liver-v2": "mine-v1"}),
        (replace(MINE, id="liver-v2"), {}),
    ],
    ids=["model", "feature set", "second name", "other second name", "model for a second name"],
)
def test_no_registry_redefines_what_is_built_in(cache, write, artifact, same_as):
    path = write(artifact, same_as=same_as)
    with pytest.raises(InputError, match=f"{path}: .*of decode-zoo has another artifact of this"):
        join(cache, path)


@pytest.mark.fault
def test_two_registries_that_contradict_each_other_are_both_named(cache, write):
    with pytest.raises(InputError, match=r"/b: .*registry /.*/a has another"):
        join(cache, write(MINE, name="a"), write(other(MINE), name="b"))


@pytest.mark.fault
def test_a_higher_version_does_not_take_over_a_name(cache, write):
    """Who asks for ``tissue`` gets decode-zoo's newest, whatever else is listed."""
    names = ("tissue-v99", "liver-v99", "mine-v2", "mine-v10")
    first = write(*(replace(MINE, id=name) for name in names))
    joined = join(cache, first, write(replace(MINE, id="mine-v77"), name="s"))
    assert joined.resolve("tissue").id == "tissue-v1"
    assert joined.resolve("liver").id == "tissue-v1"
    assert joined.resolve("mine").id == "mine-v10"
    assert joined.resolve("tissue-v99").id == "tissue-v99"


@pytest.mark.fault
def test_registry_cannot_complete_one_before_it(cache, write):
    """What a model reads is said by who lists the model, not by who comes later."""
    model = write(replace(MINE, features="late-v1"))
    features = write(replace(SITES, id="late-v1"), name="s")
    with pytest.raises(InputError, match=f"{model}: .*'late-v1' is no feature set here"):
        join(cache, model, features)
    assert "mine-v1" in join(cache, features, model).artifacts


@pytest.mark.fault
@pytest.mark.parametrize(
    "place",
    [
        "ftp://x/r.yaml",
        "http://zoo.example/r.yaml",
        "https://me:sec/secret@zoo.example/r.yaml?token=secret",
        "file://host/r.yaml",
        "~nosuch/r.yaml",
        "/none/registry.yaml",
        ".",
    ],
)
def test_places_that_no_registry_is_read_from(cache, place):
    with pytest.raises(InputError) as caught:
        join(cache, place)
    assert "secret" not in str(caught.value)


# --- URLs ----------------------------------------------------------------------------


def test_registry_at_a_url_is_kept_and_not_asked_for_again_at_once(cache, url, host, serve):
    serve(MINE)
    first = join(cache, url)
    assert first.artifacts == {**BUILTIN.artifacts, "mine-v1": MINE}
    assert first.origins == {"mine-v1": Origin(url, (url.removesuffix("/registry.yaml"),))}
    assert join(cache, url) == first
    assert [request.target for request in host.requests] == ["/good/registry.yaml"]
    age(cache)
    serve(MINE, MODEL)
    assert join(cache, url).resolve("mine") == MODEL
    assert len(host.requests) == 2


# Ways of tests/server.py, and texts that are no registry.
# Ways of tests/server.py, and texts that are no registry.
# Ways of tests/server.py, and a text that is no registry.
BAD = ["missing", "page", "endless", "elsewhere", "to-file", "dripping", "packed", "cut off"]


@pytest.mark.fault
@pytest.mark.parametrize("how", BAD)
def test_registry_that_cannot_be_had_is_an_error_and_a_good_copy_stays(
    cache, url, host, serve, monkeypatch, caplog, how
):
    monkeypatch.setattr(download, "_WINDOW", 0.5)
    serve(MINE)
    good = join(cache, url)
    content = copy_in(cache).read_bytes()
    age(cache)
    if how == "cut off":
        host.files = {"registry.yaml": b"format_version: 1\nmirrors: ["}
    else:
        host.how = how
    with pytest.raises(DecodeZooError, match="registry"):
        join(cache.with_name("other"), url)
    assert not (cache.with_name("other") / "registries").exists()
    assert join(cache, url) == good
    assert "last good copy" in caplog.text
    assert copy_in(cache).read_bytes() == content
    asked = len(host.requests)
    assert join(cache, url) == good
    assert len(host.requests) == asked  # a host that fails is not asked at every command


MODEL = replace(MINE, id="mine-v2")
TINY = replace(SITES, id="tiny-v1")
SECOND = {"my-v1": "mine-v2"}
CHANGES = {
    "other files": ([other(MODEL)], SECOND),
    "another feature set": ([replace(MODEL, features="tiny-v1")], SECOND),
    "another kind": ([replace(MODEL, kind="features", features=None)], SECOND),
    "another same_as": ([MODEL], {"my-v1": "mine-v1"}),
    "same_as instead of a model": ([], {"my-v1": "mine-v1", "mine-v2": "mine-v1"}),
    "model instead of a same_as": ([MODEL, replace(MODEL, id="my-v1")], {}),
}


@pytest.mark.fault
@pytest.mark.parametrize("gone", [False, True], ids=["at once", "after it was gone"])
@pytest.mark.parametrize(("artifacts", "same_as"), CHANGES.values(), ids=CHANGES)
def test_refresh_that_changes_what_an_id_means_is_refused(
    cache, url, serve, caplog, artifacts, same_as, gone
):
    serve(MINE, TINY, MODEL, same_as=SECOND)
    good = join(cache, url)
    age(cache)
    if gone:
        serve(MINE, TINY)
        good = join(cache, url)
        assert "mine-v2" not in good.artifacts
        age(cache)
    serve(MINE, TINY, *artifacts, same_as=same_as)
    assert join(cache, url) == good
    assert "an id never changes its meaning" in caplog.text
    assert f"delete {copy_in(cache)}" in caplog.text


def test_id_may_come_back_with_the_meaning_that_it_had(cache, url, serve):
    for artifacts in ((MINE, MODEL), (MINE,), (MINE, replace(MODEL, title="In other words"))):
        serve(*artifacts)
        assert len(join(cache, url).artifacts) == 2 + len(artifacts)
        age(cache)


def forge(copy, **change):
    """Write a copy that is whole, as somebody else could."""
    body = json.dumps({**json.loads(copy.read_bytes().partition(b"\n")[2]), **change}).encode()
    head = b"sha256 of what follows: " + hashlib.sha256(body).hexdigest().encode()
    copy.write_bytes(head + b"\n" + body)


def link(copy):
    copy.rename(copy.with_name("forged"))
    copy.symlink_to("forged")


FORGERIES = {
    "writable for others": lambda copy: copy.chmod(0o646),
    "in a folder writable for the group": lambda copy: copy.parent.chmod(0o770),
    "a link": link,
    "of another registry": lambda copy: forge(copy, url="https://zoo.example/r.yaml"),
    "of another user": lambda copy: os.chown(copy, 54321, -1),
    "in the folder of another user": lambda copy: os.chown(copy.parent, 54321, -1),
    "damaged": lambda copy: copy.write_bytes(copy.read_bytes().replace(b"mine", b"nine", 1)),
}


@pytest.mark.fault
@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
@pytest.mark.parametrize("how", FORGERIES)
def test_copy_that_is_damaged_or_another_can_have_written_is_not_used(
    cache, url, host, serve, write, how
):
    """Who may write to a shared cache vouches for no registry."""
    if "another user" in how and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    serve(MINE)
    good = join(cache, url)
    copy = copy_in(cache)
    forge(copy, text=write(other(MINE)).read_text())
    assert join(cache, url, offline=True) != good  # so well is it forged
    FORGERIES[how](copy)
    with pytest.raises(ArtifactError, match="not in the cache"):
        join(cache, url, offline=True)
    assert join(cache, url) == good
    assert len(host.requests) == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_each_user_of_a_shared_cache_has_copies_of_their_own(cache, url, serve, mask):
    serve(MINE)
    cache.mkdir()
    cache.chmod(0o2775)
    before = os.umask(mask)
    try:
        join(cache, url)
    finally:
        os.umask(before)
    copy = copy_in(cache)
    assert copy.parent == cache / "registries" / str(os.geteuid())
    assert (copy.stat().st_mode & 0o777, copy.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    # Where the others make theirs.
    assert (cache / "registries").stat().st_mode & 0o2070 == 0o2070


@pytest.mark.fault
@pytest.mark.parametrize("there", [True, False])
def test_without_copies_a_registry_is_fetched_each_time(cache, url, host, serve, there):
    serve(MINE)
    cache.write_bytes(b"a file where the folder should be")
    place = cache if there else None
    for _ in range(2):
        assert join(place, url).resolve("mine-v1") == MINE
    assert len(host.requests) == 2


@pytest.mark.fault
def test_offline_opens_no_socket_for_a_registry(cache, url, host, serve, monkeypatch):
    serve(MINE)
    good = join(cache, url)
    age(cache)
    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, None)
    assert join(cache, url, offline=True) == good
    with pytest.raises(ArtifactError, match="offline") as caught:
        join(cache, f"{url}x", offline=True)
    assert "DECODE_ZOO_OFFLINE" in str(caught.value.remedy)
    assert len(host.requests) == 1
