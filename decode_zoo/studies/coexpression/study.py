"""Co-expression: whether genes that rise and fall together are predicted to, and what else tells.

Source: Tasaki et al. 2020, Fig. 6a (pairs of genes within a tissue) and 6b (between two tissues of
the same donors).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.errors import UsageError
from decode_zoo.metrics import interval_95
from decode_zoo.model import Model
from decode_zoo.provenance import provenance
from decode_zoo.studies.coexpression.comparison import (
    PREDICTION,
    TISSUES,
    Comparison,
    Tissue,
    between,
    open_tissue,
    within,
)
from decode_zoo.studies.coexpression.pairs import (
    BINS,
    NEGATIVE,
    POSITIVE,
    Correlation,
    Tally,
    dealt_areas,
    strong_pairs,
    strongest_pairs,
    tally_pairs,
)
from decode_zoo.studies.findings import Findings, check_extras

__all__ = ["Separation", "study_coexpression"]

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]

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
) -> Findings:
    """Tell strongly co-expressed pairs of genes from others by what is predicted of them.

    Parameters
    ----------
    models : sequence of Model
        Their outputs are persons.
    expressions : sequence of DataFrame, each of shape (n_genes, n_persons)
        log2(TPM + 0.25), prepared, by gene id, as `read_expression` gives it; one a model.
    profiles : Model
        Its outputs are tissues: the rival that knows no person.
    genes : iterable of str, optional
        Genes to study; those that each model was tested on if not given.
    all_genes : bool
        Study all genes with expression and features, most of which models were trained on.
    pairs : sequence of (str, str), optional
        Pairs to look up in each tissue, whether their genes are studied or not.
    threshold : float
        Strongly co-expressed are pairs whose measured rho exceeds it, in either direction.
    permutations : int
        How often scores are dealt to other genes.
    resamples : int
        How often genes are drawn with replacement, for the intervals.
    seed : int
    command, facts
        For the provenance.
    progress : callable
        Is told how much of how much is done.

    Returns
    -------
    Findings

    Raises
    ------
    UsageError
        If a number is out of range, models and matrices are not as many, or a model does not say
        which genes it was tested on.
    InputError
        If a model and its matrix share fewer than ten persons or ten genes.
    MissingExtraError
        If a package for pictures or the page is not installed.
    """
    check_extras()
    if len(models) != len(expressions) or not models:
        raise UsageError(
            f"{len(models)} models and {len(expressions)} expression matrices are "
            "given: each model needs its own."
        )
    if not 0 < threshold < 1:
        raise UsageError(f"The threshold must be between 0 and 1, not {threshold}.")
    if min(permutations, resamples) < 1:
        raise UsageError("There must be one permutation and one resample at least.")
    if isinstance(genes, str):
        raise UsageError("Give a list of genes, not a single string.", remedy=f"genes=[{genes!r}]")
    wanted = None if genes is None else list(genes)
    tissues = [
        open_tissue(label, model, matrix, map(str, matrix.index) if all_genes else wanted)
        for label, model, matrix in zip(_labels(models), models, expressions, strict=True)
    ]
    generator = np.random.default_rng(seed)
    # Genes in random order, so that neighbours are a random group.
    plans = [within(t, profiles, generator.permutation(t.rows.size)) for t in tissues]
    left_out = []
    for k, one in enumerate(tissues):
        for other in tissues[k + 1 :]:
            plan = between(one, other, profiles, generator)
            if isinstance(plan, str):
                left_out.append(plan)
            else:
                plans.append(plan)
    found = [
        _separate(
            plan,
            threshold,
            permutations,
            resamples,
            seed,
            lambda part, k=k: progress(  # type: ignore[misc]
                round(1000 * (k + part)), 1000 * len(plans)
            ),
        )
        for k, plan in enumerate(plans)
    ]
    asked = None if pairs is None else pd.concat([_look_up(t, pairs) for t in tissues])
    record = provenance(
        command,
        **{
            f"model_{k + 1}": t.model.provenance(t.bound, t.model.backend("numpy"))
            for k, t in enumerate(tissues)
        },
        tissue_model=profiles.provenance(profiles.bind(), profiles.backend("numpy")),
        seed=seed,
        **(facts or {}),
    )
    settings = {"threshold": threshold, "permutations": permutations, "resamples": resamples}
    return _findings(found, asked, left_out, profiles.id, settings, record)


def _labels(models: Sequence[Model]) -> list[str]:
    """Ids of models, numbered where one is given more than once."""
    ids = [model.id for model in models]
    return [
        name if ids.count(name) == 1 else f"{name} ({1 + ids[:k].count(name)})"
        for k, name in enumerate(ids)
    ]


@dataclass(frozen=True)
class Separation:
    """What a comparison came to.

    Attributes
    ----------
    label : str
    tallies : Mapping of str to Tally
        By score.
    table : DataFrame
        A row a score.
    strongest : DataFrame
        Pairs of strongest prediction.
    summary : dict
    """

    label: str
    tallies: Mapping[str, Tally]
    table: pd.DataFrame
    strongest: pd.DataFrame
    summary: dict[str, Any]


def _separate(
    plan: Comparison,
    threshold: float,
    permutations: int,
    resamples: int,
    seed: int,
    progress: Callable[[float], object],
) -> Separation:
    n, shape = len(plan.ids), {"symmetric": plan.symmetric}
    tallies = tally_pairs(
        plan.measured,
        plan.scores,
        n,
        threshold=threshold,
        **shape,
        resamples=resamples,
        seed=seed,
        progress=lambda done, total: progress(0.6 * done / total),
    )
    counts = tallies[PREDICTION].counts.sum(axis=1)
    n_strong = int(counts[NEGATIVE] + counts[POSITIVE])
    strong = strong_pairs(
        plan.measured,
        n,
        threshold=threshold,
        **shape,
        share=min(1.0, _MOST_STRONG / max(n_strong, 1)),
        seed=seed,
    )
    rows: list[dict[str, Any]] = []
    for k, (name, tally) in enumerate(tallies.items()):
        dealt = dealt_areas(
            plan.scores[name],
            tally,
            strong,
            n,
            permutations=permutations,
            seed=seed,
            progress=lambda done, total, k=k: progress(  # type: ignore[misc]
                0.6 + 0.4 * (k + done / total) / len(tallies)
            ),
        )
        for place, kind in enumerate(_PAIRS):
            low, high = interval_95(tally.drawn_areas[place])
            rows.append(
                {
                    "comparison": plan.label,
                    "score": name,
                    "pairs": kind,
                    "auroc": tally.areas[place],
                    "low": low,
                    "high": high,
                    "dealt": _mean(dealt[:, place]),
                    "p": _p(dealt[:, place], tally.areas[place]),
                    "spearman": tally.spearman[place],
                }
            )
    i, j = strongest_pairs(plan.scores[PREDICTION], n, _STRONGEST, **shape)
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
    return Separation(plan.label, tallies, pd.DataFrame(rows), strongest, summary)


def _pair_table(plan: Comparison, i: IntArray, j: IntArray) -> pd.DataFrame:
    """Name pairs; those without order by the id that is first in the alphabet."""
    ids = np.array(plan.ids, object)
    if plan.symmetric:
        swapped = (ids[i] > ids[j]).astype(bool)
        i, j = np.where(swapped, j, i), np.where(swapped, i, j)
    symbols = np.array(plan.symbols, object)
    return pd.DataFrame(
        {
            "comparison": plan.label,
            "gene_a": ids[i],
            "symbol_a": symbols[i],
            "tracks_a": plan.tracks[i],
            "gene_b": ids[j],
            "symbol_b": symbols[j],
            "tracks_b": plan.tracks[j],
            "predicted_rho": plan.scores[PREDICTION].at(i, j).astype(np.float64),
            "measured_rho": plan.measured.at(i, j).astype(np.float64),
        }
    )


def _look_up(tissue: Tissue, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Give predicted and measured rho of pairs, whether studied or not."""
    index = tissue.bound.features.index
    known = index.resolve(tissue.targets.gene_ids).rows.tolist()
    # The first of two rows of one gene counts.
    place_of = dict(zip(reversed(known), reversed(range(len(known))), strict=True))
    found = index.resolve([name for pair in pairs for name in pair])
    rows = found.rows.reshape(-1, 2)
    status = []
    for one, other in rows.tolist():
        if min(one, other) < 0:
            status.append("unknown_gene")
        elif one == other:
            status.append("same_gene")
        elif one not in place_of or other not in place_of:
            status.append("no_expression")
        else:
            status.append("ok")
    ok = np.array([text == "ok" for text in status], np.bool_)
    table = pd.DataFrame(
        {
            "comparison": tissue.label,
            "gene_a": found.gene_ids[::2],
            "symbol_a": found.symbols[::2],
            "gene_b": found.gene_ids[1::2],
            "symbol_b": found.symbols[1::2],
            "status": status,
            "predicted_rho": np.nan,
            "measured_rho": np.nan,
        }
    )
    if ok.any():
        chosen, place = np.unique(rows[ok], return_inverse=True)
        places = np.array([place_of[row] for row in chosen.tolist()])
        i, j = place.reshape(-1, 2).T
        own = replace(tissue, places=places, rows=chosen)
        for column, ranks in (
            ("predicted_rho", own.predicted(own.persons)),
            ("measured_rho", own.measured(own.persons)),
        ):
            table.loc[ok, column] = Correlation(ranks, ranks).at(i, j).astype(np.float64)
    return table


def _densities(found: Sequence[Separation]) -> pd.DataFrame:
    """Tabulate how many pairs, and how densely, lie where by score."""
    parts = []
    width = 2 / _SHOWN_BINS
    for item in found:
        for name, tally in item.tallies.items():
            counts = tally.counts.reshape(3, _SHOWN_BINS, -1).sum(axis=2)
            total = counts.sum(axis=1, keepdims=True)
            density = counts / np.where(total > 0, total, np.nan) / width
            middle = -1 + width * (np.arange(_SHOWN_BINS) + 0.5)
            table = pd.DataFrame(
                {"comparison": item.label, "score": name, "middle": middle.round(6)}
            )
            for k, kind in enumerate(("negative", "other", "positive")):
                table[f"n_{kind}"], table[kind] = counts[k], density[k]
            parts.append(table)
    return pd.concat(parts, ignore_index=True)


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if np.isfinite(values).all() else np.nan


def _p(dealt: FloatArray, found: float) -> float:
    """Share of permutations that reach what was found."""
    if not (np.isfinite(found) and np.isfinite(dealt).all()):
        return np.nan
    return float((1 + (dealt >= found).sum()) / (1 + dealt.size))


def _findings(
    found: Sequence[Separation],
    asked: pd.DataFrame | None,
    left_out: Sequence[str],
    profiles: str,
    settings: Mapping[str, float],
    record: Mapping[str, Any],
) -> Findings:
    from decode_zoo.studies.coexpression import figures

    table = pd.concat([item.table for item in found], ignore_index=True)
    densities = _densities(found)
    tables = {
        "separation": ("How well each score tells strongly co-expressed pairs from others", table),
        "pairs": (
            f"The {_STRONGEST:,} pairs of strongest prediction in each comparison",
            pd.concat([item.strongest for item in found], ignore_index=True),
        ),
    }
    if asked is not None:
        tables["asked_pairs"] = ("Pairs that were asked for", asked)
    tables["density"] = ("Density of pairs by score", densities)
    summaries = [item.summary for item in found]
    facts = {"Strongly co-expressed": f"|rho| > {settings['threshold']:g}"}
    for item in summaries:
        strong = item["pairs"]["negative"] + item["pairs"]["positive"]
        area = f"AUROC {item['scores'][0]['auroc']:.3f}" if strong else "no AUROC"
        facts[item["comparison"]] = (
            f"{item['genes']['n']:,} genes, {item['pairs']['n']:,} pairs, {strong:,} strong; {area}"
        )
    return Findings(
        "coexpression",
        "Co-expression, measured and predicted",
        facts,
        _notes(summaries, left_out, profiles, settings),
        tables,
        {
            "separation": (
                "Area under the ROC curve of each score, with 95% interval over genes",
                figures.separation(table),
            ),
            "density": (
                "Scores of strongly co-expressed pairs and of others",
                figures.density(densities),
            ),
        },
        {
            **settings,
            "bin_width": 2 / BINS,
            "comparisons": summaries,
            "left_out": list(left_out),
            "provenance": record,
        },
    )


def _notes(
    summaries: Sequence[Mapping[str, Any]],
    left_out: Sequence[str],
    profiles: str,
    settings: Mapping[str, float],
) -> tuple[str, ...]:
    notes = [
        "Spearman's rho of two genes over persons, once of measured and once of predicted fold "
        "changes. Are strongly co-expressed pairs (measured |rho| > "
        f"{settings['threshold']:g}) told from the others by their predicted rho? Areas under the "
        "ROC curve: of pairs of either sign by |predicted rho|, and of positive pairs against all "
        f"the rest by predicted rho. Intervals are from {settings['resamples']} drawings of genes, "
        "not of pairs, which are not independent. 'Dealt' is the mean of scores dealt to other "
        f"genes, {settings['permutations']} times, and p the share of these that do as well. "
        "'Spearman' is that of the score and the measured rho over all pairs.",
        f"Beside it: 'tissue profiles', rho over the tissues that {profiles} predicts, which knows "
        "no person; and how alike two genes are by RNA length, and by their number of tracks with "
        "sites (logarithms of both). What does no better than these is no knowledge of persons. "
        "Genes with hardly a site are predicted alike, so that many pairs of strongest prediction "
        "are of such genes (tracks a, tracks b).",
    ]
    for item in summaries:
        lead = item["lead_over_tissue_profiles"][_PAIRS[0]]
        top, counts = item["strongest_predicted"], item["pairs"]
        share = (counts["negative"] + counts["positive"]) / counts["n"]
        text = f"{item['comparison']}: "
        if np.isfinite(lead["auroc"]):
            low, high = lead["interval_95"]
            text += (
                f"the lead of the prediction over tissue profiles is {_signed(lead['auroc'])} "
                f"({_signed(low)} to {_signed(high)}). "
            )
        if counts["negative"] + counts["positive"] < _FEW:
            text += "So few pairs are strongly co-expressed that areas say little. "
        text += (
            f"Of the {top['n']:,} pairs of strongest prediction "
            f"{100 * top['strongly_coexpressed']:.2g}% are strongly co-expressed, of all "
            f"{100 * share:.2g}%; {100 * top['same_sign']:.0f}% have the predicted sign. "
            + _trained(item["genes"])
        )
        notes.append(text.strip())
    return (*notes, *(f"Left out: {text}" for text in left_out))


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0:.3f}".replace("-", "−")


def _trained(genes: Mapping[str, Any]) -> str:
    """Say whether a model knows the expression of the genes."""
    tested = genes["tested_on"]
    if tested is None:
        return "Whether the genes were trained on is not known."
    if tested < genes["n"]:
        return (
            f"Mind that {genes['n'] - tested:,} of the {genes['n']:,} genes are none that it "
            "was tested on: it may have been trained on them."
        )
    return ""
