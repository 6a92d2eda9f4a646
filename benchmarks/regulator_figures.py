"""Pictures of benchmarks/regulator_biology.py."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from PIL import Image
from scipy.cluster.hierarchy import leaves_list, linkage

from benchmarks.regulator_profiles import OwnExpression, Profiles

# Okabe and Ito's colours, the classes as in decode_zoo.pages.charts.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"
COLOURS = {"TF": BLUE, "RBP": ORANGE, "miRNA": GREEN}


def new_figure(width: float, height: float) -> Figure:
    """Make a figure without a window, in inches."""
    figure = Figure((width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes) -> None:
    axes.tick_params(labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def draw_masters(masters: pd.DataFrame) -> Figure:
    """Draw dots: tissue percentile and percentile among matched regulators, with null bands."""
    order = masters[masters["genes"] == "all"].reset_index(drop=True)
    chr1 = masters[masters["genes"] == "chr1"].set_index(["class", "regulator"])
    figure = new_figure(7.2, 0.155 * len(order) + 1.0)
    left, right = figure.subplots(1, 2, sharey=True)
    y = np.arange(len(order))
    pairs = list(zip(order["class"], order["regulator"], strict=True))
    half = 100 / 20
    for axes, column in ((left, "percentile_tissue"), (right, "percentile_matched")):
        low = order["null_low"] if axes is left else np.full(len(y), half)
        high = order["null_high"] if axes is left else np.full(len(y), 100 - half)
        axes.barh(y, high - low, left=low, height=0.9, color="#E8E8E8", label="null, 5% to 95%")
        axes.axvline(50, color=GREY, lw=0.6)
        for kind in ("TF", "RBP", "miRNA"):
            own = (order["class"] == kind).to_numpy()
            axes.plot(
                order[column][own],
                y[own],
                "o",
                ms=4.5,
                color=COLOURS[kind],
                label=f"{kind}, all genes",
            )
        axes.plot(
            chr1.loc[pairs, column],
            y,
            "D",
            ms=3.5,
            mfc="none",
            mec="black",
            mew=0.7,
            label="chr1 only",
        )
        axes.set_xlim(-3, 103)
        tidy(axes)
    left.set_yticks(y, order["label"], fontsize=7)
    left.set_ylim(len(order) - 0.4, -0.6)
    left.set_xlabel("expected organs above the others, % of pairs", fontsize=8)
    right.set_xlabel("regulators (as many genes bound) below it, %", fontsize=8)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, fontsize=7, frameon=False)
    return figure


def draw_rhos(found: Iterable[OwnExpression]) -> Figure:
    """Draw distributions of rho, observed and under both controls."""
    figure = new_figure(7.2, 2.6)
    panels = figure.subplots(1, 2)
    bins = np.linspace(-1, 1, 41)
    for axes, own in zip(panels, found, strict=True):
        rho = own.table["rho"]
        kind, n = own.control["class"], own.control["n"]
        axes.hist(
            rho,
            bins,
            weights=np.full(len(rho), 1 / len(rho)),
            color=COLOURS[str(kind)],
            alpha=0.55,
            label="observed",
        )
        for name, colour, dash in (("tissues", "black", ":"), ("regulators", "black", "-")):
            values = own.permuted[name].ravel()
            axes.hist(
                values,
                bins,
                weights=np.full(values.size, 1 / values.size),
                color=colour,
                histtype="step",
                ls=dash,
                lw=1,
                label=f"{name} permuted",
            )
        axes.axvline(0, color=GREY, lw=0.6)
        axes.set_title(f"{n} {kind}s", fontsize=9)
        axes.set_xticks([-1, -0.5, 0, 0.5, 1])
        axes.set_xlabel("Spearman's rho, attribution and own expression", fontsize=8)
        tidy(axes)
    panels[0].set_ylabel("fraction of regulators", fontsize=8)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=7, frameon=False)
    return figure


def draw_heatmap(profiles: Profiles, n_top: int = 40) -> Figure:
    """Draw mean scores of the strongest regulators, clustered."""
    strongest = np.argsort(-profiles.mean_abs.mean(axis=1), kind="stable")[:n_top]
    values = profiles.mean[strongest]
    rows, columns = (leaves_list(linkage(v, "average", "correlation")) for v in (values, values.T))
    shown = values[rows][:, columns]
    bound = float(np.quantile(np.abs(shown), 0.99))
    figure = new_figure(7.2, 7.4)
    axes = figure.subplots()
    image = axes.imshow(
        shown,
        cmap="RdBu_r",
        aspect="auto",
        interpolation="nearest",
        norm=TwoSlopeNorm(0, -bound, bound),
    )
    names = profiles.regulators.iloc[strongest[rows]]
    axes.set_yticks(np.arange(n_top), names["regulator"])
    axes.set_xticks(
        np.arange(len(columns)), [short(profiles.tissues[i]) for i in columns], rotation=90
    )
    axes.tick_params(labelsize=6, length=2)
    for tick, kind in zip(axes.get_yticklabels(), names["class"], strict=True):
        tick.set_color(COLOURS[kind])
    bar = figure.colorbar(image, ax=axes, shrink=0.4, aspect=25, extend="both")
    bar.set_label("mean score, log2 fold change", fontsize=7)
    bar.ax.tick_params(labelsize=6)
    return figure


def short(tissue: str) -> str:
    """Name of a tissue for a tick."""
    words = (
        re.sub(
            r"_(basal_ganglia|cervical_c_1|BA\d+|Suprapubic|Lower_leg|Terminal_Ileum)", "", tissue
        )
        .replace("Gastroesophageal", "Gastroesoph.")
        .split("_")
    )
    return " ".join(words)


def draw_examples(
    chosen: Iterable[pd.Series], profiles: Profiles, expression: pd.DataFrame
) -> Figure:
    """Draw regulators' scores against their own expression, a dot a tissue."""
    chosen = list(chosen)
    figure = new_figure(7.2, 2.7)
    for axes, row in zip(figure.subplots(1, len(chosen)), chosen, strict=True):
        at = (profiles.regulators == [row["class"], row["regulator"]]).all(axis=1).argmax()
        x = expression.loc[row["gene_id"]].to_numpy()
        y = profiles.mean[at]
        groups = {
            "brain": [t.startswith("Brain_") for t in profiles.tissues],
            "blood, spleen, cultured cells": [
                t in ("Whole_Blood", "Spleen") or t.startswith("Cells_") for t in profiles.tissues
            ],
            "liver": [t == "Liver" for t in profiles.tissues],
        }
        rest = ~np.any(list(groups.values()), axis=0)
        axes.plot(x[rest], y[rest], "o", ms=3.5, color=GREY, mec="none", label="other")
        for (name, mask), colour, marker in zip(
            groups.items(), (BLUE, ORANGE, GREEN), ("s", "^", "D"), strict=True
        ):
            axes.plot(x[mask], y[mask], marker, ms=4.5, color=colour, mec="none", label=name)
        axes.set_title(f"{row['regulator']}: rho {row['rho']:+.2f}", fontsize=9)
        axes.set_xlabel("own expression, log2 fold change", fontsize=7)
        axes.axhline(0, color=GREY, lw=0.5)
        tidy(axes)
    figure.axes[0].set_ylabel("mean score, log2 fold change", fontsize=7)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=7, frameon=False)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG of 256 colours, without the version that would change its bytes."""
    whole = io.BytesIO()
    figure.savefig(whole, dpi=150, metadata={"Software": None})
    with Image.open(whole) as image:
        image.convert("RGB").quantize(
            256, Image.Quantize.MAXCOVERAGE, kmeans=5, dither=Image.Dither.NONE
        ).save(path, optimize=True)
