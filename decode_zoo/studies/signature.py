"""Signature: which regulators account for a set of genes, beyond what any set of genes shows.

Three pieces of evidence a regulator: its tracks bind the genes more than their length, the number
of factors bound and their expression let expect; its own gene is among them; and the model
predicts for its own gene what it predicts for them. Weights and usual values (`Reference`) come
from signatures of perturbed TFs (benchmarks/signature.py, docs/signature.md).
"""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from decode_zoo.core.arrays import FloatArray, IntArray
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.core.reader import (
    MISSING,
    POINT,
    Table,
    is_gene_column,
    named,
    number_in,
    read_text,
)
from decode_zoo.core.text import counted
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.features.genes import read_gene_list
from decode_zoo.features.genesets import read_gmt
from decode_zoo.features.spec import Side
from decode_zoo.studies.result import StudyResult
from decode_zoo.studies.signature_evidence import Evidence, chance, gather, upper_tail, weighted
from decode_zoo.studies.signature_reference import (
    GenePool,
    Reference,
    choose_background,
    make_gene_pool,
    read_reference,
)
from decode_zoo.zoo.model import Model

__all__ = [
    "COLUMNS",
    "Direction",
    "Signature",
    "SignatureStudy",
    "read_signature",
    "read_signatures",
    "study_signatures",
]

Direction = Literal["both", "up", "down"]

_log = logging.getLogger(__name__)

# Of a table, genes below this false discovery rate are the signature, the best at most: the
# reference signatures have 240 to 600 genes.
FDR = 0.05
MOST = 600
# What DESeq2, edgeR, limma, GEO2R, Seurat, scanpy, sleuth, Cuffdiff and people call such columns,
# letters and digits only.
_CHANGES = frozenset(
    {"lfc", "logfc", "log2fc", "log2foldchange", "log2foldchanges", "logfoldchange"}
    | {"logfoldchanges", "avglogfc", "avglog2fc", "log2ratio"}
)
_P_VALUES = frozenset(
    {"p", "pval", "pvals", "pvalue", "pvalues", "q", "qval", "qvalue", "fdr", "padj", "padjusted"}
    | {"adjp", "adjpval", "adjpvalue", "adjustedp", "adjustedpvalue", "pvaladj", "pvalsadj"}
    | {"pvalueadj", "fdrp", "fdrpvalue", "bh"}
)
# -0,35 and 12% are numbers, too: of a table that has to be written otherwise.
_LIKE_A_NUMBER = re.compile(r"[+-]?[0-9]*[.,]?[0-9]+(e[+-]?[0-9]+)? *%?", re.IGNORECASE)

COLUMNS = ("signature", "regulator", "rank", "score", "p", "q")
FEWEST_GENES = 5
# Of the background: who has more than that has no signature.
MOST_GENES = 0.5
# Signatures that are drawn, that are printed, and those tested at a time with millions of scores.
_DRAWN, _SHOWN, _SETS = 5, 5, 500
SIGNIFICANT = 0.05
_NOTES = (
    "A score adds up three pieces of evidence: the best of the regulator's tracks binds the genes "
    "more than RNA length, numbers of bound factors, open chromatin and expression let expect, and "
    "more than it does in other signatures (binding); the regulator's own gene is in the signature "
    "(own gene); the model predicts for its own gene what it predicts for the signature (match). "
    "Their weights were fitted to genes that change when a TF is perturbed.",
    "p and q ask something else: how likely random sets of genes are to show as much evidence. "
    "Genes that change together are no random set, so that many regulators have a small q; the "
    "rank says which deserve a look first. Well studied regulators have more tracks, hence more "
    "chances. A rank is a hypothesis, not a finding.",
)


@dataclass(frozen=True)
class Signature:
    """A set of genes that something changed: ids, symbols or aliases.

    If it comes from a table: all genes of that, and the log2 fold change of each.
    """

    name: str
    genes: tuple[str, ...]
    measured: tuple[str, ...] | None = None
    changes: tuple[float, ...] | None = None


def read_signatures(path: str | os.PathLike[str]) -> list[Signature]:
    """Read the signatures of a GMT file, in its order."""
    return [Signature(found.name, found.genes) for found in read_gmt(path)]


def read_signature(path: str | os.PathLike[str], direction: Direction = "both") -> Signature:
    """Read a list of genes, or a table of a gene, its log2 fold change and, if it has one, its p.

    It is a table if the header names a log2 fold change or a p-value, or the second or third column
    holds numbers; then the header must name a gene, a log2 fold change and a p-value, in this
    order. The signature of a table is the genes with a false discovery rate below 0.05, or without
    p those that change most, a tenth; 600 at most. The path may be '-', standard input.
    """
    if direction not in get_args(Direction):
        raise UsageError(
            f"There is no direction {direction!r}.", remedy="Choose among both, up and down."
        )
    piped = os.fspath(path) == "-"
    name = "signature" if piped else Path(path).name.partition(".")[0]
    # Standard input is read once only, and looked at twice.
    source = io.BytesIO(read_text(path)) if piped else path
    table = Table.read(source)
    if _is_differential(table):
        _check_header(table)
        return _from_table(name, table, direction)
    if direction != "both":
        raise UsageError(
            f"{path} is a list of genes: it does not say which go {direction}.",
            remedy="Give a table: gene, log2 fold change, p.",
        )
    if isinstance(source, io.BytesIO):
        source.seek(0)
    return Signature(name, tuple(dict.fromkeys(read_gene_list(source))))


def _is_differential(table: Table) -> bool:
    """Return whether this is a table of differential expression, not a list with notes beside."""
    if any(named(name, _CHANGES | _P_VALUES) for name in table.header[1:]):
        return True
    rows = chain([table.header], (cells for _, cells in table.cells()))
    beside = (cell for row in rows for cell in row[1:3] if cell.lower() not in MISSING)
    return any(_LIKE_A_NUMBER.fullmatch(cell) for cell in islice(beside, 40))


def _check_header(table: Table) -> None:
    """Refuse columns that are not named, or not a gene, its change and p in this order."""
    header, line = table.header, table.line
    if any(_LIKE_A_NUMBER.fullmatch(cell) for cell in header[1:3]):
        raise table.fault(
            "is a table without a header, so that what its columns are is not known",
            line,
            "Add a first line that names them, in this order: gene, log2FoldChange, pvalue. "
            "Of a list of genes, give the genes alone.",
        )
    change = next((name for name in header if named(name, _CHANGES)), None)
    p = next((name for name in header if named(name, _P_VALUES)), None)
    remedy = (
        "The first columns must be genes, log2 fold changes and (unless there are none) p-values, "
        "under names such as gene, log2FoldChange and pvalue."
        if change is None
        else f"Put the columns of genes, {change!r} and {p!r} first, in this order."
        if p is not None
        else f"Put the columns of genes and {change!r} first, and leave out the others."
    )
    wanted: tuple[tuple[str, Callable[[str], bool]], ...] = (
        ("gene", lambda name: not name or is_gene_column(name)),
        ("log2 fold change", lambda name: named(name, _CHANGES)),
        ("p-value", lambda name: named(name, _P_VALUES)),
    )
    for place, (name, (what, fits)) in enumerate(zip(header, wanted, strict=False), 1):
        if not fits(name):
            raise table.fault(
                f"column {place} is {name[:40]!r}, which names no {what}", line, remedy
            )
    if len(header) < 2:
        raise table.fault("names one column only", line, remedy)


def _from_table(name: str, table: Table, direction: Direction) -> Signature:
    remedy = "Columns are: gene, log2 fold change, p (optional)."
    genes: list[str] = []
    values: list[tuple[float, float]] = []  # change and p; the latter is 0 where there is none
    with_p = len(table.header) > 2
    lines: list[int] = []
    for line, (gene, *cells) in table.cells():
        if not gene:
            continue
        numbers = []
        for place, what in enumerate(("log2 fold change", "p")[: 1 + with_p]):
            cell = cells[place] if place < len(cells) else ""
            number = number_in(cell)
            if number is None or np.isinf(number):
                comma = "," in cell and _LIKE_A_NUMBER.fullmatch(cell)
                raise table.fault(
                    f"{cell[:40]!r} in column {place + 2} is no {what}",
                    line,
                    POINT if comma else remedy,
                )
            if what == "p" and not (np.isnan(number) or 0 <= number <= 1):
                raise table.fault(f"p = {number:g} is not between 0 and 1", line, remedy)
            numbers.append(number)
        genes.append(gene)
        lines.append(line)
        values.append((numbers[0], numbers[1] if with_p else 0.0))
    change, p = np.array(values, np.float64).reshape(-1, 2).T
    if np.isfinite(change).any() and not ((change < 0) | (change > 1)).any():
        raise table.fault(
            "all numbers in column 2 are between 0 and 1, as p-values are and log2 fold changes "
            "are not",
            lines[0],
            remedy,
        )
    known = ~np.isnan(change) & ~np.isnan(p)
    if lost := int((~known).sum()):
        _log.warning("%s: %d genes without values are left out", table.path, lost)
    measured = [gene for gene, keep in zip(genes, known, strict=True) if keep]
    change, p = change[known], p[known]
    wanted = {"both": change != 0, "up": change > 0, "down": change < 0}[direction]
    if with_p:
        allowed, most = wanted & (stats.false_discovery_control(p) < FDR), MOST
    else:
        allowed, most = wanted, min(MOST, len(measured) // 10)
    order = np.lexsort((-np.abs(change), p))
    chosen = [measured[i] for i in order if allowed[i]][:most]
    if not chosen:
        raise table.fault(
            f"of {len(measured)} genes none changes at a false discovery rate below {FDR:g}"
            if with_p
            else f"of {len(measured)} genes, none is among a tenth that changes most",
            remedy="Give a list of the genes that you mean.",
        )
    return Signature(name, tuple(dict.fromkeys(chosen)), tuple(measured), tuple(change.tolist()))


@dataclass(frozen=True, repr=False)
class SignatureStudy:
    """What came of a study.

    `ranks` has `COLUMNS`, regulators of each signature from the first rank on. `details`, the same
    rows, has what ``binding``, ``own_gene`` and ``match`` add to the score; ``own_gene_in``
    (whether the regulator's gene is in the signature), ``cosine`` (the match), ``tracks`` (how
    many), ``best_track`` and its ``z``. `explained` has ``auroc`` of each output's prediction for
    membership, ``p``, ``q``, and ``spearman`` with log2 fold changes where these are known. `genes`
    counts those ``given``, ``used``, ``unknown`` and ``outside`` (known, not in the background);
    `skipped` are signatures with too few or too many.
    """

    ranks: pd.DataFrame
    details: pd.DataFrame
    explained: pd.DataFrame
    genes: pd.DataFrame
    skipped: Mapping[str, int]
    n_background: int
    side: Side

    @property
    def names(self) -> list[str]:
        """Signatures that were studied, in their order."""
        return [str(name) for name in self.ranks["signature"].unique()]

    def of(self, name: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Return the ranks, details and explained outputs of a signature."""
        return tuple(  # type: ignore[return-value]
            table[table["signature"] == name]
            for table in (self.ranks, self.details, self.explained)
        )

    def result(self, provenance: Mapping[str, Any]) -> StudyResult:
        """Return tables, which signatures are drawn, and how to read them."""
        names, first = self.names, self.names[0]
        n = len(self.ranks) // len(names)
        what = "TFs" if self.side == "promoter" else "RBPs and miRNA families"
        best = self.of(first)[0]["regulator"].head(10)
        significant = self.ranks.groupby("signature", sort=False)["q"].apply(
            lambda q: int((q <= SIGNIFICANT).sum())
        )
        return StudyResult(
            "signature",
            f"Regulators of {first}"
            if len(names) == 1
            else f"Regulators of {len(names):,} signatures",
            {
                "signatures": f"{len(names):,}"
                + (f" ({len(self.skipped)} left out)" if self.skipped else ""),
                "genes of the background": f"{self.n_background:,}",
                "regulators": f"{n:,} ({what} and cofactors)"
                if self.side == "promoter"
                else f"{n:,} ({what})",
                f"first ranks{'' if len(names) == 1 else f' of {first}'}": ", ".join(best),
            },
            _NOTES
            + (
                ()
                if len(names) <= _DRAWN
                else (f"The first {_DRAWN} signatures are drawn; the tables have all.",)
            ),
            {
                "ranks": ("Regulators by score; p and q under random sets of genes", self.ranks),
                "details": ("What each piece of evidence adds to the score", self.details),
                "explained": (
                    "Outputs of the model: how well their predictions tell the genes of "
                    "a signature from others",
                    self.explained,
                ),
                "genes": ("Genes of each signature", self.genes),
            },
            {
                "n_background": self.n_background,
                "regulators": n,
                "side": self.side,
                "skipped": self.skipped,
                "first": dict(
                    zip(names, self.ranks.loc[self.ranks["rank"] == 1, "regulator"], strict=True)
                ),
                f"regulators_with_q_below_{SIGNIFICANT:g}": significant.to_dict(),
                "provenance": provenance,
            },
            self.summary(),
            {"study": self, "names": names[:_DRAWN]},
        )

    def summary(self) -> list[str]:
        """Return how many genes were used, and the regulators that rank first."""
        given, used, unknown, outside = self.genes[["given", "used", "unknown", "outside"]].sum()
        several = f"{counted(len(self.genes), 'signature')}, " if len(self.genes) > 1 else ""
        lines = [
            f"{several}{given:,} gene{'' if given == 1 else 's'} given, {used:,} used, "
            f"{unknown:,} unknown, {outside:,} not in the background of {self.n_background:,}"
        ]
        if self.skipped:
            few = [f"{name} ({counted(n, 'gene')})" for name, n in self.skipped.items()]
            more = f" and {len(few) - _SHOWN} more" if len(few) > _SHOWN else ""
            lines.append(
                f"{counted(len(few), 'signature')} left out, with too few or too many genes: "
                f"{', '.join(few[:_SHOWN])}{more}"
            )
        for name in self.names[:_SHOWN]:
            lines.append(f"{name}: {', '.join(self.of(name)[0].head(5)['regulator'])}")
        if len(self.names) > _SHOWN:
            lines.append(f"… and {len(self.names) - _SHOWN} signatures more")
        return lines


def study_signatures(
    signatures: Sequence[Signature],
    features: FeatureSet,
    model: Model,
    *,
    side: Side = "promoter",
    background: Iterable[str] | None = None,
    reference: Reference | None = None,
) -> SignatureStudy:
    """Rank regulators (TFs, or RBPs and miRNA families) by how well they account for signatures.

    The background is genes that could have been in the signatures: by default those of the table
    that a single signature comes from, else all protein-coding genes.
    """
    known = reference or read_reference()
    found = [features.index.resolve(list(signature.genes)) for signature in signatures]
    if background is None and len(signatures) == 1:
        background = signatures[0].measured
    rows = choose_background(features, background)
    place = np.full(len(features), -1, np.int64)
    place[rows] = np.arange(len(rows))
    known_rows = [np.unique(f.rows[f.rows >= 0]) for f in found]
    inside = [place[each][place[each] >= 0] for each in known_rows]
    used = np.array([len(places) for places in inside])
    counts = pd.DataFrame(
        {
            "signature": [signature.name for signature in signatures],
            "given": [len(signature.genes) for signature in signatures],
            "used": used,
            "unknown": [int((f.rows < 0).sum()) for f in found],
            "outside": [len(each) for each in known_rows] - used,
        }
    )
    fits = (used >= FEWEST_GENES) & (used <= MOST_GENES * len(rows))
    kept = np.flatnonzero(fits).tolist()
    skipped = {
        signature.name: int(n)
        for signature, n, fit in zip(signatures, used, fits, strict=True)
        if not fit
    }
    if not kept:
        hints = (features.index.hint(f, s.genes) for f, s in zip(found, signatures, strict=True))
        raise InputError(
            f"no signature has between {FEWEST_GENES} genes and half of the background's "
            f"{len(rows)}; {signatures[0].name!r} has {len(inside[0])}, "
            f"{len(signatures[0].genes)} are given",
            remedy=next((hint for hint in hints if hint), "Give Ensembl ids or symbols of genes."),
        )
    predicted = model.predict([features.rows.ids[row] for row in rows])
    pool = make_gene_pool(features, model, predicted, rows, side, known)
    members = np.zeros((len(rows), len(kept)), bool)
    for column, i in enumerate(kept):
        members[inside[i], column] = True
    names = [signatures[i].name for i in kept]
    parts = [slice(start, start + _SETS) for start in range(0, len(kept), _SETS)]
    tables = [_ranked(names[p], pool, gather(pool, members[:, p]), known) for p in parts]
    ranks, details = (pd.concat(each, ignore_index=True) for each in zip(*tables, strict=True))
    explained = _explained(
        [signatures[i] for i in kept], members, predicted[model.outputs], features, place
    )
    return SignatureStudy(
        ranks,
        details,
        explained,
        counts,
        skipped,
        len(rows),
        side,
    )


def _ranked(
    names: Sequence[str], pool: GenePool, evidence: Evidence, reference: Reference
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return ranks and details of the signatures, best regulators first."""
    parts, p = weighted(pool, evidence, reference), chance(pool, evidence)
    scores = np.sum(list(parts.values()), axis=0)
    q = stats.false_discovery_control(p, axis=1)
    regulators = np.array(pool.regulators, dtype=object)
    counts = np.bincount(pool.track_of, minlength=len(regulators))
    cosine = np.full(scores.shape, np.nan)
    cosine[:, pool.own >= 0] = evidence.match.cosine
    tracks = np.array([track.name for track in pool.tracks] + [""], dtype=object)
    tables, details = [], []
    for i, name in enumerate(names):
        best = np.full(len(regulators), len(pool.tracks))
        by_z = np.argsort(evidence.binding[i], kind="stable")
        best[pool.track_of[by_z]] = by_z  # the last one written is the largest
        order = np.lexsort((p[i], -scores[i]))
        named = {"signature": name, "regulator": regulators[order]}
        rank = np.arange(1, len(order) + 1)
        found = {"score": scores[i], "p": p[i], "q": q[i]}
        detail = {
            "binding": parts["binding"][i],
            "own_gene": parts["own"][i],
            "match": parts["match"][i],
            "own_gene_in": evidence.own[i],
            "cosine": cosine[i],
            "tracks": counts,
            "best_track": tracks[best],
            "z": np.append(evidence.binding[i], np.nan)[best],
        }
        tables.append(
            pd.DataFrame({**named, "rank": rank, **{k: v[order] for k, v in found.items()}})
        )
        details.append(pd.DataFrame({**named, **{k: v[order] for k, v in detail.items()}}))
    return pd.concat(tables, ignore_index=True), pd.concat(details, ignore_index=True)


def _explained(
    signatures: Sequence[Signature],
    members: npt.NDArray[np.bool_],
    predicted: pd.DataFrame,
    features: FeatureSet,
    place: IntArray,
) -> pd.DataFrame:
    """Relate each output's predictions to membership, and to fold changes where they are known."""
    outputs, n = list(predicted.columns), len(predicted)
    ranks = stats.rankdata(predicted.to_numpy(), axis=0, nan_policy="omit")
    ranks = np.where(np.isnan(ranks), np.nanmean(ranks, axis=0), ranks)
    sizes = members.sum(axis=0)[:, None]
    auroc = ((members.T @ ranks) / sizes - (sizes + 1) / 2) / (n - sizes)
    # Of a mean of ranks that are drawn without replacement.
    spread = ranks.std(axis=0) / np.sqrt(sizes * (n - 1) * (n - sizes))
    p = 2 * upper_tail(np.abs(auroc - 0.5) / spread)
    table = pd.DataFrame(
        {
            "signature": np.repeat([signature.name for signature in signatures], len(outputs)),
            "output": np.tile(outputs, len(signatures)),
            "auroc": auroc.ravel(),
            "p": p.ravel(),
            "q": stats.false_discovery_control(p, axis=1).ravel(),
        }
    )
    if any(signature.changes is not None for signature in signatures):
        table["spearman"] = np.concatenate(
            [_followed(signature, features, ranks, place) for signature in signatures]
        )
    return table


def _followed(
    signature: Signature, features: FeatureSet, ranks: FloatArray, place: IntArray
) -> FloatArray:
    """Spearman's rho of log2 fold changes and each output's predictions."""
    if signature.measured is None or signature.changes is None:
        return np.full(ranks.shape[1], np.nan)
    found = features.index.resolve(list(signature.measured)).rows
    there = (found >= 0) & (place[found] >= 0)
    changes = stats.rankdata(np.array(signature.changes)[there])
    chosen = stats.rankdata(ranks[place[found[there]]], axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.corrcoef(changes, chosen, rowvar=False)[0, 1:])
