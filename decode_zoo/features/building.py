"""Making feature sets: gene models and sites in, a feature set out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from decode_zoo.core import __version__
from decode_zoo.core.arrays import BoolArray, IntArray
from decode_zoo.core.errors import UsageError
from decode_zoo.core.files import atomic_dir
from decode_zoo.core.system import allowed_cores
from decode_zoo.features.annotation import Annotation
from decode_zoo.features.bins import Pieces, Regions, clip_sites, promoter_regions, rna_regions
from decode_zoo.features.featureset import FEATURE_FOLDER, FeatureSet, Rows
from decode_zoo.features.genesets import TargetFile, read_targets
from decode_zoo.features.genome import Genome
from decode_zoo.features.pooling import SitePieces
from decode_zoo.features.sites import SiteFile, read_sites, refuse_twice
from decode_zoo.features.spec import SIDES, Binning, Side, Track

__all__ = ["annotation_of", "build_features", "merge_features"]

Progress = Callable[[int], None]
# The tracks of a file and their sites, clipped.
Found = tuple[tuple[Track, ...], Pieces]

_log = logging.getLogger(__name__)


def build_features(
    annotation: Annotation,
    genome: Genome,
    files: Mapping[Side, Sequence[SiteFile]],
    folder: str | os.PathLike[str],
    *,
    layout: Binning | None = None,
    aliases: Mapping[str, str] | None = None,
    targets: Sequence[TargetFile] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> FeatureSet:
    """Build a feature set and write it to a folder, whole or not at all.

    Parameters
    ----------
    annotation : Annotation
        Gene models (`decode_zoo.features.annotation.read_gtf`).
    genome : Genome
        The assembly of gene models and sites.
    files : Mapping[Side, sequence of SiteFile]
        Site files of each side (`decode_zoo.features.sites.find_site_files`).
    folder : path-like
        Where to write.
    layout : Binning, optional
        Bins and window; genome and level are taken from the arguments.
    aliases : Mapping[str, str], optional
        Other names of genes → gene id.
    targets : sequence of TargetFile
        Lists of target genes, which become tracks behind those of the promoters' sites: a target's
        window is covered from end to end (`decode_zoo.features.genesets`).
    force : bool
        Replace an existing feature set.
    progress : callable, optional
        Called with 1 after each file.

    Raises
    ------
    InputError
        If a file is bad, or two files give the same track.
    UsageError
        If the folder exists and `force` is not set.
    """
    layout = replace(layout or Binning(), genome=genome.build, level=annotation.level)
    up, down = layout.upstream, layout.downstream
    regions: dict[Side, Regions] = {
        "promoter": promoter_regions(
            annotation, genome, up, down, stranded=layout.promoter_stranded
        ),
        "rna": rna_regions(annotation, genome, stranded=layout.rna_stranded),
    }
    # What the chromosome has of each row's window, in local bases.
    order = np.argsort(regions["promoter"].rows)
    first = regions["promoter"].bases[order]
    last = first + (regions["promoter"].ends - regions["promoter"].starts)[order]

    def clip(file: SiteFile, regions: Regions) -> Found:
        sites = read_sites(file, genome, stranded=regions.stranded)
        return sites.tracks, clip_sites(sites, regions, genome, layout.boundary)

    def cover(file: TargetFile) -> Found:
        tracks, rows, codes = read_targets(file, annotation, aliases)
        there = last[rows] > first[rows]
        rows, codes = rows[there], codes[there]
        return tracks, Pieces(rows, codes, first[rows], last[rows])

    with atomic_dir(folder, FEATURE_FOLDER if force else None) as temporary:
        tracks: dict[Side, tuple[Track, ...]] = {}
        pieces: dict[Side, SitePieces] = {}
        for side in SIDES:
            jobs = [partial(clip, file, regions[side]) for file in files.get(side, ())]
            jobs += [partial(cover, file) for file in targets if side == "promoter"]
            tracks[side], pieces[side] = _gather(jobs, len(annotation), progress)
            _warn_of_strangers(side, tracks[side], pieces[side])
        columns = ["ids", "gene_ids", "symbols", "biotypes", "strands", "tss", "rna_lengths"]
        rows = Rows(
            chroms=[genome.names[code] for code in annotation.chroms],
            **{name: getattr(annotation, name).tolist() for name in columns},
        )
        built = FeatureSet(
            layout, rows, tracks, dict(aliases or {}), __version__, Path(folder).joinpath
        )
        clipped = np.flatnonzero((first > 0) | (last < layout.window))
        built.write(
            temporary,
            pieces,
            np.stack([clipped, first[clipped], last[clipped]], axis=1),
            (
                np.diff(annotation.exon_indptr),
                annotation.exon_starts,
                annotation.exon_ends - annotation.exon_starts,
            ),
        )
    return FeatureSet.load(folder)


def _gather(
    jobs: Sequence[Callable[[], Found]], n_rows: int, progress: Progress | None
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
    refuse_twice(track.name for track in tracks)
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
    none = np.zeros(0, np.int64)
    rows, tracks, starts, ends = (
        np.concatenate([none, *(getattr(part, name) for part in parts)])
        for name in ("rows", "tracks", "starts", "ends")
    )
    # Parts come track by track, each sorted by row, track and start: a stable sort by row is all.
    order = np.argsort(rows, kind="stable")
    indptr = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=n_rows))))
    return SitePieces(indptr.astype(np.int64), tracks[order], starts[order], ends[order])


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
        parts = []
        for part, shift in (
            (base.pieces(side), 0),
            (added.pieces(side).take(order), len(base.side_tracks[side])),
        ):
            parts.append(Pieces(part.rows(), part.tracks + shift, part.starts, part.ends))
        pieces[side] = _group_by_row(parts, len(base))
    with atomic_dir(folder, FEATURE_FOLDER if force else None) as temporary:
        merged = replace(
            base,
            side_tracks=tracks,
            builder_version=__version__,
            locate=Path(folder).joinpath,
        )
        merged.write(temporary, pieces, base.clipped_windows(), base.exons())
    return FeatureSet.load(folder)


def _differing_exons(base: FeatureSet, added: FeatureSet, order: IntArray) -> BoolArray:
    """Return which rows of `base` have other exons in `added`, whose rows `order` lists."""
    ours, theirs = (
        SitePieces(np.concatenate(([0], np.cumsum(counts))), starts, starts, starts + lengths)
        for counts, starts, lengths in (base.exons(), added.exons())
    )
    theirs = theirs.take(order)
    differing: BoolArray = np.diff(ours.indptr) != np.diff(theirs.indptr)
    same = np.flatnonzero(~differing)
    ours, theirs = ours.take(same), theirs.take(same)
    moved = (ours.starts != theirs.starts) | (ours.ends != theirs.ends)
    differing[same[ours.rows()[moved]]] = True
    return differing


def annotation_of(features: FeatureSet, genome: Genome) -> Annotation:
    """Return the gene models of a feature set, to build another one like it.

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
