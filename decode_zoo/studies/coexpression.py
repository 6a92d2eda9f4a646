"""Co-expression: whether genes that rise and fall together are predicted to, and what else tells.

Source: Tasaki et al. 2020, Fig. 6a (pairs of genes within a tissue) and 6b (between two tissues of
the same donors).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.cohort.expression import Targets, make_targets
from decode_zoo.core.arrays import IntArray, SingleArray
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.core.provenance import provenance
from decode_zoo.core.text import counted
from decode_zoo.features.genes import genes_of
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.inputs import BoundFeatures
from decode_zoo.networks.metrics import against_null, interval_95
from decode_zoo.studies.correlation import (
    BINS,
    NEGATIVE,
    POSITIVE,
    Correlation,
    PairScore,
    Similarity,
    Tally,
    permuted_areas,
    strong_pairs,
    strongest_pairs,
    tally_pairs,
    unit_ranks,
)
from decode_zoo.studies.evaluation import donor_of
from decode_zoo.studies.measured import (
    StudiedGenes,
    first_places,
    fold_changes,
    shared_genes,
)
from decode_zoo.studies.result import StudyResult
from decode_zoo.zoo.model import Model

__all__ = [
    "PREDICTION",
    "TISSUES",
    "Comparison",
    "Tissue",
    "between",
    "open_tissue",
    "study_coexpression",
    "within",
]

# Fewer say nothing of correlations.
_FEWEST = 10
PREDICTION, TISSUES, _LENGTH, _TRACKS = "prediction", "tissue profiles", "RNA length", "tracks"

# Of strongly co-expressed pairs, how many tell what chance does.
_MOST_STRONG = 250_000
# Pairs in the table.
_STRONGEST = 1000
# Bins of the table of densities, and of its picture.
_SHOWN_BINS = 100
# Fewer strongly co-expressed pairs are said to be few.
_FEW = 100
# Which pairs are told from the rest: by absolute scores, by scores.
_PAIRS = ("either sign", "positive")
_Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Tissue:
    """A model and what was measured of the same samples."""

    label: str
    model: Model
    bound: BoundFeatures
    samples: tuple[str, ...]  # that both have
    targets: Targets  # all that was measured of them
    genes: StudiedGenes
    facts: Mapping[str, Any]  # what became of samples and genes

    def ranks(
        self, samples: Sequence[str], places: IntArray, rows: IntArray
    ) -> tuple[SingleArray, SingleArray]:
        """Return ranks of measured and predicted fold changes over samples, shape (n, m) each.

        `places` in `targets` and `rows` of the feature set are of the same n genes.
        """
        measured = [self.targets.names.index(name) for name in samples]
        predicted = [self.model.outputs.index(name) for name in samples]
        values = self.model.predict_rows(rows, self.bound, self.model.backend("numpy"))
        return (
            unit_ranks(self.targets.values[places][:, measured]),
            unit_ranks(values[:, predicted]),
        )


def open_tissue(
    label: str, model: Model, expression: pd.DataFrame, genes: Iterable[str] | None
) -> Tissue:
    """Bring a model of samples and their expression, genes × samples, together.

    Genes that the model was tested on if none are named. Raises InputError if they share too few
    samples or genes, UsageError if the model does not say which genes it was tested on.
    """
    outputs = set(fold_changes(model))
    samples = tuple(name for name in map(str, expression.columns) if name in outputs)
    if len(samples) < _FEWEST:
        raise InputError(
            f"{len(samples)} of its columns ({expression.columns[0]}, …) are samples of the model "
            f"{model.id} ({model.outputs[0]}, …); at least {_FEWEST} are needed",
            path=expression.attrs.get("path"),
            remedy="Samples are matched by name: columns of the "
            "matrix and outputs of the model. Give --model and --expression in the same order.",
        )
    bound = model.bind()
    targets = make_targets(expression[list(samples)], scale="log2")
    found = shared_genes(model, bound, expression, targets.values, genes)
    facts = {
        "model": model.id,
        "samples": {
            "n": len(samples),
            "of_model": len(outputs),
            "of_expression": expression.shape[1],
        },
        "genes": found.facts,
    }
    return Tissue(label, model, bound, samples, targets, found, facts)


@dataclass(frozen=True)
class Comparison:
    """Pairs of n genes, as measured and by several scores."""

    label: str
    ids: list[str]
    symbols: list[str]
    tracks: IntArray  # (n,): tracks with sites
    measured: Correlation
    scores: Mapping[str, PairScore]
    symmetric: bool  # whether a pair is the same in either order
    facts: Mapping[str, Any]


def within(tissue: Tissue, profiles: Model, order: IntArray) -> Comparison:
    """Compare the genes of a tissue with each other, in an order."""
    rows = tissue.genes.rows[order]
    ranks = tissue.ranks(tissue.samples, tissue.genes.places[order], rows)
    return _comparison(tissue, rows, tissue.label, (ranks, ranks), profiles, tissue.facts)


def between(
    one: Tissue, other: Tissue, profiles: Model, generator: np.random.Generator
) -> Comparison | str:
    """Compare genes in one tissue with genes in another, or say why that cannot be."""
    both = one, other
    donors = [{donor_of(name): name for name in reversed(t.samples)} for t in both]
    shared = [donor for donor in donors[0] if donor in donors[1]]
    label = f"{one.label} × {other.label}"
    if len(shared) < _FEWEST:
        return f"{label}: {len(shared)} donors are in both, at least {_FEWEST} are needed."
    places = [
        {t.bound.features.rows.ids[row]: i for i, row in enumerate(t.genes.rows)} for t in both
    ]
    common = [gene for gene in places[0] if gene in places[1]]
    if len(common) < _FEWEST:
        return f"{label}: {len(common)} genes are in both, at least {_FEWEST} are needed."
    common = [common[i] for i in generator.permutation(len(common))]
    ranks, tested = [], []
    for tissue, place, names in zip(both, places, donors, strict=True):
        chosen, genes = np.array([place[gene] for gene in common]), tissue.genes
        samples = [names[donor] for donor in shared]
        ranks.append(tissue.ranks(samples, genes.places[chosen], genes.rows[chosen]))
        tested.append(None if genes.tested is None else genes.tested[chosen])
    first, second = tested
    facts = {
        "models": [tissue.model.id for tissue in both],
        "donors": {"n": len(shared), "of_first": len(donors[0]), "of_second": len(donors[1])},
        "genes": {
            "n": len(common),
            "chosen": "studied in both",
            "tested_on": None if first is None or second is None else int((first & second).sum()),
        },
    }
    rows = one.genes.rows[[places[0][gene] for gene in common]]
    return _comparison(one, rows, label, ranks, profiles, facts)


def _comparison(
    tissue: Tissue,
    rows: IntArray,
    label: str,
    ranks: Sequence[tuple[SingleArray, SingleArray]],
    profiles: Model,
    facts: Mapping[str, Any],
) -> Comparison:
    """Put ranks, measured and predicted, of both genes of a pair beside what knows no sample."""
    features = tissue.bound.features
    ids = [features.rows.ids[row] for row in rows]
    tissues = fold_changes(profiles)
    profile = profiles.predict(ids, backend="numpy")[tissues].to_numpy(np.float64)
    unknown = np.isnan(profile).any(axis=1)
    rival = unit_ranks(np.where(unknown[:, None], 0, profile))
    bound = [np.diff((features.sums(side)[0][rows] > 0).indptr) for side in SIDES]
    tracks = np.array(bound, np.int64).sum(axis=0)
    lengths = np.array(features.rows.rna_lengths, np.float64)[rows]
    measured, predicted = (Correlation(a, b) for a, b in zip(*ranks, strict=True))
    return Comparison(
        label,
        ids,
        [features.rows.symbols[row] for row in rows],
        tracks,
        measured,
        {
            PREDICTION: predicted,
            TISSUES: Correlation(rival, rival),
            _LENGTH: Similarity.of(np.log2(np.maximum(lengths, 1))),
            _TRACKS: Similarity.of(np.log2(1 + tracks)),
        },
        ranks[0] is ranks[1],
        {**facts, "tissues": len(tissues), "genes_without_tissue_profile": int(unknown.sum())},
    )


@dataclass(frozen=True)
class _Settings:
    threshold: float
    permutations: int
    resamples: int


def study_coexpression(
    models: Sequence[Model],
    expressions: Sequence[pd.DataFrame],
    profiles: Model,
    *,
    genes: Iterable[str] | None = None,
    all_genes: bool = False,
    pairs: Sequence[tuple[str, str]] | None = None,
    threshold: float = 0.7,
    permutations: int = 100,
    resamples: int = 200,
    seed: int = 0,
    command: Sequence[str] = ("decode_zoo.studies.coexpression.study_coexpression",),
    facts: Mapping[str, object] | None = None,
    progress: _Progress = lambda done, total: None,
) -> StudyResult:
    """Separate strongly co-expressed pairs of genes from others by what is predicted of them.

    Each model of samples has its matrix, genes × samples, prepared, as `read_expression` gives it;
    `profiles` is a model of tissues, the rival that knows no sample. Studied are the genes named,
    or those that each model was tested on, or all with expression and features. `pairs` are looked
    up in each tissue, whether their genes are studied or not. Scores are permuted over genes
    `permutations` times; genes are drawn with replacement `resamples` times for the intervals.
    """
    if len(models) != len(expressions) or not models:
        raise UsageError(
            f"{len(models)} models and {len(expressions)} expression matrices are "
            "given: each model needs its own."
        )
    if not 0 < threshold < 1:
        raise UsageError(f"The threshold must be between 0 and 1, not {threshold}.")
    if min(permutations, resamples) < 1:
        raise UsageError("There must be one permutation and one resample at least.")
    settings = _Settings(threshold, permutations, resamples)
    wanted, ids, tissues = genes_of(genes), [model.id for model in models], []
    for k, (model, matrix) in enumerate(zip(models, expressions, strict=True)):
        # A model that is given more than once is numbered.
        label = (
            model.id if ids.count(model.id) == 1 else f"{model.id} ({ids[: k + 1].count(model.id)})"
        )
        named = map(str, matrix.index) if all_genes else wanted
        tissues.append(open_tissue(label, model, matrix, named))
    generator = np.random.default_rng(seed)
    # Genes in random order, so that neighbours are a random group.
    plans = [within(t, profiles, generator.permutation(t.genes.rows.size)) for t in tissues]
    left_out = []
    for k, one in enumerate(tissues):
        for other in tissues[k + 1 :]:
            plan = between(one, other, profiles, generator)
            if isinstance(plan, str):
                left_out.append(plan)
            else:
                plans.append(plan)
    summaries, parts = [], []
    for k, plan in enumerate(plans):

        def tell(share: float, k: int = k) -> None:
            progress(round(1000 * (k + share)), 1000 * len(plans))

        summary, part = _separate(plan, settings, seed, tell)
        summaries.append(summary)
        parts.append(part)
    tables = {
        name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]
    }
    if pairs is not None:
        tables["asked_pairs"] = pd.concat([_look_up(t, pairs) for t in tissues])
    origins = {
        f"model_{k + 1}": t.model.provenance(t.bound, t.model.backend("numpy"))
        for k, t in enumerate(tissues)
    }
    rival = profiles.provenance(profiles.bind(), profiles.backend("numpy"))
    record = provenance(command, **origins, tissue_model=rival, seed=seed, **(facts or {}))
    return _result(summaries, tables, left_out, profiles.id, settings, record)


def _separate(
    plan: Comparison, settings: _Settings, seed: int, progress: Callable[[float], object]
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Compare pairs by every score; return numbers and tables of a comparison."""
    n, threshold = len(plan.ids), settings.threshold
    tallies = tally_pairs(
        plan.measured,
        plan.scores,
        n,
        threshold=threshold,
        symmetric=plan.symmetric,
        resamples=settings.resamples,
        seed=seed,
        progress=lambda share: progress(0.6 * share),
    )
    counts = tallies[PREDICTION].counts.sum(axis=1)
    strong = strong_pairs(
        plan.measured,
        n,
        threshold=threshold,
        symmetric=plan.symmetric,
        share=min(1.0, _MOST_STRONG / max(int(counts[NEGATIVE] + counts[POSITIVE]), 1)),
        seed=seed,
    )
    rows = list[dict[str, Any]]()
    for k, (name, tally) in enumerate(tallies.items()):
        permuted = permuted_areas(
            plan.scores[name], tally, strong, n, permutations=settings.permutations, seed=seed
        )
        progress(0.6 + 0.4 * (k + 1) / len(tallies))
        for place, kind in enumerate(_PAIRS):
            low, high = interval_95(tally.drawn_areas[place])
            null = against_null(permuted[:, place], tally.areas[place])
            rows.append(
                {
                    "comparison": plan.label,
                    "score": name,
                    "pairs": kind,
                    "auroc": tally.areas[place],
                    "low": low,
                    "high": high,
                    "permuted": null["mean"],
                    "p": null["p"],
                    "spearman": tally.spearman[place],
                }
            )
    i, j = strongest_pairs(plan.scores[PREDICTION], n, _STRONGEST, symmetric=plan.symmetric)
    strongest = _pair_table(plan, i, j)
    own, rival = tallies[PREDICTION], tallies[TISSUES]
    leads = {
        kind: {
            "auroc": own.areas[place] - rival.areas[place],
            "interval_95": interval_95(own.drawn_areas[place] - rival.drawn_areas[place]),
        }
        for place, kind in enumerate(_PAIRS)
    }
    rho = strongest["measured_rho"].to_numpy()
    summary = {
        "comparison": plan.label,
        **plan.facts,
        "pairs": {
            "n": int(counts.sum()),
            "negative": int(counts[NEGATIVE]),
            "positive": int(counts[POSITIVE]),
        },
        "scores": rows,
        "lead_over_tissue_profiles": leads,
        "strongest_predicted": {
            "n": len(strongest),
            "strongly_coexpressed": float((np.abs(rho) > threshold).mean()),
            "same_sign": float((rho * strongest["predicted_rho"].to_numpy() > 0).mean()),
        },
    }
    densities = _densities(plan.label, tallies)
    return summary, {"separation": pd.DataFrame(rows), "pairs": strongest, "density": densities}


def _pair_table(
    plan: Comparison, i: npt.NDArray[np.int64], j: npt.NDArray[np.int64]
) -> pd.DataFrame:
    """Name pairs; those without order by the id that is first in the alphabet."""
    ids, symbols = np.array(plan.ids, object), np.array(plan.symbols, object)
    if plan.symmetric:
        swapped = (ids[i] > ids[j]).astype(bool)
        i, j = np.where(swapped, j, i), np.where(swapped, i, j)
    table: dict[str, Any] = {"comparison": plan.label}
    for letter, genes in (("a", i), ("b", j)):
        columns = {"gene": ids, "symbol": symbols, "tracks": plan.tracks}
        table |= {f"{name}_{letter}": values[genes] for name, values in columns.items()}
    rhos = {"predicted_rho": plan.scores[PREDICTION], "measured_rho": plan.measured}
    rho = {name: score.at(i, j).astype(np.float64) for name, score in rhos.items()}
    return pd.DataFrame(table | rho)


def _look_up(tissue: Tissue, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Give predicted and measured rho of pairs, whether studied or not."""
    features = tissue.bound.features
    places = first_places(features, tissue.targets.gene_ids)
    found = features.index.resolve([name for pair in pairs for name in pair])
    rows = found.rows.reshape(-1, 2)

    one, other = rows.T
    there = np.isin(rows, list(places)).all(axis=1)
    table = pd.DataFrame(
        {
            "comparison": tissue.label,
            "gene_a": found.gene_ids[::2],
            "symbol_a": found.symbols[::2],
            "gene_b": found.gene_ids[1::2],
            "symbol_b": found.symbols[1::2],
            "status": np.select(
                [rows.min(axis=1) < 0, one == other, there],
                ["unknown_gene", "same_gene", "ok"],
                "no_expression",
            ),
            "predicted_rho": np.nan,
            "measured_rho": np.nan,
        }
    )
    ok = (table["status"] == "ok").to_numpy(np.bool_)
    if ok.any():
        chosen, number = np.unique(rows[ok], return_inverse=True)
        measured, predicted = tissue.ranks(
            tissue.samples, np.array([places[row] for row in chosen.tolist()]), chosen
        )
        i, j = number.reshape(-1, 2).T
        for column, ranks in (("predicted_rho", predicted), ("measured_rho", measured)):
            table.loc[ok, column] = Correlation(ranks, ranks).at(i, j).astype(np.float64)
    return table


def _densities(label: str, tallies: Mapping[str, Tally]) -> pd.DataFrame:
    """Tabulate how many pairs, and how densely, lie where by score."""
    parts, width = [], 2 / _SHOWN_BINS
    middle = -1 + width * (np.arange(_SHOWN_BINS) + 0.5)
    for name, tally in tallies.items():
        counts = tally.counts.reshape(3, _SHOWN_BINS, -1).sum(axis=2)
        total = counts.sum(axis=1, keepdims=True)
        density = counts / np.where(total > 0, total, np.nan) / width
        table = pd.DataFrame({"comparison": label, "score": name, "middle": middle.round(6)})
        for k, kind in enumerate(("negative", "other", "positive")):
            table[f"n_{kind}"], table[kind] = counts[k], density[k]
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def _result(
    summaries: Sequence[Mapping[str, Any]],
    tables: Mapping[str, pd.DataFrame],
    left_out: Sequence[str],
    profiles: str,
    settings: _Settings,
    record: Mapping[str, Any],
) -> StudyResult:
    captions = {
        "separation": "How well each score tells strongly co-expressed pairs from others",
        "pairs": f"The {_STRONGEST:,} pairs of strongest prediction in each comparison",
        "asked_pairs": "Pairs that were asked for",
        "density": "Density of pairs by score",
    }
    facts, lines = {"Strongly co-expressed": f"|rho| > {settings.threshold:g}"}, list[str]()
    for item in summaries:
        strong, n_pairs, genes = _strong(item), item["pairs"]["n"], item["genes"]
        area = f"AUROC {item['scores'][0]['auroc']:.3f}" if strong else "no AUROC"
        facts[item["comparison"]] = (
            f"{genes['n']:,} genes, {n_pairs:,} pairs, {strong:,} strong; {area}"
        )
        noun = "donor" if "donors" in item else "sample"
        lines.append(
            f"{item['comparison']}: {counted(item[f'{noun}s']['n'], noun)}, "
            f"{counted(genes['n'], 'gene')} {genes['chosen']}, "
            f"{strong:,} of {n_pairs:,} pairs strongly co-expressed"
        )
        lines += [
            f"  {row['score']}, {row['pairs']}: AUROC {row['auroc']:.3f} (permuted over "
            f"genes {row['permuted']:.3f}, p = {row['p']:.2g})"
            for row in item["scores"]
            if not np.isnan(row["auroc"])  # there are such pairs
        ]
    return StudyResult(
        "coexpression",
        "Co-expression, measured and predicted",
        facts,
        _notes(summaries, left_out, profiles, settings),
        {name: (text, tables[name]) for name, text in captions.items() if name in tables},
        {
            **asdict(settings),
            "bin_width": 2 / BINS,
            "comparisons": list(summaries),
            "left_out": list(left_out),
            "provenance": record,
        },
        [*lines, *(f"left out: {text}" for text in left_out)],
    )


def _strong(item: Mapping[str, Any]) -> int:
    """Return the number of strongly co-expressed pairs of a comparison."""
    return int(item["pairs"]["negative"] + item["pairs"]["positive"])


def _notes(
    summaries: Sequence[Mapping[str, Any]],
    left_out: Sequence[str],
    profiles: str,
    settings: _Settings,
) -> tuple[str, ...]:
    notes = [
        "Spearman's rho of two genes over samples, once of measured and once of predicted fold "
        "changes. Are strongly co-expressed pairs (measured |rho| > "
        f"{settings.threshold:g}) told from the others by their predicted rho? Areas under the "
        "ROC curve: of pairs of either sign by |predicted rho|, and of positive pairs against all "
        f"the rest by predicted rho. Intervals are from {settings.resamples} drawings of genes, "
        "not of pairs, which are not independent. 'Permuted' is the mean of scores permuted over "
        f"genes, {settings.permutations} times, and p the share of these that do as well. "
        "'Spearman' is that of the score and the measured rho over all pairs.",
        f"Beside it: 'tissue profiles', rho over the tissues that {profiles} predicts, which knows "
        "no sample; and how alike two genes are by RNA length, and by their number of tracks with "
        "sites (logarithms of both). What does no better than these is no knowledge of samples. "
        "Genes with hardly a site are predicted alike, so that many pairs of strongest prediction "
        "are of such genes (tracks a, tracks b).",
    ]
    for item in summaries:
        lead = item["lead_over_tissue_profiles"][_PAIRS[0]]
        top, strong, genes = item["strongest_predicted"], _strong(item), item["genes"]
        text = f"{item['comparison']}: "
        if np.isfinite(lead["auroc"]):
            low, high = map(_signed, lead["interval_95"])
            text += (
                f"the lead of the prediction over tissue profiles is {_signed(lead['auroc'])} "
                f"({low} to {high}). "
            )
        if strong < _FEW:
            text += "So few pairs are strongly co-expressed that areas say little. "
        text += (
            f"Of the {top['n']:,} pairs of strongest prediction "
            f"{100 * top['strongly_coexpressed']:.2g}% are strongly co-expressed, of all "
            f"{100 * strong / item['pairs']['n']:.2g}%; "
            f"{100 * top['same_sign']:.0f}% have the predicted sign."
        )
        if genes["tested_on"] is None:
            text += " Whether the genes were trained on is not known."
        elif others := genes["n"] - genes["tested_on"]:
            text += (
                f" Mind that {others:,} of the {genes['n']:,} genes are none that it "
                "was tested on: it may have been trained on them."
            )
        notes.append(text)
    return (*notes, *(f"Left out: {text}" for text in left_out))


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0:.3f}".replace("-", "−")
