"""The registry: what is read, resolved and written, and the hostile texts that are refused."""

from __future__ import annotations

import hashlib
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from decode_zoo.core.errors import ArtifactError, InputError
from decode_zoo.zoo.artifact import Artifact, FileEntry, entry_for
from decode_zoo.zoo.registry import Registry, check_mirror, load_registry, write_registry

SHA = "ab" * 32
FILES = f"{{a.npz: {{sha256: {SHA}, size: 1}}}}"
PAPER = f"{{kind: model, title: T, license: L, citation: C, files: {FILES}}}"
TEXT = f"""\
format_version: 1
mirrors: [https://zoo.example/decode, /srv/zoo]
default_model: tissue-v1
artifacts:
  tissue-paper-v1:
    kind: model
    title: "Naïve: tissues"
    license: BSD-3-Clause
    citation: Someone et al., 2020
    features: hg38-open-v1
    files:
      manifest.json: {{sha256: {SHA}, size: 12}}
      weights.npz: {{sha256: "{"0" * 64}", size: 0}}
  tissue-v1: {{same_as: tissue-paper-v1}}
  tissue-v9: {PAPER}
  tissue-v10: {PAPER}
  hg38-open-v1:
    kind: features
    title: Open sites
    license: CC0-1.0
    citation: none yet
    files:
      pooled.npz: {{sha256: {SHA}, size: 3}}
"""
FEATURE_FILES = f"\n      pooled.npz: {{sha256: {SHA}, size: 3}}"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "registry.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_reads_what_is_written_there(path):
    registry = load_registry(path)
    model = registry.artifacts["tissue-paper-v1"]
    assert registry.mirrors == ("https://zoo.example/decode", "/srv/zoo")
    assert registry.default_model == "tissue-v1"
    assert registry.same_as == {"tissue-v1": "tissue-paper-v1"}
    assert (model.kind, model.title, model.features) == ("model", "Naïve: tissues", "hg38-open-v1")
    assert model.files["manifest.json"] == FileEntry(SHA, 12)
    assert model.folder == "models/tissue-paper-v1"
    assert registry.artifacts["hg38-open-v1"].folder == "features/hg38-open-v1"


def test_exact_second_and_versionless_names_are_resolved_and_others_refused(path):
    registry = load_registry(path)
    for asked, found in {
        "tissue-v9": "tissue-v9",
        "tissue-v1": "tissue-paper-v1",
        "tissue": "tissue-v10",
        "hg38-open": "hg38-open-v1",
    }.items():
        assert registry.resolve(asked).id == found
    newer = replace(registry, same_as={"tissue-v11": "tissue-v9"}, default_model="tissue")
    assert newer.resolve("tissue").id == "tissue-v9"
    for asked in ("", "tisue-v9", "TISSUE", "../x", "tissue-v", "tissue-v11"):
        with pytest.raises(ArtifactError, match="decode-zoo ls"):
            registry.resolve(asked)
    with pytest.raises(ArtifactError, match=r"Closest: .*hg38-open"):
        registry.resolve("hg38-opne")


# What is replaced in TEXT, by what, and what is said then.
BROKEN = {
    "duplicate artifact": ("tissue-v9: ", "tissue-v10: ", "line 16: duplicate key 'tissue-v10'"),
    "unknown root key": ("mirrors:", "mirror: x\nmirrors:", "unknown key 'mirror'"),
    "unknown file key": ("size: 12", "size: 12, md5: x", r"manifest\.json\.md5: unknown key 'md5'"),
    "id given twice": ("kind: model\n", "kind: model\n    id: x-v1\n", r"v1\.id: unknown key 'id'"),
    "same_as to nothing": ("same_as: tissue-paper-v1", "same_as: gone", "tissue-v1.same_as"),
    "same_as to same_as": (
        f"tissue-v9: {PAPER}",
        "tissue-v9: {same_as: tissue-v1}",
        "not followed",
    ),
    "id with a folder": ("tissue-v9:", "../tissue-v9:", "is no id"),
    "file name upwards": ("pooled.npz:", "../pooled.npz:", "no file name"),
    "file name of a device": ("pooled.npz:", "Aux.npz:", "no file name"),
    "file names but for capitals": ("weights.npz:", "Manifest.json:", "only in capitals"),
    "short hash": (SHA, SHA[:-1], r"manifest\.json\.sha256: must be 64"),
    "no hash": (f"sha256: {SHA}, size: 12", "size: 12", "missing required field `sha256`"),
    "negative size": ("size: 12", "size: -1", r"manifest\.json\.size: must be"),
    "size as truth": ("size: 12", "size: true", "size: expected a whole number, got true or false"),
    "no licence": ("    license: CC0-1.0\n", "", "'license' is missing"),
    "empty licence": ("license: CC0-1.0", "license: ' '", "hg38-open-v1.license: must be text"),
    "kind": ("kind: features", "kind: feature", "hg38-open-v1.kind: must be one of"),
    "features unknown": ("features: hg38-open-v1", "features: hg38-open-v2", "no feature set here"),
    "features of features": ("kind: model", "kind: features", "only a model names the feature set"),
    "no files": (FEATURE_FILES, " {}", "files: is empty"),
    "default features": ("default_model: tissue-v1", "default_model: hg38-open", "no model here"),
    "mirror scheme": ("https://zoo.example", "ftp://zoo.example", "mirrors: 'ftp://"),
    "mirror without encryption": ("https://zoo.example", "http://zoo.example", "mirrors: 'http:"),
    "mirror with a password": ("https://zoo", "https://me:secret@zoo", "without password"),
    "mirror with a query": ("https://zoo.example/decode", "'https://zoo.example/?x='", "mirrors: "),
    "mirror without a host": ("https://zoo.example/decode", "https:///x", "mirrors: "),
    "mirror with a bad port": ("https://zoo.example/decode", "https://x:y/", "mirrors: "),
    "mirror on another machine's disk": ("https://zoo", "file://zoo", "mirrors: "),
    "newer format": ("format_version: 1", "format_version: 2", "pip install -U"),
    "python object": ("none yet", "!!python/object/apply:os.getcwd []", "tags"),
    "alias": ("title: Open sites", "title: *t", "anchors"),
    "anchor": ("title: Open sites", "title: &t x", "anchors"),
    "two documents": ("format_version: 1", "--- {}\n---\nformat_version: 1", "more than one"),
    "mapping as key": ("tissue-v9: ", "{a: b}: ", "must be text"),
    "key of 300 letters": ("tissue-v9:", f"{'x' * 300}:", "a key of 300 characters"),
    "escape sequence in a title": ("Open sites", '"\\e[31mOpen"', r"hg38-open-v1\.title: .*'.x1b'"),
    "reordered text in a citation": ("none yet", '"\\u202Egnp"', "one line"),
    "endless title": ("Open sites", "x" * 3000, "3000 characters"),
    "year as title": ("Open sites", "2020", "title: expected text, .*number\nPut it in quotes"),
    "id without a version": ("tissue-v9:", "tissue:", r"has no version .*\n?Call it tissue-v1"),
    "second name without a version": ("tissue-v1: {", "tissue: {", "tissue: .* has no version"),
}


@pytest.mark.fault
@pytest.mark.parametrize(("old", "new", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_registry_is_refused_with_its_line(path, old, new, message):
    assert old in TEXT
    path.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        load_registry(path)
    assert str(caught.value).startswith(f"{path}, line ")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "mirror",
    [
        "https://zoo.example:8443/a",
        "http://127.0.0.1:80/x",
        "http://localhost/x",
        "http://[::1]:8/x",
        "/srv/my zoo",
        "file:///x",
        "file://localhost/x",
    ],
)
def test_mirrors_that_are_allowed(mirror):
    check_mirror(mirror)


def test_only_numbers_truths_and_null_are_not_text(path):
    """The trap of YAML: a licence ``no`` or a citation of a date are what they look like."""
    text = TEXT.replace("CC0-1.0", "no").replace("none yet", "2020-99-99")
    path.write_text(text.replace("Open sites", "1:30"), encoding="utf-8")
    found = load_registry(path).artifacts["hg38-open-v1"]
    assert (found.license, found.citation, found.title) == ("no", "2020-99-99", "1:30")


HOSTILE = {
    "deep list": (b"[" * 900_000, "nested"),
    "too large": (TEXT.encode() + b"#" * (1 << 20), "has more than 1 MiB"),
    "Latin-1": (TEXT.encode("latin-1"), "line 7: is not UTF-8"),
    "NUL": (TEXT.encode().replace(b"Open", b"O\0pen"), "control characters are not allowed"),
    "web page": (b"<!DOCTYPE html><html><body>Log in</body></html>", "must be a mapping"),
    "long key": (b'? "' + b"a" * 50_000 + b'"\n: [' + b"1," * 20_000 + b"1]\n", "line 1"),
    "many items below long keys": (
        b'{"' + b'": {"'.join([b"a" * 199] * 11) + b'": [' + b"1," * 50_000 + b"1]" + b"}" * 11,
        "format_version",
    ),
}


@pytest.mark.fault
@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_refused_at_once_and_in_little_memory(path, content, message):
    path.write_bytes(content)
    started = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=message):
            load_registry(path)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
    assert time.monotonic() - started < 5


def test_written_registry_reads_back_and_is_deterministic(path, tmp_path):
    registry = load_registry(path)
    # What looks like a number is text, and the order of artifacts must leave no trace.
    odd = Artifact("1-v1", "model", "2020", "no", "null", None, {"1.0": FileEntry("1" * 64, 1)})
    artifacts = {**registry.artifacts, "1-v1": odd}
    registry = replace(registry, artifacts=artifacts)
    reordered = replace(registry, artifacts=dict(reversed(list(artifacts.items()))))
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    write_registry(registry, one)
    write_registry(reordered, two)
    assert load_registry(one) == registry
    assert one.read_bytes() == two.read_bytes()
    assert f"manifest.json: {{sha256: {SHA}, size: 12}}\n" in one.read_text(encoding="utf-8")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.yaml", "registry.yaml", "two.yaml"]


def test_registry_made_in_python_is_checked_too():
    entry = FileEntry(SHA, 1)
    with pytest.raises(InputError, match="no file name"):
        Artifact("x-v1", "model", "t", "l", "c", None, {"../weights.npz": entry})
    model = Artifact("x-v1", "model", "t", "l", "c", None, {"weights.npz": entry})
    with pytest.raises(InputError, match="holds the artifact"):
        Registry({"y-v1": model}, (), "y-v1")
    with pytest.raises(InputError, match="an artifact and a same_as"):
        Registry({"x-v1": model}, (), "x-v1", {"x-v1": "x-v1"})


def test_entry_for_describes_a_folder_of_plain_files_and_no_other(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        entry_for(tmp_path / "none")
    with pytest.raises(InputError, match="empty"):
        entry_for(tmp_path)
    data = bytes(1 << 21)
    (tmp_path / "b.npz").write_bytes(data)
    (tmp_path / "a.json").touch()
    assert list(entry_for(tmp_path).items()) == [
        ("a.json", FileEntry(hashlib.sha256(b"").hexdigest(), 0)),
        ("b.npz", FileEntry(hashlib.sha256(data).hexdigest(), len(data))),
    ]
    odd = {"link": lambda path: path.symlink_to("b.npz"), "sub": Path.mkdir, ".hidden": Path.touch}
    for name, make in odd.items():
        make(tmp_path / name)
        with pytest.raises(InputError, match=f"'{name}' cannot be published"):
            entry_for(tmp_path)
        (tmp_path / name).rename(tmp_path.with_name(f"moved {name}"))
