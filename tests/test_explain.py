"""``decode-zoo explain``: tables in chunks, resumption, formats, bad input."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest

import decode_zoo as dz
from decode_zoo import writer
from decode_zoo.attribution import Summary
from decode_zoo.errors import UsageError
from decode_zoo.writer import Selection, totals_path, write_attributions
from tests.test_cli import EXAMPLE, run

MODEL = "gtex-tissue-v1"
GENES = ["TP53", "ALB", "GATA1", "HBB", "ACTB", "MYC", "XIST", "TTR", "GAPDH", "SOX2"]


@pytest.fixture(scope="module")
def model():
    return dz.load(MODEL)


@pytest.fixture
def explainer(model):
    return model.explainer(outputs=["Liver", "Whole_Blood"])


@pytest.fixture
def rows(model, explainer):
    return model.rows_of(GENES, explainer.bound).rows


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(writer, "_CHUNK", dict.fromkeys(writer._CHUNK, 3))


def explain(*args, code=0, **kwargs):
    return run("explain", "--model", MODEL, *args, code=code, **kwargs)


def outputs_of(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (path, totals_path(path))}


@pytest.mark.parametrize("name", ["o.tsv", "o.csv", "o.tsv.gz", "o.parquet", "o.h5ad"])
@pytest.mark.parametrize("by", ["regulator", "track"])
def test_every_format_has_all_scores(model, rows, tmp_path, small_chunks, name, by):
    explainer = model.explainer(by=by, outputs=["Liver", "Whole_Blood"])
    path = tmp_path / name
    write_attributions(explainer, rows, path, Selection(), provenance={"a": 1})
    whole = model.explain(GENES, by=by, outputs=["Liver", "Whole_Blood"])
    expected = whole.to_frame()
    if name.endswith("h5ad"):
        data = anndata.read_h5ad(path)
        assert data.obs["gene_id"].tolist() == whole.genes["gene_id"].tolist()
        assert data.var["class"].tolist() == whole.resolution.features["class"].tolist()
        assert data.var_names.is_unique
        for output in ("Liver", "Whole_Blood"):
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
    assert list(totals.columns) == [
        "gene_id",
        "output",
        "prediction",
        "reference",
        "sum_of_scores",
        "delta",
    ]
    assert len(totals) == 2 * len(GENES)
    assert totals["delta"].abs().max() <= 1e-5
    record = json.loads((tmp_path / f"{name}.provenance.json").read_text())
    assert record["units"] == {"Liver": "log2 fold change", "Whole_Blood": "log2 fold change"}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [name, f"{name}.provenance.json", "o.totals.tsv"]
    )


def test_one_output_is_x(model, rows, tmp_path):
    explainer = model.explainer(outputs=["Liver"])
    write_attributions(explainer, rows, tmp_path / "o.h5ad", Selection(), provenance={})
    data = anndata.read_h5ad(tmp_path / "o.h5ad")
    np.testing.assert_array_equal(
        data.X.toarray(), model.explain(GENES, outputs=["Liver"]).matrix("Liver")
    )


@pytest.mark.parametrize("selection", [Selection(), Selection(top=4), Selection(summary=True)])
@pytest.mark.parametrize("name", ["o.tsv", "o.tsv.gz", "o.parquet"])
def test_an_interrupted_call_goes_on_and_ends_the_same(
    explainer, rows, tmp_path, small_chunks, monkeypatch, selection, name
):
    whole = tmp_path / "whole"
    whole.mkdir()
    write_attributions(explainer, rows, whole / name, selection, provenance={})

    path, done = tmp_path / name, []

    def interrupt(n):
        done.append(n)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_attributions(explainer, rows, path, selection, provenance={}, progress=interrupt)
    assert not path.exists()
    assert not totals_path(path).exists()
    calls = []
    real = type(explainer).explain
    monkeypatch.setattr(
        type(explainer), "explain", lambda self, r: calls.append(r.size) or real(self, r)
    )
    write_attributions(explainer, rows, path, selection, provenance={})
    assert sorted(calls) == [0, 1, 3]  # two of four chunks were left; the empty one gives columns
    assert outputs_of(path) == outputs_of(whole / name)
    assert not (tmp_path / f"{name}.unfinished").exists()


def test_a_half_written_chunk_is_done_again(explainer, rows, tmp_path, small_chunks):
    path = tmp_path / "o.tsv"
    write_attributions(explainer, rows, path, Selection(), provenance={})
    expected = outputs_of(path)

    def interrupt(n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_attributions(
            explainer, rows, path, Selection(), provenance={}, force=True, progress=interrupt
        )
    assert outputs_of(path) == expected, "--force replaces at the end, not before"
    (work,) = (tmp_path / "o.tsv.unfinished").glob("*/")
    (work / "000000.done").unlink()
    (work / "000000.tsv").write_text("half")
    write_attributions(explainer, rows, path, Selection(), provenance={}, force=True)
    assert outputs_of(path) == expected


def test_unfinished_work_of_another_call_is_not_mixed_in(
    model, explainer, rows, tmp_path, small_chunks
):
    path = tmp_path / "o.tsv"

    def interrupt(n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_attributions(explainer, rows, path, Selection(), provenance={}, progress=interrupt)
    other = model.explainer(outputs=["Liver", "Whole_Blood"], background=["ALB"])
    for args in (
        (explainer, rows[::-1], Selection()),
        (explainer, rows, Selection(top=2)),
        (other, rows, Selection()),
    ):
        with pytest.raises(UsageError, match="unfinished work of another call"):
            write_attributions(args[0], args[1], path, args[2], provenance={})
    write_attributions(other, rows, path, Selection(), provenance={}, force=True)
    assert (pd.read_csv(path, sep="\t")["score"] != 0).any()
    blocked = tmp_path / "p.tsv.unfinished"
    blocked.mkdir()
    (blocked / "mine").write_text("precious")
    with pytest.raises(UsageError, match="not made by decode-zoo"):
        write_attributions(
            explainer, rows, tmp_path / "p.tsv", Selection(), provenance={}, force=True
        )
    assert (blocked / "mine").read_text() == "precious"


def test_a_kill_at_the_end_leaves_nothing_beside_the_outputs(
    explainer, rows, tmp_path, small_chunks, monkeypatch
):
    """What was joined so far is in the folder of unfinished work, and goes with it."""
    path, sync = tmp_path / "o.tsv", os.fsync

    def killed(file):
        if list(work.glob("*/000003.done")):
            left.extend(p.name for p in tmp_path.iterdir())
            os.rename(work, tmp_path / "as it was")  # no cleaning up after a kill
            raise KeyboardInterrupt
        sync(file)

    work, left = tmp_path / "o.tsv.unfinished", []
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises((KeyboardInterrupt, FileNotFoundError)):
            write_attributions(explainer, rows, path, Selection(), provenance={})
    assert left == ["o.tsv.unfinished"]
    os.rename(tmp_path / "as it was", work)
    write_attributions(explainer, rows, path, Selection(), provenance={})
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "o.totals.tsv",
        "o.tsv",
        "o.tsv.provenance.json",
    ]


def test_two_calls_do_not_write_one_output(explainer, rows, tmp_path, small_chunks):
    """Not the same twice, nor, with --force, another: their chunks must never mix."""
    path = tmp_path / "o.tsv"

    def second(_):
        for selection in (Selection(), Selection(top=2)):
            with pytest.raises(UsageError, match="Another call is writing"):
                write_attributions(explainer, rows, path, selection, provenance={}, force=True)

    write_attributions(explainer, rows, path, Selection(), provenance={}, progress=second)
    whole = tmp_path / "whole.tsv"
    write_attributions(explainer, rows, whole, Selection(), provenance={})
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("renamed", [0, 1, 2, 3])
def test_a_kill_between_the_last_steps_is_made_good(
    explainer, rows, tmp_path, small_chunks, monkeypatch, renamed
):
    """Before the totals have their name, the provenance, the table, or all of them."""
    path, replace, outputs = tmp_path / "o.tsv", os.replace, []

    def killed(*args):
        if Path(args[1]).parent == tmp_path:
            outputs.append(args)
            if len(outputs) > renamed:
                raise KeyboardInterrupt
        replace(*args)

    def killed_later(*_, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        patch.setattr(writer.shutil, "rmtree", killed_later)
        with pytest.raises(KeyboardInterrupt):
            write_attributions(explainer, rows, path, Selection(), provenance={})
    assert path.exists() == (renamed == 3)
    write_attributions(explainer, rows, path, Selection(), provenance={}, force=renamed == 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "o.totals.tsv",
        "o.tsv",
        "o.tsv.provenance.json",
    ]
    whole = tmp_path / "whole.tsv"
    write_attributions(explainer, rows, whole, Selection(), provenance={})
    assert path.read_bytes() == whole.read_bytes()


def test_a_kill_before_the_plan_is_made_good(explainer, rows, tmp_path):
    work = tmp_path / "o.tsv.unfinished"
    work.mkdir()
    (work / ".decode-zoo-abcd.tmp").touch()
    write_attributions(explainer, rows, tmp_path / "o.tsv", Selection(), provenance={})
    assert not work.exists()
    (tmp_path / "p.tsv.unfinished").touch()
    with pytest.raises(UsageError, match="in the way"):
        write_attributions(explainer, rows, tmp_path / "p.tsv", Selection(), provenance={})


def test_the_totals_add_up_as_written(model, rows, tmp_path):
    write_attributions(model.explainer(), rows, tmp_path / "o.tsv", Selection(), provenance={})
    totals = pd.read_csv(tmp_path / "o.totals.tsv", sep="\t")
    rest = totals["prediction"] - totals["reference"] - totals["sum_of_scores"]
    assert rest.abs().max() <= 1e-5
    assert (rest - totals["delta"]).abs().max() <= 1e-7


def test_a_reader_that_has_seen_enough_ends_the_work(explainer, monkeypatch):
    calls = []
    real = type(explainer).explain
    monkeypatch.setattr(
        type(explainer), "explain", lambda self, r: calls.append(r.size) or real(self, r)
    )
    monkeypatch.setattr(writer, "print_table", lambda frame, header=True: header)
    writer.print_attributions(explainer, np.arange(4000), Selection(top=1))
    assert calls == [0, 1024]


def test_rows_of_zero_are_left_out(model):
    frame = model.explain(GENES).to_frame()
    shared = frame.groupby(["gene_id", "class", "regulator"], observed=True)["score"]
    assert shared.apply(lambda scores: (scores != 0).any()).all()
    whole = frame[(frame["class"] == "mask") & (frame["regulator"] == "promoter")]
    assert whole.empty, "the windows of these genes are whole, as the reference's is"


def test_backgrounds_count_each_gene_once(model, tmp_path):
    once = model.explain(["ALB"], outputs=["Liver"], background=["TP53", "GAPDH"])
    again = ["TP53", "GAPDH", "ENSG00000141510.3"]
    twice = model.explain(["ALB"], outputs=["Liver"], background=again)
    pd.testing.assert_frame_equal(once.to_frame(), twice.to_frame())
    (tmp_path / "b.txt").write_text("TP53\nfoo\nbar\n")
    done = explain("-", "--background", tmp_path / "b.txt", stdin="ALB\n", code=4)
    assert "foo (unknown_gene), bar (unknown_gene)" in done.stderr


def test_backgrounds_by_position_stay_within_memory(model):
    """Blocks hold few rows where references have many sites."""
    features = dz.load_features(Path(__file__).parents[1] / "zoo/features/hg38-open-v2")
    explainer = model.explainer(
        by="position", outputs=["Liver"], features=features, background=GENES[:3]
    )
    blocks = list(explainer._blocks(np.arange(64)))
    assert sum(map(len, blocks)) == 64
    theirs = sum(reference.places.size for reference in explainer.references)
    assert max(len(block) for block in blocks) * theirs <= 100_000


def test_no_genes_have_no_mean(tmp_path):
    done = explain("-", "--outputs", "Liver", "--by", "class", "--summary", stdin="nope\n")
    assert done.stdout.splitlines()[1] == "Liver\tTF\t\t\t0"


def test_a_link_stays_a_link(explainer, rows, tmp_path, small_chunks):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "o.tsv").symlink_to(tmp_path / "elsewhere" / "table")
    write_attributions(explainer, rows, tmp_path / "o.tsv", Selection(), provenance={})
    assert (tmp_path / "o.tsv").is_symlink()
    assert [p.name for p in (tmp_path / "elsewhere").iterdir()] == ["table"]
    assert (tmp_path / "o.totals.tsv").is_file()


def test_a_full_disk_keeps_finished_chunks(explainer, rows, tmp_path, small_chunks, monkeypatch):
    path, replace = tmp_path / "o.tsv", os.replace

    def full(source, target):
        if Path(target).name == "000002.tsv":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match=r"No space left[\s\S]*goes on from there"):
        write_attributions(explainer, rows, path, Selection(), provenance={})
    monkeypatch.undo()
    assert list((tmp_path / "o.tsv.unfinished").glob("*/000001.done"))
    assert not path.exists()


@pytest.mark.slow
def test_killed_and_repeated_on_the_command_line(tmp_path):
    genes = tmp_path / "genes.tsv"
    genes.write_text("\n".join(dz.load(MODEL).features.rows.ids[:5000]))
    command = [
        sys.executable,
        "-m",
        "decode_zoo",
        "explain",
        "--model",
        MODEL,
        genes,
        "--by",
        "track",
        "--outputs",
        "Liver,Testis",
        "-o",
    ]
    path = tmp_path / "o.parquet"
    work = tmp_path / "o.parquet.unfinished"
    process = subprocess.Popen([*command, path], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(work.glob("*/000001.done")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not path.exists()
    kept = {p.name: p.stat().st_mtime_ns for p in work.glob("*/*.done")}
    seen = {}
    process = subprocess.Popen([*command, path], stderr=subprocess.DEVNULL)
    while process.poll() is None:
        seen.update({p.name: p.stat().st_mtime_ns for p in work.glob("*/00000[01].done")})
        time.sleep(0.05)
    assert process.returncode == 0
    assert seen.items() <= kept.items()
    assert seen
    again = tmp_path / "again.parquet"
    subprocess.run([*command, again], check=True, stderr=subprocess.DEVNULL)
    pd.testing.assert_frame_equal(pd.read_parquet(path), pd.read_parquet(again))
    assert totals_path(path).read_bytes() == totals_path(again).read_bytes()


def test_standard_output_is_the_table(tmp_path):
    done = explain(EXAMPLE, "--outputs", "Liver", "-o", tmp_path / "o.tsv")
    assert done.stdout == ""
    assert "12 genes explained" in done.stderr
    printed = explain(EXAMPLE, "--outputs", "Liver")
    assert printed.stdout == (tmp_path / "o.tsv").read_text()
    summary = explain(EXAMPLE, "--outputs", "Liver", "--summary").stdout
    explain(EXAMPLE, "--outputs", "Liver", "--summary", "-o", tmp_path / "s.tsv")
    assert summary == (tmp_path / "s.tsv").read_text()


def test_a_long_tables_columns_and_order():
    done = explain(
        "-",
        "--outputs",
        "Liver,Spleen",
        "--by",
        "track",
        "--top",
        "3",
        stdin="ALB\nnope\nTP53\nALB\n",
    )
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert lines[0] == ["gene_id", "symbol", "output", "class", "regulator", "track", "score"]
    assert [(line[1], line[2]) for line in lines[1::3]] == [
        ("ALB", "Liver"),
        ("ALB", "Spleen"),
        ("TP53", "Liver"),
        ("TP53", "Spleen"),
    ]
    strength = [abs(float(line[-1])) for line in lines[1:4]]
    assert strength == sorted(strength, reverse=True)
    assert all(line[3] in ("TF", "RBP", "miRNA") for line in lines[1:])
    assert "2 genes explained, 1 unknown_gene" in done.stderr


def test_lost_genes_are_in_the_provenance(tmp_path):
    explain("-", "--by", "class", "-o", tmp_path / "o.tsv", stdin="ALB\nnope\n")
    record = json.loads((tmp_path / "o.tsv.provenance.json").read_text())
    assert record["not_explained"] == {"nope": "unknown_gene"}
    assert record["background"] == "manifest"
    assert record["by"] == "class"


def test_a_background_of_ones_own(tmp_path, model):
    (tmp_path / "b.txt").write_text("ACTB\nGAPDH\n")
    done = explain("-", "--outputs", "Liver", "--background", tmp_path / "b.txt", stdin="ALB\n")
    frame = model.explain(["ALB"], outputs=["Liver"], background=["ACTB", "GAPDH"]).to_frame()
    found = [float(line.split("\t")[-1]) for line in done.stdout.splitlines()[1:]]
    np.testing.assert_allclose(found, frame["score"], rtol=1e-5)


def test_no_genes_give_a_header(tmp_path):
    for name in ("o.tsv", "o.parquet", "o.h5ad", "o.tsv.gz"):
        explain("-", "--outputs", "Liver,Lung", "-o", tmp_path / name, "--force", stdin="nope\n")
    assert (tmp_path / "o.tsv").read_text() == "gene_id\tsymbol\toutput\tclass\tregulator\tscore\n"
    assert gzip.decompress((tmp_path / "o.tsv.gz").read_bytes()).decode().count("\n") == 1
    assert len(pd.read_parquet(tmp_path / "o.parquet")) == 0
    assert anndata.read_h5ad(tmp_path / "o.h5ad").n_obs == 0


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
        (["--background", "-"], "Only one list"),
    ],
)
def test_wrong_calls(args, message, tmp_path):
    genes = "-" if "--background" in args else EXAMPLE
    done = explain(genes, *args, code=2, cwd=tmp_path, stdin="ALB\n")
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_existing_files_are_kept(tmp_path):
    (tmp_path / "o.totals.tsv").write_text("precious")
    done = explain(EXAMPLE, "-o", tmp_path / "o.tsv", code=2)
    assert "--force" in done.stderr
    assert (tmp_path / "o.totals.tsv").read_text() == "precious"


def test_unknown_background_gene():
    done = explain("-", "--background", EXAMPLE.parent / "nowhere.tsv", stdin="ALB\n", code=4)
    assert "nowhere.tsv" in done.stderr


def test_transcripts_of_a_gene_stay_in_one_chunk(small_chunks):
    names = ["b", "a", "b", "c", "a", "b", "b", "c", "d"]
    features = SimpleNamespace(rows=SimpleNamespace(gene_ids=names))
    explainer = SimpleNamespace(
        resolution=SimpleNamespace(by="track"),
        bound=SimpleNamespace(features=features),
        references=[None],
    )
    cut = list(writer._chunks(explainer, np.arange(9), Selection(summary=True)))
    assert [[names[row] for row in chunk] for chunk in cut] == [list("bbbb"), list("aacc"), ["d"]]
    as_asked = list(writer._chunks(explainer, np.arange(9), Selection()))
    assert [chunk.tolist() for chunk in as_asked] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_summaries_of_chunks_add_up(model):
    whole = model.explain(GENES)
    parts = Summary.of(whole.slice(0, 4)) + Summary.of(whole.slice(4, 10))
    pd.testing.assert_frame_equal(
        parts.to_frame(whole.resolution, whole.outputs), whole.summary(), rtol=1e-10
    )
