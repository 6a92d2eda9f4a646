"""Chromosomes: their names, their lengths, and one axis through all of them.

Every overlap in this package is computed on a single *linear* axis that lays
the chromosomes end to end, so one sorted search serves a whole genome instead
of one per chromosome.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from decode_zoo.errors import InputError, UsageError

__all__ = ["Genome", "canonical_name", "read_chrom_sizes"]

IntArray = npt.NDArray[np.int64]

# GRCh38 primary assembly (GCA_000001405.15): sequence lengths.
_HG38 = {
    "1": 248956422, "2": 242193529, "3": 198295559, "4": 190214555, "5": 181538259,
    "6": 170805979, "7": 159345973, "8": 145138636, "9": 138394717, "10": 133797422,
    "11": 135086622, "12": 133275309, "13": 114364328, "14": 107043718, "15": 101991189,
    "16": 90338345, "17": 83257441, "18": 80373285, "19": 58617616, "20": 64444167,
    "21": 46709983, "22": 50818468, "X": 156040895, "Y": 57227415, "M": 16569,
}  # fmt: skip

# NCBI RefSeq accessions of human chromosomes; the version tells the build, so it is kept out.
_REFSEQ = re.compile(r"NC_0000(\d\d)\.\d+")
_REFSEQ_SPECIAL = {"23": "X", "24": "Y"}

# Bases of nothing between neighbours on the linear axis, so that an interval that ends on one
# chromosome's last base and one that starts on the next one's first base never touch.
_GAP = 1


def canonical_name(name: str) -> str:
    """Name of a chromosome without naming style: ``chr1``, ``1``, ``NC_000001.11`` → ``1``.

    Parameters
    ----------
    name : str
        A sequence name in UCSC, Ensembl or NCBI RefSeq style.

    Returns
    -------
    str
        The Ensembl-style name; the mitochondrion is ``M``. Unknown names are returned as they
        are (less a leading ``chr``).
    """
    if name.startswith("NC_012920"):
        return "M"
    match = _REFSEQ.fullmatch(name)
    if match:
        return _REFSEQ_SPECIAL.get(match[1], str(int(match[1])))
    bare = name[3:] if name[:3].lower() == "chr" else name
    return "M" if bare == "MT" else bare


@dataclass(frozen=True)
class Genome:
    """An assembly: chromosome names and lengths, and the linear axis through them.

    Attributes
    ----------
    build : str
        Name of the assembly, e.g. ``hg38``.
    sizes : Mapping[str, int]
        Length in bases by canonical chromosome name (`canonical_name`).
    """

    build: str
    sizes: Mapping[str, int]
    _codes: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def named(cls, build: str) -> Genome:
        """Return a built-in assembly (``hg38``).

        Raises
        ------
        UsageError
            If the assembly is not built in.
        """
        if build != "hg38":
            raise UsageError(
                f"No chromosome sizes are built in for genome '{build}' (only hg38).",
                remedy="Give a two-column file of chromosome sizes with --chrom-sizes.",
            )
        return cls(build, _HG38)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Canonical chromosome names; a chromosome's code is its place here."""
        return tuple(self.sizes)

    @cached_property
    def lengths(self) -> IntArray:
        """Chromosome lengths in bases, by code."""
        return np.fromiter(self.sizes.values(), np.int64, len(self.sizes))

    @cached_property
    def offsets(self) -> IntArray:
        """First linear position of each chromosome, by code."""
        padded = self.lengths + _GAP
        return np.cumsum(padded) - padded

    @cached_property
    def span(self) -> int:
        """Length of the linear axis in bases."""
        return int((self.lengths + _GAP).sum())

    def code(self, name: str) -> int:
        """Code of a chromosome in any naming style, -1 if the assembly lacks it."""
        if not self._codes:
            self._codes.update({known: i for i, known in enumerate(self.names)})
        return self._codes.get(canonical_name(name), -1)


def read_chrom_sizes(path: str | os.PathLike[str], build: str) -> Genome:
    """Read a UCSC ``chrom.sizes`` file: name and length, separated by white space.

    Parameters
    ----------
    path : path-like
        The file; ``#`` starts a comment line.
    build : str
        Name to give the assembly.

    Raises
    ------
    InputError
        If the file is missing, or a line is not a name and a positive whole number.
    """
    sizes: dict[str, int] = {}
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read as text ({error})", path=path) from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split()
        if len(cells) < 2 or not cells[1].isdecimal() or int(cells[1]) < 1:
            raise InputError(
                f"expected a chromosome name and its length, found {line[:60]!r}",
                path=path,
                line=number,
            )
        sizes[canonical_name(cells[0])] = int(cells[1])
    if not sizes:
        raise InputError("holds no chromosome sizes", path=path)
    return Genome(build, sizes)
