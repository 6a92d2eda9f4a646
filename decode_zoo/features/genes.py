"""Gene identifiers: lists of them, and which gene, and which row, each name means.

Nothing is guessed silently: a name that cannot be resolved says why.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.core.files import open_input
from decode_zoo.core.reader import Source, Table, first_twice, is_gene_column
from decode_zoo.core.text import printable

__all__ = [
    "GeneIndex",
    "GeneList",
    "GeneMatch",
    "genes_of",
    "read_aliases",
    "read_gene_list",
    "read_ids",
    "strip_version",
]

_log = logging.getLogger(__name__)

_MAX_LINE = 1_000_000
# Enough to see that a line is a list of genes.
_MAX_BESIDE = 50
# A table of a hundred comparisons of all genes has that many rows.
_MAX_LINES = 6_000_000

# Only accessions carry versions. Clone names such as RP11-34P13.7 and AC004.1 also
# end in a dot and digits, and are different genes with and without them. The `_2`
# is the mapping version of GENCODE's lift to GRCh37.
_VERSIONED = re.compile(
    r"((?:ENS(?:[A-Z]{3,6})?[GTPER]R?\d{10,11})|(?:[NXYAW][CGMRPTZ]_\d{6,}))"
    r"\.\d+(?:_\d+)?(_PAR_Y)?"
)


def strip_version(gene_id: str) -> str:
    """Remove the version of an Ensembl or RefSeq accession; `_PAR_Y` stays, other names too.

    >>> strip_version("ENSG00000182378.13_PAR_Y")
    'ENSG00000182378_PAR_Y'
    >>> strip_version("RP11-34P13.7")
    'RP11-34P13.7'
    """
    if "." not in gene_id:
        return gene_id
    match = _VERSIONED.fullmatch(gene_id)
    return match[1] + (match[2] or "") if match else gene_id


_AMBIGUOUS = -2
_SPECIES = {"MUS": "mouse", "RNO": "rat", "DAR": "zebrafish"}
_FOREIGN = re.compile(r"ENS([A-Z]{3,6})G\d{11}")
_SEPARATORS = re.compile(r"[\s;,|/]+")
_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
# What unknown names look like, and what to do.
_REASONS = {
    re.compile(
        r"ENS(?:[A-Z]{3,6})?[TP]\d{11}|[NX][MRP]_\d+"
    ): "look like transcript or protein ids: give their genes instead",
    re.compile(
        r"ENSGR?\d{10,11}(?:_PAR_Y)?"
    ): "look like Ensembl gene ids that this gene set lacks: is it another release?",
    re.compile(r"\d+"): "look like Entrez numbers: give Ensembl ids or symbols instead",
    re.compile(
        rf"\d{{1,2}}-{_MONTH}|{_MONTH}-\d{{1,2}}|\d{{4}}-\d\d-\d\d.*", re.IGNORECASE
    ): "look like dates: did a spreadsheet change symbols such as SEPTIN2 and MARCHF1?",
}


@dataclass(frozen=True)
class GeneMatch:
    """What each query was found to mean, in query order.

    `rows` are the genes' rows in the index (int64, -1 where there is none), `gene_ids` the ids
    without version or the query as given. `status` is `ok`, `unknown_gene`, `ambiguous_symbol`, or
    `duplicate_of:<gene_id>` for a later query of a gene already seen; models add `no_features`.
    """

    rows: npt.NDArray[np.int64]
    gene_ids: list[str]
    symbols: list[str]
    status: list[str]


def genes_of(given: Any, what: str = "genes") -> list[str] | None:
    """Return names of genes as a list, whatever holds them; None if none are given.

    Of a DataFrame it is the column of genes (``gene_id``, ``symbol``, … as in files), else the
    index; of a Series of numbers the index, of texts the values; of AnnData ``var_names``. What was
    taken of a table is logged. Raises UsageError for a single text.
    """
    if given is None:
        return None
    if isinstance(given, (str, bytes)):
        raise UsageError(
            f"Give a list of {what}, not a single string.", remedy=f"{what}=[{given!r}]"
        )
    taken = None
    if hasattr(given, "var_names"):
        given, taken = given.var_names, "var_names"
    elif hasattr(given, "columns") and hasattr(given, "index"):
        named = [name for name in given.columns if isinstance(name, str) and is_gene_column(name)]
        taken = f"column '{named[0]}'" if named else "the index"
        given = given[named[0]] if named else given.index
    elif hasattr(given, "index") and getattr(getattr(given, "dtype", None), "kind", "-") in "biuf":
        given, taken = given.index, "the index"
    if taken:
        _log.warning("The %s are those of %s.", what, taken)
    return list(given)


class GeneIndex:
    """The genes of a feature set, findable by id, symbol and alias.

    `ids` are kept without version. Symbols and biotypes are '' where a gene has none; several genes
    may share a symbol. Aliases (former symbols, Entrez or RefSeq ids) of other genes are ignored.
    """

    def __init__(
        self,
        ids: Iterable[str],
        symbols: Sequence[str],
        biotypes: Sequence[str],
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.ids = [strip_version(name) if "." in name else name for name in ids]
        self.symbols, self.biotypes, self.aliases = symbols, biotypes, aliases or {}
        self._id_rows = {name: row for row, name in enumerate(self.ids)}
        if len(self._id_rows) < len(self.ids):
            raise InputError(
                f"Gene id {first_twice(self.ids)} occurs twice (versions aside).",
                remedy="Keep one row a gene.",
            )

    @cached_property
    def _symbol_rows(self) -> tuple[dict[str, int], dict[str, list[int]]]:
        """Rows by symbol, the first of each, and the rows of symbols that several genes bear."""
        numbers = range(len(self.symbols))
        rows = dict(
            zip(reversed(self.symbols), reversed(numbers), strict=True)
        )  # the first of each
        shared: dict[str, list[int]] = {}
        for row, symbol in enumerate(self.symbols):
            if symbol and rows[symbol] != row:
                shared.setdefault(symbol, [rows[symbol]]).append(row)
        rows.pop("", None)
        return rows, shared

    @cached_property
    def _alias_rows(self) -> dict[str, int]:
        rows = self._id_rows
        return {
            strip_version(alias): rows[gene]
            for alias, gene_id in self.aliases.items()
            if (gene := strip_version(gene_id)) in rows
        }

    def _pick(self, bearers: list[int]) -> int:
        """Choose among genes that share a symbol, by the first rule that leaves one."""
        coding = [row for row in bearers if self.biotypes[row] == "protein_coding"]
        # ENSGR... is how GENCODE named the Y copies before it wrote _PAR_Y.
        copies = {row for row in bearers if re.match("ENSGR|.*_PAR_Y$", self.ids[row], re.DOTALL)}
        own = [row for row in bearers if row not in copies]
        for rows in (coding, own, [row for row in coding if row not in copies]):
            if len(rows) == 1:
                return rows[0]
        return _AMBIGUOUS

    def _find(self, name: str) -> int | None:
        accession = strip_version(name)
        if accession in self._id_rows:
            return self._id_rows[accession]
        rows, shared = self._symbol_rows
        if name in shared:
            return self._pick(shared[name])
        return rows[name] if name in rows else self._alias_rows.get(accession)

    def resolve(self, queries: Sequence[str]) -> GeneMatch:
        """Find the gene that each query means: by id, else symbol, else alias.

        Ids match whatever their version; symbols match case-sensitively. Of several genes with the
        symbol, the only protein-coding one is meant, else the only one that is no Y copy of a
        pseudo-autosomal gene. Duplicates keep their row.
        """
        if isinstance(queries, (str, bytes)):
            raise UsageError("Genes were given as one string.", remedy="Pass a list of strings.")
        found: list[tuple[int, str, str, str]] = []  # as the columns of GeneMatch
        seen: set[int] = set()
        for position, query in enumerate(queries):
            if not isinstance(query, str):
                raise InputError(
                    f"Gene {position + 1} is {query!r} ({type(query).__name__}), not text.",
                    remedy="Give gene ids or symbols as strings, without missing values.",
                )
            row = self._find(query.strip())
            if row is None:
                found.append((-1, query, "", "unknown_gene"))
            elif row == _AMBIGUOUS:
                found.append((-1, query, "", "ambiguous_symbol"))
            else:
                status = f"duplicate_of:{self.ids[row]}" if row in seen else "ok"
                found.append((row, self.ids[row], self.symbols[row], status))
                seen.add(row)
        return GeneMatch(
            np.array([one[0] for one in found], np.int64),
            [one[1] for one in found],
            [one[2] for one in found],
            [one[3] for one in found],
        )

    def hint(self, resolution: GeneMatch, queries: Sequence[str]) -> str | None:
        """Guess in one line why many genes are unknown.

        None if fewer than one query in ten is unknown and none of them is several genes.
        """
        pairs = zip(queries, resolution.status, strict=True)
        unknown = [query.strip() for query, status in pairs if status == "unknown_gene"]
        if several := [name for name in unknown if self._several(name)]:
            lines = "1 line names" if len(several) == 1 else f"{len(several)} lines name"
            return f"{lines} several genes, such as {several[0][:60]!r}: give one gene a line"
        if not unknown or 10 * len(unknown) < len(queries):
            return None
        reasons = Counter(reason for name in unknown if (reason := self._reason(name)))
        verb = "gene is" if len(queries) == 1 else "genes are"
        line = f"{len(unknown)} of {len(queries)} {verb} unknown"
        if not reasons:
            return f"{line}, such as {', '.join(map(repr, dict.fromkeys(unknown[:3])))}"
        ((reason, count),) = reasons.most_common(1)
        return f"{line}; {count} of them {reason}"

    def _several(self, name: str) -> bool:
        """Return whether a name falls into known ones."""
        parts = [part for part in _SEPARATORS.split(name) if part]
        return len(parts) > 1 and all(self._find(part) is not None for part in parts)

    def _reason(self, name: str) -> str | None:
        accession = strip_version(name)
        if foreign := _FOREIGN.fullmatch(accession):
            species = _SPECIES.get(foreign[1], "another species")
            return f"look like Ensembl ids of {species}: map them to human genes first"
        for pattern, reason in _REASONS.items():
            if pattern.fullmatch(accession):
                return reason
        if self._find(name.upper()) is not None:
            return "would match in upper case: are these mouse symbols?"
        return None


def read_aliases(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read other names of genes: tab-separated, header ``alias gene_id``.

    Raises
    ------
    InputError
        If the header or a line is not as said.
    """
    return {cells[0]: cells[1] for cells in _alias_rows(path, strict=True)}


def read_ids(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read what a file calls genes, such as Entrez numbers: a table as of `read_aliases`.

    Names of several genes are left out, and counted in a warning; so are lines without a name or an
    id, such as those of genes without a number.
    """
    found: dict[str, set[str]] = {}
    for name, gene, *_ in _alias_rows(path, strict=False):
        if name and gene:
            found.setdefault(name, set()).add(gene)
    several = [name for name, genes in found.items() if len(genes) > 1]
    if several:
        _log.warning(
            "%s: %d names stand for several genes and are left out, such as %s",
            path,
            len(several),
            several[0],
        )
    return {name: next(iter(genes)) for name, genes in found.items() if len(genes) == 1}


def _alias_rows(path: str | os.PathLike[str], *, strict: bool) -> Iterator[list[str]]:
    table = Table.read(path)
    if table.header[:2] != ["alias", "gene_id"]:
        raise table.fault("its header must be 'alias<TAB>gene_id'", 1)
    for line, cells in table.cells():
        if len(cells) > 1:
            yield cells
        elif strict:
            raise table.fault("expected an alias and a gene id", line)


class GeneList(list[str]):
    """Genes of a list.

    `beside` has the first cells beside the first gene, if the list has no header to say what they
    are.
    """

    beside: tuple[str, ...] = ()


def read_gene_list(source: Source) -> GeneList:
    """Read the first column of a gene table, one entry a row, duplicates kept.

    The first line is a header only if its first cell is a well-known column name, or empty: a gene
    (such as IDS) is never taken for one. A row with an empty first cell but other content is kept
    as ''. What no terminal should obey, such as a tab in a quoted cell, is written out as an escape
    sequence. The source is a path, '-' for standard input, or an open stream, which is left open.
    """
    if isinstance(source, (str, os.PathLike)) and os.fspath(source) != "-":
        with open_input(source, pipe=True) as stream:
            if not stream.seekable():  # <(command) of a shell
                return read_gene_list(stream)
    table = Table.read(source, header=lambda cell: not cell or is_gene_column(cell))
    if len(table.rows) > _MAX_LINES:
        raise table.fault(
            f"has more than {_MAX_LINES:,} lines.", table.lines[_MAX_LINES], "Give each gene once."
        )
    for line, row in zip(table.lines, table.rows, strict=True):
        if len(row) > _MAX_LINE:
            raise table.fault(
                f"the line is longer than {_MAX_LINE:,} bytes.",
                line,
                "Give one gene a line; keep only the first columns (cut -f1).",
            )
    # Concatenated files carry byte order marks in the middle.
    genes = GeneList(_unquoted(cell.lstrip("\ufeff").strip()) for cell in table.first_cells())
    if not genes:
        raise table.fault(
            "no genes in it.",
            remedy="Give one gene a line: Ensembl ids or symbols in the first column.",
        )
    if not table.header:
        # Nothing of it is needed, so nothing can be wrong with it.
        beside = table.rows[0].split(table.separator, _MAX_BESIDE + 1)[1 : _MAX_BESIDE + 1]
        genes.beside = tuple(cell.decode(errors="replace").strip(" \"'") for cell in beside)
    return genes


def _unquoted(cell: str) -> str:
    if len(cell) > 1 and cell[0] == cell[-1] and cell[0] in "\"'":
        cell = cell[1:-1].strip()
    return printable(cell)
