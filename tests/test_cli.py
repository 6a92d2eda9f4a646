"""The command line as a user meets it."""

from __future__ import annotations

import io
import json
import shutil
import sys

import click
import pandas as pd
import pytest

import decode_zoo as dz
from decode_zoo.cli.group import cli

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


def test_back_ends_give_the_same_table(run, toy_zoo):
    numpy, onnx = (
        pd.read_table(io.StringIO(run(*PREDICT, "-", "--backend", name, stdin=GENES)[0]))
        for name in ("numpy", "onnxruntime")
    )
    assert (numpy.iloc[:, 3:] - onnx.iloc[:, 3:]).abs().max().max() < 1e-4


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
    for name, command in group.commands.items():
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
