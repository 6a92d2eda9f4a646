"""Comparisons of gene sets and lists with a ranking of regulators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from decode_zoo.errors import MissingExtraError
from decode_zoo.metrics import auroc, false_discovery
from decode_zoo.studies.enrichment.ranking import Ranking

__all__ = ["compare_lists", "gsea", "over_representation"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def gsea(
    ranking: Ranking, sets: Mapping[str, IntArray], *, permutations: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """Analyse the enrichment of gene sets, rows of a ranking, along it (pre-ranked GSEA). By p.

    Subramanian et al. 2005 (doi 10.1073/pnas.0506580102), weight 1. P-values are of adaptive
    multilevel splitting (Korotkevich et al., doi 10.1101/060012), so that none is zero, with so
    many random gene sets of each size. ``leading_edge`` has symbols.
    """
    raw = _prerank(ranking.column("importance"), sets, permutations, seed)
    given = _prerank(ranking.column("given_sites"), sets, permutations, seed)
    table = pd.DataFrame(
        {
            "gene_set": list(sets),
            "size": [rows.size for rows in sets.values()],
            "es": raw["es"],
            "nes": raw["nes"],
            "p": raw["p"],
            "q": false_discovery(raw["p"]),
            "nes_given_sites": given["nes"],
            "p_given_sites": given["p"],
            "q_given_sites": false_discovery(given["p"]),
            "leading_edge": [ranking.named(rows) for rows in raw["leading_edge"]],
        }
    )
    order = np.lexsort([-np.abs(raw["nes"]), raw["p"]])
    return table.iloc[order].reset_index(drop=True)


def _prerank(
    values: FloatArray, sets: Mapping[str, IntArray], permutations: int, seed: int
) -> dict[str, Any]:
    """Run GSEA on sets of places in some values, and give what it finds in the order of sets."""
    if not sets or not np.any(values):
        unknown = np.full(len(sets), np.nan)
        none = [np.zeros(0, np.int64)] * len(sets)
        return {"es": unknown, "nes": unknown, "p": unknown, "leading_edge": none}
    try:
        import gseapy
    except ImportError:
        raise MissingExtraError("gseapy", "studies") from None

    order = np.argsort(-values, kind="stable")
    # Names of our own, since gseapy looks at how names of genes are spelled.
    names = np.array([f"G{i}" for i in range(values.size)], object)
    found = gseapy.prerank(
        pd.Series(values[order], names[order], name="importance"),
        {f"S{i}": names[rows].tolist() for i, rows in enumerate(sets.values())},
        outdir=None,
        no_plot=True,
        method="multilevel",
        permutation_num=permutations,
        seed=seed,
        min_size=1,
        max_size=values.size,
        ascending=None,
        threads=1,
    )
    table = found.res2d.set_index("Term").loc[[f"S{i}" for i in range(len(sets))]]
    return {
        "es": table["ES"].to_numpy(np.float64),
        "nes": table["NES"].to_numpy(np.float64),
        "p": table["NOM p-val"].to_numpy(np.float64),
        "leading_edge": [
            np.array(sorted(int(name[1:]) for name in names.split(";") if name), np.int64)
            for names in table["Lead_genes"]
        ],
    }


def over_representation(ranking: Ranking, sets: Mapping[str, IntArray]) -> pd.DataFrame:
    """Compare gene sets with the most important regulators of all ranked (hypergeometric test).

    Sets have rows of the ranking; ``n_top`` of them are at the top, p is one-sided. By p.
    """
    size = np.array([rows.size for rows in sets.values()], np.int64)
    tops = [rows[rows < ranking.top] for rows in sets.values()]
    n_top = np.array([rows.size for rows in tops], np.int64)
    odds, p = _overlap(n_top, size, ranking.top, len(ranking))
    table = pd.DataFrame(
        {
            "gene_set": list(sets),
            "size": size,
            "n_top": n_top,
            "expected": size * ranking.top / len(ranking),
            "odds_ratio": odds,
            "p": p,
            "q": false_discovery(p),
            "top_members": [ranking.named(rows) for rows in tops],
        }
    )
    return table.sort_values("p", kind="stable", ignore_index=True)


def _overlap(both: IntArray, size: IntArray, top: int, n: int) -> tuple[FloatArray, FloatArray]:
    """Odds ratio of being in a set for the top of n, and p of as many there or more."""
    p = np.asarray(stats.hypergeom.sf(both - 1, n, size, top), np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = both * (n - size - top + both) / ((size - both) * (top - both))
    return np.asarray(odds, np.float64), np.minimum(p, 1)


def compare_lists(ranking: Ranking, lists: Mapping[str, tuple[IntArray, IntArray]]) -> pd.DataFrame:
    """Compare the importance of listed regulators with that of others.

    Of each list, rows of the ranking that are on it, and all that could be. Wilcoxon's rank-sum
    test with the AUROC and its 95% interval, the same given sites, and Fisher's exact test of the
    top (one-sided). Numbers are unknown where none or all are listed. Source: Tasaki et al. 2020,
    Fig. 3f.
    """
    found = []
    for name, (rows, among) in lists.items():
        member, top = np.isin(among, rows), among < ranking.top
        both = np.array([np.count_nonzero(member & top)], np.int64)
        odds, p = _overlap(both, np.array([rows.size]), int(np.count_nonzero(top)), among.size)
        tested = 0 < rows.size < among.size
        found.append(
            {
                "list": name,
                "n": rows.size,
                "n_others": among.size - rows.size,
                **_rank_sum(ranking.column("importance")[among], member, ""),
                **_rank_sum(ranking.column("given_sites")[among], member, "_given_sites"),
                "n_top": both[0],
                "odds_ratio": odds[0] if tested else np.nan,
                "p_top": p[0] if tested else np.nan,
                "q_top": np.nan,
                "top_members": ranking.named(rows[rows < ranking.top]),
            }
        )
    table = pd.DataFrame(found)
    for end in ("", "_given_sites", "_top"):
        table[f"q{end}"] = false_discovery(table[f"p{end}"].to_numpy(np.float64))
    return table


def _rank_sum(values: FloatArray, member: BoolArray, end: str) -> dict[str, float]:
    """Wilcoxon's rank-sum test, with the AUROC as the size of the effect."""
    area, low, high = auroc(values, member)
    p = p_greater = np.nan
    if 0 < np.count_nonzero(member) < member.size:
        listed, others = values[member], values[~member]
        p = float(stats.mannwhitneyu(listed, others, alternative="two-sided").pvalue)
        p_greater = float(stats.mannwhitneyu(listed, others, alternative="greater").pvalue)
    found = {"auroc": area, "auroc_low": low, "auroc_high": high, "p": p, "p_greater": p_greater}
    return {f"{name}{end}": value for name, value in {**found, "q": np.nan}.items()}
