"""Pictures of an enrichment study: regulators, lists and gene sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decode_zoo.core.arrays import FloatArray
from decode_zoo.pages import charts
from decode_zoo.pages.charts import AXIS, BLUE, DOUBLE, ORANGE, PALE, ROW, SMALL
from decode_zoo.studies.result import StudyResult

if TYPE_CHECKING:
    from decode_zoo.studies.enrichment import EnrichmentStudy

__all__ = ["gene_sets", "lists", "pictures", "regulators"]

_COLOURS = {"TF": BLUE, "RBP": charts.VERMILION, "RBP, TF": charts.PINK}
_SIGNIFICANT = 0.05
_BARS, _SETS = 20, 12
_HEAD = 0.25  # height of a line above axes, in inches
_PAIR = 0.24  # height of two boxes


def pictures(result: StudyResult) -> dict[str, tuple[str, Figure]]:
    """Draw the pictures of a study of enrichment: name → caption, figure."""
    study: EnrichmentStudy = result.drawn["study"]
    drawn = {"regulators": ("The most important regulators", regulators(study))}
    if study.numbers["lists"]:
        drawn["lists"] = ("Importance of regulators on lists, and of others", lists(study))
    if len(study.gsea):
        drawn["gene_sets"] = ("Gene sets of least p", gene_sets(study))
    return drawn


@charts.styled
def regulators(study: EnrichmentStudy) -> Figure:
    """Draw the most important regulators as bars, a column for each ranking."""
    shown = [ranking.table.head(_BARS) for ranking in study.rankings]
    kinds = {kind for table in shown for kind in table["class"]}
    names = {"RBP, TF": "both"}
    figure = charts.sheet(
        DOUBLE,
        _HEAD + ROW * _BARS + AXIS,
        title="The most important regulators",
        lines=f"mean absolute score over genes, {len(study.numbers['outputs'])} outputs",
        key={names.get(kind, kind): colour for kind, colour in _COLOURS.items() if kind in kinds},
    )
    row = figure.subplots(1, len(study.rankings), squeeze=False)[0]
    for axes, ranking, table in zip(row, study.rankings, shown, strict=True):
        axes.set_title(f"{len(ranking):,} {ranking.classes}")
        values = table["importance"].to_numpy(np.float64)
        colours = [_COLOURS[kind] for kind in table["class"]]
        charts.bars(axes, table["symbol"], values, colours, n=_BARS, room=0.9)
        charts.value_axis(axes, "importance (SD)", values, most=4)
    return figure


@charts.styled
def lists(study: EnrichmentStudy) -> Figure:
    """Draw the importance of regulators on lists and of others as boxes, and AUROCs beside them.

    Boxes go from the first to the third quartile, whiskers from the 5th to the 95th percentile.
    """
    names, n = list(study.members[0]), len(study.rankings)
    figure = charts.sheet(
        DOUBLE,
        # With room for two at least: titles and labels leave one of its own nothing.
        (_HEAD + _PAIR * max(len(names), 2) + AXIS) * n,
        title="Importance of regulators on lists",
        lines="AUROC: how often one on the list is more important than another (95%); "
        "given sites: at equal numbers of genes bound and of tracks",
        key={"on the list": BLUE, "others": PALE, "on the list, given sites": ORANGE},
    )
    grid = figure.subplots(n, 2, squeeze=False)
    for (boxes, areas), ranking, members in zip(grid, study.rankings, study.members, strict=True):
        table = study.lists[study.lists["classes"] == ranking.classes]
        values = ranking.column("importance")
        boxes.set_title(f"{len(ranking):,} {ranking.classes}", loc="left", weight="bold")
        for row, (own, among) in enumerate(members.values()):
            _box(boxes, row - 0.18, values[own], BLUE)
            _box(boxes, row + 0.18, values[np.setdiff1d(among, own)], PALE)
        charts.label_rows(boxes, names, room=1.8)
        charts.columns(boxes, {"on list": [f"{count:,}" for count in table["n"]]})
        charts.value_axis(boxes, "importance (SD)", np.quantile(values, [0.01, 0.99]))
        ends = [0.4, 0.6]
        for end, shift, colour in (("", -0.18, BLUE), ("_given_sites", 0.18, ORANGE)):
            low, area, high = (
                table[f"auroc{part}{end}"].to_numpy(np.float64) for part in ("_low", "", "_high")
            )
            charts.intervals(areas, np.arange(len(names)) + shift, low, area, high, colour)
            ends += [*low, *high]
        charts.label_rows(areas, [], len(names))
        for row, (on, others) in enumerate(zip(table["n"], table["n_others"], strict=True)):
            if not (on and others):
                text = "all on the list" if on else "none on the list"
                charts.say(areas, text, row, transform=areas.transData, fontsize=SMALL, zorder=4)
        charts.value_axis(areas, "AUROC", np.array(ends), zero=0.5)
        _q_columns(areas, table)
    return figure


@charts.styled
def gene_sets(study: EnrichmentStudy) -> Figure:
    """Draw the normalised enrichment scores of the gene sets of least p, a block a ranking."""
    blocks = [
        table.nsmallest(_SETS, "p", keep="first").sort_values("nes", ascending=False, kind="stable")
        for _, table in study.gsea.groupby("classes", sort=False)
    ]
    heights = [ROW * max(len(table), 3) for table in blocks]
    figure = charts.sheet(
        DOUBLE,
        sum(heights) + (_HEAD + AXIS) * len(blocks),
        title="Gene sets along the ranking",
        lines=f"up to {_SETS} of least p; positive: important regulators",
        key={f"q ≤ {_SIGNIFICANT:g}": BLUE, "higher": PALE, "given sites": ORANGE},
    )
    grid = figure.subplots(len(blocks), squeeze=False, height_ratios=heights)[:, 0]
    for axes, table in zip(grid, blocks, strict=True):
        axes.set_title(str(table["classes"].iloc[0]), loc="left", weight="bold")
        nes, given = (table[name].to_numpy(np.float64) for name in ("nes", "nes_given_sites"))
        colours = [BLUE if q <= _SIGNIFICANT else PALE for q in table["q"]]
        charts.bars(axes, table["gene_set"], nes, colours, size=SMALL, room=3)
        axes.scatter(
            given, range(len(table)), s=14, c=ORANGE, edgecolors="white", linewidths=0.4, zorder=3
        )
        charts.value_axis(axes, "normalised enrichment score", np.append(nes, given))
        _q_columns(axes, table)
    return figure


def _box(axes: Axes, row: float, values: FloatArray, colour: str) -> None:
    """Draw a distribution as a box; few values as points."""
    if values.size < 5:
        axes.plot(values, np.full(values.size, row), "o", color=colour, markersize=2.5)
        return
    low, first, median, third, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
    axes.plot([low, high], [row, row], color=charts.GREY, linewidth=0.6, zorder=1)
    axes.barh(row, third - first, 0.3, left=first, color=colour, zorder=2)
    axes.plot([median, median], [row - 0.15, row + 0.15], color="black", linewidth=1, zorder=3)


def _q_columns(axes: Axes, table: pd.DataFrame) -> None:
    """Write false discovery rates beside rows, and those given sites."""
    heads = {"q": "q", "given sites": "q_given_sites"}
    charts.columns(axes, {head: charts.q_values(table[name]) for head, name in heads.items()})
