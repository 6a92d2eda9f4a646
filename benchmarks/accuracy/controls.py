"""Data sets with something taken away: inputs of other genes (`permute`), or fewer tracks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from decode_zoo.features.spec import SIDES, Side, Track
from decode_zoo.networks.inputs import align_tracks
from decode_zoo.studies.ablation import permute
from decode_zoo.training.dataset import Dataset


def fold_cell(cell: str) -> str:
    """Bring spellings of a cell line together.

    What follows the first underscore (a treatment, an antibody, a knock-down) is left off, then
    all but letters and digits, then case: ``HepG2``, ``HEPG2``, ``Hep-G2`` and
    ``Hep-G2_RBM25-KD`` are all ``hepg2``.
    """
    return re.sub(r"[^a-z0-9]", "", cell.partition("_")[0].casefold())


def is_hepg2(track: Track) -> bool:
    """Tell whether a track was assayed in HepG2; tracks that merge cells name none."""
    return fold_cell(track.cell) == "hepg2"


def is_tfea(track: Track) -> bool:
    """Tell whether a track's targets were linked through enhancers (TFEA.ChIP, ENCODE-rE2G)."""
    return "TFEA" in track.source


def without_tracks(dataset: Dataset, dropped: Callable[[Track], bool]) -> Dataset:
    """Return the same genes, split and targets, seen through fewer tracks."""
    features = dataset.features
    tracks: dict[Side, tuple[str, ...]] = {}
    scale: dict[Side, npt.NDArray[np.float64]] = {}
    for side in SIDES:
        known = {track.name: track for track in features.side_tracks[side]}
        kept = np.array([not dropped(known[name]) for name in dataset.tracks[side]], np.bool_)
        tracks[side] = tuple(np.array(dataset.tracks[side], object)[kept])
        scale[side] = dataset.scale[side][np.concatenate(([True], kept))]
    bound = align_tracks(features, tracks, dataset.bound.kernels, layout=features.layout)
    return replace(dataset, tracks=tracks, scale=scale, bound=bound)


# By name: what is done to the data set before a model is trained on it. The seed of the
# permutations is fixed, so that all models see the same ones.
VARIANTS: Mapping[str, Callable[[Dataset], Dataset]] = {
    "": lambda dataset: dataset,
    "rna_permuted": lambda dataset: permute(dataset, ("rna",), 0),
    "promoter_permuted": lambda dataset: permute(dataset, ("promoter",), 0),
    "both_permuted": lambda dataset: permute(dataset, ("promoter", "rna"), 0),
    "without_hepg2": lambda dataset: without_tracks(dataset, is_hepg2),
    "without_tfea": lambda dataset: without_tracks(dataset, is_tfea),
}
