"""Pictures of an enrichment study: regulators, lists and gene sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decode_zoo.plots.page import (
    AXIS,
    DOUBLE,
    GREY,
    MARGIN,
    ROW,
    Page,
    label_rows,
    styled,
)
from decode_zoo.plots.text import SMALL, TEXT, elided, number, widest

if TYPE_CHECKING:
    from decode_zoo.studies.enrichment.study import EnrichmentStudy

__all__ = ["gene_sets", "lists", "regulators"]

FloatArray = npt.NDArray[np.float64]

# Okabe and Ito's colours; what is not significant is grey.
_COLOURS = {"TF": "#0072B2", "RBP": "#D55E00", "RBP, TF": "#CC79A7"}
_KEY = {"TF": "#0072B2", "RBP": "#D55E00", "both": "#CC79A7"}
_ON, _OTHERS, _GIVEN = "#0072B2", "#B8BEC6", "#E69F00"
_SIGNIFICANT = 0.05
_BARS, _SETS = 20, 12
_HEAD = 0.2  # height of a line above axes
_PAIR = 0.24  # height of two boxes
_NAME, _SET = 1.8, 3.0  # widest names, in inches


@styled
def regulators(study: EnrichmentStudy) -> Figure:
    """Draw the most important regulators as bars, a column for each ranking."""
    n, gap = len(study.rankings), 0.12
    width = (DOUBLE - 2 * MARGIN - gap * (n - 1)) / n
    height = ROW * _BARS
    shown = [ranking.table.head(_BARS) for ranking in study.rankings]
    kinds = {kind for table in shown for kind in table["class"]}
    page = Page.make(
        DOUBLE,
        _HEAD + height + AXIS,
        title="The most important regulators",
        lines=[f"mean absolute score over genes, {len(study.numbers['outputs'])} outputs"],
        key={
            name: colour
            for (kind, colour), name in zip(_COLOURS.items(), _KEY, strict=True)
            if kind in kinds
        },
    )
    for i, (ranking, table) in enumerate(zip(study.rankings, shown, strict=True)):
        names = [elided(str(name), TEXT, 0.9) for name in table["symbol"]]
        start = MARGIN + i * (width + gap)
        left = start + 0.04 + widest(names, TEXT)
        head = f"{len(ranking):,} {ranking.classes}"
        page.write(start + width / 2, page.top + 0.14, head, va="bottom", ha="center")
        axes = page.axes(left, page.top + _HEAD, start + width - left, height)
        values = table["importance"].to_numpy(np.float64)
        axes.barh(range(len(table)), values, 0.72, color=[_COLOURS[k] for k in table["class"]])
        label_rows(axes, names, _BARS)
        page.values_below(axes, values, "importance (SD)", width)
    return page.figure


@styled
def lists(study: EnrichmentStudy) -> Figure:
    """Draw the importance of regulators on lists and of others as boxes, and AUROCs beside them.

    Boxes go from the first to the third quartile, whiskers from the 5th to the 95th percentile.
    """
    names = [elided(name, TEXT, _NAME) for name in study.members[0]]
    height = _PAIR * len(names)
    block = _HEAD + height + AXIS + 0.12
    page = Page.make(
        DOUBLE,
        block * len(study.rankings),
        title="Importance of regulators on lists",
        lines=[
            "AUROC: how often one on the list is more important than another (95%);",
            "given sites: at equal numbers of genes bound and of tracks",
        ],
        key={"on the list": _ON, "others": _OTHERS, "on the list, given sites": _GIVEN},
    )
    start = MARGIN + 0.04 + widest(names, TEXT)
    counts = 0.55
    half = (DOUBLE - MARGIN - start - counts - 0.3 - 0.75) / 2
    for i, ranking in enumerate(study.rankings):
        top = page.top + block * i
        table = study.lists[study.lists["classes"] == ranking.classes]
        values = ranking.column("importance")
        page.write(
            MARGIN, top + 0.14, f"{len(ranking):,} {ranking.classes}", va="bottom", weight="bold"
        )
        boxes = page.axes(start, top + _HEAD, half, height)
        for place, (rows, among) in enumerate(study.members[i].values()):
            others = np.setdiff1d(among, rows)
            _box(boxes, place - 0.18, values[rows], _ON)
            _box(boxes, place + 0.18, values[others], _OTHERS)
        label_rows(boxes, names, len(names))
        page.values_below(boxes, np.quantile(values, [0.01, 0.99]), "importance (SD)", half)
        at = start + half + 0.08
        _column(page, at + 0.42, top + _HEAD, "on list", [f"{n:,}" for n in table["n"]])
        areas = page.axes(at + counts, top + _HEAD, half, height)
        for end, shift, colour in (("", -0.18, _ON), ("_given_sites", 0.18, _GIVEN)):
            _intervals(areas, table, end, shift, colour)
        label_rows(areas, [], len(names))
        for place, (n, others) in enumerate(zip(table["n"], table["n_others"], strict=True)):
            if not (n and others):
                areas.text(
                    0.5,
                    place,
                    "all on the list" if n else "none on the list",
                    fontsize=SMALL,
                    color=GREY,
                    ha="center",
                    va="center_baseline",
                    bbox={"color": "white", "pad": 1},
                )
        areas.axvline(0.5, color="black", linewidth=0.5)
        areas.grid(axis="x")
        bounds = [f"auroc_{side}{end}" for side in ("low", "high") for end in ("", "_given_sites")]
        reach = table[bounds].to_numpy(np.float64)
        reach = np.abs(reach[np.isfinite(reach)] - 0.5).max(initial=0.1) + 0.02
        areas.set_xlim(max(0.5 - reach, -0.01), min(0.5 + reach, 1.01))
        page.below(areas, "AUROC", lambda x: number(x, "g"), half)
        right = at + counts + half
        for column, end, head in ((0.38, "", "q"), (0.92, "_given_sites", "given sites")):
            texts = [_q(q) for q in table[f"q{end}"]]
            _column(page, right + column, top + _HEAD, head, texts)
    return page.figure


@styled
def gene_sets(study: EnrichmentStudy) -> Figure:
    """Draw the normalised enrichment scores of the gene sets of least p, a block a ranking."""
    blocks = [
        table.nsmallest(_SETS, "p", keep="first").sort_values("nes", ascending=False, kind="stable")
        for _, table in study.gsea.groupby("classes", sort=False)
    ]
    heights = [_HEAD + ROW * len(table) + AXIS + 0.1 for table in blocks]
    page = Page.make(
        DOUBLE,
        sum(heights),
        title="Gene sets along the ranking",
        lines=[f"up to {_SETS} of least p; positive: important regulators"],
        key={f"q ≤ {_SIGNIFICANT:g}": _ON, "higher": _OTHERS, "given sites": _GIVEN},
    )
    top = page.top
    for table, height in zip(blocks, heights, strict=True):
        names = [elided(name, SMALL, _SET) for name in table["gene_set"]]
        left = MARGIN + 0.04 + _SET
        page.write(MARGIN, top + 0.14, str(table["classes"].iloc[0]), va="bottom", weight="bold")
        axes = page.axes(left, top + _HEAD, DOUBLE - MARGIN - 0.95 - left, ROW * len(table))
        nes, given = (table[name].to_numpy(np.float64) for name in ("nes", "nes_given_sites"))
        colours = [_ON if q <= _SIGNIFICANT else _OTHERS for q in table["q"]]
        axes.barh(range(len(table)), nes, 0.72, color=colours)
        axes.plot(
            given,
            range(len(table)),
            "o",
            color=_GIVEN,
            markersize=3.5,
            markeredgecolor="white",
            markeredgewidth=0.4,
        )
        label_rows(axes, names, len(table))
        axes.tick_params(axis="y", labelsize=SMALL)
        page.values_below(
            axes, np.nan_to_num(np.concatenate([nes, given])), "normalised enrichment score"
        )
        right = DOUBLE - MARGIN
        for place, name, head in ((0.5, "q", "q"), (0.0, "q_given_sites", "given sites")):
            page.column(right - place, top + _HEAD, head, [_q(q) for q in table[name]])
        top += height
    return page.figure


def _box(axes: Axes, place: float, values: FloatArray, colour: str) -> None:
    """Draw a distribution as a box; few values as points."""
    if values.size < 5:
        axes.plot(values, np.full(values.size, place), "o", color=colour, markersize=2.5)
        return
    low, first, median, third, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
    axes.plot([low, high], [place, place], color=GREY, linewidth=0.6, zorder=1)
    axes.barh(place, third - first, 0.3, left=first, color=colour, zorder=2)
    axes.plot([median, median], [place - 0.15, place + 0.15], color="black", linewidth=1, zorder=3)


def _intervals(axes: Axes, table: pd.DataFrame, end: str, shift: float, colour: str) -> None:
    """Draw areas with their intervals."""
    columns = (table[f"auroc{part}{end}"].to_numpy(np.float64) for part in ("_low", "", "_high"))
    for place, (low, area, high) in enumerate(zip(*columns, strict=True)):
        axes.plot([low, high], [place + shift] * 2, color=colour, linewidth=1)
        axes.plot(area, place + shift, "o", color=colour, markersize=3.5, markeredgewidth=0)


def _column(page: Page, right: float, top: float, head: str, texts: Sequence[str]) -> None:
    """Write a column of texts beside pairs of boxes."""
    page.write(right, top - 0.01, head, SMALL, "bottom", ha="right", color=GREY)
    for place, text in enumerate(texts):
        page.write(
            right,
            top + _PAIR * (place + 0.5),
            text,
            SMALL,
            "center_baseline",
            ha="right",
            color=GREY,
        )


def _q(value: float) -> str:
    """Write a false discovery rate."""
    if np.isnan(value):
        return "–"
    return number(value, ".2f" if value >= 0.095 else ".1g")
