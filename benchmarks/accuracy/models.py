"""The models that are compared. Each is fitted on training genes and chosen on validation genes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg

from benchmarks.accuracy.predictions import PARTS, Predictions
from benchmarks.baselines import fit_ridge
from decode_zoo.core.errors import InputError
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.families import Config
from decode_zoo.training.dataset import Dataset
from decode_zoo.training.fit import FitConfig
from decode_zoo.training.members import PerceptronFit, standardisation_of
from decode_zoo.training.pipeline import fit_network, predict_part
from decode_zoo.zoo.model import Model

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating[Any]]

_CHUNK = 1024
_LIMIT = 6.0  # of z-scores, as our networks have it


def rows_of(dataset: Dataset, part: str) -> IntArray:
    """Rows of a part of the split."""
    rows: IntArray = getattr(dataset.split, part)
    return rows


def predictions_of(
    dataset: Dataset,
    predict: Callable[[str], FloatArray],
    notes: dict[str, Any],
    outputs: Sequence[str] | None = None,
) -> Predictions:
    """Predict validation and test genes; `predict` maps the name of a part to values."""
    genes = {
        part: tuple(dataset.targets.gene_ids[i] for i in rows_of(dataset, part)) for part in PARTS
    }
    names = tuple(dataset.targets.names if outputs is None else outputs)
    return Predictions(names, genes, {part: predict(part) for part in PARTS}, notes)


def scores_of(dataset: Dataset) -> dict[str, npt.NDArray[np.float32]]:
    """z-scores of square roots of position sums, all that our networks see, by part.

    Returns
    -------
    dict of str to ndarray of float32, shape (n_genes, n_channels)
        Mask channels included: the RNA's is its length.
    """
    standardise = standardisation_of(dataset, _LIMIT)
    n_channels = sum(1 + len(dataset.tracks[side]) for side in SIDES)
    found = {}
    for part in ("training", *PARTS):
        rows = rows_of(dataset, part)
        found[part] = np.empty((len(rows), n_channels), np.float32)
        for start in range(0, len(rows), _CHUNK):
            sums = dataset.pooled(rows[start : start + _CHUNK])
            found[part][start : start + _CHUNK] = np.hstack(
                [standardise[side](sums[side][:, 0]) for side in SIDES]
            )
    return found


def output_scale(dataset: Dataset) -> npt.NDArray[np.float64]:
    """Return the unit in which each output's errors are weighed, shape (n_outputs,)."""
    return np.array([output.scale for output in dataset.outputs])


# --- one number a gene ------------------------------------------------------------------------


def bound_tf_count(dataset: Dataset, rows: IntArray) -> FloatArray:
    """Count promoter tracks with a site (or the gene among their targets), shape (n,)."""
    sums = dataset.features.sums("promoter")[0][dataset.rows[rows]]
    bound = sums[:, dataset.bound.columns["promoter"]] > 0
    return np.asarray(bound.sum(axis=1), np.float64)


def rna_length(dataset: Dataset, rows: IntArray) -> FloatArray:
    """Spliced length in nt, shape (n,)."""
    return dataset.features.mask_sums("rna", 1)[dataset.rows[rows], 0].astype(np.float64)


def predict_from_number(
    dataset: Dataset, number: Callable[[Dataset, IntArray], FloatArray]
) -> Predictions:
    """Regress each output on the logarithm of one number a gene."""
    x = np.log1p(number(dataset, dataset.split.training))
    slope, intercept = np.polyfit(x, dataset.targets.values[dataset.split.training], 1)

    def predict(part: str) -> FloatArray:
        values = np.log1p(number(dataset, rows_of(dataset, part)))[:, None]
        return values * slope + intercept

    return predictions_of(dataset, predict, {})


# --- ridge regressions ------------------------------------------------------------------------


def predict_by_ridge(dataset: Dataset, alphas: Sequence[float]) -> Predictions:
    """Ridge regression; one penalty for all outputs, with the least validation error."""
    x, scale = scores_of(dataset), output_scale(dataset)
    y = dataset.targets.values / scale
    split = dataset.split
    fit = fit_ridge(
        x["training"].astype(np.float64),
        y[split.training],
        x["validation"].astype(np.float64),
        y[split.validation],
        alphas,
    )
    return predictions_of(
        dataset,
        lambda part: fit.predict(x[part].astype(np.float64)) * scale,
        {"alpha": fit.alpha},
    )


@dataclass(frozen=True)
class KernelSearch:
    """What kernel ridge regression chooses from.

    Attributes
    ----------
    alphas : tuple of float
        Penalties; the kernel of a gene with itself is 1.
    widths : tuple of float
        In medians of the distances between genes.
    subset : int
        Training genes on which width and penalty are searched; the penalty then once more, among
        its neighbours, with all of them.
    """

    alphas: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
    widths: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    subset: int = 5000


def distances(
    a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], block: int = 2048
) -> npt.NDArray[np.float32]:
    """Euclidean distances, shape (n_a, n_b), without a second array of that shape."""
    found = np.empty((len(a), len(b)), np.float32)
    b_squares = np.einsum("ij,ij->i", b, b)
    for start in range(0, len(a), block):
        rows, out = a[start : start + block], found[start : start + block]
        np.matmul(rows, b.T, out=out)
        out *= -2
        out += np.einsum("ij,ij->i", rows, rows)[:, None]
        out += b_squares
        np.maximum(out, 0, out=out)
        np.sqrt(out, out=out)
    return found


def laplacian(
    found: npt.NDArray[np.float32], width: float, out: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """Return exp(-distance / width)."""
    kernel = np.multiply(found, np.float32(-1 / width), out=out)
    return np.exp(kernel, out=kernel)


def solve_kernel(
    kernel: npt.NDArray[np.float32], alpha: float, y: FloatArray
) -> npt.NDArray[np.float32]:
    """Solve ``(kernel + alpha) weights = y``; the kernel, which is symmetric, is overwritten."""
    kernel[np.diag_indices_from(kernel)] = 1 + alpha
    # Transposed, a symmetric matrix of C order is one of Fortran order, which needs no copy.
    factor = linalg.cho_factor(kernel.T, lower=True, overwrite_a=True, check_finite=False)
    weights: npt.NDArray[np.float32] = linalg.cho_solve(
        factor, y.astype(np.float32), check_finite=False
    )
    return weights


def predict_by_kernel_ridge(dataset: Dataset, search: KernelSearch) -> Predictions:
    """Kernel ridge regression with the kernel exp(-distance / width).

    Memory: one matrix of all training genes in float32 (1.2 GB with 17,400 genes).
    """
    x, scale, split = scores_of(dataset), output_scale(dataset), dataset.split
    y = dataset.targets.values / scale
    n, centre = len(split.training), y[split.training].mean(axis=0)
    target, truth = y[split.training] - centre, y[split.validation] - centre
    some = np.linspace(0, n - 1, min(n, search.subset)).astype(np.int64)
    nodes = x["training"][some]
    within, across = distances(nodes, nodes), distances(x["validation"], nodes)
    median = float(np.median(within[np.triu_indices_from(within, 1)]))

    def error(kernel: FloatArray, weights: FloatArray) -> float:
        return float(((kernel @ weights - truth) ** 2).mean())

    coarse = {}
    for width in search.widths:
        seen = laplacian(across, width * median)
        for alpha in search.alphas:
            weights = solve_kernel(laplacian(within, width * median), alpha, target[some])
            coarse[alpha, width] = error(seen, weights)
    first, width = min(coarse, key=coarse.__getitem__)
    del within, across

    place = search.alphas.index(first)
    near = search.alphas[max(0, place - 1) : place + 2]
    seen = laplacian(distances(x["validation"], x["training"]), width * median)
    fits = {}
    for alpha in near:  # distances cost less than the memory to keep them
        kernel = distances(x["training"], x["training"])
        fits[alpha] = solve_kernel(laplacian(kernel, width * median, kernel), alpha, target)
        del kernel
    errors = {alpha: error(seen, weights) for alpha, weights in fits.items()}
    alpha = min(errors, key=errors.__getitem__)

    def predict(part: str) -> FloatArray:
        kernel = laplacian(distances(x[part], x["training"]), width * median)
        return (kernel @ fits[alpha] + centre) * scale

    notes = {
        "alpha": alpha,
        "width": width,
        "median_distance": median,
        "validation_loss": errors[alpha],
        "searched": [[a, w, coarse[a, w]] for a, w in product(search.alphas, search.widths)],
    }
    return predictions_of(dataset, predict, notes)


# --- gradient boosting ------------------------------------------------------------------------


@dataclass(frozen=True)
class Boosting:
    """How LightGBM is trained: one output at a time.

    Attributes
    ----------
    learning_rate, num_leaves, min_child_samples, feature_fraction, bagging_fraction, max_bin
        As LightGBM calls them.
    rounds, patience : int
        Most trees, and trees without a better validation error before it stops.
    """

    learning_rate: float = 0.05
    num_leaves: int = 31
    min_child_samples: int = 20
    feature_fraction: float = 0.2
    bagging_fraction: float = 0.8
    max_bin: int = 63
    rounds: int = 3000
    patience: int = 50


def predict_by_boosting(dataset: Dataset, output: str, boosting: Boosting) -> Predictions:
    """Gradient-boosted trees for one output, stopped early on validation genes."""
    import lightgbm

    x = scores_of(dataset)
    column = dataset.targets.names.index(output)
    y = {part: dataset.targets.values[rows_of(dataset, part), column] for part in x}
    settings = asdict(boosting)
    rounds, patience = settings.pop("rounds"), settings.pop("patience")
    settings |= {
        "objective": "regression",
        "metric": "l2",
        "bagging_freq": 1,
        "seed": 1,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": 2,
        "verbosity": -1,
    }
    training = lightgbm.Dataset(x["training"], y["training"], params=settings)
    validation = training.create_valid(x["validation"], y["validation"])
    trees = lightgbm.train(
        settings,
        training,
        rounds,
        valid_sets=[validation],
        callbacks=[lightgbm.early_stopping(patience, verbose=False)],
    )
    loss = float(trees.best_score["valid_0"]["l2"])
    return predictions_of(
        dataset,
        lambda part: np.asarray(trees.predict(x[part]))[:, None],
        {"trees": trees.best_iteration, "validation_loss": loss},
        [output],
    )


# --- networks ---------------------------------------------------------------------------------


def predict_by_network(
    dataset: Dataset, config: Config, fit: FitConfig | PerceptronFit, seed: int
) -> Predictions:
    """Train one network."""
    import keras

    if hasattr(config, "members"):
        config = replace(config, members=1)
    started = time.monotonic()
    fitted = fit_network(dataset, config, replace(fit, seeds=(seed,)))
    found = predictions_of(
        dataset,
        lambda part: predict_part(dataset, fitted.network, rows_of(dataset, part)),
        {
            "validation_loss": fitted.repeats[0].validation_loss,
            "epochs": fitted.repeats[0].best_epoch,
            "training_seconds": round(time.monotonic() - started),
        },
    )
    keras.backend.clear_session()
    return found


def predict_by_bundle(dataset: Dataset, model: Model) -> Predictions:
    """Predict with a trained model, as its users do."""
    names = list(dataset.targets.names)
    if model.outputs != names:
        raise InputError(
            "the model's outputs are not those of the expression matrix",
            remedy="Compare it on the matrix that it was trained on.",
        )

    def predict(part: str) -> FloatArray:
        genes = [dataset.targets.gene_ids[i] for i in rows_of(dataset, part)]
        table = model.predict(genes, features=dataset.features)
        if (table["status"] != "ok").any():
            raise InputError("the model does not predict all genes of the data set")
        return table[names].to_numpy(np.float64)

    return predictions_of(dataset, predict, {"id": model.id})
