"""Expression matrices and the targets that models learn: fold changes and the median.

Source: Tasaki et al. 2020, Methods, 'Transcriptome data processing': log2(TPM + 0.25), the median
over tissues, and each tissue's log2 fold change against that median.
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.errors import InputError, UsageError
from decode_zoo.genes import strip_version
from decode_zoo.genome import canonical_name
from decode_zoo.names import output_fault
from decode_zoo.textfile import read_text

__all__ = [
    "MEDIAN",
    "Output",
    "Split",
    "Targets",
    "make_targets",
    "read_expression",
    "split_by_chromosome",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MEDIAN = "median_log2_tpm"
PSEUDOCOUNT = 0.25
# What log2(TPM + 0.25) can be, and what may be lost when it is printed.
_LOWEST, _HIGHEST, _ROUNDING = np.log2(PSEUDOCOUNT), np.log2(1e6 + PSEUDOCOUNT), 0.01

_QUOTED = re.compile(rb'(?m)(?:^|(?<=\t))"([^"\t\r\n]*)"(?=\t|\r?$)')
_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*", re.ASCII)
_CHROMOSOME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._|-]*")


@dataclass(frozen=True)
class Output:
    """One prediction column.

    Attributes
    ----------
    name : str
        E.g. a tissue.
    unit : str
        ``log2 fold change``, ``log2 TPM``, or that of a score.
    kind : {"fold_change", "median", "score"}
        A score is whatever else there is about a gene.
    scale : float
        The network's own output times this is in `unit`.
    """

    name: str
    unit: str
    kind: Literal["fold_change", "median", "score"]
    scale: float = 1.0


@dataclass(frozen=True)
class Targets:
    """What a model learns to predict.

    Attributes
    ----------
    gene_ids : list of str
        Without version; n of them.
    names : tuple of str
        Output names; the last one is `MEDIAN`, unless they are scores.
    values : ndarray of float64, shape (n, n_outputs)
        log2 fold changes against the gene's median over the outputs, and that median in
        log2(TPM + 0.25); or scores.
    unit : str
        Of scores; empty if they are none.
    """

    gene_ids: list[str]
    names: tuple[str, ...]
    values: FloatArray
    unit: str = ""

    def take(self, rows: IntArray) -> Targets:
        """Return some of the genes."""
        return replace(self, gene_ids=[self.gene_ids[i] for i in rows], values=self.values[rows])

    def outputs(self, training: IntArray) -> tuple[Output, ...]:
        """Describe the outputs, with scales from training genes only.

        Parameters
        ----------
        training : ndarray of int64
            Rows of the training genes.

        Returns
        -------
        tuple of Output
            One standard deviation for all fold changes together, one for the median; one for each
            score.
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
    """Read a matrix of genes × tissues or persons.

    Parameters
    ----------
    path : path-like
        Tab-separated, plain or gzip; a header with a name for each column, that of the gene ids
        included; first column gene ids. Blank lines and quotes around cells are ignored.

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
    data = read_text(path)
    if b'"' in data:
        data = _QUOTED.sub(rb"\1", data)
    lines = {n: line for n, line in enumerate(data.splitlines(), 1) if line.strip()}
    header = min(lines, default=1)
    names = _column_names(lines.pop(header, b""), path, header)
    for number, line in lines.items():
        if (tabs := line.count(b"\t")) != len(names):
            raise InputError(
                f"has {tabs + 1} cells, but the header has {len(names) + 1}",
                path=path,
                line=number,
                remedy="The header names each column, that of the gene ids included.",
            )
    if not lines:
        raise InputError("holds no genes", path=path)
    places = range(len(names) + 1)
    try:
        frame = pd.read_csv(
            io.BytesIO(b"\n".join(lines.values())),
            sep="\t",
            header=None,
            names=list(places),
            index_col=False,
            dtype={i: np.float64 if i else str for i in places},
            quoting=3,
            na_filter=False,
            engine="c",
            low_memory=False,
            float_precision="round_trip",
        )
    except UnicodeDecodeError as error:
        raise InputError(f"is not text in UTF-8 ({error})", path=path) from None
    except (ValueError, TypeError) as error:  # pandas raises either
        _check_numbers(lines, names, path)
        raise InputError(f"holds something that is not a number ({error})", path=path) from None
    numbers = frame.loc[:, 1:].to_numpy(np.float64)
    # pandas takes a column of nothing but True and False as 1 and 0; its first cell tells.
    first = next(iter(lines))
    _check_numbers(lines if not np.isfinite(numbers).all() else {first: lines[first]}, names, path)
    genes = [strip_version(name) for name in frame[0]]
    seen: set[str] = set()
    for number, gene in zip(lines, genes, strict=True):
        if not gene.strip():
            raise InputError("the gene has no name", path=path, line=number)
        if gene in seen:
            raise InputError(f"gene '{gene}' occurs twice", path=path, line=number)
        seen.add(gene)
    frame = pd.DataFrame(numbers, index=pd.Index(genes, name="gene_id"), columns=names)
    frame.attrs["path"] = os.fspath(path)
    return frame


def _column_names(line: bytes, path: str | os.PathLike[str], number: int) -> list[str]:
    """Names of the columns after the first, checked."""
    try:
        names = line.decode("utf-8").split("\t")[1:]
    except UnicodeDecodeError as error:
        raise InputError(f"is not text in UTF-8 ({error})", path=path, line=number) from None
    if not names:
        raise InputError(
            "is not a tab-separated matrix: its first line has no two columns",
            path=path,
            line=number,
        )
    for name, times in Counter(names).items():
        if not name.strip():
            raise InputError("a column has no name", path=path, line=number)
        if times > 1:
            raise InputError(f"column '{name}' occurs twice", path=path, line=number)
        if fault := output_fault(name):
            raise InputError(
                f"column {name[:60]!r}: its name {fault}",
                path=path,
                line=number,
                remedy="Rename it.",
            )
    return names


def _check_numbers(
    lines: Mapping[int, bytes], names: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Raise InputError at the first cell that is not a finite number."""
    for number, line in lines.items():
        gene, *cells = line.decode("utf-8", "replace").split("\t")
        for name, cell in zip(names, cells, strict=True):
            if not (_NUMBER.fullmatch(cell) and np.isfinite(float(cell))):
                raise InputError(
                    f"column '{name}', gene {strip_version(gene)}: not a finite number: "
                    f"{cell[:40]!r}",
                    path=path,
                    line=number,
                )


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
    for name in names:
        if fault := output_fault(name):
            raise InputError(f"column {name[:60]!r}: its name {fault}", remedy="Rename it.")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise InputError(
            f"two outputs would be named '{twice[0]}'",
            remedy=f"Rename the column; '{MEDIAN}' is the output that is added to the matrix's own."
            if twice[0] == MEDIAN
            else "Rename one of the columns.",
        )
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


def _refuse(wrong: npt.NDArray[np.bool_], matrix: pd.DataFrame, why: str, remedy: str) -> None:
    """Raise InputError at the first value that is wrong, if any is."""
    if not wrong.any():
        return
    row, column = (int(place[0]) for place in np.nonzero(wrong))
    names, gene = [str(name) for name in matrix.columns], str(matrix.index[row])
    value, path = matrix.to_numpy(np.float64)[row, column], matrix.attrs.get("path")
    raise InputError(
        f"column '{names[column]}', gene {gene}: {value:g}: {why}",
        path=path,
        line=None if path is None else _line_of(gene, path),
        remedy=remedy,
    )


def _line_of(gene: str, path: str) -> int | None:
    """Look up where a gene stands in its file."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        name = line.partition(b"\t")[0].decode(errors="replace")
        if strip_version(name.removeprefix('"').removesuffix('"')) == gene:
            return number
    return None


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

    def check(
        self,
        chroms: Sequence[str],
        held_out: Sequence[str],
        genes: Sequence[str],
        absent: Sequence[str] = (),
    ) -> None:
        """Refuse a split that leaks.

        Parameters
        ----------
        chroms : sequence of str
            Chromosome of each row, in any naming style (as in `held_out` and `absent`).
        held_out : sequence of str
            Chromosomes that must not be trained or selected on.
        genes : sequence of str
            Gene of each row.
        absent : sequence of str
            Chromosomes that must not be in any part.

        Raises
        ------
        InputError
            If a row or a gene is in two parts, a gene of a held-out chromosome is trained or
            selected on, a test gene lies elsewhere, a gene of an absent chromosome is in any part,
            or a chromosome is not known.
        """
        where = _canonical(chroms)
        held, left_out = set(_canonical(held_out)), set(_canonical(absent))
        parts = {"training": self.training, "validation": self.validation, "test": self.test}
        owner: dict[str, str] = {}
        for part, rows in parts.items():
            for row in rows:
                gene, chrom = genes[row], where[row]
                if not chrom:
                    raise InputError(f"gene {gene} has no chromosome, so it cannot be split by it")
                if chrom in left_out or (chrom in held) != (part == "test"):
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
        Chromosome of each row; here and below, ``chr1``, ``1`` and ``NC_000001.11`` are the same.
    genes : sequence of str
        Gene of each row; rows of one gene (its transcripts) stay together.
    test : sequence of str
        Held-out chromosomes; with none there is no test part.
    absent : sequence of str
        Chromosomes left out altogether; there may be no row on them.
    validation_fraction : float
        Of the genes that are neither.
    seed : int
        Of the random choice.

    Raises
    ------
    UsageError
        If no row lies on a test chromosome, a chromosome is both `test` and `absent`, or a name
        is none.
    InputError
        If no gene is left for training, or the split leaks (`Split.check`).
    """
    where = np.array(_canonical(chroms), dtype=object)
    held_out, left_out = _chosen(test, "test"), _chosen(absent, "absent")
    there = sorted(set(where) - {""}, key=_in_order)
    for name in held_out:
        if name not in there:
            raise UsageError(
                f"No gene lies on the test chromosome '{name}'.",
                remedy=f"There are: {', '.join(there)}.",
            )
        if name in left_out:
            raise UsageError(f"Chromosome '{name}' cannot be both tested on and left out.")
    rest = np.flatnonzero(~np.isin(where, [*held_out, *left_out]))
    names = sorted({genes[int(row)] for row in rest})
    chosen = np.random.default_rng(seed).permutation(len(names))
    validation = {names[i] for i in chosen[: round(validation_fraction * len(names))]}
    held = np.array([genes[int(row)] in validation for row in rest], np.bool_)
    split = Split(rest[~held], rest[held], np.flatnonzero(np.isin(where, held_out)))
    if not split.training.size:
        raise InputError(
            f"no gene is left for training: of {len(where)}, {split.test.size} are on test "
            f"chromosomes, {split.validation.size} are for validation, and the others are left out",
            remedy="Test on fewer chromosomes, or leave fewer out.",
        )
    split.check(chroms, held_out, genes, left_out)
    return split


def _canonical(names: Sequence[str]) -> list[str]:
    known = {name: canonical_name(name) for name in set(names)}
    return [known[name] for name in names]


def _chosen(names: Sequence[str], what: str) -> list[str]:
    """Canonical names of the chromosomes that the caller chose."""
    # A single text would be taken letter by letter: '12' as chromosomes 1 and 2.
    if isinstance(names, str):
        raise UsageError(
            f"Give a list of {what} chromosomes, not a single text.", remedy=f"{what}=({names!r},)"
        )
    for name in names:
        if not _CHROMOSOME.fullmatch(canonical_name(name)):
            raise UsageError(
                f"{name!r} is no name of a chromosome ({what}).",
                remedy="Name one at a time, for example: chr8",
            )
    return _canonical(names)


def _in_order(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (1 << 31, name)
