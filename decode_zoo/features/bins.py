"""From sites to covered bases: clipping to promoters and RNAs, binning, pooling.

Coordinates here are *local*: bases from the 5' edge of the promoter window, or from the 5' end of
the spliced RNA, always in the direction of transcription.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from decode_zoo.core.arrays import BoolArray, IntArray
from decode_zoo.features.annotation import Annotation
from decode_zoo.features.genome import Genome
from decode_zoo.features.intervals import merge, overlap_pairs
from decode_zoo.features.sites import Sites

__all__ = ["Pieces", "Regions", "clip_sites", "promoter_regions", "rna_regions"]


@dataclass(frozen=True)
class Regions:
    """Stretches of genome that map onto local coordinates, sorted by start.

    `starts` and `ends` are half-open on the genome's linear axis (plus one span for the minus
    strand if stranded), `rows` the gene or transcript, `reverse` whether transcription runs against
    the axis, `bases` the local coordinate of the 5' edge; all of shape (m,).
    """

    starts: IntArray
    ends: IntArray
    rows: IntArray
    reverse: BoolArray
    bases: IntArray
    stranded: bool


@dataclass(frozen=True)
class Pieces:
    """Parts of sites that lie in regions, in local coordinates, as columns of shape (n,).

    Sorted by (row, track, start); disjoint and not touching within a row and track.
    """

    rows: IntArray
    tracks: IntArray
    starts: IntArray
    ends: IntArray


def promoter_regions(
    annotation: Annotation, genome: Genome, upstream: int, downstream: int, *, stranded: bool
) -> Regions:
    """Return windows of ``-upstream .. +downstream`` bases around each start site, one a row.

    The start site itself is local coordinate ``upstream``. A window that runs off its chromosome
    is clipped; the bins outside are empty, and the others keep their positions.
    """
    reverse = annotation.strands < 0
    left = np.where(reverse, annotation.tss + 1 - downstream, annotation.tss - upstream)
    right = left + upstream + downstream
    length = genome.lengths[annotation.chroms]
    starts, ends = np.maximum(left, 0), np.minimum(right, length)
    bases = np.where(reverse, right - ends, starts - left)
    rows = np.arange(len(annotation), dtype=np.int64)
    return _regions(annotation, genome, starts, ends, rows, bases, stranded)


def rna_regions(annotation: Annotation, genome: Genome, *, stranded: bool) -> Regions:
    """Return the exons, end to end along the spliced RNA; local coordinate 0 is its 5' end."""
    lengths = annotation.exon_ends - annotation.exon_starts
    counts = np.diff(annotation.exon_indptr)
    rows = np.repeat(np.arange(len(annotation), dtype=np.int64), counts)
    reverse = annotation.strands[rows] < 0
    # Exons ascend along the chromosome: the bases 5' of one are those of the exons before it, or
    # on the minus strand those of the exons after it.
    totals = annotation.rna_lengths
    through = np.cumsum(lengths) - (np.cumsum(totals) - totals)[rows]
    bases = np.where(reverse, totals[rows] - through, through - lengths)
    return _regions(
        annotation, genome, annotation.exon_starts, annotation.exon_ends, rows, bases, stranded
    )


def _regions(
    annotation: Annotation,
    genome: Genome,
    starts: IntArray,
    ends: IntArray,
    rows: IntArray,
    bases: IntArray,
    stranded: bool,
) -> Regions:
    """Move regions from their chromosomes to the linear axis and sort them there."""
    reverse = annotation.strands[rows] < 0
    offset = genome.offsets[annotation.chroms[rows]] + reverse * genome.span * stranded
    starts, ends = starts + offset, ends + offset
    order = np.lexsort((rows, ends, starts))
    return Regions(starts[order], ends[order], rows[order], reverse[order], bases[order], stranded)


def clip_sites(
    sites: Sites, regions: Regions, genome: Genome, boundary: Literal["clip", "within"]
) -> Pieces:
    """Cut sites at the borders of regions and express them in local coordinates.

    Overlapping sites of a track count once. A site that crosses a region's border counts with the
    part inside ("clip") or not at all ("within").
    """
    position = genome.offsets[sites.chroms]
    if regions.stranded:
        position = position + (sites.strands < 0) * genome.span
    axis = 2 * genome.span
    starts, ends = sites.starts + position, sites.ends + position
    if boundary == "clip":
        # One merge for all tracks: each has a stretch of the axis to itself.
        shift = sites.codes * axis
        starts, ends = merge(starts + shift, ends + shift)
        codes = starts // axis
        starts, ends = starts - codes * axis, ends - codes * axis
    else:
        codes = sites.codes
    site, region = overlap_pairs(starts, ends, regions.starts, regions.ends)
    left = np.maximum(starts[site], regions.starts[region])
    right = np.minimum(ends[site], regions.ends[region])
    if boundary == "within":
        whole = (left == starts[site]) & (right == ends[site])
        site, region, left, right = site[whole], region[whole], left[whole], right[whole]
    local = np.where(
        regions.reverse[region], regions.ends[region] - right, left - regions.starts[region]
    )
    local = local + regions.bases[region]
    # Pieces that touch are joined, such as the parts of a site on both sides of a splice.
    row, right = regions.rows[region], local + (right - left)
    stretch = int(right.max(initial=0)) + 1
    shift = (row * len(sites.tracks) + codes[site]) * stretch
    starts, ends = merge(local + shift, right + shift)
    key = starts // stretch
    row, track = np.divmod(key, max(len(sites.tracks), 1))
    return Pieces(row, track, starts - key * stretch, ends - key * stretch)
