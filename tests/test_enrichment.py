"""Enrichment studies: how regulators are ranked, what is compared, and what is written."""

from __future__ import annotations

import gzip
import json
import re
import socket
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import decode_zoo as dz
from decode_zoo.core.errors import InputError, MissingExtraError, UsageError
from decode_zoo.features.genesets import GeneSet
from decode_zoo.pages.folders import write_study
from decode_zoo.studies.enrichment import (
    ListedGenes,
    Scope,
    choose_outputs,
    mean_scores,
    read_listed_above,
    read_scores,
    study_enrichment,
)
from decode_zoo.studies.regulator_ranking import (
    Ranking,
    Regulators,
    compare_lists,
    gsea,
    importance,
    over_representation,
    residual_ranks,
)

for package in ("gseapy", "jinja2", "matplotlib"):
    pytest.importorskip(package)

OUTPUTS = ["Liver", "Lung", "Whole_Blood"]


# Importance


def test_importance_is_the_mean_of_standardised_logarithms():
    scores = np.random.default_rng(0).lognormal(size=(30, 4))
    expected = stats.zscore(np.log(scores)).mean(axis=1)
    np.testing.assert_allclose(importance(scores), expected, rtol=1e-10, atol=1e-12)
    # An output that tells no regulators apart adds nothing.
    scores = np.column_stack([np.ones(20), np.arange(1.0, 21)])
    np.testing.assert_allclose(importance(scores), importance(scores[:, 1:]) / 2)


@given(st.integers(0, 2**32 - 1), st.lists(st.floats(1e-6, 1e6), min_size=3, max_size=3))
def test_units_of_outputs_and_order_of_regulators_do_not_matter(seed, units):
    random = np.random.default_rng(seed)
    scores = random.lognormal(size=(25, 3))
    order = random.permutation(25)
    found = importance(scores[order] * units)
    np.testing.assert_allclose(found, importance(scores)[order], rtol=1e-6, atol=1e-9)


def test_residual_ranks_are_those_of_a_linear_model():
    api = pytest.importorskip("statsmodels.api")
    random = np.random.default_rng(1)
    covariates = random.normal(size=(40, 3))
    values = covariates @ [2, -1, 0] + random.normal(size=40)
    model = api.OLS(stats.rankdata(values), api.add_constant(covariates)).fit()
    found = residual_ranks(values, covariates)
    np.testing.assert_allclose(found, model.resid, atol=1e-9)
    np.testing.assert_allclose(found @ covariates, 0, atol=1e-8)
    # One that is constant, or there twice, changes nothing.
    more = np.column_stack([covariates, np.ones(40), covariates[:, 0]])
    np.testing.assert_allclose(residual_ranks(values, more), found, atol=1e-8)


# Comparisons


def adjusted(p):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    return multitest.multipletests(p, method="fdr_bh")[1]


def ranking_of(n=200, top=20):
    random = np.random.default_rng(0)
    values = np.sort(random.normal(size=n))[::-1]
    return Ranking(
        "TF",
        pd.DataFrame(
            {
                "gene_id": [f"ENSG{i:011d}" for i in range(n)],
                "symbol": [f"t{i}-a" for i in range(n)],
                "importance": values,
                "given_sites": random.normal(size=n),
            }
        ),
        top,
    )


def some_sets():
    """Sets of which the first lean to the top, the next to the bottom."""
    random = np.random.default_rng(1)
    lean = np.linspace(1, -1, 200)
    sets = {}
    for i in range(12):
        weight = np.exp(lean * (2.0 if i < 3 else -2.0 if i < 5 else 0))
        size = int(random.integers(10, 40))
        sets[f"Set {i} ; x"] = np.sort(random.choice(200, size, False, weight / weight.sum()))
    return sets


def running_sum(members, values):
    """Enrichment score and leading edge, step by step."""
    on, weight = set(members.tolist()), sum(abs(values[i]) for i in members)
    at, best, place = 0.0, 0.0, -1
    for i, value in enumerate(values):
        at += abs(value) / weight if i in on else -1 / (len(values) - len(on))
        if abs(at) > abs(best) + 1e-12:
            best, place = at, i
    edge = [i for i in members if (i <= place if best > 0 else i > place)]
    return best, np.array(edge)


def test_enrichment_scores_are_running_sums():
    ranking, sets = ranking_of(), some_sets()
    found = gsea(ranking, sets, permutations=1000).set_index("gene_set")
    for name, rows in sets.items():
        score, edge = running_sum(rows, ranking.column("importance"))
        assert found.loc[name, "size"] == rows.size
        assert found.loc[name, "es"] == pytest.approx(score, abs=1e-9)
        assert np.sign(found.loc[name, "nes"]) == np.sign(score)
        assert set(found.loc[name, "leading_edge"].split(", ")) == {f"t{i}-a" for i in edge}


def test_p_values_are_those_of_random_gene_sets():
    """Both are estimates."""
    ranking, sets = ranking_of(), some_sets()
    found = gsea(ranking, sets, permutations=2000).set_index("gene_set").loc[list(sets)]
    random = np.random.default_rng(5)
    for column, end in (("importance", ""), ("given_sites", "_given_sites")):
        values = ranking.column(column)
        order = np.argsort(-values, kind="stable")
        place = np.argsort(order)

        def score_of(rows, place=place, values=values[order]):
            return running_sum(np.sort(place[rows]), values)[0]

        for name, rows in list(sets.items())[::3]:
            score = score_of(rows)
            null = [score_of(random.choice(200, rows.size, False)) for _ in range(1000)]
            same = np.abs([value for value in null if np.sign(value) == np.sign(score)])
            p = (same >= abs(score)).mean()
            assert found.loc[name, f"p{end}"] == pytest.approx(p, abs=0.02 + 0.1 * p)
            ratio = abs(score) / same.mean()
            assert abs(found.loc[name, f"nes{end}"]) == pytest.approx(ratio, rel=0.06)
        np.testing.assert_allclose(found[f"q{end}"], adjusted(found[f"p{end}"]), rtol=1e-9)
    assert found["p"].min() < 0.001
    assert (found["p"] > 0).all()


def test_the_same_seed_gives_the_same_numbers_whatever_the_order_of_sets():
    ranking, sets = ranking_of(), some_sets()
    first = gsea(ranking, sets, permutations=200, seed=3)
    turned = gsea(ranking, dict(reversed(sets.items())), permutations=200, seed=3)
    pd.testing.assert_frame_equal(first, turned)
    other = gsea(ranking, sets, permutations=200, seed=4)
    assert not np.allclose(first["p"], other["p"])


def test_gsea_opens_no_socket_and_writes_no_file(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a socket was opened"))
    monkeypatch.chdir(tmp_path)
    gsea(ranking_of(), some_sets(), permutations=100)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_gseapy_is_needed_for_gene_sets_only(monkeypatch):
    monkeypatch.setitem(sys.modules, "gseapy", None)
    assert gsea(ranking_of(), {}).empty
    assert over_representation(ranking_of(), {}).empty
    with pytest.raises(MissingExtraError, match=r"decode-zoo\[studies\]"):
        gsea(ranking_of(), some_sets(), permutations=10)


def fisher(rows, others):
    """Odds ratio and p of the top twenty, one-sided."""
    table = [[(group < 20).sum(), (group >= 20).sum()] for group in (rows, others)]
    return stats.fisher_exact(table, alternative="greater")


def test_over_representation_is_the_hypergeometric_test():
    ranking, sets = ranking_of(), some_sets()
    found = over_representation(ranking, sets)
    assert found["p"].is_monotonic_increasing
    np.testing.assert_allclose(found["q"], adjusted(found["p"]))
    for row in found.to_dict("records"):
        rows = sets[row["gene_set"]]
        top = [f"t{i}-a" for i in rows if i < 20]
        assert (row["n_top"], row["size"]) == (len(top), rows.size)
        assert row["expected"] == pytest.approx(rows.size * 0.1)
        expected = fisher(rows, np.setdiff1d(np.arange(200), rows))
        assert (row["odds_ratio"], row["p"]) == pytest.approx(expected, rel=1e-9)
        assert row["top_members"] == ", ".join(top)


def test_lists_are_compared_by_wilcoxon_and_fisher():
    ranking, every = ranking_of(), np.arange(200)
    lists = {name: (rows, every) for name, rows in some_sets().items()}
    # The others of this one are the regulators of an even number.
    lists["among"] = (np.arange(0, 60, 4), np.arange(0, 200, 2))
    found = compare_lists(ranking, lists).set_index("list")
    for name, (rows, among) in lists.items():
        row, others = found.loc[name], np.setdiff1d(among, rows)
        assert (row["n"], row["n_others"]) == (rows.size, others.size)
        for column, end in (("importance", ""), ("given_sites", "_given_sites")):
            values = ranking.column(column)
            test = stats.mannwhitneyu(values[rows], values[others])
            assert row[f"p{end}"] == pytest.approx(test.pvalue)
            area = np.mean([values[i] > values[j] for i in rows for j in others])
            assert row[f"auroc{end}"] == pytest.approx(area)
            assert row[f"auroc_low{end}"] < area < row[f"auroc_high{end}"]
            above = stats.mannwhitneyu(values[rows], values[others], alternative="greater")
            assert row[f"p_greater{end}"] == pytest.approx(above.pvalue)
        assert (row["odds_ratio"], row["p_top"]) == pytest.approx(fisher(rows, others))
    for end in ("", "_given_sites", "_top"):
        np.testing.assert_allclose(found[f"q{end}"], adjusted(found[f"p{end}"]))


def test_lists_of_none_or_all_are_not_tested_nor_counted_in_rates():
    ranking, every = ranking_of(), np.arange(200)
    none = np.zeros(0, np.int64)
    lists = {"none": (none, every), "all": (every, every), "some": (np.arange(30), every)}
    found = compare_lists(ranking, lists).set_index("list")
    for column in ("auroc", "p", "q", "p_given_sites", "odds_ratio", "p_top", "q_top"):
        assert found[column].isna().tolist() == [True, True, False]
    assert found.loc["some", "q"] == found.loc["some", "p"]


# Scores


@pytest.fixture(scope="module")
def model():
    return dz.load("gtex-tissue-v1")


@pytest.fixture(scope="module")
def genes(model):
    """A hundred coding genes that the model was tested on."""
    rows = model.features.rows
    ours = (np.array(rows.chroms) == "1") & (np.array(rows.biotypes) == "protein_coding")
    return [rows.ids[i] for i in np.flatnonzero(ours)[:1500:15]]


@pytest.fixture(scope="module")
def scores(model, genes):
    return mean_scores(model, model.rows_of(genes, model.bind()).rows, OUTPUTS)


def test_scores_are_those_of_explain(model, genes, scores):
    expected = model.explain(genes, by="regulator", outputs=OUTPUTS).summary()
    pd.testing.assert_frame_equal(scores, expected)


def test_blocks_of_genes_do_not_show(model, genes, monkeypatch):
    from decode_zoo.attribution import explainer

    rows = model.rows_of(genes[:25], model.bind()).rows
    whole, seen = mean_scores(model, rows, OUTPUTS[:1]), []
    monkeypatch.setattr(explainer, "_SUMMED", 10 * 1202)  # ten genes at a time
    found = mean_scores(model, rows, OUTPUTS[:1], lambda done, total: seen.append((done, total)))
    assert seen == [(10, 25), (20, 25), (25, 25)]
    np.testing.assert_allclose(found["mean_abs"], whole["mean_abs"], rtol=1e-6, atol=1e-12)
    assert found["n_genes"].tolist() == whole["n_genes"].tolist()
    with pytest.raises(UsageError, match="no gene to explain"):
        mean_scores(model, rows[:0], OUTPUTS)


def test_outputs_are_fold_changes_unless_others_are_named(model):
    assert choose_outputs(model, model.outputs) == model.outputs[:53]
    assert choose_outputs(model, ["median_log2_tpm"]) == ["median_log2_tpm"]
    assert choose_outputs(model, model.outputs, ["Lung"]) == ["Lung"]
    with pytest.raises(UsageError, match="no output 'Lungs'"):
        choose_outputs(model, model.outputs, ["Lungs"])
    with pytest.raises(UsageError, match="no scores of the output 'Liver'"):
        choose_outputs(model, ["Lung"], ["Liver"])


@pytest.fixture
def written(scores, tmp_path):
    """A table as explain writes it."""
    path = tmp_path / "scores.tsv"
    scores.to_csv(path, sep="\t", index=False, float_format="%.6g")
    return path


def test_scores_are_read_as_they_were_written(scores, written):
    found = read_scores(written)
    assert found["regulator"].tolist() == scores["regulator"].astype(str).tolist()
    np.testing.assert_allclose(found["mean_abs"], scores["mean_abs"], rtol=1e-5)
    assert found.attrs["path"] == str(written)
    packed = written.with_suffix(".tsv.gz")
    packed.write_bytes(gzip.compress(written.read_bytes()))
    pd.testing.assert_frame_equal(read_scores(packed), found)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("rows", "line", "message"),
    [
        (None, 1, "is no summary of scores"),
        ("track", 1, "by track"),
        ("", None, "holds no scores"),
        ("Lung,TF,A,0,1,1 Lung,TF", 3, "has 2 cells, but the header has 6"),
        ("Lung,TF,A,0,x,1", 2, "mean_abs must be a number, 0 or above"),
        ("Lung,TF,A,0,1,1 Lung,TF,B,0,-1,1", 3, "not '-1'"),
        ("Lung,TF,A,0,1,inf", 2, "n_genes must be a number"),
        ("Lung,TF,A,0,1,1 Lung,TF,A,0,1,1", 3, "'A' is there twice for 'Lung'"),
        ("Lung,TF,A,0,1,1 Lung,TF,B,0,1,1 Liver,TF,A,0,1,1", None, "'B' does not have each output"),
        ("Lung,TF,A,0,1,1 Liver,TF,A,0,1,2", None, "'A' does not have each output, and the same n"),
    ],
)
def test_tables_that_are_no_scores_are_refused(tmp_path, rows, line, message):
    columns = "output,class,regulator,mean,mean_abs,n_genes"
    if rows is None:
        columns, rows = "gene,score", "A,1"
    elif rows == "track":
        columns, rows = columns.replace("mean,", "track,"), ""
    path = tmp_path / "x.tsv"
    path.write_text("\n".join([columns, *rows.split()]).replace(",", "\t") + "\n")
    with pytest.raises(InputError, match=re.escape(message)) as error:
        read_scores(path)
    assert line is None or error.value.line == line
    assert "decode-zoo explain --summary" in str(error.value)


# Lists


def test_genes_above_a_limit(tmp_path):
    path = tmp_path / "exac.tsv"
    path.write_text(
        "gene\tpLI\tz\nA\t0.995\t1\nB\t0.99\t2\nC\t\t3\n\t1\t1\nD\tNA\t1\nE\t1\nA\t0\t1\n"
    )
    found = read_listed_above(path, "pLI", 0.99)
    assert found == ListedGenes("exac: pLI > 0.99", ("A", "E"), ("A", "B", "E", "A"))
    with pytest.raises(InputError, match="no column 'gene' beside the first"):
        read_listed_above(path, "gene", 0)
    with pytest.raises(InputError, match=r"no column 'pli'.*\n.*gene, pLI, z"):
        read_listed_above(path, "pli", 0)
    with pytest.raises(InputError, match="no gene has a pLI above 2"):
        read_listed_above(path, "pLI", 2)
    path.write_text("gene\tpLI\nA\t1\nB\thigh\n")
    with pytest.raises(InputError, match=r"line 3: 'high' in column 'pLI' is no number"):
        read_listed_above(path, "pLI", 0)


# Regulators and their genes


@pytest.fixture(scope="module")
def regulators(model, scores):
    return Regulators.gather(model, scores, OUTPUTS)


def test_regulators_are_genes_by_id_symbol_or_alias(model, regulators, scores):
    table = regulators.table.set_index(["class", "regulator"])
    # A former symbol; a symbol with a dash; one that two genes bear, which stands for itself.
    assert table.loc[("TF", "WHSC1"), "symbol"] == "NSD2"
    assert table.loc[("TF", "NKX3-1"), "gene_id"] == "ENSG00000167034"
    assert table.loc[("RBP", "MATR3"), "gene_id"] == "MATR3"
    # Complexes and modified forms are no genes; families of miRNAs are no proteins.
    assert {"AGO1234", "SMAD2-3", "POLR2AphosphoS2"} <= set(regulators.told["without_gene"])
    assert regulators.told["of_other_classes"] == {"miRNA": 200}
    left = len(regulators.told["without_gene"]) + len(regulators.told["without_sites"])
    assert len(regulators.table) + left + 200 == regulators.told["scored"] == 1200
    tracks = [track.regulator for track in model.manifest.inputs["promoter"].tracks]
    assert table.loc[("TF", "CTCF"), "n_tracks"] == tracks.count("CTCF")
    n_genes = scores.set_index(["output", "class", "regulator"])["n_genes"]
    assert table.loc[("TF", "CTCF"), "n_genes"] == n_genes[("Lung", "TF", "CTCF")]


def test_a_gene_that_is_both_has_the_sum_of_its_scores(regulators, scores):
    both = regulators.rank("TF+RBP").table.set_index("symbol").loc["SRSF1"]
    assert both["class"] == "RBP, TF"
    means = scores[scores["regulator"] == "SRSF1"].groupby("output", observed=True)["mean_abs"]
    assert both["score"] == pytest.approx(means.sum().mean())
    apart = [regulators.rank(name).table.set_index("symbol").loc["SRSF1"] for name in ("TF", "RBP")]
    for name in ("score", "n_genes", "n_tracks"):
        assert both[name] == pytest.approx(apart[0][name] + apart[1][name])


def test_rankings_fall_and_their_residuals_are_free_of_sites(regulators):
    for classes in ("TF+RBP", "TF", "RBP"):
        ranking = regulators.rank(classes)
        table = ranking.table
        assert table["importance"].is_monotonic_decreasing
        assert table["gene_id"].is_unique
        assert ranking.top == round(len(table) / 10)
        for name in ("n_genes", "n_tracks"):
            logs = np.log(table[name].to_numpy(np.float64))
            for column in (logs, logs**2):
                assert abs(np.corrcoef(column, table["given_sites"])[0, 1]) < 1e-8
        told = ranking.told()
        assert 0.5 < told["explained_by_sites"] < 1
        expected = stats.spearmanr(table["importance"], table["n_genes"])[0]
        assert told["spearman_n_genes"] == pytest.approx(expected)


def test_rankings_that_cannot_be_are_refused(model, scores, regulators):
    with pytest.raises(UsageError, match="top cannot be"):
        regulators.rank("RBP", 5000)
    names = scores["regulator"].astype(str)
    for other, message in (
        (scores[names != "CTCF"], "1 regulators are only in the model, such as 'TF CTCF'"),
        (scores.assign(regulator=names.replace("CTCF", "XYZ")), "only in the table, such as"),
    ):
        with pytest.raises(InputError, match=message):
            Regulators.gather(model, other, OUTPUTS)


def test_classes_with_too_few_regulators_are_not_ranked(model, scores):
    only, listed = scores.copy(), [ListedGenes("x", ("CTCF", "SPI1"))]
    only.loc[only["class"].isin(["RBP"]) & (only["regulator"] != "SRSF1"), "mean_abs"] = 0.0
    with pytest.raises(InputError, match="20 are needed"):
        Regulators.gather(model, only, OUTPUTS).rank("RBP")
    only.loc[only["class"] == "RBP", "mean_abs"] = 0.0
    found = study_enrichment(model, only, lists=listed)
    assert [ranking.classes for ranking in found.rankings] == ["TF"]
    only["mean_abs"] = 0.0
    with pytest.raises(InputError, match="0 regulators"):
        study_enrichment(model, only, lists=listed)


# The study


def library(regulators):
    """Gene sets of symbols, former symbols and ids; the first is of the most important TFs."""
    table = regulators.rank("TF").table
    random = np.random.default_rng(0)
    sets = [GeneSet("important TFs", ("WHSC1", *table["gene_id"][:25], "nonsense"), 1)]
    for i in range(2, 8):
        chosen = random.choice(len(table), 30, False)
        sets.append(GeneSet(f"random {i}", tuple(table["symbol"].iloc[chosen]), i))
    sets.append(GeneSet("too small", tuple(table["symbol"][:5]), 8))
    return sets


@pytest.fixture(scope="module")
def study(model, scores, regulators):
    table = regulators.rank("TF").table
    top = tuple(table["symbol"][:40])
    lists = [
        ListedGenes("top", top),
        ListedGenes("least", tuple(table["gene_id"][-40:])),
        ListedGenes("among", top[:20], (*top, "TTN")),
        ListedGenes("<script>$x$", tuple(regulators.table["gene_id"])),
        ListedGenes("none", ("TTN",)),
    ]
    return study_enrichment(
        model,
        scores,
        libraries={"mine": library(regulators)},
        lists=lists,
        scope=Scope(permutations=500),
        provenance={"model": {"id": "x"}},
    )


def test_what_is_important_is_found(study):
    assert [ranking.classes for ranking in study.rankings] == ["TF+RBP", "TF", "RBP"]
    lists = study.lists[study.lists["classes"] == "TF"].set_index("list")
    assert lists.loc["top", "auroc"] == 1
    assert lists.loc["least", "auroc"] == 0
    assert lists.loc["top", "p_greater"] < 1e-10 < 0.99 < lists.loc["least", "p_greater"]
    # At equal sites nothing like that is left.
    assert lists.loc["top", "auroc_given_sites"] < 0.9
    assert lists.loc["among", ["n", "n_others"]].tolist() == [20, 20]
    sets = study.gsea[study.gsea["classes"] == "TF"]
    assert sets["gene_set"].iloc[0] == "important TFs"
    assert sets["nes"].iloc[0] > 2
    assert set(sets["gene_set"]) == {"important TFs", *(f"random {i}" for i in range(2, 8))}
    over = study.overrepresented[study.overrepresented["classes"] == "TF"].set_index("gene_set")
    assert over["q"].idxmin() == "important TFs"
    assert over.loc["important TFs", "n_top"] in (25, 26)  # NSD2 may be one of the 25
    numbers = study.numbers
    assert numbers["libraries"]["mine"]["unknown"] == 1
    assert numbers["libraries"]["mine"]["such_as"] == ["nonsense"]
    json.dumps(numbers, allow_nan=False)


def test_ids_symbols_and_former_symbols_mean_the_same(model, scores, regulators, study):
    table = regulators.rank("TF").table
    spellings = {
        "symbols": table["symbol"][:40],
        "ids": table["gene_id"][:40],
        "versions": table["gene_id"][:40] + ".5",
        "names": table["regulators"][:40],
    }
    lists = [ListedGenes(name, tuple(genes)) for name, genes in spellings.items()]
    found = study_enrichment(model, scores, lists=lists, scope=Scope(classes=("TF",))).lists
    assert found["n"].tolist() == [40] * 4
    assert found["auroc"].tolist() == [1] * 4
    assert found["p_given_sites"].nunique() == 1


def test_order_of_rows_and_genes_does_not_matter(model, scores, regulators, study):
    shuffled = scores.sample(frac=1, random_state=1)
    sets = [GeneSet(s.name, s.genes[::-1] + s.genes[:1], s.line) for s in library(regulators)]
    found = study_enrichment(
        model, shuffled, libraries={"mine": sets[::-1]}, scope=Scope(permutations=500)
    )
    pd.testing.assert_frame_equal(found.importance, study.importance)
    one, other = (
        table.sort_values(["classes", "gene_set"], ignore_index=True)
        for table in (found.gsea, study.gsea)
    )
    pd.testing.assert_frame_equal(one, other)
    assert found.lists.empty


def test_sizes_top_and_classes_are_chosen(model, scores, regulators):
    scope = Scope(("RBP", "TF"), top=7, min_size=4, max_size=28, permutations=50)
    found = study_enrichment(model, scores, libraries={"mine": library(regulators)}, scope=scope)
    assert [(r.classes, r.top) for r in found.rankings] == [("RBP", 7), ("TF", 7)]
    sizes = found.gsea["size"]
    assert 4 <= sizes.min() <= sizes.max() <= 28
    assert "too small" in set(found.gsea["gene_set"])
    assert (found.overrepresented["n_top"] <= 7).all()


@pytest.mark.parametrize(
    "scope",
    [
        {"classes": ()},
        {"classes": ("miRNA",)},
        {"classes": ("TF", "TF")},
        {"top": 0},
        {"min_size": 0},
        {"min_size": 9, "max_size": 8},
        {"permutations": 0},
    ],
)
def test_what_cannot_be_meant_is_refused(model, scores, scope):
    with pytest.raises(UsageError):
        study_enrichment(model, scores, lists=[ListedGenes("x", ("CTCF",))], scope=Scope(**scope))


def test_lists_have_names_of_their_own(model, scores):
    with pytest.raises(UsageError, match="nothing to compare"):
        study_enrichment(model, scores)
    with pytest.raises(UsageError, match="Two lists are named 'x'"):
        study_enrichment(model, scores, lists=[ListedGenes("x", ("CTCF",))] * 2)


# What is written


def test_the_folder_and_its_page(study, tmp_path):
    folder = tmp_path / "out"
    write_study(study.result(), folder)
    tables = ("importance", "lists", "gsea", "overrepresented")
    pictures = ("regulators", "lists", "gene_sets")
    names = {f"{name}.tsv" for name in tables} | {f"{name}.svg" for name in pictures}
    assert {path.name for path in folder.iterdir()} == {*names, "summary.json", "index.html"}
    for name in tables:
        table = pd.read_csv(folder / f"{name}.tsv", sep="\t", keep_default_na=False)
        assert list(table) == list(getattr(study, name))
        assert len(table) == len(getattr(study, name))
    found = pd.read_csv(folder / "gsea.tsv", sep="\t")
    np.testing.assert_allclose(found["q_given_sites"], study.gsea["q_given_sites"], rtol=1e-5)
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page  # one of the lists is called so
    assert page.count("<img") == 3
    links = re.findall(r'(?:src|href)="(.*?)"', page)
    assert all(link.startswith(("data:", "#")) for link in links)


@pytest.fixture
def run(call, tmp_path):
    """Run the study, with gene sets and two lists to compare with."""
    (tmp_path / "mine.gmt").write_text(
        "TFs\t\tCTCF\tYY1\tWHSC1\tREST\tMAX\tSPI1\tETS1\tMYC\tNRF1\tELF1\tREST\tnonsense\n"
        "RBPs\t\tSRSF1\tU2AF2\tHNRNPK\tFUS\tTIA1\tPUM2\tAGO2\tELAVL1\tQKI\tPTBP1\tMATR3\n"
    )
    (tmp_path / "essential.txt").write_text("gene\nSRSF1\nU2AF2\nYY1\nCTCF\nWRONG\n")
    (tmp_path / "exac.tsv").write_text("gene\tpLI\nCTCF\t1\nYY1\t0.99\nSPI1\t0.1\nMAX\t0.2\n")
    text = (
        f"--gmt {tmp_path}/mine.gmt --list {tmp_path}/essential.txt "
        f"--list-above {tmp_path}/exac.tsv pLI 0.5 --permutations 100"
    )

    def run(*more, compared=True, out="out"):
        words = text.split() if compared else []
        options = ("--model", "gtex-tissue-v1", "-o", tmp_path / out)
        return call("study", "enrich", *options, *words, *more)

    return run


def test_command(run, tmp_path, model, genes):
    (tmp_path / "genes.txt").write_text("\n".join([*genes[:40], "nonsense"]) + "\n")
    code, out, err = run(tmp_path / "genes.txt", "--outputs", ",".join(OUTPUTS))
    assert (code, out) == (0, f"{tmp_path / 'out'}\n"), err
    for text in (
        "40 genes explained, 1 not",
        "200 miRNA",
        "AGO1234",
        "mine: 1 of 22 names are unknown genes, such as nonsense",
        "essential: 1 of 5 names are unknown genes, such as WRONG",
    ):
        assert text in err
    assert re.search(r"gene sets of q ≤ 0.05: \d of 4 along the ranking", err)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["outputs"] == OUTPUTS
    record = summary["provenance"]
    assert record["model"]["id"] == "gtex-tissue-v1"
    assert [item["file"] for item in record["lists"]] == ["essential.txt", "exac.tsv"]
    lists = pd.read_csv(tmp_path / "out" / "lists.tsv", sep="\t").set_index(["classes", "list"])
    assert lists.loc[("TF", "exac: pLI > 0.5"), ["n", "n_others"]].tolist() == [2, 2]
    sets = pd.read_csv(tmp_path / "out" / "gsea.tsv", sep="\t").set_index(["classes", "gene_set"])
    assert sets.loc[("RBP", "RBPs"), "size"] == 11
    assert sets.loc[("TF", "TFs"), "size"] == 10

    # The same from a table of scores, whose numbers have six digits.
    scores, rows = tmp_path / "scores.tsv", model.rows_of(genes[:40], model.bind()).rows
    table = mean_scores(model, rows, OUTPUTS)
    table.to_csv(scores, sep="\t", index=False, float_format="%.6g")
    one = ("--list", tmp_path / "essential.txt")
    code, _, err = run("--scores", scores, "--format", "parquet", *one, compared=False, out="again")
    assert code == 0, err
    assert json.loads((tmp_path / "again" / "summary.json").read_text())["gseapy"] is None
    first = pd.read_csv(tmp_path / "out" / "importance.tsv", sep="\t", keep_default_na=False)
    again = pd.read_parquet(tmp_path / "again" / "importance.parquet")
    keys = ["classes", "gene_id"]
    first, again = (table.set_index(keys).sort_index() for table in (first, again))
    np.testing.assert_allclose(first["importance"], again["importance"], atol=1e-4)
    assert first["n_tracks"].tolist() == again["n_tracks"].tolist()


def test_the_genes_that_the_model_was_tested_on_are_the_default(run, tmp_path, monkeypatch, scores):
    from decode_zoo.studies import enrichment

    asked = []

    def stand_in(model, rows, outputs, progress):
        asked.extend(model.features.rows.chroms[row] for row in rows)
        return scores

    monkeypatch.setattr(enrichment, "mean_scores", stand_in)
    one = ("--list", tmp_path / "essential.txt")
    code, _, err = run("--classes", "RBP", "--top", 12, *one, compared=False)
    assert code == 0, err
    assert set(asked) == {"1"}
    assert "5194 genes explained" in err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["rankings"]["RBP"]["top"] == 12
    assert summary["provenance"]["genes"] == "tested on"


@pytest.mark.fault
@pytest.mark.parametrize(
    ("options", "expected", "message"),
    [
        ("--scores scores.tsv --all-genes", 2, "either a file of genes"),
        ("--scores scores.tsv --top 5000", 2, "top cannot be 5000"),
        ("--scores scores.tsv --min-size 0", 2, "--min-size"),
        ("--scores scores.tsv --gmt mine.gmt", 2, "named 'mine'"),
        ("--scores mine.gmt", 4, "is no summary of scores"),
        ("--list absent.txt", 4, "no such file"),
        ("--list-above exac.tsv pLI x", 2, "not a valid"),
        ("", 2, "nothing to compare"),
    ],
)
def test_faults_end_with_a_code_and_leave_nothing(
    run, tmp_path, written, monkeypatch, options, expected, message
):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*options.split(), compared=bool(options))
    assert (code, message in err) == (expected, True), err
    assert not (tmp_path / "out").exists()
