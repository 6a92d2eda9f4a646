"""What signatures are compared with: genes of a background, and signatures of perturbed TFs."""

from __future__ import annotations

import gzip
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.core.arrays import FloatArray, IntArray
from decode_zoo.core.errors import InputError, UsageError, VerificationError
from decode_zoo.core.schema import from_plain, parse_json
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.features.spec import Side, Track
from decode_zoo.zoo.model import Model

__all__ = [
    "GenePool",
    "Reference",
    "choose_background",
    "key_of",
    "make_gene_pool",
    "orthonormal",
    "read_reference",
]

_log = logging.getLogger(__name__)

# Fewer genes cannot bear three dozen confounders.
FEWEST_BACKGROUND = 1_000
# Confounders that add less than that to those before them are none of their own.
_FLAT = 1e-6
# A track of fewer genes has no distribution to speak of.
FEWEST_TARGETS = 10
# Tracks by side that are regulators, not chromatin.
_KINDS: Mapping[Side, frozenset[str]] = {
    "promoter": frozenset({"tf", "tf_target"}),
    "rna": frozenset({"rbp", "rbp_other", "mirna"}),
}


@dataclass(frozen=True)
class Reference:
    """What signatures of perturbed TFs have in common (``python -m benchmarks.signature --fit``).

    Typical number of their genes (`set_size`), genes that they were compared with (`background`),
    weights of ``binding``, ``own`` and ``match``, share of signatures that a gene is in, spread of
    a track's scores over signatures. By track, mean and spread of its scores; by TF, its gene id
    ('' without), and by that id the share of signatures that the gene is in.
    """

    format_version: int
    set_size: float
    background: int
    weights: Mapping[str, float]
    usual_frequency: float
    usual_spread: float
    tracks: Mapping[str, tuple[float, float]]
    regulators: Mapping[str, str]
    frequencies: Mapping[str, float]


@lru_cache(maxsize=1)
def read_reference() -> Reference:
    """Read the reference that the package carries."""
    path = Path(__file__).with_name("signature_reference.json.gz")
    try:
        return from_plain(Reference, parse_json(gzip.decompress(path.read_bytes())))
    except (OSError, EOFError, ValueError) as error:
        raise VerificationError(
            f"{path} cannot be read ({error}).", remedy="Install decode-zoo again."
        ) from error


@dataclass(frozen=True, repr=False)
class GenePool:
    """The genes that signatures are compared with, and what is known of them.

    `basis`, shape (n_genes, rank), are confounders; `bound`, (n_genes, n_tracks), roots of covered
    bases, 1 for a target gene of which no positions are known; `profiles`, (n_genes, n_outputs),
    predicted log2 fold changes. Regulators are in alphabetical order; `track_of` is the regulator
    of each track, `genes` the id of each regulator's own gene ('' without), `own` its row here (-1
    without).
    """

    rows: IntArray
    basis: FloatArray
    bound: npt.NDArray[np.float32]
    tracks: tuple[Track, ...]
    profiles: npt.NDArray[np.float32]
    regulators: tuple[str, ...]
    track_of: IntArray
    genes: tuple[str, ...]
    own: IntArray


def choose_background(features: FeatureSet, genes: Iterable[str] | None) -> IntArray:
    """Return the rows of the genes to compare with: by default all that code for proteins."""
    if features.layout.level != "gene":
        raise UsageError(
            f"{features.name} is at {features.layout.level} level.",
            remedy="Signatures need a feature set of genes.",
        )
    if genes is None:
        rows = np.flatnonzero(np.array(features.rows.biotypes) == "protein_coding")
    else:
        queries = list(genes)
        found = features.index.resolve(queries)
        rows = np.unique(found.rows[found.rows >= 0])
        unknown = sum(status in ("unknown_gene", "ambiguous_symbol") for status in found.status)
        if unknown:
            _log.warning(
                "%d of %d background genes are unknown and left out", unknown, len(queries)
            )
    if len(rows) < FEWEST_BACKGROUND:
        raise InputError(
            f"the background has {len(rows)} known genes, {FEWEST_BACKGROUND} are needed",
            remedy="Give all genes that were measured (--background FILE), not only those that "
            "changed.",
        )
    return rows


def make_gene_pool(
    features: FeatureSet,
    model: Model,
    predicted: pd.DataFrame,
    rows: IntArray,
    side: Side,
    reference: Reference,
) -> GenePool:
    """Gather what tracks bind, what the model predicts, and the confounders of both, by row."""
    kinds = {output.name: output.kind for output in model.manifest.outputs}
    folds = [name for name, kind in kinds.items() if kind == "fold_change"]
    if len(folds) < 2:
        raise UsageError(
            f"{model.id} predicts {len(folds)} fold changes, two are needed.",
            remedy="Choose a model of tissues, such as gtex-tissue-v1.",
        )
    values = predicted[list(kinds)].to_numpy(np.float32)
    values = np.where(np.isnan(values), np.nanmean(values, axis=0), values)
    profiles = values[:, [list(kinds).index(name) for name in folds]]
    levels = [values[:, i] for i, kind in enumerate(kinds.values()) if kind == "median"]
    basis = orthonormal(_confounders(features, rows, side, [*levels, profiles.std(axis=1)]))
    bound, tracks = _bound(features, rows, side)
    names, track_of, genes = _regulators(features, tracks, side, reference)
    place = np.full(len(features), -1, np.int64)
    place[rows] = np.arange(len(rows))
    ids = tuple(features.rows.ids[gene] if gene >= 0 else "" for gene in genes)
    own = np.where(genes >= 0, place[genes], -1)
    return GenePool(rows, basis, bound, tracks, profiles, names, track_of, ids, own)


def _confounders(
    features: FeatureSet, rows: IntArray, side: Side, expression: Sequence[npt.NDArray[np.float32]]
) -> FloatArray:
    """Length, numbers of factors bound, open chromatin and CpG, expression and its breadth."""
    lengths = np.array(features.rows.rna_lengths, np.float64)[rows]
    columns = [np.log(lengths + 200), *expression]
    sums = features.sums("promoter")[0][rows]
    groups: dict[str, list[int]] = {}
    for i, track in enumerate(features.side_tracks["promoter"]):
        library = track.name.partition(":")[0] if track.kind == "tf_target" else track.kind
        groups.setdefault(library, []).append(i)
    targets = [i for i, t in enumerate(features.side_tracks["promoter"]) if t.kind == "tf_target"]
    for library, chosen in groups.items():
        part = sums[:, chosen]
        if library in ("open", "sequence"):
            columns.append(np.sqrt(np.asarray(part.sum(axis=1)).ravel()))
        elif library != "histone":
            count = np.asarray((part > 0).sum(axis=1)).ravel()
            columns.append(np.sqrt(count))
            if library == "tf":
                columns.append(np.log1p(count))
    columns.append(np.log1p(np.asarray((sums[:, targets] > 0).sum(axis=1)).ravel()))
    if side == "rna":
        bound = features.sums("rna")[0][rows] > 0
        columns.append(np.log1p(np.asarray(bound.sum(axis=1)).ravel()))
    return np.array(columns, np.float64).T


def _bound(
    features: FeatureSet, rows: IntArray, side: Side
) -> tuple[npt.NDArray[np.float32], tuple[Track, ...]]:
    sums = features.sums(side)[0][rows].tocsc()
    targets = np.diff(sums.indptr)
    chosen = [
        i
        for i, track in enumerate(features.side_tracks[side])
        if track.kind in _KINDS[side] and targets[i] >= FEWEST_TARGETS
    ]
    tracks = tuple(features.side_tracks[side][i] for i in chosen)
    bound = np.sqrt(sums[:, chosen].astype(np.float32).toarray(order="F"))
    listed = [i for i, track in enumerate(tracks) if track.kind == "tf_target"]
    bound[:, listed] = bound[:, listed] > 0
    return bound, tracks


def key_of(name: str) -> str:
    """Return what the names of a regulator in different libraries share: NKX2-1, NKX21."""
    return name.upper().replace("-", "")


def _regulators(
    features: FeatureSet, tracks: Sequence[Track], side: Side, reference: Reference
) -> tuple[tuple[str, ...], IntArray, IntArray]:
    """Names of regulators, the regulator of each track, and the row of each one's gene."""
    spelled: dict[str, Counter[str]] = {}
    for track in tracks:
        spelled.setdefault(key_of(track.regulator), Counter())[track.regulator] += 1
    names = {
        key: min(found, key=lambda name: (-found[name], name)) for key, found in spelled.items()
    }
    genes: dict[str, str] = {}
    if side == "promoter":  # one spelling for all of its TFs: that of the reference
        names.update({key_of(name): name for name in reference.regulators})
        genes = {key_of(name): gene for name, gene in reference.regulators.items()}
    keys = sorted(names, key=lambda key: names[key])
    code = {key: i for i, key in enumerate(keys)}
    rows = features.index.resolve([genes.get(key) or names[key] for key in keys]).rows
    return (
        tuple(names[key] for key in keys),
        np.array([code[key_of(track.regulator)] for track in tracks], np.int64),
        rows,
    )


def orthonormal(columns: FloatArray) -> FloatArray:
    """Return an orthonormal basis of confounders, their squares and cubes, and a constant."""
    spread = columns.std(axis=0)
    z = (columns - columns.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    powers = np.hstack([np.ones((len(z), 1)), z, z**2, z**3])
    powers /= np.linalg.norm(powers, axis=0)
    left, values, _ = np.linalg.svd(powers, full_matrices=False)
    return np.asarray(left[:, values > _FLAT * values[0]])
