"""Gene models: exons, strands and transcription start sites from GTF and TSS BED files.

Formats: GTF 2.2 (1-based, closed) in GENCODE, Ensembl and RefSeq attribute styles; BED (0-based,
half-open) for start sites.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.core.arrays import IntArray
from decode_zoo.core.errors import InputError
from decode_zoo.core.reader import read_columns
from decode_zoo.features.genes import strip_version
from decode_zoo.features.genome import Genome, read_strands, refuse_lines
from decode_zoo.features.intervals import merge

__all__ = ["Annotation", "Level", "override_tss", "read_gtf", "read_tss_bed"]

Level = Literal["gene", "transcript"]

_log = logging.getLogger(__name__)

# The same fact under the names that GENCODE, Ensembl and RefSeq give it.
_ATTRIBUTES = {
    "gene": ("gene_id",),
    "transcript": ("transcript_id",),
    "symbol": ("gene_name", "gene"),
    "biotype": ("gene_type", "gene_biotype"),
    "accession": ("refseq_id",),
}
# What tells the exons of one transcript apart, and nothing else.
_EXON_ATTRIBUTES = re.compile(r"exon_(?:number|id|version)[ =][^;]*;?")
# Exons of one id further apart than this are two places of it. The longest human intron has about
# 1.2 million bases.
_MAX_INTRON = 2_000_000
_EMPTY_STRINGS = ("", "unknown", "unassigned_transcript")


@dataclass(frozen=True)
class Annotation:
    """Gene models as flat arrays, one row a gene (or a transcript): n rows and m exons."""

    level: Level
    ids: npt.NDArray[np.str_]  # (n,), unique, without version; at gene level the same as gene_ids
    gene_ids: npt.NDArray[np.str_]
    symbols: npt.NDArray[np.str_]
    biotypes: npt.NDArray[np.str_]
    chroms: IntArray  # (n,), codes of the genome
    strands: npt.NDArray[np.int8]  # (n,), +1 or -1
    tss: IntArray  # (n,), 0-based position of the first transcribed base
    exon_indptr: IntArray  # (n + 1,): row i owns exons exon_indptr[i]:exon_indptr[i + 1]
    exon_starts: IntArray  # (m,), 0-based half-open, ascending and disjoint within a row
    exon_ends: IntArray

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ids)

    @property
    def rna_lengths(self) -> IntArray:
        """Spliced length of each row in nt, shape (n,)."""
        total = np.concatenate(([0], np.cumsum(self.exon_ends - self.exon_starts)))
        return total[self.exon_indptr[1:]] - total[self.exon_indptr[:-1]]


def _attribute(text: str, names: tuple[str, ...]) -> str:
    """Return the first of some attributes in the last column of a GTF line, '' without."""
    for name in names:
        if match := re.search(rf'(?:^|;)\s*{name}[ =]"?([^";]*)', text):
            return match[1].strip()
    return ""


def read_gtf(path: str | os.PathLike[str], genome: Genome, *, level: Level = "gene") -> Annotation:
    """Read gene models from the exon lines of a GTF file (plain or gzip).

    At gene level a gene is the union of the exons of all its transcripts. An id can lie at
    several places: on several chromosomes, on both strands, or with exons more than 2 million
    bases apart, which no intron spans. Of a chrX/chrY pair (pseudo-autosomal region) the Y copy
    gets the suffix ``_PAR_Y``, as GENCODE does; of other places, genes keep the first in the file
    (what is left out is logged as a warning) and transcripts get their RefSeq accession or a
    suffix ``_dup<n>``.

    Parameters
    ----------
    path : path-like
        GTF file.
    genome : Genome
        Rows on sequences that it lacks (scaffolds, patches) are left out.
    level : {"gene", "transcript"}
        What a row is; rows come in the order of first appearance in the file.

    Raises
    ------
    InputError
        If a line is not GTF, an exon has no id, lies past the chromosome's end or on a chromosome
        of another genome build, or no exon is left.
    """
    table = read_columns(
        path,
        ("chrom", "feature", "start", "end", "strand", "attributes"),
        (0, 2, 3, 4, 6, 8),
        select=("feature", "exon"),
        what="GTF",
    )
    if table.empty:
        raise InputError(
            "has no exon lines", path=path, remedy="Gene models are read from lines of type exon."
        )
    chroms, starts, ends = genome.place(table, path, one_based=True)
    known = chroms >= 0
    if not known.all():
        _log.info(
            "%s: %d exons on %d sequences outside %s left out",
            path,
            int((~known).sum()),
            table["chrom"][~known].nunique(),
            genome.build,
        )
    table = table[known]
    # All else being equal in the exons of a transcript, each text need be searched only once.
    which, texts = pd.factorize(
        np.array([_EXON_ATTRIBUTES.sub("", text) for text in table["attributes"]], object)
    )
    found = {key: [_attribute(text, names) for text in texts] for key, names in _ATTRIBUTES.items()}
    for key in ("gene", "transcript", "accession"):
        found[key] = [strip_version(name) for name in found[key]]
    columns = {key: np.array(values, object)[which] for key, values in found.items()}
    refuse_lines(columns["gene"] == "", "exon without gene_id", table, path)
    exons = pd.DataFrame(
        {
            **columns,
            "chrom": chroms[known],
            "strand": read_strands(table, path),
            "start": starts[known],
            "end": ends[known],
        }
    )
    exons["id"] = _distinct_transcripts(exons) if level == "transcript" else exons["gene"]
    return _assemble(exons, genome, level, path)


def _distinct_transcripts(exons: pd.DataFrame) -> pd.Series[str]:
    """Give every transcript record an id of its own.

    One id can stand for several records (several RefSeq accessions of one Ensembl transcript);
    their exons must not be mixed.
    """
    unnamed = exons["transcript"].isin(_EMPTY_STRINGS)
    if unnamed.any():
        _log.warning(
            "%d exons have no transcript_id; those of a gene are taken as one transcript, named "
            "like the gene",
            int(unnamed.sum()),
        )
    ids = exons["transcript"].where(~unnamed, exons["gene"])
    accession = exons["accession"]
    first = accession.groupby(ids).transform("first")
    return ids.where(accession == first, accession)


def _number_loci(exons: pd.DataFrame, genome: Genome) -> IntArray:
    """Return for each exon which place of its id it is at, numbered by first appearance."""
    group = exons.groupby(["id", "chrom", "strand"], sort=False, observed=True).ngroup()
    shift = group.to_numpy(np.int64) * genome.span
    starts, ends = exons["start"].to_numpy() + shift, exons["end"].to_numpy() + shift
    order = np.argsort(starts, kind="stable")
    gap = starts[order[1:]] - np.maximum.accumulate(ends[order])[:-1]
    apart = (gap > _MAX_INTRON) | (np.diff(shift[order]) > 0)
    locus = np.empty(len(exons), np.int64)
    locus[order] = np.concatenate(([0], np.cumsum(apart)))
    return pd.factorize(locus)[0].astype(np.int64)


def _assemble(
    exons: pd.DataFrame, genome: Genome, level: Level, path: str | os.PathLike[str]
) -> Annotation:
    """Group exon rows into gene models."""
    exons["locus"] = _number_loci(exons, genome)
    loci = exons.groupby("locus", sort=True).first()
    ids = _unique_ids(loci["id"].tolist(), loci["chrom"].tolist(), genome, level)
    named = np.array([name is not None for name in ids])
    if not named.all():
        further = loci[~named]
        _log.warning(
            "%s: %d further places of %d genes left out (a gene has one place, the first in the "
            "file), such as %s on chromosome %s",
            path,
            len(further),
            further["id"].nunique(),
            further["id"].iloc[0],
            genome.names[further["chrom"].iloc[0]],
        )
    loci = loci.assign(id=pd.Series(ids, loci.index, dtype=object))[named]

    # Union of exons, all loci at once: each locus is a stretch of its own on one axis.
    shift = exons["locus"].to_numpy(np.int64) * genome.span
    starts, ends = merge(shift + exons["start"].to_numpy(), shift + exons["end"].to_numpy())
    kept = np.isin(starts // genome.span, loci.index.to_numpy())
    starts, ends = starts[kept], ends[kept]
    owner = starts // genome.span
    row = np.searchsorted(loci.index.to_numpy(), owner)
    indptr = np.concatenate(([0], np.cumsum(np.bincount(row, minlength=len(loci)))))
    exon_starts, exon_ends = starts - owner * genome.span, ends - owner * genome.span
    strands = loci["strand"].to_numpy(np.int8)
    rows = loci["id"].to_numpy(str)
    genes = rows if level == "gene" else loci["gene"].to_numpy(str)
    symbols = loci["symbol"].where(loci["symbol"] != "", loci["gene"])
    return Annotation(
        level=level,
        ids=rows,
        gene_ids=genes,
        symbols=symbols.to_numpy(str),
        biotypes=loci["biotype"].to_numpy(str),
        chroms=loci["chrom"].to_numpy(np.int64),
        strands=strands,
        tss=np.where(strands > 0, exon_starts[indptr[:-1]], exon_ends[indptr[1:] - 1] - 1),
        exon_indptr=indptr.astype(np.int64),
        exon_starts=exon_starts,
        exon_ends=exon_ends,
    )


def _unique_ids(
    ids: list[str], chroms: list[int], genome: Genome, level: Level
) -> list[str | None]:
    """Name loci that share an id; None drops one (see `read_gtf`)."""
    names = genome.names
    on_x = {name for name, chrom in zip(ids, chroms, strict=True) if names[chrom] == "X"}
    seen: Counter[str] = Counter()
    unique: list[str | None] = []
    for name, chrom in zip(ids, chroms, strict=True):
        if names[chrom] == "Y" and name in on_x:
            name += "_PAR_Y"
        further = f"{name}_dup{seen[name]}" if level == "transcript" else None
        unique.append(further if seen[name] else name)
        seen[name] += 1
    return unique


def read_tss_bed(path: str | os.PathLike[str], genome: Genome) -> dict[str, tuple[int, int, int]]:
    """Read transcription start sites: BED6 (plain or gzip), the id in column 4.

    Returns chromosome code, 0-based position and strand by id without version. Of an interval wider
    than one base the 5' end counts. Sites on sequences that the genome lacks are left out.

    Raises
    ------
    InputError
        If a line is not BED6 with a strand, or lies outside its chromosome or on one of another
        genome build.
    """
    names = ("chrom", "start", "end", "id", "strand")
    table = read_columns(path, names, (0, 1, 2, 3, 5), what="BED6")
    if table.empty:
        raise InputError("holds no start sites", path=path)
    chroms, starts, ends = genome.place(table, path)
    strands = read_strands(table, path)
    positions = np.where(strands > 0, starts, ends - 1)
    columns = (values.tolist() for values in (table["id"], chroms, positions, strands))
    return {
        strip_version(name): (chrom, position, strand)
        for name, chrom, position, strand in zip(*columns, strict=True)
        if chrom >= 0
    }


def override_tss(
    annotation: Annotation, sites: Mapping[str, tuple[int, int, int]]
) -> tuple[Annotation, int]:
    """Move the promoters of rows whose id has a measured start site (`read_tss_bed`).

    Returns the rows with the new start sites, and how many were moved. Only the promoter window
    follows the new start; exons stay as annotated, because a start site says nothing about
    splicing. A site on another chromosome or strand than the gene is ignored.
    """
    tss = annotation.tss.copy()
    moved = 0
    for i, name in enumerate(annotation.ids.tolist()):
        chrom, position, strand = sites.get(name, (None, 0, 0))
        if (chrom, strand) == (annotation.chroms[i], annotation.strands[i]):
            tss[i] = position
            moved += 1
    return replace(annotation, tss=tss), moved
