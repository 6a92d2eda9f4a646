"""Signature: which regulators account for a set of genes, beyond what any set of genes shows.

Three pieces of evidence a regulator: its tracks bind the genes more than their length, the number
of factors bound and their expression let expect; its own gene is among them; and the model
predicts for its own gene what it predicts for them. Weights and usual values (`Reference`) come
from signatures of perturbed TFs (benchmarks/signature.py, docs/signature.md).
"""

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
from scipy import stats

from decode_zoo.errors import InputError, UsageError, VerificationError
from decode_zoo.features import FeatureSet
from decode_zoo.layout import Side
from decode_zoo.model import Model
from decode_zoo.records import from_plain, parse_json
from decode_zoo.sites import Track
from decode_zoo.studies.signature.evidence import (
    Contrasts,
    Matches,
    cauchy,
    contrasts,
    likeness,
    orthonormal,
    upper_tail,
)
from decode_zoo.studies.signature.lists import Signature

__all__ = ["COLUMNS", "Evidence", "Reference", "Scene", "SignatureStudy", "read_reference",
           "score", "study_signatures"]  # fmt: skip

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_log = logging.getLogger(__name__)

COLUMNS = ("signature", "regulator", "rank", "score", "p", "q")
FEWEST_GENES = 5
# Fewer genes cannot bear three dozen confounders.
FEWEST_BACKGROUND = 1_000
# A track of fewer genes has no distribution to speak of.
FEWEST_TARGETS = 10
# Tracks by side that are regulators, not chromatin.
_KINDS: Mapping[Side, frozenset[str]] = {
    "promoter": frozenset({"tf", "tf_target"}),
    "rna": frozenset({"rbp", "rbp_other", "mirna"}),
}
# Rows that are tested at a time with millions of scores.
_SETS = 500


@dataclass(frozen=True)
class Reference:
    """What signatures of perturbed TFs have in common.

    Attributes
    ----------
    format_version : int
    set_size : float
        Typical number of their genes.
    weights : Mapping[str, float]
        Of ``binding``, ``own`` and ``match``.
    usual_frequency : float
        Share of signatures that a gene is in.
    usual_spread : float
        Spread of a track's scores over signatures.
    tracks : Mapping[str, tuple of float]
        Track → mean and spread of its scores.
    regulators : Mapping[str, str]
        TF → gene id, '' without; those without a track are ranked by their other evidence.
    frequencies : Mapping[str, float]
        Gene id of a regulator → share of signatures that it is in.
    """

    format_version: int
    set_size: float
    weights: Mapping[str, float]
    usual_frequency: float
    usual_spread: float
    tracks: Mapping[str, tuple[float, float]]
    regulators: Mapping[str, str]
    frequencies: Mapping[str, float]


@lru_cache(maxsize=1)
def read_reference() -> Reference:
    """Read the reference that the package carries.

    Raises
    ------
    VerificationError
        If the installation is damaged.
    """
    path = Path(__file__).with_name("reference.json.gz")
    try:
        found = from_plain(Reference, parse_json(gzip.decompress(path.read_bytes())))
    except (OSError, EOFError, ValueError) as error:
        raise VerificationError(f"{path} cannot be read ({error}).",
                                remedy="Install decode-zoo again.") from error  # fmt: skip
    return found


@dataclass(frozen=True, repr=False)
class Scene:
    """The genes that signatures are compared with, and what is known of them.

    Attributes
    ----------
    rows : ndarray of int64, shape (n_genes,)
        Rows of the feature set.
    basis : ndarray of float64, shape (n_genes, rank)
        Confounders.
    bound : ndarray of float32, shape (n_genes, n_tracks)
        Roots of covered bases; 1 for a target gene of which no positions are known.
    tracks : tuple of Track
    profiles : ndarray of float32, shape (n_genes, n_outputs)
        Predicted log2 fold changes.
    regulators : tuple of str
        Names, in alphabetical order.
    track_of : ndarray of int64, shape (n_tracks,)
        Regulator of each track.
    genes : tuple of str
        Id of each regulator's own gene, '' without.
    own : ndarray of int64, shape (n_regulators,)
        Row of that gene in this scene, -1 without.
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


@dataclass(frozen=True, repr=False)
class Evidence:
    """What speaks for each regulator, by signature.

    Attributes
    ----------
    sizes : ndarray of int64, shape (n_sets,)
    binding : ndarray of float64, shape (n_sets, n_tracks)
        Standard normal for random sets.
    own : ndarray of bool, shape (n_sets, n_regulators)
        Whether its own gene is a member.
    match : Matches
        Of regulators with a gene, in their order.
    """

    sizes: IntArray
    binding: FloatArray
    own: npt.NDArray[np.bool_]
    match: Matches


@dataclass(frozen=True, repr=False)
class SignatureStudy:
    """What came of a study.

    Attributes
    ----------
    ranks : DataFrame
        `COLUMNS`, regulators of each signature from the first rank on.
    details : DataFrame
        The same rows: ``own_gene`` (whether it is in the signature), ``match`` (cosine),
        ``tracks`` (how many), ``best_track`` and its ``z``.
    explained : DataFrame
        ``signature``, ``output``, ``auroc`` of the prediction for membership, ``p``, ``q``, and
        ``spearman`` with log2 fold changes where these are known.
    genes : DataFrame
        ``signature``, ``given``, ``used``, ``unknown``, ``outside`` (known, not in the
        background).
    skipped : Mapping[str, int]
        Signatures with too few genes → how many they had.
    n_background : int
    """

    ranks: pd.DataFrame
    details: pd.DataFrame
    explained: pd.DataFrame
    genes: pd.DataFrame
    skipped: Mapping[str, int]
    n_background: int


def study_signatures(
    signatures: Sequence[Signature],
    features: FeatureSet,
    model: Model,
    *,
    side: Side = "promoter",
    background: Iterable[str] | None = None,
    reference: Reference | None = None,
) -> SignatureStudy:
    """Rank regulators by how well they account for each signature.

    Parameters
    ----------
    signatures : sequence of Signature
    features : FeatureSet
        At gene level.
    model : Model
        Predicts fold changes; its own feature set is used for that.
    side : {"promoter", "rna"}
        Rank TFs, or RBPs and miRNA families.
    background : iterable of str, optional
        Genes to compare with: those that could have been in the signatures. By default, the genes
        of the table that a single signature comes from, else all protein-coding genes.
    reference : Reference, optional
        The package's own if not given.

    Raises
    ------
    InputError
        If no signature has five known genes, or the background is too small.
    UsageError
        If the feature set is not at gene level, or the model predicts no fold changes.
    """
    known = reference or read_reference()
    found = [features.index.resolve(list(signature.genes)) for signature in signatures]
    if background is None and len(signatures) == 1:
        background = signatures[0].measured
    rows = _background(features, background)
    place = np.full(len(features), -1, np.int64)
    place[rows] = np.arange(len(rows))
    inside = [np.unique(place[f.rows[f.rows >= 0]]) for f in found]
    inside = [places[places >= 0] for places in inside]
    counts = _counts(signatures, [f.rows for f in found], inside)
    kept = [i for i, places in enumerate(inside) if len(places) >= FEWEST_GENES]
    skipped = {signatures[i].name: len(places) for i, places in enumerate(inside) if i not in kept}
    if not kept:
        hints = (features.index.hint(f, s.genes) for f, s in zip(found, signatures, strict=True))
        raise InputError(
            f"no signature has {FEWEST_GENES} known genes; {signatures[0].name!r} has "
            f"{len(inside[0])} of {len(signatures[0].genes)}",
            remedy=next((hint for hint in hints if hint), "Give Ensembl ids or symbols of genes."),
        )
    predicted = model.predict([features.rows.ids[row] for row in rows])
    scene = make_scene(features, model, predicted, rows, side, known)
    members = np.zeros((len(rows), len(kept)), bool)
    for column, i in enumerate(kept):
        members[inside[i], column] = True
    names = [signatures[i].name for i in kept]
    ranks, details = [], []
    for start in range(0, len(kept), _SETS):
        part = slice(start, start + _SETS)
        evidence = gather(scene, members[:, part])
        table, detail = _ranked(names[part], scene, evidence, known)
        ranks.append(table)
        details.append(detail)
    explained = _explained(
        [signatures[i] for i in kept], members, predicted[model.outputs], features, place
    )
    return SignatureStudy(pd.concat(ranks, ignore_index=True),
                          pd.concat(details, ignore_index=True), explained, counts, skipped,
                          len(rows))  # fmt: skip


def _background(features: FeatureSet, background: Iterable[str] | None) -> IntArray:
    if features.layout.level != "gene":
        raise UsageError(f"{features.name} is at {features.layout.level} level.",
                         remedy="Signatures need a feature set of genes.")  # fmt: skip
    if background is None:
        rows = np.flatnonzero(np.array(features.rows.biotypes) == "protein_coding")
    else:
        queries = list(background)
        found = features.index.resolve(queries)
        rows = np.unique(found.rows[found.rows >= 0])
        unknown = sum(status in ("unknown_gene", "ambiguous_symbol") for status in found.status)
        if unknown:
            _log.warning("%d of %d background genes are unknown and left out", unknown,
                         len(queries))  # fmt: skip
    if len(rows) < FEWEST_BACKGROUND:
        raise InputError(
            f"the background has {len(rows)} known genes, {FEWEST_BACKGROUND} are needed",
            remedy="Give all genes that were measured (--background FILE), not only those that "
            "changed.",
        )
    return rows


def _counts(
    signatures: Sequence[Signature], found: Sequence[IntArray], inside: Sequence[IntArray]
) -> pd.DataFrame:
    unknown = [int((rows < 0).sum()) for rows in found]
    distinct = [len(np.unique(rows[rows >= 0])) for rows in found]
    used = [len(places) for places in inside]
    return pd.DataFrame({
        "signature": [signature.name for signature in signatures],
        "given": [len(signature.genes) for signature in signatures],
        "used": used,
        "unknown": unknown,
        "outside": [n - m for n, m in zip(distinct, used, strict=True)],
    })  # fmt: skip


# -- what is known of genes ------------------------------------------------------------------


def make_scene(
    features: FeatureSet,
    model: Model,
    predicted: pd.DataFrame,
    rows: IntArray,
    side: Side,
    reference: Reference,
) -> Scene:
    """Gather what tracks bind, what the model predicts, and the confounders of both.

    Parameters
    ----------
    features : FeatureSet
    model : Model
    predicted : DataFrame
        Its predictions for the rows.
    rows : ndarray of int64, shape (n_genes,)
        The background.
    side : {"promoter", "rna"}
    reference : Reference

    Raises
    ------
    UsageError
        If the model predicts no fold changes.
    """
    kinds = {output.name: output.kind for output in model.manifest.outputs}
    folds = [name for name, kind in kinds.items() if kind == "fold_change"]
    if len(folds) < 2:
        raise UsageError(f"{model.id} predicts {len(folds)} fold changes, two are needed.",
                         remedy="Choose a model of tissues, such as gtex-tissue-v1.")  # fmt: skip
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
    return Scene(rows, basis, bound, tracks, profiles, names, track_of, ids, own)


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
    chosen = [i for i, track in enumerate(features.side_tracks[side])
              if track.kind in _KINDS[side] and targets[i] >= FEWEST_TARGETS]  # fmt: skip
    tracks = tuple(features.side_tracks[side][i] for i in chosen)
    bound = np.sqrt(sums[:, chosen].astype(np.float32).toarray(order="F"))
    listed = [i for i, track in enumerate(tracks) if track.kind == "tf_target"]
    bound[:, listed] = bound[:, listed] > 0
    return bound, tracks


def _key(name: str) -> str:
    """Return what names of a regulator in different libraries share: NKX2-1, NKX21."""
    return name.upper().replace("-", "")


def _regulators(
    features: FeatureSet, tracks: Sequence[Track], side: Side, reference: Reference
) -> tuple[tuple[str, ...], IntArray, IntArray]:
    """Names of regulators, the regulator of each track, and the row of each one's gene."""
    spelled: dict[str, Counter[str]] = {}
    genes: dict[str, str] = {}
    for track in tracks:
        spelled.setdefault(_key(track.regulator), Counter())[track.regulator] += 1
    if side == "promoter":
        for name, gene in reference.regulators.items():
            spelled.setdefault(_key(name), Counter())[name] += 1
            genes[_key(name)] = gene
    names = {key: min(found, key=lambda name: (-found[name], name))
             for key, found in spelled.items()}  # fmt: skip
    keys = sorted(names, key=lambda key: names[key])
    code = {key: i for i, key in enumerate(keys)}
    rows = features.index.resolve([genes.get(key) or names[key] for key in keys]).rows
    return (
        tuple(names[key] for key in keys),
        np.array([code[_key(track.regulator)] for track in tracks], np.int64),
        rows,
    )


# -- evidence and scores ---------------------------------------------------------------------


def gather(scene: Scene, members: npt.NDArray[np.bool_]) -> Evidence:
    """Test all tracks and regulators against sets.

    Parameters
    ----------
    scene : Scene
    members : ndarray of bool, shape (n_genes, n_sets)
    """
    sets: Contrasts = contrasts(members, scene.basis)
    genic = scene.own >= 0
    own = np.zeros((members.shape[1], len(scene.regulators)), bool)
    own[:, genic] = members[scene.own[genic]].T
    match = likeness(scene.profiles, scene.own[genic], sets, scene.basis)
    return Evidence(sets.sizes, sets.tests(scene.bound, scene.basis), own, match)


def standing(scene: Scene, evidence: Evidence, reference: Reference) -> FloatArray:
    """Scores of tracks against what they usually are in signatures, shape (n_sets, n_tracks).

    Means grow with the root of a signature's size, excess variances with the size.
    """
    usual = np.array([reference.tracks.get(track.name, (0.0, reference.usual_spread))
                      for track in scene.tracks]).reshape(-1, 2)  # fmt: skip
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
    return {
        "binding": _standardised(best),
        "own": evidence.own * _surprise(scene, evidence.sizes, reference),
        "match": _standardised(match),
    }


def _surprise(scene: Scene, sizes: IntArray, reference: Reference) -> FloatArray:
    usual = np.array(
        [reference.frequencies.get(gene, reference.usual_frequency) for gene in scene.genes]
    )
    return np.asarray(-np.log(np.minimum(1, usual * sizes[:, None] / reference.set_size)))


def _standardised(values: FloatArray) -> FloatArray:
    """Z-scores over the finite values of each row; 0 for the others."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        filled = np.where(there, values, np.nan)
    if not there.any():
        return np.zeros_like(values)
    mean, spread = np.nanmean(filled, axis=1), np.nanstd(filled, axis=1)
    spread = np.where(spread > 0, spread, 1)
    return np.where(there, (filled - mean[:, None]) / spread[:, None], 0)


def score(scene: Scene, evidence: Evidence, reference: Reference) -> FloatArray:
    """Weighted sum of the ingredients, shape (n_sets, n_regulators)."""
    found = ingredients(scene, evidence, reference)
    total = np.zeros_like(found["own"])
    for name, weight in reference.weights.items():
        total += weight * found[name]
    return total


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


def _ranked(
    names: Sequence[str], scene: Scene, evidence: Evidence, reference: Reference
) -> tuple[pd.DataFrame, pd.DataFrame]:
    scores, p = score(scene, evidence, reference), chance(scene, evidence)
    q = stats.false_discovery_control(p, axis=1)
    regulators = np.array(scene.regulators, dtype=object)
    counts = np.bincount(scene.track_of, minlength=len(regulators))
    cosine = np.full(scores.shape, np.nan)
    cosine[:, scene.own >= 0] = evidence.match.cosine
    places = np.array([track.name for track in scene.tracks] + [""], dtype=object)
    tables, details = [], []
    for i, name in enumerate(names):
        order = np.lexsort((p[i], -scores[i]))
        best = np.full(len(regulators), len(scene.tracks))
        by_z = np.argsort(evidence.binding[i], kind="stable")
        best[scene.track_of[by_z]] = by_z  # the last one written is the largest
        z = np.append(evidence.binding[i], np.nan)[best]
        tables.append(pd.DataFrame({
            "signature": name, "regulator": regulators[order],
            "rank": np.arange(1, len(order) + 1), "score": scores[i][order], "p": p[i][order],
            "q": q[i][order],
        }))  # fmt: skip
        details.append(pd.DataFrame({
            "own_gene": evidence.own[i][order], "match": cosine[i][order],
            "tracks": counts[order], "best_track": places[best][order], "z": z[order],
        }))  # fmt: skip
    return pd.concat(tables, ignore_index=True), pd.concat(details, ignore_index=True)


# -- what outputs explain --------------------------------------------------------------------


def _explained(
    signatures: Sequence[Signature],
    members: npt.NDArray[np.bool_],
    predicted: pd.DataFrame,
    features: FeatureSet,
    place: IntArray,
) -> pd.DataFrame:
    """Relate each output's predictions to membership, and to fold changes where they are known."""
    outputs, n = list(predicted.columns), len(predicted)
    ranks = stats.rankdata(predicted.to_numpy(), axis=0, nan_policy="omit")
    ranks = np.where(np.isnan(ranks), np.nanmean(ranks, axis=0), ranks)
    sizes = members.sum(axis=0)[:, None]
    auroc = ((members.T @ ranks) / sizes - (sizes + 1) / 2) / (n - sizes)
    # Of a mean of ranks that are drawn without replacement.
    spread = ranks.std(axis=0) / np.sqrt(sizes * (n - 1) * (n - sizes))
    p = 2 * upper_tail(np.abs(auroc - 0.5) / spread)
    table = pd.DataFrame({
        "signature": np.repeat([signature.name for signature in signatures], len(outputs)),
        "output": np.tile(outputs, len(signatures)),
        "auroc": auroc.ravel(), "p": p.ravel(),
        "q": stats.false_discovery_control(p, axis=1).ravel(),
    })  # fmt: skip
    if any(signature.changes is not None for signature in signatures):
        table["spearman"] = np.concatenate([
            _followed(signature, features, ranks, place) for signature in signatures
        ])  # fmt: skip
    return table


def _followed(
    signature: Signature, features: FeatureSet, ranks: FloatArray, place: IntArray
) -> FloatArray:
    """Spearman's rho of log2 fold changes and each output's predictions."""
    if signature.measured is None or signature.changes is None:
        return np.full(ranks.shape[1], np.nan)
    found = features.index.resolve(list(signature.measured)).rows
    there = (found >= 0) & (place[found] >= 0)
    changes = stats.rankdata(np.array(signature.changes)[there])
    chosen = stats.rankdata(ranks[place[found[there]]], axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.corrcoef(changes, chosen, rowvar=False)[0, 1:])
