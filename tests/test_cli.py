"""The command line as a user meets it: verbs, options, and what is wrong with either."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import click
import pandas as pd
import pytest

import decode_zoo as dz
from decode_zoo.cli.group import cli, study
from decode_zoo.zoo.artifact import Artifact
from decode_zoo.zoo.store import Store
from tests.test_store import CONTENT, REGISTRY, WRONG, entry, files_in, lay_out

PREDICT = ("predict", "--model", "toy-perceptron-v1")
GENES = "symbol\nTP53\nENSG00000139618.15\nnope\nTP53\n"


@pytest.fixture
def run(call, monkeypatch, tmp_path):
    """Run a command in an empty folder; return standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*args, stdin=b"", code=0):
        given = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        found, out, err = call(*args)
        assert found == code, err
        return out, err

    return run


def test_four_rows_with_the_right_status(run, toy_zoo):
    out, err = run(*PREDICT, "-", stdin=GENES)
    lines = [line.split("\t") for line in out.splitlines()]
    assert [line[:3] for line in lines] == [
        ["gene_id", "symbol", "status"],
        ["ENSG00000141510", "TP53", "ok"],
        ["ENSG00000139618", "BRCA2", "ok"],
        ["nope", "", "unknown_gene"],
        ["ENSG00000141510", "TP53", "duplicate_of:ENSG00000141510"],
    ]
    assert all(len(line) == 6 for line in lines)
    assert set(lines[3][3:]) == {""}
    assert "4 rows" in err


def test_formats_agree_and_carry_provenance(run, toy_zoo, tmp_path):
    outputs = {}
    for suffix in (".tsv", ".tsv.gz", ".parquet", ".h5ad"):
        path = outputs[suffix] = tmp_path / f"out{suffix}"
        run(*PREDICT, "-", "-o", path, stdin=GENES)
        record = json.loads(path.with_name(path.name + ".provenance.json").read_text())
        assert record["model"]["id"] == record["requested_model"] == "toy-perceptron-v1"
        assert record["command"][0] == "decode-zoo"
        assert record["units"]["Liver"] == "log2 fold change"
    text = pd.read_csv(outputs[".tsv"], sep="\t")
    pd.testing.assert_frame_equal(text, pd.read_csv(outputs[".tsv.gz"], sep="\t"))
    parquet = pd.read_parquet(outputs[".parquet"])
    assert list(parquet.columns) == list(text.columns)
    assert (parquet["Liver"] - text["Liver"]).abs().max() < 1e-4
    data = pytest.importorskip("anndata").read_h5ad(outputs[".h5ad"])
    assert data.shape == (4, 3)
    assert data.obs["status"].tolist() == text["status"].tolist()
    assert data.var["unit"]["median_log2_tpm"] == "log2 TPM"


def test_an_existing_output_needs_force(run, toy_zoo, tmp_path):
    path = tmp_path / "out.tsv"
    path.write_text("precious")
    args = (*PREDICT, "-", "-o", path)
    assert "--force" in run(*args, stdin=GENES, code=2)[1]
    assert path.read_text() == "precious"
    run(*args, "--force", stdin=GENES)
    assert path.read_text().startswith("gene_id")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (PREDICT, 2, "--all-genes"),
        ([*PREDICT, "-", "--outputs", "Livr"], 2, "Livr"),
        (["predict", "--model", "nothing-v1", "-"], 3, "nothing-v1"),
        ([*PREDICT, "no/such.tsv"], 4, "no/such.tsv"),
        ([*PREDICT, "-"], 4, "no genes"),
        ([*PREDICT, "-", "-o", "x.docx"], 2, ".h5ad"),
        ([*PREDICT, "-", "--features", "."], 4, "features"),
        ([*PREDICT, "-", "--backend", "numpy", "--device", "cuda"], 2, "CPU only"),
        (["features", "build", "--rna", "x", "-o", "y"], 2, "--gtf"),
        (["features", "build", "--gtf", "no.gtf", "--rna", "x", "-o", "y"], 4, "no.gtf"),
        (["features", "info", "nothing-v1"], 3, "nothing-v1"),
        (["frobnicate"], 2, "No such command"),
        (["verify"], 2, "--all"),
    ],
)
def test_errors_have_their_codes_and_say_what_to_do(run, toy_zoo, args, code, message, tmp_path):
    _, err = run(*args, stdin="" if message == "no genes" else GENES, code=code)
    assert message in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("outputs", ["Liver,Liver", "", "Liver,"])
def test_odd_choices_of_outputs_are_refused(run, toy_zoo, tmp_path, outputs):
    run(*PREDICT, "-", "--outputs", outputs, "-o", "x.tsv", stdin=GENES, code=2)
    assert list(tmp_path.iterdir()) == []


def test_build_info_merge(run, tmp_path):
    exons = (("A", "+", 5000, 5150), ("A", "+", 6000, 6100), ("B", "-", 9000, 9420))
    (tmp_path / "genes.gtf").write_text(
        "".join(
            f'chr2\tx\texon\t{start + 1}\t{end}\t.\t{strand}\t.\tgene_id "{gene}"; '
            f'transcript_id "{gene}T"; gene_name "{gene.lower()}";\n'
            for gene, strand, start, end in exons
        )
    )
    for side, text in (("chip", "chr2\t4950\t5050\n"), ("clip", "chr2\t5100\t6050\tx\t0\t+\n")):
        (tmp_path / side).mkdir()
        (tmp_path / side / "CTCF.K562.bed").write_text(text)
    (tmp_path / "mirna.bed").write_text("chr2\t9010\t9017\tmiR-1\t0\t-\n")
    sites = ("--promoter", "chip", "--rna", "clip")
    run("features", "build", "--gtf", "genes.gtf", *sites, "-o", "one")
    like = ("features", "build", "--like", "one", "--mirna", "mirna.bed")
    run(*like, "-o", "two")
    _, err = run(*like, "--bin", 50, "-o", "x", code=2)
    assert "--bin cannot be combined with --like" in err
    run("features", "merge", "one", "two", "-o", "both")
    text, _ = run("features", "info", "both")
    assert "2 genes" in text
    assert "1 mirna, 1 rbp" in text
    tracks = run("features", "info", "both", "--tracks")[0].splitlines()
    assert [line.split("\t")[:2] for line in tracks[1:]] == [
        ["promoter", "CTCF.K562"],
        ["rna", "CTCF.K562"],
        ["rna", "miR-1"],
    ]
    both = dz.FeatureSet.load(tmp_path / "both")
    assert both.bins("A", "rna")["CTCF.K562"].tolist() == [0, 100, 0]  # spliced: 50 + 50 bases
    assert both.bins("b", "rna")["miR-1"].tolist() == [0, 0, 0, 0, 7]  # by symbol; minus strand


def test_folders_do_not_shadow_the_zoo(run, toy_zoo, tmp_path):
    for name in ("toy-perceptron-v1", "toy-sites-v1"):
        (tmp_path / name).mkdir()
        assert "licence" in run("info", name)[0]
    assert "\tok\t" in run(*PREDICT, "-", stdin="TP53\n")[0]


def test_tampered_features_are_refused(run, toy_zoo, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(toy_zoo / "features/toy-sites-v1", folder)
    path = folder / "pooled.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    out, err = run(*PREDICT, "-", "--features", folder, stdin=GENES, code=5)
    assert "does not belong to this feature set" in err
    assert out == ""


def test_zoo_verbs(run, toy_zoo):
    assert {"gtex-tissue-v1", "hg38-open-v1", "toy-decode-v1"} <= {*run("ls")[0].split()}
    answers = run("test", "toy-decode-v1")[0].splitlines()
    assert [line.split("\t")[1] for line in answers] == ["numpy", "onnxruntime-cpu"]


def verbs(group, *path):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from verbs(command, *path, name)
        yield (*path, name)


def test_every_verb_has_help_and_knows_its_options(call):
    found = [(), *verbs(cli)]
    assert {("study", "pair"), ("features", "build"), ("cache", "import")} <= {*found}
    for path in found:
        code, out, err = call(*path, "--help")
        assert (code, err) == (0, "")
        assert out.startswith(f"Usage: {' '.join(('decode-zoo', *path))} ")
        assert call(*path, "--frobnicate")[0] == 2


# -- the zoo itself ------------------------------------------------------------------------------

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


def test_the_help_lists_every_verb_once_under_a_heading():
    listed = [verb for verbs in cli.sections.values() for verb in verbs]
    own = [verb for verb in listed if not verb.startswith("study ")]
    studies = [verb.removeprefix("study ") for verb in listed if verb.startswith("study ")]
    assert sorted([*own, "study"]) == cli.list_commands(click.Context(cli))
    assert sorted(studies) == study.list_commands(click.Context(study))
