"""Chromosomes: their names, their lengths, and one axis through all of them.

Every overlap is computed on a single *linear* axis that lays the chromosomes end to end, so that
one sorted search serves a whole genome.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.core.arrays import BoolArray, IntArray
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.core.reader import read_text

__all__ = ["Genome", "canonical_name", "read_chrom_sizes", "read_strands", "refuse_lines"]

# GRCh38 primary assembly (GCA_000001405.15): name, length, RefSeq accession. The versions of the
# accessions tell GRCh38 from its neighbours (GRCh37 has NC_000001.10).
_HG38 = """\
1 248956422 NC_000001.11
2 242193529 NC_000002.12
3 198295559 NC_000003.12
4 190214555 NC_000004.12
5 181538259 NC_000005.10
6 170805979 NC_000006.12
7 159345973 NC_000007.14
8 145138636 NC_000008.11
9 138394717 NC_000009.12
10 133797422 NC_000010.11
11 135086622 NC_000011.10
12 133275309 NC_000012.12
13 114364328 NC_000013.11
14 107043718 NC_000014.9
15 101991189 NC_000015.10
16 90338345 NC_000016.10
17 83257441 NC_000017.11
18 80373285 NC_000018.10
19 58617616 NC_000019.10
20 64444167 NC_000020.11
21 46709983 NC_000021.9
22 50818468 NC_000022.11
X 156040895 NC_000023.11
Y 57227415 NC_000024.10
M 16569 NC_012920.1
"""

# NCBI RefSeq accessions of human chromosomes (NC_000067 is one of the mouse).
_REFSEQ = re.compile(r"NC_0000(0[1-9]|1\d|2[0-4])\.\d+|NC_012920\.\d+")
_REFSEQ_SPECIAL = {"23": "X", "24": "Y", None: "M"}

# Bases of nothing between neighbours on the linear axis, so that an interval that ends on one
# chromosome's last base and one that starts on the next one's first base never touch.
_GAP = 1

# Feature sets store positions in 32 bits. All genes, each on an axis of its own as long as the
# genome, must fit into 64.
_LONGEST_CHROMOSOME, _LONGEST_GENOME = 1 << 32, 1 << 40


def canonical_name(name: str) -> str:
    """Return a chromosome's Ensembl-style name: ``chr1``, ``1``, ``NC_000001.11`` → ``1``.

    The mitochondrion is ``M``. Unknown names are returned as they are, less a leading ``chr``.
    """
    match = _REFSEQ.fullmatch(name)
    if match:
        return _REFSEQ_SPECIAL.get(match[1]) or match[1].lstrip("0")
    bare = name[3:] if name[:3].lower() == "chr" else name
    return "M" if bare == "MT" else bare


@dataclass(frozen=True)
class Genome:
    """An assembly: chromosome names and lengths, and the linear axis through them."""

    build: str  # name of the assembly, e.g. hg38
    sizes: Mapping[str, int]  # length in bases by canonical name (`canonical_name`)
    # Canonical name by the name that the assembly itself gives a sequence. Where that is a RefSeq
    # accession, other versions of it belong to other builds.
    spellings: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def named(cls, build: str) -> Genome:
        """Return a built-in assembly; raise UsageError if it is not hg38, the only one."""
        if build != "hg38":
            raise UsageError(
                f"No chromosome sizes are built in for genome '{build}' (only hg38).",
                remedy="Give a two-column file of chromosome sizes with --chrom-sizes.",
            )
        rows = [line.split() for line in _HG38.splitlines()]
        sizes = {name: int(length) for name, length, _ in rows}
        return cls(build, sizes, {accession: name for name, _, accession in rows})

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Canonical chromosome names; a chromosome's code is its position here."""
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

    @cached_property
    def _codes(self) -> dict[str, int]:
        by_name = {name: i for i, name in enumerate(self.names)}
        return by_name | {given: by_name[name] for given, name in self.spellings.items()}

    def _own_accession(self, name: str) -> str | None:
        """Return this build's accession for a chromosome, if `name` is that of another build."""
        if name in self._codes or not _REFSEQ.fullmatch(name):
            return None
        own = (given for given in self.spellings if _REFSEQ.fullmatch(given))
        return {self.spellings[given]: given for given in own}.get(canonical_name(name))

    def code(self, name: str) -> int:
        """Return the code of a chromosome in any naming style, -1 if the assembly lacks it.

        A RefSeq accession in a version that is another build's is lacking too.
        """
        if self._own_accession(name):
            return -1
        return self._codes.get(name, self._codes.get(canonical_name(name), -1))

    def place(
        self,
        table: pd.DataFrame,
        path: str | os.PathLike[str],
        *,
        one_based: bool = False,
        empty: bool = False,
    ) -> tuple[IntArray, IntArray, IntArray]:
        """Return chromosome codes, starts and ends (0-based, half-open) of a table's intervals.

        The table is one of `reader.read_columns`. Codes are -1 on sequences that the assembly
        lacks. InputError if all are, if a chromosome is of another build, or if an interval makes
        no sense or passes its chromosome's end; `empty` ones may be.
        """
        which, texts = pd.factorize(table["chrom"])
        names = [str(text) for text in texts]
        for name in names:
            if own := self._own_accession(name):
                raise InputError(
                    f"{name} is chromosome {canonical_name(name)} of another genome build: the "
                    f"accession version of {self.build} is {own}",
                    path=path,
                    remedy=f"Give a file on {self.build}, or the chromosome sizes of this file's "
                    "assembly with --chrom-sizes.",
                )
        chroms = np.array([self.code(name) for name in names], np.int64)[which]
        if not (chroms >= 0).any():
            raise InputError(
                f"none of its sequences ({', '.join(names[:3])}, …) is in genome '{self.build}' "
                f"({', '.join(self.names[:3])}, …)",
                path=path,
                remedy="If the file is of another genome, give the sizes of its chromosomes with "
                "--chrom-sizes.",
            )
        starts, ends = table["start"].to_numpy(np.int64), table["end"].to_numpy(np.int64)
        starts = starts - one_based
        refuse_lines(
            (starts < 0) | (ends < starts + (not empty)),
            f"start and end are not a {'1-based closed' if one_based else '0-based half-open'} "
            "interval",
            table,
            path,
            "GTF counts from 1, and end is the last base."
            if one_based
            else "BED counts from 0, and end is the base after the last one.",
        )
        refuse_lines(
            (chroms >= 0) & (ends > self.lengths[chroms]),
            f"ends past its chromosome's last base in {self.build}",
            table,
            path,
            "The file is of another genome build: lift it over first, or give the sizes of its "
            "chromosomes with --chrom-sizes.",
        )
        return chroms, starts, ends


def refuse_lines(
    bad: BoolArray,
    message: str,
    table: pd.DataFrame,
    path: str | os.PathLike[str],
    remedy: str | None = None,
) -> None:
    """Raise InputError with the first bad line of a table that is indexed by line."""
    if bad.any():
        line = int(table.index[int(bad.argmax())])
        raise InputError(message, path=path, line=line, remedy=remedy)


def read_strands(
    table: pd.DataFrame, path: str | os.PathLike[str], remedy: str | None = None
) -> npt.NDArray[np.int8]:
    """Return +1 or -1 for each line; InputError where it has neither."""
    which, marks = pd.factorize(table["strand"])
    strands = np.array([{"+": 1, "-": -1}.get(str(mark), 0) for mark in marks], np.int8)[which]
    refuse_lines(strands == 0, "the strand must be + or -", table, path, remedy)
    return strands


def read_chrom_sizes(path: str | os.PathLike[str], build: str) -> Genome:
    """Read a UCSC ``chrom.sizes`` file: name and length a line; ``#`` starts a comment.

    Sequences are known by the names in the file and in the other styles (`canonical_name`). Of
    two that are one chromosome in another style (hg19 has a chrM and a chrMT), the second goes by
    the name in the file alone.
    """
    sizes: dict[str, int] = {}
    spellings: dict[str, str] = {}
    try:
        text = read_text(path).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 text ({error})", path=path) from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split()
        length = cells[1] if len(cells) > 1 else ""
        if not re.fullmatch("[0-9]{1,10}", length) or not 0 < int(length) < _LONGEST_CHROMOSOME:
            raise InputError(
                f"expected a chromosome name and its length, found {line[:60]!r}",
                path=path,
                line=number,
            )
        given = cells[0]
        name = given if canonical_name(given) in sizes else canonical_name(given)
        if given in spellings or name in sizes:
            raise InputError(f"{given} occurs twice", path=path, line=number)
        spellings[given], sizes[name] = name, int(length)
    if sum(sizes.values()) >= _LONGEST_GENOME:
        raise InputError("is of more bases than any genome has", path=path)
    if not sizes:
        raise InputError("holds no chromosome sizes", path=path)
    return Genome(build, sizes, spellings)
