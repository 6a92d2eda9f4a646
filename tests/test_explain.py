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

from decode_zoo import writer
from decode_zoo.attribution import Summary
from decode_zoo.errors import UsageError
from decode_zoo.explainer import BLOCK
from decode_zoo.writer import Selection, totals_path, write_attributions
from tests.toy import FEATURES, PERCEPTRON

GENES = ["TP53", "ALB", "GATA1", "HBB", "ACTB", "MYC", "XIST", "TTR", "GAPDH", "MT-TF"]
OUTPUTS = ["Liver", "Lung"]
LEFT = ["o.totals.tsv", "o.tsv", "o.tsv.provenance.json"]


@pytest.fixture
def model(toy_models):
    return toy_models["perceptron"]


@pytest.fixture
def explainer(model):
    return model.explainer(outputs=OUTPUTS)


@pytest.fixture
def rows(model, explainer):
    return model.rows_of(GENES, explainer.bound).rows


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


def interrupt(_):
    raise KeyboardInterrupt


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def outputs_of(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (path, totals_path(path))}


# -- formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["o.tsv", "o.csv", "o.tsv.gz", "o.parquet", "o.h5ad"])
@pytest.mark.parametrize("by", ["regulator", "track"])
def test_every_format_has_all_scores(toy_model, tmp_path, name, by):
    explainer, path = toy_model.explainer(by=by, outputs=OUTPUTS), tmp_path / name
    rows = toy_model.rows_of(GENES, explainer.bound).rows
    write_attributions(explainer, rows, path, Selection(), provenance={"a": 1})
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


def test_one_output_is_x(model, rows, tmp_path):
    explainer = model.explainer(outputs=["Liver"])
    write_attributions(explainer, rows, tmp_path / "o.h5ad", Selection(), provenance={})
    found = anndata.read_h5ad(tmp_path / "o.h5ad").X.toarray()
    expected = model.explain(GENES, outputs=["Liver"]).matrix("Liver")
    np.testing.assert_array_equal(found, expected)


def test_no_genes_give_a_header(explain, tmp_path):
    for name in ("o.tsv", "o.parquet", "o.h5ad", "o.tsv.gz"):
        options = ("--outputs", "Liver,Lung", "-o", tmp_path / name, "--force")
        explain(*options, genes="nope")
    assert (tmp_path / "o.tsv").read_text() == "gene_id\tsymbol\toutput\tclass\tregulator\tscore\n"
    assert gzip.decompress((tmp_path / "o.tsv.gz").read_bytes()).decode().count("\n") == 1
    assert len(pd.read_parquet(tmp_path / "o.parquet")) == 0
    assert anndata.read_h5ad(tmp_path / "o.h5ad").n_obs == 0
    out, _ = explain("--outputs", "Liver", "--by", "class", "--summary", genes="nope")
    assert out.splitlines()[1] == "Liver\tTF\t\t\t0", "the mean of no genes is not known"


# -- chunks --------------------------------------------------------------------------------------


def test_transcripts_of_a_gene_stay_in_one_chunk():
    genes = ["b", "a", "b", "c", "a", "b", "b", "c", "d"]
    explainer = SimpleNamespace(
        resolution=SimpleNamespace(by="track"),
        bound=SimpleNamespace(features=SimpleNamespace(rows=SimpleNamespace(gene_ids=genes))),
        references=[None],
    )
    cut = list(writer._chunks(explainer, np.arange(9), Selection(summary=True)))
    assert [[genes[row] for row in chunk] for chunk in cut] == [list("bbbb"), list("aacc"), ["d"]]
    as_asked = list(writer._chunks(explainer, np.arange(9), Selection()))
    assert [chunk.tolist() for chunk in as_asked] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_summaries_of_chunks_add_up(model):
    whole = model.explain(GENES)
    parts = Summary.of(whole.slice(0, 4)) + Summary.of(whole.slice(4, 10))
    frame = parts.to_frame(whole.resolution, whole.outputs)
    pd.testing.assert_frame_equal(frame, whole.summary(), rtol=1e-10)


@pytest.mark.parametrize("selection", [Selection(), Selection(top=4), Selection(summary=True)])
@pytest.mark.parametrize("name", ["o.tsv", "o.tsv.gz", "o.parquet"])
def test_an_interrupted_call_goes_on_and_ends_the_same(
    explainer, rows, tmp_path, explained, selection, name
):
    whole, path, done = tmp_path / "whole" / name, tmp_path / name, []
    whole.parent.mkdir()
    write_attributions(explainer, rows, whole, selection, provenance={})

    def second(n):
        done.append(n)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_attributions(explainer, rows, path, selection, provenance={}, progress=second)
    assert not path.exists()
    assert not totals_path(path).exists()
    explained.clear()
    write_attributions(explainer, rows, path, selection, provenance={})
    assert sorted(explained) == [0, 1, 3]  # two of four chunks were left; the empty has columns
    assert outputs_of(path) == outputs_of(whole)
    assert not (tmp_path / f"{name}.unfinished").exists()


KILLED = f"""
import os, signal, sys
from decode_zoo import cli, writer
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
    command = ["explain", "--model", PERCEPTRON, "--all-genes", "-o"]
    for file in (path, tmp_path / "again.parquet"):
        assert call(*command, file)[0] == 0
    assert not work.exists()
    pd.testing.assert_frame_equal(
        pd.read_parquet(path), pd.read_parquet(tmp_path / "again.parquet")
    )
    assert (tmp_path / "o.totals.tsv").read_bytes() == (tmp_path / "again.totals.tsv").read_bytes()


def test_a_half_written_chunk_is_done_again(explainer, rows, tmp_path):
    path = tmp_path / "o.tsv"
    write_attributions(explainer, rows, path, Selection(), provenance={})
    expected, again = outputs_of(path), {"provenance": {}, "force": True}
    with pytest.raises(KeyboardInterrupt):
        write_attributions(explainer, rows, path, Selection(), **again, progress=interrupt)
    assert outputs_of(path) == expected, "--force replaces at the end, not before"
    (work,) = (tmp_path / "o.tsv.unfinished").glob("*/")
    (work / "000000.done").unlink()
    (work / "000000.tsv").write_text("half")
    write_attributions(explainer, rows, path, Selection(), **again)
    assert outputs_of(path) == expected


def test_unfinished_work_of_another_call_is_not_mixed_in(model, explainer, rows, tmp_path):
    path = tmp_path / "o.tsv"
    with pytest.raises(KeyboardInterrupt):
        write_attributions(explainer, rows, path, Selection(), provenance={}, progress=interrupt)
    other = model.explainer(outputs=OUTPUTS, background=["ALB"])
    for args in (
        (explainer, rows[::-1], path, Selection()),
        (explainer, rows, path, Selection(top=2)),
        (other, rows, path, Selection()),
    ):
        with pytest.raises(UsageError, match="unfinished work of another call"):
            write_attributions(*args, provenance={})
    write_attributions(other, rows, path, Selection(), provenance={}, force=True)
    write_attributions(other, rows, tmp_path / "w.tsv", Selection(), provenance={})
    assert path.read_bytes() == (tmp_path / "w.tsv").read_bytes()


def test_what_decode_zoo_did_not_make_is_kept(explainer, rows, tmp_path):
    blocked, file = tmp_path / "o.tsv.unfinished", tmp_path / "p.tsv.unfinished"
    blocked.mkdir()
    (blocked / "mine").write_text("precious")
    file.touch()
    for name in ("o.tsv", "p.tsv"):
        with pytest.raises(UsageError, match="not made by decode-zoo"):
            write_attributions(
                explainer, rows, tmp_path / name, Selection(), provenance={}, force=True
            )
    assert names(blocked) == ["mine"]


def test_two_calls_do_not_write_one_output(explainer, rows, tmp_path):
    """Not the same twice, nor, with --force, another: their chunks must never mix."""
    path, whole = tmp_path / "o.tsv", tmp_path / "whole.tsv"

    def second(_):
        for selection in (Selection(), Selection(top=2)):
            with pytest.raises(UsageError, match="Another call is writing"):
                write_attributions(explainer, rows, path, selection, provenance={}, force=True)

    write_attributions(explainer, rows, path, Selection(), provenance={}, progress=second)
    write_attributions(explainer, rows, whole, Selection(), provenance={})
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("renamed", [0, 1, 2, 3])
def test_a_kill_between_the_last_steps_is_made_good(
    explainer, rows, tmp_path, monkeypatch, renamed
):
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
        patch.setattr(writer.shutil, "rmtree", lambda *_, **options: interrupt(None))
        with pytest.raises(KeyboardInterrupt):
            write_attributions(explainer, rows, path, Selection(), provenance={})
    assert path.exists() == (renamed == 3)
    assert set(names(tmp_path)) <= {*LEFT, "o.tsv.unfinished"}
    write_attributions(explainer, rows, path, Selection(), provenance={}, force=renamed == 3)
    assert names(tmp_path) == LEFT
    write_attributions(explainer, rows, tmp_path / "w.tsv", Selection(), provenance={})
    assert path.read_bytes() == (tmp_path / "w.tsv").read_bytes()


def test_a_link_stays_a_link(explainer, rows, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "o.tsv").symlink_to(tmp_path / "elsewhere" / "table")
    write_attributions(explainer, rows, tmp_path / "o.tsv", Selection(), provenance={})
    assert (tmp_path / "o.tsv").is_symlink()
    assert names(tmp_path / "elsewhere") == ["table"]
    assert (tmp_path / "o.totals.tsv").is_file()


def test_a_full_disk_keeps_finished_chunks(explainer, rows, tmp_path, monkeypatch):
    path, replace = tmp_path / "o.tsv", os.replace

    def full(source, target):
        if Path(target).name == "000002.tsv":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match=r"No space left[\s\S]*goes on from there"):
        write_attributions(explainer, rows, path, Selection(), provenance={})
    assert list((tmp_path / "o.tsv.unfinished").glob("*/000001.done"))
    assert not path.exists()


def test_a_reader_that_has_seen_enough_ends_the_work(explainer, rows, explained, monkeypatch):
    monkeypatch.setattr(writer, "print_table", lambda frame, header=True: header)
    writer.print_attributions(explainer, rows, Selection(top=1))
    assert explained == [0, 3]


# -- backgrounds ---------------------------------------------------------------------------------


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
    _, err = explain("--background", tmp_path / "nowhere.tsv", code=4)
    assert "nowhere.tsv" in err


def test_blocks_hold_few_rows_where_references_have_many_sites(model, monkeypatch):
    monkeypatch.setattr("decode_zoo.explainer._INPUTS", 500)
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


@pytest.mark.parametrize("options", [(), ("--summary",), ("--top", "2")])
def test_standard_output_is_the_table(explain, tmp_path, options):
    common = ("--outputs", "Liver", *options)
    out, err = explain(*common, "-o", tmp_path / "o.tsv")
    assert out == ""
    assert "2 genes explained" in err
    assert explain(*common)[0] == (tmp_path / "o.tsv").read_text()


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
        (["--top", "3", "--summary"], "exclude each other"),
        (["--top", "0"], "At least one"),
        (["--by", "position", "--summary"], "not added up over genes"),
        (["--outputs", "Livr"], "Is it Liver"),
        (["--all-genes"], "either a file of genes or --all-genes"),
        (["--top", "3", "-o", "o.h5ad"], "h5ad"),
        (["--by", "position", "-o", "o.h5ad"], "h5ad"),
        (["-o", "o.xlsx"], "Cannot tell the format"),
    ],
)
def test_wrong_calls(explain, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    _, err = explain(*args, code=2)
    assert message in err
    assert names(tmp_path) == ["genes"]


def test_only_one_list_comes_from_standard_input(call, toy_zoo):
    code, _, err = call("explain", "--model", PERCEPTRON, "-", "--background", "-")
    assert code == 2
    assert "list of genes can come from standard input" in err


def test_existing_files_are_kept(explain, tmp_path):
    (tmp_path / "o.totals.tsv").write_text("precious")
    _, err = explain("-o", tmp_path / "o.tsv", code=2)
    assert "--force" in err
    assert (tmp_path / "o.totals.tsv").read_text() == "precious"
