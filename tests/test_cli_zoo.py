"""The verbs about the zoo itself, and how the program ends when things go wrong."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import decode_zoo as dz
from decode_zoo.artifact import Artifact
from decode_zoo.errors import InputError, VerificationError
from decode_zoo.store import Store
from tests.test_store import CONTENT, REGISTRY, WRONG, entry, files_in, lay_out

ROOT = Path(__file__).resolve().parents[1]
OTHER = Artifact("sites-v1", "features", "Sites", "CC0-1.0", "none", None, {"a.npz": entry(b"")})


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A small zoo in which nothing is here; the mirror has all of the model."""
    registry = replace(REGISTRY, artifacts={**REGISTRY.artifacts, OTHER.id: OTHER})
    mirror = lay_out(tmp_path / "mirror", CONTENT)
    store = Store(registry, None, tmp_path / "cache", (str(mirror),))
    monkeypatch.setattr(Store, "default", classmethod(lambda cls: store))
    return store


def test_verify_tells_all_that_is_damaged_and_changes_nothing(call, store):
    lay_out(store.cache, WRONG)
    (store.cache / OTHER.folder).mkdir(parents=True)
    (store.cache / OTHER.folder / "a.npz").write_bytes(b"!")
    code, out, err = call("verify", "--all")
    assert code == 5
    assert out.splitlines() == ["sites-v1\t1 damaged", "tissue-v1\t2 damaged"]
    assert err.count("is not the published file") == 3
    (store.cache / "models/tissue-v1/manifest.json").write_bytes(CONTENT["manifest.json"])
    for args in (["tissue-v1"], ["tissue", "tissue-v1"]):
        code, out, err = call("verify", *args)
        assert code == 5
        assert out == "tissue-v1\t1 of 2 files here, verified, 1 damaged\n"
        assert "expected sha256" in err
        assert str(store.cache) in err
        assert "1 of the files here are not the published ones (tissue-v1)" in err
        assert (store.cache / "models/tissue-v1/weights.npz").read_bytes() == WRONG["weights.npz"]


def test_what_is_not_here_is_not_verified(call, store):
    assert call("verify", "--all") == (0, "sites-v1\tnot here\ntissue-v1\tnot here\n", "")
    lay_out(store.cache, {"weights.npz": CONTENT["weights.npz"]})
    here = "sites-v1\tnot here\ntissue-v1\t1 of 2 files here, verified\n"
    assert call("verify", "--all") == (0, here, "")
    code, _, err = call("verify", "tissue", "sites-v1")
    assert code == 3
    assert "no file of sites-v1 is here" in err
    assert "decode-zoo fetch sites-v1" in err
    assert files_in(store.cache) == ["weights.npz"]


@pytest.mark.fault
@pytest.mark.parametrize("what", ["closed", "folder"])
def test_verify_names_what_cannot_be_read_and_does_not_call_it_damaged(
    call, store, monkeypatch, what
):
    path = lay_out(store.cache, CONTENT) / "models/tissue-v1/weights.npz"
    if what == "folder":
        path.unlink()
        path.mkdir()
    else:
        monkeypatch.setattr(os, "access", lambda asked, mode: Path(asked) != path)
    remedy = f"Remove the folder {path}" if what == "folder" else f"chmod a+r '{path}'"
    for args in (["tissue-v1"], ["--all"]):
        code, out, err = call("verify", *args)
        assert code == 3
        assert "tissue-v1\t1 of 2 files here, verified, 1 unreadable\n" in out
        assert remedy in err
        assert "damaged" not in err
    (path.parent / "manifest.json").write_bytes(b"[]\n")
    assert call("verify", "--all")[0] == 5


@pytest.mark.fault
def test_offline_nobody_is_told_to_fetch(call, store, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    offline = replace(store, offline=True)
    monkeypatch.setattr(Store, "default", classmethod(lambda cls: offline))
    for args in (
        ["verify", "tissue-v1"],
        ["info", "sites-v1"],
        ["cache", "export", "usb"],
        ["cache", "export", "usb", "tissue-v1"],
    ):
        _, out, err = call(*args)
        assert "decode-zoo cache import DIR" in out + err
        assert "decode-zoo fetch" not in out + err


def test_verify_is_about_the_registry(call, store, tmp_path):
    assert call("verify")[0] == 2
    assert call("verify", "tissue", "--all")[0] == 2
    assert call("verify", "nothing-v1")[0] == 3
    code, _, err = call("verify", tmp_path)
    assert code == 2
    assert f"decode-zoo test {tmp_path}" in err


@pytest.mark.parametrize(
    ("name", "file", "words"),
    [
        ("toy-sites-v1", "features.json", "hg38,41 genes,2 histone,3 mirna"),
        ("toy-decode-v1", "manifest.json", "toy-decode-v1: ,licence,Liver,promoter,cite"),
    ],
)
def test_info_is_the_same_of_a_folder_but_for_what_the_registry_says(
    call, toy_zoo, name, file, words
):
    call("fetch", name)
    folder = call("info", dz.Store.default().locate(name, file).parent)
    by_id = call("info", name)
    for code, out, err in (by_id, folder):
        assert (code, err) == (0, "")
        for text in words.split(","):
            assert text in out
    lines = {*by_id[1].splitlines()} - {*folder[1].splitlines()}
    assert {*folder[1].splitlines()} <= {*by_id[1].splitlines()}
    assert {"size", "registry"} <= {line.split()[0] for line in lines}


def test_info_on_another_folder_and_on_what_is_not_here(call, store, tmp_path):
    code, _, err = call("info", tmp_path)
    assert code == 4
    assert "manifest.json" in err
    for name in ("tissue", "sites-v1"):
        code, out, err = call("info", name)
        assert (code, err) == (0, "")
        assert "to fetch" in out
        assert "decode-zoo fetch" in out
    assert files_in(store.cache) == []


def test_known_answers_with_a_feature_set_from_elsewhere(call, toy_zoo):
    code, out, _ = call("test", "toy-decode-v1", "--features", toy_zoo / "features/toy-sites-v1")
    assert code == 0
    assert out.startswith("toy-decode-v1\tnumpy\t16 genes\tlargest difference ")
    code, _, err = call("test", "toy-decode-v1", "--features", "nothing-v1")
    assert code == 3
    assert "nothing-v1" in err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 2, "Error: No space left on device."),
        (OSError(errno.EFBIG, "File too large", "x.tsv"), 2, "Error: x.tsv: File too large."),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), 4, "a/b: Permission denied."),
        (OSError("odd"), 4, "Error: odd."),
        (InputError("is odd", path="a", line=3), 4, "Error: a, line 3: is odd"),
        (VerificationError("no", remedy="Do."), 5, "Error: no\nDo."),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (ZeroDivisionError("oh"), 1, "Internal error: ZeroDivisionError: oh\nThis is a bug"),
    ],
)
def test_every_error_has_its_code(call, monkeypatch, error, code, message):
    def fail(cls):
        raise error

    monkeypatch.setattr("decode_zoo.files.discard_stdout", lambda: None)
    monkeypatch.setattr(Store, "default", classmethod(fail))
    found, out, err = call("ls")
    assert (found, out) == (code, "")
    assert message in err
    assert ("bug" in err) == (code == 1)


def python(*args, **kwargs):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs}
    return subprocess.run([sys.executable, *args], cwd=ROOT, text=True, check=False, **pipes)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("verb", ["ls", "--help"])
def test_standard_output_that_is_full(verb):
    with open("/dev/full", "wb") as full:
        done = python("-m", "decode_zoo", verb, stdout=full)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: No space left on device.\n")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("name", ["click", "yaml"])
def test_control_c_while_the_verbs_are_imported(name):
    """The imports are most of what a command that was just started does."""
    code = f"""
import sys
from decode_zoo.cli import main

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
sys.argv = ["decode-zoo", "ls"]
main()
"""
    done = python("-c", code)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "Interrupted.")


def unread(pipe):
    """Return the number of bytes in a pipe that its reader has not taken yet."""
    import fcntl
    import termios

    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_control_c_while_it_waits(toy_zoo):
    command = [sys.executable, "-m", "decode_zoo", "predict", "--model", "toy-decode-v1", "-"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        process.stdin.write(b"TP53\n")
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while unread(process.stdin):  # until it is reading, and waits for more
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err.strip()) == (130, b"", b"Interrupted.")


def test_the_group_of_verbs_is_light():
    code = (
        "import sys; import decode_zoo.cli; assert 'click' not in sys.modules; "
        "import decode_zoo.cli.group; "
        "heavy = {'numpy', 'pandas', 'scipy', 'onnxruntime', 'pooch', 'yaml'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
