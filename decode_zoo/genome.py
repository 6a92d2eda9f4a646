"""Chromosomes: their names, their lengths, and one axis through all of them.

Every overlap is computed on a single *linear* axis that lays the chromosomes end to end, so that
one sorted search serves a whole genome.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from decode_zoo.errors import InputError, UsageError
from decode_zoo.reader import read_text

__all__ = ["Genome", "canonical_name", "read_chrom_sizes"]

IntArray = npt.NDArray[np.int64]

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
    """An assembly: chromosome names and lengths, and the linear axis through them.

    Attributes
    ----------
    build : str
        Name of the assembly, e.g. ``hg38``.
    sizes : Mapping[str, int]
        Length in bases by canonical chromosome name (`canonical_name`).
    spellings : Mapping[str, str]
        Canonical name by the name that the assembly itself gives a sequence. Where that is a
        RefSeq accession, other versions of it belong to other builds.
    """

    build: str
    sizes: Mapping[str, int]
    spellings: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

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
        rows = [line.split() for line in _HG38.splitlines()]
        return cls(
            build,
            {name: int(length) for name, length, _ in rows},
            {accession: name for name, _, accession in rows},
        )

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

    @cached_property
    def _codes(self) -> dict[str, int]:
        by_name = {name: i for i, name in enumerate(self.names)}
        return by_name | {given: by_name[name] for given, name in self.spellings.items()}

    @cached_property
    def _accessions(self) -> dict[str, str]:
        """RefSeq accession with version by canonical name, as far as it is known."""
        return {name: given for given, name in self.spellings.items() if _REFSEQ.fullmatch(given)}

    def _is_of_other_build(self, name: str) -> bool:
        if name in self._codes or not _REFSEQ.fullmatch(name):
            return False
        return canonical_name(name) in self._accessions

    def code(self, name: str) -> int:
        """Code of a chromosome in any naming style, -1 if the assembly lacks it.

        A RefSeq accession in a version that is another build's is lacking too.
        """
        if self._is_of_other_build(name):
            return -1
        return self._codes.get(name, self._codes.get(canonical_name(name), -1))

    def refuse_other_builds(self, names: Iterable[str], path: str | os.PathLike[str]) -> None:
        """Raise InputError if a name is a RefSeq accession of another build of this genome."""
        for name in names:
            if self._is_of_other_build(name):
                chrom = canonical_name(name)
                raise InputError(
                    f"{name} is chromosome {chrom} of another genome build: the accession version "
                    f"of {self.build} is {self._accessions[chrom]}",
                    path=path,
                    remedy=f"Give a file on {self.build}, or the chromosome sizes of this file's "
                    "assembly with --chrom-sizes.",
                )


def _is_length(cell: str) -> bool:
    return bool(re.fullmatch("[0-9]{1,10}", cell)) and 0 < int(cell) < _LONGEST_CHROMOSOME


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
        if len(cells) < 2 or not _is_length(cells[1]):
            raise InputError(
                f"expected a chromosome name and its length, found {line[:60]!r}",
                path=path,
                line=number,
            )
        given = cells[0]
        name = given if canonical_name(given) in sizes else canonical_name(given)
        if given in spellings or name in sizes:
            raise InputError(f"{given} occurs twice", path=path, line=number)
        spellings[given], sizes[name] = name, int(cells[1])
    if sum(sizes.values()) >= _LONGEST_GENOME:
        raise InputError("is of more bases than any genome has", path=path)
    if not sizes:
        raise InputError("holds no chromosome sizes", path=path)
    return Genome(build, sizes, spellings)
