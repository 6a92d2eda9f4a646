"""Pictures of a cohort: libraries, components by trait, sex, outliers, bias by RNA length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from decode_zoo.cohort.persons import Trait
from decode_zoo.cohort.preparation import Cohort
from decode_zoo.cohort.quality import Quality
from decode_zoo.plots.page import DOUBLE, GREY, styled

__all__ = ["components", "length_bias", "libraries", "sex", "similarity"]

FloatArray = npt.NDArray[np.float64]

# Okabe and Ito's colours, which can be told apart by all.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_OTHERS = "#B8BEC6"
_HEIGHT = 2.3
_MOST_TRAITS = 6


def _figure(columns: int, rows: int = 1) -> tuple[Figure, npt.NDArray[Any]]:
    width = DOUBLE if columns > 1 else DOUBLE / 2
    figure = Figure((width, _HEIGHT * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for each in axes.flat:
        for spine in ("left", "bottom"):
            each.spines[spine].set_visible(True)
        each.tick_params(axis="y", size=2)
    return figure, axes


def _ranked(axes: Axes, values: FloatArray, marked: Sequence[int] = ()) -> None:
    """Draw values of persons in ascending order."""
    order = np.argsort(values, kind="stable")
    colours = np.where(np.isin(order, list(marked)), _COLOURS[1], _COLOURS[0])
    axes.scatter(np.arange(len(values)), values[order], s=6, c=colours, linewidths=0)
    axes.set_xlabel("persons, ordered")


@styled
def libraries(cohort: Cohort) -> Figure:
    """Draw what each person's values add up to, and how many genes are expressed."""
    figure, ((left, right),) = _figure(2)
    counts = cohort.facts["quantity"] == "counts"
    _ranked(left, cohort.abundance.totals / 1e6)
    left.set(ylabel="million counts" if counts else "sum of TPM, millions", ylim=(0, None))
    left.set_title("Library size", loc="left")
    _ranked(right, (cohort.abundance.tpm > 1).sum(axis=0).astype(float))
    right.set(ylabel="genes")
    right.set_title("Genes above 1 TPM", loc="left")
    return figure


@styled
def components(quality: Quality) -> Figure:
    """Draw the first two principal components, coloured by each trait in turn."""
    found = quality.components
    traits: list[Trait | None] = [*quality.traits[:_MOST_TRAITS]] or [None]
    columns = min(len(traits), 2)
    rows = -(-len(traits) // columns)
    figure, axes = _figure(columns, rows)
    for each, trait in zip(axes.flat, [*traits, None], strict=False):
        each.set(xlabel=f"PC1 ({100 * found.shares[0]:.0f}%)")
        if found.scores.shape[1] > 1:
            each.set(ylabel=f"PC2 ({100 * found.shares[1]:.0f}%)")
        second = found.scores[:, min(1, found.scores.shape[1] - 1)]
        _coloured(figure, each, found.scores[:, 0], second, trait)
    for each in axes.flat[len(traits) :]:
        each.set_axis_off()
    return figure


def _coloured(
    figure: Figure, axes: Axes, x: FloatArray, y: FloatArray, trait: Trait | None
) -> None:
    if trait is None:
        axes.scatter(x, y, s=9, c=_COLOURS[0], linewidths=0)
        return
    axes.set_title(trait.name, loc="left")
    if trait.numbers is not None and len(trait.categories) > 2:
        missing = np.isnan(trait.numbers)
        axes.scatter(x[missing], y[missing], s=9, c=_OTHERS, linewidths=0)
        points = axes.scatter(
            x[~missing], y[~missing], s=9, c=trait.numbers[~missing], cmap="viridis", linewidths=0
        )
        figure.colorbar(points, ax=axes, shrink=0.8)
        return
    texts = np.array(trait.texts)
    shown = trait.categories[: len(_COLOURS)]
    rest = ~np.isin(texts, shown)
    if rest.any():
        axes.scatter(x[rest], y[rest], s=9, c=_OTHERS, linewidths=0, label="others")
    for category, colour in zip(shown, _COLOURS, strict=False):
        chosen = texts == category
        label = f"{category[:20]} ({int(chosen.sum())})"
        axes.scatter(x[chosen], y[chosen], s=9, c=colour, linewidths=0, label=label)
    axes.legend(
        frameon=False,
        fontsize="small",
        handletextpad=0.1,
        loc="upper left",
        bbox_to_anchor=(1, 1),
        borderaxespad=0,
    )


@styled
def similarity(quality: Quality) -> Figure:
    """Draw how alike each person is to the others."""
    figure, ((axes,),) = _figure(1)
    _ranked(axes, quality.similarity, quality.outliers)
    axes.set(ylabel="mean correlation with others")
    return figure


@styled
def sex(quality: Quality) -> Figure:
    """Draw XIST against Y genes, coloured by the sex that the person table has."""
    found = quality.sex
    figure, ((axes,),) = _figure(1)
    given = np.array(found.given or found.calls)
    x, y = np.array(found.xist), np.array(found.y)
    for number, name in enumerate(sorted(set(given))):
        chosen = given == name
        axes.scatter(
            x[chosen],
            y[chosen],
            s=9,
            c=_COLOURS[number % len(_COLOURS)],
            linewidths=0,
            label=f"{name or 'not given'} ({int(chosen.sum())})",
        )
    wrong = found.differing
    axes.scatter(x[wrong], y[wrong], s=40, facecolors="none", edgecolors="black", linewidths=0.8)
    axes.set(xlabel="XIST, log₂ TPM", ylabel="mean of Y genes, log₂ TPM")
    axes.legend(
        frameon=False,
        fontsize="small",
        handletextpad=0.1,
        loc="upper left",
        bbox_to_anchor=(1, 1),
        borderaxespad=0,
    )
    return figure


@styled
def length_bias(cohort: Cohort) -> Figure:
    """Draw the share of each person's differences that RNA length explains."""
    figure, ((axes,),) = _figure(1)
    _ranked(axes, 100 * cohort.length_share)
    axes.set(ylabel="% of variance", ylim=(0, None))
    axes.axhline(100 * float(cohort.length_share.mean()), color=GREY, linewidth=0.5)
    return figure
