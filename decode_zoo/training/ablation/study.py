"""Ablation: a network trained anew on inputs that were exchanged between genes.

Source: Tasaki et al. 2020, Figures 3a and 4c, where RNA features, promoter features or both are
randomised across genes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.errors import InputError, UsageError
from decode_zoo.families import Network
from decode_zoo.layout import SIDES, Side
from decode_zoo.studies.findings import Findings
from decode_zoo.training.ablation.comparison import compare, correlate, summarise
from decode_zoo.training.ablation.permutation import permute
from decode_zoo.training.checkpoints import Checkpoints, Progress
from decode_zoo.training.dataset import PARTS, Dataset
from decode_zoo.training.pipeline import predict_part

__all__ = ["VARIANTS", "Ablation", "ablate"]

FloatArray = npt.NDArray[np.float64]

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


@dataclass(frozen=True, repr=False)
class Ablation:
    """What came of an ablation: tables of `comparison.summarise` and `comparison.compare`.

    `outputs` has one row an output: ``output``, ``kind``, and rho of each variant on test genes;
    `genes` the number of genes in each part of the split.
    """

    variants: pd.DataFrame
    comparisons: pd.DataFrame
    outputs: pd.DataFrame
    genes: dict[str, int]
    resamples: int
    seed: int

    def pair(self, first: str, second: str) -> dict[str, Any]:
        """Return a row of `comparisons`."""
        table = self.comparisons
        (row,) = table[(table["first"] == first) & (table["second"] == second)].to_dict("records")
        return {str(name): value for name, value in row.items()}

    def stronger(self) -> str:
        """Say which side tells more of fold changes, if its interval over genes does."""
        row = self.pair(RNA, PROMOTER)
        if row["difference_low"] > 0:
            return "promoters"
        return "RNA" if row["difference_high"] < 0 else "cannot be told"

    def findings(self, numbers: Mapping[str, Any]) -> Findings:
        """Lay out what was found, with pictures; `numbers` is what else the summary is to hold."""
        from decode_zoo.training.ablation.figures import draw_differences, draw_outputs

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
        return Findings(
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
                "outputs": (
                    "Spearman's rho over test genes, a dot an output, lines between the same; "
                    "bars are means, diamonds the median expression.",
                    draw_outputs(self),
                ),
                "differences": (
                    "Differences of rho, first less second, with 95% intervals over genes.",
                    draw_differences(self),
                ),
            },
            {
                "genes": self.genes,
                "variants": self.variants.to_dict("records"),
                "comparisons": self.comparisons.to_dict("records"),
                "resamples": self.resamples,
                "seed": self.seed,
                **numbers,
            },
        )


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
