"""Ablation: a network trained anew on inputs that were exchanged between genes.

Source: Tasaki et al. 2020, Figures 3a and 4c, where RNA features, promoter features or both are
randomised across genes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from decode_zoo.core.arrays import BoolArray, FloatArray, IntArray
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.features.spec import SIDES, Side
from decode_zoo.networks.families import Network
from decode_zoo.networks.metrics import column_correlation
from decode_zoo.studies.result import StudyResult
from decode_zoo.training.checkpoints import Checkpoints, Progress
from decode_zoo.training.dataset import PARTS, Dataset
from decode_zoo.training.pipeline import predict_part

__all__ = [
    "VARIANTS",
    "Ablation",
    "PermutedDataset",
    "ablate",
    "compare",
    "correlate",
    "permute",
    "summarise",
]

_log = logging.getLogger(__name__)

# By name: sides whose inputs are exchanged between genes.
VARIANTS: Mapping[str, Sequence[Side]] = {
    "intact": (),
    "rna_exchanged": ("rna",),
    "promoter_exchanged": ("promoter",),
    "both_exchanged": SIDES,
}
INTACT, RNA, PROMOTER, BOTH = VARIANTS
_FEWEST = 20  # genes to test on


@dataclass(frozen=True)
class PermutedDataset(Dataset):
    """A data set whose genes see the inputs of others, on some sides. Made by `permute`."""

    # The row of `targets` whose inputs each row sees.
    order: Mapping[Side, IntArray] = field(default_factory=dict)

    def pooled(self, part: IntArray) -> dict[Side, npt.NDArray[np.float32]]:
        """Position sums that some rows see."""
        bound = self.bound
        return {
            side: bound.features.pooled_rows(
                self.rows[self.order[side][part]], side, bound.kernels[side], columns
            ).dense()
            for side, columns in bound.columns.items()
        }

    def full(self, part: IntArray) -> dict[Side, npt.NDArray[np.float32]]:
        """Full matrices that some rows see, padded as `BoundFeatures.full` does."""
        bound = self.bound
        return {
            side: bound.features.matrix(
                self.rows[self.order[side][part]],
                side,
                columns=columns,
                pad=bound.kernels[side] - 1,
            )
            for side, columns in bound.columns.items()
        }


def permute(dataset: Dataset, sides: Sequence[Side], seed: int) -> PermutedDataset:
    """Let genes see the inputs of other genes of their part of the split.

    Several sides move together: each gene then sees all inputs of one other gene. Inputs keep their
    distribution; what they tell of the gene is lost. As in any permutation, one gene of a part, on
    average, keeps its own. A seed moves inputs in the same way, whatever the sides.
    """
    shuffled = np.arange(len(dataset.rows))
    rng = np.random.default_rng(seed)
    for part in PARTS:
        rows = getattr(dataset.split, part)
        shuffled[rows] = rng.permutation(rows)
    unchanged = np.arange(len(dataset.rows))
    order = {side: shuffled if side in sides else unchanged for side in SIDES}
    return PermutedDataset(**vars(dataset), order=order)


# By name, the ends of a 95% interval.
_ENDS = {"low": 0.025, "high": 0.975}

# Spearman's rho by prediction, each of shape (1 + resamples, n_outputs). The first row is of the
# genes as they are, the others of genes drawn with replacement: the same in a row for all
# predictions and outputs, so that differences are paired.
Rho = dict[str, FloatArray]


def correlate(
    predicted: Mapping[str, FloatArray], observed: FloatArray, *, resamples: int, seed: int
) -> Rho:
    """Correlate predictions with observations over genes, and over resamples of the genes.

    0 where a prediction or the observation does not vary: it then says nothing of the order.
    """
    rng, n = np.random.default_rng(seed), len(observed)
    drawn = [np.arange(n), *(rng.integers(n, size=n) for _ in range(resamples))]
    found: dict[str, list[FloatArray]] = {name: [] for name in predicted}
    for rows in drawn:
        truth = stats.rankdata(observed[rows], axis=0)
        for name, values in predicted.items():
            ranks = stats.rankdata(values[rows], axis=0)
            found[name].append(np.nan_to_num(column_correlation(ranks, truth)))
    return {name: np.array(rows) for name, rows in found.items()}


def summarise(rho: Rho, medians: BoolArray) -> pd.DataFrame:
    """Return each prediction's ``rho`` (mean over fold changes), ``median_rho``, 95% ranges."""
    return pd.DataFrame(
        {
            "variant": name,
            **_estimate("rho", values[:, ~medians].mean(axis=1)),
            **_estimate("median_rho", values[:, medians].mean(axis=1)),
        }
        for name, values in rho.items()
    )


def compare(rho: Rho, medians: BoolArray) -> pd.DataFrame:
    """Compare each prediction with each other one.

    One row a pair: ``difference`` of the mean rho of fold changes, first less second; ``higher``,
    in how many of them the first is better; ``p`` of Wilcoxon's signed-rank test of their rho,
    two-sided, ``p_bonferroni`` and ``q`` (Benjamini and Hochberg) over the pairs;
    ``median_difference``. Differences have the ends of their 95% intervals over genes.
    """
    differences = {(a, b): rho[a] - rho[b] for a, b in combinations(rho, 2)}
    changes = [values[0, ~medians] for values in differences.values()]
    # Without any difference there is nothing to rank.
    p = np.array([stats.wilcoxon(x).pvalue if x.any() else 1.0 for x in changes])
    q = stats.false_discovery_control(p)
    return pd.DataFrame(
        {
            "first": first,
            "second": second,
            **_estimate("difference", values[:, ~medians].mean(axis=1)),
            "higher": int((changes[i] > 0).sum()),
            "p": p[i],
            "p_bonferroni": min(p[i] * len(p), 1.0),
            "q": q[i],
            **_estimate("median_difference", values[:, medians].mean(axis=1)),
        }
        for i, ((first, second), values) in enumerate(differences.items())
    )


def _estimate(name: str, values: FloatArray) -> dict[str, float]:
    """Name an estimate, which comes first, and the ends of its 95% interval."""
    ends = {f"{name}_{end}": float(np.quantile(values[1:], at)) for end, at in _ENDS.items()}
    return {name: float(values[0]), **ends}


@dataclass(frozen=True, repr=False)
class Ablation:
    """What came of an ablation."""

    variants: pd.DataFrame  # of `summarise`
    comparisons: pd.DataFrame  # of `compare`
    outputs: pd.DataFrame  # output, kind, and rho of each variant on test genes
    genes: dict[str, int]  # in each part of the split
    resamples: int
    seed: int

    def pair(self, first: str, second: str) -> dict[str, Any]:
        """Return a row of `comparisons`."""
        table = self.comparisons
        (row,) = table[(table["first"] == first) & (table["second"] == second)].to_dict("records")
        return {str(name): value for name, value in row.items()}

    def stronger(self) -> str:
        """Return which side tells more of fold changes, if its interval over genes does."""
        row = self.pair(RNA, PROMOTER)
        if row["difference_low"] > 0:
            return "promoters"
        return "RNA" if row["difference_high"] < 0 else "cannot be told"

    def result(self, numbers: Mapping[str, Any]) -> StudyResult:
        """Lay out what was found; `numbers` is what else the summary is to hold."""
        table = self.variants.set_index("variant").to_dict("index")
        n_outputs = int((self.outputs["kind"] != "median").sum())
        facts = {
            "Mean rho of fold changes": _interval(table[INTACT], "rho"),
            "Lost without RNA": _interval(self.pair(INTACT, RNA), "difference"),
            "Lost without promoters": _interval(self.pair(INTACT, PROMOTER), "difference"),
            "Left without both": _interval(table[BOTH], "rho"),
            "Which tells more": self.stronger(),
            "Promoters ahead by": _interval(self.pair(RNA, PROMOTER), "difference"),
            "Genes tested on": f"{self.genes['test']:,}",
            "Outputs": f"{n_outputs} and the median",
        }
        notes = (
            "The same network was trained four times, with the same settings and seeds: on the "
            "inputs of genes themselves; with the RNA inputs, the promoter inputs or both of "
            "another gene of the same part of the split (training, validation or test). What an "
            "exchange costs is what these inputs tell of a gene. It is scored by Spearman's rho "
            "over test genes.",
            f"Intervals are 95%, over genes that are drawn anew {self.resamples:,} times, all "
            "outputs together. Go by them: Wilcoxon's test (signed ranks, two-sided) takes each "
            "output for a pair of its own, but outputs share their genes and resemble one another, "
            "so that its p is far too small. Neither knows the chance that is in training, which "
            "more networks a variant (--repeats) average out, and in the exchange: try another "
            "--seed before you believe a small difference.",
        )
        return StudyResult(
            "ablation",
            "What RNA and promoter inputs are worth",
            facts,
            notes,
            {
                "variants": ("Rank correlation by variant", self.variants),
                "comparisons": ("Differences between variants", self.comparisons),
                "outputs": ("Rank correlation by output", self.outputs),
            },
            {
                "genes": self.genes,
                "variants": self.variants.to_dict("records"),
                "comparisons": self.comparisons.to_dict("records"),
                "resamples": self.resamples,
                "seed": self.seed,
                **numbers,
            },
            self.summary(),
            {"study": self},
        )

    def summary(self) -> list[str]:
        """Return the rank correlation of each variant, and which inputs tell more."""
        lines = [
            f"{row['variant']}: rho {row['rho']:.3f} ({row['rho_low']:.3f} to "
            f"{row['rho_high']:.3f}), median {row['median_rho']:.3f}"
            for row in self.variants.to_dict("records")
        ]
        return [*lines, f"tells more of fold changes: {self.stronger()}"]


def ablate(
    dataset: Dataset,
    retrain: Callable[[Dataset], Network],
    *,
    seed: int = 0,
    resamples: int = 500,
    checkpoints: Checkpoints | None = None,
) -> Ablation:
    """Train on intact inputs and on exchanged ones, and compare on test genes.

    `retrain` trains a network on a data set, always with the same settings and seeds; `seed` is of
    the exchange and of the resamples. Predictions of variants that are done are kept in
    `checkpoints`, whose settings must hold all that decides them but the seed.
    """
    if dataset.targets.unit:
        raise UsageError("Scores of genes are no fold changes, over which variants are compared.")
    if resamples < 1:
        raise UsageError("There must be one resample at least.")
    test = dataset.split.test
    if len(test) < _FEWEST:
        raise InputError(
            f"{len(test)} genes are left to test on; it takes {_FEWEST}",
            remedy="Give more genes, or test on other chromosomes.",
        )
    predicted = {name: _predict(name, dataset, retrain, seed, checkpoints) for name in VARIANTS}
    kinds = [output.kind for output in dataset.outputs]
    medians = np.array([kind == "median" for kind in kinds])
    _log.info("%d resamples of %d genes", resamples, len(test))
    rho = correlate(predicted, dataset.targets.values[test], resamples=resamples, seed=seed)
    outputs = pd.DataFrame(
        {
            "output": list(dataset.targets.names),
            "kind": kinds,
            **{name: values[0] for name, values in rho.items()},
        }
    )
    genes = {part: len(getattr(dataset.split, part)) for part in PARTS}
    return Ablation(summarise(rho, medians), compare(rho, medians), outputs, genes, resamples, seed)


def _predict(
    name: str,
    dataset: Dataset,
    retrain: Callable[[Dataset], Network],
    seed: int,
    checkpoints: Checkpoints | None,
) -> FloatArray:
    """Predict test genes after training on a variant, unless that is done."""
    place = checkpoints and replace(checkpoints, settings={**checkpoints.settings, "variant": name})
    if place and (kept := place.load(seed)):
        _log.info("%s: done before", name)
        return kept.arrays["predicted"]
    _log.info("%d of %d: %s", 1 + list(VARIANTS).index(name), len(VARIANTS), name)
    started = time.monotonic()
    sides = VARIANTS[name]
    variant = permute(dataset, sides, seed) if sides else dataset
    predicted = predict_part(variant, retrain(variant), dataset.split.test)
    seconds = time.monotonic() - started
    if place:
        place.save(seed, Progress({}, seconds, {"predicted": predicted}))
    _log.info("%s: %.0f s", name, seconds)
    return predicted


def _interval(row: Mapping[Any, Any], name: str) -> str:
    """Write an estimate and its interval."""
    value, low, high = (
        f"{round(row[name + end], 3) + 0.0:.3f}".replace("-", "−") for end in ("", "_low", "_high")
    )
    return f"{value} ({low} to {high})"
