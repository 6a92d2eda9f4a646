"""Pictures of removals: regulators by effect, co-expression after removals, changes by place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decode_zoo.layout import SIDES, Side
from decode_zoo.plots.colours import value_cells
from decode_zoo.plots.page import AXIS, DOUBLE, GREY, MARGIN, ROW, SINGLE, Page, label_rows, styled
from decode_zoo.plots.text import SMALL, TEXT, elided, number, widest

if TYPE_CHECKING:
    from decode_zoo.studies.removal.pair import PairStudy

__all__ = ["bins", "by_output", "effects", "intervals", "removals", "terms"]

FloatArray = npt.NDArray[np.float64]

# Okabe and Ito's colours.
_CLASS = {"TF": "#0072B2", "RBP": "#D55E00", "miRNA": "#009E73", "chromatin": "#CC79A7"}
_OTHER = "#E69F00"
_MODELS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SIDE = {"promoter": "#0072B2", "rna": "#D55E00"}
_TERMS, _OUTPUTS, _NAME = 25, 60, 1.3
_LEFT = 0.5


@styled
def effects(table: pd.DataFrame, n_genes: int) -> Figure:
    """Draw the mean change by the regulators of largest effect as bars, highest on top.

    Parameters
    ----------
    table : DataFrame
        From `Effects.to_frame`.
    n_genes : int
        That were asked for.
    """
    best = table.head(_TERMS).sort_values("mean_change", ascending=False, kind="stable")
    names = [elided(str(name), TEXT, _NAME) for name in best[_label(best)]]
    values = best["mean_change"].to_numpy(np.float64)
    kinds = best["class"].astype(str).tolist()
    height = ROW * max(len(best), 3)
    page = Page.make(
        SINGLE,
        0.12 + height + AXIS,
        title="Knock-outs of largest effect",
        lines=[f"{len(best)} of {len(table)},", f"over those of {n_genes:,} genes that have sites"],
        key={kind: _CLASS.get(kind, _OTHER) for kind in dict.fromkeys(kinds)},
    )
    counts = [f"{count:,}" for count in best["genes"]]
    left = MARGIN + 0.04 + widest(names, TEXT)
    right = SINGLE - MARGIN - 0.1 - widest(["genes", *counts], SMALL)
    page.column(SINGLE - MARGIN, page.top + 0.12, "genes", counts)
    axes = page.axes(left, page.top + 0.12, right - left, height)
    axes.barh(range(len(best)), values, 0.72, color=[_CLASS.get(kind, _OTHER) for kind in kinds])
    label_rows(axes, names, max(len(best), 3))
    page.values_below(axes, values, "mean change of predictions (log₂)")
    return page.figure


@styled
def by_output(names: Sequence[str], outputs: Sequence[str], values: FloatArray) -> Figure:
    """Draw mean changes, regulators × outputs.

    Parameters
    ----------
    names, outputs : sequence of str
    values : ndarray of float64, shape (n_names, n_outputs)
    """
    spread = np.argsort(-np.abs(values).max(axis=0), kind="stable")[:_OUTPUTS]
    chosen = np.sort(spread)
    values = values[:, chosen]
    rows = [elided(name, SMALL, _NAME) for name in names]
    labels = [elided(outputs[i].replace("_", " "), SMALL, 1.6) for i in chosen]
    left = MARGIN + 0.04 + widest(rows, SMALL)
    cell = min(0.2, (DOUBLE - MARGIN - left) / max(len(labels), 1))
    height = 0.115 * max(len(rows), 3)
    page = Page.make(
        max(left + cell * max(len(labels), 5) + MARGIN, SINGLE),
        height + 0.08 + widest(labels, SMALL) + MARGIN,
        title="Mean change by output",
        lines=[f"{len(rows)} regulators, {len(labels)} of {len(outputs)} outputs"],
        with_colour_bar=True,
    )
    axes = page.axes(left, page.top, cell * max(len(labels), 5), height)
    image = value_cells(axes, values, values)
    axes.set_yticks(range(len(rows)), rows, fontsize=SMALL)
    axes.set_xticks(range(len(labels)), labels, fontsize=SMALL, rotation=90)
    axes.tick_params(length=0, pad=2)
    page.colour_bar(image, values, "log₂")
    return page.figure


@styled
def removals(studies: Sequence[PairStudy], pair: str) -> Figure:
    """Draw how co-expression is spread after removals, model by model, and where it was."""
    size, row = SINGLE - 2 * MARGIN - 1.25, 0.42
    page = Page.make(
        SINGLE,
        row * len(studies) + AXIS,
        title=f"Co-expression of {pair}",
        lines=["Spearman's rho over persons", "after random removals;", "line: all sites there"],
    )
    axes = page.axes(MARGIN + 1.25, page.top, size, row * len(studies))
    low = min(float(np.quantile(study.rhos, 0.001)) for study in studies)
    low = min(low, *(study.intact for study in studies))
    edges = np.linspace(min(low - 0.02, 0.95), 1, 90)
    for i, (study, colour) in enumerate(zip(studies, _cycle(len(studies)), strict=True)):
        counts = np.histogram(study.rhos, edges)[0] / max(len(study.rhos), 1)
        top = counts.max() or 1.0
        axes.fill_between(
            edges[:-1],
            i,
            i - 0.8 * counts / top,
            step="post",
            color=colour,
            linewidth=0,
            alpha=0.75,
        )
        axes.plot([study.intact] * 2, [i, i - 0.85], color="black", linewidth=0.9)
    labels = [elided(study.model_id, SMALL, 1.2) for study in studies]
    axes.set_yticks(range(len(studies)), labels, fontsize=SMALL)
    axes.set(ylim=(len(studies) - 0.9, -0.95), xlim=(edges[0], 1))
    axes.grid(axis="x")
    page.below(axes, "Spearman's rho", lambda x: number(x, "g"))
    return page.figure


@styled
def terms(table: pd.DataFrame, models: Sequence[str]) -> Figure:
    """Draw what the removal of regulators does to co-expression, in each model.

    Parameters
    ----------
    table : DataFrame
        Regressions of all models: ``model``, ``term``, ``class``, ``estimate``.
    models : sequence of str
    """
    wide = table.pivot_table(
        index=["class", "term"], columns="model", values="estimate", aggfunc="first"
    )[list(models)]
    # In units of each model's spread, so that none decides by itself.
    scaled = (wide / wide.std()).abs().mean(axis=1)
    best = wide.loc[scaled.sort_values(ascending=False, kind="stable").index[:_TERMS]]
    best = best.loc[best.mean(axis=1).sort_values(kind="stable").index]
    names = [elided(str(name), TEXT, _NAME) for _, name in best.index]
    left, height = MARGIN + 0.04 + widest(names, TEXT), ROW * max(len(best), 3)
    colours = _cycle(len(models))
    page = Page.make(
        SINGLE + 1.2,
        height + AXIS,
        title="What holds them together",
        lines=[f"{len(best)} of {len(wide)} regulators;", "left: co-expression is lost without it"],
        key=dict(zip(models, colours, strict=True)),
    )
    axes = page.axes(left, page.top, SINGLE + 1.2 - MARGIN - 0.1 - left, height)
    for model, colour in zip(models, colours, strict=True):
        axes.plot(best[model], range(len(best)), "o", color=colour, markersize=3, markeredgewidth=0)
    label_rows(axes, names, max(len(best), 3))
    axes.grid(axis="y")
    page.values_below(axes, best.to_numpy(np.float64).ravel(), "change of rho by removal")
    return page.figure


@styled
def intervals(table: pd.DataFrame, genes: Mapping[str, str], models: Sequence[str]) -> Figure:
    """Draw what the removal of single bins does to co-expression, along both genes.

    Parameters
    ----------
    table : DataFrame
        Regressions: ``model``, ``gene``, ``side``, ``bin``, ``estimate``.
    genes : Mapping of str to str
        Id → name, top to bottom.
    models : sequence of str
    """
    colours = _cycle(len(models))
    page, panels = _along(
        table,
        genes,
        "What single bins do to co-expression",
        "change of rho by removal of a bin",
        dict(zip(models, colours, strict=True)),
    )
    for (gene, side), axes in panels.items():
        for model, colour in zip(models, colours, strict=True):
            own = table[
                (table["gene"] == gene) & (table["side"] == side) & (table["model"] == model)
            ].sort_values("bin")
            axes.plot(own["bin"] + 0.5, own["estimate"], "-", color=colour, linewidth=0.8)
    return page.figure


@styled
def bins(table: pd.DataFrame, genes: Mapping[str, str], what: str) -> Figure:
    """Draw what the removal of single bins does to predictions, along promoters and RNAs.

    Parameters
    ----------
    table : DataFrame
        ``gene``, ``side``, ``bin``, ``change``.
    genes : Mapping of str to str
        Id → name, top to bottom.
    what : str
        What the change is of.
    """
    page, panels = _along(table, genes, "Changes by place", what, {})
    for (gene, side), axes in panels.items():
        own = table[(table["gene"] == gene) & (table["side"] == side)]
        axes.bar(own["bin"] + 0.5, own["change"], 0.9, color=_SIDE[side], linewidth=0)
    return page.figure


def _along(
    table: pd.DataFrame, genes: Mapping[str, str], title: str, what: str, key: Mapping[str, str]
) -> tuple[Page, dict[tuple[str, Side], Axes]]:
    """Lay out a row of two panels a gene: promoter and RNA, with one scale a gene."""
    row, gap, between = 0.85, 0.62, 0.3
    page = Page.make(DOUBLE, (row + gap) * len(genes), title=title, lines=[what], key=dict(key))
    value = "estimate" if "estimate" in table else "change"
    width = (DOUBLE - 2 * MARGIN - 2 * _LEFT - between) / 2
    panels: dict[tuple[str, Side], Axes] = {}
    for i, (gene, name) in enumerate(genes.items()):
        own = table[table["gene"] == gene]
        reach = 1.08 * float(own[value].abs().max()) if len(own) else 1.0
        top = page.top + 0.12 + i * (row + gap)
        for j, side in enumerate(SIDES):
            axes = page.axes(MARGIN + _LEFT + j * (width + _LEFT + between), top, width, row)
            part = own[own["side"] == side]
            last = int(part["bin"].max()) + 1 if len(part) else 1
            axes.set(
                xlim=(0, max(last, 30 if side == "promoter" else 1)),
                ylim=(-(reach or 1.0), reach or 1.0),
            )
            axes.axhline(0, color="black", linewidth=0.5)
            axes.spines["left"].set_visible(True)
            axes.tick_params(axis="y", labelsize=SMALL)
            axes.grid(axis="y")
            label = f"{name}, {'promoter' if side == 'promoter' else 'RNA'} (bin, 5' to 3')"
            page.below(axes, label, lambda x: number(x, "g"), width)
            panels[gene, side] = axes
            if not len(part):
                axes.text(
                    0.5,
                    0.6,
                    "no sites with positions",
                    color=GREY,
                    fontsize=SMALL,
                    ha="center",
                    transform=axes.transAxes,
                )
    return page, panels


def _label(table: pd.DataFrame) -> str:
    return next(name for name in ("track", "regulator", "class") if name in table)


def _cycle(n: int) -> list[str]:
    return [_MODELS[i % len(_MODELS)] for i in range(n)]
