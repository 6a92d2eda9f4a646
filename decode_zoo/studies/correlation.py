"""Pairs of genes, gone through in strips; what is said of them is read from counts.

Each score lies in one of `BINS` bins between -1 and 1, each 0.001 wide, apart from which nothing is
rounded. Scores of one bin count as equal, so that an area under the ROC curve is exact to half the
share of such ties.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from decode_zoo.core.arrays import BoolArray, FloatArray, IntArray, RealArray, SingleArray

__all__ = [
    "BINS",
    "Correlation",
    "PairScore",
    "Similarity",
    "Tally",
    "permuted_areas",
    "strong_pairs",
    "strongest_pairs",
    "tally_pairs",
    "unit_ranks",
]

BINS = 2000
# Of each of two scores that are ranked against each other.
_COARSE = 400
# Genes are drawn again in so many random groups at most, all pairs of two groups together.
_GROUPS = 100
# Of few samples, rho takes few values, which may lie on the edge of a bin or at the threshold:
# rounding must not decide on which side.
_ROUNDING = 1e-6
# Numbers held at a time when pairs are looked up one by one.
_LOOKED_UP = 4_000_000
# Co-expressed how; the last one are pairs of no interest: of a gene and itself, or seen before.
NEGATIVE, _OTHER, POSITIVE, _LEFT_OUT = range(4)


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho of genes over samples, or over tissues."""

    left: RealArray  # (n, m): ranks of unit length (`unit_ranks`) of a pair's first gene
    right: RealArray  # (n, m): of its second gene

    def block(self, rows: slice, columns: slice) -> RealArray:
        """Return scores of some genes with some others, shape (n_rows, n_columns)."""
        return np.asarray(self.left[rows] @ self.right[columns].T)

    def at(self, i: IntArray, j: IntArray) -> RealArray:
        """Return scores of single pairs, shape (n_pairs,)."""
        found, size = np.empty(len(i), np.float32), max(1, _LOOKED_UP // self.left.shape[1])
        for start in range(0, len(i), size):
            part = slice(start, start + size)
            np.einsum("ij,ij->i", self.left[i[part]], self.right[j[part]], out=found[part])
        return found


@dataclass(frozen=True)
class Similarity:
    """How close two genes are by one number: 1 if they are equal, 0 if they are at both ends."""

    values: RealArray  # (n,), from 0 to 1

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Similarity:
        """Bring numbers to the range from 0 to 1."""
        numbers = np.asarray(values, np.float64)
        span = float(np.ptp(numbers)) or 1.0
        return cls(((numbers - numbers.min()) / span).astype(np.float32))

    def block(self, rows: slice, columns: slice) -> RealArray:
        """Return scores of some genes with some others, shape (n_rows, n_columns)."""
        return np.float32(1) - np.abs(self.values[rows][:, None] - self.values[columns])

    def at(self, i: IntArray, j: IntArray) -> RealArray:
        """Return scores of single pairs, shape (n_pairs,)."""
        return np.float32(1) - np.abs(self.values[i] - self.values[j])


# A number between -1 and 1 for each pair of genes.
PairScore = Correlation | Similarity


def unit_ranks(values: RealArray) -> SingleArray:
    """Rank each row (n, m), centred and of length 1, so that products are Spearman's rho.

    Zeros, hence a rho of 0 with all others, where a row does not vary.
    """
    ranks = stats.rankdata(values, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(ranks, axis=1, keepdims=True)
    return np.asarray(ranks / np.where(norm > 0, norm, 1), np.float32)


# Counts of pairs


@dataclass(frozen=True)
class Tally:
    """How many pairs have which score, by bin."""

    counts: IntArray  # (3, BINS): of strongly negative pairs, others, strongly positive ones
    drawn: FloatArray  # (resamples, 3, BINS): of genes drawn with replacement
    joint: IntArray  # (400, 400): by bin, each 0.005 wide, of the measured rho and of the score

    @property
    def areas(self) -> tuple[float, float]:
        """Areas under the ROC curve: of either sign by absolute score, of positive pairs."""
        either, positive = _areas(self.counts)
        return float(either), float(positive)

    @property
    def drawn_areas(self) -> tuple[RealArray, RealArray]:
        """The same of each drawing, shape (resamples,) each; NaN where there is no such pair."""
        return _areas(self.drawn)

    @property
    def spearman(self) -> tuple[float, float]:
        """Spearman's rho over pairs of the score and the measured rho: of absolute values, signed.

        As if all pairs of a bin had its middle rank.
        """
        return pair_spearman(_folded(_folded(self.joint).T).T), pair_spearman(self.joint)


def _areas(counts: npt.NDArray[Any]) -> tuple[RealArray, RealArray]:
    negative, other, positive = (counts[..., k, :] for k in range(3))
    return (
        area_under_curve(_folded(negative + positive), _folded(other)),
        area_under_curve(positive, negative + other),
    )


def _folded(counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Count by the absolute value of the score, along the last axis."""
    middle = counts.shape[-1] // 2
    return np.asarray(counts[..., middle:] + counts[..., middle - 1 :: -1])


def area_under_curve(positive: npt.NDArray[Any], negative: npt.NDArray[Any]) -> RealArray:
    """Return the area under the ROC curve from counts (..., n_bins), in ascending order of score.

    NaN where there is none of either.
    """
    positive, negative = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    below = np.cumsum(negative, axis=-1) - negative / 2
    pairs = positive.sum(axis=-1) * negative.sum(axis=-1)
    return np.asarray((positive * below).sum(axis=-1) / np.where(pairs > 0, pairs, np.nan))


def tally_pairs(
    measured: PairScore,
    scores: Mapping[str, PairScore],
    n: int,
    *,
    threshold: float,
    symmetric: bool,
    resamples: int,
    seed: int,
    progress: Callable[[float], object] = lambda share: None,
) -> dict[str, Tally]:
    """Count pairs of n genes by what was measured (rho) and by each score.

    A symmetric pair is the same in either order, and counted once; a gene is never paired with
    itself. For the intervals genes are drawn, not pairs, which are not independent: a pair counts
    as often as its first gene was drawn times its second. Genes are drawn in up to a hundred groups
    of neighbours, so they must come in random order. `progress` takes the share that is done.
    """
    edges = _edges(n)
    groups = len(edges) - 1
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(groups, np.full(groups, 1 / groups), resamples)
    weights = drawn.astype(np.float32)
    counts = {name: np.zeros((3, BINS), np.int64) for name in scores}
    again = {name: np.zeros((resamples, 3 * BINS)) for name in scores}
    joint = {name: np.zeros(_COARSE * _COARSE, np.int64) for name in scores}
    group_of = np.repeat(np.arange(groups), np.diff(edges))
    for group, (rows, columns, left_out) in enumerate(_strips(n, symmetric)):
        rho = measured.block(rows, columns)
        kinds = _kinds(rho, threshold, left_out)
        first = group_of[columns][0]
        cell = ((group_of[columns] - first) * (4 * BINS))[None, :] + kinds * BINS
        kept = kinds != _LEFT_OUT
        coarse = _bins(rho, _COARSE)[kept] * _COARSE
        paired = weights[:, group, None] * weights[:, first:]
        for name, score in scores.items():
            values = score.block(rows, columns)
            found = np.bincount(
                (cell + _bins(values, BINS)).ravel(), minlength=(groups - first) * 4 * BINS
            ).reshape(-1, 4, BINS)[:, :3]
            counts[name] += found.sum(axis=0)
            again[name] += paired @ found.reshape(len(found), -1).astype(np.float32)
            joint[name] += np.bincount(
                coarse + _bins(values, _COARSE)[kept], minlength=_COARSE * _COARSE
            )
        progress((group + 1) / groups)
    return {
        name: Tally(
            counts[name], again[name].reshape(-1, 3, BINS), joint[name].reshape(_COARSE, _COARSE)
        )
        for name in scores
    }


def _edges(n: int) -> IntArray:
    """Where groups of genes begin and end."""
    return np.linspace(0, n, min(n, _GROUPS) + 1).round().astype(np.int64)


def _strips(n: int, symmetric: bool) -> Iterator[tuple[slice, slice, BoolArray]]:
    """Cut pairs into strips: first genes, second genes, and which of these are no pairs."""
    for start, stop in itertools.pairwise(_edges(n).tolist()):
        first = start if symmetric else 0
        rows, columns = np.arange(start, stop)[:, None], np.arange(first, n)[None, :]
        left_out = columns <= rows if symmetric else columns == rows
        yield slice(start, stop), slice(first, n), left_out


def _kinds(rho: RealArray, threshold: float, left_out: BoolArray) -> IntArray:
    """Separate strongly co-expressed pairs from others, and from what is no pair."""
    threshold += _ROUNDING
    kinds = np.full(rho.shape, _OTHER, np.int64)
    kinds[rho > threshold] = POSITIVE
    kinds[rho < -threshold] = NEGATIVE
    kinds[left_out] = _LEFT_OUT
    return kinds


def _bins(scores: RealArray, n: int) -> IntArray:
    """Bin of each score, of n between -1 and 1."""
    return np.asarray(np.clip((scores + (1 + _ROUNDING)) * (n / 2), 0, n - 1).astype(np.int64))


def pair_spearman(joint: npt.NDArray[Any]) -> float:
    """Return Spearman's rho of two scores over pairs, from counts (n_bins, n_bins) by bin of both.

    NaN if one is constant.
    """
    ranks = []
    for axis in (1, 0):
        margin = joint.sum(axis=axis).astype(np.float64)
        middle = np.cumsum(margin) - margin / 2
        centred = middle - (margin * middle).sum() / margin.sum()
        ranks.append((centred, (margin * centred**2).sum()))
    (x, xx), (y, yy) = ranks
    norm = float(np.sqrt(xx * yy))
    return float(x @ joint @ y) / norm if norm > 0 else np.nan


def strongest_pairs(
    score: PairScore, n: int, k: int, *, symmetric: bool
) -> tuple[IntArray, IntArray]:
    """Find the k pairs of largest absolute score, strongest first; of equal ones any."""
    best = np.empty((0, 3))
    least = -1.0
    for rows, columns, left_out in _strips(n, symmetric):
        size = np.abs(score.block(rows, columns)).astype(np.float64)
        size[left_out] = -1
        i, j = np.nonzero(size > least)
        found = np.stack([size[i, j], i + rows.start, j + columns.start], axis=1)
        best = np.concatenate([best, found])
        if len(best) > k:
            best = best[np.argpartition(-best[:, 0], k - 1)[:k]]
            least = best[:, 0].min()
    best = best[np.lexsort((best[:, 2], best[:, 1], -best[:, 0]))]
    return best[:, 1].astype(np.int64), best[:, 2].astype(np.int64)


def strong_pairs(
    measured: PairScore, n: int, *, threshold: float, symmetric: bool, share: float, seed: int
) -> tuple[IntArray, IntArray, BoolArray]:
    """List strongly co-expressed pairs, or a random share: first, second, whether positive."""
    generator = np.random.default_rng(seed)
    parts = []
    for rows, columns, left_out in _strips(n, symmetric):
        kinds = _kinds(measured.block(rows, columns), threshold, left_out)
        i, j = np.nonzero((kinds == POSITIVE) | (kinds == NEGATIVE))
        if share < 1:
            kept = generator.random(len(i)) < share
            i, j = i[kept], j[kept]
        parts.append((i + rows.start, j + columns.start, kinds[i, j] == POSITIVE))
    i, j, positive = (np.concatenate(part) for part in zip(*parts, strict=True))
    return i, j, positive


def permuted_areas(
    score: PairScore,
    tally: Tally,
    pairs: tuple[IntArray, IntArray, BoolArray],
    n: int,
    *,
    permutations: int,
    seed: int,
) -> FloatArray:
    """Separate the same pairs by scores that are permuted over genes, shape (permutations, 2).

    The scores of all pairs together stay what they are if genes change places, so that only those
    of strongly co-expressed pairs (`strong_pairs`) are looked up, and ranked among all. Columns are
    as `Tally.areas`.
    """
    i, j, positive = pairs
    every = tally.counts.sum(axis=0)
    rank, rank_of_size = _middle_ranks(every), _middle_ranks(_folded(every))
    shares = np.array([tally.counts[[NEGATIVE, POSITIVE]].sum(), tally.counts[POSITIVE].sum()])
    shares = shares / every.sum()
    generator = np.random.default_rng(seed)
    areas = np.full((permutations, 2), np.nan)
    for k in range(permutations):
        permuted = generator.permutation(n)
        bins = _bins(score.at(permuted[i], permuted[j]), BINS)
        sizes = np.where(bins >= BINS // 2, bins - BINS // 2, BINS // 2 - 1 - bins)
        for place, values in enumerate((rank_of_size[sizes], rank[bins[positive]])):
            if values.size and shares[place] < 1:
                # Ranks among the other pairs, from ranks among all.
                areas[k, place] = (values.mean() - shares[place] / 2) / (1 - shares[place])
    return areas


def _middle_ranks(counts: npt.NDArray[Any]) -> RealArray:
    """Share of pairs below each bin, and half of those in it."""
    return np.asarray((np.cumsum(counts) - counts / 2) / counts.sum())
