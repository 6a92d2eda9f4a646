"""From a bundle in a folder to a zoo of one's own, and back to predictions."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from decode_zoo.core.arrays import read_arrays, write_arrays
from decode_zoo.zoo import publishing as publication
from decode_zoo.zoo.artifact import entry_for
from decode_zoo.zoo.registry import parse_registry
from tests.server import serving
from tests.test_builder import GENES, Peak, build

pytestmark = pytest.mark.fault
TOY = Path(__file__).parent / "data/toy"
PUBLISHED = "toy-decode-v1"
ID = "lab-decode-v1"  # as long as the other: the id is in the graph, too
CARD = """# Ours

Trained on our cohort; good for nothing but tests.

<!-- facts: generated -->
<!-- end of facts -->

Ask us.
"""
# Publish, and be killed where a function is called.
KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from decode_zoo.core import files
from decode_zoo.zoo import publishing as publication
from decode_zoo.zoo import store
from decode_zoo.cli import _run
toy = Path(sys.argv[3])
store.builtin_registry_path, store.bundled_root = lambda: toy / "registry.yaml", lambda: toy
def die(*args, **named):
    os.kill(os.getpid(), signal.SIGKILL)
{owner}.{name} = die
_run(["publish", sys.argv[1], "--to", sys.argv[2]])
"""
PROSE = ("--title", "Toy sites", "--license", "CC0-1.0", "--citation", "nobody")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest, and let it vouch for the files as they are."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    for name in content["files"]:
        content["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


@pytest.fixture(autouse=True)
def builtin(monkeypatch):
    """The toy zoo stands in for the one that comes with the package."""
    monkeypatch.setattr("decode_zoo.zoo.store.builtin_registry_path", lambda: TOY / "registry.yaml")
    monkeypatch.setattr("decode_zoo.zoo.store.bundled_root", lambda: TOY)


@pytest.fixture
def bundle(tmp_path):
    """The toy model, under a name of the lab's."""
    folder = tmp_path / "bundle"
    shutil.copytree(TOY / "models" / PUBLISHED, folder)
    graph = folder / "model.onnx"
    graph.write_bytes(graph.read_bytes().replace(PUBLISHED.encode(), ID.encode()))
    edit(folder, lambda content: content.update(id=ID))
    (folder / "CARD.md").write_text(CARD, encoding="utf-8")
    return folder


@pytest.fixture
def zoo(tmp_path):
    return tmp_path / "zoo"


@pytest.fixture
def sites(tmp_path):
    built = build(tmp_path / "built", GENES, {"T": [Peak("1", 0, 400)]}, {"R": [Peak("1", 5, 95)]})
    folder = tmp_path / "own-sites-v1"
    shutil.copytree(built.locate("features.json").parent, folder)
    (folder / "CARD.md").write_text(CARD, encoding="utf-8")
    return folder


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    with ExitStack() as stack:
        yield lambda folder: stack.enter_context(serving(folder))


def everything(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != publication._LOCK)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def predict(call, model, folder):
    (folder / "genes.tsv").write_text("TP53\nAPP\n")
    code, out, err = call("predict", "--model", model, folder / "genes.tsv")
    assert code == 0, err
    return out


# --- the whole circle ----------------------------------------------------------------


@pytest.mark.parametrize("how", ["file", "url"])
def test_what_is_published_is_predicted_with(call, bundle, zoo, tmp_path, monkeypatch, serve, how):
    code, out, err = call("publish", bundle, "--to", zoo)
    assert (code, err) == (0, "")
    assert "16 known answers, numpy" in out
    assert "16 known answers, onnxruntime-cpu" in out
    assert f"decode-zoo predict --model {ID}" in out
    assert sorted(everything(zoo)) == sorted(
        ["registry.yaml"]
        + [f"models/{ID}/{n}" for n in ("CARD.md", "manifest.json", "model.onnx", "weights.npz")]
    )
    card = (zoo / "models" / ID / "CARD.md").read_text(encoding="utf-8")
    assert card.startswith("# Ours")
    assert f"| Id | `{ID}` |" in card
    assert card.endswith("Ask us.\n")

    expected = predict(call, PUBLISHED, tmp_path)
    place = f"{zoo / 'registry.yaml'}"
    if how == "url":
        place = f"{serve(zoo)}/registry.yaml"
    monkeypatch.setenv("DECODE_ZOO_REGISTRY", place)
    listed = call("ls")[1]
    assert f"{ID}\tmodel\t0.0 MB\tto fetch\t{place}\t" in listed
    assert f"{PUBLISHED}\tmodel\t0.0 MB\there\tdecode-zoo\t" in listed
    assert predict(call, "lab-decode", tmp_path) == expected
    told = call("info", ID)[1]
    assert f"registry    {place}" in told
    assert call("test", ID)[0] == 0
    assert call("fetch", ID)[0] == 0
    code, out, _ = call("verify", ID)
    assert (code, out) == (0, f"{ID}\t4 of 4 files here, verified\n")
    # Once it is here, nothing else is needed.
    monkeypatch.setenv("DECODE_ZOO_OFFLINE", "1")
    if how == "url":
        shutil.rmtree(zoo)
        assert predict(call, ID, tmp_path) == expected


def test_publishing_twice_is_publishing_once(call, bundle, zoo):
    call("publish", bundle, "--to", zoo)
    before = everything(zoo)
    code, out, _ = call("publish", bundle, "--to", zoo)
    assert (code, "was already" in out) == (0, True)
    assert everything(zoo) == before
    # Also from where it lies, and where a publisher was killed before it wrote the entry.
    assert call("publish", zoo / "models" / ID, "--to", zoo)[0] == 0
    assert everything(zoo) == before
    (zoo / "registry.yaml").unlink()
    assert call("publish", bundle, "--to", zoo)[0] == 0
    assert everything(zoo) == before


def test_a_feature_set_and_what_else_the_zoo_has(call, bundle, sites, zoo, monkeypatch):
    assert call("publish", bundle, "--to", zoo)[0] == 0
    registry = zoo / "registry.yaml"
    text = registry.read_text().replace("mirrors: []", "mirrors: ['https://lab.example']")
    registry.write_text(text.replace("artifacts:\n", f"artifacts:\n  x-v1: {{same_as: {ID}}}\n"))
    code, out, err = call("publish", sites, "--to", zoo, *PROSE)
    assert (code, err) == (0, "")
    assert "sums and sites agree" in out
    found = parse_registry(registry.read_bytes(), registry)
    assert found.mirrors == ("https://lab.example",)
    assert found.same_as == {"x-v1": ID}
    assert set(found.artifacts) == {ID, "own-sites-v1"}
    assert found.artifacts["own-sites-v1"].files == entry_for(zoo / "features/own-sites-v1")
    monkeypatch.setenv("DECODE_ZOO_REGISTRY", str(registry))
    code, out, err = call("info", "own-sites-v1")
    assert (code, err) == (0, "")
    assert call("fetch", "own-sites-v1")[0] == 0


def test_without_a_zoo_it_is_only_checked(call, bundle, tmp_path):
    before = everything(tmp_path)
    code, out, _ = call("publish", bundle)
    assert (code, f"{ID} can be published" in out) == (0, True)
    assert everything(tmp_path) == before


# --- what is refused -----------------------------------------------------------------


def drop(name):
    return lambda folder: (folder / name).unlink()


def change(**values):
    return lambda folder: edit(folder, lambda content: content.update(values))


def reads(features):
    return change(features={"id": features, "sha256": "0" * 64})


def other_answer(folder):
    def move(content):
        content["known_answers"]["values"][3][1] += 0.01

    edit(folder, move)


def other_weights(folder):
    """Weights of another network under the right name, the manifest's hashes in step."""
    arrays = dict(read_arrays(folder / "weights.npz"))
    arrays["outputs/bias"] = arrays["outputs/bias"][::-1].copy()
    (folder / "weights.npz").unlink()
    write_arrays(folder / "weights.npz", arrays)
    edit(folder, lambda content: None)


def flipped_byte(folder):
    data = bytearray((folder / "weights.npz").read_bytes())
    data[1000] ^= 1
    (folder / "weights.npz").write_bytes(data)


def link(folder):
    (folder / "weights.npz").unlink()
    (folder / "weights.npz").symlink_to(TOY / "models" / PUBLISHED / "weights.npz")


def taken_id(folder):
    graph = folder / "model.onnx"
    graph.write_bytes(graph.read_bytes().replace(ID.encode(), PUBLISHED.encode()))
    edit(folder, lambda content: content.update(id=PUBLISHED))


def write(name, text):
    return lambda folder: (folder / name).write_bytes(text)


NO_WORDS = b"# x\n<!-- facts: x -->\n<!-- end of facts -->\n"
REFUSED = {
    "no card": (drop("CARD.md"), 4, "has no card"),
    "card without facts": (write("CARD.md", b"# x\n\nWords.\n"), 4, "lacks the lines"),
    "card without words": (write("CARD.md", NO_WORDS), 4, "nothing but headings"),
    "card in another encoding": (write("CARD.md", b"\xff\xfe"), 4, "not UTF-8"),
    "no weights": (drop("weights.npz"), 4, "has no weights.npz"),
    "no manifest": (drop("manifest.json"), 4, "neither a model"),
    "a file too many": (write("notes.txt", b"x"), 4, "notes.txt, which is no part"),
    "a hidden file": (write(".x", b"x"), 4, "cannot be published"),
    "a folder in it": (lambda folder: (folder / "x").mkdir(), 4, "cannot be published"),
    "a symbolic link": (link, 4, "cannot be published"),
    "no licence": (change(license=""), 4, "license: must be text"),
    "id without version": (change(id="lab-decode"), 4, "lab-decode-v1"),
    "id that is a path": (change(id="../x-v1"), (4, 5), "x-v1"),
    "an id of decode-zoo's own": (taken_id, 4, "is published already, in decode-zoo itself"),
    "another known answer": (other_answer, 5, "does not give its known answers"),
    "another network's weights": (other_weights, 5, ID),
    "a flipped byte": (flipped_byte, 5, "sha256"),
    "implementations that differ": (change(parity={"onnx_numpy": 0.5}), (4, 5), "implementations"),
    "another feature set": (reads("toy-sites-v1"), 5, "trained on another"),
    "a feature set that nobody has": (reads("gone-v1"), 3, "gone-v1"),
    "no scores": (change(metrics={"test": {}}), (4, 5), ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bundle_that_does_not_prove_itself_is_not_published(call, bundle, zoo, case):
    spoil, code, message = REFUSED[case]
    spoil(bundle)
    found, _, err = call("publish", bundle, "--to", zoo)
    assert found in (code if isinstance(code, tuple) else (code,)), err
    assert message in err
    assert not zoo.exists()


def published_otherwise(call, bundle, zoo):
    assert call("publish", bundle, "--to", zoo)[0] == 0
    edit(bundle, lambda content: content.update(title="Better"))


def folder_of_others(call, bundle, zoo):
    (zoo / "models" / ID).mkdir(parents=True)
    (zoo / "models" / ID / "mine.txt").write_text("x")


def broken_registry(call, bundle, zoo):
    zoo.mkdir()
    (zoo / "registry.yaml").write_text("format_version: 1\nmirrors: []\nartifact: {}\n")


@pytest.mark.parametrize(
    ("prepare", "code", "message"),
    [
        (published_otherwise, 4, "lab-decode-v2"),
        (folder_of_others, 2, "is not what is to be published"),
        (broken_registry, 4, "registry.yaml, line"),
    ],
)
def test_what_a_zoo_has_is_never_overwritten(call, bundle, zoo, prepare, code, message):
    prepare(call, bundle, zoo)
    before = everything(zoo)
    found, _, err = call("publish", bundle, "--to", zoo)
    assert found == code
    assert message in err
    assert everything(zoo) == before


def test_a_failing_disk_leaves_no_half_of_a_publication(call, bundle, zoo, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("decode_zoo.core.files.discard_stdout", lambda: None)
    monkeypatch.setattr(publication, "write_registry", fail)
    code, _, err = call("publish", bundle, "--to", zoo)
    assert code == 2
    assert "No space" in err
    assert not zoo.exists()


def test_a_bundle_that_changes_meanwhile_is_not_published(call, bundle, zoo, monkeypatch):
    real = publication.lay_out

    def meddle(*args):
        flipped_byte(bundle)
        return real(*args)

    monkeypatch.setattr(publication, "lay_out", meddle)
    code, _, err = call("publish", bundle, "--to", zoo)
    assert code == 4
    assert "changed while" in err
    assert not zoo.exists()


def test_two_publishers_do_not_meet(call, bundle, zoo, monkeypatch):
    call("publish", bundle, "--to", zoo)
    before = everything(zoo)
    monkeypatch.setattr(publication, "_PATIENCE", 0.1)
    assert (zoo / publication._LOCK).stat().st_mode & 0o666 == 0o666  # for a group's other users
    with FileLock(zoo / publication._LOCK):
        code, _, err = call("publish", bundle, "--to", zoo)
        assert (code, f"Someone else is publishing into {zoo}" in err) == (2, True)
    code, out, err = call("publish", bundle, "--to", zoo)
    assert (code, err, "was already" in out) == (0, "", True)
    assert everything(zoo) == before


@pytest.mark.parametrize(
    ("owner", "name"), [("shutil", "copyfile"), ("publication", "write_registry"), ("os", "rename")]
)
def test_a_publisher_that_is_killed_does_not_block_the_zoo(call, bundle, sites, zoo, owner, name):
    """Really killed, at each step; whoever publishes next sweeps up after it."""
    assert call("publish", sites, "--to", zoo, *PROSE)[0] == 0
    code = KILLED.format(owner=owner, name=name)
    done = subprocess.run([sys.executable, "-c", code, bundle, zoo, TOY], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    code, _, err = call("publish", bundle, "--to", zoo)
    assert (code, err) == (0, "")
    assert {path.name for path in zoo.rglob(".*")} == {publication._LOCK}
    registry = parse_registry((zoo / "registry.yaml").read_bytes(), "r")
    assert registry.artifacts[ID].files == entry_for(zoo / "models" / ID)


def test_sweeping_touches_nothing_but_what_publishers_left(call, bundle, zoo):
    names = (".decode-zoo-mine.tmp", "x.tmp", f".decode-zoo-{'0' * 32}.tmp.bak")
    for folder in (zoo, zoo / "models", zoo / "mine"):
        for name in names:
            (folder / name).mkdir(parents=True)
    (zoo / "mine" / f".decode-zoo-{'0' * 32}.tmp").mkdir()
    before = set(zoo.rglob("*"))
    (zoo / f".decode-zoo-{'1' * 32}.tmp").write_bytes(b"half of a registry")
    assert call("publish", bundle, "--to", zoo)[0] == 0
    assert before <= set(zoo.rglob("*"))
    assert not list(zoo.glob(f"*{'1' * 32}*"))


@pytest.mark.parametrize(
    ("what", "args", "message"),
    [
        ("bundle", ("--to", "a/b/zoo"), "no folder"),
        ("bundle", PROSE, "in its manifest"),
        ("own-sites-v1", (), "Give --title, --license and --citation"),
        ("own-sites-v1", ("--title", "x"), "all three"),
        ("own-sites-v1", ("--title", "x", "--license", "x", "--citation", ""), "all three"),
    ],
)
def test_what_is_asked_for_wrongly_is_told(
    call, bundle, sites, tmp_path, monkeypatch, what, args, message
):
    monkeypatch.chdir(tmp_path)
    code, _, err = call("publish", what, *args)
    assert code == 2
    assert message in err


def test_sums_of_other_sites_are_refused(call, sites):
    arrays = dict(read_arrays(sites / "sites.npz"))
    lengths = arrays["promoter_lengths"].copy()
    lengths[0] -= 1
    arrays["promoter_lengths"] = lengths
    (sites / "sites.npz").unlink()
    write_arrays(sites / "sites.npz", arrays)
    header = json.loads((sites / "features.json").read_text())
    header["arrays"]["sites.npz"] = hashlib.sha256((sites / "sites.npz").read_bytes()).hexdigest()
    (sites / "features.json").write_text(json.dumps(header))
    code, _, err = call("publish", sites, *PROSE)
    assert code == 5
    assert "not of the same sites" in err
