"""Expression matrices and the targets that models learn: fold changes and the median.

Source: Tasaki et al. 2020, Methods, 'Transcriptome data processing': log2(TPM + 0.25), the median
over tissues, and each tissue's log2 fold change against that median.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.errors import InputError
from decode_zoo.genes import strip_version
from decode_zoo.textfile import read_bytes

__all__ = ["MEDIAN", "Output", "Split", "Targets", "make_targets", "read_expression",
           "split_by_chromosome"]  # fmt: skip

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MEDIAN = "median_log2_tpm"
PSEUDOCOUNT = 0.25


@dataclass(frozen=True)
class Output:
    """One prediction column.

    Attributes
    ----------
    name : str
        E.g. a tissue.
    unit : str
        ``log2 fold change`` or ``log2 TPM``.
    kind : {"fold_change", "median"}
    scale : float
        The network's own output times this is in `unit`.
    """

    name: str
    unit: str
    kind: Literal["fold_change", "median"]
    scale: float = 1.0


@dataclass(frozen=True)
class Targets:
    """What a model learns to predict.

    Attributes
    ----------
    gene_ids : list of str
        Without version; n of them.
    names : tuple of str
        Output names; the last one is `MEDIAN`.
    values : ndarray of float64, shape (n, n_outputs)
        log2 fold changes against the gene's median over the outputs, and that median in
        log2(TPM + 0.25).
    """

    gene_ids: list[str]
    names: tuple[str, ...]
    values: FloatArray

    def take(self, rows: IntArray) -> Targets:
        """Return some of the genes."""
        return Targets([self.gene_ids[i] for i in rows], self.names, self.values[rows])

    def outputs(self, training: IntArray) -> tuple[Output, ...]:
        """Describe the outputs, with scales from training genes only.

        Parameters
        ----------
        training : ndarray of int64
            Rows of the training genes.

        Returns
        -------
        tuple of Output
            One standard deviation for all fold changes together, one for the median.
        """
        fold, median = self.values[training, :-1], self.values[training, -1]
        shared = float(fold.std())
        return (
            *(Output(name, "log2 fold change", "fold_change", shared) for name in self.names[:-1]),
            Output(self.names[-1], "log2 TPM", "median", float(median.std())),
        )


def read_expression(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a matrix of genes × tissues or persons.

    Parameters
    ----------
    path : path-like
        Tab-separated, plain or gzip; header; first column gene ids.

    Returns
    -------
    DataFrame of float64, shape (n_genes, n_outputs)
        Indexed by gene id without version.

    Raises
    ------
    InputError
        If a cell is not a finite number, or a gene or column occurs twice.
    """
    try:
        frame = pd.read_csv(io.BytesIO(read_bytes(path)), sep="\t", index_col=0,
                            dtype={0: str}, keep_default_na=False)  # fmt: skip
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"is not a tab-separated matrix ({error})", path=path) from None
    frame.index = pd.Index([strip_version(str(name)) for name in frame.index], name="gene_id")
    numbers = frame.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    bad = ~np.isfinite(numbers)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InputError(
            f"column '{frame.columns[column]}', gene {frame.index[row]}: "
            f"not a finite number: {frame.iat[row, column]!r}",
            path=path,
            line=int(row) + 2,
        )
    for what, labels in (("gene", frame.index), ("column", frame.columns)):
        if labels.has_duplicates:
            raise InputError(f"{what} '{labels[labels.duplicated()][0]}' occurs twice", path=path)
    if not numbers.size:
        raise InputError("holds no numbers", path=path)
    return pd.DataFrame(numbers, index=frame.index, columns=frame.columns)


def make_targets(
    matrix: pd.DataFrame, *, scale: Literal["tpm", "log2tpm"] = "log2tpm", min_tpm: float = 2.0
) -> Targets:
    """Turn expression into targets.

    Parameters
    ----------
    matrix : DataFrame, shape (n_genes, n_outputs)
        TPM, or log2(TPM + 0.25), indexed by gene id.
    scale : {"tpm", "log2tpm"}
        Which of the two it is.
    min_tpm : float
        Genes that do not exceed this in any output are dropped.

    Raises
    ------
    InputError
        If TPM are negative, or no gene is expressed.
    """
    values = matrix.to_numpy(np.float64)
    if scale == "tpm":
        if (values < 0).any():
            raise InputError("the matrix holds negative TPM",
                             remedy="Is it already log-transformed?")  # fmt: skip
        values = np.log2(values + PSEUDOCOUNT)
    kept = values.max(axis=1) > np.log2(min_tpm + PSEUDOCOUNT)
    if not kept.any():
        raise InputError(f"no gene exceeds {min_tpm:g} TPM in any output",
                         remedy="Are the values on the scale that was named?")  # fmt: skip
    values = values[kept]
    median = np.median(values, axis=1, keepdims=True)
    return Targets(
        [str(name) for name in matrix.index[kept]],
        (*(str(name) for name in matrix.columns), MEDIAN),
        np.concatenate([values - median, median], axis=1),
    )


@dataclass(frozen=True)
class Split:
    """Genes for training, for choosing, and for reporting.

    Attributes
    ----------
    training, validation, test : ndarray of int64
        Disjoint rows.
    """

    training: IntArray
    validation: IntArray
    test: IntArray

    def check(self, chroms: Sequence[str], held_out: Sequence[str], genes: Sequence[str]) -> None:
        """Refuse a split that leaks.

        Parameters
        ----------
        chroms : sequence of str
            Chromosome of each row.
        held_out : sequence of str
            Chromosomes that must not be trained or selected on.
        genes : sequence of str
            Gene of each row.

        Raises
        ------
        InputError
            If a row or a gene is in two parts, a gene of a held-out chromosome is trained or
            selected on, a test gene lies elsewhere, or a chromosome is not known.
        """
        parts = {"training": self.training, "validation": self.validation, "test": self.test}
        owner: dict[str, str] = {}
        for part, rows in parts.items():
            for row in rows:
                gene, chrom = genes[row], chroms[row]
                if not chrom:
                    raise InputError(f"gene {gene} has no chromosome, so it cannot be split by it")
                if (chrom in held_out) != (part == "test"):
                    raise InputError(f"gene {gene} on chromosome {chrom} leaks into {part}")
                if owner.setdefault(gene, part) != part:
                    raise InputError(f"gene {gene} is in both {owner[gene]} and {part}")
        if sum(map(len, parts.values())) != len(set(np.concatenate(list(parts.values())).tolist())):
            raise InputError("a row is in two parts of the split")


def split_by_chromosome(
    chroms: Sequence[str],
    genes: Sequence[str],
    *,
    test: Sequence[str] = ("1",),
    absent: Sequence[str] = (),
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> Split:
    """Split genes: whole chromosomes for the test, a random part of the rest for validation.

    Parameters
    ----------
    chroms : sequence of str
        Chromosome of each row, without ``chr``.
    genes : sequence of str
        Gene of each row; rows of one gene (its transcripts) stay together.
    test : sequence of str
        Held-out chromosomes.
    absent : sequence of str
        Chromosomes left out altogether.
    validation_fraction : float
        Of the genes that are neither.
    seed : int
        Of the random choice.

    Raises
    ------
    InputError
        If the split leaks (`Split.check`).
    """
    where = np.array(chroms, dtype=object)
    rest = np.flatnonzero(~np.isin(where, [*test, *absent]))
    names = sorted({genes[int(row)] for row in rest})
    chosen = np.random.default_rng(seed).permutation(len(names))
    validation = {names[i] for i in chosen[: round(validation_fraction * len(names))]}
    held = np.array([genes[int(row)] in validation for row in rest], np.bool_)
    split = Split(rest[~held], rest[held], np.flatnonzero(np.isin(where, list(test))))
    split.check(chroms, test, genes)
    return split
