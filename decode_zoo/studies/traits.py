"""Traits: what expression, its prediction and its regulators have to do with age, sex or others.

Source: Tasaki et al. 2020, Methods, 'Differential expression analysis for age and sex', and Fig. 5:
measured and predicted expression of the same samples, and the scores of each regulator, are related
to a trait by the same moderated linear model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from decode_zoo.cohort.expression import make_targets
from decode_zoo.core.arrays import BoolArray, FloatArray, IntArray
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.core.provenance import plain, provenance
from decode_zoo.core.text import counted
from decode_zoo.features.genes import genes_of
from decode_zoo.networks.metrics import against_null, interval_95, spearman
from decode_zoo.studies.measured import fold_changes, shared_genes
from decode_zoo.studies.result import StudyResult
from decode_zoo.studies.trait_models import Design, Moderated, make_design, moderate
from decode_zoo.zoo.model import Model

__all__ = ["RegulatorGenes", "TraitStudy", "study_traits"]

RegulatorGenes = Literal["all", "de"]

FORMAT_VERSION = 1


@dataclass(frozen=True, repr=False)
class TraitStudy:
    """What a trait has to do with expression, predictions and regulators.

    ``effect`` is in log2 units by unit of the trait, or between its levels; ``mean`` is over
    samples: log2 TPM of the expression, log2 fold change of its prediction. The value of a
    regulator in a sample is its signed score for this sample's output, averaged over genes.
    """

    design: Design
    expression: pd.DataFrame  # a gene a row: name, symbol, effect, mean, t, p, q
    predicted: pd.DataFrame  # the same genes
    regulators: pd.DataFrame  # a regulator a row, class in place of the symbol; strongest first
    scores: pd.DataFrame  # (n_regulators, n_samples): these values, rows as regulators
    numbers: dict[str, Any]  # numbers of samples and genes, concordance, provenance

    def __repr__(self) -> str:
        """Return a line that says what this is."""
        return (
            f"TraitStudy({self.design.trait}: {len(self.design.samples)} samples, "
            f"{len(self.expression)} genes, {len(self.regulators)} regulators)"
        )

    def result(self) -> StudyResult:
        """Put tables and words together, for a folder or a report."""
        tables = {
            "expression": ("Expression by gene", self.expression),
            "predicted": ("Prediction by gene", self.predicted),
            "regulators": ("Regulators", self.regulators),
        }
        title = f"{self.design.trait}: expression, prediction, regulators"
        return StudyResult(
            "traits",
            title,
            self._facts(),
            (),
            tables,
            self.numbers,
            self.summary(),
            {"study": self},
        )

    def summary(self) -> list[str]:
        """Return who and what was studied, and what came of it."""
        samples, genes, found = (self.numbers[key] for key in ("samples", "genes", "concordance"))
        lines = [
            f"{counted(samples['n'], 'sample')} (the model has {samples['of_model']}, the "
            f"matrix {samples['of_expression']}, the table {samples['of_table']}; "
            f"{len(samples['without_value'])} without a value), "
            f"{counted(genes['n'], 'gene')} {genes['chosen']}"
        ]
        if genes["tested_on"] is not None and genes["tested_on"] < genes["n"]:
            lines.append(
                f"the model was tested on {genes['tested_on']:,} of these genes; of the others it "
                "may know the expression"
            )
        lines += [f"{name}: {coding}" for name, coding in self.numbers["coding"].items()]
        if found["other_samples"]["p"] is not None:
            lines.append(
                f"t statistics of expression and prediction: Spearman's rho "
                f"{found['spearman']:.3f}, with other samples "
                f"{found['other_samples']['mean']:.3f} (p = {found['other_samples']['p']:.2g}), "
                f"with random traits {found['random_traits']['mean']:.3f}"
            )
        regulators = self.numbers["regulators"]
        lines.append(
            f"related at FDR {self.numbers['fdr']:g}: {self.numbers['expression']['related']} "
            f"genes by expression, {self.numbers['predicted']['related']} by prediction, "
            f"{regulators['related']} of {regulators['n']} regulators"
        )
        return lines

    def _facts(self) -> dict[str, str]:
        rho = self.numbers["concordance"]["spearman"]
        related = [
            self.numbers[name]["related"] for name in ("expression", "predicted", "regulators")
        ]
        return {
            "Model": self.numbers["provenance"]["model"]["id"],
            "Samples": f"{len(self.design.samples):,}",
            "Genes": f"{len(self.expression):,}",
            "Concordance of t": "not known" if rho is None else f"rho {rho:.2f}",
            "Related": "{:,} by expression, {:,} by prediction, {:,} regulators".format(*related),
        }


def study_traits(
    model: Model,
    expression: pd.DataFrame,
    samples: pd.DataFrame,
    trait: str,
    *,
    covariates: Sequence[str] = (),
    genes: Iterable[str] | None = None,
    regulator_genes: RegulatorGenes = "all",
    fdr: float = 0.05,
    permutations: int = 200,
    resamples: int = 1000,
    seed: int = 0,
    command: Sequence[str] = ("decode_zoo.studies.traits.study_traits",),
    facts: Mapping[str, object] | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> TraitStudy:
    """Relate a trait to expression, its prediction, and regulators.

    `expression` is prepared, genes × samples, as `read_expression` gives it; `samples` as
    `read_samples`. The trait is a column of numbers, of brackets such as 50-59,
    or of two levels (`make_design`); its effect is adjusted for the covariates. Studied are the
    genes named, or those that the model was tested on. Scores of regulators are averaged over all
    of them, or over those of which expression is related to the trait ("de"), at `fdr` or less.
    Samples are permuted `permutations` times, for the null distributions; genes are drawn
    with replacement `resamples` times, for the intervals.

    Raises InputError if no sample or fewer than ten genes are in all that they must be in, or the
    trait cannot be studied, UsageError if scores were to be averaged over related genes, of which
    there are none.
    """
    wanted = genes_of(genes)
    if regulator_genes not in get_args(RegulatorGenes):
        raise UsageError(
            f"Scores are averaged over {' or '.join(get_args(RegulatorGenes))} genes, "
            f"not {regulator_genes!r}."
        )
    if not 0 < fdr < 1:
        raise UsageError(f"The FDR must be between 0 and 1, not {fdr}.")
    if min(permutations, resamples) < 1:
        raise UsageError("There must be one permutation and one resample at least.")
    bound = model.bind()
    shared = _shared_samples(model, expression, samples)
    design = make_design(samples, shared, trait, covariates)
    # Fold changes and median, as models learn them; this also refuses counts. Subtracting the
    # median of a gene changes none of its statistics but the mean.
    targets = make_targets(expression[list(design.samples)], scale="log2")
    found = shared_genes(model, bound, expression, targets.values, wanted)
    measured, median = targets.values[found.places, :-1], targets.values[found.places, -1]
    columns = [model.outputs.index(name) for name in design.samples]
    backend = model.backend("numpy")
    predicted = np.asarray(model.predict_rows(found.rows, bound, backend), np.float64)[:, columns]

    actual, forecast = moderate(measured, design.matrix), moderate(predicted, design.matrix)
    related = actual.q <= fdr
    explained = found.rows[related] if regulator_genes == "de" else found.rows
    if not explained.size:
        raise UsageError(
            f"No gene's expression is related to {trait} (FDR {fdr:g}), so scores "
            "cannot be averaged over such genes.",
            remedy="Average over all genes, or raise the FDR.",
        )
    features, scores = _regulator_scores(model, design.samples, explained, progress)
    regulation = moderate(scores, design.matrix)
    order = np.argsort(regulation.p, kind="stable")

    lengths = np.array(bound.features.rows.rna_lengths, np.float64)[found.rows]
    generator = np.random.default_rng(seed)
    concordance = _concordance(actual.t, forecast.t, related, lengths, resamples, generator)
    data = (measured, predicted, design.matrix)
    permuted = _permuted(*data, concordance, actual.t, related, permutations, generator)

    table = bound.features.rows
    labels = {
        "name": [str(targets.gene_ids[i]) for i in found.places],
        "symbol": [table.symbols[row] for row in found.rows],
    }
    kinds = features.astype(str)
    regulators = {"name": kinds["regulator"].tolist(), "class": kinds["class"].tolist()}
    numbers = {
        "format_version": FORMAT_VERSION,
        "trait": trait,
        "coding": dict(design.coding),
        "coefficients": list(design.names),
        "fdr": fdr,
        "samples": {
            "n": len(design.samples),
            "of_model": len(fold_changes(model)),
            "of_expression": expression.shape[1],
            "of_table": len(samples),
            "without_value": list(design.incomplete),
        },
        "genes": found.facts,
        "expression": _told(actual, fdr),
        "predicted": _told(forecast, fdr),
        "regulators": {
            **_told(regulation, fdr),
            "score": "signed mean over genes",
            "genes": regulator_genes,
            "n_genes": explained.size,
        },
        "concordance": {**concordance, **permuted},
        "seed": seed,
        "provenance": provenance(command, **model.provenance(bound, backend), **(facts or {})),
    }
    return TraitStudy(
        design,
        actual.to_frame(labels).assign(mean=actual.mean + median),
        forecast.to_frame(labels),
        regulation.to_frame(regulators).iloc[order].reset_index(drop=True),
        pd.DataFrame(scores[order], [regulators["name"][i] for i in order], list(design.samples)),
        plain(numbers),
    )


def _shared_samples(model: Model, expression: pd.DataFrame, samples: pd.DataFrame) -> list[str]:
    """Return the samples that model, matrix and table have, in the order of the table."""
    outputs = set(fold_changes(model))
    columns = {str(name) for name in expression.columns}
    shared = [name for name in map(str, samples.index) if name in outputs and name in columns]
    if not shared:
        raise InputError(
            f"no sample of the table is both in the model ({model.outputs[0]}, …) and in the "
            f"expression matrix ({expression.columns[0]}, …); its first is {samples.index[0]}",
            path=samples.attrs.get("path"),
            remedy="Samples are matched by name: outputs of the "
            "model, columns of the matrix, and the first column of the table.",
        )
    return shared


def _regulator_scores(
    model: Model, samples: Sequence[str], rows: IntArray, progress: Callable[[int, int], object]
) -> tuple[pd.DataFrame, FloatArray]:
    """Regulators with sites in any of the genes, and their mean signed score for each sample."""
    explainer = model.explainer(by="regulator", outputs=samples)
    resolution = explainer.resolution
    total = explainer.summarise(rows, progress)
    kept = np.flatnonzero((total.present > 0) & ~resolution.is_mask)
    return resolution.features.iloc[kept], total.total[kept] / total.n_genes


def _told(result: Moderated, fdr: float) -> dict[str, Any]:
    return {
        "n": result.t.size,
        "related": int((result.q <= fdr).sum()),
        "df_residual": result.df_residual,
        # JSON has no infinity.
        "df_prior": result.df_prior if np.isfinite(result.df_prior) else "infinite",
        "variance_prior": result.variance_prior,
    }


def _concordance(
    actual: FloatArray,
    forecast: FloatArray,
    related: BoolArray,
    lengths: FloatArray,
    resamples: int,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """Compare t statistics of expression and of its prediction, gene by gene, shape (n,) each."""
    n = actual.size
    rho = spearman(actual, forecast)
    drawn = [generator.integers(n, size=n) for _ in range(resamples)]
    rhos = [spearman(actual[rows], forecast[rows]) for rows in drawn]
    shares = [_same_sign(actual[rows], forecast[rows], related[rows]) for rows in drawn]
    with_length = spearman(actual, lengths), spearman(forecast, lengths)
    return {
        "spearman": rho,
        "interval_95": interval_95(rhos),
        "spearman_given_rna_length": _partial(rho, *with_length),
        "expression_with_rna_length": with_length[0],
        "predicted_with_rna_length": with_length[1],
        "n_related": int(related.sum()),
        "same_sign": _same_sign(actual, forecast, related),
        "same_sign_interval_95": interval_95(shares),
        "resamples": resamples,
    }


def _permuted(
    measured: FloatArray,
    predicted: FloatArray,
    design: FloatArray,
    found: Mapping[str, Any],
    actual: FloatArray,
    related: BoolArray,
    permutations: int,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """Compare what was `found` (`_concordance`) with that of permuted samples.

    One permutation serves two questions: whether predictions are those of these samples (expression
    keeps its samples), and whether this trait is more than any other (both lose it, and keep their
    covariates).
    """
    others, traits, shares = [], [], []
    for _ in range(permutations):
        order = generator.permutation(len(design))
        t = moderate(predicted, design[order]).t
        others.append(spearman(actual, t))
        shares.append(_same_sign(actual, t, related))
        other_trait = np.column_stack([design[:, :-1], design[order, -1]])
        if design.shape[1] > 2:
            t = moderate(predicted, other_trait).t
        traits.append(spearman(moderate(measured, other_trait).t, t))
    return {
        "permutations": permutations,
        "other_samples": {
            **against_null(others, found["spearman"]),
            "same_sign": against_null(shares, found["same_sign"]),
        },
        "random_traits": against_null(traits, found["spearman"]),
    }


def _partial(xy: float, xz: float, yz: float) -> float:
    """Correlation of x and y at the same z."""
    scale = (1 - xz * xz) * (1 - yz * yz)
    return (xy - xz * yz) / float(np.sqrt(scale)) if scale > 0 else np.nan


def _same_sign(a: FloatArray, b: FloatArray, chosen: BoolArray) -> float:
    return float((a[chosen] * b[chosen] > 0).mean()) if chosen.any() else np.nan
