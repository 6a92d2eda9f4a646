"""What a network trains on: inputs and scaled targets of the same genes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from decode_zoo.cohort.expression import Targets
from decode_zoo.core.arrays import IntArray, SingleArray
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.features.genome import canonical_name
from decode_zoo.features.spec import SIDES, Side
from decode_zoo.networks.inputs import BoundFeatures, align_tracks
from decode_zoo.networks.manifest import Output, Split

__all__ = [
    "PARTS",
    "Dataset",
    "SplitRows",
    "known_genes",
    "make_dataset",
    "split_by_chromosome",
    "split_genes",
]

# Of a split.
PARTS = ("training", "validation", "test")

_CHROMOSOME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._|-]*")


@dataclass(frozen=True)
class Dataset:
    """Genes with features and expression, n of them. Made by `make_dataset`.

    `rows` are the genes' rows in the feature set, `split` rows of `targets`. `tracks` are named in
    channel order; channel 0 is the mask channel, before them. `scale`, shape (1 + n_tracks,) a
    side, is the largest bin value over training genes in bases: networks divide their inputs by it.
    """

    selection: Split
    targets: Targets
    rows: IntArray
    split: SplitRows
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

    def pooled(self, part: IntArray) -> dict[Side, SingleArray]:
        """Add up the bins of some rows of `targets`, in bases: (n, kernel, 1 + n_tracks) a side."""
        return {side: sums.dense() for side, sums in self.bound.pooled(self.rows[part]).items()}

    def full(self, part: IntArray) -> dict[Side, SingleArray]:
        """Return full matrices of some rows of `targets`, padded by kernel - 1 empty bins."""
        return self.bound.full(self.rows[part])

    def scaled(self, inputs: Mapping[Side, SingleArray]) -> dict[str, SingleArray]:
        """Divide inputs in bases by their scale."""
        return {
            side: (values / self.scale[side]).astype(np.float32) for side, values in inputs.items()
        }

    def scaled_targets(self, part: IntArray) -> SingleArray:
        """Return targets of some rows in units of the output scales, shape (n, n_outputs)."""
        return (self.targets.values[part] / self.output_scale).astype(np.float32)

    @property
    def output_scale(self) -> npt.NDArray[np.float64]:
        """The outputs' units, shape (n_outputs,)."""
        return np.array([output.scale for output in self.outputs])


def make_dataset(
    features: FeatureSet,
    targets: Targets,
    kernels: Mapping[Side, int],
    selection: Split | None = None,
) -> Dataset:
    """Join features and targets, split, and freeze what inputs are.

    The feature set must be at gene level and have positions (sites.npz): the largest bin scales the
    inputs. `kernels` are the composite kernel widths of the network's branches in bins.
    """
    selection = selection or Split()
    targets, rows = known_genes(features, targets)
    split = split_genes(features, targets, rows, selection)
    training = rows[split.training]
    tracks = {side: _annotated_tracks(features, side, training, selection) for side in SIDES}
    scale = {}
    for side in SIDES:
        largest = features.largest_bin(training, side)[features.columns(side, tracks[side])]
        scale[side] = np.concatenate(([features.layout.bin], largest)).astype(np.float64)
    bound = align_tracks(features, tracks, kernels, layout=features.layout)
    outputs = targets.outputs(split.training)
    return Dataset(selection, targets, rows, split, tracks, scale, bound, outputs)


def known_genes(features: FeatureSet, targets: Targets) -> tuple[Targets, IntArray]:
    """Return targets of the genes that the feature set has, and their rows there."""
    if features.layout.level != "gene":
        raise UsageError("Models of gene expression train on feature sets at gene level.")
    row_of = {name: i for i, name in enumerate(features.rows.gene_ids)}
    known = np.array([i for i, gene in enumerate(targets.gene_ids) if gene in row_of], np.int64)
    if not known.size:
        raise InputError(
            "no gene of the expression matrix is in the feature set",
            remedy="Are both by Ensembl gene id?",
        )
    targets = targets.take(known)
    return targets, np.array([row_of[gene] for gene in targets.gene_ids], np.int64)


def split_genes(
    features: FeatureSet, targets: Targets, rows: IntArray, selection: Split
) -> SplitRows:
    """Split targets, whose genes are those rows of the feature set, by chromosome."""
    return split_by_chromosome(
        [features.rows.chroms[row] for row in rows],
        targets.gene_ids,
        test=selection.test,
        absent=selection.absent,
        validation_fraction=selection.validation_fraction,
        seed=selection.split_seed,
    )


def _annotated_tracks(
    features: FeatureSet, side: Side, training: IntArray, selection: Split
) -> tuple[str, ...]:
    """Name the tracks that are selected and annotated in enough training genes."""
    known = {track.kind for tracks in features.side_tracks.values() for track in tracks}
    if unknown := sorted(set(selection.kinds or ()) - known):
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


@dataclass(frozen=True)
class SplitRows:
    """Disjoint rows of genes for training, for choosing, and for reporting."""

    training: IntArray
    validation: IntArray
    test: IntArray


def split_by_chromosome(
    chroms: Sequence[str],
    genes: Sequence[str],
    *,
    test: Sequence[str] = ("1",),
    absent: Sequence[str] = (),
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> SplitRows:
    """Split genes: whole chromosomes for the test, a random part of the rest for validation.

    ``chr1``, ``1`` and ``NC_000001.11`` are the same chromosome. Rows of one gene (its transcripts)
    stay together. There may be no row on an absent chromosome; with no `test` there is no test
    part. `validation_fraction` is of the genes that are neither tested nor absent.
    """
    canonical = {name: canonical_name(name) for name in set(chroms)}
    where = np.array([canonical[name] for name in chroms], dtype=object)
    held_out, left_out = _chosen(test, "test"), _chosen(absent, "absent")
    if "" in where:
        gene = genes[where.tolist().index("")]
        raise InputError(f"gene {gene} has no chromosome, so it cannot be split by it")
    there = sorted(
        set(where), key=lambda name: (int(name), "") if name.isdecimal() else (1 << 31, name)
    )
    for name in held_out:
        if name not in there:
            raise UsageError(
                f"No gene lies on the test chromosome '{name}'.",
                remedy=f"There are: {', '.join(there)}.",
            )
        if name in left_out:
            raise UsageError(f"Chromosome '{name}' cannot be both tested on and left out.")
    rest = np.flatnonzero(~np.isin(where, [*held_out, *left_out]))
    names = sorted({genes[int(row)] for row in rest})
    chosen = np.random.default_rng(seed).permutation(len(names))
    validation = {names[i] for i in chosen[: round(validation_fraction * len(names))]}
    held = np.array([genes[int(row)] in validation for row in rest], np.bool_)
    split = SplitRows(rest[~held], rest[held], np.flatnonzero(np.isin(where, held_out)))
    if not split.training.size:
        raise InputError(
            f"no gene is left for training: of {len(where)}, {split.test.size} are on test "
            f"chromosomes, {split.validation.size} are for validation, and the others are left out",
            remedy="Test on fewer chromosomes, or leave fewer out.",
        )
    return split


def _chosen(names: Sequence[str], what: str) -> list[str]:
    """Return canonical names of the chromosomes that the caller chose."""
    # A single text would be taken letter by letter: '12' as chromosomes 1 and 2.
    if isinstance(names, str):
        raise UsageError(
            f"Give a list of {what} chromosomes, not a single text.", remedy=f"{what}=({names!r},)"
        )
    found = [canonical_name(name) for name in names]
    for name, canonical in zip(names, found, strict=True):
        if not _CHROMOSOME.fullmatch(canonical):
            raise UsageError(
                f"{name!r} is no name of a chromosome ({what}).",
                remedy="Name one at a time, for example: chr8",
            )
    return found
