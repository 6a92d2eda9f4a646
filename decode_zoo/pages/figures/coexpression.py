"""Pictures of a co-expression study: densities of scores, and how well each separates."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decode_zoo.pages import charts
from decode_zoo.pages.charts import AXIS, BLUE, DOUBLE, ROW, VERMILION
from decode_zoo.studies.result import StudyResult

__all__ = ["density", "pictures", "separation"]

_OTHER = "#8A929B"
_COLOURS = {"positive": VERMILION, "negative": BLUE, "other": _OTHER}
_NAMES = ("strongly co-expressed", "strongly, opposed", "other pairs")
_SHOWN = {"prediction": "predicted rho", "tissue profiles": "rho of tissue profiles"}
_FEWEST = 50  # pairs of which there is a density


def pictures(result: StudyResult) -> dict[str, tuple[str, Figure]]:
    """Draw the pictures of a study of co-expression: name → caption, figure."""
    tables = {name: table for name, (_, table) in result.tables.items()}
    return {
        "separation": (
            "Area under the ROC curve of each score, with 95% interval over genes",
            separation(tables["separation"]),
        ),
        "density": (
            "Scores of strongly co-expressed pairs and of others",
            density(tables["density"]),
        ),
    }


@charts.styled
def density(table: pd.DataFrame) -> Figure:
    """Draw densities of predicted rho, and of the rho of tissue profiles.

    `table` has ``comparison``, ``score``, ``middle`` of the bin, numbers of pairs ``n_negative``,
    ``n_other``, ``n_positive``, and densities ``negative``, ``other``, ``positive``. Pairs that are
    too few for a density are drawn as strokes.
    """
    comparisons = list(dict.fromkeys(table["comparison"]))
    figure = charts.sheet(
        DOUBLE,
        (1.55 + AXIS) * len(comparisons),
        title="Scores of pairs of genes",
        lines="density; pairs by measured rho",
        key=dict(zip(_NAMES, _COLOURS.values(), strict=True)),
    )
    grid = figure.subplots(len(comparisons), 2, squeeze=False)
    for row, comparison in zip(grid, comparisons, strict=True):
        row[0].set_title(charts.shorten(comparison, DOUBLE / 2), loc="left")
        for axes, (score, name) in zip(row, _SHOWN.items(), strict=True):
            own = (table["comparison"] == comparison) & (table["score"] == score)
            _draw_densities(axes, table[own], name)
    return figure


def _draw_densities(axes: Axes, rows: pd.DataFrame, name: str) -> None:
    middle = rows["middle"].to_numpy(np.float64)
    n = {kind: int(rows[f"n_{kind}"].sum()) for kind in _COLOURS}
    dense = [kind for kind, count in n.items() if count >= _FEWEST]
    highest = max((float(rows[kind].max()) for kind in dense), default=1.0)
    for kind, colour in reversed(_COLOURS.items()):
        if kind in dense:
            axes.fill_between(middle, rows[kind], color=colour, alpha=0.18, linewidth=0)
            axes.plot(middle, rows[kind], color=colour, linewidth=0.9)
        else:
            there = rows[f"n_{kind}"].to_numpy() > 0
            axes.vlines(middle[there], 0, 0.12 * highest, color=colour, linewidth=1.2)
    charts.y_axis(axes)
    axes.set(xlim=(-1, 1), ylim=(0, 1.05 * highest))
    charts.x_axis(axes, name)
    if not n["positive"] + n["negative"]:
        charts.say(axes, "no pair is strongly co-expressed")


@charts.styled
def separation(table: pd.DataFrame) -> Figure:
    """Draw areas under the ROC curve with their intervals, a row a score.

    `table` has ``comparison``, ``score``, ``pairs``, ``auroc``, ``low``, ``high``, ``permuted``.
    """
    comparisons, names, kinds = (
        list(dict.fromkeys(table[name])) for name in ("comparison", "score", "pairs")
    )
    figure = charts.sheet(
        DOUBLE,
        0.14 + (ROW * len(names) + 0.24) * len(comparisons) + AXIS,
        title="Separation",
        lines="Area under the ROC curve, 95% interval over genes",
        key={"score": BLUE, "permuted over genes": _OTHER},
    )
    shown = ["auroc", "low", "high", "permuted"]
    every = np.append(table[shown].to_numpy(np.float64), [0.45, 0.55])
    rows = np.arange(len(names))
    grid = figure.subplots(len(comparisons), len(kinds), squeeze=False, sharex=True)
    for i, comparison in enumerate(comparisons):
        for j, kind in enumerate(kinds):
            axes = grid[i, j]
            own = (table["comparison"] == comparison) & (table["pairs"] == kind)
            area, low, high, permuted = table.loc[own, shown].to_numpy(np.float64).T
            axes.scatter(permuted, rows, s=8, color=_OTHER, linewidths=0)
            charts.intervals(axes, rows, low, area, high, BLUE)
            if not np.isfinite(area).any():
                charts.say(axes, "no such pair")
            charts.label_rows(axes, [] if j else names, len(names))
            charts.value_axis(axes, "area" if i == len(comparisons) - 1 else "", every, zero=0.5)
            axes.set_title(charts.shorten(f"{comparison}, strong pairs: {kind}", 3), loc="left")
    return figure
