"""The cache: what is in it, cleaning it, carrying it to another site."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from decode_zoo.core import files
from decode_zoo.core.errors import ArtifactError, VerificationError
from decode_zoo.zoo import archive as archive
from decode_zoo.zoo.archive import pack, unpack
from decode_zoo.zoo.artifact import Artifact
from decode_zoo.zoo.cache import clean, removable, survey
from decode_zoo.zoo.registry import Registry, load_registry, write_registry
from decode_zoo.zoo.store import Store
from tests.test_store import entry

ROOT = Path(__file__).resolve().parents[1]
CONTENT = {
    "features/sites-v1/features.json": b'{"format_version":1}\n',
    "features/sites-v1/pooled.npz": bytes(range(256)) * 8,
    "features/sites-v1/sites.npz": bytes(3000),
    "models/tissue-v1/manifest.json": b'{\n "format_version": 1\n}\n',
    "models/tissue-v1/weights.npz": bytes(range(256)) * 20,
}
MANIFEST, WEIGHTS = "models/tissue-v1/manifest.json", "models/tissue-v1/weights.npz"
OLD = "models/old-v1"
HALF = "models/tissue-v1/.weights.npz.ffffffff-1-0123456789abcdef.part"
DAY = 86_400


def artifact(id_, kind, features):
    files = {Path(p).name: entry(data) for p, data in CONTENT.items() if f"/{id_}/" in p}
    return Artifact(id_, kind, "Title", "CC0-1.0", "none", features, files)


REGISTRY = Registry(
    {
        "sites-v1": artifact("sites-v1", "features", None),
        "tissue-v1": artifact("tissue-v1", "model", "sites-v1"),
    },
    mirrors=("https://zoo.example",),
    default_model="tissue-v1",
    same_as={"tissue-v2": "tissue-v1"},
)


def lay_out(root: Path, content: dict[str, bytes]) -> Path:
    for place, data in content.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(data)
    return root


def places(root: Path) -> list[str]:
    """Files and links, by their place in a folder."""
    found = (path for path in root.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(root).as_posix() for path in found)


def states(store):
    return {f.path.relative_to(store.cache).as_posix(): f.state for f in survey(store)}


def age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.fixture
def use(monkeypatch):
    """Let the command line use a store."""
    return lambda store: monkeypatch.setattr(Store, "default", lambda: store)


@pytest.fixture
def store(tmp_path, monkeypatch, use):
    """A small zoo in which nothing is here; the command line uses it too."""
    store = Store(REGISTRY, None, tmp_path / "cache", REGISTRY.mirrors, offline=True)
    use(store)
    monkeypatch.setenv("DECODE_ZOO_CACHE", str(store.cache))
    return store


@pytest.fixture
def full(store):
    """The same with everything in the cache."""
    lay_out(store.cache, CONTENT)
    return store


@pytest.fixture
def carried(tmp_path):
    """A folder as it comes from another site."""
    return lay_out(tmp_path / "carried", CONTENT)


def linked(path):
    """Put a link in the place of a file or folder, to where that is now."""
    path.rename(path.with_name("other"))
    path.symlink_to("other")


# --- path and ls -------------------------------------------------------------------


def test_path_is_printed_though_nothing_is_there(call, store):
    assert call("cache", "path") == (0, f"{store.cache}\n", "")
    assert not store.cache.exists()
    store.cache.write_bytes(b"")  # a cache that is a file is listed as empty
    code, out, _ = call("cache", "ls")
    assert (code, out.count("\n")) == (0, 1)


def test_ls_tells_the_state_of_each_file_and_no_control_characters(call, full):
    more = {f"{OLD}/features.json": b"{}", f"{OLD}/\x1b[2Jnotes": b"", "models/\x1b]0;x\x07/a": b""}
    lay_out(full.cache, {WEIGHTS: bytes(5120), **more})
    age(full.cache / "features/sites-v1/sites.npz", 3 * DAY)
    code, out, err = call("cache", "ls")
    assert (code, err) == (0, "")
    rows = [line.split("\t") for line in out.splitlines()]
    assert rows[0] == ["artifact", "file", "size", "state", "age", "registered"]
    assert ["tissue-v1", "weights.npz", "0.0 MB", "damaged", "0 min", "yes"] in rows
    assert ["sites-v1", "sites.npz", "0.0 MB", "verified", "3 d", "yes"] in rows
    assert ["old-v1", "features.json", "0.0 MB", "foreign", "0 min", "no"] in rows
    assert len(rows) == 9
    assert "\x1b" not in out
    assert "\\x1b[2Jnotes" in out


@pytest.mark.fault
def test_cache_that_cannot_be_read_is_an_error_of_ours(call, full, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files.os, "scandir", refuse)
    code, _, err = call("cache", "ls")
    assert (code, "DECODE_ZOO_CACHE" in err) == (3, True)


# --- clean -------------------------------------------------------------------------


@pytest.fixture
def messy(full, tmp_path):
    """Everything that a cache can hold."""
    lay_out(
        full.cache,
        {
            "features/sites-v1/pooled.npz": b"!",
            f"{OLD}/manifest.json": b'{"format_version": 1, "id": "old-v1"}',
            f"{OLD}/weights.npz": b"old",
            HALF: b"half",
            **dict.fromkeys(MINE - {"models/linked-v1", f"{OLD}/link.npz"}, b"mine"),
            "models/Strange Name/manifest.json": b'{"format_version": 1}',
        },
    )
    age(full.cache / HALF, 2 * DAY)
    outside = lay_out(tmp_path / "outside", {"manifest.json": b'{"format_version": 1}'})
    (full.cache / "models/linked-v1").symlink_to(outside)
    (full.cache / OLD / "link.npz").symlink_to(outside / "manifest.json")
    return full


RUBBISH = {"features/sites-v1/pooled.npz", HALF}
UNREGISTERED = {f"{OLD}/manifest.json", f"{OLD}/weights.npz"}
MINE = {
    "models/tissue-v1/.manifest.json.00000000-1-0123456789abcdef.part",  # under way
    "models/tissue-v1/notes.txt",
    "models/tissue-v1/.draft.part",
    "models/llama/model.onnx",
    "models/Strange Name/manifest.json",
    "models/readme",
    "thesis.tex",
    "registries/x.yaml",
    f"{OLD}/link.npz",
    "models/linked-v1",
}


@pytest.mark.fault
@pytest.mark.parametrize(
    ("options", "gone"),
    [
        ([], RUBBISH),
        (["--older-than", "0m"], {*RUBBISH, *CONTENT}),
        (["--older-than", "30d"], {*RUBBISH, WEIGHTS}),
        (["tissue-v2"], {HALF, WEIGHTS, MANIFEST}),  # a second name
        (["old-v1"], UNREGISTERED),  # that only the cache knows
        (["old-v1", "--older-than", "8w"], {f"{OLD}/weights.npz"}),
        (["--all"], {*RUBBISH, *CONTENT, *UNREGISTERED}),
    ],
)
def test_clean_removes_what_nobody_can_use_and_what_was_asked_for(
    call, messy, tmp_path, options, gone
):
    age(messy.cache / WEIGHTS, 31 * DAY)
    age(messy.cache / "features/sites-v1/sites.npz", 29 * DAY)
    age(messy.cache / OLD / "weights.npz", 57 * DAY)
    before = set(places(messy.cache))
    code, would, err = call("cache", "clean", "--dry-run", *options)
    assert (code, "would be removed" in err) == (0, True)
    assert set(places(messy.cache)) == before
    code, out, err = call("cache", "clean", *options)
    assert (code, out) == (0, would)
    assert before - set(places(messy.cache)) == gone
    printed = {line.split("\t")[0] for line in out.splitlines()}
    assert printed == {str(messy.cache / place) for place in gone}
    assert f"{len(gone)} files, 0.0 MB removed from {messy.cache}." in err
    # What others made is never touched, nor is a link followed.
    assert set(places(messy.cache)) >= MINE
    assert (tmp_path / "outside/manifest.json").exists()
    assert "Left: 1 files, 0.0 MB of downloads under way." in err
    assert "Left: 7 files, 0.0 MB not made by decode-zoo, or links." in err
    zoo = "Left: 2 files, 0.0 MB of artifacts that no registry in use has"
    assert (zoo in err) == (not gone & UNREGISTERED)
    folder = messy.cache / "features/sites-v1"
    assert folder.exists() == any(folder.glob("*"))  # no empty one stays


@pytest.mark.fault
def test_clean_follows_no_link_to_another_folder(store, carried):
    store.cache.mkdir()
    (store.cache / "models").symlink_to(carried / "models")
    clean(removable(survey(store), everything=True))
    assert places(carried) == sorted(CONTENT)
    assert (store.cache / "models").is_symlink()


@pytest.mark.fault
def test_bundled_files_neither_hide_cached_ones_nor_are_touched(store, carried):
    lay_out(store.cache, {WEIGHTS: bytes(5120)})
    clean(removable(survey(replace(store, bundled=carried)), everything=True))
    assert places(carried) == sorted(CONTENT)
    assert places(store.cache) == []


@pytest.mark.parametrize(
    ("code", "args"),
    [
        (2, ["--all", "tissue-v1"]),
        (2, ["--all", "--older-than", "1d"]),
        (3, ["tisue-v1"]),
        *((2, ["--older-than", odd]) for odd in ("30", "-3d", "1.5d", "nand", "9999999d", "")),
    ],
)
def test_contradictions_and_unknown_names_are_refused(call, messy, code, args):
    before = places(messy.cache)
    assert call("cache", "clean", *args)[0] == code
    assert places(messy.cache) == before


@pytest.mark.fault
def test_files_that_cannot_be_removed_are_named_and_the_others_go(call, messy, monkeypatch):
    unlink = Path.unlink

    def refuse(path, missing_ok=False):
        if path.name == "pooled.npz":
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    code, _, err = call("cache", "clean")
    assert code == 3
    assert "1 files of the cache could not be removed" in err
    assert "pooled.npz: Permission denied" in err
    assert not (messy.cache / HALF).exists()


@pytest.mark.fault
@pytest.mark.parametrize(
    ("make", "state", "words"),
    [
        (Path.mkdir, "in the way", "folders where files should be: remove them yourself"),
        (os.mkfifo, "foreign", "not made by decode-zoo"),
        (Path.touch, "unreadable", "that you may not read"),  # and may be good
    ],
)
def test_what_is_strange_in_the_place_of_a_file_is_left(
    call, full, monkeypatch, make, state, words
):
    instead(make)(full.cache / WEIGHTS)
    (full.cache / OLD).mkdir()
    os.mkfifo(full.cache / OLD / "manifest.json")  # not waited for
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "weights.npz")
    assert states(full)[WEIGHTS] == state
    code, _, err = call("cache", "clean", "--all")
    assert (code, words in err) == (0, True)
    assert os.path.lexists(full.cache / WEIGHTS)
    assert os.path.lexists(full.cache / OLD / "manifest.json")


# --- export ------------------------------------------------------------------------


def test_export_is_a_mirror_with_a_registry_and_an_import_of_it_the_same_cache(
    call, full, tmp_path
):
    usb = tmp_path / "usb, of a lab"
    code, out, err = call("cache", "export", usb)
    assert (code, out.splitlines()[-1]) == (0, f"{WEIGHTS}\t0.0 MB")
    assert f"5 files, 0.0 MB in {usb}" in err
    assert places(usb) == [*sorted(CONTENT), "registry.yaml"]
    registry = load_registry(usb / "registry.yaml")
    assert registry == replace(REGISTRY, mirrors=())
    elsewhere = Store(registry, None, tmp_path / "elsewhere", (str(usb),), True)
    assert elsewhere.locate("tissue", "weights.npz").read_bytes() == CONTENT[WEIGHTS]
    there = replace(full, cache=tmp_path / "there")
    unpack(there, usb)
    assert {place: (there.cache / place).read_bytes() for place in places(there.cache)} == CONTENT


def test_export_takes_bundled_files_and_says_what_is_not_here(call, store, use, tmp_path):
    lay_out(store.cache, {WEIGHTS: CONTENT[WEIGHTS]})
    use(replace(store, bundled=lay_out(tmp_path / "bundled", {MANIFEST: CONTENT[MANIFEST]})))
    code, _, err = call("cache", "export", tmp_path / "usb")
    assert code == 0
    assert places(tmp_path / "usb") == [MANIFEST, WEIGHTS, "registry.yaml"]
    assert "Not here, so not in it: features/sites-v1/features.json" in err


def test_export_of_a_model_takes_its_features_along_and_of_features_no_model(full, tmp_path):
    pack(full, tmp_path / "part", ["sites-v1"])
    part = load_registry(tmp_path / "part/registry.yaml")
    assert (set(part.artifacts), part.default_model, part.same_as) == ({"sites-v1"}, None, {})
    (full.cache / "features/sites-v1/sites.npz").unlink()
    done = pack(full, tmp_path / "usb", ["tissue", "tissue-v1"])
    assert done.left_out == ("features/sites-v1/sites.npz",)
    assert len(done.files) == 4
    for offline, remedy in ((False, "decode-zoo fetch sites-v1"), (True, "cache import DIR")):
        with pytest.raises(ArtifactError, match=rf"sites\.npz[\s\S]*{remedy}"):
            pack(replace(full, offline=offline), tmp_path / "three", ["sites-v1"])
    assert not (tmp_path / "three").exists()


@pytest.mark.fault
@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        ({**CONTENT, WEIGHTS: bytes(5120)}, 5, "weights.npz is not the published file"),
        (CONTENT, 2, "No space left on device"),
        ({}, 3, "decode-zoo cache import DIR"),  # nothing is here; offline, as the store is
    ],
    ids=["damaged", "full disk", "nothing here"],
)
def test_export_that_fails_leaves_no_folder(
    call, store, tmp_path, monkeypatch, content, code, words
):
    def full_disk(source, target, entry, advance):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    lay_out(store.cache, content)
    if code == 2:
        monkeypatch.setattr(archive, "transfer", full_disk)
    before = list(tmp_path.iterdir())
    found, out, err = call("cache", "export", tmp_path / "usb")
    assert (found, out, words in err) == (code, "", True)
    assert list(tmp_path.iterdir()) == before


@pytest.mark.fault
@pytest.mark.parametrize(
    "make",
    [
        Path.touch,
        lambda path: lay_out(path, {"mine": b""}),
        lambda path: path.symlink_to("nothing"),
        lambda path: path.parent.rmdir(),
    ],
    ids=["file", "full folder", "link to nothing", "no parent"],
)
def test_export_replaces_nothing(call, full, tmp_path, make):
    target = tmp_path / "disk" / "usb"
    target.parent.mkdir()
    make(target)
    before = places(tmp_path)
    code, _, err = call("cache", "export", target)
    assert (code, str(target) in err) == (2, True)
    assert places(tmp_path) == before


@pytest.mark.fault
def test_export_whose_folder_was_forgotten_makes_none(call, full, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("tissue-v2", "sites"):
        code, out, err = call("cache", "export", name)
        assert (code, out) == (2, "")
        assert f"decode-zoo cache export DIR {name}" in err
        assert not (tmp_path / name).exists()
    assert call("cache", "export", "./sites")[0] == 0
    assert (tmp_path / "sites").is_dir()


# --- import ------------------------------------------------------------------------


def test_import_takes_verified_files_once_and_opens_no_socket(call, store, carried, monkeypatch):
    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, None)
    code, out, err = call("cache", "import", carried)
    assert (code, out.count("\n"), "5 files verified and taken into" in err) == (0, 5, True)
    assert places(store.cache) == sorted(CONTENT)
    kept = [(store.cache / place).stat().st_mtime_ns for place in CONTENT]
    code, out, err = call("cache", "import", carried)
    assert (code, out, "5 verified and here already" in err) == (0, "", True)
    assert [(store.cache / place).stat().st_mtime_ns for place in CONTENT] == kept


def test_import_heals_a_damaged_cache_and_leaves_bundled_files_out(store, tmp_path, carried):
    lay_out(store.cache, {WEIGHTS: b"!"})
    bundled = lay_out(tmp_path / "bundled", {MANIFEST: CONTENT[MANIFEST]})
    done = unpack(replace(store, bundled=bundled), carried)
    assert done.here == (MANIFEST,)
    assert (store.cache / WEIGHTS).read_bytes() == CONTENT[WEIGHTS]
    assert not (store.cache / MANIFEST).exists()


@pytest.mark.fault
def test_what_the_registry_does_not_know_is_not_taken(call, store, carried):
    unknown = ("models/evil-v1/manifest.json", "models/tissue-v1/extra.npz", "models/\x1b[2J/a")
    lay_out(carried, dict.fromkeys((*unknown, "registry.yaml"), b"artifacts: {evil-v1: {}}"))
    code, _, err = call("cache", "import", carried)
    assert code == 0
    assert "Not in the registry, so not looked at: " in err
    assert "models/evil-v1" in err
    assert "\x1b" not in err
    assert places(store.cache) == sorted(CONTENT)


@pytest.mark.fault
def test_import_of_an_incomplete_parcel_names_what_is_missing(call, full, tmp_path):
    pack(full, tmp_path / "usb")
    gone = [MANIFEST, WEIGHTS]  # all of the model: only the parcel's registry lists it
    for place in gone:
        (tmp_path / "usb" / place).unlink()
        (full.cache / place).unlink()
    code, _, err = call("cache", "import", tmp_path / "usb")
    assert (code, f"Not in it, and not here: {', '.join(gone)}.\n" in err) == (0, True)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("folder", "known", "code"), [("lab", ["sites-v1"], 0), ("a lab, of ours", [], 4)]
)
def test_import_from_a_zoo_that_is_not_known_here_names_its_registry(
    call, store, use, tmp_path, monkeypatch, folder, known, code
):
    usb = lay_out(tmp_path / folder, CONTENT)
    path = usb / "registry.yaml"
    write_registry(replace(REGISTRY, mirrors=()), path)
    use(replace(store, registry=Registry({id_: REGISTRY.artifacts[id_] for id_ in known}, ())))
    found, _, err = call("cache", "import", usb)
    assert (found, "models/tissue-v1" in err) == (code, True)
    named = path.as_uri() if " " in folder else str(path)
    assert f"DECODE_ZOO_REGISTRY={named}\n" in err
    monkeypatch.undo()
    monkeypatch.setenv("DECODE_ZOO_REGISTRY", named)
    monkeypatch.setenv("DECODE_ZOO_CACHE", str(store.cache))
    assert call("cache", "import", usb)[0] == 0
    assert places(store.cache) == sorted(CONTENT)


@pytest.mark.fault
@pytest.mark.parametrize(
    "make",
    [lambda path: path.symlink_to("/dev/zero"), os.mkfifo, lambda path: path.write_bytes(b"[")],
)
def test_registry_in_a_parcel_is_only_a_hint(call, store, carried, make):
    make(carried / "registry.yaml")
    (carried / WEIGHTS).unlink()
    code, _, err = call("cache", "import", carried)
    assert code == 0
    assert f"Not in it, and not here: {WEIGHTS}.\n" in err  # of an artifact that is begun


@pytest.mark.fault
def test_import_replaces_what_may_not_be_read_and_no_folder(call, store, carried, monkeypatch):
    store.cache.write_bytes(b"mine")
    code, _, err = call("cache", "import", carried)
    assert (code, "cannot be written" in err, store.cache.read_bytes()) == (3, True, b"mine")
    store.cache.unlink()
    path = store.cache / WEIGHTS
    path.mkdir(parents=True)
    code, _, err = call("cache", "import", carried)
    assert code == 3
    assert err.endswith(f"Remove the folder {path}.\n")
    path.rmdir()
    path.write_bytes(b"closed")
    access = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: Path(p) != path and access(p, mode))
    assert call("cache", "import", carried)[0] == 0
    assert path.read_bytes() == CONTENT[WEIGHTS]


def instead(make):
    """Return what puts something else in the place of a file."""

    def change(path):
        path.unlink()
        make(path)

    return change


def as_file(path):
    path.rename(path.with_name("other"))
    path.touch()


WRONG = {
    "other bytes": (WEIGHTS, lambda path: path.write_bytes(bytes(5120)), "expected sha256"),
    # A hole, not a terabyte: the size is looked at before anything is read.
    "a terabyte": (WEIGHTS, lambda path: os.truncate(path, 1 << 40), "expected 5120 bytes, got 1"),
    "a link": (WEIGHTS, linked, "a symbolic link, no ordinary file"),
    "a folder": (WEIGHTS, instead(Path.mkdir), "a folder, no ordinary file"),
    "a named pipe": (WEIGHTS, instead(os.mkfifo), "a named pipe, no ordinary file"),
    "a linked folder": ("models", linked, "a symbolic link, no folder"),
    "a linked artifact": ("models/tissue-v1", linked, "a symbolic link, no folder"),
    "a file as folder": ("models", as_file, "a file, no folder"),
}


@pytest.mark.fault
@pytest.mark.parametrize(("place", "change", "reason"), WRONG.values(), ids=WRONG)
def test_import_with_one_wrong_file_takes_nothing_and_does_not_wait(
    call, store, carried, place, change, reason
):
    change(carried / place)
    other = "features/sites-v1/features.json"
    (carried / other).write_bytes(b"?")
    code, out, err = call("cache", "import", carried)
    assert (code, out) == (5, "")
    assert f"\n  {place}: {reason}" in err
    assert f"\n  {other}: expected" in err  # all are named
    assert not store.cache.exists()


@pytest.mark.fault
@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/dev/zero"), os.mkfifo])
def test_file_exchanged_after_it_was_looked_at_is_refused(store, carried, monkeypatch, make):
    path = carried / WEIGHTS
    lstat = os.lstat

    def exchange(asked, *args, **kwargs):
        status = lstat(asked, *args, **kwargs)
        if Path(asked) == path and not path.is_symlink() and path.is_file():
            instead(make)(path)
        return status

    monkeypatch.setattr(files.os, "lstat", exchange)
    monkeypatch.setattr(os.path, "lexists", lambda path: True)
    with pytest.raises(VerificationError, match=r"weights\.npz: "):
        unpack(store, carried)
    assert not store.cache.exists()


@pytest.mark.fault
@pytest.mark.parametrize(
    ("code", "words"), [(5, "changed while it was copied"), (3, "No space left on device")]
)
def test_import_that_fails_on_its_way_leaves_only_whole_files(
    call, store, carried, monkeypatch, code, words
):
    transfer = archive.transfer

    def fail(source, target, entry, advance):
        if source.endswith("weights.npz"):
            if code == 3:
                raise OSError(28, words)
            Path(source).write_bytes(bytes(5120))
        transfer(source, target, entry, advance)

    monkeypatch.setattr(archive, "transfer", fail)
    found, _, err = call("cache", "import", carried)
    assert (found, words in err) == (code, True)
    assert set(places(store.cache)) == set(CONTENT) - {WEIGHTS}
    assert set(states(store).values()) == {"verified"}


@pytest.mark.fault
@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda path: None, False),
        (Path.touch, False),
        (Path.mkdir, True),
        (lambda path: lay_out(path, {"models/other-v1/manifest.json": b"{}"}), True),
    ],
    ids=["nothing", "a file", "an empty folder", "another zoo"],
)
def test_folder_that_is_no_export_is_bad_input(call, store, tmp_path, make, hint):
    folder = tmp_path / "usb"
    make(folder)
    code, _, err = call("cache", "import", folder)
    assert (code, str(folder) in err, "DECODE_ZOO_REGISTRY" in err) == (4, True, hint)
