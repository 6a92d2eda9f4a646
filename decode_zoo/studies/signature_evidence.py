"""Evidence that regulators account for sets of genes: closed-form tests of all tracks at once.

Each statistic is linear in membership: a covariance over genes of membership with what a track
binds (or how alike predicted expression is), after both are freed of confounders. Under random
sets of genes its first three moments are known, which is what p-values come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import ndtr

from decode_zoo.core.arrays import BoolArray, FloatArray, IntArray
from decode_zoo.studies.signature_reference import GenePool, Reference

__all__ = [
    "Contrasts",
    "Evidence",
    "Matches",
    "adjusted",
    "cauchy",
    "chance",
    "contrasts",
    "gather",
    "ingredients",
    "likeness",
    "standardised",
    "standing",
    "upper_tail",
    "weighted",
]

# Columns that vary less than that do not vary.
_FLAT = 1e-6
# Weakest directions of expression count as if they had this share of the strongest one's variance.
_RIDGE = 0.02
# P-values next to one would undo any other in a Cauchy combination.
_LARGEST_P = 0.9
_BLOCK = 256


def adjusted(columns: npt.NDArray[Any], basis: FloatArray) -> npt.NDArray[Any]:
    """Free columns of what a basis explains; their type is kept, their mean is 0."""
    own = basis.astype(columns.dtype)
    return np.asarray(columns - own @ (own.T @ columns))


@dataclass(frozen=True, repr=False)
class Contrasts:
    """Sets of genes, as what their membership is beyond confounders.

    `values`, shape (n_genes, n_sets), have mean 0 and variance 1.
    """

    values: npt.NDArray[np.float32]
    skewness: FloatArray
    sizes: IntArray

    def tests(self, columns: npt.NDArray[np.float32], basis: FloatArray) -> FloatArray:
        """Return standard normal scores of the covariance of each set with each column.

        `columns` is what tracks bind, not yet adjusted. Scores, shape (n_sets, n_columns), are
        positive where members are bound more, and 0 for a column that confounders explain.
        """
        found = np.zeros((self.values.shape[1], columns.shape[1]))
        for start in range(0, columns.shape[1], _BLOCK):
            part, skewness = _standard(adjusted(columns[:, start : start + _BLOCK], basis))
            raw = (self.values.T @ part).astype(np.float64) / np.sqrt(len(part))
            found[:, start : start + _BLOCK] = _normal(
                raw, np.outer(self.skewness, skewness) / np.sqrt(len(part))
            )
        return found


def contrasts(members: BoolArray, basis: FloatArray) -> Contrasts:
    """Free membership in sets, shape (n_genes, n_sets), of confounders."""
    values, skewness = _standard(adjusted(members.astype(np.float32), basis))
    return Contrasts(values, skewness, members.sum(axis=0))


def _standard(columns: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], FloatArray]:
    """Columns of mean 0 with variance 1 (0 if they are flat), and their skewness."""
    spread = np.sqrt(np.einsum("ij,ij->j", columns, columns) / len(columns))
    with np.errstate(divide="ignore"):
        columns = columns * np.where(spread > _FLAT, 1 / spread, 0).astype(np.float32)
    return columns, np.asarray(
        np.einsum("ij,ij,ij->j", columns, columns, columns) / len(columns), np.float64
    )


def _normal(standard: FloatArray, skewness: FloatArray) -> FloatArray:
    """Turn values of Pearson's type III distribution into normal ones (Wilson and Hilferty).

    A short list against a track of few genes is closer to Poisson than to normal: its skewness is
    the product of both over the root of the number of genes.
    """
    slight = np.abs(skewness) < 1e-4
    skew = np.where(slight, 1.0, skewness)
    bent = (6 / skew) * (np.cbrt(np.maximum(skew * standard / 2 + 1, 1e-9)) - 1) + skew / 6
    return np.where(slight, standard, bent)


@dataclass(frozen=True, repr=False)
class Matches:
    """How alike genes of regulators and sets are in predicted expression; (n_sets, n_regulators).

    `cosine` is between the mean of a set, without the regulator's own gene, and the regulator's
    gene, over outputs that are made independent; `z` is standard normal for random sets.
    """

    cosine: FloatArray
    z: FloatArray


def likeness(
    profiles: npt.NDArray[np.float32], own: IntArray, sets: Contrasts, basis: FloatArray
) -> Matches:
    """Compare what models predict for sets with what they predict for regulators' own genes.

    `profiles` are predicted log2 fold changes, `own` the row of each regulator's gene.
    """
    centred = profiles - profiles.mean(axis=0)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    shapes = (centred / np.maximum(length, _FLAT)).astype(np.float64)
    variances, axes = np.linalg.eigh(shapes.T @ shapes / len(shapes))
    axes /= np.sqrt(np.maximum(variances, _RIDGE * variances[-1]))
    white = shapes @ axes
    means = sets.values.astype(np.float64).T @ white
    regulators = white[own]
    selves = sets.values[own].T * (regulators**2).sum(axis=1)
    norms = np.linalg.norm(means, axis=1)[:, None] * np.linalg.norm(regulators, axis=1)
    free = adjusted(white, basis)
    spread = np.sqrt(np.einsum("ij,jk,ik->i", regulators, free.T @ free, regulators))
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.where(norms > 0, (means @ regulators.T - selves) / norms, 0)
        z = np.where(spread > 0, (means @ regulators.T - selves) / spread, 0)
    return Matches(cosine, z)


def cauchy(p: FloatArray, groups: Sequence[int], n_groups: int) -> FloatArray:
    """Combine p-values by groups of columns; they may depend on each other (Liu and Xie 2020).

    0.5 for a group without columns: nothing is known.
    """
    bounded = np.clip(p, 1e-300, _LARGEST_P)
    # tan loses all digits next to its pole, where it is 1 / (pi p).
    angles = np.where(bounded < 1e-8, 1 / (np.pi * bounded), np.tan(np.pi * (0.5 - bounded)))
    codes = np.asarray(groups, np.int64)
    spread = sparse.csr_array(
        (np.ones(len(codes)), (np.arange(len(codes)), codes)), shape=(len(codes), n_groups)
    )
    mean = (angles @ spread) / np.maximum(np.bincount(codes, minlength=n_groups), 1)
    return np.asarray(np.arctan2(1, mean) / np.pi)  # 1/2 - arctan(mean)/pi, without cancellation


def upper_tail(z: FloatArray) -> FloatArray:
    """Return how likely a standard normal value is at least `z`."""
    return np.asarray(ndtr(-z))


@dataclass(frozen=True, repr=False)
class Evidence:
    """What speaks for each regulator, by signature.

    `binding`, shape (n_sets, n_tracks), is standard normal for random sets; `own`, (n_sets,
    n_regulators), whether its own gene is a member; `match` is of the regulators with a gene, in
    their order.
    """

    sizes: IntArray
    binding: FloatArray
    own: npt.NDArray[np.bool_]
    match: Matches


def gather(pool: GenePool, members: npt.NDArray[np.bool_]) -> Evidence:
    """Test all tracks and regulators against sets of genes, (n_genes, n_sets)."""
    sets = contrasts(members, pool.basis)
    genic = pool.own >= 0
    own = np.zeros((members.shape[1], len(pool.regulators)), bool)
    own[:, genic] = members[pool.own[genic]].T
    match = likeness(pool.profiles, pool.own[genic], sets, pool.basis)
    return Evidence(sets.sizes, sets.tests(pool.bound, pool.basis), own, match)


def standing(pool: GenePool, evidence: Evidence, reference: Reference) -> FloatArray:
    """Scores of tracks against what they usually are in signatures, shape (n_sets, n_tracks).

    Means grow with the root of a signature's size, excess variances with the size.
    """
    usual = np.array(
        [reference.tracks.get(track.name, (0.0, reference.usual_spread)) for track in pool.tracks]
    ).reshape(-1, 2)
    share = evidence.sizes[:, None] / reference.set_size
    spread = np.sqrt(1 + np.maximum(usual[:, 1] ** 2 - 1, 0) * share)
    return np.asarray((evidence.binding - usual[:, 0] * np.sqrt(share)) / spread)


def ingredients(pool: GenePool, evidence: Evidence, reference: Reference) -> dict[str, FloatArray]:
    """Return what a score adds up, before weights: each of shape (n_sets, n_regulators).

    ``binding`` is the largest standing among a regulator's tracks and ``match`` the cosine, both
    in standard deviations over regulators and 0 for those without; ``own`` is the surprise, in
    nats, that its own gene is a member.
    """
    genic = pool.own >= 0
    best = np.full((len(evidence.sizes), len(pool.regulators)), -np.inf)
    np.maximum.at(best.T, pool.track_of, standing(pool, evidence, reference).T)
    match = np.full_like(best, -np.inf)
    match[:, genic] = evidence.match.cosine
    usual = np.array(
        [reference.frequencies.get(gene, reference.usual_frequency) for gene in pool.genes]
    )
    # A gene is in a set the more often, the more of the background is.
    share = evidence.sizes[:, None] / len(pool.rows)
    expected = usual * share / (reference.set_size / reference.background)
    return {
        "binding": standardised(best),
        "own": evidence.own.astype(np.float64) * -np.log(np.minimum(1, expected)),
        "match": standardised(match),
    }


def standardised(values: FloatArray) -> FloatArray:
    """Z-scores over the finite values of each row; 0 for the others."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        filled = np.where(there, values, np.nan)
    if not there.any():
        return np.zeros_like(values)
    mean, spread = np.nanmean(filled, axis=1), np.nanstd(filled, axis=1)
    spread = np.where(spread > 0, spread, 1)
    return np.where(there, (filled - mean[:, None]) / spread[:, None], 0)


def weighted(pool: GenePool, evidence: Evidence, reference: Reference) -> dict[str, FloatArray]:
    """Return the ingredients times their weights: a score is their sum."""
    found = ingredients(pool, evidence, reference)
    return {name: weight * found[name] for name, weight in reference.weights.items()}


def chance(pool: GenePool, evidence: Evidence) -> FloatArray:
    """P-values of the evidence under random sets of genes, shape (n_sets, n_regulators).

    One for the tracks of a regulator (Cauchy combination), one for the match, one for the own gene
    (1/2 if it is no member), and these combined; 1 for a regulator of which nothing is known.
    """
    n, genic = len(pool.regulators), np.flatnonzero(pool.own >= 0)
    tracked = np.unique(pool.track_of)
    bound = cauchy(upper_tail(evidence.binding), pool.track_of.tolist(), n)[:, tracked]
    share = evidence.sizes[:, None] / len(pool.rows)
    own = np.where(evidence.own[:, genic], share, 0.5)
    parts = np.hstack([bound, upper_tail(evidence.match.z), own])
    p = cauchy(parts, [*tracked.tolist(), *genic.tolist(), *genic.tolist()], n)
    p[:, np.setdiff1d(np.arange(n), np.union1d(tracked, genic))] = 1
    return p
