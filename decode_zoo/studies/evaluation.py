"""Agreement of predictions with measurements: over genes, over outputs, and between donors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from decode_zoo.cohort.expression import Targets
from decode_zoo.core.arrays import FloatArray
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.manifest import MEDIAN
from decode_zoo.networks.metrics import auroc, column_correlation, false_discovery, score
from decode_zoo.zoo.model import Model

__all__ = [
    "DonorConcordance",
    "Evaluation",
    "compare_donors",
    "cross_spearman",
    "donor_concordance",
    "donor_of",
    "evaluate",
    "evaluate_model",
    "gene_agreement",
    "held_out_genes",
]

_FDR = 0.05
_FIELDS = re.compile(r"[-.]")
_NULLS = 10
_FEWEST = 3


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` finds.

    `outputs` has one row an output: ``output, n, spearman, pearson, rmse``; and of fold changes
    ``others`` (mean rho of this prediction with the measurements of the other outputs),
    ``rna_length`` and ``bound_tracks`` (rho of the measurement with these alone). `genes` has
    ``gene_id, pearson, p, q`` over the fold changes; `matrix` Spearman's rho of each prediction
    (row) with each measurement (column).
    """

    outputs: pd.DataFrame
    genes: pd.DataFrame
    matrix: pd.DataFrame
    predicted: pd.DataFrame = field(repr=False)
    measured: pd.DataFrame = field(repr=False)
    summary: dict[str, Any]


def evaluate(
    predicted: pd.DataFrame,
    measured: pd.DataFrame,
    *,
    rna_lengths: npt.ArrayLike,
    bound_tracks: npt.ArrayLike,
    resamples: int = 200,
    seed: int = 0,
) -> Evaluation:
    """Compare predictions with measurements, both of shape (n_genes, n_outputs) in one order.

    `rna_lengths` and `bound_tracks` (numbers of tracks with sites), of shape (n_genes,), need no
    model and are the controls. `resamples` bootstrap samples of genes give the interval of the
    mean.
    """
    if not (predicted.index.equals(measured.index) and predicted.columns.equals(measured.columns)):
        raise ValueError("predictions and measurements are of other genes or outputs")
    names = [str(name) for name in predicted.columns]
    rng = np.random.default_rng(seed)
    folds = [name for name in names if name != MEDIAN]
    p, m = (frame[folds].to_numpy(np.float64) for frame in (predicted, measured))
    outputs = score(predicted.to_numpy(np.float64), measured.to_numpy(np.float64), names)
    matrix = cross_spearman(p, m)
    outputs = outputs.set_index("output")
    own = np.diag(matrix)
    count = len(folds)
    if count > 1:
        outputs.loc[folds, "others"] = _mean_of_others(matrix)
    for name, alone in (("rna_length", rna_lengths), ("bound_tracks", bound_tracks)):
        control = np.asarray(alone, np.float64)[:, None]
        outputs.loc[folds, name] = cross_spearman(control, m)[0]
    genes = gene_agreement(p, m)
    genes.insert(0, "gene_id", list(predicted.index))
    low, high = _interval(p, m, resamples, rng)
    summary = {
        "genes": len(predicted),
        "outputs": count,
        "fold_change_spearman": _mean(own),
        "interval_95": [low, high],
        "median_spearman": float(outputs["spearman"].get(MEDIAN, np.nan)),
        "other_outputs_spearman": _mean(outputs.loc[folds, "others"]) if count > 1 else np.nan,
        **{
            f"{name}_alone": {
                "mean": _mean(outputs.loc[folds, name]),
                "mean_absolute": _mean(outputs.loc[folds, name].abs()),
            }
            for name in ("rna_length", "bound_tracks")
        },
        "own_measurement_best": _own_best(matrix),
        "own_prediction_best": _own_best(matrix.T),
        "genes_significant": _significant(genes),
        "genes_significant_other_outputs": _mean(
            [_significant(gene_agreement(p, m[:, rng.permutation(count)])) for _ in range(_NULLS)]
        ),
        "fdr": _FDR,
        "mean_rmse": _mean(outputs.loc[folds, "rmse"]),
    }
    return Evaluation(
        outputs.reset_index(),
        genes,
        pd.DataFrame(matrix, folds, folds),
        predicted,
        measured,
        summary,
    )


def cross_spearman(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return Spearman's rho of the columns of (n, p) with those of (n, q); NaN of constants."""
    unit = []
    for values in (a, b):
        ranks = stats.rankdata(values, axis=0)
        centred = ranks - ranks.mean(axis=0)
        norm = np.linalg.norm(centred, axis=0)
        unit.append(centred / np.where(norm > 0, norm, np.nan))
    return np.asarray(unit[0].T @ unit[1])


def gene_agreement(predicted: FloatArray, measured: FloatArray) -> pd.DataFrame:
    """Return Pearson's correlation over outputs of each gene, with two-sided p and its FDR, q.

    NaN of genes that do not vary, or if there are fewer than three outputs.
    """
    count = predicted.shape[1]
    r = column_correlation(predicted.T, measured.T)
    if count < _FEWEST:
        r = np.full(len(predicted), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = r * np.sqrt((count - 2) / np.maximum(1 - r**2, 0))
    p = 2 * stats.t.sf(np.abs(t), max(count - 2, 1))
    p = np.where(np.isfinite(r), p, np.nan)
    return pd.DataFrame({"pearson": r, "p": p, "q": false_discovery(p)})


def _mean_of_others(matrix: FloatArray) -> FloatArray:
    """Mean of each row without the diagonal and what is NaN; NaN if nothing is left."""
    known = np.isfinite(matrix) & ~np.eye(len(matrix), dtype=np.bool_)
    count = known.sum(axis=1)
    mean: FloatArray = np.where(known, matrix, 0).sum(axis=1) / np.where(count > 0, count, np.nan)
    return mean


def _own_best(matrix: FloatArray) -> int:
    """Count the rows of which the diagonal has the most; NaN is less than any."""
    best = np.where(np.isfinite(matrix), matrix, -np.inf).argmax(axis=1)
    return int(((best == np.arange(len(matrix))) & np.isfinite(np.diag(matrix))).sum())


def _significant(genes: pd.DataFrame) -> float:
    """Share of genes that are predicted in the right direction, beyond chance."""
    return float(((genes["q"] <= _FDR) & (genes["pearson"] > 0)).mean())


def _interval(p: FloatArray, m: FloatArray, resamples: int, rng: Any) -> tuple[float, float]:
    means = []
    for _ in range(resamples):
        rows = rng.integers(0, len(p), len(p))
        ranks = (stats.rankdata(values[rows], axis=0) for values in (p, m))
        means.append(_mean(column_correlation(*ranks)))
    low, high = np.quantile(means, [0.025, 0.975]) if means else (np.nan, np.nan)
    return float(low), float(high)


def _mean(values: npt.ArrayLike | pd.Series[float]) -> float:
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    return float(known.mean()) if known.size else float("nan")


@dataclass(frozen=True)
class DonorConcordance:
    """Mean correlation over genes of two tissues' fold changes, in pairs of one donor and of two.

    `area` is that under the ROC curve by which the former are told from the latter, and its
    interval.
    """

    genes: int
    same_pairs: int
    other_pairs: int
    same: float
    others: float
    area: tuple[float, float, float]


def donor_of(sample: str) -> str:
    """Return the donor of a GTEx sample: the first two fields of its name."""
    return "-".join(_FIELDS.split(sample)[:2])


def compare_donors(
    one: pd.DataFrame, other: pd.DataFrame, donors: Mapping[str, str] | None = None
) -> DonorConcordance:
    """Compare two tissues' fold changes (paper, Figure 4b), of shape (n_genes, n_samples).

    The donor of a sample is that of `donors`, or the first two fields of its GTEx name.
    """
    genes = one.index.intersection(other.index)
    if len(genes) < 3:
        raise InputError(f"the two share {len(genes)} genes")
    known = donors or {}
    names = [
        np.array([known.get(str(c), donor_of(str(c))) for c in frame.columns])
        for frame in (one, other)
    ]
    same = names[0][:, None] == names[1][None, :]
    if not same.any():
        raise InputError(
            "the two share no donor", remedy="Give a table of samples and their donors (--donors)."
        )
    rho = cross_spearman(one.loc[genes].to_numpy(float), other.loc[genes].to_numpy(float))
    return DonorConcordance(
        len(genes),
        int(same.sum()),
        int((~same).sum()),
        float(np.nanmean(rho[same])),
        float(np.nanmean(rho[~same])),
        auroc(np.nan_to_num(rho.ravel()), same.ravel()),
    )


def held_out_genes(model: Model) -> list[str]:
    """Return the genes that a model was tested on; raise UsageError if it does not tell."""
    rows = model.manifest.tested_rows(model.features)
    if rows is None:
        raise UsageError(
            f"{model.id} does not say which genes it was tested on, so that only you "
            "can say which it has not seen.",
            remedy="--genes FILE",
        )
    return [model.features.rows.gene_ids[row] for row in rows]


def evaluate_model(
    model: Model, targets: Targets, genes: Sequence[str], *, resamples: int = 200, seed: int = 0
) -> Evaluation:
    """Compare a model's predictions with measured expression on genes that have features."""
    measured = pd.DataFrame(targets.values, targets.gene_ids, list(targets.names))
    outputs = [name for name in targets.names if name in set(model.outputs)]
    if not set(outputs) - {MEDIAN}:
        raise InputError(
            f"no column is an output of {model.id}, whose first are {', '.join(model.outputs[:3])}",
            remedy="Name columns as the model's outputs.",
        )
    features = model.features
    known = set(features.rows.gene_ids) & set(measured.index)
    rows = [gene for gene in dict.fromkeys(genes) if gene in known]
    if len(rows) < 3:
        raise InputError(f"{len(rows)} of {len(genes)} genes have features and a measurement")
    predicted = model.predict(rows)[outputs].set_axis(rows).astype(float)
    place = np.array([features.row(gene) for gene in rows])
    bound = sum(np.diff((features.sums(side)[0][place] > 0).indptr) for side in SIDES)
    return evaluate(
        predicted,
        measured.loc[rows, outputs],
        resamples=resamples,
        seed=seed,
        rna_lengths=np.array(features.rows.rna_lengths)[place],
        bound_tracks=bound,
    )


def donor_concordance(
    one: Evaluation, other: Evaluation, donors: Mapping[str, str] | None = None
) -> dict[str, DonorConcordance]:
    """Compare two tissues of the same donors, as predicted and as measured."""
    return {
        name: compare_donors(
            getattr(one, name).drop(columns=MEDIAN, errors="ignore"),
            getattr(other, name).drop(columns=MEDIAN, errors="ignore"),
            donors,
        )
        for name in ("predicted", "measured")
    }
