"""Pictures of removals: regulators by effect, co-expression after removals, changes by place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decode_zoo.core.arrays import FloatArray
from decode_zoo.features.spec import SIDES, Side
from decode_zoo.pages import charts
from decode_zoo.pages.charts import AXIS, CLASSES, COLOURS, DOUBLE, ORANGE, ROW, SINGLE, SMALL
from decode_zoo.studies.result import StudyResult

if TYPE_CHECKING:
    from decode_zoo.studies.pairs import PairStudy

__all__ = [
    "bins",
    "by_output",
    "effects",
    "intervals",
    "of_disruption",
    "of_knockouts",
    "of_pair",
    "removals",
    "terms",
]

_SIDE = {"promoter": charts.BLUE, "rna": charts.VERMILION}
_TERMS, _OUTPUTS, _NAME = 25, 60, 1.3


def of_knockouts(result: StudyResult) -> dict[str, tuple[str, Figure]]:
    """Draw the pictures of a study of knock-outs: name → caption, figure."""
    table, drawn = result.tables["regulators"][1], result.drawn
    found = {"effects": ("Regulators of largest effect", effects(table, result.numbers["genes"]))}
    if drawn["outputs"]:
        found["outputs"] = (
            "Mean change by output, regulators of largest effect",
            by_output(drawn["regulators"], drawn["outputs"], drawn["means"]),
        )
    return found


def of_pair(result: StudyResult) -> dict[str, tuple[str, Figure]]:
    """Draw the pictures of a study of two genes: name → caption, figure."""
    studies, pair, genes = (result.drawn[name] for name in ("studies", "pair", "genes"))
    ids, tables = [study.model_id for study in studies], result.tables
    found = {
        "removals": ("Co-expression after random knock-outs", removals(studies, pair)),
        "regulators": ("Change of co-expression by knock-out", terms(tables["regression"][1], ids)),
    }
    if "intervals" in tables:
        found["intervals"] = (
            "Change of co-expression by removal of a bin",
            intervals(tables["intervals"][1], genes, ids),
        )
    return found


def of_disruption(result: StudyResult) -> dict[str, tuple[str, Figure]]:
    """Draw the picture of a study of bins: name → caption, figure."""
    changes, genes, what = (result.drawn[name] for name in ("changes", "genes", "what"))
    caption = f"Changes along promoter and RNA of the first {len(genes)} genes"
    return {"bins": (caption, bins(changes, genes, what))}


@charts.styled
def effects(table: pd.DataFrame, n_genes: int) -> Figure:
    """Draw the mean change by the regulators of largest effect as bars, highest on top.

    `table` is from `Effects.to_frame`, `n_genes` how many were asked for.
    """
    best = table.head(_TERMS).sort_values("mean_change", ascending=False, kind="stable")
    finest = next(name for name in ("track", "regulator", "class") if name in table)
    values = best["mean_change"].to_numpy(np.float64)
    colours = {kind: CLASSES.get(kind, ORANGE) for kind in best["class"].astype(str)}
    figure = charts.sheet(
        SINGLE,
        0.12 + ROW * max(len(best), 3) + AXIS,
        title="Knock-outs of largest effect",
        lines=f"{len(best)} of {len(table)}, over those of {n_genes:,} genes that have sites",
        key=colours,
    )
    axes = figure.subplots()
    charts.bars(axes, best[finest], values, [colours[str(kind)] for kind in best["class"]])
    charts.columns(axes, {"genes": [f"{count:,}" for count in best["genes"]]})
    charts.value_axis(axes, "mean change of predictions (log₂)", values)
    return figure


@charts.styled
def by_output(names: Sequence[str], outputs: Sequence[str], values: FloatArray) -> Figure:
    """Draw mean changes, (n_names, n_outputs), of the outputs where they are largest."""
    chosen = np.sort(np.argsort(-np.abs(values).max(axis=0), kind="stable")[:_OUTPUTS])
    values = values[:, chosen]
    labels = [charts.shorten(outputs[i].replace("_", " "), 1.6, SMALL) for i in chosen]
    longest = 0.05 * max(map(len, labels))
    figure = charts.sheet(
        min(max(SINGLE, 1.2 + 0.2 * len(labels)), DOUBLE),
        0.115 * max(len(names), 3) + longest + 0.3,
        title="Mean change by output",
        lines=f"{len(names)} regulators, {len(labels)} of {len(outputs)} outputs",
        with_colour_bar=True,
    )
    axes = figure.subplots()
    image = charts.cells(axes, values)
    charts.label_cells(axes, names, labels, _NAME)
    charts.colour_bar(figure, image, values, "log₂")
    return figure


@charts.styled
def removals(studies: Sequence[PairStudy], pair: str) -> Figure:
    """Draw how co-expression is spread after removals, model by model, and where it was."""
    figure = charts.sheet(
        SINGLE,
        0.42 * len(studies) + AXIS,
        title=f"Co-expression of {pair}",
        lines="Spearman's rho over samples after random removals; line: all sites there",
    )
    axes = figure.subplots()
    low = min(float(np.quantile(study.rhos, 0.001)) for study in studies)
    low = min(low, *(study.intact for study in studies))
    edges = np.linspace(min(low - 0.02, 0.95), 1, 90)
    for i, (study, colour) in enumerate(zip(studies, cycle(COLOURS))):
        counts = np.histogram(study.rhos, edges)[0]
        heights = i - 0.8 * counts / max(counts.max(), 1)
        axes.fill_between(
            edges[:-1], i, heights, step="post", color=colour, linewidth=0, alpha=0.75
        )
        axes.plot([study.intact] * 2, [i, i - 0.85], color="black", linewidth=0.9)
    charts.label_rows(axes, [study.model_id for study in studies], size=SMALL, room=1.2)
    axes.set(ylim=(len(studies) - 0.9, -0.95), xlim=(edges[0], 1))
    charts.x_axis(axes, "Spearman's rho")
    return figure


@charts.styled
def terms(table: pd.DataFrame, models: Sequence[str]) -> Figure:
    """Draw what the removal of regulators does to co-expression, in each model.

    `table` has regressions of all models: ``model``, ``term``, ``class``, ``estimate``.
    """
    wide = table.pivot_table(
        index=["class", "term"], columns="model", values="estimate", aggfunc="first"
    )[list(models)]
    # In units of each model's spread, so that none decides by itself.
    scaled = (wide / wide.std()).abs().mean(axis=1)
    best = wide.loc[scaled.sort_values(ascending=False, kind="stable").index[:_TERMS]]
    best = best.loc[best.mean(axis=1).sort_values(kind="stable").index]
    colours = dict(zip(models, cycle(COLOURS)))
    figure = charts.sheet(
        SINGLE + 1.2,
        ROW * max(len(best), 3) + AXIS,
        title="What holds them together",
        lines=f"{len(best)} of {len(wide)} regulators; left: co-expression is lost without it",
        key=colours,
    )
    axes = figure.subplots()
    for model, colour in colours.items():
        axes.plot(best[model], range(len(best)), "o", color=colour, markersize=3, markeredgewidth=0)
    charts.label_rows(axes, best.index.get_level_values("term"), 3, room=_NAME)
    axes.grid(axis="y")
    charts.value_axis(axes, "change of rho by removal", best.to_numpy(np.float64).ravel())
    return figure


@charts.styled
def intervals(table: pd.DataFrame, genes: Mapping[str, str], models: Sequence[str]) -> Figure:
    """Draw what the removal of single bins does to co-expression, along both genes.

    `table` has regressions, ``model``, ``gene``, ``side``, ``bin``, ``estimate``; genes (id →
    name) go from top to bottom.
    """
    colours = dict(zip(models, cycle(COLOURS)))
    title = "What single bins do to co-expression"
    figure, panels = _along(table, genes, title, "change of rho by removal of a bin", colours)
    for axes, own, _ in panels:
        for model, colour in colours.items():
            line = own[own["model"] == model].sort_values("bin")
            axes.plot(line["bin"] + 0.5, line["estimate"], color=colour, linewidth=0.8)
    return figure


@charts.styled
def bins(table: pd.DataFrame, genes: Mapping[str, str], what: str) -> Figure:
    """Draw what the removal of single bins does to predictions, along promoters and RNAs.

    `table` has ``gene``, ``side``, ``bin``, ``change``; genes (id → name) go from top to bottom.
    """
    figure, panels = _along(table, genes, "Changes by place", what, {})
    for axes, own, side in panels:
        axes.bar(own["bin"] + 0.5, own["change"], 0.9, color=_SIDE[side], linewidth=0)
    return figure


def _along(
    table: pd.DataFrame, genes: Mapping[str, str], title: str, what: str, key: Mapping[str, str]
) -> tuple[Figure, list[tuple[Axes, pd.DataFrame, Side]]]:
    """Lay out a row of two panels a gene: promoter and RNA, with one scale a gene."""
    figure = charts.sheet(DOUBLE, 1.45 * len(genes), title=title, lines=what, key=key)
    grid = figure.subplots(len(genes), 2, squeeze=False)
    value = "estimate" if "estimate" in table else "change"
    panels: list[tuple[Axes, pd.DataFrame, Side]] = []
    for row, (gene, name) in zip(grid, genes.items(), strict=True):
        own = table[table["gene"] == gene]
        reach = (1.08 * float(own[value].abs().max()) if len(own) else 0) or 1.0
        for axes, side in zip(row, SIDES, strict=True):
            part = own[own["side"] == side]
            last = int(part["bin"].max()) + 1 if len(part) else 1
            where, least = ("promoter", 30) if side == "promoter" else ("RNA", 1)
            charts.y_axis(axes, most=4)
            charts.x_axis(axes, f"{charts.shorten(name, 1.5)}, {where} (bin, 5' to 3')", grid=False)
            axes.set(xlim=(0, max(last, least)), ylim=(-reach, reach))
            axes.axhline(0, color="black", linewidth=0.5)
            panels.append((axes, part, side))
            if not len(part):
                charts.say(axes, "no sites with positions", 0.6)
    return figure, panels
