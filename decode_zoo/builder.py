"""Making feature sets: gene models and sites in, a feature set out."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

import decode_zoo
from decode_zoo.annotation import Annotation
from decode_zoo.bins import Pieces, Regions, clip_sites, promoter_regions, rna_regions
from decode_zoo.cores import allowed_cores
from decode_zoo.errors import InputError, UsageError
from decode_zoo.features import FeatureSet, Rows
from decode_zoo.files import atomic_dir
from decode_zoo.genesets import TargetFile, read_targets
from decode_zoo.genome import Genome
from decode_zoo.intervals import ranges
from decode_zoo.layout import SIDES, Layout, Side
from decode_zoo.pooling import SitePieces
from decode_zoo.reader import Table
from decode_zoo.sites import SiteFile, Track, read_sites

__all__ = ["annotation_of", "build_features", "merge_features", "read_aliases"]

IntArray = npt.NDArray[np.int64]
Progress = Callable[[int], None]
# Gives the tracks of a file and their sites, clipped.
Job = Callable[[], tuple[tuple[Track, ...], Pieces]]

_log = logging.getLogger(__name__)


def build_features(
    annotation: Annotation,
    genome: Genome,
    files: Mapping[Side, Sequence[SiteFile]],
    folder: str | os.PathLike[str],
    *,
    layout: Layout | None = None,
    aliases: Mapping[str, str] | None = None,
    targets: Sequence[TargetFile] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> FeatureSet:
    """Build a feature set and write it to a folder.

    Parameters
    ----------
    annotation : Annotation
        Gene models (`decode_zoo.annotation.read_gtf`).
    genome : Genome
        The assembly of gene models and sites.
    files : Mapping[Side, sequence of SiteFile]
        Site files of each side (`decode_zoo.sites.find_site_files`).
    folder : path-like
        Where to write; appears whole or not at all.
    layout : Layout, optional
        Bins and window; genome and level are taken from the arguments.
    aliases : Mapping[str, str], optional
        Other names of genes → gene id.
    targets : sequence of TargetFile
        Lists of target genes, which become tracks behind those of the promoters' sites: a target's
        window is covered from end to end (`decode_zoo.genesets`).
    force : bool
        Replace an existing feature set.
    progress : callable, optional
        Called with the number of files done since the last call.

    Returns
    -------
    FeatureSet

    Raises
    ------
    InputError
        If a file is bad, or two files give the same track.
    UsageError
        If the folder exists and `force` is not set.
    """
    layout = replace(layout or Layout(), genome=genome.build, level=annotation.level)
    windows = _windows(annotation, genome, layout)
    with atomic_dir(folder, force) as temporary:
        tracks: dict[Side, tuple[Track, ...]] = {}
        pieces: dict[Side, SitePieces] = {}
        for side in SIDES:
            regions = _side_regions(side, annotation, genome, layout)
            jobs: list[Job] = [
                partial(_clip_file, file, regions, genome, layout) for file in files.get(side, ())
            ]
            if side == "promoter":
                jobs += [partial(_cover, file, annotation, aliases, windows) for file in targets]
            tracks[side], pieces[side] = _gather(jobs, len(annotation), progress)
            _warn_of_strangers(side, tracks[side], pieces[side])
        built = FeatureSet(
            layout,
            _rows(annotation, genome),
            tracks,
            dict(aliases or {}),
            decode_zoo.__version__,
            lambda name: Path(folder) / name,
        )
        exons = (
            np.diff(annotation.exon_indptr),
            annotation.exon_starts,
            annotation.exon_ends - annotation.exon_starts,
        )
        built.write(temporary, pieces, _clipped_windows(*windows, layout), exons)
    return FeatureSet.load(folder)


def _side_regions(side: Side, annotation: Annotation, genome: Genome, layout: Layout) -> Regions:
    if side == "rna":
        return rna_regions(annotation, genome, stranded=layout.rna_stranded)
    return promoter_regions(
        annotation, genome, layout.upstream, layout.downstream, stranded=layout.promoter_stranded
    )


def _clip_file(
    file: SiteFile, regions: Regions, genome: Genome, layout: Layout
) -> tuple[tuple[Track, ...], Pieces]:
    sites = read_sites(file, genome, stranded=regions.stranded)
    return sites.tracks, clip_sites(sites, regions, genome, layout.boundary)


def _cover(
    file: TargetFile,
    annotation: Annotation,
    aliases: Mapping[str, str] | None,
    windows: tuple[IntArray, IntArray],
) -> tuple[tuple[Track, ...], Pieces]:
    """Cover what there is of the targets' windows."""
    targets = read_targets(file, annotation, aliases)
    first, last = (edge[targets.rows] for edge in windows)
    there = last > first
    pieces = (values[there] for values in (targets.rows, targets.codes, first, last))
    return targets.tracks, Pieces(*pieces)


def _gather(
    jobs: Sequence[Job], n_rows: int, progress: Progress | None
) -> tuple[tuple[Track, ...], SitePieces]:
    """Read and clip all files of a side, in threads: decompression and parsing release the GIL."""
    tracks: list[Track] = []
    parts: list[Pieces] = []
    with ThreadPoolExecutor(max_workers=allowed_cores()) as pool:
        try:
            for found, part in pool.map(lambda job: job(), jobs):
                parts.append(replace(part, tracks=part.tracks + len(tracks)))
                tracks.extend(found)
                if progress:
                    progress(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    twice = [name for name, count in Counter(track.name for track in tracks).items() if count > 1]
    if twice:
        raise InputError(
            f"{len(twice)} track names occur in more than one source: {', '.join(twice[:5])}",
            remedy="Name the tracks in a manifest's 'track' column.",
        )
    return tuple(tracks), _group_by_row(parts, n_rows)


def _warn_of_strangers(side: Side, tracks: Sequence[Track], pieces: SitePieces) -> None:
    """Warn of tracks without a site on any gene; in one line, however many they are."""
    hits = np.bincount(pieces.tracks, minlength=len(tracks))
    names = [track.name for track, count in zip(tracks, hits, strict=True) if not count]
    if names:
        _log.warning(
            "%s: %d of %d tracks without a site on any gene (%s%s): are sites and genes of the "
            "same assembly?",
            side,
            len(names),
            len(tracks),
            ", ".join(names[:5]),
            ", …" if len(names) > 5 else "",
        )


def _group_by_row(parts: Sequence[Pieces], n_rows: int) -> SitePieces:
    def joined(values: list[IntArray]) -> IntArray:
        return np.concatenate(values) if values else np.zeros(0, np.int64)

    rows = joined([part.rows for part in parts])
    # Parts come track by track, each sorted by row, track and start: a stable sort by row is all.
    order = np.argsort(rows, kind="stable")
    indptr = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=n_rows))))
    return SitePieces(
        indptr.astype(np.int64),
        joined([part.tracks for part in parts])[order],
        joined([part.starts for part in parts])[order],
        joined([part.ends for part in parts])[order],
    )


def _rows(annotation: Annotation, genome: Genome) -> Rows:
    return Rows(
        ids=annotation.ids.tolist(),
        gene_ids=annotation.gene_ids.tolist(),
        symbols=annotation.symbols.tolist(),
        biotypes=annotation.biotypes.tolist(),
        chroms=[genome.names[code] for code in annotation.chroms],
        strands=annotation.strands.tolist(),
        tss=annotation.tss.tolist(),
        rna_lengths=annotation.rna_lengths.tolist(),
    )


def _windows(annotation: Annotation, genome: Genome, layout: Layout) -> tuple[IntArray, IntArray]:
    """First and last local base of each row's promoter window that the chromosome has."""
    regions = promoter_regions(
        annotation, genome, layout.upstream, layout.downstream, stranded=False
    )
    order = np.argsort(regions.rows)
    first = regions.bases[order]
    return first, first + (regions.ends - regions.starts)[order]


def _clipped_windows(first: IntArray, last: IntArray, layout: Layout) -> IntArray:
    """Rows whose window leaves the chromosome, with the local extent that is left."""
    off = np.flatnonzero((first > 0) | (last < layout.window))
    return np.stack([off, first[off], last[off]], axis=1)


def merge_features(
    base: FeatureSet,
    added: FeatureSet,
    folder: str | os.PathLike[str],
    *,
    force: bool = False,
) -> FeatureSet:
    """Add the tracks of one feature set to another's.

    Parameters
    ----------
    base : FeatureSet
        Keeps its rows, aliases and track order; needs its positions (sites.npz).
    added : FeatureSet
        Built on the same gene models: every row of `base` must be in it, with the same start
        site and RNA length.
    folder : path-like
        Where to write the union.
    force : bool
        Replace an existing feature set.

    Returns
    -------
    FeatureSet

    Raises
    ------
    UsageError
        If layouts differ, rows do not match, or a track name is in both.
    """
    if base.layout != added.layout:
        raise UsageError(f"The sets differ in layout: {base.layout} and {added.layout}.")
    place = {name: i for i, name in enumerate(added.rows.ids)}
    missing = [name for name in base.rows.ids if name not in place]
    if missing:
        raise UsageError(
            f"{len(missing)} of {len(base)} genes are not in the set to add, e.g. {missing[0]}.",
            remedy="Build it on the same gene models: decode-zoo features build --like BASE.",
        )
    order = np.array([place[name] for name in base.rows.ids], np.int64)
    differing = {
        what: np.array(getattr(added.rows, what))[order] != np.array(getattr(base.rows, what))
        for what in ("chroms", "strands", "tss", "rna_lengths")
    }
    differing["exons"] = _differing_exons(base, added, order)
    for what, wrong in differing.items():
        if wrong.any():
            raise UsageError(
                f"{wrong.sum()} genes differ in {what}, e.g. {base.rows.ids[wrong.argmax()]}.",
                remedy="Build the added tracks on the same gene models and start sites.",
            )
    tracks: dict[Side, tuple[Track, ...]] = {}
    pieces: dict[Side, SitePieces] = {}
    for side in SIDES:
        both = sorted(set(base.tracks(side)) & set(added.tracks(side)))
        if both:
            raise UsageError(f"{len(both)} {side} tracks are in both sets: {', '.join(both[:5])}.")
        tracks[side] = (*base.side_tracks[side], *added.side_tracks[side])
        parts = [base.pieces(side), added.pieces(side).take(order)]
        shift = len(base.side_tracks[side])
        pieces[side] = _group_by_row(
            [
                Pieces(part.rows(), part.tracks + i * shift, part.starts, part.ends)
                for i, part in enumerate(parts)
            ],
            len(base),
        )
    with atomic_dir(folder, force) as temporary:
        merged = replace(
            base,
            side_tracks=tracks,
            builder_version=decode_zoo.__version__,
            locate=lambda name: Path(folder) / name,
        )
        merged.write(temporary, pieces, base.clipped_windows(), base.exons())
    return FeatureSet.load(folder)


def _differing_exons(base: FeatureSet, added: FeatureSet, order: IntArray) -> npt.NDArray[np.bool_]:
    """Tell which rows of `base` have other exons in `added`, whose rows `order` lists."""
    counts, *ours = base.exons()
    their_counts, *theirs = added.exons()
    differing: npt.NDArray[np.bool_] = counts != their_counts[order]
    first = (np.cumsum(their_counts) - their_counts)[order]
    same = np.flatnonzero(~differing)
    mine = ranges((np.cumsum(counts) - counts)[same], counts[same])
    other = ranges(first[same], counts[same])
    owner = np.repeat(same, counts[same])
    for our_values, their_values in zip(ours, theirs, strict=True):
        differing[owner[our_values[mine] != their_values[other]]] = True
    return differing


def annotation_of(features: FeatureSet, genome: Genome) -> Annotation:
    """Gene models of a feature set, to build another one like it.

    Parameters
    ----------
    features : FeatureSet
        With positions (sites.npz).
    genome : Genome
        Its assembly.
    """
    rows = features.rows
    counts, starts, lengths = features.exons()
    return Annotation(
        level=features.layout.level,
        ids=np.array(rows.ids),
        gene_ids=np.array(rows.gene_ids),
        symbols=np.array(rows.symbols),
        biotypes=np.array(rows.biotypes),
        chroms=np.array([genome.code(name) for name in rows.chroms], np.int64),
        strands=np.array(rows.strands, np.int8),
        tss=np.array(rows.tss, np.int64),
        exon_indptr=np.concatenate(([0], np.cumsum(counts))),
        exon_starts=starts,
        exon_ends=starts + lengths,
    )


def read_aliases(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read other names of genes: tab-separated, header ``alias gene_id``.

    Raises
    ------
    InputError
        If the header or a line is not as said.
    """
    table = Table.read(path)
    if table.header[:2] != ["alias", "gene_id"]:
        raise table.fault("its header must be 'alias<TAB>gene_id'", 1)
    aliases: dict[str, str] = {}
    for line, cells in table.cells():
        if len(cells) < 2:
            raise table.fault("expected an alias and a gene id", line)
        aliases[cells[0]] = cells[1]
    return aliases
