"""Targets of regulators that are known by gene only: GMT files, one experiment a line.

Such a list says which genes an experiment links to a regulator, and not where: a target gene's
promoter window counts as covered from end to end, so that a list is a track like any other. Its
scores by position are spread evenly over the window, and mean nothing beyond their sum.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from decode_zoo.core.arrays import IntArray
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.core.files import sha256_of
from decode_zoo.core.reader import read_text
from decode_zoo.core.text import track_fault
from decode_zoo.features.annotation import Annotation
from decode_zoo.features.genes import GeneIndex
from decode_zoo.features.intervals import ranges
from decode_zoo.features.spec import Track

__all__ = ["TARGETS", "GeneSet", "TargetFile", "name_reader", "read_gmt", "read_targets"]

_log = logging.getLogger(__name__)

# Class of a TF's targets, of which no positions are known.
TARGETS = "tf_target"
_FIELD = re.compile(r"\{([^{}]*)\}")
_FIELDS = ("regulator", "cell", "species", "")
# GENE,1.0: Enrichr's libraries can give each gene a weight.
_WEIGHTED = re.compile(r"([^,]*), *[+-]?[0-9.]+(?:e[+-]?[0-9]+)?", re.ASCII | re.IGNORECASE)
_PAR_Y = "_PAR_Y"


@dataclass(frozen=True)
class GeneSet:
    """One line of a GMT file: a name of its own, and genes, each once, without weights."""

    name: str
    genes: tuple[str, ...]
    line: int  # counted from 1


@dataclass(frozen=True)
class TargetFile:
    """A GMT file of regulators' targets and what is said of it."""

    path: Path
    pattern: str  # how a set's name tells regulator and cell (`name_reader`)
    source: str  # where the lists come from
    kind: str = TARGETS
    # What the file calls genes → their ids, symbols or aliases; others are looked up as they are.
    ids: Mapping[str, str] | None = None


def read_gmt(path: str | os.PathLike[str]) -> list[GeneSet]:
    """Read gene sets: on each line a name, a description and genes, separated by tabs.

    Tabs at the end of a line are ignored, and so is the weight that a gene may have (``GENE,1.0``).
    """
    data = read_text(path).removesuffix(b"\n")
    if not data:
        raise InputError("holds no gene sets", path=path, remedy=_FORMAT)
    spelled: dict[str, str] = {}  # one object for a name that millions of cells repeat
    lines: dict[str, int] = {}
    sets = []
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            name, *cells = line.decode().rstrip("\t").split("\t")
        except UnicodeDecodeError:
            raise InputError("is not UTF-8 text", path=path, line=number) from None
        genes = dict.fromkeys(spelled.get(cell) or _spell(cell, spelled) for cell in cells[1:])
        fault = (
            "an empty line"
            if not line.strip()
            else "a gene set without a name"
            if not name.strip()
            else f"the gene set {name[:60]!r} has no genes"
            if not genes
            else f"a gene without a name in the set {name[:60]!r}"
            if "" in genes
            else f"the gene set {name[:60]!r} is on line {lines[name]} already"
            if name in lines
            else None
        )
        if fault:
            raise InputError(fault, path=path, line=number, remedy=_FORMAT)
        lines[name] = number
        sets.append(GeneSet(name, tuple(genes), number))
    return sets


_FORMAT = "Each line of a GMT file has a name of its own, a description and genes, tabs between."


def _spell(cell: str, spelled: dict[str, str]) -> str:
    """Return the name of the gene in a cell, and remember it."""
    weighted = _WEIGHTED.fullmatch(cell)
    gene = (weighted[1] if weighted else cell).strip()
    spelled[cell] = spelled.setdefault(gene, gene)
    return gene


def name_reader(pattern: str) -> Callable[[str], tuple[str, str] | None]:
    """Make a function that finds regulator and cell in a gene set's name.

    The pattern has fields in braces: ``{regulator}``, once; ``{cell}``, at most once; ``{species}``
    and ``{}``, which are not kept. Fields are read from the left: each ends where the text behind
    it first occurs, the last one takes what is left. So ``{}.{regulator}.{cell}`` finds in
    ``GSE97661.SMAD4.Hep-G2_R516.2`` the cell ``Hep-G2_R516.2``. The function returns regulator and
    cell ('' without one), or None if a name does not fit or leaves the regulator empty.
    """
    parts = _FIELD.split(pattern)
    fields, between = parts[1::2], parts[0::2]
    fault = (
        f"{{{odd}}} is no field"
        if (odd := next((f for f in fields if f not in _FIELDS), None))
        else "braces without a field"
        if any(set(text) & set("{}") for text in between)
        else "{regulator} must be in it once"
        if fields.count("regulator") != 1
        else "{cell} is in it twice"
        if fields.count("cell") > 1
        else "there must be a text between two fields"
        if "" in between[1:-1]
        else None
    )
    if fault:
        raise UsageError(
            f"The pattern {pattern!r} does not say how names are made up: {fault}.",
            remedy="Fields are {regulator}, {cell}, {species} and {}, such as in "
            "'{regulator}_{cell}_{}'.",
        )
    first, *ends, last = between

    def read(name: str) -> tuple[str, str] | None:
        found, rest = {"cell": ""}, name.removeprefix(first)
        for field, end in zip(fields, ends, strict=False):
            found[field], hit, rest = rest.partition(end)
            if not hit:
                return None
        if not (name.startswith(first) and rest.endswith(last)):
            return None
        found[fields[-1]] = rest.removesuffix(last)
        return (found["regulator"], found["cell"]) if found["regulator"] else None

    return read


def read_targets(
    file: TargetFile, annotation: Annotation, aliases: Mapping[str, str] | None = None
) -> tuple[tuple[Track, ...], IntArray, IntArray]:
    """Read a GMT file and find its genes; `aliases` are other names of genes → gene id.

    Returns its tracks, by name, and each pair of a row and a track that has its gene for a target,
    as two columns sorted by row, then track. A name means what it means everywhere
    (`GeneIndex.resolve`), else the only symbol that differs from it in case. A gene that is a
    target is so with all its rows: its transcripts, and the Y copy of a pseudo-autosomal gene.
    Tracks are named after the file, up to its first dot, and the set: ``chea:SPI1_K562``.
    """
    sets = sorted(read_gmt(file.path), key=lambda found: found.name)
    tracks = _tracks(file, sets)
    bases = [str(gene).removesuffix(_PAR_Y) for gene in annotation.gene_ids]
    gene_of_row, ids = pd.factorize(np.array(bases, object))
    _, firsts = np.unique(gene_of_row, return_index=True)
    index = GeneIndex(
        ids, annotation.symbols[firsts].tolist(), annotation.biotypes[firsts].tolist(), aliases
    )
    members, names = pd.factorize(np.array([g for found in sets for g in found.genes], object))
    genes = _find(names.tolist(), file, index)[members]
    codes = np.repeat(np.arange(len(sets)), [len(found.genes) for found in sets])
    # Rows of a gene, then its tracks: two names of one gene make one pair.
    order = np.argsort(gene_of_row, kind="stable")
    counts = np.bincount(gene_of_row, minlength=len(ids))
    genes, codes = genes[genes >= 0], codes[genes >= 0]
    rows = order[ranges((np.cumsum(counts) - counts)[genes], counts[genes])]
    pairs = np.unique(rows * len(sets) + np.repeat(codes, counts[genes]))
    return tracks, pairs // len(sets), pairs % len(sets)


def _tracks(file: TargetFile, sets: Sequence[GeneSet]) -> tuple[Track, ...]:
    read, sha256 = name_reader(file.pattern), sha256_of(file.path)
    library = file.path.name.partition(".")[0]
    tracks = []
    for found in sets:
        described, name = read(found.name), f"{library}:{found.name}"
        if fault := track_fault(found.name) or track_fault(name):
            raise InputError(f"a gene set's name {fault}", path=file.path, line=found.line)
        if described is None:
            raise InputError(
                f"the name {found.name!r} does not fit the pattern {file.pattern!r}",
                path=file.path,
                line=found.line,
                remedy="Fields end where the text behind them first occurs, the last one takes the "
                "rest; a shorter pattern fits more names.",
            )
        regulator, cell = described
        tracks.append(Track(name, regulator, file.kind, cell, file.source, sha256))
    return tuple(tracks)


def _find(names: list[str], file: TargetFile, index: GeneIndex) -> IntArray:
    """Return the place of each name's gene in the index, -1 without; log how many are known."""
    ids = file.ids or {}
    asked = [ids.get(name, name).removesuffix(_PAR_Y) for name in names]
    found = index.resolve(asked)
    spellings: dict[str, str | None] = {}  # None: two symbols differ in case only
    for symbol in dict.fromkeys(index.symbols):
        folded = symbol.casefold()
        spellings[folded] = None if folded in spellings else symbol
    respelled = {
        i: spelling
        for i, (name, status) in enumerate(zip(asked, found.status, strict=True))
        if status == "unknown_gene" and (spelling := spellings.get(name.casefold()))
    }
    genes = found.rows.copy()
    genes[list(respelled)] = index.resolve(list(respelled.values())).rows
    known, by_case = int((genes >= 0).sum()), int((genes[list(respelled)] >= 0).sum())
    ambiguous = found.status.count("ambiguous_symbol")
    if not known:
        raise InputError(
            f"none of its {len(names)} genes is known, such as {names[0][:40]!r}: are these ids "
            "or symbols of these gene models?",
            path=file.path,
            remedy=f"{index.hint(found, asked) or 'Ambiguous symbols are left out'}. Other ids "
            "need a table that says whose they are (--target-ids).",
        )
    _log.log(
        logging.WARNING if 2 * known < len(names) else logging.INFO,
        "%s: %d of %d genes are known, %d are not, %d are ambiguous symbols",
        file.path,
        known,
        len(names),
        len(names) - known - ambiguous,
        ambiguous,
    )
    if 2 * by_case > known:
        _log.warning(
            "%s: %d of %d genes are known only if case is ignored: are these symbols of "
            "another species?",
            file.path,
            by_case,
            known,
        )
    return genes
