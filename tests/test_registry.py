from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from decode_zoo.errors import ArtifactError, InputError
from decode_zoo.registry import (
    Artifact,
    FileEntry,
    Registry,
    entry_for,
    load_registry,
    write_registry,
)

SHA = "ab" * 32
TEXT = f"""\
format_version: 1
mirrors: [https://zoo.example/decode, /srv/zoo]
default_model: tissue-v1
artifacts:
  tissue-paper-v1: &paper
    kind: model
    title: "Naïve: tissues"
    license: BSD-3-Clause
    citation: Someone et al., 2020
    features: hg38-open-v1
    files:
      manifest.json: {{sha256: {SHA}, size: 12}}
      weights.npz: {{sha256: {"0" * 64}, size: 0}}
  tissue-v1: {{same_as: tissue-paper-v1}}
  tissue-v9: *paper
  tissue-v10: *paper
  hg38-open-v1:
    kind: features
    title: Open sites
    license: CC0-1.0
    citation: none yet
    files:
      pooled.npz: {{sha256: {SHA}, size: 3}}
""".replace("0" * 64, f'"{"0" * 64}"')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "registry.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_reads_what_is_written_there(path: Path) -> None:
    registry = load_registry(path)
    model = registry.artifacts["tissue-paper-v1"]
    assert registry.mirrors == ("https://zoo.example/decode", "/srv/zoo")
    assert registry.default_model == "tissue-v1"
    assert registry.same_as == {"tissue-v1": "tissue-paper-v1"}
    assert (model.kind, model.title, model.features) == ("model", "Naïve: tissues", "hg38-open-v1")
    assert model.files["manifest.json"] == FileEntry(SHA, 12)
    assert model.folder == "models/tissue-paper-v1"
    assert registry.artifacts["hg38-open-v1"].folder == "features/hg38-open-v1"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("tissue-v9", "tissue-v9"),
        ("tissue-v1", "tissue-paper-v1"),
        ("tissue", "tissue-v10"),
        ("tissue-paper", "tissue-paper-v1"),
        ("hg38-open", "hg38-open-v1"),
    ],
)
def test_resolves_exact_second_and_versionless_names(path: Path, asked: str, found: str) -> None:
    assert load_registry(path).resolve(asked).id == found


def test_newest_version_may_be_a_second_name(path: Path) -> None:
    registry = load_registry(path)
    newer = replace(registry, same_as={"tissue-v11": "tissue-v9"}, default_model="tissue")
    assert newer.resolve("tissue").id == "tissue-v9"


@pytest.mark.parametrize("asked", ["", "tisue-v9", "TISSUE", "../x", "tissue-v", "tissue-v11"])
def test_unknown_id_is_refused(path: Path, asked: str) -> None:
    with pytest.raises(ArtifactError, match="decode-zoo ls"):
        load_registry(path).resolve(asked)


def test_unknown_id_names_the_closest(path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"Closest: .*hg38-open"):
        load_registry(path).resolve("hg38-opne")


BROKEN = {
    "duplicate artifact": ("tissue-v9: *paper", "tissue-v10: *paper", "duplicate key 'tissue-v10'"),
    "duplicate field": ("size: 12", "size: 12, size: 13", "duplicate key 'size'"),
    "unknown root key": ("mirrors:", "mirror: x\nmirrors:", "unknown key 'mirror'"),
    "unknown artifact key": ("license: CC0-1.0", "license: x\n    licence: y", "unknown key"),
    "unknown file key": ("size: 12", "size: 12, md5: x", r"manifest\.json: unknown key 'md5'"),
    "same_as and more": ("same_as: ", "kind: model, same_as: ", "tissue-v1: unknown key 'kind'"),
    "same_as to nothing": ("same_as: tissue-paper-v1", "same_as: gone", "tissue-v1.same_as"),
    "same_as to same_as": ("tissue-v9: *paper", "tissue-v9: {same_as: tissue-v1}", "not followed"),
    "id with capitals": ("tissue-v9:", "Tissue-v9:", "'Tissue-v9' is no id"),
    "id with a folder": ("tissue-v9:", "../tissue-v9:", "is no id"),
    "id with a line end": ("tissue-v9:", '"tissue-v9\\n":', "is no id"),
    "same_as id": ("tissue-v1: {", "-tissue-v1: {", "is no id"),
    "number as id": ("tissue-v9:", "9:", "must be text"),
    "file name upwards": ("pooled.npz:", "../pooled.npz:", "no file name"),
    "file name with a folder": ("pooled.npz:", "a/pooled.npz:", "no file name"),
    "file name with a backslash": ("pooled.npz:", "a\\pooled.npz:", "no file name"),
    "file name hidden": ("pooled.npz:", ".pooled.npz:", "no file name"),
    "short hash": (SHA, SHA[:-1], r"manifest\.json\.sha256: must be 64"),
    "capital hash": (SHA, SHA.upper(), "sha256: must be 64"),
    "no hash": (f"sha256: {SHA}, size: 12", "size: 12", "'sha256' is missing"),
    "negative size": ("size: 12", "size: -1", r"manifest\.json\.size: must be"),
    "size as text": ("size: 12", "size: '12'", "size: must be"),
    "size as truth": ("size: 12", "size: true", "size: must be"),
    "no licence": ("    license: CC0-1.0\n", "", "'license' is missing"),
    "empty licence": ("license: CC0-1.0", "license: ' '", "hg38-open-v1.license: must be text"),
    "null citation": ("citation: none yet", "citation:", "hg38-open-v1.citation: must be text"),
    "kind": ("kind: features", "kind: feature", "hg38-open-v1.kind: must be one of"),
    "features of features": ("kind: features", "kind: features\n    features: x", "only a model"),
    "features unknown": ("features: hg38-open-v1", "features: hg38-open-v2", "no feature set here"),
    "no files": (f"\n      pooled.npz: {{sha256: {SHA}, size: 3}}", " {}", "files: is empty"),
    "files a list": (f"\n      pooled.npz: {{sha256: {SHA}, size: 3}}", " []", "must be a mapping"),
    "default gone": ("default_model: tissue-v1", "default_model: x", "default_model: 'x'"),
    "default features": ("default_model: tissue-v1", "default_model: hg38-open", "no model here"),
    "mirror scheme": ("https://zoo.example", "ftp://zoo.example", "mirrors: 'ftp://"),
    "mirror relative": ("/srv/zoo", "srv/zoo", "mirrors: 'srv/zoo'"),
    "mirrors text": ("[https://zoo.example/decode, /srv/zoo]", "/srv/zoo", "must be a list"),
    "newer format": ("format_version: 1", "format_version: 2", "pip install -U"),
    "format as truth": ("format_version: 1", "format_version: true", "format_version: must be"),
    "python object": ("none yet", "!!python/object/apply:os.getcwd []", "not valid YAML"),
    "impossible date": ("none yet", "2020-99-99", "not valid YAML"),
    "no YAML": ("mirrors: [", "mirrors: [[", "not valid YAML"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_registry_is_refused(path: Path, case: str) -> None:
    old, new, message = BROKEN[case]
    assert old in TEXT
    path.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        load_registry(path)
    assert str(caught.value).startswith(f"{path}")


def test_duplicate_key_names_its_line(path: Path) -> None:
    path.write_text(TEXT + "format_version: 1\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_registry(path)
    assert caught.value.line == TEXT.count("\n") + 1


@pytest.mark.parametrize("content", [b"", b"- 1\n", b"\xff\xfe\xff", b"\x00"])
def test_other_files_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError):
        load_registry(path)


def test_missing_registry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read"):
        load_registry(tmp_path / "none.yaml")


def test_written_registry_reads_back_and_is_deterministic(path: Path, tmp_path: Path) -> None:
    registry = load_registry(path)
    # The aliases of TEXT and the order of artifacts must leave no trace.
    reordered = replace(registry, artifacts=dict(reversed(list(registry.artifacts.items()))))
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    write_registry(registry, one)
    write_registry(reordered, two)
    assert load_registry(one) == registry
    assert one.read_bytes() == two.read_bytes()
    assert f"manifest.json: {{sha256: {SHA}, size: 12}}\n" in one.read_text(encoding="utf-8")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.yaml", "registry.yaml", "two.yaml"]


def test_registry_that_cannot_be_written_leaves_the_old_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = load_registry(path)

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_registry(registry, path)
    assert path.read_text(encoding="utf-8") == TEXT
    assert list(path.parent.iterdir()) == [path]


def test_values_that_look_like_numbers_survive(tmp_path: Path) -> None:
    entry = FileEntry("1" * 64, 1)
    model = Artifact("1", "model", "2020", "no", "null", None, {"1.0": entry})
    write_registry(Registry({"1": model}, (), "1"), tmp_path / "r.yaml")
    assert load_registry(tmp_path / "r.yaml").artifacts["1"] == model


def test_registry_made_in_python_is_checked_too() -> None:
    entry = FileEntry(SHA, 1)
    with pytest.raises(InputError, match="no file name"):
        Artifact("x-v1", "model", "t", "l", "c", None, {"../weights.npz": entry})
    model = Artifact("x-v1", "model", "t", "l", "c", None, {"weights.npz": entry})
    with pytest.raises(InputError, match="holds the artifact"):
        Registry({"y-v1": model}, (), "y-v1")
    with pytest.raises(InputError, match="an artifact and a same_as"):
        Registry({"x-v1": model}, (), "x-v1", {"x-v1": "x-v1"})


def test_entry_for_describes_a_folder(tmp_path: Path) -> None:
    big = b"x" * ((1 << 20) + 1)
    (tmp_path / "b.npz").write_bytes(big)
    (tmp_path / "a.json").write_bytes(b"")
    assert list(entry_for(tmp_path).items()) == [
        ("a.json", FileEntry(hashlib.sha256(b"").hexdigest(), 0)),
        ("b.npz", FileEntry(hashlib.sha256(big).hexdigest(), len(big))),
    ]


def test_entry_for_refuses_what_cannot_be_published(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="empty"):
        entry_for(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        entry_for(tmp_path / "none")
    (tmp_path / "sub").mkdir()
    with pytest.raises(InputError, match="'sub' cannot be published"):
        entry_for(tmp_path)
    (tmp_path / "sub").rmdir()
    (tmp_path / ".hidden").touch()
    with pytest.raises(InputError, match=r"'\.hidden' cannot be published"):
        entry_for(tmp_path)
