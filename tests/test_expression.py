"""Targets and splits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decode_zoo.cohort.expression import make_targets, read_expression
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.networks.manifest import MEDIAN
from decode_zoo.training.dataset import split_by_chromosome


def matrix(values, genes=None):
    values = np.asarray(values, float)
    genes = genes or [f"ENSG{i:011d}" for i in range(len(values))]
    return pd.DataFrame(values, index=genes, columns=[f"t{i}" for i in range(values.shape[1])])


def test_targets_by_hand():
    targets = make_targets(matrix([[0, 4, 16], [0, 0, 2.0], [1, 1, 2.5]]), scale="tpm")
    assert targets.gene_ids == ["ENSG00000000000", "ENSG00000000002"]  # 2 TPM is not above 2
    assert targets.names == ("t0", "t1", "t2", MEDIAN)
    logs = np.log2(np.array([[0, 4, 16], [1, 1, 2.5]]) + 0.25)
    np.testing.assert_allclose(targets.values[0, :3], logs[0] - logs[0, 1])
    np.testing.assert_allclose(targets.values[1, :3], logs[1] - logs[1, 0])
    np.testing.assert_allclose(targets.values[:, 3], [logs[0, 1], logs[1, 0]])
    tpm = matrix([[0, 0, 0], [0, 0, 0.1], [0, 1, 3]])
    kept = {limit: make_targets(tpm, scale="tpm", min_tpm=limit).gene_ids for limit in (0, 0.5)}
    assert kept == {0: list(tpm.index[1:]), 0.5: list(tpm.index[2:])}


def test_both_scales_agree():
    tpm = np.random.default_rng(0).gamma(1, 20, (50, 5))
    a = make_targets(matrix(tpm), scale="tpm")
    b = make_targets(matrix(np.log2(tpm + 0.25)), scale="log2tpm")
    np.testing.assert_allclose(a.values, b.values)


def test_scales_come_from_training_genes_only():
    tpm = np.random.default_rng(0).gamma(1, 20, (40, 4)) + 3
    training = np.arange(20)
    first = make_targets(matrix(tpm), scale="tpm").outputs(training)
    tpm[30:] *= 100
    second = make_targets(matrix(tpm), scale="tpm").outputs(training)
    assert first == second
    values = make_targets(matrix(tpm), scale="tpm").values[training]
    assert {o.scale for o in first[:-1]} == {float(values[:, :-1].std())}
    assert first[-1].scale == float(values[:, -1].std())
    assert [o.unit for o in first] == ["log2 fold change"] * 4 + ["log2 TPM"]


@pytest.mark.fault
@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("g\ta\nG1\t1\nG1\t2\n", 3, "gene 'G1' occurs twice"),
        ("g\ta\nENSG00000000001.1\t1\nENSG00000000001.2\t2\n", 3, "occurs twice"),
        ("g\ta\nG1\t1_0\n", 2, "not a finite number"),
        ("g\tLiver\tLung\tLiver\nG1\t1\t2\t3\n", 1, "column 'Liver' occurs twice"),
        ("g\ta\t\nG1\t1\t2\n", 1, "column '': its name is empty"),
        # Names that no output can have:
        ("g\tgene_id\nA\t1\n", 1, "column 'gene_id': .*another column"),
        ("g\ta,b\nA\t1\n", 1, "column 'a,b': .*comma"),
        ("g\tA\u2028B\nA\t1\n", 1, r"column 'A\\u2028B': .*cannot be printed"),
        (f"g\t{'x' * 201}\nA\t1\n", 1, f"column '{'x' * 60}': .*200 characters"),
    ],
)
def test_bad_matrices(tmp_path, text, line, message):
    path = tmp_path / "m.tsv"
    path.write_text(text, encoding="utf-8", newline="")
    with pytest.raises(InputError, match=message) as error:
        read_expression(path)
    assert str(path) in str(error.value)
    assert (error.value.line, error.value.exit_code) == (line, 4)


@pytest.mark.parametrize(
    ("values", "names", "options", "error", "words"),
    [
        ([[-1.0, 5]], "a b", {}, InputError, "negative"),
        ([[0.1, 0.2]], "a b", {}, InputError, "no gene exceeds"),
        ([[5.0, 6]], f"a {MEDIAN}", {}, InputError, f"'{MEDIAN}' has the name of the output"),
        ([[5.0, 6]], "a gene_id", {}, InputError, "its name "),
        ([[5.0, 6]], "a b", {"min_tpm": -1}, UsageError, "min_tpm"),
    ],
)
def test_what_makes_no_targets_is_refused(values, names, options, error, words):
    with pytest.raises(error, match=words):
        make_targets(matrix(values).set_axis(names.split(" "), axis=1), scale="tpm", **options)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("cell", "scale", "words"),
    [("-1", "tpm", "negative"), ("-3.5", "log2tpm", "of nothing"), ("2e6", "tpm", "million")],
)
def test_a_value_of_another_scale_is_told_with_file_line_gene_and_column(
    tmp_path, cell, scale, words
):
    path = tmp_path / "x.tsv"
    path.write_text(f'"gene"\tLiver\tLung\n\n"A.1"\t1\t2\nENSG00000141510.7\t3\t{cell}\n')
    with pytest.raises(InputError, match=words) as error:
        make_targets(read_expression(path), scale=scale)
    where = f"{path}, line 4: column 'Lung', gene ENSG00000141510: {float(cell):g}: "
    assert error.value.message.startswith(where)
    assert error.value.remedy


CHROMS = [str(c) for c in range(1, 23)] + ["X"]


@given(st.lists(st.sampled_from(CHROMS), min_size=30, max_size=200), st.integers(0, 5))
def test_split_is_a_partition_by_chromosome(chroms, seed):
    chroms = ["1", *(["2"] * 5), *chroms]
    genes = [f"g{i // 2}" for i in range(len(chroms))]
    chroms = [chroms[i // 2] for i in range(len(chroms))]  # a gene's rows share a chromosome
    split = split_by_chromosome(chroms, genes, absent=("8",), seed=seed)
    where = np.array(chroms)
    assert set(where[split.test]) == {"1"}
    together = np.concatenate([split.training, split.validation, split.test])
    assert len(set(together)) == len(together) == (where != "8").sum()
    assert not {"1", "8"} & set(where[split.training]) | {"1", "8"} & set(where[split.validation])
    names = np.array(genes)
    assert not set(names[split.training]) & set(names[split.validation])
    forms = ("{0}", "chr{0}", "Chr{0}", "NC_{1:06}.11")
    styled = [forms[i % 4].format(c, 1 + CHROMS.index(c)) for i, c in enumerate(chroms)]
    for again in (
        split_by_chromosome(chroms, genes, absent=("8",), seed=seed),
        split_by_chromosome(styled, genes, test=("chr1",), absent=("NC_000008.11",), seed=seed),
    ):
        for part in ("training", "validation", "test"):
            np.testing.assert_array_equal(getattr(again, part), getattr(split, part))


@pytest.mark.parametrize(
    ("chosen", "error", "words"),
    [
        ({}, UsageError, r"test chromosome '1'[\s\S]*There are: 2, 10, X\."),
        ({"test": ("X,2",)}, UsageError, "no name of a chromosome"),
        ({"test": ("X",), "absent": ("chr",)}, UsageError, "no name of a chromosome"),
        ({"test": "10"}, UsageError, "not a single text"),
        ({"test": ("X",), "absent": ("chrX",)}, UsageError, "both tested on and left out"),
        ({"test": ("2", "10"), "absent": ("X",)}, InputError, "no gene is left for training"),
    ],
)
def test_chromosomes_that_would_split_nothing_are_refused(chosen, error, words):
    chroms, genes = ["chr10", "chr2", "chrX", "chr2"], ["a", "b", "c", "d"]
    with pytest.raises(error, match=words):
        split_by_chromosome(chroms, genes, **chosen)
    split = split_by_chromosome(chroms, genes, test=("X",), absent=("Y", "chrUn_KI270742v1"))
    assert split.test.tolist() == [2]
    assert split_by_chromosome(chroms, genes, test=(), absent=("X",)).test.size == 0


def test_a_gene_without_a_chromosome_is_in_no_part():
    with pytest.raises(InputError, match="gene b has no chromosome"):
        split_by_chromosome(["1", "", "2"], ["a", "b", "c"])
