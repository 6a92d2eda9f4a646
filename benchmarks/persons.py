"""Score models of persons and de-prior-v1 beside rivals and controls, on genes never trained on.

    python -m benchmarks.persons EXPRESSION_FOLDER docs/persons

EXPRESSION_FOLDER is that of conversion/person_models.py, whose recipes are followed. Writes
persons.tsv and de_prior.tsv. Published bundles are read from zoo/; rivals are trained here: layers
frozen as in the paper, from scratch, ridge regression on the same tracks, and the recipe itself on
inputs that were exchanged between genes. Persons of gtex-blood-person-v1 are scored on five
stretches of chr1 in turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special, stats

import decode_zoo as dz
from benchmarks.accuracy.controls import permute
from benchmarks.baselines import fit_ridge, log_sums
from conversion.gtex_tissue_decode_v1 import ROOT
from conversion.person_models import (
    BASE,
    BLOOD_FOLDS,
    COHORTS,
    DE_PRIOR,
    FIT,
    FITS,
    blood_split,
    targets_of,
)
from decode_zoo.core.files import atomic_path
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.metrics import auroc, column_correlation
from decode_zoo.studies.evaluation import Evaluation, evaluate
from decode_zoo.training.dataset import Dataset
from decode_zoo.training.finetune import FinetuneFit, base_network, finetune_network
from decode_zoo.training.members import PerceptronFit
from decode_zoo.training.pipeline import fit_network, predict_part
from decode_zoo.training.transfer import cohort_dataset
from decode_zoo.zoo.model import Model

FloatArray = npt.NDArray[np.float64]
Predict = Callable[[Model, Dataset, FinetuneFit], FloatArray]

_ALPHAS = tuple(10.0**k for k in np.arange(2.0, 6.6, 0.5))
_RESAMPLES = 500
_TOP = 0.9  # rank of a gene above which it is often differentially expressed (paper)


def tuned(base: Model, dataset: Dataset, fit: FinetuneFit) -> FloatArray:
    """Predict test genes after fine-tuning."""
    network, _ = finetune_network(dataset, base_network(base, fit), fit)
    return predict_part(dataset, network, dataset.split.test)


def frozen(base: Model, dataset: Dataset, fit: FinetuneFit) -> FloatArray:
    """Predict after fine-tuning with frozen encoders, as in the paper."""
    return tuned(base, dataset, replace(fit, frozen_layers=1))


def scratch(base: Model, dataset: Dataset, fit: FinetuneFit) -> FloatArray:
    """Predict after training the base's kind of network from scratch."""
    config = replace(base_network(base, fit).config, members=1)
    network = fit_network(dataset, config, PerceptronFit()).network
    return predict_part(dataset, network, dataset.split.test)


def ridge(base: Model, dataset: Dataset, fit: FinetuneFit) -> FloatArray:
    """Predict by ridge regression on logarithms of position sums."""
    split, scale = dataset.split, np.array([output.scale for output in dataset.outputs])
    x = [log_sums(dataset, part) for part in (split.training, split.validation, split.test)]
    y = [dataset.targets.values[part] / scale for part in (split.training, split.validation)]
    return fit_ridge(x[0], y[0], x[1], y[1], _ALPHAS).predict(x[2]) * scale


def exchanged(*sides: str) -> Predict:
    """Make the recipe's prediction on inputs that were exchanged between genes."""

    def predict(base: Model, dataset: Dataset, fit: FinetuneFit) -> FloatArray:
        return tuned(base, permute(dataset, sides, 0), fit)  # type: ignore[arg-type]

    return predict


VARIANTS: dict[str, Predict] = {
    "published": tuned,
    "encoders frozen": frozen,
    "from scratch": scratch,
    "ridge": ridge,
    "inputs exchanged": exchanged(*SIDES),
}
ABLATIONS: dict[str, Predict] = {
    "promoter only": exchanged("rna"),
    "RNA only": exchanged("promoter"),
}


def published(model: str, dataset: Dataset) -> FloatArray:
    """Predict test genes with the bundle in zoo/."""
    found = dz.load(str(ROOT / "zoo/models" / model))
    genes = [dataset.targets.gene_ids[i] for i in dataset.split.test]
    return found.predict(genes)[found.outputs].to_numpy(np.float64)


def evaluated(dataset: Dataset, predicted: FloatArray) -> Evaluation:
    """Evaluate predictions of test genes."""
    test = dataset.split.test
    genes, names = [dataset.targets.gene_ids[i] for i in test], list(dataset.targets.names)
    rows, features = dataset.rows[test], dataset.features
    return evaluate(
        pd.DataFrame(predicted, genes, names),
        pd.DataFrame(dataset.targets.values[test], genes, names),
        rna_lengths=np.array(features.rows.rna_lengths)[rows],
        bound_tracks=sum(np.diff((features.sums(s)[0][rows] > 0).indptr) for s in SIDES),
        resamples=_RESAMPLES,
    )


def difference(dataset: Dataset, one: FloatArray, other: FloatArray) -> tuple[float, float]:
    """Interval (95%, over genes) of the difference of two predictions' mean rho."""
    measured = dataset.targets.values[dataset.split.test][:, :-1]
    rng, found = np.random.default_rng(0), []
    for _ in range(_RESAMPLES):
        rows = rng.integers(0, len(measured), len(measured))
        ranks = stats.rankdata(measured[rows], axis=0)
        rho = [
            np.nanmean(column_correlation(stats.rankdata(p[rows][:, :-1], axis=0), ranks))
            for p in (one, other)
        ]
        found.append(rho[0] - rho[1])
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def person_rows(model: str, folder: Path) -> Iterator[dict[str, object]]:
    """Score all variants of a model of persons."""
    base = dz.load(BASE)
    targets, split, _ = targets_of(model, folder, base.features)
    fit = FITS.get(model, FIT)
    splits = [split]
    if split is not None:
        splits = [blood_split(targets.gene_ids, base.features, i) for i in range(BLOOD_FOLDS)]
    for fold, each in enumerate(splits):
        dataset = cohort_dataset(base, targets, each)
        ours = None
        for name, predict in VARIANTS.items():
            if name == "published" and not fold:
                predicted = published(model, dataset)
            else:
                predicted = predict(base, dataset, fit)
            ours = predicted if ours is None else ours
            found = evaluated(dataset, predicted).summary
            low, high = (
                (np.nan, np.nan) if name == "published" else difference(dataset, ours, predicted)
            )
            row = {
                "model": model,
                "fold": fold + 1,
                "variant": name,
                "persons": found["outputs"],
                "genes": found["genes"],
                "rho": found["fold_change_spearman"],
                "low": found["interval_95"][0],
                "high": found["interval_95"][1],
                "lead_low": low,
                "lead_high": high,
                "median": found["median_spearman"],
                "other_persons": found["other_outputs_spearman"],
                "length_alone": found["rna_length_alone"]["mean_absolute"],
                "bound_alone": found["bound_tracks_alone"]["mean_absolute"],
                "genes_significant": found["genes_significant"],
                "genes_significant_other_persons": found["genes_significant_other_outputs"],
                "own_person_best": found["own_measurement_best"],
            }
            click.echo(f"{model} {fold + 1} {name}: {row['rho']:.3f}", err=True)
            yield row


def prior_rows(folder: Path) -> Iterator[dict[str, object]]:
    """Score all variants of de-prior-v1."""
    base = dz.load(BASE)
    targets, _, _ = targets_of(DE_PRIOR, folder, base.features)
    dataset = cohort_dataset(base, targets)
    measured = dataset.targets.values[dataset.split.test][:, 0]
    often = special.expit(measured) > _TOP
    for name, predict in {**VARIANTS, **ABLATIONS}.items():
        if name == "published":
            predicted = published(DE_PRIOR, dataset)[:, 0]
        else:
            predicted = predict(base, dataset, FITS[DE_PRIOR])[:, 0]
        rng, rhos = np.random.default_rng(0), []
        for _ in range(_RESAMPLES):
            rows = rng.integers(0, len(measured), len(measured))
            rhos.append(stats.spearmanr(predicted[rows], measured[rows]).statistic)
        low, high = np.quantile(rhos, [0.025, 0.975])
        area, area_low, area_high = auroc(predicted, often)
        rho = float(stats.spearmanr(predicted, measured).statistic)
        click.echo(f"{DE_PRIOR} {name}: {rho:.3f} {area:.3f}", err=True)
        yield {
            "variant": name,
            "genes": len(measured),
            "often": int(often.sum()),
            "rho": rho,
            "low": low,
            "high": high,
            "auroc": area,
            "auroc_low": area_low,
            "auroc_high": area_high,
        }


@click.command()
@click.argument("expression", type=click.Path(exists=True, path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
def main(expression: Path, folder: Path) -> None:
    """Score all models; write the tables."""
    logging.basicConfig(level=logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "de_prior.tsv": pd.DataFrame(prior_rows(expression)),
        "persons.tsv": pd.DataFrame(
            row for model in COHORTS for row in person_rows(model, expression)
        ),
    }
    for name, table in tables.items():
        with atomic_path(folder / name) as path:
            table.round(4).to_csv(path, sep="\t", index=False)


if __name__ == "__main__":
    main()
