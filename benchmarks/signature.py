"""Signature mode on signatures of perturbed TFs: accuracy, ablation, calibration, reference.

    python -m benchmarks.signature --shared ../shared/data [--fit] [--nested] [--ranks FILE]
        [--out docs/signature]

With ``--fit``, the reference that the package carries is made anew from all signatures; the tables
never use it: each signature is scored with a reference from the TFs of other folds. ``--nested``
chooses the variant, too, without each fold, in half an hour. ``--ranks`` judges what the command
line wrote for the same signatures, on which its reference was fitted.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse, stats
from scipy.optimize import minimize
from scipy.special import log_ndtr, ndtri

import decode_zoo as dz
from decode_zoo.features.genesets import read_gmt
from decode_zoo.studies import signature_evidence as mode
from decode_zoo.studies import signature_reference as package
from decode_zoo.studies.signature_evidence import Evidence
from decode_zoo.studies.signature_reference import GenePool, Reference, key_of, make_gene_pool

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

FOLDS = 10
INNER = 5
RESAMPLES = 2000
RIDGE = 3.0
# A TF's own gene is as rare as that in this many signatures more.
PRIOR_SETS = 30
LIBRARIES = {
    "ENCODE": "binding/gene_level/encode_chipseq_2015.symbols.gmt.gz",
    "ReMap": "binding/gene_level/remap.symbols.gmt.gz",
    "ChEA": "binding/gene_level/chea_2016.symbols.gmt.gz",
    "ARCHS4": "benchmark/peer_archs4_coexpression.symbols.gmt.gz",
    "GTEx": "benchmark/peer_gtex_coexpression.symbols.gmt.gz",
    "Enrichr": "benchmark/peer_enrichr_coexpression.symbols.gmt.gz",
}
BINDING = ("ENCODE", "ReMap", "ChEA")
# Genes of the universe of hypergeometric tests.
N_GENES = 20_000


@dataclass(frozen=True, repr=False)
class Task:
    """Signatures, the TF behind each, and the TFs to rank."""

    sets: Mapping[str, tuple[str, ...]]
    tfs: tuple[str, ...]
    universe: tuple[str, ...]

    @property
    def true(self) -> IntArray:
        place = {name: i for i, name in enumerate(self.universe)}
        return np.array([place[tf] for tf in self.tfs])

    @property
    def folds(self) -> IntArray:
        """Fold of each signature: all of a TF in one."""
        names = sorted(set(self.tfs))
        order = np.random.default_rng(0).permutation(len(names))
        fold = {names[i]: place % FOLDS for place, i in enumerate(order)}
        return np.array([fold[tf] for tf in self.tfs])


# -- rivals ----------------------------------------------------------------------------------


def rival(path: Path, task: Task) -> FloatArray:
    """Best hypergeometric -log p of each TF, NaN where the library lacks it."""
    library = {found.name: found.genes for found in read_gmt(path)}
    genes = {
        g: i for i, g in enumerate({g for v in (*library.values(), *task.sets.values()) for g in v})
    }

    def incidence(sets: Mapping[str, Sequence[str]]) -> sparse.csr_array:
        rows = np.repeat(np.arange(len(sets)), [len(set(v)) for v in sets.values()])
        columns = [genes[g] for v in sets.values() for g in dict.fromkeys(v)]
        return sparse.csr_array((np.ones(len(rows)), (rows, columns)), (len(sets), len(genes)))

    own, other = incidence(task.sets), incidence(library)
    overlap = (own @ other.T).toarray()
    logs = stats.hypergeom.logsf(
        overlap - 1, N_GENES, other.sum(axis=1)[None, :], own.sum(axis=1)[:, None]
    )
    place = {name: i for i, name in enumerate(task.universe)}
    found = np.full((len(task.sets), len(task.universe)), np.nan)
    for column, name in enumerate(library):
        at = place[name.partition("_")[0]]
        found[:, at] = np.fmax(found[:, at], -logs[:, column])
    return found


def mean_rank(scores: Sequence[FloatArray]) -> FloatArray:
    """Mean over libraries of a TF's rank, scaled by how many TFs the library has (ChEA3)."""
    scaled = []
    for found in scores:
        there = ~np.isnan(found[0])
        ranks = np.full_like(found, np.nan)
        ranks[:, there] = stats.rankdata(found[:, there], axis=1) / there.sum()
        scaled.append(ranks)
    known = ~np.isnan(scaled)
    total = np.where(known, scaled, 0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


# -- figures ---------------------------------------------------------------------------------


def below(scores: FloatArray, true: IntArray, among: BoolArray) -> FloatArray:
    """Share of other TFs ranked below the perturbed one, NaN where that one is not among them.

    A TF that a method lacks has the median of those that it has: the middle. Ties count half.
    """
    filled = np.where(np.isnan(scores), np.nanmedian(scores, axis=1, keepdims=True), scores)
    own = filled[np.arange(len(true)), true][:, None]
    among_those = filled[:, among]
    share = ((among_those < own).sum(axis=1) + 0.5 * ((among_those == own).sum(axis=1) - 1)) / (
        among.sum() - 1
    )
    return np.where(among[true], share, np.nan)


def in_top(scores: FloatArray, true: IntArray, among: BoolArray, k: int = 10) -> FloatArray:
    """Whether the perturbed TF is among the first k; never if the method lacks it."""
    filled = np.where(np.isnan(scores), -np.inf, scores)
    own = filled[np.arange(len(true)), true][:, None]
    rank = (
        1 + (filled[:, among] > own).sum(axis=1) + 0.5 * ((filled[:, among] == own).sum(axis=1) - 1)
    )
    return np.where(among[true], (rank <= k) & np.isfinite(own[:, 0]), np.nan)


def specificity(scores: FloatArray, task: Task) -> FloatArray:
    """Share of other TFs' signatures in which the perturbed TF scores lower than in its own.

    Nothing that is the same in all signatures, such as how well a TF is studied, helps here.
    """
    filled = np.where(np.isnan(scores), np.nanmedian(scores, axis=1, keepdims=True), scores)
    filled = stats.rankdata(filled, axis=1)
    names, true = np.array(task.tfs), task.true
    found = []
    for i, tf in enumerate(true):
        others = filled[names != names[i], tf]
        found.append((others < filled[i, tf]).mean() + 0.5 * (others == filled[i, tf]).mean())
    return np.array(found)


def interval(values: FloatArray, tfs: Sequence[str]) -> tuple[float, float, float]:
    """Mean over signatures, and its 95% interval when TFs are resampled."""
    kept = ~np.isnan(values)
    names, codes = np.unique(np.array(tfs)[kept], return_inverse=True)
    sums = np.bincount(codes, values[kept])
    counts = np.bincount(codes)
    drawn = np.random.default_rng(0).integers(0, len(names), (RESAMPLES, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values[kept].mean()), float(low), float(high)


# -- ours ------------------------------------------------------------------------------------

Ingredients = Callable[[GenePool, Evidence, Reference], dict[str, FloatArray]]


def usual(pool: GenePool, evidence: Evidence, train: BoolArray) -> Reference:
    """What the training signatures have in common; without weights."""
    z = evidence.binding[train]
    spread = np.sqrt(z.var(axis=0) + 0.25 * np.median(z.std(axis=0)) ** 2)
    genic = [i for i, gene in enumerate(pool.genes) if gene]
    counts = evidence.own[train].sum(axis=0)
    frequency = (counts + 1) / (train.sum() + PRIOR_SETS)
    return Reference(
        1,
        float(np.median(evidence.sizes[train])),
        len(pool.rows),
        {},
        float(np.median(frequency[genic])),
        float(np.median(spread)),
        {
            track.name: (float(m), float(s))
            for track, m, s in zip(pool.tracks, z.mean(axis=0), spread, strict=True)
        },
        {},
        {pool.genes[i]: float(frequency[i]) for i in genic},
    )


def fit(columns: Mapping[str, FloatArray], true: IntArray, tfs: Sequence[str]) -> dict[str, float]:
    """Weights of a conditional logit: which TF of all was perturbed.

    A signature counts as the inverse root of how many its TF has.
    """
    data = np.stack(list(columns.values()), axis=-1)
    _, codes, counts = np.unique(tfs, return_inverse=True, return_counts=True)
    share = 1 / np.sqrt(counts[codes])
    own = data[np.arange(len(true)), true]

    def loss(weights: FloatArray) -> tuple[float, FloatArray]:
        scores = data @ weights
        scores -= scores.max(axis=1, keepdims=True)
        odds = np.exp(scores)
        total = odds.sum(axis=1, keepdims=True)
        gap = own - np.einsum("ij,ijk->ik", odds / total, data)
        value = -(share * (scores[np.arange(len(true)), true] - np.log(total[:, 0]))).sum()
        return (
            value + RIDGE / 2 * float(weights @ weights),
            RIDGE * weights - (share[:, None] * gap).sum(axis=0),
        )

    found = minimize(loss, np.zeros(data.shape[-1]), jac=True, method="L-BFGS-B").x
    return dict(zip(columns, found.tolist(), strict=True))


def at_universe(pool: GenePool, universe: Sequence[str]) -> IntArray:
    place = {key_of(name): i for i, name in enumerate(pool.regulators)}
    return np.array([place[key_of(name)] for name in universe])


def subset(evidence: Evidence, rows: npt.NDArray[np.bool_] | IntArray) -> Evidence:
    match = replace(evidence.match, cosine=evidence.match.cosine[rows], z=evidence.match.z[rows])
    return Evidence(evidence.sizes[rows], evidence.binding[rows], evidence.own[rows], match)


def chosen(names: Sequence[str], base: Ingredients = mode.ingredients) -> Ingredients:
    def only(pool: GenePool, evidence: Evidence, reference: Reference) -> dict[str, FloatArray]:
        found = base(pool, evidence, reference)
        return {name: found[name] for name in names}

    return only


def one_best(pool: GenePool, evidence: Evidence, reference: Reference) -> dict[str, FloatArray]:
    """Binding corrected for how many tracks the best is chosen from (Sidak)."""
    found = mode.ingredients(pool, evidence, reference)
    best = np.full(found["own"].shape, -np.inf)
    np.maximum.at(best.T, pool.track_of, mode.standing(pool, evidence, reference).T)
    counts = np.bincount(pool.track_of, minlength=len(pool.regulators))
    best[:, counts == 0] = 0
    p = -np.expm1(counts * log_ndtr(best))
    z = -ndtri(np.clip(p, 1e-300, 1 - 1e-12))
    return {**found, "binding": mode.standardised(np.where(counts > 0, z, -np.inf))}


def mean_of_tracks(
    pool: GenePool, evidence: Evidence, reference: Reference
) -> dict[str, FloatArray]:
    found = mode.ingredients(pool, evidence, reference)
    counts = np.bincount(pool.track_of, minlength=len(pool.regulators))
    total = np.zeros_like(found["own"])
    np.add.at(total.T, pool.track_of, mode.standing(pool, evidence, reference).T)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(counts > 0, total / counts, -np.inf)
    return {**found, "binding": mode.standardised(mean)}


def not_usual(pool: GenePool, evidence: Evidence, reference: Reference) -> dict[str, FloatArray]:
    """Binding as it is, not against what it usually is in signatures."""
    return mode.ingredients(pool, evidence, replace(reference, tracks={}, usual_spread=1.0))


# Families of numbered symbols whose letters differ between members.
_FAMILY = re.compile("HOX|FOX|CEBP|RAR|RXR|PPAR|NFI|NFAT|MEF2|CREB|TFAP2|NEURO")
# Zinc fingers of one stem share no site.
_NO_FAMILY = re.compile("ZNF|ZSCAN|ZKSCAN|ZFP|ZBTB")


def stem_of(symbol: str) -> str | None:
    """What a symbol shares with those of the same family of DNA-binding domains; None without."""
    name = key_of(symbol)
    if _NO_FAMILY.match(name):
        return None
    if family := _FAMILY.match(name):
        return family[0]
    stem = re.sub(r"\d+[A-Z]?$", "", name)
    return stem if stem != name and len(stem) > 1 else None


def with_kin(
    among_untracked: bool, pool: GenePool, evidence: Evidence, reference: Reference
) -> dict[str, FloatArray]:
    """Borrow the best binding of a regulator's family, for those without tracks of their own."""
    found = mode.ingredients(pool, evidence, reference)
    stems = [stem_of(name) for name in pool.regulators]
    tracked = np.isin(np.arange(len(stems)), pool.track_of)
    kin = np.full_like(found["binding"], -np.inf)
    for i, stem in enumerate(stems):
        alike = [
            j for j, other in enumerate(stems) if stem and other == stem and j != i and tracked[j]
        ]
        if alike and not (among_untracked and tracked[i]):
            kin[:, i] = found["binding"][:, alike].max(axis=1)
    return {**found, "kin": mode.standardised(kin)}


def studied(pool: GenePool, evidence: Evidence, reference: Reference) -> dict[str, FloatArray]:
    """How many tracks a regulator has, the same in all signatures."""
    found = mode.ingredients(pool, evidence, reference)
    counts = np.bincount(pool.track_of, minlength=len(pool.regulators))
    known = (np.log1p(counts) - np.log1p(counts).mean()) / np.log1p(counts).std()
    return {**found, "studied": np.tile(known, (len(evidence.sizes), 1))}


VARIANTS: Mapping[str, Ingredients] = {
    "binding, own gene, match": mode.ingredients,
    "binding alone": chosen(["binding"]),
    "own gene alone": chosen(["own"]),
    "match alone": chosen(["match"]),
    "without binding": chosen(["own", "match"]),
    "without own gene": chosen(["binding", "match"]),
    "without match": chosen(["binding", "own"]),
    "binding: not against usual values": not_usual,
    "binding: mean of tracks": mean_of_tracks,
    "binding: corrected for number of tracks": one_best,
    "binding of kin, if without tracks (not shipped)": partial(with_kin, True),
    "binding of kin, all (not shipped)": partial(with_kin, False),
    "number of tracks alone (no signature)": chosen(["studied"], studied),
    "with number of tracks (not shipped)": studied,
}
# What inner folds choose from.
CANDIDATES = (
    "binding, own gene, match",
    "without match",
    "without own gene",
    "binding: not against usual values",
    "binding: mean of tracks",
    "binding: corrected for number of tracks",
)


@dataclass(frozen=True, repr=False)
class Ours:
    """Evidence of all signatures, scored with references of other folds."""

    task: Task
    pool: GenePool
    evidence: Evidence

    def trained(self, train: BoolArray, make: Ingredients) -> Reference:
        known = usual(self.pool, self.evidence, train)
        columns = make(self.pool, subset(self.evidence, train), known)
        places = at_universe(self.pool, self.task.universe)
        columns = {name: values[:, places] for name, values in columns.items()}
        tfs = np.array(self.task.tfs)[train].tolist()
        return replace(known, weights=fit(columns, self.task.true[train], tfs))

    def scored(
        self, rows: BoolArray, make: Ingredients, known: Reference, evidence: Evidence | None = None
    ) -> FloatArray:
        columns = make(self.pool, subset(evidence or self.evidence, rows), known)
        total = np.sum([known.weights[name] * columns[name] for name in columns], axis=0)
        return np.asarray(total[:, at_universe(self.pool, self.task.universe)])

    def crossed(
        self, make: Ingredients, folds: IntArray, among: BoolArray, evidence: Evidence | None = None
    ) -> FloatArray:
        """Scores of the signatures `among` others, each from a reference without its fold."""
        found = np.full((len(self.task.tfs), len(self.task.universe)), np.nan)
        for fold in np.unique(folds[among]):
            test = among & (folds == fold)
            known = self.trained(among & (folds != fold), make)
            found[test] = self.scored(test, make, known, evidence)
        return found

    def nested(self) -> tuple[FloatArray, list[str]]:
        """Scores when the variant, too, is chosen without the fold."""
        every = np.ones(len(self.task.universe), bool)
        folds, found, names = self.task.folds, None, []
        for fold in range(FOLDS):
            train = folds != fold
            inner = folds % INNER if fold >= INNER else (folds // 2) % INNER
            means = {}
            for name in CANDIDATES:
                scores = self.crossed(VARIANTS[name], inner, train)
                means[name] = np.nanmean(below(scores[train], self.task.true[train], every))
            best = max(means, key=lambda name: means[name])
            known = self.trained(train, VARIANTS[best])
            scores = self.scored(~train, VARIANTS[best], known)
            found = np.full((len(folds), scores.shape[1]), np.nan) if found is None else found
            found[~train] = scores
            names.append(best)
        assert found is not None
        return found, names


# -- tables ----------------------------------------------------------------------------------


def accuracy(
    task: Task, methods: Mapping[str, FloatArray], groups: Mapping[str, BoolArray]
) -> pd.DataFrame:
    rows = []
    for group, among in groups.items():
        for name, scores in methods.items():
            auroc, low, high = interval(below(scores, task.true, among), task.tfs)
            top, top_low, top_high = interval(in_top(scores, task.true, among), task.tfs)
            rows.append(
                {
                    "tfs": group,
                    "n_tfs": int(among.sum()),
                    "signatures": int(among[task.true].sum()),
                    "method": name,
                    "covered": int((~np.isnan(scores[0]) & among).sum()),
                    "auroc": auroc,
                    "low": low,
                    "high": high,
                    "top10": top,
                    "top10_low": top_low,
                    "top10_high": top_high,
                    "specificity": specificity(scores, task).mean() if among.all() else np.nan,
                }
            )
    return pd.DataFrame(rows)


def ablation(task: Task, variants: Mapping[str, FloatArray]) -> pd.DataFrame:
    every, base = np.ones(len(task.universe), bool), next(iter(variants))
    rows = []
    for name, scores in variants.items():
        share = below(scores, task.true, every)
        gain, low, high = interval(share - below(variants[base], task.true, every), task.tfs)
        rows.append(
            {
                "variant": name,
                "auroc": share.mean(),
                "difference": gain,
                "low": low,
                "high": high,
                "top10": in_top(scores, task.true, every).mean(),
                "specificity": specificity(scores, task).mean(),
            }
        )
    return pd.DataFrame(rows)


def smaller(ours: Ours, members: BoolArray, every: BoolArray) -> pd.DataFrame:
    """Random parts of signatures, scored with references of whole ones."""
    rng, rows = np.random.default_rng(0), []
    for size in (10, 20, 50, 100, 200):
        part = np.zeros_like(members)
        for column in range(members.shape[1]):
            genes = np.flatnonzero(members[:, column])
            part[rng.choice(genes, min(size, len(genes)), replace=False), column] = True
        evidence = mode.gather(ours.pool, part)
        scores = ours.crossed(
            mode.ingredients, ours.task.folds, np.ones(members.shape[1], bool), evidence
        )
        auroc, low, high = interval(below(scores, ours.task.true, every), ours.task.tfs)
        rows.append(
            {
                "genes": size,
                "auroc": auroc,
                "low": low,
                "high": high,
                "top10": in_top(scores, ours.task.true, every).mean(),
            }
        )
    return pd.DataFrame(rows)


def own_genes_out(ours: Ours, members: BoolArray, shared: Path) -> pd.DataFrame:
    """Rank again with each perturbed TF's own gene taken out of its signature; fit as before."""
    task, every = ours.task, np.ones(len(ours.task.universe), bool)
    pairs = zip(task.sets.items(), task.tfs, strict=True)
    sets = {name: tuple(g for g in genes if g.upper() != tf) for (name, genes), tf in pairs}
    less = members.copy()
    for column, gene in enumerate(ours.pool.own[at_universe(ours.pool, task.universe)][task.true]):
        if gene >= 0:
            less[gene, column] = False
    evidence, every_set = mode.gather(ours.pool, less), np.ones(len(sets), bool)
    out = replace(task, sets=sets)
    six = {name: rival(shared / path, out) for name, path in LIBRARIES.items()}
    variants = {
        "ours, as shipped": "binding, own gene, match",
        "ours without own gene": "without own gene",
        "number of tracks (no signature)": "number of tracks alone (no signature)",
    }
    methods = {
        "mean rank of the six": mean_rank(list(six.values())),
        "mean rank of the binding three": mean_rank([six[name] for name in BINDING]),
    } | {
        name: ours.crossed(VARIANTS[variant], task.folds, every_set, evidence)
        for name, variant in variants.items()
    }
    return accuracy(out, methods, {"any method": every})


def calibration(pool: GenePool, lengths: FloatArray, members: BoolArray) -> pd.DataFrame:
    """Share of p-values below a level, for random sets of the lengths of true signatures' genes."""
    rng, rows = np.random.default_rng(0), []
    order = np.argsort(lengths, kind="stable")
    bins = np.empty(len(lengths), np.int64)
    bins[order] = np.arange(len(lengths)) * 50 // len(lengths)
    by_bin = [np.flatnonzero(bins == b) for b in range(50)]
    for size in (20, 100, 500):
        random = np.zeros((len(lengths), 400), bool)
        for column in range(400):
            model = np.flatnonzero(members[:, column % members.shape[1]])
            for b in bins[rng.choice(model, min(size, len(model)), replace=False)]:
                random[rng.choice(by_bin[b]), column] = True
        p = mode.chance(pool, mode.gather(pool, random))[:, (pool.own >= 0)]
        tests = {
            "regulators": p,
            "smallest q of a set": stats.false_discovery_control(p, axis=1).min(axis=1),
        }
        for what, values in tests.items():
            rows += [
                {"genes": size, "of": what, "level": level, "share": (values <= level).mean()}
                for level in (0.5, 0.1, 0.05, 0.01, 0.001, 0.0001)
            ]
    return pd.DataFrame(rows)


def fitted(task: Task, path: Path) -> pd.DataFrame:
    """Judge ranks that the command line wrote; its reference has seen these signatures."""
    table = pd.read_csv(path, sep="\t").pivot(index="signature", columns="regulator", values="rank")
    scores = -table.loc[list(task.sets), list(task.universe)].to_numpy(np.float64)
    every = np.ones(len(task.universe), bool)
    auroc, low, high = interval(below(scores, task.true, every), task.tfs)
    return pd.DataFrame(
        [
            {
                "signatures": len(table),
                "regulators": len(table.columns),
                "auroc": auroc,
                "low": low,
                "high": high,
                "top10": in_top(scores, task.true, every).mean(),
                "specificity": specificity(scores, task).mean(),
            }
        ]
    )


def write_reference(ours: Ours, names: Mapping[str, str]) -> None:
    known = replace(
        ours.trained(np.ones(len(ours.task.tfs), bool), mode.ingredients), regulators=names
    )
    plain = {
        "format_version": known.format_version,
        "set_size": known.set_size,
        "background": known.background,
        "weights": {name: round(value, 3) for name, value in known.weights.items()},
        "usual_frequency": round(known.usual_frequency, 5),
        "usual_spread": round(known.usual_spread, 3),
        "tracks": {name: [round(m, 3), round(s, 3)] for name, (m, s) in known.tracks.items()},
        "regulators": dict(known.regulators),
        "frequencies": {gene: round(f, 5) for gene, f in known.frequencies.items()},
    }
    text = json.dumps(plain, separators=(",", ":"), sort_keys=True).encode()
    path = Path(package.__file__).with_name("reference.json.gz")
    path.write_bytes(gzip.compress(text, 9, mtime=0))
    print(f"{path.name}: {path.stat().st_size} bytes, weights {plain['weights']}")


def main() -> None:
    """Make the tables of docs/signature/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True, help="Folder of raw data.")
    parser.add_argument("--out", type=Path, default=Path("docs/signature"))
    parser.add_argument("--nested", action="store_true", help="Choose the variant by fold, too.")
    parser.add_argument("--ranks", type=Path, help="What 'study signature' wrote for the sets.")
    parser.add_argument("--fit", action="store_true", help="Make the package's reference, too.")
    arguments = parser.parse_args()
    say: Callable[..., None] = partial(print, flush=True)
    began = time.perf_counter()
    shared, out = arguments.shared, arguments.out
    out.mkdir(parents=True, exist_ok=True)
    gmt = shared / "benchmark/tf_perturbations_dev.symbols.gmt.gz"
    sets = {found.name: found.genes for found in read_gmt(gmt)}
    universe = sorted(
        {
            found.name.partition("_")[0]
            for path in LIBRARIES.values()
            for found in read_gmt(shared / path)
        }
    )
    task = Task(sets, tuple(name.partition("_")[0] for name in sets), tuple(universe))
    features, model = dz.load_features("hg38-open-v2"), dz.load("gtex-tissue-v1")
    names = own_genes(universe, features)
    rows = np.flatnonzero(np.array(features.rows.biotypes) == "protein_coding")
    pool = make_gene_pool(
        features,
        model,
        model.predict([features.rows.ids[row] for row in rows]),
        rows,
        "promoter",
        Reference(1, 1.0, 1, {}, 1.0, 1.0, {}, names, {}),
    )
    place = np.full(len(features), -1, np.int64)
    place[rows] = np.arange(len(rows))
    members = np.zeros((len(rows), len(sets)), bool)
    for column, genes in enumerate(sets.values()):
        found = place[features.index.resolve(list(genes)).rows]
        members[found[found >= 0], column] = True
    ours = Ours(task, pool, mode.gather(pool, members))
    say(f"evidence: {time.perf_counter() - began:.0f} s")
    if arguments.fit:
        write_reference(ours, names)
    every, all_sets = np.ones(len(universe), bool), np.ones(len(sets), bool)
    variants = {name: ours.crossed(make, task.folds, all_sets) for name, make in VARIANTS.items()}
    p = mode.chance(pool, ours.evidence)[:, at_universe(pool, universe)]
    variants["by p alone (nothing trained)"] = -np.log(p)
    ablation(task, variants).to_csv(
        out / "ablation.tsv", sep="\t", index=False, float_format="%.4f"
    )
    say(f"ablation: {time.perf_counter() - began:.0f} s")
    methods = {name: rival(shared / path, task) for name, path in LIBRARIES.items()}
    methods["mean rank of the six"] = mean_rank(list(methods.values()))
    methods["mean rank of the binding three"] = mean_rank([methods[name] for name in BINDING])
    methods["number of tracks (no signature)"] = variants["number of tracks alone (no signature)"]
    methods["ours without own gene"] = variants["without own gene"]
    methods["ours"] = next(iter(variants.values()))
    tracked = np.zeros(len(universe), bool)
    tracked[np.isin(at_universe(pool, universe), pool.track_of)] = True
    groups = {
        "any method": every,
        "with a track": tracked,
        "ENCODE, ReMap or ChEA": np.any([~np.isnan(methods[n][0]) for n in BINDING], axis=0),
        "all six libraries": np.all([~np.isnan(methods[n][0]) for n in LIBRARIES], axis=0),
    }
    table = accuracy(task, methods, groups)
    table.to_csv(out / "benchmark.tsv", sep="\t", index=False, float_format="%.4f")
    if arguments.ranks:
        fitted(task, arguments.ranks).to_csv(
            out / "command.tsv", sep="\t", index=False, float_format="%.4f"
        )
    own = []
    for name in LIBRARIES:
        among = ~np.isnan(methods[name][0])
        own.append(
            {
                "library": name,
                "tfs": int(among.sum()),
                "signatures": int(among[task.true].sum()),
                "auroc": np.nanmean(below(methods[name], task.true, among)),
                "ours": np.nanmean(below(methods["ours"], task.true, among)),
            }
        )
    pd.DataFrame(own).to_csv(out / "libraries.tsv", sep="\t", index=False, float_format="%.4f")
    smaller(ours, members, every).to_csv(
        out / "sizes.tsv", sep="\t", index=False, float_format="%.4f"
    )
    own_genes_out(ours, members, shared).to_csv(
        out / "own_genes_out.tsv", sep="\t", index=False, float_format="%.4f"
    )
    lengths = np.array(features.rows.rna_lengths, np.float64)[rows]
    calibration(pool, lengths, members).to_csv(
        out / "calibration.tsv", sep="\t", index=False, float_format="%.5f"
    )
    if arguments.nested:
        nested, picked = ours.nested()
        say(f"nested choices: {picked}")
        accuracy(task, {"ours, nested choice": nested}, groups).to_csv(
            out / "nested.tsv", sep="\t", index=False, float_format="%.4f"
        )
    for file in sorted(out.glob("*.tsv")):
        say(file.name, file.read_text(), sep="\n")
    say(f"{time.perf_counter() - began:.0f} s")


def own_genes(universe: Sequence[str], features: dz.FeatureSet) -> dict[str, str]:
    """Gene id of each TF, '' for none; libraries drop the hyphen of NKX2-1."""
    found = features.index.resolve(list(universe))
    bare = {
        key_of(symbol): i
        for i, symbol in enumerate(features.rows.symbols)
        if "-" in symbol and features.rows.biotypes[i] == "protein_coding"
    }
    rows = [
        int(row) if row >= 0 else bare.get(name, -1)
        for name, row in zip(universe, found.rows, strict=True)
    ]
    return {
        name: features.rows.ids[row] if row >= 0 else ""
        for name, row in zip(universe, rows, strict=True)
    }


if __name__ == "__main__":
    main()
