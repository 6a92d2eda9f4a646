"""What a network trains on: pooled inputs and scaled targets of the same genes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from decode_zoo.errors import InputError, UsageError
from decode_zoo.expression import Output, Split, Targets, split_by_chromosome
from decode_zoo.features import SIDES, FeatureSet
from decode_zoo.sites import Side

__all__ = ["Dataset", "Inputs", "make_dataset"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Inputs:
    """Frozen inputs of one side.

    Attributes
    ----------
    tracks : tuple of str
        Names, in channel order; channel 0 is the mask channel and comes before them.
    scale : ndarray of float64, shape (1 + n_tracks,)
        Largest bin value over training genes; inputs are divided by it.
    kernel : int
        Composite kernel width in bins.
    """

    tracks: tuple[str, ...]
    scale: npt.NDArray[np.float64]
    kernel: int


@dataclass(frozen=True)
class Dataset:
    """Genes with features and expression.

    Attributes
    ----------
    features : FeatureSet
    targets : Targets
        Of the genes that are in the feature set, n of them.
    rows : ndarray of int64, shape (n,)
        Their rows in the feature set.
    split : Split
        Rows of `targets`.
    inputs : dict of Side to Inputs
    outputs : tuple of Output
    """

    features: FeatureSet
    targets: Targets
    rows: IntArray
    split: Split
    inputs: dict[Side, Inputs]
    outputs: tuple[Output, ...]

    def pooled(self, part: IntArray) -> dict[str, FloatArray]:
        """Return scaled inputs of some rows, each of shape (n, kernel, 1 + n_tracks)."""
        found: dict[str, FloatArray] = {}
        for side, inputs in self.inputs.items():
            rows, columns = self.rows[part], self.features.columns(side, inputs.tracks)
            out = np.empty((rows.size, inputs.kernel, 1 + columns.size), np.float32)
            out[:, :, 0] = self.features.mask_sums(side, inputs.kernel)[rows]
            for k, sums in enumerate(self.features.sums(side, inputs.kernel)):
                out[:, k, 1:] = sums[rows][:, columns].toarray()
            found[side] = (out / inputs.scale).astype(np.float32)
        return found

    def full(self, part: IntArray) -> dict[str, FloatArray]:
        """Full matrices of some rows of `targets`, scaled and padded by kernel - 1 empty bins."""
        found: dict[str, FloatArray] = {}
        for side, inputs in self.inputs.items():
            columns = np.concatenate(([0], 1 + self.features.columns(side, inputs.tracks)))
            dense = self.features.matrix(self.rows[part], side, pad=inputs.kernel - 1)
            found[side] = (dense[:, :, columns] / inputs.scale).astype(np.float32)
        return found

    def scaled_targets(self, part: IntArray) -> FloatArray:
        """Targets of some rows in the network's own units, shape (n, n_outputs)."""
        scale = np.array([output.scale for output in self.outputs])
        scaled: FloatArray = (self.targets.values[part] / scale).astype(np.float32)
        return scaled


def make_dataset(
    features: FeatureSet,
    targets: Targets,
    *,
    kernels: dict[Side, int],
    kinds: Collection[str] | None = None,
    exclude: Collection[str] = (),
    min_genes: int = 30,
    test: Sequence[str] = ("1",),
    absent: Sequence[str] = (),
    validation_fraction: float = 0.1,
    split_seed: int = 0,
) -> Dataset:
    """Join features and targets, split, and freeze what inputs are.

    Parameters
    ----------
    features : FeatureSet
        With positions (sites.npz): the largest bin scales the inputs.
    targets : Targets
    kernels : dict of Side to int
        Composite kernel width of the network's branches in bins.
    kinds : collection of str, optional
        Classes of tracks to use; all if not given.
    exclude : collection of str
        Sources of tracks not to use.
    min_genes : int
        Tracks annotated in fewer training genes are dropped.
    test, absent, validation_fraction, split_seed
        See `decode_zoo.expression.split_by_chromosome`.

    Raises
    ------
    InputError
        If no gene has both, the split leaks, or no track is left on a side.
    UsageError
        If the rows of the feature set are transcripts.
    """
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
        [features.rows.chroms[row] for row in rows], targets.gene_ids, test=test, absent=absent,
        validation_fraction=validation_fraction, seed=split_seed,
    )  # fmt: skip
    training = rows[split.training]
    inputs: dict[Side, Inputs] = {}
    for side in SIDES:
        annotated = (features.sums(side)[0][training] > 0).sum(axis=0)
        wanted = [
            i
            for i, track in enumerate(features.side_tracks[side])
            if annotated[i] >= min_genes
            and (kinds is None or track.kind in kinds)
            and track.source not in exclude
        ]
        if not wanted:
            raise InputError(f"no {side} track is annotated in {min_genes} training genes")
        largest = features.largest_bin(training, side)[wanted]
        inputs[side] = Inputs(
            tuple(features.side_tracks[side][i].name for i in wanted),
            np.concatenate(([features.layout.bin], largest)).astype(np.float64),
            kernels[side],
        )
    return Dataset(features, targets, rows, split, inputs, targets.outputs(split.training))
