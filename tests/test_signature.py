"""Signatures: statistics against independent ones, invariances, and what users bring and get."""

from __future__ import annotations

import gzip
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import decode_zoo as dz
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.features.genesets import read_gmt
from decode_zoo.features.spec import Track
from decode_zoo.studies import signature_evidence as evidence
from decode_zoo.studies.signature import (
    COLUMNS,
    Signature,
    SignatureStudy,
    read_signature,
    read_signatures,
    study_signatures,
)
from decode_zoo.studies.signature_evidence import (
    adjusted,
    cauchy,
    chance,
    contrasts,
    gather,
    ingredients,
    likeness,
    standardised,
    upper_tail,
)
from decode_zoo.studies.signature_reference import GenePool, Reference, orthonormal, read_reference

for package in ("matplotlib", "jinja2", "pyarrow"):
    pytest.importorskip(package)

DOCS = Path(__file__).resolve().parents[1] / "docs/signature"


# Statistics


def random_sets(n_genes: int, size: int, n: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    members = np.zeros((n_genes, n), bool)
    for column in members.T:
        column[random.choice(n_genes, size, replace=False)] = True
    return members


def confounded(n: int = 1500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two confounders, and four tracks that follow them: wide, narrow, of values, of chance."""
    random = np.random.default_rng(seed)
    confounders = random.normal(size=(n, 2))
    lean = confounders[:, 0] + random.normal(size=n)
    return confounders, np.column_stack(
        [
            lean > 0,
            lean > 2,
            np.sqrt(random.exponential(100, n)) * (lean > 0.5),
            random.exponential(1, n) * (random.random(n) < 0.1),
        ]
    ).astype(np.float32)


def test_adjusted_columns_are_residuals_of_a_polynomial():
    api = pytest.importorskip("statsmodels.api")
    confounders, columns = confounded(400)
    columns = columns.astype(np.float64)
    design = api.add_constant(np.hstack([confounders, confounders**2, confounders**3]))
    expected = np.column_stack([api.OLS(column, design).fit().resid for column in columns.T])
    # Confounders that say nothing new change nothing.
    more = np.column_stack([confounders, np.ones(400), confounders[:, 0] * 3 + 1])
    for source, tolerance in ((confounders, 1e-8), (more, 1e-4)):
        np.testing.assert_allclose(adjusted(columns, orthonormal(source)), expected, atol=tolerance)


def test_without_confounders_p_is_that_of_the_hypergeometric_test():
    n, random = 3000, np.random.default_rng(1)
    basis = orthonormal(np.ones((n, 1)))
    targets = (random.random((n, 3)) < [0.01, 0.1, 0.5]).astype(np.float32)
    members = random_sets(n, 60, 40)
    for i in range(0, 40, 2):  # of which some are enriched
        members[np.flatnonzero(targets[:, i % 3])[: 2 + i // 10], i] = True
    p = upper_tail(contrasts(members, basis).tests(targets, basis))
    for i, column in enumerate(members.T):
        overlap = column.astype(float) @ targets
        law = stats.hypergeom(n, targets.sum(axis=0).astype(int), int(column.sum()))
        # A law of whole numbers, met halfway.
        middle = law.sf(overlap) + 0.5 * law.pmf(overlap)
        found, middle = np.log10(p[i]), np.log10(middle)
        np.testing.assert_allclose(found[1:], middle[1:], rtol=0.06, atol=0.05)
        # Far out, thirty targets are too few for three moments: p is too large, if anything.
        assert -0.15 < found[0] - middle[0] < 0.1 - 0.35 * middle[0]


def test_p_of_tracks_and_matches_is_that_of_a_permutation_test():
    """With 20,000 random sets of the same size, drawn from the background."""
    confounders, columns = confounded()
    n, draws = len(columns), 20_000
    basis, random = orthonormal(confounders), np.random.default_rng(2)
    profiles = random.normal(size=(n, 6)).astype(np.float32)
    own = np.array([3, 700])
    observed = random_sets(n, 50, 25, seed=3)
    for i in range(5):  # a few that lean to a track
        observed[np.flatnonzero(columns[:, i % 4])[:8], i] = True
    observed[own] = False
    sets = contrasts(observed, basis)
    p = upper_tail(np.hstack([sets.tests(columns, basis), likeness(profiles, own, sets, basis).z]))
    assert (p < 0.02).any()
    assert (p > 0.5).any()
    # The same statistics, by the letter: sums over members of what is left of a column.
    centred = profiles - profiles.mean(axis=0)
    shapes = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    variance, axes = np.linalg.eigh((shapes.T @ shapes / n).astype(np.float64))
    white = shapes @ (axes / np.sqrt(np.maximum(variance, 0.02 * variance[-1])))
    alike = adjusted(white @ white[own].T, basis)
    alike[own, [0, 1]] = 0
    left = np.hstack([adjusted(columns.astype(np.float64), basis), alike])
    chosen = np.argpartition(random.random((draws, n), np.float32), 58, axis=1)
    for size in np.unique(observed.sum(axis=0)):
        null = np.zeros((draws, left.shape[1]))
        for place in range(size):
            null += left[chosen[:, place]]
        for i in np.flatnonzero(observed.sum(axis=0) == size):
            permuted = (null >= observed[:, i].astype(float) @ left).mean(axis=0)
            error = 4 * np.sqrt(permuted * (1 - permuted) / draws)
            assert (np.abs(p[i] - permuted) < error + 0.12 * permuted + 0.002).all()


def test_chance_of_a_regulator_is_not_rarer_than_it_says():
    """Over 3,000 random sets: no permutation test would be stricter."""
    pool = small_scene()
    p = chance(pool, gather(pool, random_sets(len(pool.rows), 60, 3000)))
    known = np.array([name != "NOTHING" for name in pool.regulators])
    assert (p[:, ~known] == 1).all()
    for level in (0.1, 0.01, 0.001):
        share = (p[:, known] <= level).mean(axis=0)
        assert (share < level + 4 * np.sqrt(level / 3000)).all(), (level, share)
    assert (p[:, known] <= 0.1).mean() > 0.03  # and not never


def test_combined_p_is_that_of_cauchy():
    p = np.random.default_rng(4).uniform(0, 0.98, (6, 5))
    found = cauchy(p, [0, 0, 2, 2, 2], 4)
    for group, columns in ((0, slice(0, 2)), (2, slice(2, 5))):
        largest = np.minimum(p[:, columns], evidence._LARGEST_P)
        together = stats.cauchy.sf(stats.cauchy.isf(largest).mean(axis=1))
        np.testing.assert_allclose(found[:, group], together, rtol=1e-9)
    assert (found[:, [1, 3]] == 0.5).all()
    assert cauchy(np.array([[1e-200, 0.5]]), [0, 0], 1)[0, 0] == pytest.approx(2e-200)


def test_standardised_values_leave_out_what_is_not_known():
    values = np.array([[1.0, 2, -np.inf, 6], [5, 5, -np.inf, 5]])
    found = standardised(values)
    np.testing.assert_allclose(found[0, [0, 1, 3]], stats.zscore([1.0, 2, 6]))
    assert (found[:, 2] == 0).all()
    assert (found[1] == 0).all()
    assert (standardised(np.full((2, 3), -np.inf)) == 0).all()


# A small pool


def small_scene(n: int = 1500, seed: int = 5) -> GenePool:
    confounders, columns = confounded(n, seed)
    names = ("A", "B", "C", "NOTHING")
    track_of = np.array([0, 0, 1, 2])
    tracks = tuple(
        Track(f"t{i}", names[of], "tf", "", "", "0" * 64) for i, of in enumerate(track_of)
    )
    profiles = np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32)
    genes, own = ("g0", "g7", "", ""), np.array([0, 7, -1, -1])
    basis = orthonormal(confounders)
    return GenePool(np.arange(n), basis, columns, tracks, profiles, names, track_of, genes, own)


def reference(**tracks: tuple[float, float]) -> Reference:
    weights = {"binding": 1.0, "own": 1.0, "match": 1.0}
    return Reference(1, 100.0, 1500, weights, 0.01, 1.5, tracks, {}, {"g7": 0.1})


def test_own_gene_counts_by_how_rarely_it_is_a_member():
    pool = small_scene()
    members = random_sets(1500, 50, 2)
    members[[0, 7]] = [[True, False], [True, False]]
    own = ingredients(pool, gather(pool, members), reference())["own"]
    share = members.sum(axis=0)[0] / 1500 / (100 / 1500)
    np.testing.assert_allclose(own, [[-np.log(0.01 * share), -np.log(0.1 * share), 0, 0], [0] * 4])


def test_binding_is_the_best_track_against_what_is_usual():
    pool = small_scene()
    evidence = gather(pool, random_sets(1500, 100, 3))
    found = ingredients(pool, evidence, reference(t0=(2.0, 1.0), t3=(0.0, 3.0)))["binding"]
    z = evidence.binding
    usual = np.column_stack([z[:, 0] - 2, z[:, 1] / 1.5, z[:, 2] / 1.5, z[:, 3] / 3])
    best = np.column_stack([usual[:, :2].max(axis=1), usual[:, 2:]])
    np.testing.assert_allclose(found[:, :3], stats.zscore(best, axis=1), rtol=1e-9)
    assert (found[:, 3] == 0).all()


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_genes_does_not_matter(seed):
    random = np.random.default_rng(seed)
    confounders, columns = confounded(300)
    members, order = random_sets(300, 30, 3, seed), random.permutation(300)
    basis, turned = orthonormal(confounders), orthonormal(confounders[order])
    found = contrasts(members, basis).tests(columns, basis)
    other = contrasts(members[order], turned).tests(columns[order], turned)
    np.testing.assert_allclose(found, other, atol=1e-3)


# Studies with the default model


@pytest.fixture(scope="module")
def zoo() -> tuple[dz.FeatureSet, dz.Model]:
    return dz.load_features("hg38-open-v2"), dz.load("gtex-tissue-v1")


@pytest.fixture(scope="module")
def background(zoo) -> list[str]:
    """1,500 genes that code for proteins, among them some of liver."""
    features, _ = zoo
    rows = np.flatnonzero(np.array(features.rows.biotypes) == "protein_coding")
    rows = np.random.default_rng(0).choice(rows, 1480, replace=False)
    rows = np.setdiff1d(rows, features.index.resolve(LIVER).rows)
    return [features.rows.ids[row] for row in rows] + LIVER


LIVER = """ALB APOA1 APOA2 APOB APOC3 APOH TTR SERPINA1 FGA FGB FGG AHSG HNF1A HNF4A FOXA2 TF CYP2C9
           CYP2C8 F2 F9""".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def study(zoo, background) -> SignatureStudy:
    sets = [
        Signature("liver", tuple(LIVER)),
        Signature("few", ("ALB", "TTR", "nope")),
        Signature("some", tuple(background[:100])),
    ]
    return study_signatures(sets, *zoo, background=background)


def test_liver_genes_lead_to_regulators_of_liver(study):
    ranks, details, explained = study.of("liver")
    assert {"HNF4A", "HNF1A"} <= set(ranks["regulator"].head(5))
    best = explained.sort_values("auroc", ascending=False).iloc[0]
    assert best["output"] == "Liver"
    assert best["auroc"] > 0.9
    assert best["q"] < 1e-5
    own = details.set_index("regulator")["own_gene_in"]
    assert set(own.index[own]) == {"HNF1A", "HNF4A", "FOXA2"}


def test_tables_are_whole(study, zoo):
    assert tuple(study.ranks.columns) == COLUMNS
    assert study.names == ["liver", "some"]
    assert study.skipped == {"few": 2}
    assert study.genes.to_numpy().tolist() == [
        ["liver", 20, 20, 0, 0],
        ["few", 3, 2, 1, 0],
        ["some", 100, 100, 0, 0],
    ]
    for name in study.names:
        ranks, details, explained = study.of(name)
        assert list(ranks["rank"]) == list(range(1, len(ranks) + 1))
        assert set(read_reference().regulators) <= set(ranks["regulator"])
        assert ranks["regulator"].is_unique
        # Ties go by p, then by name.
        order = np.lexsort([ranks["regulator"], ranks["p"], -ranks["score"]])
        assert list(order) == list(range(len(ranks)))
        np.testing.assert_allclose(ranks["q"], stats.false_discovery_control(ranks["p"]))
        assert list(ranks["regulator"]) == list(details["regulator"])
        parts = details[["binding", "own_gene", "match"]].sum(axis=1)
        np.testing.assert_allclose(parts, ranks["score"], atol=1e-9)
        assert list(explained["output"]) == list(zoo[1].outputs)
    assert ranks["score"].duplicated().any()


def test_explained_is_the_test_of_mann_and_whitney(study, zoo, background):
    _, model = zoo
    members = np.zeros(len(background), bool)
    members[:100] = True
    predicted = model.predict(background)
    for output in ("Liver", "Testis", "median_log2_tpm"):
        values = predicted[output].to_numpy()
        test = stats.mannwhitneyu(
            values[members], values[~members], use_continuity=False, method="asymptotic"
        )
        row = study.of("some")[2].set_index("output").loc[output]
        auroc = test.statistic / (100 * (len(background) - 100))
        assert row["auroc"] == pytest.approx(auroc, abs=1e-6)
        assert row["p"] == pytest.approx(test.pvalue, rel=5e-3)


def test_a_signature_alone_or_among_others_is_the_same(study, zoo, background):
    features, _ = zoo
    genes = [f"{i}.7" for i in (features.rows.ids[r] for r in features.index.resolve(LIVER).rows)]
    turned = Signature("liver", (*reversed(genes), "ALB", genes[3], "nope"))
    alone = study_signatures([turned], *zoo, background=[*reversed(background), *background[:9]])
    among = study.of("liver")[0]
    one, other = (frame.set_index("regulator").sort_index() for frame in (alone.ranks, among))
    np.testing.assert_allclose(one["score"], other["score"], atol=2e-4)
    np.testing.assert_allclose(one["p"], other["p"], rtol=1e-2, atol=1e-12)
    assert list(alone.ranks["regulator"][:10]) == list(among["regulator"][:10])
    assert alone.genes.to_numpy().tolist() == [["liver", 23, 20, 1, 0]]


def test_regulators_of_rna(zoo, background):
    found = study_signatures(
        [Signature("some", tuple(background[:50]))], *zoo, side="rna", background=background
    )
    tracks = {track.regulator for track in zoo[0].side_tracks["rna"] if track.kind == "rbp"}
    assert len(tracks & set(found.ranks["regulator"])) > 100
    assert "HNF4A" not in set(found.ranks["regulator"])


def test_changes_of_a_table_are_compared_with_predictions(zoo, background):
    values = zoo[1].predict(background)["Liver"].to_numpy()
    noisy = values + np.random.default_rng(0).normal(size=len(values))
    first = tuple(background[i] for i in np.argsort(-noisy)[:100])
    found = study_signatures([Signature("t", first, tuple(background), tuple(noisy))], *zoo)
    assert found.n_background == len(set(background))
    row = found.explained.set_index("output").loc["Liver"]
    assert row["spearman"] == pytest.approx(stats.spearmanr(values, noisy).statistic, abs=1e-6)


@pytest.mark.parametrize(
    ("genes", "message"),
    [
        (["ALB", "TTR"], "'x' has 2, 2 are given"),
        (1200, "half of the background"),
        ([f"ENSMUSG{i:011d}" for i in range(20)], "'x' has 0, 20 are given"),
    ],
)
def test_what_cannot_be_studied_is_refused(zoo, background, genes, message):
    signature = Signature("x", tuple(background[:genes] if isinstance(genes, int) else genes))
    with pytest.raises(InputError, match=message) as caught:
        study_signatures([signature], *zoo, background=background)
    assert caught.value.remedy


def test_the_reference_is_of_this_version():
    known = read_reference()
    assert set(known.weights) == {"binding", "own", "match"}
    assert min(known.weights.values()) > 0
    assert (len(known.regulators), known.background) == (1632, 19735)
    assert 0 < known.usual_frequency < 0.1


# What users bring


def test_lists_are_read(tmp_path):
    path = tmp_path / "my.genes.txt"
    path.write_text("gene\nTP53\nALB\nTP53\n")
    assert read_signature(path) == Signature("my", ("TP53", "ALB"))
    path.write_text("TP53,tumour\nALB,albumin\n")
    assert read_signature(path).genes == ("TP53", "ALB")


UP, DOWN = [f"G{i}" for i in range(10)], [f"G{i}" for i in range(10, 15)]
TABLE = "gene\tlogFC\tp\n" + "".join(
    f"G{i}\t{3 if i < 10 else -2 if i < 15 else 0.01 * (-1) ** i}\t{1e-6 if i < 15 else 0.9}\n"
    for i in range(200)
)


@pytest.mark.parametrize("name", ["t.tsv", "t.tsv.gz", "t.csv"])
def test_tables_are_read(tmp_path, name):
    path = tmp_path / name
    text = (TABLE.replace("\t", ",") if name.endswith("csv") else TABLE).encode()
    path.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    found = read_signature(path)
    assert (found.name, found.genes) == ("t", (*UP, *DOWN))
    assert read_signature(path, "up").genes == tuple(UP)
    assert read_signature(path, "down").genes == tuple(DOWN)
    assert found.measured is not None
    assert len(found.measured) == 200
    # Without p, a tenth changes most.
    path = tmp_path / "no-p.tsv"
    path.write_text(re.sub(r"\t[^\t]*$", "", TABLE, flags=re.M))
    assert len(read_signature(path).genes) == 20
    assert set(read_signature(path).genes) >= {*UP, *DOWN}


def test_missing_values_are_left_out_and_told(tmp_path, caplog):
    path = tmp_path / "t.tsv"
    path.write_text(TABLE + "X\tNA\t0.1\nY\t5\t\n")
    found = read_signature(path)
    assert {"X", "Y"}.isdisjoint(found.measured or ())
    assert "2 genes without values are left out" in caplog.text


@pytest.mark.parametrize(
    "header",
    ["Gene.symbol,logFC,P.Value", '"","log2FoldChange","padj"', "logFC,FDR", "names,avg_log2FC,p"],
)
def test_common_names_of_the_three_columns_are_known(tmp_path, header):
    path = tmp_path / "t.csv"
    path.write_text(header + TABLE.removeprefix("gene\tlogFC\tp").replace("\t", ","))
    assert read_signature(path, "up").genes == tuple(UP)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        # GEO2R, sleuth, DESeq2, limma, Seurat, a flag, percentages, Entrez numbers
        ("Gene.symbol,adj.P.Val,P.Value,logFC", "CRP,0.01,0.001,12.8", "column 2 is 'adj.P.Val'"),
        ("target_id,pval,qval,b", "CRP,0.001,0.01,2.5", "column 2 is 'pval'"),
        (",baseMean,log2FoldChange,pvalue", "CRP,7,2.5,0.01", "column 2 is 'baseMean'"),
        ("logFC,AveExpr,P.Value", "CRP,2.5,7,0.01", "column 3 is 'AveExpr', which names no p"),
        (",p_val,avg_log2FC", "CRP,0.001,2.5", "column 2 is 'p_val', which names no log2"),
        ("gene,log2FoldChange,significant", "CRP,2.5,1", "column 3 is 'significant'"),
        ("gene,logFC_pct", "CRP,-35.4%", "column 2 is 'logFC_pct'"),
        ("gene,entrez", "CRP,1401", "column 2 is 'entrez'"),
        ("what,logFC", "CRP,2.5", "column 1 is 'what', which names no gene"),
        ("ALB,-3,0.01", "CRP,2.5,0.01", "is a table without a header"),
        ("gene,logFC,p", "CRP,0.5,0.01", "between 0 and 1, as p-values are"),
        # SparseInputs
        ("gene,log2FC,p", "CRP,much,0.1", "line 2: 'much' in column 2 is no log2 fold change"),
        ("gene,log2FC,p", "CRP,inf,0.1", "line 2: 'inf' in column 2"),
        ("gene,log2FC,p", "CRP,2,small", "line 2: 'small' in column 3 is no p"),
        ("gene,log2FC,p", "CRP,2,1.5", "line 2: p = 1.5 is not between 0 and 1"),
        ("gene,log2FC,p", "CRP,2,-0.1", "line 2: p = -0.1 is not between 0 and 1"),
        # Nothing changes
        ("gene,logFC,p", "G,2,0.9", "none changes at a false discovery rate below"),
        ("gene,logFC", "G,2", "none is among a tenth"),
    ],
)
def test_tables_of_other_columns_cells_or_genes_are_refused(tmp_path, header, row, message):
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\n{row}\n")
    for direction in ("both", "up"):
        with pytest.raises(InputError, match=re.escape(message)) as caught:
            read_signature(path, direction)
        assert caught.value.remedy
        assert "none" in message or caught.value.line in (1, 2)


@pytest.mark.fault
def test_lists_without_a_direction_and_no_text_are_refused(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("TP53\nALB\n")
    with pytest.raises(UsageError, match="does not say which go up"):
        read_signature(path, "up")
    path.write_bytes(b"TP53\xff\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_signature(path)


def test_a_gmt_keeps_its_order(tmp_path):
    path = tmp_path / "s.gmt"
    path.write_text("b\tna\tTP53\tALB\na\t\tTTR,1.0\n")
    assert read_signatures(path) == [Signature("b", ("TP53", "ALB")), Signature("a", ("TTR",))]


# The command line


@pytest.fixture
def run(call, tmp_path, background, monkeypatch):
    """Run the study in a folder with a list, sets, and a background."""
    monkeypatch.chdir(tmp_path)
    Path("genes.txt").write_text("\n".join([*LIVER, "nope"]) + "\n")
    sets = (["liver", "", *LIVER], ["few", "", "ALB"], ["other", "", *background[:60]])
    Path("sets.gmt").write_text("".join("\t".join(line) + "\n" for line in sets))
    Path("background.txt").write_text("\n".join(background) + "\n")
    return lambda text: call("study", "signature", *text.split())


@pytest.mark.parametrize("output", ["ranks.tsv", "ranks.parquet"])
def test_ranks_alone(run, study, output):
    code, out, err = run(f"--gmt sets.gmt --background background.txt -o {output}")
    assert (code, out) == (0, f"{output}\n"), err
    assert "3 signatures, 81 genes given" in err
    assert "1 signature left out, with too few or too many genes: few (1 gene)" in err
    table = (pd.read_parquet if output.endswith("parquet") else pd.read_table)(output)
    assert tuple(table.columns) == COLUMNS
    assert set(table["signature"]) == {"liver", "other"}
    liver = table[table["signature"] == "liver"]
    assert list(liver["regulator"]) == list(study.of("liver")[0]["regulator"])
    record = json.loads(Path(f"{output}.provenance.json").read_text())
    assert record["gmt"]["file"] == "sets.gmt"
    assert record["requested_model"] == "gtex-tissue-v1"
    code, _, err = run(f"genes.txt -o {output}")
    assert (code, "exists" in err) == (2, True)


def test_a_folder(run):
    code, out, err = run("genes.txt --background background.txt -o liver")
    assert (code, out) == (0, "liver\n"), err
    assert "21 genes given, 20 used, 1 unknown, 0 not in the background" in err
    made = {path.name: path for path in Path("liver").iterdir()}
    tables = {f"{name}.tsv" for name in ("ranks", "details", "explained", "genes")}
    assert made.keys() == {*tables, "signature-1.svg", "summary.json", "index.html"}
    ranks = pd.read_csv(made["ranks.tsv"], sep="\t")
    summary = json.loads(made["summary.json"].read_text())
    assert summary["first"] == {"genes": ranks["regulator"][0]}
    assert summary["regulators_with_q_below_0.05"] == {"genes": (ranks["q"] <= 0.05).sum()}
    page = made["index.html"].read_text(encoding="utf-8")
    assert "HNF4A" in page
    assert "<script" not in page
    assert "HNF4A" in made["signature-1.svg"].read_text(encoding="utf-8")
    code, _, err = run("genes.txt -o liver")
    assert (code, "not empty" in err) == (2, True)


def test_from_standard_input_to_standard_output(run, monkeypatch):
    source = io.BytesIO(Path("genes.txt").read_bytes())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(source))
    code, out, err = run("- --background background.txt -o -")
    assert code == 0, err
    table = pd.read_csv(io.StringIO(out), sep="\t")
    assert tuple(table.columns) == COLUMNS
    assert set(table["signature"]) == {"signature"}


@pytest.mark.fault
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("", 2, "Give either a list of genes or --gmt"),
        ("genes.txt --gmt sets.gmt", 2, "Give either a list of genes or --gmt"),
        ("--gmt sets.gmt --direction up", 2, "do not say which genes go up"),
        ("genes.txt --format parquet", 2, "--format is for folders"),
        ("- --background -", 2, "Only one list"),
        ("missing.txt", 4, "missing.txt"),
        ("--gmt empty.gmt", 4, "holds no gene sets"),
        ("genes.txt --background genes.txt", 4, "20 known genes, 1000 are needed"),
        ("genes.txt --model nobody-v1", 3, "nobody-v1"),
    ],
)
def test_bad_calls_say_why_and_write_nothing(run, arguments, code, message):
    Path("empty.gmt").write_text("")
    found, _, err = run(f"{arguments} -o ranks.tsv")
    assert (found, message in err) == (code, True), err
    assert not list(Path().glob("ranks*"))


# Perturbed TFs


@pytest.mark.shared
def test_perturbed_tfs_rank_high(zoo, shared):
    """Forty signatures on which the reference was fitted, of forty TFs."""
    sets = {}
    for found in read_gmt(shared / "data/benchmark/tf_perturbations_dev.symbols.gmt.gz"):
        sets.setdefault(found.name.partition("_")[0], Signature(found.name, found.genes))
    ranks = study_signatures(list(sets.values())[:40], *zoo).ranks
    tfs = ranks[ranks["regulator"].isin(set(read_reference().regulators))]
    place = tfs.groupby("signature")["rank"].rank()
    place = place[tfs["signature"].str.partition("_")[0] == tfs["regulator"]]
    assert len(place) == 40
    assert 1 - ((place - 1) / 1631).mean() > 0.75


# What the page says


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(DOCS / f"{name}.tsv", sep="\t")


def within(low: float, high: float) -> str:
    return f"({low:.3f} to {high:.3f})".replace("-", "−")


def test_tables_of_the_page_are_those_of_the_files():
    text = DOCS.with_suffix(".md").read_text(encoding="utf-8")
    every = read("benchmark").query("tfs == 'any method'")
    rows = [
        f"| {row.method} | {row.covered} | {row.auroc:.3f} {within(row.low, row.high)} | "
        f"{row.top10:.1%} | {row.specificity:.3f} |"
        for row in every.itertuples()
    ]
    rows += [
        f"| {row.method} | {row.auroc:.3f} {within(row.low, row.high)} | {row.top10:.1%} | "
        f"{row.specificity:.3f} |"
        for row in read("own_genes_out").itertuples()
    ]
    rows += [
        f"| {row.library} | {row.tfs} | {row.signatures} | {row.auroc:.3f} | {row.ours:.3f} |"
        for row in read("libraries").itertuples()
    ]
    rows += [
        f"| {row.variant} | {row.auroc:.3f} | "
        + (f"{row.difference:.3f} {within(row.low, row.high)} | ".replace("-", "−") if i else "| ")
        + f"{row.top10:.1%} | {row.specificity:.3f} |"
        for i, row in enumerate(read("ablation").itertuples())
    ]
    rows += [
        f"| {row.genes} | {row.auroc:.3f} {within(row.low, row.high)} | {row.top10:.1%} |"
        for row in read("sizes").itertuples()
    ]
    shares = read("calibration").pivot_table(index=["genes", "level"], columns="of", values="share")
    rows += [
        f"| {size} | {level:g} | {row['regulators']:.4f} | {row['smallest q of a set']:.4f} |"
        for (size, level), row in shares.iterrows()
        if 0.001 <= level <= 0.1
    ]
    assert [row for row in rows if row not in text] == []
    assert len(rows) == 11 + 5 + 6 + 15 + 5 + 12


def test_numbers_in_the_prose_are_those_of_the_files():
    prose = " ".join(DOCS.with_suffix(".md").read_text(encoding="utf-8").split())
    nested = read("nested").iloc[0]
    ours, rivals = (
        read("benchmark").query("tfs == 'any method' and method == @name").iloc[0]
        for name in ("ours", "mean rank of the six")
    )
    variants = read("ablation").set_index("variant")
    studied = variants.loc["number of tracks alone (no signature)"]
    fewer = variants.loc["binding: corrected for number of tracks"]
    more = variants.loc["with number of tracks (not shipped)"]
    weights = read_reference().weights
    found = {
        name: part.set_index("regulator") for name, part in read("examples").groupby("signature")
    }
    liver, age = found["liver"]["rank"], found["age"]["rank"]
    said = (
        f"has {nested['auroc']:.3f} {within(nested['low'], nested['high'])}",
        f"has {read('command')['auroc'][0]:.3f} on these signatures",
        f"has an AUROC of {studied['auroc']:.3f}",
        f"is {ours['specificity']:.3f} against {rivals['specificity']:.3f} of the six",
        f"AUROC falls to {fewer['auroc']:.3f} while specificity stays at "
        f"{fewer['specificity']:.3f}",
        f"lift AUROC to {more['auroc']:.3f} and specificity not at all ({more['specificity']:.3f})",
        f"({weights['binding']:.2f}, {weights['own']:.2f}, {weights['match']:.2f})",
        f"ESRRB (rank {age['ESRRB']}; its kin ESRRA {age['ESRRA']}), GABPA ({age['GABPA']}), "
        f"YY1 ({age['YY1']}) and NRF1 ({age['NRF1']})",
        f"PPARGC1A, their coactivator, is at {age['PPARGC1A']}",
        f"ARID3C at {liver['ARID3C']}",
        f"is at {liver['PPARA']}",
    )
    assert [words for words in said if words not in prose] == []
    seven = ["HNF1A", "HNF4A", "ONECUT1", "FOXA2", "NR1I2", "FOXA1", "CEBPA"]
    assert list(liver[seven]) == [1, 2, 3, 4, 5, 6, 7]
    assert (found["sex"]["small_q"] == 0).all()
    assert read("ablation")["auroc"][0] == ours["auroc"]
