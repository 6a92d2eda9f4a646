"""Scores of regulators: three pieces of evidence, added up, and their chance under random sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from decode_zoo.studies.signature.evidence import (
    Matches,
    cauchy,
    contrasts,
    likeness,
    upper_tail,
)
from decode_zoo.studies.signature.scene import Reference, Scene

__all__ = ["Evidence", "chance", "gather", "ingredients", "standardised", "standing", "weighted"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


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


def gather(scene: Scene, members: npt.NDArray[np.bool_]) -> Evidence:
    """Test all tracks and regulators against sets of genes, (n_genes, n_sets)."""
    sets = contrasts(members, scene.basis)
    genic = scene.own >= 0
    own = np.zeros((members.shape[1], len(scene.regulators)), bool)
    own[:, genic] = members[scene.own[genic]].T
    match = likeness(scene.profiles, scene.own[genic], sets, scene.basis)
    return Evidence(sets.sizes, sets.tests(scene.bound, scene.basis), own, match)


def standing(scene: Scene, evidence: Evidence, reference: Reference) -> FloatArray:
    """Scores of tracks against what they usually are in signatures, shape (n_sets, n_tracks).

    Means grow with the root of a signature's size, excess variances with the size.
    """
    usual = np.array(
        [reference.tracks.get(track.name, (0.0, reference.usual_spread)) for track in scene.tracks]
    ).reshape(-1, 2)
    share = evidence.sizes[:, None] / reference.set_size
    spread = np.sqrt(1 + np.maximum(usual[:, 1] ** 2 - 1, 0) * share)
    return np.asarray((evidence.binding - usual[:, 0] * np.sqrt(share)) / spread)


def ingredients(scene: Scene, evidence: Evidence, reference: Reference) -> dict[str, FloatArray]:
    """Return what a score adds up, before weights: each of shape (n_sets, n_regulators).

    ``binding`` is the largest standing among a regulator's tracks and ``match`` the cosine, both
    in standard deviations over regulators and 0 for those without; ``own`` is the surprise, in
    nats, that its own gene is a member.
    """
    genic = scene.own >= 0
    best = np.full((len(evidence.sizes), len(scene.regulators)), -np.inf)
    np.maximum.at(best.T, scene.track_of, standing(scene, evidence, reference).T)
    match = np.full_like(best, -np.inf)
    match[:, genic] = evidence.match.cosine
    usual = np.array(
        [reference.frequencies.get(gene, reference.usual_frequency) for gene in scene.genes]
    )
    # A gene is in a set the more often, the more of the background is.
    share = evidence.sizes[:, None] / len(scene.rows)
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


def weighted(scene: Scene, evidence: Evidence, reference: Reference) -> dict[str, FloatArray]:
    """Return the ingredients times their weights: a score is their sum."""
    found = ingredients(scene, evidence, reference)
    return {name: weight * found[name] for name, weight in reference.weights.items()}


def chance(scene: Scene, evidence: Evidence) -> FloatArray:
    """P-values of the evidence under random sets of genes, shape (n_sets, n_regulators).

    One for the tracks of a regulator (Cauchy combination), one for the match, one for the own gene
    (1/2 if it is no member), and these combined; 1 for a regulator of which nothing is known.
    """
    n, genic = len(scene.regulators), np.flatnonzero(scene.own >= 0)
    tracked = np.unique(scene.track_of)
    bound = cauchy(upper_tail(evidence.binding), scene.track_of.tolist(), n)[:, tracked]
    share = evidence.sizes[:, None] / len(scene.rows)
    own = np.where(evidence.own[:, genic], share, 0.5)
    parts = np.hstack([bound, upper_tail(evidence.match.z), own])
    p = cauchy(parts, [*tracked.tolist(), *genic.tolist(), *genic.tolist()], n)
    p[:, np.setdiff1d(np.arange(n), np.union1d(tracked, genic))] = 1
    return p
