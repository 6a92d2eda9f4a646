"""Pictures of a cohort: libraries, components by trait, sex, outliers, bias by RNA length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decode_zoo.cohort.preparation import Cohort
from decode_zoo.cohort.quality import Quality
from decode_zoo.cohort.samples import Trait
from decode_zoo.core.arrays import FloatArray
from decode_zoo.pages import charts
from decode_zoo.pages.charts import BLUE, COLOURS, DOUBLE, GREY, PALE, VERMILION

__all__ = ["components", "length_bias", "libraries", "sex", "similarity"]

_HALF, _HEIGHT = DOUBLE / 2, 2.3
_MOST_TRAITS = 6


@charts.styled
def libraries(cohort: Cohort) -> Figure:
    """Draw what each sample's values add up to, and how many genes are expressed."""
    figure, ((left, right),) = charts.framed(DOUBLE, _HEIGHT, columns=2)
    counts = cohort.facts["quantity"] == "counts"
    unit = "million counts" if counts else "sum of TPM, millions"
    _ranked(left, cohort.abundance.totals / 1e6, unit)
    left.set(ylim=(0, None))
    left.set_title("Library size", loc="left")
    _ranked(right, (cohort.abundance.tpm > 1).sum(axis=0).astype(float), "genes")
    right.set_title("Genes above 1 TPM", loc="left")
    return figure


@charts.styled
def components(quality: Quality) -> Figure:
    """Draw the first two principal components, coloured by each trait in turn."""
    found = quality.components
    traits: list[Trait | None] = [*quality.traits[:_MOST_TRAITS]] or [None]
    columns = min(len(traits), 2)
    rows = -(-len(traits) // columns)
    figure, panels = charts.framed(_HALF * columns, _HEIGHT * rows, rows, columns)
    x, y = found.scores[:, 0], found.scores[:, min(1, found.scores.shape[1] - 1)]
    for axes, trait in zip(panels.flat, traits, strict=False):
        axes.set(xlabel=f"PC1 ({100 * found.shares[0]:.0f}%)")
        if found.scores.shape[1] > 1:
            axes.set(ylabel=f"PC2 ({100 * found.shares[1]:.0f}%)")
        _coloured(figure, axes, x, y, trait)
    for axes in panels.flat[len(traits) :]:
        axes.set_axis_off()
    return figure


@charts.styled
def similarity(quality: Quality) -> Figure:
    """Draw how alike each sample is to the others."""
    figure, ((axes,),) = charts.framed(_HALF, _HEIGHT)
    _ranked(axes, quality.similarity, "mean correlation with others", quality.outliers)
    return figure


@charts.styled
def sex(quality: Quality) -> Figure:
    """Draw XIST against Y genes, coloured by the sex that the sample table has."""
    found = quality.sex
    figure, ((axes,),) = charts.framed(_HALF, _HEIGHT)
    x, y = np.array(found.xist), np.array(found.y)
    given = found.given or found.calls
    _categories(axes, x, y, [text or "not given" for text in given], sorted(set(given)))
    wrong = found.differing
    axes.scatter(x[wrong], y[wrong], s=40, facecolors="none", edgecolors="black", linewidths=0.8)
    axes.set(xlabel="XIST, log₂ TPM", ylabel="mean of Y genes, log₂ TPM")
    return figure


@charts.styled
def length_bias(cohort: Cohort) -> Figure:
    """Draw the share of each sample's differences that RNA length explains."""
    figure, ((axes,),) = charts.framed(_HALF, _HEIGHT)
    _ranked(axes, 100 * cohort.length_share, "% of variance")
    axes.set(ylim=(0, None))
    axes.axhline(100 * float(cohort.length_share.mean()), color=GREY, linewidth=0.5)
    return figure


def _ranked(axes: Axes, values: FloatArray, label: str, marked: Sequence[int] = ()) -> None:
    """Draw values of samples in ascending order."""
    order = np.argsort(values, kind="stable")
    colours = np.where(np.isin(order, list(marked)), VERMILION, BLUE)
    axes.scatter(np.arange(len(values)), values[order], s=6, c=colours, linewidths=0)
    axes.set(xlabel="samples, ordered", ylabel=label)


def _coloured(
    figure: Figure, axes: Axes, x: FloatArray, y: FloatArray, trait: Trait | None
) -> None:
    """Draw points in the colours of a trait: its categories, or a scale of its numbers."""
    axes.set_title(charts.shorten(trait.name, _HALF) if trait else "", loc="left")
    if trait is None:
        axes.scatter(x, y, s=9, c=BLUE, linewidths=0)
    elif trait.numbers is None or len(trait.categories) <= 2:
        _categories(axes, x, y, trait.texts, trait.categories)
    else:
        known = np.isfinite(trait.numbers)
        axes.scatter(x[~known], y[~known], s=9, c=PALE, linewidths=0)
        x, y, values = x[known], y[known], trait.numbers[known]
        drawn = axes.scatter(x, y, s=9, c=values, cmap="viridis", linewidths=0)
        figure.colorbar(drawn, ax=axes, shrink=0.8)


def _categories(
    axes: Axes, x: FloatArray, y: FloatArray, texts: Sequence[str], categories: Sequence[str]
) -> None:
    """Draw points in the colours of their categories, with a key of how many there are."""
    of_point = np.array(texts)
    shown = [category or "not given" for category in categories[: len(COLOURS)]]
    rest = ~np.isin(of_point, shown)
    if rest.any():
        axes.scatter(x[rest], y[rest], s=9, c=PALE, linewidths=0, label="others")
    for category, colour in zip(shown, COLOURS, strict=False):
        own = of_point == category
        label = f"{category[:20]} ({int(own.sum())})"
        axes.scatter(x[own], y[own], s=9, c=colour, linewidths=0, label=label)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
