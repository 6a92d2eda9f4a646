"""The command line as a user meets it."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pandas as pd
import pytest

from decode_zoo.cli.group import cli

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "genes.tsv"


def run(*args, stdin: str | None = None, code: int = 0, **kwargs):
    done = subprocess.run(
        [sys.executable, "-m", "decode_zoo", *map(str, args)],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        **kwargs,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_four_rows_with_the_right_status():
    done = run(
        "predict", "--model", "gtex-tissue-v1", "-", stdin="TP53\nENSG00000139618.15\nnope\nTP53\n"
    )
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[:3] for line in lines] == [
        ["gene_id", "symbol", "status"],
        ["ENSG00000141510", "TP53", "ok"],
        ["ENSG00000139618", "BRCA2", "ok"],
        ["nope", "", "unknown_gene"],
        ["ENSG00000141510", "TP53", "duplicate_of:ENSG00000141510"],
    ]
    assert all(len(line) == 57 for line in lines)
    assert set(lines[3][3:]) == {""}
    assert "4 rows" in done.stderr


def test_formats_agree_and_carry_provenance(tmp_path):
    outputs = {}
    for suffix in (".tsv", ".tsv.gz", ".parquet", ".h5ad"):
        path = tmp_path / f"out{suffix}"
        run("predict", "--model", "gtex-tissue-v1", EXAMPLE, "-o", path)
        record = json.loads(path.with_name(path.name + ".provenance.json").read_text())
        assert record["model"]["id"] == "gtex-tissue-v1"
        assert record["requested_model"] == "gtex-tissue-v1"
        assert record["command"][0] == "decode-zoo"
        assert record["units"]["Liver"] == "log2 fold change"
        outputs[suffix] = path
    text = pd.read_csv(outputs[".tsv"], sep="\t")
    pd.testing.assert_frame_equal(text, pd.read_csv(outputs[".tsv.gz"], sep="\t"))
    parquet = pd.read_parquet(outputs[".parquet"])
    assert list(parquet.columns) == list(text.columns)
    assert (parquet["Liver"] - text["Liver"]).abs().max() < 1e-4
    anndata = pytest.importorskip("anndata")
    data = anndata.read_h5ad(outputs[".h5ad"])
    assert data.shape == (12, 54)
    assert data.obs["status"].tolist() == text["status"].tolist()
    assert data.var["unit"]["median_log2_tpm"] == "log2 TPM"


def test_back_ends_give_the_same_table(tmp_path):
    frames = []
    for backend in ("numpy", "onnxruntime"):
        path = tmp_path / f"{backend}.parquet"
        run("predict", "--model", "gtex-tissue-v1", EXAMPLE, "-o", path, "--backend", backend)
        frames.append(pd.read_parquet(path))
    assert (frames[0].iloc[:, 3:] - frames[1].iloc[:, 3:]).abs().max().max() < 1e-4


def test_an_existing_output_needs_force(tmp_path):
    path = tmp_path / "out.tsv"
    path.write_text("precious")
    args = ("predict", "--model", "gtex-tissue-v1", EXAMPLE, "-o", path)
    assert "--force" in run(*args, code=2).stderr
    assert path.read_text() == "precious"
    run(*args, "--force")
    assert path.read_text().startswith("gene_id")


def test_gzip_stdin_and_header(tmp_path):
    packed = tmp_path / "genes.txt"  # gzip is told by content, not by name
    packed.write_bytes(gzip.compress(b"symbol\tx\r\nTP53\t1\r\n"))
    done = run("predict", "--model", "gtex-tissue-v1", packed, "--outputs", "Liver,Lung")
    assert done.stdout.splitlines()[0] == "gene_id\tsymbol\tstatus\tLiver\tLung"
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("args", "stdin", "code", "message"),
    [
        (["predict", "--model", "gtex-tissue-v1"], "", 2, "--all-genes"),
        (["predict", "--model", "gtex-tissue-v1", "-", "--outputs", "Livr"], "TP53\n", 2, "Livr"),
        (["predict", "--model", "nothing-v1", "-"], "TP53\n", 3, "nothing-v1"),
        (["predict", "--model", "gtex-tissue-v1", "no/such.tsv"], "", 4, "no/such.tsv"),
        (["predict", "--model", "gtex-tissue-v1", "-"], "", 4, "no genes"),
        (["predict", "--model", "gtex-tissue-v1", "-", "-o", "x.docx"], "TP53\n", 2, ".h5ad"),
        (["predict", "--model", "gtex-tissue-v1", "-", "--features", "."], "TP53\n", 4, "features"),
        (
            ["predict", "--model", "gtex-tissue-v1", "-", "--backend", "numpy", "--device", "cuda"],
            "TP53\n",
            2,
            "CPU only",
        ),
        (["features", "build", "--rna", "x", "-o", "y"], "", 2, "--gtf"),
        (["features", "build", "--gtf", "no.gtf", "--rna", "x", "-o", "y"], "", 4, "no.gtf"),
        (["features", "info", "nothing-v1"], "", 3, "nothing-v1"),
        (["frobnicate"], "", 2, "No such command"),
        (["verify"], "", 2, "--all"),
    ],
)
def test_errors_have_their_codes_and_say_what_to_do(args, stdin, code, message, tmp_path):
    done = run(*args, stdin=stdin, code=code, cwd=tmp_path)
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_build_info_merge(tmp_path):
    (tmp_path / "genes.gtf").write_text(
        "".join(
            f'chr2\tx\texon\t{start + 1}\t{end}\t.\t{strand}\t.\tgene_id "{gene}"; '
            f'transcript_id "{gene}T"; gene_name "{gene.lower()}";\n'
            for gene, strand, start, end in (
                ("A", "+", 5000, 5150),
                ("A", "+", 6000, 6100),
                ("B", "-", 9000, 9420),
            )
        )
    )
    for side, text in (("chip", "chr2\t4950\t5050\n"), ("clip", "chr2\t5100\t6050\tx\t0\t+\n")):
        (tmp_path / side).mkdir()
        (tmp_path / side / "CTCF.K562.bed").write_text(text)
    (tmp_path / "mirna.bed").write_text("chr2\t9010\t9017\tmiR-1\t0\t-\n")
    at = {"cwd": tmp_path}
    sites = ["--promoter", "chip", "--rna", "clip"]
    run("features", "build", "--gtf", "genes.gtf", *sites, "-o", "one", **at)
    like = ["features", "build", "--like", "one", "--mirna", "mirna.bed"]
    run(*like, "-o", "two", **at)
    refused = run(*like, "--bin", 50, "-o", "x", code=2, **at)
    assert "--bin cannot be combined with --like" in refused.stderr
    run("features", "merge", "one", "two", "-o", "both", **at)
    text = run("features", "info", "both", **at).stdout
    assert "2 genes" in text
    assert "1 mirna, 1 rbp" in text
    tracks = run("features", "info", "both", "--tracks", **at).stdout.splitlines()
    assert [line.split("\t")[:2] for line in tracks[1:]] == [
        ["promoter", "CTCF.K562"],
        ["rna", "CTCF.K562"],
        ["rna", "miR-1"],
    ]
    import decode_zoo as dz

    both = dz.FeatureSet.load(tmp_path / "both")
    assert both.bins("A", "rna")["CTCF.K562"].tolist() == [0, 100, 0]  # spliced: 50 + 50 bases
    assert both.bins("b", "rna")["miR-1"].tolist() == [0, 0, 0, 0, 7]  # by symbol; minus strand


def test_folders_do_not_shadow_the_zoo(tmp_path):
    for name in ("gtex-tissue-v1", "gtex-tissue-decode-v1", "hg38-open-v1"):
        (tmp_path / name).mkdir()
    done = run("predict", "--model", "gtex-tissue-v1", "-", stdin="TP53\n", cwd=tmp_path)
    assert done.stdout.splitlines()[1].split("\t")[2] == "ok"
    for name in ("gtex-tissue-v1", "hg38-open-v1"):
        assert "licence" in run("info", name, cwd=tmp_path).stdout


def test_tampered_features_are_refused(tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(ROOT / "zoo/features/hg38-open-v2", folder)
    path = folder / "pooled.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    done = run(
        "predict", "--model", "gtex-tissue-v1", "-", "--features", folder, stdin="TP53\n", code=5
    )
    assert "does not belong to this feature set" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("outputs", ["Liver,Liver", "", "Liver,"])
@pytest.mark.parametrize("suffix", [".tsv", ".parquet", ".h5ad"])
def test_odd_choices_of_outputs_are_refused(tmp_path, outputs, suffix):
    path = tmp_path / f"x{suffix}"
    args = ("predict", "--model", "gtex-tissue-v1", "-", "--outputs", outputs, "-o", path)
    run(*args, stdin="TP53\n", code=2)
    assert list(tmp_path.iterdir()) == []


def test_zoo_verbs():
    listed = run("ls").stdout
    assert "gtex-tissue-v1" in listed
    assert "hg38-open-v1" in listed
    shown = run("info", "gtex-tissue-v1").stdout
    for text in ("licence", "BSD-3-Clause", "Whole_Blood", "test", "promoter", "cite"):
        assert text in shown
    answers = run("test", "gtex-tissue-v1").stdout.splitlines()
    assert [line.split("\t")[1] for line in answers] == ["numpy", "onnxruntime-cpu"]
    assert "verified" in run("verify", "--all").stdout


def verbs(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from verbs(command, *path, name)
        yield (*path, name)


def test_every_verb_has_help(call):
    found = [(), *verbs(cli)]
    assert {("study", "pair"), ("features", "build"), ("cache", "import")} <= {*found}
    for path in found:
        code, out, err = call(*path, "--help")
        assert (code, err) == (0, "")
        assert out.startswith(f"Usage: {' '.join(('decode-zoo', *path))} ")


@pytest.mark.parametrize("path", [path for path in verbs(cli) if path[0] != "cache"])
def test_an_unknown_option_is_a_wrong_usage(call, path):
    assert call(*path, "--frobnicate")[0] == 2
