"""Pictures of a co-expression study: densities of scores, and how well each separates."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decode_zoo.plots.page import AXIS, DOUBLE, MARGIN, ROW, Page, label_rows, say, styled
from decode_zoo.plots.text import SMALL, TEXT, elided, number, widest

__all__ = ["density", "separation"]

# Okabe and Ito's vermilion and blue; other pairs are grey.
_COLOURS = {"positive": "#D55E00", "negative": "#0072B2", "other": "#8A929B"}
_NAMES = {
    "positive": "strongly co-expressed",
    "negative": "strongly, opposed",
    "other": "other pairs",
}
_SHOWN = {"prediction": "predicted rho", "tissue profiles": "rho of tissue profiles"}
_FEWEST = 50  # pairs of which there is a density
_LEFT, _HEIGHT, _GAP = 0.32, 1.35, 0.2


@styled
def density(table: pd.DataFrame) -> Figure:
    """Draw densities of predicted rho, and of the rho of tissue profiles.

    Parameters
    ----------
    table : DataFrame
        ``comparison``, ``score``, ``middle`` of the bin, numbers of pairs ``n_negative``,
        ``n_other``, ``n_positive``, and densities ``negative``, ``other``, ``positive``. Pairs that
        are too few for a density are drawn as strokes.
    """
    comparisons = list(dict.fromkeys(table["comparison"]))
    row = _HEIGHT + AXIS + _GAP
    page = Page.make(
        DOUBLE,
        row * len(comparisons),
        title="Scores of pairs of genes",
        lines=["density; pairs by measured rho"],
        key={_NAMES[kind]: colour for kind, colour in _COLOURS.items()},
    )
    width = (DOUBLE - 2 * MARGIN) / 2 - _LEFT - 0.1
    for at, comparison in enumerate(comparisons):
        top = page.top + _GAP + row * at
        for place, (score, name) in enumerate(_SHOWN.items()):
            left = MARGIN + _LEFT + place * (width + _LEFT + 0.2)
            axes = page.axes(left, top, width, _HEIGHT)
            rows = table[(table["comparison"] == comparison) & (table["score"] == score)]
            if not place:
                page.write(
                    MARGIN, top - 0.04, elided(comparison, TEXT, DOUBLE - 2 * MARGIN), va="bottom"
                )
            _draw_densities(axes, rows)
            page.below(axes, name, lambda x: number(x, "g"), width)
    return page.figure


def _draw_densities(axes: Axes, rows: pd.DataFrame) -> None:
    middle = rows["middle"].to_numpy(np.float64)
    number_of = {kind: int(rows[f"n_{kind}"].sum()) for kind in _COLOURS}
    dense = [kind for kind, count in number_of.items() if count >= _FEWEST]
    highest = max((float(rows[kind].max()) for kind in dense), default=1.0)
    for kind in reversed(_COLOURS):
        colour = _COLOURS[kind]
        if kind in dense:
            axes.fill_between(middle, rows[kind], color=colour, alpha=0.18, linewidth=0)
            axes.plot(middle, rows[kind], color=colour, linewidth=0.9)
        else:
            there = rows[f"n_{kind}"].to_numpy() > 0
            axes.vlines(middle[there], 0, 0.12 * highest, color=colour, linewidth=1.2)
    axes.set(xlim=(-1, 1), ylim=(0, 1.05 * highest))
    axes.spines["left"].set_visible(True)
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.grid(True)
    if not number_of["positive"] + number_of["negative"]:
        say(axes, "no pair is strongly co-expressed")


@styled
def separation(table: pd.DataFrame) -> Figure:
    """Draw areas under the ROC curve with their intervals, a row a score.

    Parameters
    ----------
    table : DataFrame
        ``comparison``, ``score``, ``pairs``, ``auroc``, ``low``, ``high``, ``dealt``.
    """
    comparisons = list(dict.fromkeys(table["comparison"]))
    names = list(dict.fromkeys(table["score"]))
    left = MARGIN + 0.04 + widest(names, TEXT)
    width = (DOUBLE - MARGIN - left) / 2 - 0.15
    block = ROW * len(names) + 0.24
    page = Page.make(
        DOUBLE,
        0.14 + block * len(comparisons) + AXIS,
        title="Separation",
        lines=["Area under the ROC curve, 95% interval over genes"],
        key={"score": _COLOURS["negative"], "dealt to other genes": _COLOURS["other"]},
    )
    columns = ["auroc", "low", "high", "dealt"]
    every = table[columns].to_numpy(np.float64)
    ends = np.append(every[np.isfinite(every)], 0.5)
    low, high = ends.min() - 0.03, ends.max() + 0.03
    for place, kind in enumerate(dict.fromkeys(table["pairs"])):
        start = left + place * (width + 0.2)
        page.write(
            start + width / 2, page.top + 0.1, f"strong pairs: {kind}", va="bottom", ha="center"
        )
        for at, comparison in enumerate(comparisons):
            top = page.top + 0.14 + block * at + 0.2
            if not place:
                page.write(
                    MARGIN,
                    top - 0.03,
                    elided(comparison, SMALL, DOUBLE - 2 * MARGIN),
                    SMALL,
                    va="bottom",
                )
            axes = page.axes(start, top, width, ROW * len(names))
            own = (table["comparison"] == comparison) & (table["pairs"] == kind)
            area, least, most, dealt = table.loc[own, columns].to_numpy(np.float64).T
            height = np.arange(len(names))
            axes.hlines(height, least, most, color=_COLOURS["negative"], linewidth=1.2)
            axes.scatter(dealt, height, s=8, color=_COLOURS["other"], linewidths=0)
            axes.scatter(area, height, s=12, color=_COLOURS["negative"], linewidths=0, zorder=3)
            axes.set_xlim(low, high)
            axes.axvline(0.5, color="black", linewidth=0.5)
            axes.grid(axis="x")
            if not np.isfinite(area).any():
                say(axes, "no such pair")
            label_rows(axes, [] if place else names, len(names))
            if at == len(comparisons) - 1:
                page.below(axes, "area", lambda x: number(x, "g"), width)
            else:
                axes.set_xticks([])
    return page.figure
