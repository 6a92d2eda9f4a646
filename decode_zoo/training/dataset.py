"""What a network trains on: inputs and scaled targets of the same genes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from decode_zoo.errors import InputError, UsageError
from decode_zoo.expression import Output, Split, Targets, split_by_chromosome
from decode_zoo.features import FeatureSet
from decode_zoo.inputs import BoundFeatures, bind
from decode_zoo.layout import SIDES, Side

__all__ = ["Dataset", "Selection", "make_dataset"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Selection:
    """Which tracks and genes to use, and for what.

    Attributes
    ----------
    kinds : tuple of str, optional
        Classes of tracks; all if not given.
    excluded_sources : tuple of str
        Sources of tracks not to use.
    min_genes : int
        Tracks annotated in fewer training genes are dropped.
    test, absent : tuple of str
        Chromosomes to test on, and to leave out altogether.
    validation_fraction : float
        Of the genes that are neither.
    split_seed : int
        Of the random choice of validation genes.
    """

    kinds: tuple[str, ...] | None = None
    excluded_sources: tuple[str, ...] = ()
    min_genes: int = 30
    test: tuple[str, ...] = ("1",)
    absent: tuple[str, ...] = ()
    validation_fraction: float = 0.1
    split_seed: int = 0


@dataclass(frozen=True)
class Dataset:
    """Genes with features and expression. Made by `make_dataset`.

    Attributes
    ----------
    selection : Selection
        How tracks and genes were chosen.
    targets : Targets
        Of the genes that are in the feature set, n of them.
    rows : ndarray of int64, shape (n,)
        Their rows in the feature set.
    split : Split
        Rows of `targets`.
    tracks : Mapping of Side to tuple of str
        Names of the tracks, in channel order; channel 0 is the mask channel, before them.
    scale : Mapping of Side to ndarray of float64, shape (1 + n_tracks,)
        Largest bin value over training genes, in bases; networks divide their inputs by it.
    bound : BoundFeatures
        The feature set, seen through these tracks.
    outputs : tuple of Output
    """

    selection: Selection
    targets: Targets
    rows: IntArray
    split: Split
    tracks: Mapping[Side, tuple[str, ...]]
    scale: Mapping[Side, npt.NDArray[np.float64]]
    bound: BoundFeatures
    outputs: tuple[Output, ...]

    @property
    def features(self) -> FeatureSet:
        """The feature set."""
        return self.bound.features

    def pooled(self, part: IntArray) -> dict[Side, FloatArray]:
        """Position sums of some rows of `targets` in bases, shape (n, kernel, 1 + n_tracks)."""
        return {side: sums.dense() for side, sums in self.bound.pooled(self.rows[part]).items()}

    def full(self, part: IntArray) -> dict[Side, FloatArray]:
        """Full matrices of some rows of `targets` in bases, padded by kernel - 1 empty bins."""
        return self.bound.full(self.rows[part])

    def scaled(self, inputs: Mapping[Side, FloatArray]) -> dict[str, FloatArray]:
        """Divide inputs in bases by their scale; by name, as the Keras network takes them."""
        return {
            side: (values / self.scale[side]).astype(np.float32) for side, values in inputs.items()
        }

    def scaled_targets(self, part: IntArray) -> FloatArray:
        """Targets of some rows in the network's own units, shape (n, n_outputs)."""
        scale = np.array([output.scale for output in self.outputs])
        scaled: FloatArray = (self.targets.values[part] / scale).astype(np.float32)
        return scaled


def make_dataset(
    features: FeatureSet,
    targets: Targets,
    kernels: Mapping[Side, int],
    selection: Selection | None = None,
) -> Dataset:
    """Join features and targets, split, and freeze what inputs are.

    Parameters
    ----------
    features : FeatureSet
        At gene level, with positions (sites.npz): the largest bin scales the inputs.
    targets : Targets
    kernels : Mapping of Side to int
        Composite kernel widths of the network's branches in bins.
    selection : Selection, optional

    Raises
    ------
    InputError
        If no gene has both, the split leaks, or no track is left on a side.
    UsageError
        If the rows of the feature set are transcripts, or a chromosome to test on, or a kind of
        track, is not there.
    """
    selection = selection or Selection()
    if features.layout.level != "gene":
        raise UsageError("Models of gene expression train on feature sets at gene level.")
    place = {name: i for i, name in enumerate(features.rows.gene_ids)}
    known = np.array([i for i, gene in enumerate(targets.gene_ids) if gene in place], np.int64)
    if not known.size:
        raise InputError("no gene of the expression matrix is in the feature set",
                         remedy="Are both by Ensembl gene id?")  # fmt: skip
    targets = targets.take(known)
    rows = np.array([place[gene] for gene in targets.gene_ids], np.int64)
    split = split_by_chromosome(
        [features.rows.chroms[row] for row in rows], targets.gene_ids, test=selection.test,
        absent=selection.absent, validation_fraction=selection.validation_fraction,
        seed=selection.split_seed,
    )  # fmt: skip
    training = rows[split.training]
    tracks = {side: _annotated_tracks(features, side, training, selection) for side in SIDES}
    scale = {
        side: np.concatenate(
            (
                [features.layout.bin],
                features.largest_bin(training, side)[features.columns(side, tracks[side])],
            )
        ).astype(np.float64)
        for side in SIDES
    }
    bound = bind(features, tracks, kernels, layout=features.layout)
    return Dataset(
        selection, targets, rows, split, tracks, scale, bound, targets.outputs(split.training)
    )


def _annotated_tracks(
    features: FeatureSet, side: Side, training: IntArray, selection: Selection
) -> tuple[str, ...]:
    """Names of the tracks that are selected and annotated in enough training genes."""
    known = {track.kind for tracks in features.side_tracks.values() for track in tracks}
    unknown = sorted(set(selection.kinds or ()) - known)
    if unknown:
        raise UsageError(
            f"The feature set has no tracks of kind {', '.join(unknown)}; "
            f"it has {', '.join(sorted(known))}."
        )
    annotated = (features.sums(side)[0][training] > 0).sum(axis=0)
    chosen = tuple(
        track.name
        for track, n_genes in zip(features.side_tracks[side], annotated, strict=True)
        if n_genes >= selection.min_genes
        and (selection.kinds is None or track.kind in selection.kinds)
        and track.source not in selection.excluded_sources
    )
    if not chosen:
        raise InputError(
            f"no {side} track is annotated in {selection.min_genes} training genes",
            remedy="Lower --min-genes, or choose other --kinds of tracks.",
        )
    return chosen
