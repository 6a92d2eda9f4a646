"""Tables of the comparison. The test part is looked at here, and chooses nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.accuracy import measures
from benchmarks.accuracy.figures import draw_all
from benchmarks.accuracy.models import rows_of
from benchmarks.accuracy.plan import CONTROLS, Plan
from benchmarks.accuracy.predictions import PARTS, Predictions
from decode_zoo.cohort.expression import PSEUDOCOUNT
from decode_zoo.core.errors import InputError
from decode_zoo.core.files import atomic_path
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.manifest import MEDIAN
from decode_zoo.training.dataset import Dataset

FloatArray = npt.NDArray[np.float64]

MEAN = "mean of fold changes"
LIVER = "Liver"
# What a number a gene predicts has no size to be calibrated.
NUMBERS = ("bound_tf_count", "rna_length")
BASELINES = (*NUMBERS, "ridge", "kernel_ridge", "lightgbm", "decode", "decode_mean")
SMALLEST_GROUP = 30
EXPRESSED = float(np.log2(2 + PSEUDOCOUNT))  # where the published network draws the line
BINS = 20


@dataclass(frozen=True)
class Comparison:
    """Predictions of all models beside what was observed, on one part of the split.

    Attributes
    ----------
    part : {"validation", "test"}
    names : tuple of str
        Outputs; the last is the median.
    observed : ndarray of float64, shape (n, n_outputs)
    predicted : Mapping of str to ndarray of float64, shape (n, n_outputs)
        By model; NaN in columns that a model does not predict.
    resamples, seed : int
        Of the bootstrap over genes.
    """

    part: str
    names: tuple[str, ...]
    observed: FloatArray
    predicted: Mapping[str, FloatArray] = field(repr=False)
    resamples: int
    seed: int

    @cached_property
    def counts(self) -> FloatArray:
        """How often each gene is in each resample (`measures.resample_counts`)."""
        return measures.resample_counts(len(self.observed), self.resamples, self.seed)

    @cached_property
    def samples(self) -> dict[str, FloatArray]:
        """Spearman's rho of each model, by resample and output (`measures.bootstrap`)."""
        return measures.bootstrap(self.predicted, self.observed, self.counts)

    def of_genes(self, chosen: npt.NDArray[np.bool_], models: Sequence[str]) -> Comparison:
        """Return the same for some of the genes and models."""
        predicted = {name: self.predicted[name][chosen] for name in models}
        return Comparison(
            self.part, self.names, self.observed[chosen], predicted, self.resamples, self.seed
        )


def compare(
    dataset: Dataset, models: Mapping[str, Predictions], part: str, resamples: int, seed: int
) -> Comparison:
    """Put predictions beside observations.

    Raises
    ------
    InputError
        If a model predicts other genes than those of the data set.
    """
    rows, names = rows_of(dataset, part), dataset.targets.names
    genes = tuple(dataset.targets.gene_ids[i] for i in rows)
    predicted = {}
    for model, found in models.items():
        if found.genes[part] != genes:
            raise InputError(
                f"predictions of '{model}' are of other genes than the data set's",
                remedy="Remove its files, and they are made again.",
            )
        predicted[model] = np.full((len(rows), len(names)), np.nan)
        predicted[model][:, [names.index(name) for name in found.outputs]] = found.values[part]
    return Comparison(part, names, dataset.targets.values[rows], predicted, resamples, seed)


def statistics(samples: FloatArray, names: Sequence[str]) -> dict[str, FloatArray]:
    """By resample: the mean over the fold changes that are there, and the median."""
    there = ~np.isnan(samples[0, :-1])
    mean = samples[:, :-1][:, there].mean(axis=1) if there.any() else samples[:, -1] * np.nan
    return {MEAN: mean, names[-1]: samples[:, -1]}


def summary_table(found: Comparison) -> pd.DataFrame:
    """Mean over fold changes, and the median, of each model; intervals over genes."""
    rows = []
    for model, samples in found.samples.items():
        n_outputs = int((~np.isnan(samples[0, :-1])).sum())
        for name, values in statistics(samples, found.names).items():
            rho, low, high = measures.summary(values)
            rows.append(
                {
                    "part": found.part,
                    "model": model,
                    "statistic": name,
                    "n_outputs": n_outputs if name == MEAN else 1,
                    "n_genes": len(found.observed),
                    "spearman": rho,
                    "low": low,
                    "high": high,
                }
            )
    return pd.DataFrame(rows)


def output_table(found: Comparison) -> pd.DataFrame:
    """Spearman's rho of each model and output, with intervals over genes."""
    rows = []
    for model, samples in found.samples.items():
        for column, name in enumerate(found.names):
            rho, low, high = measures.summary(samples[:, column])
            if not np.isnan(rho):
                rows.append(
                    {
                        "part": found.part,
                        "model": model,
                        "output": name,
                        "spearman": rho,
                        "low": low,
                        "high": high,
                    }
                )
    return pd.DataFrame(rows)


def pairs_of(models: Sequence[str], reference: str) -> list[tuple[str, str]]:
    """List what is compared with what: ours with baselines, controls with their like."""
    wanted = [("ours", name) for name in BASELINES]
    wanted += [(f"ours_{name}", reference) for name in CONTROLS]
    wanted += [(f"ridge_{name}", "ridge") for name in CONTROLS]
    return [(a, b) for a, b in wanted if a in models and b in models]


def difference_table(found: Comparison, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Paired differences between models, on the outputs that both predict."""
    rows = []
    for a, b in pairs:
        both = np.isnan(found.samples[a][0]) | np.isnan(found.samples[b][0])
        first, second = (np.where(both, np.nan, found.samples[name]) for name in (a, b))
        columns = dict(zip(found.names, zip(first.T, second.T, strict=True), strict=True))
        means = (statistics(one, found.names)[MEAN] for one in (first, second))
        for name, (one, other) in {MEAN: tuple(means), **columns}.items():
            if np.isnan(one[0]):
                continue
            difference, low, high = measures.summary(one - other)
            rows.append(
                {
                    "part": found.part,
                    "model": a,
                    "other": b,
                    "output": name,
                    "n_outputs": int((~both[:-1]).sum()) if name == MEAN else 1,
                    "spearman": one[0],
                    "other_spearman": other[0],
                    "difference": difference,
                    "low": low,
                    "high": high,
                }
            )
    return pd.DataFrame(
        rows,
        columns=[
            "part",
            "model",
            "other",
            "output",
            "n_outputs",
            "spearman",
            "other_spearman",
            "difference",
            "low",
            "high",
        ],
    )


def whole_models(found: Comparison) -> list[str]:
    """Models that predict all outputs, in units of their own size."""
    return [
        name
        for name, values in found.predicted.items()
        if name not in NUMBERS and not np.isnan(values).any()
    ]


def specificity_of(found: Comparison, model: str, *, centre: bool = False) -> FloatArray:
    """Rho of predicted (rows) with observed (columns) fold changes of all tissues."""
    values = found.predicted[model][:, :-1], found.observed[:, :-1]
    if centre:
        values = measures.centred(values[0]), measures.centred(values[1])
    return measures.specificity(*values)


def specificity_table(found: Comparison) -> pd.DataFrame:
    """Count tissues that match their own best, of each model that predicts all of them."""
    rows = []
    for model in whole_models(found):
        for centre in (False, True):
            rho = specificity_of(found, model, centre=centre)
            predictions, observations = measures.own_best(rho)
            others = rho[~np.eye(len(rho), dtype=bool)].mean()
            rows.append(
                {
                    "part": found.part,
                    "model": model,
                    "centred": centre,
                    "tissues": len(rho),
                    "predictions_own_best": predictions,
                    "observations_own_best": observations,
                    "mean_own": np.diagonal(rho).mean(),
                    "mean_others": others,
                }
            )
    return pd.DataFrame(rows)


def calibration_table(found: Comparison) -> pd.DataFrame:
    """Slope of observed on predicted fold changes within tissues; of ours also of each tissue."""
    rows = []
    for model in whole_models(found):
        predicted = found.predicted[model][:, :-1]
        columns = {"all fold changes": slice(None)}
        if model == "ours":
            columns |= {name: slice(i, i + 1) for i, name in enumerate(found.names[:-1])}
        for name, chosen in columns.items():
            x, y = predicted[:, chosen], found.observed[:, :-1][:, chosen]
            slope, low, high = measures.summary(measures.slopes(x, y, found.counts))
            rows.append(
                {
                    "part": found.part,
                    "model": model,
                    "output": name,
                    "slope": slope,
                    "low": low,
                    "high": high,
                    "predicted_sd": measures.within_tissues(x).std(),
                    "observed_sd": measures.within_tissues(y).std(),
                }
            )
    return pd.DataFrame(rows)


def quantile_table(found: Comparison, model: str = "ours") -> pd.DataFrame:
    """Observed fold changes in bins of the predicted ones, and quantiles of both.

    All are less their tissue's mean over the genes.
    """
    both = found.predicted[model][:, :-1], found.observed[:, :-1]
    x, y = (measures.within_tissues(values) for values in both)
    bins = pd.DataFrame(measures.calibration_bins(x, y, BINS))
    quantiles = pd.DataFrame(measures.quantile_pairs(x, y, BINS))
    bins[["level", "predicted_quantile", "observed_quantile"]] = quantiles
    bins.insert(0, "part", found.part)
    return bins


# --- where it fails ---------------------------------------------------------------------------


def fifths(values: npt.NDArray[Any], digits: int) -> list[str]:
    """Name the fifth of the genes that each is in, with its range."""
    ranks = pd.Series(values).rank(method="first")
    fifth = np.asarray(pd.qcut(ranks, 5, labels=False))
    ranges = {
        i: f"{i + 1} of 5: {values[fifth == i].min():.{digits}f} to "
        f"{values[fifth == i].max():.{digits}f}"
        for i in range(5)
    }
    return [ranges[int(i)] for i in fifth]


def gene_groups(dataset: Dataset, part: str, sources: Mapping[str, str]) -> dict[str, list[str]]:
    """Label the genes of a part in several ways, each gene once in each."""
    rows = rows_of(dataset, part)
    own, values = dataset.rows[rows], dataset.targets.values[rows]
    highest = values[:, -1] + values[:, :-1].max(axis=1)
    bound = np.zeros(len(rows), np.int64)
    for side in SIDES:
        sums = dataset.features.sums(side)[0][own][:, dataset.bound.columns[side]]
        bound += np.asarray((sums > 0).sum(axis=1)).ravel()
    found = {
        "biotype": [dataset.features.rows.biotypes[i] for i in own],
        "bound tracks": fifths(bound, 0),
        "median expression, log2 TPM": fifths(values[:, -1], 1),
        "best tissue": ["above 2 TPM" if high else "2 TPM or less" for high in highest > EXPRESSED],
    }
    if sources:
        genes = (dataset.targets.gene_ids[i] for i in rows)
        found["data source"] = [sources.get(gene, "not known") for gene in genes]
    return found


def group_table(
    found: Comparison, groups: Mapping[str, Sequence[str]], models: Sequence[str]
) -> pd.DataFrame:
    """Score groups of genes, by themselves; those with few genes are left out."""
    tables = []
    for grouping, labels in groups.items():
        for label in sorted(set(labels)):
            chosen = np.array(labels, object) == label
            if chosen.sum() >= SMALLEST_GROUP:
                table = summary_table(found.of_genes(chosen, models))
                table.insert(1, "grouping", grouping)
                table.insert(2, "group", label)
                tables.append(table)
    return pd.concat(tables) if tables else pd.DataFrame()


def read_sources(path: Path) -> dict[str, str]:
    """Read where each gene's expression comes from: columns gene_id and source."""
    table = pd.read_csv(path, sep="\t", dtype=str)
    if list(table.columns) != ["gene_id", "source"]:
        raise InputError("has not the columns gene_id and source", path=path, line=1)
    return dict(zip(table["gene_id"].str.partition(".")[0], table["source"], strict=True))


def run_table(models: Mapping[str, Predictions]) -> pd.DataFrame:
    """What was chosen on validation genes, as text, by model."""
    return pd.DataFrame(
        [{"model": name, "chosen": str(dict(found.notes))} for name, found in models.items()]
    )


# --- the whole --------------------------------------------------------------------------------


def write_report(
    plan: Plan,
    models: Mapping[str, Predictions],
    missing: Sequence[str],
    sources: Mapping[str, str],
    folder: Path,
    *,
    resamples: int,
    seed: int = 0,
) -> str:
    """Write tables and figures, and return the page that sums them up (README.md)."""
    folder.mkdir(exist_ok=True)
    dataset = plan.dataset()
    pairs = pairs_of(list(models), plan.reference)
    shown = [name for name in ("ours", "ridge") if name in models]
    parts = {part: compare(dataset, models, part, resamples, seed) for part in PARTS}
    tables = {
        "summary": pd.concat([summary_table(found) for found in parts.values()]),
        "outputs": pd.concat([output_table(found) for found in parts.values()]),
        "differences": pd.concat([difference_table(found, pairs) for found in parts.values()]),
        "specificity": pd.concat([specificity_table(found) for found in parts.values()]),
        "calibration": pd.concat([calibration_table(found) for found in parts.values()]),
        "groups": pd.concat(
            [
                group_table(found, gene_groups(dataset, part, sources), shown)
                for part, found in parts.items()
            ]
        ),
        "chosen": run_table(models),
    }
    matrices: dict[str, FloatArray] = {}
    if "ours" in models:
        tables["quantiles"] = pd.concat([quantile_table(found) for found in parts.values()])
        names = list(dataset.targets.names[:-1])
        for centre in (False, True):
            label = "heatmap_centred" if centre else "heatmap"
            matrices[label] = specificity_of(parts["test"], "ours", centre=centre)
            tables[label] = pd.DataFrame(matrices[label], columns=names)
            tables[label].insert(0, "predicted", names)
    for name, table in tables.items():
        with atomic_path(folder / f"{name}.tsv") as temporary:
            table.to_csv(temporary, sep="\t", index=False, float_format="%.4f", lineterminator="\n")
    draw_all(tables, matrices, parts["test"].observed[:, :-1], folder)
    page = page_of(tables, plan, missing, resamples)
    with atomic_path(folder / "README.md") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return page


def page_of(
    tables: Mapping[str, pd.DataFrame], plan: Plan, missing: Sequence[str], resamples: int
) -> str:
    """Sum the tables up in Markdown."""
    test = ", ".join(plan.selection.test)
    differences, groups = tables["differences"], tables["groups"]
    key = differences[differences["output"].isin([MEAN, MEDIAN])]
    liver = differences[
        (differences["output"] == LIVER) & differences["model"].str.endswith("without_hepg2")
    ]
    ours = tables["outputs"][
        (tables["outputs"]["model"] == "ours")
        & (tables["outputs"]["part"] == "test")
        & (tables["outputs"]["output"] != MEDIAN)
    ]
    return (
        "\n\n".join(
            [
                "# Accuracy of all models on the same split and features",
                f"Spearman's rho over genes. Test genes: chromosome {test}; they chose nothing: "
                "penalties, widths, numbers of trees, stopping and the best repeat are by "
                "validation genes, which therefore flatter the models that were chosen on them. "
                f"Intervals: 95%, bootstrap over genes, {resamples} resamples, the same ones for "
                "all models.",
                *([f"Missing: {', '.join(missing)}."] if missing else []),
                "## Scores",
                _markdown(tables["summary"]),
                "## Differences, paired",
                _markdown(key),
                "## Liver without the tracks of HepG2",
                "Tracks that merge cells (ReMap) name none, and stay; so do those of liver tissue.",
                _markdown(liver),
                "## Does a prediction match its own tissue best?",
                _markdown(tables["specificity"]),
                "## Size of fold changes",
                "Slope of observed on predicted ones, both less their tissue's mean: 1 is right.",
                _markdown(
                    tables["calibration"][tables["calibration"]["output"] == "all fold changes"]
                ),
                "## Worst tissues",
                _markdown(ours.sort_values("spearman").head(10)),
                "## By class of genes",
                _markdown(groups[groups["part"] == "test"] if len(groups) else groups),
            ]
        )
        + "\n"
    )


def _markdown(table: pd.DataFrame) -> str:
    """Write a table in Markdown."""
    if table.empty:
        return "(none)"
    cells = [
        [f"{value:.3f}" if isinstance(value, float) else str(value) for value in row]
        for row in table.itertuples(index=False)
    ]
    lines = [list(map(str, table.columns)), ["---"] * table.shape[1], *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
