"""Mediation: whether regulators' own expression accounts for the co-expression of two genes.

Source: Tasaki et al. 2020, Methods, 'Conditional independence test': two genes that common
regulators co-express are no longer correlated once the expression of these regulators is regressed
out of both. What is left is compared with what random regulators leave.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from decode_zoo.cohort.expression import make_targets
from decode_zoo.core.arrays import FloatArray, IntArray
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.core.provenance import provenance
from decode_zoo.core.text import counted
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.features.genes import genes_of
from decode_zoo.networks.metrics import INDEPENDENT, determined, interval_95
from decode_zoo.studies.measured import find_pair, first_places, name_of
from decode_zoo.studies.result import StudyResult

if TYPE_CHECKING:
    pass

__all__ = ["left_by_sets", "study_mediation"]

# Kinds of tracks of the classes of regulators that are genes themselves.
_CLASSES = {"tf": "TF", "tf_target": "TF", "rbp": "RBP", "rbp_other": "RBP"}
# Numbers held at a time while sets are regressed out.
_HELD = 4_000_000
_FEWEST_SAMPLES = 10
# Regulators that a title names.
_NAMED = 5


def left_by_sets(pair: FloatArray, regulators: FloatArray, sets: IntArray) -> FloatArray:
    """Return two genes' squared correlation once sets of regulators are regressed out, (n_sets,).

    Expression of the pair is (2, m), of regulators (n, m); each row of `sets`, (n_sets, k), has
    rows of regulators that are independent, and k < m - 1. The linear models have an intercept;
    0 where nothing is left of a gene.
    """
    centred, genes = _standardised(regulators), _standardised(pair)
    n_sets, k = sets.shape
    left = np.empty(n_sets)
    size = max(1, _HELD // max(1, k * pair.shape[1]))
    for start in range(0, n_sets, size):
        part = sets[start : start + size]
        basis = np.linalg.qr(centred[part].transpose(0, 2, 1))[0]
        residuals = genes - (genes @ basis) @ basis.transpose(0, 2, 1)
        a, b = residuals[:, 0], residuals[:, 1]
        norm = (a * a).sum(axis=1) * (b * b).sum(axis=1)
        something = norm > INDEPENDENT**2
        left[start : start + size] = np.where(
            something, (a * b).sum(axis=1) ** 2 / np.where(something, norm, 1), 0
        )
    return left


def _standardised(values: FloatArray) -> FloatArray:
    """Centre rows and give them the length 1."""
    centred = values - values.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.linalg.norm(centred, axis=1, keepdims=True))


@dataclass(frozen=True)
class _Measured:
    """Expression of genes, less each one's median, by row of the feature set."""

    features: FeatureSet
    values: FloatArray  # (n, m), in the order of the matrix
    places: Mapping[int, int]  # row of the feature set → row of values

    def status(self, row: int) -> str:
        if row not in self.places:
            return "no_expression"
        return "ok" if np.ptp(self.values[self.places[row]]) > 0 else "constant"

    def take(self, rows: Sequence[int]) -> FloatArray:
        return self.values[[self.places[row] for row in rows]]

    def names(self, rows: Sequence[int]) -> list[str]:
        return [name_of(self.features, row) for row in rows]


def study_mediation(
    expression: pd.DataFrame,
    pair: Sequence[str],
    regulators: Iterable[str],
    features: FeatureSet,
    *,
    draws: int = 1000,
    seed: int = 0,
    command: Sequence[str] = ("decode_zoo.studies.mediation.study_mediation",),
    facts: Mapping[str, object] | None = None,
) -> StudyResult:
    """Test whether the correlation of two genes goes with the expression of some regulators.

    `expression` is prepared, genes × samples, as `read_expression` gives it. Regulators that are
    unknown, not measured, or one of the pair are left out, and told. As many are drawn at random
    from the TFs and RBPs of `features`, `draws` times, or each set once if there are fewer.
    """
    wanted = genes_of(regulators, "regulators") or []
    if draws < 1:
        raise UsageError("There must be one random set at least.")
    path, n_samples = expression.attrs.get("path"), expression.shape[1]
    if n_samples < _FEWEST_SAMPLES:
        raise InputError(
            f"{n_samples} samples are too few; at least {_FEWEST_SAMPLES} are needed", path=path
        )
    # This refuses counts, too.
    samples = make_targets(expression, scale="log2").values[:, :-1]
    measured = _Measured(features, samples, first_places(features, expression.index))
    genes = find_pair(features, pair)
    for name, row in zip(pair, genes, strict=True):
        if (status := measured.status(row)) != "ok":
            what = "does not vary" if status == "constant" else "is not in the matrix"
            raise InputError(
                f"gene {name} {what}", path=path, remedy="Name genes that are expressed."
            )
    classes = _classes(features)
    asked, rows = _asked(wanted, genes, measured, classes, path)
    if len(rows) >= n_samples - 3:
        raise UsageError(
            f"{len(rows)} regulators are too many for {n_samples} samples: at most "
            f"{n_samples - 4} can be regressed out.",
            remedy="Name fewer regulators.",
        )
    others = {*classes}.difference(rows, genes)
    pool = [row for row in sorted(others) if measured.status(row) == "ok"]
    if len(pool) < max(len(rows), 2):
        raise InputError(
            f"holds {len(pool)} other regulators of {features.name}, too few to draw random sets "
            f"of {len(rows)} from",
            path=path,
            remedy="Bring a matrix of all genes.",
        )
    values, own, rest = measured.take(genes), measured.take(rows), measured.take(pool)
    for place in determined(_standardised(own).T):
        first = measured.names(rows[: place + 1])
        raise InputError(
            f"the expression of {first[-1]} is determined by that of {', '.join(first[:-1])}",
            path=path,
            remedy="Leave one of these regulators out.",
        )
    r = float(np.prod(_standardised(values), axis=0).sum())
    after = float(left_by_sets(values, own, np.arange(len(rows))[None])[0])
    sets = _random_sets(len(pool), len(rows), draws, seed)
    null = left_by_sets(values, rest, sets)
    mine, theirs = (left_by_sets(values, x, np.arange(len(x))[:, None]) for x in (own, rest))
    table = _each(asked, _standardised(own) @ _standardised(values).T, mine, theirs, r * r)
    names = np.array(measured.names(pool), object)
    random = pd.DataFrame(
        {
            "set": np.arange(1, len(null) + 1),
            "r2_left": null,
            "regulators": [",".join(names[chosen]) for chosen in sets],
        }
    )
    left_out = asked[asked["status"] != "ok"].set_index("asked")["status"]
    numbers = {
        "pair": measured.names(genes),
        "samples": n_samples,
        "regulators": measured.names(rows),
        "left_out": left_out.to_dict(),
        "r": r,
        "r2": r * r,
        "r2_left": after,
        "random_sets": {
            "n": len(sets),
            "all": math.comb(len(pool), len(rows)) <= draws,
            "of_regulators": len(pool),
            "of_feature_set": len(classes),
            "size": len(rows),
            "mean": float(null.mean()),
            "interval_95": interval_95(null),
        },
        "p": float((1 + (null <= after).sum()) / (1 + len(sets))),
        "seed": seed,
        "provenance": provenance(
            command,
            features={"id": features.name, "sha256": features.sha256},
            seed=seed,
            **(facts or {}),
        ),
    }
    return _result(numbers, table, random, features.name)


def _classes(features: FeatureSet) -> dict[int, str]:
    """Return the class of each regulator that is a gene, by its row."""
    kinds = {
        track.regulator: _CLASSES[track.kind]
        for tracks in features.side_tracks.values()
        for track in tracks
        if track.kind in _CLASSES
    }
    rows = features.index.resolve(list(kinds)).rows.tolist()
    return {row: kind for row, kind in zip(rows, kinds.values(), strict=True) if row >= 0}


def _asked(
    names: list[str],
    genes: Sequence[int],
    measured: _Measured,
    classes: Mapping[int, str],
    path: str | None,
) -> tuple[pd.DataFrame, list[int]]:
    """Return the status of each regulator, and the rows of those that can be tested."""
    found = measured.features.index.resolve(names)
    rows = found.rows.tolist()
    status = [
        "of_the_pair" if row in genes else measured.status(row) if text == "ok" else text
        for row, text in zip(rows, found.status, strict=True)
    ]
    if "ok" not in status:
        listed = [f"{name} ({text})" for name, text in zip(names, status, strict=True)]
        raise InputError(
            f"none of the regulators can be tested: {', '.join(listed)}",
            path=path,
            remedy="Name regulators whose genes are in the matrix.",
        )
    table = pd.DataFrame(
        {
            "asked": names,
            "gene_id": found.gene_ids,
            "symbol": found.symbols,
            "class": [classes.get(row, "") for row in rows],
            "status": status,
        }
    )
    return table, [row for row, text in zip(rows, status, strict=True) if text == "ok"]


def _random_sets(n: int, k: int, draws: int, seed: int) -> IntArray:
    """Draw sets of k out of n, shape (draws, k); all there are, once each, if these are fewer."""
    if math.comb(n, k) <= draws:
        return np.array(list(itertools.combinations(range(n), k)), np.int64)
    generator, size = np.random.default_rng(seed), max(1, _HELD // n)
    parts = [
        generator.random((min(size, draws - start), n)).argsort(axis=1)[:, :k]
        for start in range(0, draws, size)
    ]
    return np.concatenate(parts)


def _each(
    asked: pd.DataFrame, r: FloatArray, left: FloatArray, others: FloatArray, before: float
) -> pd.DataFrame:
    """Add what each regulator alone leaves, and the share of the others that leave as little."""
    p = (1 + (others[None, :] <= left[:, None]).sum(axis=1)) / (1 + others.size)
    columns = {"r_first": r[:, 0], "r_second": r[:, 1], "r2_left": left, "drop": before - left}
    each = pd.DataFrame({**columns, "p": p}, index=asked.index[asked["status"] == "ok"])
    return asked.join(each).sort_values("r2_left", kind="stable", ignore_index=True)


def _result(
    numbers: Mapping[str, Any], table: pd.DataFrame, random: pd.DataFrame, features: str
) -> StudyResult:
    first, second = numbers["pair"]
    chosen, sets = numbers["regulators"], numbers["random_sets"]
    named = ", ".join(chosen[:_NAMED]) + (", …" if len(chosen) > _NAMED else "")
    low, high = sets["interval_95"]
    how = f"all {sets['n']:,} sets" if sets["all"] else f"{sets['n']:,} random sets"
    notes = [
        f"R2 is the squared correlation of the expression of {first} and {second} over samples. "
        "It is taken once more of what is left of both when the expression of the regulators is "
        "regressed out (linear models with an intercept). Any regulators take something away, "
        f"so {how} of as many are taken from {sets['of_regulators']:,} others that are measured, "
        f"of {sets['of_feature_set']:,} TFs and RBPs of {features}; "
        "p is the share of them that leave as little.",
        "Expression of a regulator is not its activity, and what is regressed out may as well be "
        "what regulator and genes share otherwise, such as cell composition: a low p is no proof "
        "of regulation.",
    ]
    if numbers["left_out"]:
        listed = ", ".join(f"{name} ({text})" for name, text in numbers["left_out"].items())
        notes.append(f"Left out: {listed.replace('_', ' ')}.")
    return StudyResult(
        "mediation",
        f"{first} and {second}, given {named}",
        {
            "Samples": f"{numbers['samples']:,}",
            "Regulators": f"{len(chosen)}",
            "R2": f"{numbers['r2']:.3f} ({'negative' if numbers['r'] < 0 else 'positive'})",
            "R2 left": f"{numbers['r2_left']:.3f}",
            "Left by other sets": f"{sets['mean']:.3f} ({low:.3f} to {high:.3f})",
            "p": f"{numbers['p']:.2g}",
        },
        tuple(notes),
        {
            "regulators": (
                "Each regulator alone; p: share of the others that leave as little",
                table,
            ),
            "random_sets": ("R2 left by other sets", random),
        },
        numbers,
        [
            *(f"left out: {name} ({status})" for name, status in numbers["left_out"].items()),
            f"{first} and {second}, {counted(numbers['samples'], 'sample')}: "
            f"R2 {numbers['r2']:.3f}, given {counted(sets['size'], 'regulator')} "
            f"{numbers['r2_left']:.3f}; given as many others {sets['mean']:.3f}, "
            f"p = {numbers['p']:.2g}",
        ],
    )
