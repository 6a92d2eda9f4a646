"""Pictures of a trait study: volcanoes, concordance, regulators, regulators by sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decode_zoo.core.arrays import FloatArray
from decode_zoo.pages import charts
from decode_zoo.pages.charts import AXIS, BLUE, DOUBLE, PALE, ROW, SINGLE, SMALL, VERMILION
from decode_zoo.pages.html import number
from decode_zoo.studies.result import StudyResult

if TYPE_CHECKING:
    from decode_zoo.studies.traits import TraitStudy

__all__ = ["concordance", "heatmap", "pictures", "regulators", "volcanoes"]

_KEY = {"related, higher": VERMILION, "lower": BLUE, "not related": PALE}
_NAMED = 8  # points with a name
_BARS, _ROWS = 20, 30


def pictures(result: StudyResult) -> dict[str, tuple[str, Figure]]:
    """Draw the pictures of a study of traits: name → caption, figure."""
    study = result.drawn["study"]
    return {
        "volcanoes": ("Effects on expression and on its prediction", volcanoes(study)),
        "concordance": (
            "t statistics of prediction against those of expression",
            concordance(study),
        ),
        "regulators": ("Regulators most strongly related", regulators(study)),
        "heatmap": ("Scores of regulators by sample", heatmap(study)),
    }


@charts.styled
def volcanoes(study: TraitStudy) -> Figure:
    """Draw effects and p values of expression and of its prediction side by side."""
    figure = charts.sheet(
        DOUBLE,
        2.6 + AXIS,
        title=f"Effect of {study.design.trait}",
        lines=f"{len(study.expression):,} genes, false discovery rate {study.numbers['fdr']:g}",
        key=_KEY,
    )
    tables = {"expression": study.expression, "prediction": study.predicted}
    for axes, (head, table) in zip(figure.subplots(1, 2), tables.items(), strict=True):
        axes.set_title(head)
        effect, p = table["effect"].to_numpy(np.float64), table["p"].to_numpy(np.float64)
        # A p value too small to be written is as high as the smallest that is not.
        height = -np.log10(np.maximum(p, p[p > 0].min(initial=1.0)))
        reach = 1.08 * float(np.abs(effect).max()) or 1.0
        axes.set(xlim=(-reach, reach), ylim=(0, 1.06 * float(height.max()) or 1.0))
        axes.axvline(0, color="black", linewidth=0.5)
        _scatter(figure, axes, (effect, height), table, _colours(study, table, effect))
        charts.x_axis(axes, f"log₂ fold change, {_per(study, 2)}")
        charts.y_axis(axes, "−log₁₀ p" if head == "expression" else "")
    return figure


@charts.styled
def concordance(study: TraitStudy) -> Figure:
    """Draw the t statistics of expression against those of its prediction."""
    found = study.numbers["concordance"]
    low, high = (_rho(end) for end in found["interval_95"])
    figure = charts.sheet(
        SINGLE,
        2.6 + AXIS,
        title="t statistics",
        lines=f"Spearman's rho {_rho(found['spearman'])} (95% over genes {low} to {high}; "
        f"other samples {_rho(found['other_samples']['mean'])})",
        key={"expression higher": VERMILION, "lower": BLUE, "not related": PALE},
    )
    axes, table = figure.subplots(), study.expression
    actual, predicted = (t["t"].to_numpy(np.float64) for t in (table, study.predicted))
    axes.axhline(0, color="black", linewidth=0.5)
    axes.axvline(0, color="black", linewidth=0.5)
    axes.margins(0.04)
    _scatter(figure, axes, (actual, predicted), table, _colours(study, table, actual))
    charts.x_axis(axes, "t of expression")
    charts.y_axis(axes, "t of prediction")
    return figure


@charts.styled
def regulators(study: TraitStudy) -> Figure:
    """Draw the related regulators of largest effect as bars, highest on top."""
    best = _largest(study, _BARS).sort_values("effect", ascending=False, kind="stable")
    effect = best["effect"].to_numpy(np.float64)
    figure = charts.sheet(
        SINGLE,
        ROW * max(len(best), 3) + AXIS,
        title=f"Regulators and {study.design.trait}",
        lines=f"{len(best)} of {len(study.regulators)}, the related ones of largest effect",
        key=_KEY,
    )
    axes = figure.subplots()
    charts.bars(axes, _regulator_names(study, best), effect, _colours(study, best, effect))
    charts.value_axis(axes, f"effect on mean score (log₂, {_per(study, 1)})", effect)
    return figure


@charts.styled
def heatmap(study: TraitStudy) -> Figure:
    """Draw the scores of the same regulators, and some more, by sample, ordered by the trait."""
    trait = study.design.matrix[:, -1]
    order = np.argsort(trait, kind="stable")
    best = _largest(study, _ROWS).sort_values("effect", ascending=False, kind="stable")
    values = study.scores.to_numpy(np.float64)[best.index][:, order]
    deviation = values.std(axis=1, keepdims=True)
    values = (values - values.mean(axis=1, keepdims=True)) / np.where(deviation > 0, deviation, 1)
    strip, rows = 0.09, 0.105 * len(best)
    figure = charts.sheet(
        DOUBLE,
        strip + rows + 0.3,
        title="Mean scores by sample",
        lines=f"{len(order)} samples, ordered by {study.design.trait}",
        with_colour_bar=True,
    )
    shade, axes = figure.subplots(2, height_ratios=[strip, rows])
    shade.imshow(trait[order][None], cmap="cividis", aspect="auto", interpolation="none")
    charts.label_cells(shade, [study.design.trait], room=1.3)
    shade.spines["bottom"].set_visible(False)
    image = charts.cells(axes, values)
    charts.label_cells(axes, _regulator_names(study, best), room=1.3)
    charts.colour_bar(figure, image, values, "standard deviations")
    ends = (study.design.values[int(order[i])] for i in (0, -1))
    for x, text, side in zip((0, 1), ends, ("left", "right"), strict=True):
        axes.annotate(
            charts.shorten(text, 2.5, SMALL),
            (x, 0),
            xytext=(0, -3),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=SMALL,
            ha=side,
            va="top",
        )
    return figure


def _rho(value: float | None) -> str:
    return "not known" if value is None else number(value, ".2f")


def _per(study: TraitStudy, room: float) -> str:
    """Write what an effect is by."""
    name = study.design.names[-1]
    text = f"by unit of {name}" if name == study.design.trait else name.replace("=", ": ")
    return charts.shorten(text, room)


def _largest(study: TraitStudy, k: int) -> pd.DataFrame:
    """Choose the k regulators of largest effect, those that are related before others.

    Predictions have no noise of measurement, so that small effects may have the highest t.
    """
    table = study.regulators
    effect = table["effect"].abs().to_numpy(np.float64)
    return table.iloc[np.lexsort([-effect, ~(table["q"] <= study.numbers["fdr"])])[:k]]


def _regulator_names(study: TraitStudy, rows: pd.DataFrame) -> list[str]:
    """Names of regulators, with their class where another class has one of the same name."""
    twice = set(study.regulators["name"][study.regulators["name"].duplicated()])
    return [
        f"{name} ({kind})" if name in twice else str(name)
        for name, kind in zip(rows["name"], rows["class"], strict=True)
    ]


def _colours(study: TraitStudy, table: pd.DataFrame, sign: FloatArray) -> list[str]:
    """Choose the colours of what is related to the trait, by sign, and of what is not."""
    signed = np.where(sign > 0, VERMILION, BLUE)
    return [str(c) for c in np.where(table["q"] <= study.numbers["fdr"], signed, PALE)]


def _scatter(
    figure: Figure,
    axes: Axes,
    at: tuple[FloatArray, FloatArray],
    genes: pd.DataFrame,
    colours: list[str],
) -> None:
    """Draw points, the related ones above, and name those of least p where names have room."""
    (x, y), shades = at, np.array(colours)
    order = np.argsort(shades != PALE, kind="stable")
    charts.points(axes, x[order], y[order], shades[order])
    best = np.argsort(genes["p"].to_numpy(), kind="stable")[:_NAMED]
    texts = []
    for i, (name, symbol) in zip(best, genes[["name", "symbol"]].to_numpy()[best], strict=True):
        side = -1 if x[i] > 0.6 * x.max() else 1
        texts.append(
            axes.annotate(
                symbol or name,
                (x[i], y[i]),
                xytext=(3 * side, 0),
                textcoords="offset points",
                fontsize=SMALL,
                ha="left" if side > 0 else "right",
                va="center",
            )
        )
    charts.drop_overlaps(figure, axes, texts)
