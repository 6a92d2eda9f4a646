"""Feature sets: what is bound where, for many genes and many tracks.

On disk a feature set is a folder with

``features.json``
    What it is: genome, level, bin and window, tracks, genes, RNA lengths.
``sites.npz``
    Sites clipped to promoters and RNAs, in local coordinates, from which any bin width and any
    position can be had. Large, fetched when needed.
``pooled.npz``
    Position sums, all that a network with linear convolutions sees. Small.

Arrays are read without pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.core.arrays import (
    CSR_PARTS,
    IntArray,
    SingleArray,
    SparseRows,
    checked_counts,
    compact,
    read_arrays,
    store_csr,
    stored_rows,
    write_arrays,
)
from decode_zoo.core.errors import ArtifactError, InputError, UsageError, VerificationError
from decode_zoo.core.files import FolderKind, read_at_most, sha256_of
from decode_zoo.core.schema import from_plain, parse_json
from decode_zoo.core.text import as_html, track_fault
from decode_zoo.features.genes import GeneIndex
from decode_zoo.features.intervals import covered_bases
from decode_zoo.features.pooling import PooledRows, SitePieces, total_bases
from decode_zoo.features.spec import LONGEST, SIDES, Binning, Side, Track

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["CARD", "FEATURE_FOLDER", "POSITIONS", "FeatureSet", "Rows"]

FORMAT_VERSION = 1
# The published one has 5 MB.
MAX_HEADER_BYTES = 128 << 20
# Positions are stored in 32 bits.
_LONGEST = 1 << 32
# Of an artifact, written by hand.
CARD = "CARD.md"
POSITIONS = "sites.npz"  # not needed to predict
FEATURE_FOLDER = FolderKind(("features.json", "pooled.npz", POSITIONS), (CARD,))

# Leading bins that pooled.npz keeps one by one, beside the totals: what the published network
# needs (its RNA kernels span three bins, its promoter kernels one).
HEAD_BINS: Mapping[Side, int] = {"promoter": 0, "rna": 2}
_AGAIN = "Build or fetch the feature set again."
_LINES = "\t\n\x85\u2028\u2029"
_SITE_PARTS = ("counts", "tracks", "starts", "lengths")
_EXON_PARTS = ("counts", "starts", "lengths")
# Arrays by file.
_ARRAYS: Mapping[str, frozenset[str]] = {
    "sites.npz": frozenset(f"exon_{part}" for part in _EXON_PARTS)
    | {f"{side}_{part}" for side in SIDES for part in _SITE_PARTS},
    "pooled.npz": frozenset({"promoter_clipped"})
    | {f"{side}_total_{part}" for side in SIDES for part in CSR_PARTS}
    | {
        f"{side}_head{k}_{part}"
        for side in SIDES
        for k in range(HEAD_BINS[side])
        for part in CSR_PARTS
    },
}


@dataclass(frozen=True, repr=False)
class Rows:
    """The genes (or transcripts) of a feature set, as columns of n entries.

    Identifiers are without version, chromosome names without ``chr``; strands are +1 or -1; `tss`
    is the 0-based position of the start site, `rna_lengths` the spliced length in nt.
    """

    ids: list[str]
    gene_ids: list[str]
    symbols: list[str]
    biotypes: list[str]
    chroms: list[str]
    strands: list[int]
    tss: list[int]
    rna_lengths: list[int]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ids)

    def contradictions(self) -> list[str]:
        """Return what in the columns cannot be."""
        wrong = {
            "columns of different lengths": len(set(map(len, vars(self).values()))) > 1,
            "an id twice": len(set(self.ids)) < len(self.ids),
            "strands other than 1 and -1": not set(self.strands) <= {-1, 1},
        }
        for name, limit in (("tss", _LONGEST), ("rna_lengths", LONGEST)):
            column = getattr(self, name) or [0]
            fits = 0 <= min(column) <= max(column) < limit
            wrong[f"{name} that are negative or too large"] = not fits
        for name in ("ids", "gene_ids", "symbols", "biotypes", "chroms"):
            text = "".join(getattr(self, name))
            wrong[f"{name} with tabs or line ends"] = any(sign in text for sign in _LINES)
        return [what for what, found in wrong.items() if found]


@dataclass(frozen=True)
class _Header:
    """What features.json holds."""

    format_version: int
    layout: Binning
    builder_version: str
    arrays: Mapping[str, str]
    tracks: Mapping[Side, tuple[Track, ...]]
    rows: Rows
    aliases: Mapping[str, str]

    def contradictions(self) -> list[str]:
        wrong = self.rows.contradictions()
        for side in SIDES:
            if side not in self.tracks:
                wrong.append(f"no {side} tracks")
            for name, count in Counter(track.name for track in self.tracks.get(side, ())).items():
                if count > 1:
                    wrong.append(f"{count} {side} tracks '{name}'")
                if fault := track_fault(name):
                    wrong.append(f"{side} track {name[:60]!r}, whose name {fault}")
        return wrong


@dataclass(frozen=True, repr=False)
class FeatureSet:
    """Covered bases of many genes for many tracks.

    Open one with `FeatureSet.load` (a folder) or ``decode_zoo.load_features`` (a published id).
    """

    layout: Binning  # genome, bins and window
    rows: Rows  # the genes
    side_tracks: Mapping[Side, tuple[Track, ...]]  # in column order
    aliases: Mapping[str, str]  # other names of genes → gene id
    builder_version: str  # of decode-zoo
    locate: Callable[[str], Path] = field(compare=False)  # name → path of a file of this set
    sha256: str = ""  # of features.json
    array_sha256: Mapping[str, str] = field(default_factory=dict)  # of the files with arrays

    def __repr__(self) -> str:
        """Return a line that says what this is."""
        promoter, rna = (len(self.side_tracks[side]) for side in SIDES)
        return (
            f"FeatureSet({len(self)} {self.layout.level}s of {self.layout.genome}, "
            f"{promoter} promoter and {rna} RNA tracks)"
        )

    def __dir__(self) -> list[str]:
        """Name what users need; the rest is for the package."""
        return [
            "bins",
            "genes",
            "layout",
            "name",
            "pooled",
            "rna_lengths",
            "rows",
            "sha256",
            "tracks",
        ]

    def _repr_html_(self) -> str:
        layout = self.layout
        facts = {
            "genome": layout.genome,
            "rows": f"{len(self):,} {layout.level}s",
            "promoter": f"-{layout.upstream}..+{layout.downstream} bp, bins of {layout.bin}",
            **{f"tracks, {side}": f"{len(tracks):,}" for side, tracks in self.side_tracks.items()},
        }
        return as_html(self.name, facts)

    @property
    def name(self) -> str:
        """Name of the folder that the set is in; the id of a published set."""
        return self.locate("features.json").resolve().parent.name

    # -- opening -----------------------------------------------------------------------------

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> FeatureSet:
        """Open a feature set in a folder; positions need its sites.npz.

        InputError if it is none, or of a newer format.
        """
        path = Path(folder)
        if not (path / "features.json").is_file():
            raise InputError(
                "is not a feature set (it has no features.json)",
                path=path,
                remedy="Make one with: decode-zoo features build",
            )

        def locate(name: str) -> Path:
            if (path / name).is_file():
                return path / name
            raise ArtifactError(
                f"{path} has no {name}.",
                remedy="For a published set, fetch it with: decode-zoo fetch ID",
            )

        return cls.open(locate)

    @classmethod
    def open(cls, locate: Callable[[str], Path]) -> FeatureSet:
        """Open a feature set whose files a function finds: file name → path (see `load`)."""
        path = locate("features.json")
        content = read_at_most(path, MAX_HEADER_BYTES)
        try:
            found = parse_json(content)
            version = found.get("format_version") if isinstance(found, dict) else None
            if type(version) is int and version != FORMAT_VERSION:
                raise InputError(
                    f"is of feature-set format {version}; "
                    f"this version reads format {FORMAT_VERSION}",
                    path=path,
                    remedy="Upgrade decode-zoo.",
                )
            header = from_plain(_Header, found)
        except ValueError as error:
            raise InputError(f"is not a feature set's description ({error})", path=path) from None
        if wrong := header.contradictions():
            raise InputError(
                f"contradicts itself: {'; '.join(wrong[:5])}",
                path=path,
                remedy=_AGAIN,
            )
        return cls(
            header.layout,
            header.rows,
            header.tracks,
            header.aliases,
            header.builder_version,
            locate,
            hashlib.sha256(content).hexdigest(),
            header.arrays,
        )

    # -- what is in it -----------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of genes (or transcripts)."""
        return len(self.rows)

    @cached_property
    def genes(self) -> pd.Index[str]:
        """Ids of the rows, without version."""
        return pd.Index(self.rows.ids, name=f"{self.layout.level}_id")

    @cached_property
    def rna_lengths(self) -> pd.Series[int]:
        """Spliced length of each row in nt, by id."""
        return pd.Series(self.rows.rna_lengths, index=self.genes, name="rna_length")

    @cached_property
    def index(self) -> GeneIndex:
        """Finds rows by id, symbol or alias."""
        rows = self.rows
        return GeneIndex(rows.ids, rows.symbols, rows.biotypes, self.aliases)

    def tracks(self, side: Side) -> list[str]:
        """Return the names of a side's tracks, in column order, without the mask channel."""
        return [track.name for track in self.side_tracks[_checked(side)]]

    def row(self, gene: str) -> int:
        """Return the row of a gene by id, symbol or alias; raise UsageError if there is none."""
        found = self.index.resolve([gene])
        if found.rows[0] < 0:
            raise UsageError(f"Gene '{gene}' is not in this feature set ({found.status[0]}).")
        return int(found.rows[0])

    # -- positions ---------------------------------------------------------------------------

    def _read(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Read arrays that features.json vouches for."""
        path = self.locate(name)
        found = sha256_of(path)
        if found != self.array_sha256.get(name):
            raise VerificationError(
                f"{path} does not belong to this feature set: expected sha256 "
                f"{self.array_sha256.get(name)}, got {found}.",
                remedy=_AGAIN,
            )
        arrays = read_arrays(path)
        if arrays.keys() != _ARRAYS[name]:
            odd = sorted(arrays.keys() ^ _ARRAYS[name])
            raise InputError(f"lacks or adds the arrays {', '.join(odd[:3])}", path=path)
        return arrays

    @cached_property
    def _lengths(self) -> IntArray:
        return np.array(self.rows.rna_lengths, np.int64)

    @cached_property
    def _sites(self) -> Mapping[str, npt.NDArray[Any]]:
        sites = self._read("sites.npz")
        counts, starts, lengths = (checked_counts(sites, f"exon_{part}") for part in _EXON_PARTS)
        fits = len(counts) == len(self) and counts.sum() == len(starts) == len(lengths)
        if fits:  # position sums alone do not show it; rows without exons have none to tell
            ends = np.concatenate(([0], np.cumsum(lengths)))[np.cumsum(counts)]
            fits = bool((np.diff(ends, prepend=0) == self._lengths)[counts > 0].all())
        if not fits:
            raise self._unfit("sites.npz", "exons")
        return sites

    def exons(self) -> tuple[IntArray, IntArray, IntArray]:
        """Return how many exons each row has, their starts and lengths (needs sites.npz)."""
        counts, starts, lengths = (
            checked_counts(self._sites, f"exon_{part}") for part in _EXON_PARTS
        )
        return counts, starts, lengths

    @cached_property
    def _pieces(self) -> dict[Side, SitePieces]:
        return {}

    def pieces(self, side: Side) -> SitePieces:
        """Return the sites of a side, clipped and in local coordinates (needs sites.npz)."""
        if _checked(side) not in self._pieces:
            counts, tracks, starts, lengths = (
                checked_counts(self._sites, f"{side}_{part}") for part in _SITE_PARTS
            )
            if not (
                len(counts) == len(self)
                and counts.sum() == len(tracks) == len(starts) == len(lengths)
                and (starts + lengths <= np.repeat(self._extent(side)[1], counts)).all()
                and tracks.max(initial=-1) < len(self.side_tracks[side])
            ):
                raise self._unfit("sites.npz", f"{side} sites")
            self._pieces[side] = SitePieces(
                np.concatenate(([0], np.cumsum(counts))), tracks, starts, starts + lengths
            )
        return self._pieces[side]

    @cached_property
    def _windows(self) -> tuple[IntArray, IntArray]:
        first, last = np.zeros_like(self._lengths), np.full_like(self._lengths, self.layout.window)
        row, begin, end = self.clipped_windows().T
        first[row], last[row] = begin, end
        return first, last

    def _extent(self, side: Side) -> tuple[IntArray, IntArray]:
        """Return the first and last local base of each row: windows end at chromosome ends."""
        if side == "promoter":
            return self._windows
        return np.zeros_like(self._lengths), self._lengths

    def clipped_windows(self) -> IntArray:
        """Rows whose promoter window leaves the chromosome: row, first and last local base."""
        clipped = self._pooled["promoter_clipped"]
        fits = clipped.dtype in (np.uint16, np.uint32) and clipped.shape[1:] == (3,)
        if fits and len(clipped):
            row, first, last = clipped.max(axis=0)
            fits = row < len(self) and first <= self.layout.window and last <= self.layout.window
        if not fits:
            raise self._unfit("pooled.npz", "clipped windows")
        return clipped.astype(np.int64)

    def _unfit(self, name: str, what: str) -> InputError:
        return InputError(
            f"its {what} do not fit the genes and tracks of the feature set",
            path=self.locate(name),
            remedy=_AGAIN,
        )

    def n_bins(self, side: Side) -> IntArray:
        """Return the bins of each row, shape (n_rows,); the last one of an RNA may be partial."""
        if _checked(side) == "promoter":
            return np.full(len(self), self.layout.window // self.layout.bin, np.int64)
        return -(-self._lengths // self.layout.bin)

    def bins(self, gene: str, side: Side) -> pd.DataFrame:
        """Return covered bases of one gene, bin by bin, 5' to 3'.

        Parameters
        ----------
        gene : str
            Id (with or without version), symbol or alias.
        side : {"promoter", "rna"}

        Returns
        -------
        DataFrame of int64, shape (n_bins, n_tracks)
            Bases of each bin that sites of the track cover; promoter bin 0 is at ``-upstream``.

        Raises
        ------
        UsageError
            If the gene is unknown.
        ArtifactError
            If the set's positions (sites.npz) are not there.
        """
        row = np.array([self.row(gene)])
        dense = self.matrix(row, side, dtype=np.int64)[0, :, 1:]
        return pd.DataFrame(dense, columns=self.tracks(side)).rename_axis(index="bin")

    def matrix(
        self,
        rows: IntArray,
        side: Side,
        *,
        columns: IntArray | None = None,
        pad: int = 0,
        dtype: npt.DTypeLike = np.float32,
    ) -> npt.NDArray[Any]:
        """Return full matrices of some rows, shape (n, n_bins + pad, 1 + n_tracks).

        Channel 0 is the mask, the width of each bin, as far as it exists. `n_bins` is that of the
        longest row, and `pad` empty bins follow. `columns` are the tracks wanted; one past the last
        stands for a track without sites.
        """
        length = int(self.n_bins(side)[rows].max(initial=0)) + pad
        out = np.zeros((rows.size, length, 2 + len(self.side_tracks[_checked(side)])), dtype)
        row, bins, track, bases = self.binned(rows, side)
        np.add.at(out, (row, bins, 1 + track), bases)
        row, bins, bases = self.binned_mask(rows, side)
        out[row, bins, 0] = bases
        if columns is None:
            return out[:, :, :-1]
        return out[:, :, np.concatenate(([0], 1 + columns))]

    def binned(self, rows: IntArray, side: Side) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Return covered bases of some rows, only where there are any (needs sites.npz).

        Four arrays (row, bin, track, bases): ``row`` counts within `rows`, in ascending order. Two
        sites of a track in one bin make two entries, to be added up.
        """
        pieces = self.pieces(side).take(rows)
        interval, bins, bases = covered_bases(pieces.starts, pieces.ends, self.layout.bin)
        return pieces.rows()[interval], bins, pieces.tracks[interval], bases

    def binned_mask(self, rows: IntArray, side: Side) -> tuple[IntArray, IntArray, IntArray]:
        """Return the bins of some rows and their widths: (row, bin, bases) as in `binned`."""
        first, last = self._extent(_checked(side))
        filled = np.flatnonzero(last[rows] > first[rows])
        row, bins, bases = covered_bases(first[rows[filled]], last[rows[filled]], self.layout.bin)
        return filled[row], bins, bases

    def largest_bin(self, rows: IntArray, side: Side) -> IntArray:
        """Largest bin value of each track over some rows, shape (n_tracks,), in bases."""
        pieces, width = self.pieces(side).take(rows), self.layout.bin
        n_tracks = len(self.side_tracks[side])
        largest = np.zeros(n_tracks, np.int64)
        # A site that fills a whole bin settles its track; few tracks are left to be spread.
        full = (-(-pieces.starts // width) + 1) * width <= pieces.ends
        largest[pieces.tracks[full]] = width
        left = np.flatnonzero(largest[pieces.tracks] < width)
        tracks, owner = pieces.tracks[left], pieces.rows()[left]
        interval, bins, bases = covered_bases(pieces.starts[left], pieces.ends[left], width)
        stride = int(bins.max(initial=0)) + 1
        key = (owner[interval] * n_tracks + tracks[interval]) * stride + bins
        if key.size:  # entries are sorted by row, track and start, hence by key
            starts = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))
            np.maximum.at(largest, tracks[interval[starts]], np.add.reduceat(bases, starts))
        return largest

    # -- position sums -----------------------------------------------------------------------

    @cached_property
    def _pooled(self) -> Mapping[str, npt.NDArray[Any]]:
        return self._read("pooled.npz")

    def mask_sums(self, side: Side, kernel: int) -> IntArray:
        """Position sums of the mask channel (see `sums`), shape (n_rows, kernel), in bases."""
        first, last = self._extent(_checked(side))
        edges = np.arange(kernel, dtype=np.int64) * self.layout.bin
        return np.maximum(last[:, None] - np.maximum(first[:, None], edges), 0)

    def sums(self, side: Side, kernel: int = 1) -> list[sparse.csr_array]:
        """Return position sums, all that linear convolutions of total width `kernel` (in bins) see.

        ``S_k`` sums the bins from the k-th on, for k = 0 .. kernel - 1: with each sequence padded
        by kernel - 1 empty bins on the right, the sum over positions of a convolution is ``Σ_k W_kᵀ
        S_k`` (exact; docs/exactness.md). Each is a csr_array of int32, shape (n_rows, n_tracks), in
        bases.
        """
        if (_checked(side), kernel) not in self._sums:
            self._sums[side, kernel] = [sums.matrix() for sums in self._summed(side, kernel)]
        return self._sums[side, kernel]

    @cached_property
    def _sums(self) -> dict[tuple[Side, int], list[sparse.csr_array]]:
        return {}

    def _summed(
        self, side: Side, kernel: int, rows: IntArray | None = None
    ) -> Iterator[SparseRows]:
        """Yield the position sums of some rows, or of all (see `sums`)."""
        total, *heads = self._parts(_checked(side), kernel)
        rest = total if rows is None else total.take(rows)
        yield rest
        for head in heads:
            rest = rest.less(head if rows is None else head.take(rows))
            yield rest

    def _parts(self, side: Side, kernel: int) -> list[SparseRows]:
        """Return the bases of all bins of each row, and of its leading bins one by one."""
        if (side, kernel) not in self._stored:
            shape = (len(self), len(self.side_tracks[side]))
            if kernel - 1 <= HEAD_BINS[side]:
                names = ["total", *(f"head{k}" for k in range(kernel - 1))]
                parts = [stored_rows(self._pooled, f"{side}_{name}", shape) for name in names]
            else:
                pieces, width = self.pieces(side), self.layout.bin
                edges = [(0, None), *((k * width, (k + 1) * width) for k in range(kernel - 1))]
                found = [total_bases(pieces, shape[1], *edge) for edge in edges]
                parts = [
                    SparseRows(m.indptr.astype(np.int64), m.indices, m.data, shape[1])
                    for m in found
                ]
            self._stored[side, kernel] = parts
        return self._stored[side, kernel]

    @cached_property
    def _stored(self) -> dict[tuple[Side, int], list[SparseRows]]:
        return {}

    def pooled(
        self,
        genes: Iterable[str] | None = None,
        side: Side = "promoter",
        *,
        kernel: int = 1,
        tracks: Sequence[str] | None = None,
    ) -> SingleArray:
        """Return position sums as a network takes them: a short sequence of `kernel` rows a gene.

        Parameters
        ----------
        genes : iterable of str, optional
            Ids, symbols or aliases; all rows if not given.
        side : {"promoter", "rna"}
        kernel : int
            Composite kernel width of the network's branch in bins (see `sums`).
        tracks : sequence of str, optional
            Names of the tracks, in the order wanted; all if not given.

        Returns
        -------
        ndarray of float32, shape (n_genes, kernel, 1 + n_tracks)
            Channel 0 is the mask channel, in bases like the others.

        Raises
        ------
        UsageError
            If a gene or a track is unknown.
        """
        if isinstance(genes, str) or kernel < 1:
            raise UsageError("Give a list of genes, and a kernel of at least one bin.")
        wanted = range(len(self)) if genes is None else [self.row(gene) for gene in genes]
        rows = np.array(wanted, np.int64)
        columns = self.columns(side, tracks) if tracks is not None else None
        return self.pooled_rows(rows, side, kernel, columns).dense()

    def pooled_rows(
        self, rows: IntArray, side: Side, kernel: int, columns: IntArray | None = None
    ) -> PooledRows:
        """Return position sums of some rows, sparse; `columns` as for `matrix`."""
        sums = self._summed(side, kernel, rows)
        return PooledRows(
            self.mask_sums(side, kernel)[rows],
            tuple(part if columns is None else part.choose(columns) for part in sums),
        )

    def columns(self, side: Side, tracks: Sequence[str]) -> IntArray:
        """Return the columns of named tracks; raise UsageError, which lists them, if some lack."""
        place = {name: i for i, name in enumerate(self.tracks(side))}
        missing = [name for name in tracks if name not in place]
        if missing:
            raise UsageError(
                f"{len(missing)} of {len(tracks)} {side} tracks are not in the feature set: "
                + ", ".join(missing[:10])
                + (", …" if len(missing) > 10 else "")
            )
        return np.array([place[name] for name in tracks], np.int64)

    # -- writing -----------------------------------------------------------------------------

    def write(
        self,
        folder: Path,
        pieces: Mapping[Side, SitePieces],
        clipped: IntArray,
        exons: tuple[IntArray, IntArray, IntArray],
    ) -> None:
        """Write the set's files into an existing folder; the same set gives the same bytes.

        `clipped` are the rows whose window leaves the chromosome, shape (m, 3): row, first and last
        local base inside it. `exons` are as the method of that name returns them.
        """
        positions: dict[str, npt.NDArray[Any]] = {
            f"exon_{part}": compact(values) for part, values in zip(_EXON_PARTS, exons, strict=True)
        }
        pooled: dict[str, npt.NDArray[Any]] = {"promoter_clipped": compact(clipped)}
        for side in SIDES:
            part, n_tracks = pieces[side], len(self.side_tracks[side])
            positions[f"{side}_counts"] = compact(np.diff(part.indptr))
            positions[f"{side}_tracks"] = compact(part.tracks)
            positions[f"{side}_starts"] = compact(part.starts)
            positions[f"{side}_lengths"] = compact(part.ends - part.starts)
            store_csr(pooled, f"{side}_total", total_bases(part, n_tracks))
            for k in range(HEAD_BINS[side]):
                first = k * self.layout.bin
                head = total_bases(part, n_tracks, first, first + self.layout.bin)
                store_csr(pooled, f"{side}_head{k}", head)
        write_arrays(folder / "sites.npz", positions)
        write_arrays(folder / "pooled.npz", pooled)
        header = {
            "format_version": FORMAT_VERSION,
            "layout": asdict(self.layout),
            "builder_version": self.builder_version,
            "arrays": {name: sha256_of(folder / name) for name in ("pooled.npz", "sites.npz")},
            "tracks": {s: [asdict(track) for track in self.side_tracks[s]] for s in SIDES},
            "rows": asdict(self.rows),
            "aliases": dict(sorted(self.aliases.items())),
        }
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")) + "\n"
        (folder / "features.json").write_text(text, encoding="utf-8")


def _checked(side: Side) -> Side:
    if side in SIDES:
        return side
    raise UsageError(f"A side is 'promoter' or 'rna', not {side!r}.")
