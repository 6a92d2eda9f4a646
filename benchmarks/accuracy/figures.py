"""Pictures of the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.cluster.hierarchy import leaves_list, linkage

from benchmarks.regulator_figures import BLUE, GREEN, GREY, ORANGE, new_figure, save, short, tidy
from decode_zoo.networks.manifest import MEDIAN

FloatArray = npt.NDArray[np.float64]

_COLOURS = {"ours": BLUE, "ridge": ORANGE, "decode": GREEN}


def _dots(axes: Any, table: pd.DataFrame, y: FloatArray, **style: Any) -> None:
    """Draw estimates with intervals."""
    errors = np.abs(table[["low", "high"]].to_numpy().T - table["spearman"].to_numpy())
    axes.errorbar(table["spearman"], y, xerr=errors, fmt="o", ms=3.5, lw=0.8, **style)
    axes.grid(axis="x", lw=0.3, color="#DDDDDD")
    axes.axvline(0, color=GREY, lw=0.5)


def draw_summary(table: pd.DataFrame) -> Figure:
    """Draw each model's mean over fold changes and its median, on both parts."""
    models = list(dict.fromkeys(table["model"]))
    figure = new_figure(7.2, 0.22 * len(models) + 1.0)
    panels = figure.subplots(1, 2, sharey=True)
    place = np.arange(len(models), dtype=float)
    for axes, statistic in zip(panels, dict.fromkeys(table["statistic"]), strict=True):
        for part, colour, shift in (("test", BLUE, -0.12), ("validation", GREY, 0.12)):
            chosen = table[(table["part"] == part) & (table["statistic"] == statistic)]
            _dots(
                axes, chosen.set_index("model").loc[models], place + shift, color=colour, label=part
            )
        axes.set_xlabel(f"Spearman's rho, {statistic}", fontsize=8)
        tidy(axes)
    known = table[table["statistic"] != MEDIAN].groupby("model")["n_outputs"].first()
    panels[0].set_yticks(
        place,
        [
            name.replace("_", " ")
            + (f", {known[name]} tissues" if known[name] < known.max() else "")
            for name in models
        ],
    )
    panels[0].set_ylim(len(models) - 0.4, -0.6)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=7, frameon=False)
    return figure


def draw_outputs(table: pd.DataFrame) -> Figure | None:
    """Draw the test genes' rho of every output: ours, ridge regression and DEcode."""
    test = table[table["part"] == "test"]
    models = [name for name in _COLOURS if name in set(test["model"])]
    if not models:
        return None
    first = test[test["model"] == models[0]].sort_values("spearman", ascending=False)
    order = list(first["output"])
    figure = new_figure(7.2, 0.17 * len(order) + 1.0)
    axes = figure.subplots()
    place = np.arange(len(order), dtype=float)
    for number, model in enumerate(models):
        chosen = test[test["model"] == model].set_index("output").loc[order]
        _dots(axes, chosen, place + 0.2 * (number - 1), color=_COLOURS[model], label=model)
    axes.set_yticks(place, ["median" if name == MEDIAN else short(name) for name in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlabel("Spearman's rho over test genes, 95% interval", fontsize=8)
    axes.legend(fontsize=7, frameon=False, loc="lower right")
    tidy(axes)
    return figure


def draw_heatmap(
    matrices: Mapping[str, FloatArray], observed: FloatArray, names: list[str]
) -> Figure:
    """Draw rho of predicted with observed tissues; like tissues stand together."""
    order = leaves_list(linkage(observed.T, "average", "correlation"))
    figure = new_figure(10, 5.6)
    panels = figure.subplots(1, len(matrices), sharey=True)
    titles = ("fold changes", "less each gene's mean")
    for axes, rho, title in zip(panels, matrices.values(), titles, strict=True):
        shown = rho[np.ix_(order, order)]
        bound = float(np.abs(shown).max())
        image = axes.imshow(shown, cmap="RdBu_r", vmin=-bound, vmax=bound)
        best = shown.argmax(axis=1)
        axes.plot(best, np.arange(len(best)), "s", ms=2, mfc="none", mec="black", mew=0.5)
        labels = [short(names[i]) for i in order]
        axes.set_xticks(np.arange(len(order)), labels, rotation=90)
        axes.set_yticks(np.arange(len(order)), labels)
        axes.tick_params(labelsize=5, length=1)
        axes.set_title(title, fontsize=8)
        axes.set_xlabel("observed", fontsize=8)
        bar = figure.colorbar(image, ax=axes, shrink=0.5)
        bar.ax.tick_params(labelsize=6)
    panels[0].set_ylabel("predicted (square: its best match)", fontsize=8)
    return figure


def draw_calibration(table: pd.DataFrame) -> Figure:
    """Draw observed by predicted fold changes, and quantiles of both, on test genes."""
    test = table[table["part"] == "test"]
    figure = new_figure(7.2, 3.4)
    left, right = figure.subplots(1, 2)
    left.fill_between(
        test["predicted"],
        test["observed_10"],
        test["observed_90"],
        color=BLUE,
        alpha=0.15,
        lw=0,
        label="10% to 90%",
    )
    left.plot(test["predicted"], test["observed"], "o-", ms=3.5, color=BLUE, label="mean")
    left.set_xlabel("predicted log2 fold change, less tissue's mean", fontsize=8)
    left.set_ylabel("observed log2 fold change, less tissue's mean", fontsize=8)
    right.plot(test["predicted_quantile"], test["observed_quantile"], "o", ms=3.5, color=BLUE)
    right.set_xlabel("quantile of predicted", fontsize=8)
    right.set_ylabel("quantile of observed", fontsize=8)
    for axes in (left, right):
        axes.axline((0, 0), slope=1, color=GREY, lw=0.6)
        tidy(axes)
    left.legend(fontsize=7, frameon=False)
    return figure


def draw_groups(table: pd.DataFrame) -> Figure:
    """Draw scores of groups of test genes."""
    test = table[table["part"] == "test"]
    keys = list(dict.fromkeys(zip(test["grouping"], test["group"], strict=True)))
    figure = new_figure(7.2, 0.2 * len(keys) + 1.0)
    panels = figure.subplots(1, 2, sharey=True)
    place = np.arange(len(keys), dtype=float)
    for axes, statistic in zip(panels, dict.fromkeys(test["statistic"]), strict=True):
        for number, model in enumerate(dict.fromkeys(test["model"])):
            chosen = test[(test["statistic"] == statistic) & (test["model"] == model)]
            _dots(
                axes,
                chosen.set_index(["grouping", "group"]).loc[keys],
                place + 0.2 * number - 0.1,
                color=_COLOURS[model],
                label=model,
            )
        axes.set_xlabel(f"Spearman's rho, {statistic}", fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        tidy(axes)
    panels[0].set_yticks(place, [f"{grouping}: {group}" for grouping, group in keys])
    panels[0].set_ylim(len(keys) - 0.4, -0.6)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=7, frameon=False)
    return figure


def draw_all(
    tables: Mapping[str, pd.DataFrame],
    matrices: Mapping[str, FloatArray],
    observed: FloatArray,
    folder: Path,
) -> None:
    """Write the figures that the tables allow for, as PNG."""
    figures = {
        "summary": draw_summary(tables["summary"]),
        "outputs": draw_outputs(tables["outputs"]),
    }
    if matrices:
        figures["heatmap"] = draw_heatmap(matrices, observed, list(tables["heatmap"]["predicted"]))
        figures["calibration"] = draw_calibration(tables["quantiles"])
    if len(tables["groups"]):
        figures["groups"] = draw_groups(tables["groups"])
    for name, figure in figures.items():
        if figure is not None:
            save(figure, folder / f"{name}.png")
