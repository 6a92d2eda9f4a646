"""Targets and splits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decode_zoo.errors import InputError
from decode_zoo.expression import (
    MEDIAN,
    Split,
    make_targets,
    read_expression,
    split_by_chromosome,
)


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


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("g\ta\nG1\t1\nG2\tx\n", "not a finite number", 3),
        ("g\ta\nG1\t1\nG1\t2\n", "occurs twice", None),
        ("g\ta\nENSG00000000001.1\t1\nENSG00000000001.2\t2\n", "occurs twice", None),
        ("g\ta\nG1\t\n", "not a finite number", 2),
        ("g\ta\nG1\tinf\n", "not a finite number", 2),
        ("", "not a tab-separated matrix", None),
    ],
)
def test_bad_matrices(tmp_path, text, message, line):
    path = tmp_path / "m.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_expression(path)
    assert str(path) in str(error.value)
    if line:
        assert error.value.line == line


def test_negative_tpm_and_silent_genes_are_refused():
    with pytest.raises(InputError, match="negative"):
        make_targets(matrix([[-1.0, 5]]), scale="tpm")
    with pytest.raises(InputError, match="no gene exceeds"):
        make_targets(matrix([[0.1, 0.2]]), scale="tpm")


CHROMS = [str(c) for c in range(1, 23)] + ["X"]


@given(st.lists(st.sampled_from(CHROMS), min_size=30, max_size=200), st.integers(0, 5))
def test_split_is_a_partition_by_chromosome(chroms, seed):
    genes = [f"g{i // 2}" for i in range(len(chroms))]
    chroms = [chroms[i // 2] for i in range(len(chroms))]  # a gene's rows share a chromosome
    split = split_by_chromosome(chroms, genes, absent=("8",), seed=seed)
    where = np.array(chroms)
    assert set(where[split.test]) <= {"1"}
    together = np.concatenate([split.training, split.validation, split.test])
    assert len(set(together)) == len(together) == (where != "8").sum()
    assert not {"1", "8"} & set(where[split.training]) | {"1", "8"} & set(where[split.validation])
    names = np.array(genes)
    assert not set(names[split.training]) & set(names[split.validation])
    again = split_by_chromosome(chroms, genes, absent=("8",), seed=seed)
    np.testing.assert_array_equal(again.validation, split.validation)


def test_leaks_are_found():
    chroms, genes = ["1", "2", "3", ""], ["a", "b", "c", "d"]

    def split(training, validation, test):
        return Split(*(np.array(rows, np.int64) for rows in (training, validation, test)))

    split([1], [2], [0]).check(chroms, ["1"], genes)
    for bad, message in (
        (split([0, 1], [2], []), "leaks into training"),
        (split([1], [0], []), "leaks into validation"),
        (split([1], [], [2]), "leaks into test"),
        (split([1, 3], [2], [0]), "no chromosome"),
        (split([1], [1], [0]), "in both"),
        (split([1, 1], [2], [0]), "two parts"),
    ):
        with pytest.raises(InputError, match=message):
            bad.check(chroms, ["1"], genes)
    with pytest.raises(InputError, match="in both"):
        split([1], [2], [0]).check(chroms, ["1"], ["a", "b", "b", "d"])
