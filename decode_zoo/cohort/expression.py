"""Expression matrices and the targets that models learn: fold changes and the median.

Source: Tasaki et al. 2020, Methods, 'Transcriptome data processing': log2(TPM + 0.25), the median
over tissues, and each tissue's log2 fold change against that median.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from decode_zoo.core.arrays import BoolArray, FloatArray, IntArray
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.core.reader import NamedMatrix, Table, first_twice
from decode_zoo.core.text import output_fault
from decode_zoo.features.genes import strip_version
from decode_zoo.networks.manifest import MEDIAN, Output

__all__ = ["Targets", "make_targets", "read_expression"]

PSEUDOCOUNT = 0.25
# What log2(TPM + 0.25) can be, and what may be lost when it is printed.
_LOWEST, _HIGHEST, _ROUNDING = np.log2(PSEUDOCOUNT), np.log2(1e6 + PSEUDOCOUNT), 0.01


@dataclass(frozen=True)
class Targets:
    """What a model learns to predict.

    The last column is the median over the others in log2(TPM + 0.25), named `MEDIAN`; they are log2
    fold changes against it. Scores, which have a unit, are as they are, without a median.
    """

    gene_ids: list[str]  # without version
    names: tuple[str, ...]
    values: FloatArray  # shape (n_genes, n_outputs)
    unit: str = ""

    def take(self, rows: IntArray) -> Targets:
        """Return some of the genes."""
        return replace(self, gene_ids=[self.gene_ids[i] for i in rows], values=self.values[rows])

    def outputs(self, training: IntArray) -> tuple[Output, ...]:
        """Describe the outputs; their scales are standard deviations over the training genes.

        All fold changes share one, the median and each score have their own.
        """
        if self.unit:
            deviations = self.values[training].std(axis=0)
            if not (deviations > 0).all():
                raise InputError("a score does not vary over training genes")
            return tuple(
                Output(name, self.unit, "score", float(deviation))
                for name, deviation in zip(self.names, deviations, strict=True)
            )
        fold, median = self.values[training, :-1], self.values[training, -1]
        shared = float(fold.std())
        if not (shared > 0 and median.std() > 0):
            raise InputError(
                "expression does not vary over outputs and training genes, so there "
                "is nothing to learn",
                remedy="Give two outputs or more.",
            )
        return (
            *(Output(name, "log2 fold change", "fold_change", shared) for name in self.names[:-1]),
            Output(self.names[-1], "log2 TPM", "median", float(median.std())),
        )


def read_expression(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a matrix of genes × tissues or samples.

    Parameters
    ----------
    path : path-like
        Text with tabs, commas or semicolons, plain or gzip; a header that names the columns;
        first column gene ids. Blank lines and quotes around cells are ignored.

    Returns
    -------
    DataFrame of float64, shape (n_genes, n_outputs)
        Indexed by gene id without version.

    Raises
    ------
    InputError
        If a line has more or fewer cells than the header, a cell is not a finite number, a gene
        or column occurs twice or has no name, or a column's name cannot be that of an output.
    """
    table = Table.read(path)
    _check_names(table.header[1:], path, table.line)
    grid = NamedMatrix.from_table(table)
    genes = [strip_version(name) for name in grid.rows]
    if twice := first_twice(genes):
        second = genes.index(twice, genes.index(twice) + 1)
        raise table.fault(f"gene '{twice}' occurs twice", table.lines[second])
    frame = pd.DataFrame(grid.values, index=pd.Index(genes, name="gene_id"), columns=grid.columns)
    frame.attrs["path"] = os.fspath(path)
    return frame


def _check_names(
    names: Sequence[str], path: str | os.PathLike[str] | None = None, line: int | None = None
) -> None:
    """Refuse names that no outputs can have."""
    for name in names:
        if fault := output_fault(name):
            raise InputError(
                f"column {name[:60]!r}: its name {fault}",
                path=path,
                line=line,
                remedy="Rename it.",
            )
    if twice := first_twice(names):
        raise InputError(f"column '{twice}' occurs twice", path=path, line=line)


def make_targets(
    matrix: pd.DataFrame,
    *,
    scale: Literal["tpm", "log2tpm", "log2"] = "log2tpm",
    min_tpm: float = 2.0,
) -> Targets:
    """Turn expression into targets.

    Parameters
    ----------
    matrix : DataFrame, shape (n_genes, n_outputs)
        TPM, log2(TPM + 0.25), or the latter normalised, indexed by gene id.
    scale : {"tpm", "log2tpm", "log2"}
        Which of the three it is.
    min_tpm : float
        Genes that do not exceed this in any output are dropped; of normalised values none is.

    Raises
    ------
    UsageError
        If `min_tpm` is negative.
    InputError
        If values are no TPM (or logarithms of TPM), no gene is expressed, two outputs would have
        one name, or a name cannot be that of an output.
    """
    if not min_tpm >= 0:
        raise UsageError(f"min_tpm must not be negative: {min_tpm}.")
    names = (*(str(name) for name in matrix.columns), MEDIAN)
    if MEDIAN in names[:-1]:
        raise InputError(
            f"column '{MEDIAN}' has the name of the output that is added to the matrix's own",
            remedy="Rename it.",
        )
    _check_names(names)
    values = matrix.to_numpy(np.float64)
    if scale == "tpm":
        _refuse(values < 0, matrix, "no TPM is negative", "Is it log-transformed already?")
        values = np.log2(values + PSEUDOCOUNT)
    elif scale == "log2tpm":
        _refuse(
            values < _LOWEST - _ROUNDING,
            matrix,
            f"that is the log2(TPM + {PSEUDOCOUNT}) of nothing",
            "Give log2(TPM + 0.25), or TPM (--scale tpm), or say that it is normalised (log2).",
        )
    _refuse(
        values > _HIGHEST + _ROUNDING,
        matrix,
        "that is more than a million transcripts in a million (TPM)",
        "Are these counts? Or TPM, but named log2tpm (--scale)?",
    )
    kept = values.max(axis=1) > (-np.inf if scale == "log2" else np.log2(min_tpm + PSEUDOCOUNT))
    if not kept.any():
        raise InputError(
            f"no gene exceeds {min_tpm:g} TPM in any output",
            remedy="Are the values on the scale that was named?",
        )
    values = values[kept]
    median = np.median(values, axis=1, keepdims=True)
    return Targets(
        [str(name) for name in matrix.index[kept]],
        names,
        np.concatenate([values - median, median], axis=1),
    )


def _refuse(wrong: BoolArray, matrix: pd.DataFrame, why: str, remedy: str) -> None:
    """Raise InputError at the first value that is wrong, if any is."""
    if not wrong.any():
        return
    row, column = (int(place[0]) for place in np.nonzero(wrong))
    names, gene = [str(name) for name in matrix.columns], str(matrix.index[row])
    value, path, line = matrix.to_numpy(np.float64)[row, column], matrix.attrs.get("path"), None
    if path is not None:
        table = Table.read(path)
        genes = [strip_version(name) for name in table.first_cells()]
        line = table.lines[genes.index(gene)] if gene in genes else None
    raise InputError(
        f"column '{names[column]}', gene {gene}: {value:g}: {why}",
        path=path,
        line=line,
        remedy=remedy,
    )
