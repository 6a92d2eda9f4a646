"""What a network trains on: inputs and scaled targets of the same genes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from decode_zoo.errors import InputError, UsageError
from decode_zoo.expression import Output, Split, Targets, split_by_chromosome
from decode_zoo.features import FeatureSet
from decode_zoo.inputs import BoundFeatures, bind
from decode_zoo.layout import SIDES, Side
from decode_zoo.manifest import Manifest

__all__ = ["PARTS", "Dataset", "Selection", "make_dataset", "make_dataset_like"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

# Of a split.
PARTS = ("training", "validation", "test")


@dataclass(frozen=True)
class Selection:
    """Which tracks and genes to use, and for what."""

    kinds: tuple[str, ...] | None = None  # classes of tracks; all if not given
    excluded_sources: tuple[str, ...] = ()  # sources of tracks not to use
    min_genes: int = 30  # tracks annotated in fewer training genes are dropped
    test: tuple[str, ...] = ("1",)  # chromosomes to test on
    absent: tuple[str, ...] = ()  # chromosomes to leave out altogether
    validation_fraction: float = 0.1  # of the genes that are neither
    split_seed: int = 0  # of the random choice of validation genes


@dataclass(frozen=True)
class Dataset:
    """Genes with features and expression, n of them. Made by `make_dataset`.

    `rows` are the genes' rows in the feature set, `split` rows of `targets`. `tracks` are named in
    channel order; channel 0 is the mask channel, before them. `scale`, shape (1 + n_tracks,) a
    side, is the largest bin value over training genes in bases: networks divide their inputs by it.
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

    def take_outputs(self, columns: IntArray) -> Dataset:
        """Return the dataset with some of its outputs, in this order."""
        names = tuple(self.targets.names[i] for i in columns)
        targets = replace(self.targets, names=names, values=self.targets.values[:, columns])
        return replace(self, targets=targets, outputs=tuple(self.outputs[i] for i in columns))

    def rename_outputs(self, names: tuple[str, ...]) -> Dataset:
        """Return the dataset with other names for its outputs."""
        outputs = tuple(
            replace(output, name=name) for output, name in zip(self.outputs, names, strict=True)
        )
        return replace(self, targets=replace(self.targets, names=names), outputs=outputs)

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

    The feature set must be at gene level and have positions (sites.npz): the largest bin scales the
    inputs. `kernels` are the composite kernel widths of the network's branches in bins.
    """
    selection = selection or Selection()
    targets, rows, split = _split_genes(features, targets, selection)
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


def make_dataset_like(
    manifest: Manifest,
    features: FeatureSet,
    targets: Targets,
    selection: Selection,
    split: Mapping[str, str] | None = None,
    *,
    validation: Collection[str] | None = None,
) -> Dataset:
    """Join features and targets as `make_dataset` does, with the tracks and scales of a model.

    `split` names the part (training, validation or test) of each gene that is to be used, in place
    of the chromosomes of `selection`; `validation` the validation genes among those that
    `selection` does not test on or leave out, in place of a random part.
    """
    if split is None:
        targets, rows, parts = _split_genes(features, targets, selection)
        if validation is not None:
            rest = np.sort(np.concatenate([parts.training, parts.validation]))
            held = np.array([targets.gene_ids[i] in validation for i in rest], np.bool_)
            parts = replace(parts, training=rest[~held], validation=rest[held])
    else:
        for gene, part in split.items():
            if part not in PARTS:
                raise InputError(
                    f"gene {gene}: a part of the split is one of {', '.join(PARTS)}, not '{part}'"
                )
        named = np.flatnonzero([gene in split for gene in targets.gene_ids])
        targets, rows = _known_genes(features, targets.take(named))
        of_genes = np.array([split[gene] for gene in targets.gene_ids])
        parts = Split(*(np.flatnonzero(of_genes == part) for part in PARTS))
        if not parts.training.size:
            raise InputError(
                "the split leaves no gene for training that has expression and features"
            )
        selection = replace(selection, test=(), absent=(), validation_fraction=0.0)
    inputs = manifest.inputs
    tracks = {side: tuple(track.name for track in inputs[side].tracks) for side in SIDES}
    kernels = {side: inputs[side].kernel for side in SIDES}
    bound = bind(features, tracks, kernels, layout=manifest.layout)
    scale = {side: np.array(inputs[side].scale, np.float64) for side in SIDES}
    return Dataset(
        selection, targets, rows, parts, tracks, scale, bound, targets.outputs(parts.training)
    )


def _split_genes(
    features: FeatureSet, targets: Targets, selection: Selection
) -> tuple[Targets, IntArray, Split]:
    """Targets of the genes that the feature set has, their rows there, and their split."""
    targets, rows = _known_genes(features, targets)
    split = split_by_chromosome(
        [features.rows.chroms[row] for row in rows],
        targets.gene_ids,
        test=selection.test,
        absent=selection.absent,
        validation_fraction=selection.validation_fraction,
        seed=selection.split_seed,
    )
    return targets, rows, split


def _known_genes(features: FeatureSet, targets: Targets) -> tuple[Targets, IntArray]:
    """Targets of the genes that the feature set has, and their rows there."""
    if features.layout.level != "gene":
        raise UsageError("Models of gene expression train on feature sets at gene level.")
    place = {name: i for i, name in enumerate(features.rows.gene_ids)}
    known = np.array([i for i, gene in enumerate(targets.gene_ids) if gene in place], np.int64)
    if not known.size:
        raise InputError(
            "no gene of the expression matrix is in the feature set",
            remedy="Are both by Ensembl gene id?",
        )
    targets = targets.take(known)
    rows = np.array([place[gene] for gene in targets.gene_ids], np.int64)
    return targets, rows


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
