"""Bundles and feature sets whose hashes are all in step, and that are wrong all the same."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import decode_zoo as dz
from decode_zoo.core.arrays import read_arrays, write_arrays
from decode_zoo.core.errors import InputError, VerificationError
from decode_zoo.core.files import sha256_of
from decode_zoo.features.featureset import MAX_HEADER_BYTES, FeatureSet
from decode_zoo.features.spec import LONGEST
from decode_zoo.networks import forward
from decode_zoo.networks.manifest import MAX_MANIFEST_BYTES
from tests.test_builder import GENES, Peak, build

pytestmark = pytest.mark.fault
Arrays = dict[str, Any]


@pytest.fixture
def model(toy_models, toy_zoo) -> dz.Model:
    return toy_models["decode"]


@pytest.fixture
def bundle(model, tmp_path) -> Path:
    folder = tmp_path / "m"
    folder.mkdir()
    for name in ("manifest.json", "weights.npz", "model.onnx"):
        shutil.copy(model.locate(name), folder / name)
    (tmp_path / "genes.tsv").write_text("TP53\nGATA1\n")
    return folder


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest, and let it vouch for the files as they are."""
    path = folder / "manifest.json"
    content = json.loads(path.read_bytes())
    change(content)
    content["files"] = {name: sha256_of(folder / name) for name in content["files"]}
    path.write_text(json.dumps(content), encoding="utf-8")


def reweigh(folder: Path, change: Callable[[Arrays], object]) -> None:
    arrays = dict(read_arrays(folder / "weights.npz"))
    change(arrays)
    (folder / "weights.npz").unlink()
    write_arrays(folder / "weights.npz", arrays)
    edit(folder, lambda content: None)


# -- weights -------------------------------------------------------------------------------------


def weigh(name: str, change: Callable[[Any], Any]) -> Callable[[Arrays], object]:
    return lambda arrays: arrays.update({name: change(arrays[name])})


huge = weigh("outputs/kernel", lambda w: np.full_like(w, 3e38))
WEIGHTS = {
    "swapped outputs": (weigh("outputs/kernel", lambda w: w[:, ::-1].copy()), "known answers"),
    "swapped tracks": (weigh("rna_conv0/kernel", lambda w: w[:, ::-1].copy()), "known answers"),
    "a little off": (weigh("outputs/bias", lambda w: w + np.float32(1e-3)), "known answers"),
    "negative variance": (weigh("norm0/moving_variance", np.negative), "negative variances"),
    "huge": (huge, "known answers"),
    "not a number": (weigh("outputs/bias", lambda w: w * np.float32("nan")), "not all finite"),
    "truth values": (weigh("outputs/bias", lambda w: w > 0), "no floating-point numbers"),
}
VERBS = {
    "predict": ["predict"],
    "predict with numpy": ["predict", "--backend", "numpy"],
    "explain": ["explain"],
    "report": ["report"],
}


@pytest.mark.parametrize(
    ("verb", "case"),
    [*(("predict", case) for case in WEIGHTS), *((verb, "not a number") for verb in VERBS)],
)
def test_no_verb_gives_a_number_from_wrong_weights(call, bundle, tmp_path, verb, case):
    spoil, words = WEIGHTS[case]
    reweigh(bundle, spoil)
    output = tmp_path / ("out.html" if verb == "report" else "out.tsv")
    code, out, err = call(
        *VERBS[verb], "--model", bundle, tmp_path / "genes.tsv", "--outputs", "Liver", "-o", output
    )
    assert (code, out) == (5, "")
    assert words in err
    assert "Warning" not in err
    assert not list(tmp_path.glob("out*"))


def test_known_answers_are_checked_once_for_a_model(bundle, monkeypatch):
    opened, asked = dz.load(bundle), []
    check = forward.check_answers
    monkeypatch.setattr(
        "decode_zoo.zoo.model.check_answers", lambda *a: asked.append(1) or check(*a)
    )
    opened.predict(["TP53"])
    opened.predict(["GATA1"], backend="numpy")
    opened.explain(["TP53"], outputs=["Liver"])
    assert len(asked) == 1


def test_arrays_that_cannot_be_read_fail_verification(bundle):
    (bundle / "weights.npz").write_bytes(b"PK\x03\x04")
    edit(bundle, lambda content: None)
    with pytest.raises(VerificationError, match=r"weights\.npz"):
        _ = dz.load(bundle).network


def test_back_ends_and_scores_that_are_not_finite_fail_verification(model, bundle):
    """Also on a feature set of one's own, of which no answers are known."""
    reweigh(bundle, huge)
    opened = dz.load(bundle)
    own = replace(model.features, sha256="0" * 64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(VerificationError, match="not finite"):
            opened.predict(["TP53"], features=own, backend="numpy")
        with pytest.raises(VerificationError, match="not finite"):
            opened.explain(["TP53"], features=own, outputs=["Liver"])


def put(value: object, *place: str | int) -> Callable[[dict[str, Any]], None]:
    def change(content: Any) -> None:
        for key in place[:-1]:
            content = content[key]
        content[place[-1]] = value

    return change


# -- manifests -----------------------------------------------------------------------------------


def rename(kind: str, name: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content.pop("fingerprint", None)
        if kind == "track":
            content["inputs"]["rna"]["tracks"][0]["name"] = name
        else:
            content["outputs"][0]["name"] = content["known_answers"]["outputs"][0] = name

    return change


NAMES = ["A\tB", "\x9b31mX", "", " A", "x" * 201, "A\u2029B"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("output", name) for name in ("symbol", "gene_id", "transcript_id", "status", "a,b")),
        *(("output", name) for name in NAMES),
        *(("track", name) for name in NAMES),
    ],
)
def test_a_bundle_names_no_output_or_track_so_that_tables_break(bundle, kind, name):
    edit(bundle, rename(kind, name))
    with pytest.raises(VerificationError, match=r"whose name |control characters"):
        dz.load(bundle)


def answers(change: Callable[[list[Any]], list[Any]]) -> Callable[[dict[str, Any]], None]:
    def apply(content: dict[str, Any]) -> None:
        for key in ("genes", "values"):
            content["known_answers"][key] = change(content["known_answers"][key])

    return apply


CLAIMS = {
    "nine known answers": (
        answers(lambda items: items[:9]),
        "known answers for 9 genes; 10 are needed",
    ),
    "one gene ten times": (answers(lambda items: items[:1] * 10), "known answers for 1 genes"),
    "implementations that differ": (put(1.1e-4, "parity", "onnx_numpy"), "that differ"),
    "a reference gene of gigabases": (put(4e9, "inputs", "rna", "background"), "no length"),
    "windows of gigabases": (put(4_000_000_000, "layout", "upstream"), "at most 10000000 bp"),
    "features by a path": (put("../elsewhere", "features", "id"), "that is no name"),
    "features by an absolute path": (put("/etc", "features", "id"), "that is no name"),
    "features without a name": (put("", "features", "id"), "that is no name"),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_a_manifest_that_proves_too_little_is_refused(bundle, case):
    spoil, words = CLAIMS[case]
    edit(bundle, spoil)
    with pytest.raises(VerificationError, match=words):
        dz.load(bundle)


@pytest.mark.parametrize("verb", ["test", "predict"])
def test_a_known_answer_for_a_gene_that_is_not_there_fails_verification(
    call, bundle, tmp_path, verb
):
    edit(bundle, lambda content: content["known_answers"]["genes"].__setitem__(0, "NOSUCH"))
    given = [bundle] if verb == "test" else ["--model", bundle, tmp_path / "genes.tsv"]
    code, out, err = call(verb, *given)
    assert (code, out) == (5, "")
    assert "NOSUCH" in err


SILENT = {
    "no metrics, no training": {"metrics": {}, "training": {}},
    "odd notes on training": {
        "training": {"commit": "x"},
        "metrics": {
            "test": {
                "fold_change_spearman": 0.5,
                "median_spearman": None,
                "n_genes": 7,
                "by_output": {"Liver": "good", "Lung": [1]},
            },
            "validation": {
                "fold_change_spearman": 1,
                "median_spearman": 1,
                "n_genes": 0,
                "by_output": 7,
            },
        },
    },
}


@pytest.mark.parametrize("case", SILENT)
def test_a_bundle_that_does_not_tell_how_good_it_is_is_reported_on(call, bundle, tmp_path, case):
    pytest.importorskip("jinja2")
    edit(bundle, lambda content: content.update(SILENT[case]))
    page = tmp_path / "out.html"
    code, _, err = call(
        "report", "--model", bundle, tmp_path / "genes.tsv", "--outputs", "Liver,Lung", "-o", page
    )
    assert code == 0, err
    assert "TP53" in page.read_text(encoding="utf-8")
    assert call("info", bundle)[0] == 0


# -- JSON of our own -----------------------------------------------------------------------------


@pytest.fixture
def small_set(tmp_path) -> Path:
    built = build(tmp_path / "b", GENES, {"T": [Peak("1", 0, 400)]}, {"R": [Peak("1", 5, 95)]})
    return built.locate("features.json").parent


def test_descriptions_of_gigabytes_are_refused_unread(bundle, small_set):
    for path, size in (
        (bundle / "manifest.json", MAX_MANIFEST_BYTES),
        (small_set / "features.json", MAX_HEADER_BYTES),
    ):
        with open(path, "wb") as file:
            file.truncate(size + 1)  # sparse
    with pytest.raises(VerificationError, match="more than 16 MiB"):
        dz.load(bundle)
    with pytest.raises(InputError, match="more than 128 MiB"):
        FeatureSet.load(small_set)


# -- features ------------------------------------------------------------------------------------


def redescribe(folder: Path, change: Callable[[dict[str, Any]], object]) -> FeatureSet:
    path = folder / "features.json"
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    return FeatureSet.load(folder)


@pytest.mark.parametrize("off", [-1, 1000])
def test_rna_lengths_that_are_not_those_of_the_exons_are_refused(small_set, off):
    def change(content: dict[str, Any]) -> None:
        content["rows"]["rna_lengths"][0] += off

    opened = redescribe(small_set, change)
    for read in (lambda: opened.pieces("rna"), opened.exons, lambda: opened.pieces("promoter")):
        with pytest.raises(InputError, match="do not fit"):
            read()


BREAKS = r"tabs or line ends|whose name |control characters"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put(LONGEST, "rows", "rna_lengths", 0), "rna_lengths that are negative or too large"),
        *((put(name, "rows", "symbols", 0), BREAKS) for name in ("A\tB", "A\x85B", "A\u2028B")),
        *((put(name, "tracks", "rna", 0, "name"), BREAKS) for name in NAMES),
        (
            lambda content: content["tracks"]["rna"].append(content["tracks"]["rna"][0]),
            "rna tracks",
        ),
        (lambda content: put(content["rows"]["ids"][0], "rows", "ids", 1)(content), "an id twice"),
    ],
)
def test_descriptions_of_features_that_cannot_be_are_refused(small_set, change, words):
    with pytest.raises(InputError, match=words):
        redescribe(small_set, change)
