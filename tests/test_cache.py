"""The cache: what is in it, cleaning it, carrying it to another site."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from decode_zoo import cache as cache_module
from decode_zoo import files
from decode_zoo import parcel as parcel_module
from decode_zoo.artifact import Artifact, FileEntry, hash_file
from decode_zoo.cache import clean, removable, survey
from decode_zoo.errors import ArtifactError, InputError, UsageError, VerificationError
from decode_zoo.parcel import pack, unpack
from decode_zoo.registry import Registry, load_registry, write_registry
from decode_zoo.store import Store
from tests.test_store import entry

ROOT = Path(__file__).resolve().parents[1]
CONTENT = {
    "features/sites-v1/features.json": b'{"format_version":1}\n',
    "features/sites-v1/pooled.npz": bytes(range(256)) * 8,
    "features/sites-v1/sites.npz": bytes(3000),
    "models/tissue-v1/manifest.json": b'{\n "format_version": 1\n}\n',
    "models/tissue-v1/weights.npz": bytes(range(256)) * 20,
}
WEIGHTS = "models/tissue-v1/weights.npz"
OLD = "models/old-v1"
HALF = "models/tissue-v1/.weights.npz.ffffffff-1-0123456789abcdef.part"
DAY = 86_400


def files_of(folder: str) -> dict[str, FileEntry]:
    return {
        place.rsplit("/", 1)[1]: entry(data)
        for place, data in CONTENT.items()
        if place.startswith(folder)
    }


REGISTRY = Registry(
    {
        "sites-v1": Artifact(
            "sites-v1", "features", "Sites", "CC0-1.0", "none", None, files_of("features/")
        ),
        "tissue-v1": Artifact(
            "tissue-v1", "model", "Tissues", "CC0-1.0", "none", "sites-v1", files_of("models/")
        ),
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


def states(store: Store) -> dict[str, str]:
    return {f.path.relative_to(store.cache).as_posix(): f.state for f in survey(store)}


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A small zoo in which nothing is here; the command line uses it too."""
    store = Store(REGISTRY, None, tmp_path / "cache", REGISTRY.mirrors, offline=True)
    monkeypatch.setattr(Store, "default", classmethod(lambda cls: store))
    monkeypatch.setenv("DECODE_ZOO_CACHE", str(store.cache))
    return store


@pytest.fixture
def carried(tmp_path: Path) -> Path:
    """A folder as it comes from another site."""
    return lay_out(tmp_path / "carried", CONTENT)


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a socket was opened")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)


# --- path and ls -------------------------------------------------------------------


def test_path_is_printed_though_nothing_is_there(call, store):
    assert call("cache", "path") == (0, f"{store.cache}\n", "")
    assert not store.cache.exists()


def test_ls_tells_the_state_of_each_file(call, store):
    lay_out(store.cache, {**CONTENT, WEIGHTS: bytes(5120), f"{OLD}/features.json": b"{}"})
    age(store.cache / "features/sites-v1/sites.npz", 3 * DAY)
    code, out, err = call("cache", "ls")
    assert (code, err) == (0, "")
    rows = [line.split("\t") for line in out.splitlines()]
    assert rows[0] == ["artifact", "file", "size", "state", "age", "registered"]
    assert ["tissue-v1", "weights.npz", "0.0 MB", "damaged", "0 min", "yes"] in rows
    assert ["sites-v1", "sites.npz", "0.0 MB", "verified", "3 d", "yes"] in rows
    assert ["old-v1", "features.json", "0.0 MB", "foreign", "0 min", "no"] in rows
    assert len(rows) == 7


def test_cached_file_is_judged_even_where_a_bundled_one_hides_it(store, carried):
    lay_out(store.cache, {WEIGHTS: bytes(5120)})
    assert states(replace(store, bundled=carried)) == {WEIGHTS: "damaged"}


@pytest.mark.fault
def test_control_characters_in_a_file_name_reach_no_terminal(call, store):
    lay_out(store.cache, {"models/tissue-v1/\x1b[2Jnotes": b"", "models/\x1b]0;x\x07/a": b""})
    code, out, err = call("cache", "ls")
    assert code == 0
    assert "\x1b" not in out + err
    assert "\\x1b[2Jnotes" in out


@pytest.mark.fault
def test_cache_that_is_a_file_is_listed_as_empty(call, store):
    store.cache.write_bytes(b"")
    code, out, _ = call("cache", "ls")
    assert (code, out.count("\n")) == (0, 1)


@pytest.mark.fault
def test_cache_that_cannot_be_read_is_told(call, store, monkeypatch):
    lay_out(store.cache, CONTENT)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files.os, "scandir", refuse)
    code, _, err = call("cache", "ls")
    assert code == 3
    assert "DECODE_ZOO_CACHE" in err


# --- clean -------------------------------------------------------------------------


@pytest.fixture
def messy(store: Store, tmp_path: Path) -> Store:
    """Everything that a cache can hold."""
    lay_out(
        store.cache,
        {
            **CONTENT,
            "features/sites-v1/pooled.npz": b"!",
            f"{OLD}/manifest.json": b'{"format_version": 1, "id": "old-v1"}',
            f"{OLD}/weights.npz": b"old",
            HALF: b"half",
            "models/tissue-v1/.manifest.json.00000000-1-0123456789abcdef.part": b"under way",
            "models/tissue-v1/notes.txt": b"mine",
            "models/tissue-v1/.draft.part": b"mine",
            "models/llama/model.onnx": b"mine, and not of decode-zoo",
            "models/Strange Name/manifest.json": b'{"format_version": 1}',
            "models/readme": b"mine",
            "thesis.tex": b"mine",
            "registries/x.yaml": b"",
        },
    )
    age(store.cache / HALF, 2 * DAY)
    outside = lay_out(tmp_path / "outside", {"manifest.json": b'{"format_version": 1}'})
    (store.cache / "models/linked-v1").symlink_to(outside)
    (store.cache / OLD / "link.npz").symlink_to(outside / "manifest.json")
    return store


RUBBISH = {"features/sites-v1/pooled.npz", HALF}
UNREGISTERED = {f"{OLD}/manifest.json", f"{OLD}/weights.npz"}
MINE = {
    "models/tissue-v1/.manifest.json.00000000-1-0123456789abcdef.part",
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


def test_clean_removes_what_nobody_can_use_and_nothing_else(call, messy, tmp_path):
    before = set(places(messy.cache))
    code, out, err = call("cache", "clean")
    assert code == 0
    assert before - set(places(messy.cache)) == RUBBISH
    assert {line.split("\t")[0] for line in out.splitlines()} == {
        str(messy.cache / place) for place in RUBBISH
    }
    assert "2 files" in err
    assert "removed from" in err
    assert (tmp_path / "outside/manifest.json").exists()
    code, out, err = call("cache", "clean")
    assert (code, out) == (0, "")
    assert err.startswith(f"0 files, 0.0 MB removed from {messy.cache}.\n")


@pytest.mark.fault
def test_files_of_a_zoo_that_is_not_in_use_just_now_are_left_and_told(call, messy):
    """Without DECODE_ZOO_REGISTRY, nothing says that they are good, nor that they are not."""
    for options in ((), ("--older-than", "0m")):
        code, _, err = call("cache", "clean", *options)
        assert code == 0
        assert set(places(messy.cache)) >= UNREGISTERED
        assert "Left: 2 files, 0.0 MB of artifacts that no registry in use has" in err
        assert "DECODE_ZOO_REGISTRY" in err
        assert "Left: 1 files, 0.0 MB of downloads under way." in err
        assert "Left: 7 files, 0.0 MB not made by decode-zoo, or links." in err
    call("cache", "clean", "--all")
    assert not UNREGISTERED & set(places(messy.cache))


def test_dry_run_says_the_same_and_removes_nothing(call, messy):
    before = places(messy.cache)
    _, told, err = call("cache", "clean", "--dry-run", "--all")
    assert "would be removed" in err
    assert places(messy.cache) == before
    assert call("cache", "clean", "--all")[1] == told


@pytest.mark.fault
def test_clean_all_never_touches_what_others_made_nor_follows_links(call, messy, tmp_path):
    assert call("cache", "clean", "--all")[0] == 0
    assert set(places(messy.cache)) == MINE
    assert (tmp_path / "outside/manifest.json").exists()
    assert not (messy.cache / "features/sites-v1").exists()
    assert (messy.cache / OLD).is_dir()


@pytest.mark.fault
@pytest.mark.parametrize("place", ["models", "models/tissue-v1", WEIGHTS])
def test_clean_follows_no_link_to_another_folder(store, tmp_path, place):
    outside = lay_out(tmp_path / "outside", CONTENT)
    (store.cache / place).parent.mkdir(parents=True)
    (store.cache / place).symlink_to(outside / place)
    clean(removable(survey(store), everything=True))
    assert places(outside) == sorted(CONTENT)
    assert (store.cache / place).is_symlink()


@pytest.mark.fault
def test_clean_never_touches_bundled_files(store, carried):
    lay_out(store.cache, {WEIGHTS: CONTENT[WEIGHTS]})
    clean(removable(survey(replace(store, bundled=carried)), everything=True))
    assert places(carried) == sorted(CONTENT)
    assert places(store.cache) == []


def test_older_than_is_about_good_files_rubbish_goes_anyway(call, messy):
    age(messy.cache / WEIGHTS, 31 * DAY)
    age(messy.cache / "features/sites-v1/sites.npz", 29 * DAY)
    before = set(places(messy.cache))
    assert call("cache", "clean", "--older-than", "30d")[0] == 0
    assert before - set(places(messy.cache)) == {*RUBBISH, WEIGHTS}


@pytest.mark.parametrize("name", ["tissue-v1", "tissue-v2", "tissue"])
def test_only_the_artifacts_named_go_whole(call, messy, name):
    before = set(places(messy.cache))
    assert call("cache", "clean", name)[0] == 0
    assert before - set(places(messy.cache)) == {
        WEIGHTS,
        "models/tissue-v1/manifest.json",
        HALF,
    }


def test_artifact_that_only_the_cache_knows_can_be_named(call, messy):
    before = set(places(messy.cache))
    assert call("cache", "clean", "old-v1", "--older-than", "8w")[0] == 0
    assert set(places(messy.cache)) == before
    age(messy.cache / OLD / "weights.npz", 57 * DAY)
    assert call("cache", "clean", "old-v1", "--older-than", "8w")[0] == 0
    assert before - set(places(messy.cache)) == {f"{OLD}/weights.npz"}
    assert call("cache", "clean", "old-v1")[0] == 0
    assert before - set(places(messy.cache)) == UNREGISTERED
    code, _, err = call("cache", "clean", "tisue-v1")
    assert code == 3
    assert "Closest" in err


@pytest.mark.parametrize(
    "args",
    [
        ["--all", "tissue-v1"],
        ["--all", "--older-than", "1d"],
        *(["--older-than", odd] for odd in ("30", "-3d", "1.5d", "nand", "9999999d", "")),
    ],
)
def test_contradictions_are_wrong_usage(call, messy, args):
    before = places(messy.cache)
    assert call("cache", "clean", *args)[0] == 2
    assert places(messy.cache) == before


@pytest.mark.fault
def test_files_that_cannot_be_removed_are_told_and_the_others_go(call, messy, monkeypatch):
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
def test_unreadable_file_may_be_good_and_stays(store, monkeypatch):
    lay_out(store.cache, {WEIGHTS: CONTENT[WEIGHTS]})
    monkeypatch.setattr(cache_module.os, "access", lambda path, mode: False)
    assert states(store) == {WEIGHTS: "unreadable"}
    assert removable(survey(store)) == []


@pytest.mark.fault
def test_folder_in_the_place_of_a_file_is_told_and_left(call, store):
    lay_out(store.cache, {f"{WEIGHTS}/mine": b""})
    assert states(store) == {WEIGHTS: "in the way"}
    code, _, err = call("cache", "clean", "--all")
    assert code == 0
    assert "folders where files should be: remove them yourself" in err
    assert places(store.cache) == [f"{WEIGHTS}/mine"]


@pytest.mark.fault
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_named_pipe_in_the_cache_is_not_waited_for(store):
    lay_out(store.cache, {"models/other-v1/weights.npz": b""})
    for place in (WEIGHTS, "models/other-v1/manifest.json"):
        (store.cache / place).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(store.cache / place)
    assert set(states(store).values()) == {"foreign"}


# --- export ------------------------------------------------------------------------


def test_export_is_a_mirror_with_a_registry(call, store, tmp_path):
    lay_out(store.cache, CONTENT)
    code, out, err = call("cache", "export", tmp_path / "usb")
    assert code == 0
    assert out.splitlines()[-1] == f"{WEIGHTS}\t0.0 MB"
    assert f"5 files, 0.0 MB in {tmp_path / 'usb'}" in err
    assert places(tmp_path / "usb") == [*sorted(CONTENT), "registry.yaml"]
    registry = load_registry(tmp_path / "usb/registry.yaml")
    assert registry == replace(REGISTRY, mirrors=())
    elsewhere = Store(registry, None, tmp_path / "elsewhere", (str(tmp_path / "usb"),), True)
    assert elsewhere.locate("tissue", "weights.npz").read_bytes() == CONTENT[WEIGHTS]


def test_export_takes_bundled_files_and_says_what_is_not_here(call, store, tmp_path, monkeypatch):
    lay_out(store.cache, {WEIGHTS: CONTENT[WEIGHTS]})
    manifest = "models/tissue-v1/manifest.json"
    bundled = lay_out(tmp_path / "bundled", {manifest: CONTENT[manifest]})
    both = replace(store, bundled=bundled)
    monkeypatch.setattr(Store, "default", classmethod(lambda cls: both))
    code, _, err = call("cache", "export", tmp_path / "usb")
    assert code == 0
    assert places(tmp_path / "usb") == [manifest, WEIGHTS, "registry.yaml"]
    assert "Not here, so not in it: features/sites-v1/features.json" in err


def test_export_of_a_model_takes_its_features_along(store, tmp_path):
    lay_out(store.cache, CONTENT)
    (store.cache / "features/sites-v1/sites.npz").unlink()
    done = pack(store, tmp_path / "usb", ["tissue"])
    assert done.left_out == ("features/sites-v1/sites.npz",)
    assert len(done.files) == 4
    assert len(pack(store, tmp_path / "two", ["tissue", "tissue-v1"]).files) == 4
    for offline, remedy in ((False, "decode-zoo fetch sites-v1"), (True, "cache import DIR")):
        with pytest.raises(ArtifactError, match=rf"sites\.npz[\s\S]*{remedy}"):
            pack(replace(store, offline=offline), tmp_path / "three", ["sites-v1"])
    assert not (tmp_path / "three").exists()


@pytest.mark.fault
@pytest.mark.parametrize("damage", [b"", bytes(5120), bytes(5121)])
def test_export_of_a_damaged_file_leaves_no_folder(call, store, tmp_path, damage):
    lay_out(store.cache, {**CONTENT, WEIGHTS: damage})
    before = places(tmp_path)
    code, out, err = call("cache", "export", tmp_path / "usb")
    assert (code, out) == (5, "")
    assert "weights.npz is not the published file" in err
    assert places(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.fault
def test_export_to_a_full_disk_leaves_no_folder(call, store, tmp_path, monkeypatch):
    lay_out(store.cache, CONTENT)

    def full(source, target, entry, advance):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parcel_module, "transfer", full)
    code, _, err = call("cache", "export", tmp_path / "usb")
    assert code == 2
    assert "No space left on device" in err
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.fault
@pytest.mark.parametrize("what", ["file", "full folder", "link to nothing", "no parent"])
def test_export_replaces_nothing(call, store, tmp_path, what):
    lay_out(store.cache, CONTENT)
    target = tmp_path / "usb"
    if what == "file":
        target.write_bytes(b"mine")
    elif what == "full folder":
        lay_out(target, {"mine": b""})
    elif what == "link to nothing":
        target.symlink_to(tmp_path / "nothing")
    else:
        target = tmp_path / "a" / "b"
    before = places(tmp_path)
    code, _, err = call("cache", "export", target)
    assert code == 2
    assert str(target) in err
    assert places(tmp_path) == before


def test_export_of_nothing_is_told(call, store, tmp_path):
    code, _, err = call("cache", "export", tmp_path / "usb")
    assert code == 3
    assert "decode-zoo cache import DIR" in err  # offline, as the store is
    assert not (tmp_path / "usb").exists()


@pytest.mark.fault
@pytest.mark.parametrize("name", ["tissue-v1", "tissue-v2", "tissue", "sites-v1"])
def test_export_whose_folder_was_forgotten_makes_none(call, store, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    lay_out(store.cache, CONTENT)
    code, out, err = call("cache", "export", name)
    assert (code, out) == (2, "")
    assert f"decode-zoo cache export DIR {name}" in err
    assert not (tmp_path / name).exists()
    assert call("cache", "export", f"./{name}")[0] == 0
    assert (tmp_path / name).is_dir()


def test_registry_of_an_export_lists_what_is_in_it(store, tmp_path):
    lay_out(store.cache, CONTENT)
    pack(store, tmp_path / "part", ["sites-v1"])
    part = load_registry(tmp_path / "part/registry.yaml")
    assert set(part.artifacts) == {"sites-v1"}
    assert (part.default_model, part.same_as) == (None, {})
    pack(store, tmp_path / "whole", ["tissue-v1"])
    assert load_registry(tmp_path / "whole/registry.yaml") == replace(REGISTRY, mirrors=())


# --- import ------------------------------------------------------------------------


@pytest.mark.usefixtures("no_sockets")
def test_import_takes_verified_files_once_and_opens_no_socket(call, store, carried):
    code, out, err = call("cache", "import", carried)
    assert code == 0
    assert out.count("\n") == 5
    assert "5 files verified and taken into" in err
    assert places(store.cache) == sorted(CONTENT)
    kept = {place: (store.cache / place).stat().st_mtime_ns for place in CONTENT}
    code, out, err = call("cache", "import", carried)
    assert (code, out) == (0, "")
    assert "5 verified and here already" in err
    assert {place: (store.cache / place).stat().st_mtime_ns for place in CONTENT} == kept


def test_import_of_an_export_gives_the_same_cache(store, tmp_path):
    lay_out(store.cache, CONTENT)
    pack(store, tmp_path / "usb")
    there = replace(store, cache=tmp_path / "there")
    unpack(there, tmp_path / "usb")
    assert {p: hash_file(there.cache / p) for p in places(there.cache)} == {
        p: hash_file(store.cache / p) for p in CONTENT
    }


def test_import_heals_a_damaged_cache_and_leaves_bundled_files_out(store, tmp_path, carried):
    lay_out(store.cache, {WEIGHTS: b"!"})
    manifest = "models/tissue-v1/manifest.json"
    bundled = lay_out(tmp_path / "bundled", {manifest: CONTENT[manifest]})
    done = unpack(replace(store, bundled=bundled), carried)
    assert done.here == (manifest,)
    assert (store.cache / WEIGHTS).read_bytes() == CONTENT[WEIGHTS]
    assert not (store.cache / manifest).exists()


@pytest.mark.parametrize("name", ["~", "~root", "https:", "a b, c"])
def test_odd_names_of_folders_mean_just_that(store, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    lay_out(store.cache, CONTENT)
    pack(store, name)
    there = replace(store, cache=tmp_path / "there")
    assert len(unpack(there, name).files) == len(CONTENT)
    assert places(tmp_path / name) == [*sorted(CONTENT), "registry.yaml"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("shared", [True, False])
def test_import_into_a_shared_cache_is_for_the_whole_group(store, carried, shared):
    store.cache.mkdir()
    store.cache.chmod(0o2775 if shared else 0o700)
    mask = os.umask(0o077)
    try:
        unpack(store, carried)
    finally:
        os.umask(mask)
    for path in store.cache.rglob("*"):
        group = path.stat().st_mode & 0o2070
        assert group == ((0o2070 if path.is_dir() else 0o040) if shared else 0)


def test_import_of_a_part_is_enough(store, tmp_path):
    done = unpack(store, lay_out(tmp_path / "part", {WEIGHTS: CONTENT[WEIGHTS]}))
    assert done.files == ((WEIGHTS, 5120),)


@pytest.mark.fault
def test_what_the_registry_does_not_know_is_not_taken(call, store, carried):
    lay_out(
        carried,
        {
            "models/evil-v1/manifest.json": b"{}",
            "models/tissue-v1/extra.npz": b"",
            "models/\x1b[2J/a": b"",
            "registry.yaml": b"artifacts: {evil-v1: {}}",
        },
    )
    code, _, err = call("cache", "import", carried)
    assert code == 0
    assert "Not in the registry, so not looked at: " in err
    assert "models/evil-v1" in err
    assert "\x1b" not in err
    assert places(store.cache) == sorted(CONTENT)


@pytest.mark.fault
@pytest.mark.parametrize("gone", [[WEIGHTS], [p for p in CONTENT if p.startswith("models/")]])
def test_import_of_an_incomplete_parcel_names_what_is_missing(call, store, tmp_path, gone):
    lay_out(store.cache, CONTENT)
    pack(store, tmp_path / "usb")
    for place in gone:
        (tmp_path / "usb" / place).unlink()
        (store.cache / place).unlink()
    code, _, err = call("cache", "import", tmp_path / "usb")
    assert code == 0
    assert f"Not in it, and not here: {', '.join(gone)}.\n" in err
    lay_out(store.cache, CONTENT)
    assert "Not in it" not in call("cache", "import", tmp_path / "usb")[2]


@pytest.mark.fault
@pytest.mark.parametrize("folder", ["lab", "a lab, of ours"])
@pytest.mark.parametrize("alone", [True, False])
def test_import_from_a_zoo_that_is_not_known_here_names_its_registry(
    call, store, tmp_path, monkeypatch, folder, alone
):
    usb = lay_out(tmp_path / folder, CONTENT)
    write_registry(replace(REGISTRY, mirrors=()), usb / "registry.yaml")
    keep = {} if alone else {"sites-v1": REGISTRY.artifacts["sites-v1"]}
    here = replace(store, registry=Registry(keep, ()))
    monkeypatch.setattr(Store, "default", classmethod(lambda cls: here))
    code, _, err = call("cache", "import", usb)
    assert code == (4 if alone else 0)
    assert "models/tissue-v1" in err
    path = usb / "registry.yaml"
    named = path.as_uri() if " " in folder else str(path)
    assert f"DECODE_ZOO_REGISTRY={named}\n" in err
    monkeypatch.undo()
    monkeypatch.setenv("DECODE_ZOO_REGISTRY", named)
    monkeypatch.setenv("DECODE_ZOO_CACHE", str(store.cache))
    code, _, err = call("cache", "import", usb)
    assert (code, "5 files verified" in err or "here already" in err) == (0, True)


@pytest.mark.fault
@pytest.mark.parametrize("what", ["link", "pipe", "folder", "garbage"])
def test_registry_in_a_parcel_is_only_a_hint(call, store, carried, tmp_path, what):
    path = carried / "registry.yaml"
    if what == "link":
        write_registry(REGISTRY, tmp_path / "outside.yaml")
        path.symlink_to(tmp_path / "outside.yaml")
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"\xff\x00[")
    (carried / WEIGHTS).unlink()
    code, _, err = call("cache", "import", carried)
    assert code == 0
    assert f"Not in it, and not here: {WEIGHTS}.\n" in err  # of an artifact that is begun


@pytest.mark.fault
def test_import_where_a_folder_is_in_the_way_says_to_remove_it(call, store, carried):
    (store.cache / WEIGHTS).mkdir(parents=True)
    code, _, err = call("cache", "import", carried)
    assert code == 3
    assert err.endswith(f"Remove the folder {store.cache / WEIGHTS}.\n")
    (store.cache / WEIGHTS).rmdir()
    assert call("cache", "import", carried)[0] == 0


@pytest.mark.fault
def test_import_replaces_what_may_not_be_read(call, store, carried, monkeypatch):
    lay_out(store.cache, {WEIGHTS: b"closed"})
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path) != store.cache / WEIGHTS and access(path, mode)
    )
    assert call("cache", "import", carried)[0] == 0
    assert (store.cache / WEIGHTS).read_bytes() == CONTENT[WEIGHTS]


def refused(call, store: Store, folder: Path, reason: str, place: str = WEIGHTS) -> None:
    code, out, err = call("cache", "import", folder)
    assert (code, out) == (5, "")
    assert f"\n  {place}: {reason}" in err
    assert not store.cache.exists()


def linked(target: Path | str) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        if path.is_dir() or "other" in str(target):
            path.rename(path.with_name("other"))
        else:
            path.unlink()
        path.symlink_to(target)

    return change


def special(make: Callable[[Path], object]) -> Callable[[Path], object]:
    """Put something else in the place of a file, where this system and user can."""

    def change(path: Path) -> None:
        path.unlink()
        try:
            make(path)
        except (OSError, AttributeError):
            pytest.skip("this system or user cannot make it")

    return change


def listening(path: Path) -> None:
    os.chdir(path.parent)  # the address of a socket must be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


WRONG = {
    "other bytes": (lambda path: path.write_bytes(bytes(5120)), "expected sha256"),
    "no byte": (lambda path: path.write_bytes(b""), "expected 5120 bytes, got 0"),
    "a byte less": (lambda path: os.truncate(path, 5119), "expected 5120 bytes, got 5119"),
    # A hole, not a terabyte: the size is looked at before anything is read.
    "a terabyte": (
        lambda path: os.truncate(path, 1 << 40),
        "expected 5120 bytes, got 109951162777",
    ),
    "a link to the file": (linked("other"), "a symbolic link, no ordinary file"),
    "a link to nothing": (linked("nothing"), "a symbolic link, no ordinary file"),
    "a folder": (special(Path.mkdir), "a folder, no ordinary file"),
    "a named pipe": (special(os.mkfifo), "a named pipe, no ordinary file"),
    "a socket": (special(listening), "a socket, no ordinary file"),
    "a device": (
        special(lambda path: os.mknod(path, 0o20600, os.makedev(1, 5))),  # /dev/zero
        "a device, no ordinary file",
    ),
}


@pytest.mark.fault
@pytest.mark.parametrize("case", WRONG)
def test_import_with_one_wrong_file_takes_nothing_and_does_not_wait(
    call, store, carried, monkeypatch, case
):
    monkeypatch.chdir(carried)
    change, reason = WRONG[case]
    change(carried / WEIGHTS)
    refused(call, store, carried, reason)


@pytest.mark.fault
@pytest.mark.parametrize("place", ["models", "models/tissue-v1"])
def test_import_follows_no_linked_folder_and_takes_no_file_for_one(call, store, carried, place):
    linked("other")(carried / place)
    refused(call, store, carried, "a symbolic link, no folder", place)
    (carried / place).unlink()
    (carried / place).write_bytes(b"")
    refused(call, store, carried, "a file, no folder", place)


@pytest.mark.fault
def test_import_names_every_wrong_file(call, store, carried):
    for place in CONTENT:
        (carried / place).write_bytes(b"?")
    code, _, err = call("cache", "import", carried)
    assert code == 5
    assert all(f"\n  {place}: " in err for place in CONTENT)


@pytest.mark.fault
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("now", ["a link", "a pipe"])
def test_file_exchanged_after_it_was_looked_at_is_refused(store, carried, monkeypatch, now):
    """Between the first look and the opening, a file becomes something else."""
    path = carried / WEIGHTS
    lstat = os.lstat

    def exchange(asked, *args, **kwargs):
        status = lstat(asked, *args, **kwargs)
        if Path(asked) == path and not path.is_symlink() and path.is_file():
            path.unlink()
            if now == "a link":
                path.symlink_to("/dev/zero")
            else:
                os.mkfifo(path)
        return status

    monkeypatch.setattr(files.os, "lstat", exchange)
    monkeypatch.setattr(os.path, "lexists", lambda path: True)
    with pytest.raises(VerificationError, match=r"weights\.npz: "):
        unpack(store, carried)
    assert not store.cache.exists()


@pytest.mark.fault
def test_file_that_changes_while_it_is_taken_is_not_taken(store, carried, monkeypatch):
    transfer = parcel_module.transfer

    def change(source, target, entry, advance):
        if source.endswith("weights.npz"):
            Path(source).write_bytes(bytes(5120))
        transfer(source, target, entry, advance)

    monkeypatch.setattr(parcel_module, "transfer", change)
    with pytest.raises(VerificationError, match="changed while it was copied"):
        unpack(store, carried)
    assert WEIGHTS not in places(store.cache)
    assert set(states(store).values()) == {"verified"}


@pytest.mark.fault
def test_import_into_a_full_disk_leaves_only_whole_files(call, store, carried, monkeypatch):
    transfer = parcel_module.transfer

    def full(source, target, entry, advance):
        if source.endswith("weights.npz"):
            raise OSError(28, "No space left on device")
        transfer(source, target, entry, advance)

    monkeypatch.setattr(parcel_module, "transfer", full)
    code, _, err = call("cache", "import", carried)
    assert code == 3
    assert "No space left on device" in err
    assert "DECODE_ZOO_CACHE" in err
    assert set(states(store).values()) == {"verified"}


@pytest.mark.fault
def test_import_into_a_cache_that_is_a_file_is_told(call, store, carried):
    store.cache.write_bytes(b"mine")
    code, _, err = call("cache", "import", carried)
    assert code == 3
    assert "cannot be written" in err
    assert store.cache.read_bytes() == b"mine"


@pytest.mark.fault
@pytest.mark.parametrize("what", ["nothing", "a file", "an empty folder", "another zoo"])
def test_folder_that_is_no_export_is_told(call, store, tmp_path, what):
    folder = tmp_path / "usb"
    if what == "a file":
        folder.write_bytes(b"")
    elif what == "an empty folder":
        folder.mkdir()
    elif what == "another zoo":
        lay_out(folder, {"models/other-v1/manifest.json": b"{}"})
    code, _, err = call("cache", "import", folder)
    assert code == 4
    assert str(folder) in err
    assert ("DECODE_ZOO_REGISTRY" in err) == (what in ("an empty folder", "another zoo"))


def test_errors_have_their_families(store, tmp_path):
    with pytest.raises(InputError):
        unpack(store, tmp_path / "nothing")
    with pytest.raises(ArtifactError):
        pack(store, tmp_path / "usb", ["nothing-v1"])
    with pytest.raises(UsageError):
        pack(store, lay_out(tmp_path / "full", CONTENT))
