"""``decode-zoo explain``: tables in chunks, resumption, formats, bad input."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest

from decode_zoo.attribution import writer
from decode_zoo.attribution.explainer import BLOCK
from decode_zoo.attribution.writer import TopK, totals_path, write_attributions
from decode_zoo.core.errors import UsageError
from tests.toy import FEATURES, PERCEPTRON

GENES = ["TP53", "ALB", "GATA1", "HBB", "ACTB", "MYC", "XIST", "TTR", "GAPDH", "MT-TF"]
OUTPUTS = ["Liver", "Lung"]
EVERYTHING = TopK()
LEFT = ["o.totals.tsv", "o.tsv", "o.tsv.provenance.json"]


@pytest.fixture
def model(toy_models):
    return toy_models["perceptron"]


@pytest.fixture
def explainer(model):
    return model.explainer(outputs=OUTPUTS)


@pytest.fixture
def write(model, explainer, tmp_path):
    """Write scores of the genes to a file of some name; return its path."""
    rows = model.rows_of(GENES, explainer.bound).rows

    def write(name="o.tsv", selection=EVERYTHING, explainer=explainer, rows=rows, **options):
        path = tmp_path / name
        write_attributions(explainer, rows, path, selection, provenance={}, **options)
        return path

    return write


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(writer, "_CHUNK", dict.fromkeys(writer._CHUNK, 3))


@pytest.fixture
def explained(monkeypatch, explainer):
    """Numbers of rows that were explained, call by call."""
    calls, really = [], type(explainer).explain
    monkeypatch.setattr(
        type(explainer), "explain", lambda self, rows: calls.append(rows.size) or really(self, rows)
    )
    return calls


@pytest.fixture
def explain(call, toy_zoo, tmp_path):
    """Run the verb on a list of genes."""

    def explain(*args, genes="TP53 ALB", code=0):
        (tmp_path / "genes").mkdir(exist_ok=True)
        listed = tmp_path / "genes/genes.txt"
        listed.write_text("\n".join(genes.split()) + "\n")
        found, out, err = call("explain", "--model", PERCEPTRON, listed, *args)
        assert found == code, err
        return out, err

    return explain


def interrupt(*_, **__):
    raise KeyboardInterrupt


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(path: Path) -> list[bytes]:
    """The table and its totals."""
    return [path.read_bytes(), totals_path(path).read_bytes()]


# -- formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["o.tsv", "o.csv", "o.tsv.gz", "o.parquet", "o.h5ad"])
@pytest.mark.parametrize("by", ["regulator", "track"])
def test_every_format_has_all_scores(toy_model, tmp_path, name, by):
    explainer, path = toy_model.explainer(by=by, outputs=OUTPUTS), tmp_path / name
    rows = toy_model.rows_of(GENES, explainer.bound).rows
    write_attributions(explainer, rows, path, TopK(), provenance={"a": 1})
    whole = toy_model.explain(GENES, by=by, outputs=OUTPUTS)
    expected = whole.to_frame()
    if name.endswith("h5ad"):
        data = anndata.read_h5ad(path)
        assert data.obs["gene_id"].tolist() == whole.genes["gene_id"].tolist()
        assert data.var["class"].tolist() == whole.resolution.features["class"].tolist()
        assert data.var_names.is_unique
        for output in OUTPUTS:
            np.testing.assert_array_equal(data.layers[output].toarray(), whole.matrix(output))
        assert json.loads(data.uns["provenance"])["a"] == 1
    elif name.endswith("parquet"):
        found = pd.read_parquet(path)
        pd.testing.assert_frame_equal(found, expected, check_categorical=False)
        assert found.dtypes["gene_id"] == "category"
    else:
        found = pd.read_csv(path, sep="," if name.endswith("csv") else "\t")
        assert list(found.columns) == list(expected.columns)
        texts = [column for column in expected if column != "score"]
        assert (found[texts] == expected[texts].astype(str)).all(axis=None)
        np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-5)
    totals = pd.read_csv(tmp_path / "o.totals.tsv", sep="\t")
    sums = ["prediction", "reference", "sum_of_scores", "delta"]
    assert list(totals.columns) == ["gene_id", "output", *sums]
    assert len(totals) == len(OUTPUTS) * len(GENES)
    assert totals["delta"].abs().max() <= 1e-5
    rest = totals["prediction"] - totals["reference"] - totals["sum_of_scores"]
    assert (rest - totals["delta"]).abs().max() <= 1e-7
    record = json.loads((tmp_path / f"{name}.provenance.json").read_text())
    assert record["units"] == dict.fromkeys(OUTPUTS, "log2 fold change")
    assert names(tmp_path) == sorted([name, f"{name}.provenance.json", "o.totals.tsv"])


def test_one_output_is_x(model, write):
    path = write("o.h5ad", explainer=model.explainer(outputs=["Liver"]))
    expected = model.explain(GENES, outputs=["Liver"]).matrix("Liver")
    np.testing.assert_array_equal(anndata.read_h5ad(path).X.toarray(), expected)


def test_no_genes_give_a_header(explain, tmp_path):
    for name in ("o.tsv", "o.parquet", "o.h5ad", "o.tsv.gz"):
        explain("--outputs", "Liver,Lung", "-o", tmp_path / name, "--force", genes="nope")
    assert (tmp_path / "o.tsv").read_text() == "gene_id\tsymbol\toutput\tclass\tregulator\tscore\n"
    assert gzip.decompress((tmp_path / "o.tsv.gz").read_bytes()).decode().count("\n") == 1
    assert len(pd.read_parquet(tmp_path / "o.parquet")) == 0
    assert anndata.read_h5ad(tmp_path / "o.h5ad").n_obs == 0
    out, _ = explain("--outputs", "Liver", "--by", "class", "--summary", genes="nope")
    assert out.splitlines()[1] == "Liver\tTF\t\t\t0", "the mean of no genes is not known"


# -- chunks and resumption -----------------------------------------------------------------------


def test_transcripts_of_a_gene_stay_in_one_chunk():
    genes = ["b", "a", "b", "c", "a", "b", "b", "c", "d"]
    explainer = SimpleNamespace(
        resolution=SimpleNamespace(by="track"),
        bound=SimpleNamespace(features=SimpleNamespace(rows=SimpleNamespace(gene_ids=genes))),
        references=[None],
    )
    cut = list(writer._chunks(explainer, np.arange(9), TopK(summary=True)))
    assert [[genes[row] for row in chunk] for chunk in cut] == [list("bbbb"), list("aacc"), ["d"]]
    as_asked = list(writer._chunks(explainer, np.arange(9), TopK()))
    assert [chunk.tolist() for chunk in as_asked] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


@pytest.mark.parametrize("selection", [TopK(), TopK(top=4), TopK(summary=True)])
@pytest.mark.parametrize("name", ["o.tsv", "o.tsv.gz", "o.parquet"])
def test_an_interrupted_call_goes_on_and_ends_the_same(write, tmp_path, explained, selection, name):
    (tmp_path / "whole").mkdir()
    expected, done = contents(write(f"whole/{name}", selection)), []

    def second(n):
        done.append(n)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(name, selection, progress=second)
    assert names(tmp_path) == [f"{name}.unfinished", "whole"]
    explained.clear()
    assert contents(write(name, selection)) == expected
    assert sorted(explained) == [0, 1, 3]  # two of four chunks were left; the empty has columns
    assert not (tmp_path / f"{name}.unfinished").exists()


KILLED = f"""
import os, signal, sys
from decode_zoo import cli
from decode_zoo.attribution import writer
writer._CHUNK = dict.fromkeys(writer._CHUNK, 3)
write, done = writer.write_attributions, []
def killed(n):
    done.append(n)
    if len(done) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
writer.write_attributions = lambda *args, **options: write(*args, **options | dict(progress=killed))
sys.argv = ["decode-zoo", "explain", "--model", "{PERCEPTRON}", "--all-genes", "-o", sys.argv[1]]
cli.main()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_and_repeated_on_the_command_line(call, toy_zoo, tmp_path):
    path, work = tmp_path / "o.parquet", tmp_path / "o.parquet.unfinished"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert names(tmp_path) == [work.name]
    assert len(list(work.glob("*/*.done"))) == 4
    again = tmp_path / "again.parquet"
    for file in (path, again):
        assert call("explain", "--model", PERCEPTRON, "--all-genes", "-o", file)[0] == 0
    assert not work.exists()
    pd.testing.assert_frame_equal(pd.read_parquet(path), pd.read_parquet(again))
    assert contents(path)[1] == contents(again)[1]


def test_a_half_written_chunk_is_done_again(write, tmp_path):
    path = write()
    expected = contents(path)
    with pytest.raises(KeyboardInterrupt):
        write(force=True, progress=interrupt)
    assert contents(path) == expected, "--force replaces at the end, not before"
    (work,) = (tmp_path / "o.tsv.unfinished").glob("*/")
    (work / "000000.done").unlink()
    (work / "000000.tsv").write_text("half")
    assert contents(write(force=True)) == expected


def test_unfinished_work_of_another_call_is_not_mixed_in(model, write, explainer):
    with pytest.raises(KeyboardInterrupt):
        write(progress=interrupt)
    other = model.explainer(outputs=OUTPUTS, background=["ALB"])
    backwards = model.rows_of(GENES[::-1], explainer.bound).rows
    for options in ({"rows": backwards}, {"selection": TopK(top=2)}, {"explainer": other}):
        with pytest.raises(UsageError, match="unfinished work of another call"):
            write(**options)
    assert contents(write(explainer=other, force=True)) == contents(write("w.tsv", explainer=other))


def test_what_decode_zoo_did_not_make_is_kept(write, tmp_path):
    blocked, file = tmp_path / "o.tsv.unfinished", tmp_path / "p.tsv.unfinished"
    blocked.mkdir()
    (blocked / "mine").write_text("precious")
    file.touch()
    for name in ("o.tsv", "p.tsv"):
        with pytest.raises(UsageError, match="not made by decode-zoo"):
            write(name, force=True)
    assert names(blocked) == ["mine"]


def test_two_calls_do_not_write_one_output(write):
    """Not the same twice, nor, with --force, another: their chunks must never mix."""

    def second(_):
        for selection in (TopK(), TopK(top=2)):
            with pytest.raises(UsageError, match="Another call is writing"):
                write(selection=selection, force=True)

    assert contents(write(progress=second)) == contents(write("whole.tsv"))


@pytest.mark.parametrize("renamed", [0, 1, 2, 3])
def test_a_kill_between_the_last_steps_is_made_good(write, tmp_path, monkeypatch, renamed):
    """Before the totals have their name, the provenance, the table, or all of them."""
    path, replace, outputs = tmp_path / "o.tsv", os.replace, []

    def killed(source, target):
        if Path(target).parent == tmp_path:
            outputs.append(target)
            if len(outputs) > renamed:
                raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        patch.setattr(writer.shutil, "rmtree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write()
    assert path.exists() == (renamed == 3)
    assert set(names(tmp_path)) <= {*LEFT, "o.tsv.unfinished"}
    write(force=renamed == 3)
    assert names(tmp_path) == LEFT
    assert contents(path) == contents(write("w.tsv"))


def test_a_link_stays_a_link(write, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "o.tsv").symlink_to(tmp_path / "elsewhere" / "table")
    assert write().is_symlink()
    assert names(tmp_path / "elsewhere") == ["table"]
    assert (tmp_path / "o.totals.tsv").is_file()


def test_a_full_disk_keeps_finished_chunks(write, tmp_path, monkeypatch):
    replace = os.replace

    def full(source, target):
        if Path(target).name == "000002.tsv":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match=r"No space left[\s\S]*goes on from there"):
        write()
    assert list((tmp_path / "o.tsv.unfinished").glob("*/000001.done"))
    assert not (tmp_path / "o.tsv").exists()


def test_a_reader_that_has_seen_enough_ends_the_work(model, explainer, explained, monkeypatch):
    monkeypatch.setattr(writer, "print_table", lambda frame, header=True: header)
    rows = model.rows_of(GENES, explainer.bound).rows
    writer.print_attributions(explainer, rows, TopK(top=1))
    assert explained == [0, 3]


def test_blocks_hold_few_rows_where_references_have_many_sites(model, monkeypatch):
    monkeypatch.setattr("decode_zoo.attribution.explainer._INPUTS", 500)
    explainer = model.explainer(by="position", outputs=["Liver"], background=GENES[:3])
    blocks = list(explainer._blocks(np.arange(30)))
    assert sum(map(len, blocks)) == 30
    theirs = sum(reference.places.size for reference in explainer.references)
    for block in blocks:
        assert len(block) == 1 or block.places.size + len(block) * theirs <= 500
        assert len(block) <= BLOCK


def test_rows_of_zero_are_left_out(model):
    frame = model.explain(GENES).to_frame()
    shared = frame.groupby(["gene_id", "class", "regulator"], observed=True)["score"]
    assert shared.apply(lambda scores: (scores != 0).any()).all()


# -- the command line ----------------------------------------------------------------------------


def test_backgrounds_count_each_gene_once(model, explain, tmp_path):
    once = model.explain(["ALB"], outputs=["Liver"], background=["TP53", "GAPDH"])
    again = ["TP53", "GAPDH", "ENSG00000141510.3"]
    twice = model.explain(["ALB"], outputs=["Liver"], background=again)
    pd.testing.assert_frame_equal(once.to_frame(), twice.to_frame())
    file = tmp_path / "b.txt"
    file.write_text("TP53\nGAPDH\n")
    out, _ = explain("--outputs", "Liver", "--background", file, genes="ALB")
    found = [float(line.split("\t")[-1]) for line in out.splitlines()[1:]]
    np.testing.assert_allclose(found, once.to_frame()["score"], rtol=1e-5)
    file.write_text("TP53\nfoo\nbar\n")
    _, err = explain("--background", file, genes="ALB", code=4)
    assert "foo (unknown_gene), bar (unknown_gene)" in err


@pytest.mark.parametrize("options", [(), ("--summary",), ("--top", "2")])
def test_standard_output_is_the_table(explain, tmp_path, options):
    out, err = explain("--outputs", "Liver", *options, "-o", tmp_path / "o.tsv")
    assert out == ""
    assert "2 genes explained" in err
    assert explain("--outputs", "Liver", *options)[0] == (tmp_path / "o.tsv").read_text()


def test_a_long_tables_columns_and_order(explain, tmp_path):
    options = ("--outputs", "Liver,Lung", "--by", "track", "--top", "3")
    out, err = explain(*options, genes="ALB nope TP53 ALB")
    lines = [line.split("\t") for line in out.splitlines()]
    assert lines[0] == ["gene_id", "symbol", "output", "class", "regulator", "track", "score"]
    pairs = [(gene, output) for gene in ("ALB", "TP53") for output in OUTPUTS]
    assert [(line[1], line[2]) for line in lines[1::3]] == pairs
    strength = [abs(float(line[-1])) for line in lines[1:4]]
    assert strength == sorted(strength, reverse=True)
    assert "mask" not in {line[3] for line in lines}
    assert "2 genes explained, 1 unknown_gene" in err
    explain("--by", "class", "-o", tmp_path / "o.tsv", genes="ALB nope")
    record = json.loads((tmp_path / "o.tsv.provenance.json").read_text())
    assert record["not_explained"] == {"nope": "unknown_gene"}
    assert (record["background"], record["by"]) == ("manifest", "class")
    assert record["features"]["id"] == FEATURES


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--top 3 --summary", "exclude each other"),
        ("--top 0", "At least one"),
        ("--by position --summary", "not added up over genes"),
        ("--outputs Livr", "Is it Liver"),
        ("--all-genes", "either a file of genes or --all-genes"),
        ("--top 3 -o o.h5ad", "h5ad"),
        ("--by position -o o.h5ad", "h5ad"),
        ("-o o.xlsx", "Cannot tell the format"),
        ("-o precious.tsv", "--force"),
    ],
)
def test_wrong_calls_leave_what_is_there(explain, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precious.totals.tsv").write_text("precious")
    _, err = explain(*args.split(), code=2)
    assert message in err
    assert names(tmp_path) == ["genes", "precious.totals.tsv"]
    assert (tmp_path / "precious.totals.tsv").read_text() == "precious"


def test_only_one_list_comes_from_standard_input(call, toy_zoo):
    code, _, err = call("explain", "--model", PERCEPTRON, "-", "--background", "-")
    assert code == 2
    assert "list of genes can come from standard input" in err
