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
import numpy.typing as npt
import pandas as pd

from decode_zoo.errors import InputError, UsageError
from decode_zoo.expression import make_targets
from decode_zoo.features import FeatureSet
from decode_zoo.provenance import provenance
from decode_zoo.studies.findings import Findings, check_extras

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["left_by_each", "left_by_sets", "study_mediation"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Kinds of tracks of the classes of regulators that are genes themselves.
_CLASSES = {"tf": "TF", "tf_target": "TF", "rbp": "RBP", "rbp_other": "RBP"}
# Numbers held at a time while sets are regressed out.
_HELD = 4_000_000
# Of a column, what earlier ones leave of it; below this it is their combination but for rounding.
_INDEPENDENT = 1e-7
_FEWEST_PERSONS = 10
# Regulators that a title names.
_NAMED = 5


def left_by_sets(pair: FloatArray, regulators: FloatArray, sets: IntArray) -> FloatArray:
    """Squared correlation of two genes once sets of regulators are regressed out of both.

    Parameters
    ----------
    pair : ndarray of float64, shape (2, m)
        Expression of the two genes in m persons.
    regulators : ndarray of float64, shape (n, m)
        Expression of regulators.
    sets : ndarray of int64, shape (n_sets, k)
        Rows of `regulators`; each set is independent, and k < m - 1.

    Returns
    -------
    ndarray of float64, shape (n_sets,)
        R2 of the residuals of two linear models with intercept; 0 where nothing is left of a gene.
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
        something = norm > _INDEPENDENT**2
        left[start : start + size] = np.where(
            something, (a * b).sum(axis=1) ** 2 / np.where(something, norm, 1), 0
        )
    return left


def left_by_each(pair: FloatArray, regulators: FloatArray) -> FloatArray:
    """Squared correlation of two genes once a single regulator is regressed out of both.

    Parameters
    ----------
    pair : ndarray of float64, shape (2, m)
    regulators : ndarray of float64, shape (n, m)

    Returns
    -------
    ndarray of float64, shape (n,)
        Squared partial correlation.
    """
    return left_by_sets(pair, regulators, np.arange(len(regulators))[:, None])


def _standardised(values: FloatArray) -> FloatArray:
    """Centre rows and give them the length 1."""
    centred = values - values.mean(axis=1, keepdims=True)
    unit: FloatArray = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    return unit


@dataclass(frozen=True)
class _Measured:
    """Genes with expression that varies.

    Attributes
    ----------
    features : FeatureSet
    values : ndarray of float64, shape (n, m)
        In the order of the matrix, less each gene's median.
    places : Mapping of int to int
        Row of the feature set → row of `values`.
    varies : ndarray of bool, shape (n,)
    """

    features: FeatureSet
    values: FloatArray
    places: Mapping[int, int]
    varies: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, expression: pd.DataFrame, features: FeatureSet) -> _Measured:
        # This refuses counts, too.
        values = make_targets(expression, scale="log2").values[:, :-1]
        rows = features.index.resolve([str(name) for name in expression.index]).rows.tolist()
        # The first of two rows of one gene counts.
        places = dict(zip(reversed(rows), reversed(range(len(rows))), strict=True))
        places.pop(-1, None)
        return cls(features, values, places, np.ptp(values, axis=1) > 0)

    def status(self, row: int) -> str:
        """Say whether a gene's expression can be used."""
        if row not in self.places:
            return "no_expression"
        return "ok" if self.varies[self.places[row]] else "constant"

    def take(self, rows: Sequence[int]) -> FloatArray:
        """Return the expression of some genes, shape (n_rows, m)."""
        return self.values[[self.places[row] for row in rows]]

    def name(self, row: int) -> str:
        """Return a gene's symbol, or its id if it has none."""
        return self.features.rows.symbols[row] or self.features.rows.ids[row]


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
) -> Findings:
    """Test whether the correlation of two genes goes with the expression of some regulators.

    Parameters
    ----------
    expression : DataFrame, shape (n_genes, n_persons)
        log2(TPM + 0.25), prepared, by gene id, as `read_expression` gives it.
    pair : (str, str)
        Ids or symbols of the two genes.
    regulators : iterable of str
        Symbols or ids. Those that are unknown, not measured, or one of the pair are left out, and
        told.
    features : FeatureSet
        Its TFs and RBPs are what random regulators are drawn from.
    draws : int
        Random sets of as many regulators as are tested; if there are fewer sets, each is taken.
    seed : int
    command, facts
        For the provenance.

    Returns
    -------
    Findings

    Raises
    ------
    UsageError
        If the pair is not one of two genes that are known, or there are as many regulators as
        persons less three.
    InputError
        If a gene of the pair or all regulators are not measured, a regulator is determined by
        others, or there are too few persons or other regulators.
    MissingExtraError
        If a package for the picture or the page is not installed.
    """
    check_extras()
    if isinstance(regulators, str):
        raise UsageError("Give a list of regulators, not a single string.")
    if draws < 1:
        raise UsageError("There must be one random set at least.")
    path, n_persons = expression.attrs.get("path"), expression.shape[1]
    if n_persons < _FEWEST_PERSONS:
        raise InputError(
            f"{n_persons} persons are too few; at least {_FEWEST_PERSONS} are needed", path=path
        )
    measured = _Measured.of(expression, features)
    genes = _pair_rows(pair, measured, path)
    classes = _classes(features)
    asked = _asked(list(regulators), genes, measured, classes)
    rows = [int(row) for row in asked["row"][asked["status"] == "ok"]]
    if not rows:
        raise InputError(
            "none of the regulators can be tested: "
            + ", ".join(
                f"{name} ({status})"
                for name, status in zip(asked["asked"], asked["status"], strict=True)
            ),
            path=path,
            remedy="Name regulators whose genes are in the matrix.",
        )
    if len(rows) >= n_persons - 3:
        raise UsageError(
            f"{len(rows)} regulators are too many for {n_persons} persons: at most "
            f"{n_persons - 4} can be regressed out.",
            remedy="Name fewer regulators.",
        )
    pool = [
        row
        for row in sorted(classes)
        if row not in {*rows, *genes} and measured.status(row) == "ok"
    ]
    if len(pool) < max(len(rows), 2):
        raise InputError(
            f"holds {len(pool)} other regulators of {features.name}, too few to draw random sets "
            f"of {len(rows)} from",
            path=path,
            remedy="Bring a matrix of all genes.",
        )
    values, own, others = measured.take(genes), measured.take(rows), measured.take(pool)
    _check_independent(own, [measured.name(row) for row in rows], path)
    r = float(np.prod(_standardised(values), axis=0).sum())
    after = float(left_by_sets(values, own, np.arange(len(rows))[None])[0])
    sets = _random_sets(len(pool), len(rows), draws, seed)
    null = left_by_sets(values, others, sets)
    table = _tell_each(asked, values, own, left_by_each(values, others), r * r)
    names = np.array([measured.name(row) for row in pool], object)
    low, high = np.quantile(null, [0.025, 0.975]).tolist()
    numbers = {
        "pair": [measured.name(row) for row in genes],
        "persons": n_persons,
        "regulators": [measured.name(row) for row in rows],
        "left_out": dict(
            zip(
                asked["asked"][asked["status"] != "ok"],
                asked["status"][asked["status"] != "ok"],
                strict=True,
            )
        ),
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
            "interval_95": [low, high],
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
    return _findings(numbers, table, null, [",".join(names[chosen]) for chosen in sets], features)


def _pair_rows(pair: Sequence[str], measured: _Measured, path: str | None) -> list[int]:
    """Find the two genes."""
    if isinstance(pair, str) or len(pair) != 2:
        raise UsageError("A pair is of two genes.", remedy="For example: LAPTM5,CD53")
    found = measured.features.index.resolve(list(pair))
    rows: list[int] = found.rows.tolist()
    for name, row, status in zip(pair, rows, found.status, strict=True):
        if row < 0:
            raise UsageError(f"Gene '{name}' is not in {measured.features.name} ({status}).")
    if rows[0] == rows[1]:
        raise UsageError(f"{pair[0]} and {pair[1]} are one gene.", remedy="Name two genes.")
    for name, row in zip(pair, rows, strict=True):
        if (status := measured.status(row)) != "ok":
            what = "does not vary" if status == "constant" else "is not in the matrix"
            raise InputError(
                f"gene {name} {what}", path=path, remedy="Name genes that are expressed."
            )
    return rows


def _classes(features: FeatureSet) -> dict[int, str]:
    """Class of each regulator of a feature set that is a gene, by its row."""
    kinds = {
        track.regulator: _CLASSES[track.kind]
        for tracks in features.side_tracks.values()
        for track in tracks
        if track.kind in _CLASSES
    }
    rows = features.index.resolve(list(kinds)).rows.tolist()
    return {row: kind for row, kind in zip(rows, kinds.values(), strict=True) if row >= 0}


def _asked(
    names: list[str], genes: Sequence[int], measured: _Measured, classes: Mapping[int, str]
) -> pd.DataFrame:
    """Say of each regulator that was asked for whether it can be tested."""
    found = measured.features.index.resolve(names)
    rows = found.rows.tolist()
    status = [
        "of_the_pair" if row in genes else measured.status(row) if text == "ok" else text
        for row, text in zip(rows, found.status, strict=True)
    ]
    return pd.DataFrame(
        {
            "asked": names,
            "gene_id": found.gene_ids,
            "symbol": found.symbols,
            "class": [classes.get(row, "") for row in rows],
            "status": status,
            "row": rows,
        }
    )


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


def _check_independent(values: FloatArray, names: Sequence[str], path: str | None) -> None:
    """Refuse regulators whose expression others determine."""
    left = np.abs(np.diag(np.linalg.qr(_standardised(values).T, mode="r")))
    for place in np.flatnonzero(left < _INDEPENDENT).tolist():
        raise InputError(
            f"the expression of {names[place]} is determined by that of {', '.join(names[:place])}",
            path=path,
            remedy="Leave one of these regulators out.",
        )


def _tell_each(
    asked: pd.DataFrame, pair: FloatArray, own: FloatArray, others: FloatArray, before: float
) -> pd.DataFrame:
    """Add what each regulator alone does, and how many others do as much."""
    table, ok = asked.drop(columns="row"), (asked["status"] == "ok").to_numpy()
    r = _standardised(own) @ _standardised(pair).T
    left = left_by_each(pair, own)
    p = (1 + (others[None, :] <= left[:, None]).sum(axis=1)) / (1 + others.size)
    for name, values in (
        ("r_first", r[:, 0]),
        ("r_second", r[:, 1]),
        ("r2_left", left),
        ("drop", before - left),
        ("p", p),
    ):
        table[name] = np.nan
        table.loc[ok, name] = values
    return table.sort_values("r2_left", kind="stable", ignore_index=True)


def _findings(
    numbers: Mapping[str, Any],
    table: pd.DataFrame,
    null: FloatArray,
    sets: Sequence[str],
    features: FeatureSet,
) -> Findings:
    first, second = numbers["pair"]
    chosen, random = numbers["regulators"], numbers["random_sets"]
    named = ", ".join(chosen[:_NAMED]) + (", …" if len(chosen) > _NAMED else "")
    low, high = random["interval_95"]
    how = f"all {random['n']:,} sets" if random["all"] else f"{random['n']:,} random sets"
    notes = [
        f"R2 is the squared correlation of the expression of {first} and {second} over persons. "
        "It is taken once more of what is left of both when the expression of the regulators is "
        "regressed out (linear models with an intercept). Any regulators take something away, "
        f"so {how} of as many are taken from {random['of_regulators']:,} others that are measured, "
        f"of {random['of_feature_set']:,} TFs and RBPs of {features.name}; "
        "p is the share of them that leave as little.",
        "Expression of a regulator is not its activity, and what is regressed out may as well be "
        "what regulator and genes share otherwise, such as cell composition: a low p is no proof "
        "of regulation.",
    ]
    if numbers["left_out"]:
        listed = ", ".join(f"{name} ({text})" for name, text in numbers["left_out"].items())
        notes.append(f"Left out: {listed.replace('_', ' ')}.")
    return Findings(
        "mediation",
        f"{first} and {second}, given {named}",
        {
            "Persons": f"{numbers['persons']:,}",
            "Regulators": f"{len(chosen)}",
            "R2": f"{numbers['r2']:.3f} ({'negative' if numbers['r'] < 0 else 'positive'})",
            "R2 left": f"{numbers['r2_left']:.3f}",
            "Left by other sets": f"{random['mean']:.3f} ({low:.3f} to {high:.3f})",
            "p": f"{numbers['p']:.2g}",
        },
        tuple(notes),
        {
            "regulators": (
                "Each regulator alone; p: share of the others that leave as little",
                table,
            ),
            "random_sets": (
                "R2 left by other sets",
                pd.DataFrame(
                    {"set": np.arange(1, len(null) + 1), "r2_left": null, "regulators": sets}
                ),
            ),
        },
        {
            "histogram": (
                "R2 left by these regulators, and by other sets",
                _histogram(numbers, null),
            )
        },
        numbers,
    )


def _histogram(numbers: Mapping[str, Any], null: FloatArray) -> Figure:
    """Draw what random sets leave, and what was found."""
    from decode_zoo.plots.page import AXIS, MARGIN, SINGLE, Page, styled
    from decode_zoo.plots.text import SMALL, TEXT, number

    def draw() -> Figure:
        left, height, grey = MARGIN + 0.42, 1.8, "#8A929B"
        colours = {"before": "#0072B2", "given these regulators": "#D55E00"}
        page = Page.make(
            SINGLE,
            height + AXIS + 0.05,
            title=" and ".join(numbers["pair"]),
            lines=[f"R² of their expression, p = {numbers['p']:.2g}"],
            key={**colours, "other sets": grey},
        )
        axes = page.axes(left, page.top, SINGLE - MARGIN - 0.1 - left, height)
        found = numbers["r2"], numbers["r2_left"]
        most = 1.05 * max(*found, float(null.max())) or 1.0
        axes.hist(null, bins=40, range=(0, most), color=grey)
        for value, colour in zip(found, colours.values(), strict=True):
            axes.axvline(value, color=colour, linewidth=1.2)
        axes.set_xlim(0, most)
        axes.spines["left"].set_visible(True)
        axes.tick_params(axis="y", labelsize=SMALL)
        axes.set_ylabel("sets", fontsize=TEXT, labelpad=2)
        page.below(axes, "R² left", lambda x: number(x, "g"))
        return page.figure

    return styled(draw)()
