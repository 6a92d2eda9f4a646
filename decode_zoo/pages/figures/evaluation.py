"""Pictures of an evaluation: rho and its controls, who matches whom, genes, the median."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from decode_zoo.networks.manifest import MEDIAN
from decode_zoo.networks.metrics import leaf_order
from decode_zoo.pages import charts
from decode_zoo.pages.charts import BLUE, DOUBLE, GREY, PALE
from decode_zoo.studies.evaluation import Evaluation

__all__ = ["controls", "genes", "matrix", "median"]

_HALF = DOUBLE / 2
_MOST_NAMED = 60
_KINDS = {
    "own": "spearman",
    "other\noutputs": "others",
    "RNA length\nalone": "rna_length",
    "bound tracks\nalone": "bound_tracks",
}


@charts.styled
def controls(found: Evaluation) -> Figure:
    """Draw rho of all outputs: with their own measurement, with others, of length and sites."""
    figure, ((axes,),) = charts.framed(_HALF, 2.6)
    table = found.outputs[found.outputs["output"] != MEDIAN]
    rng = np.random.default_rng(0)
    for place, column in enumerate(_KINDS.values()):
        values = table[column].dropna().to_numpy(float) if column in table else np.array([])
        if values.size:
            x = place + rng.uniform(-0.18, 0.18, values.size)
            axes.scatter(x, values, s=5, c=PALE if place else BLUE, linewidths=0)
            axes.hlines(np.median(values), place - 0.28, place + 0.28, color="black", linewidth=1)
    axes.axhline(0, color=GREY, linewidth=0.5)
    axes.set_xticks(range(len(_KINDS)), list(_KINDS))
    axes.set_ylabel("rank correlation over genes")
    return figure


@charts.styled
def matrix(found: Evaluation) -> Figure:
    """Draw how each prediction goes with each measurement."""
    figure, ((axes,),) = charts.framed(_HALF, 3.2)
    values = found.matrix.to_numpy(float)
    order = leaf_order(np.nan_to_num(values + values.T))
    reach = float(np.abs(np.nan_to_num(values)).max()) or 1.0
    image = axes.imshow(
        values[np.ix_(order, order)],
        cmap="RdBu_r",
        vmin=-reach,
        vmax=reach,
        interpolation="nearest",
        aspect="equal",
    )
    names = found.matrix.index.to_numpy()[order]
    axes.set(xlabel="measured", ylabel="predicted", xticks=[], yticks=[])
    if len(names) <= _MOST_NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=3)
        axes.set_yticks(range(len(names)), names, fontsize=3)
    figure.colorbar(image, ax=axes, shrink=0.6, label="rank correlation")
    return figure


@charts.styled
def genes(found: Evaluation) -> Figure:
    """Draw how many genes are predicted how well over outputs; those that count are coloured."""
    figure, ((axes,),) = charts.framed(_HALF, 2.2)
    r, q = (found.genes[name].to_numpy(float) for name in ("pearson", "q"))
    bins = np.linspace(-1, 1, 41).tolist()
    known = np.isfinite(r)
    sure = known & (q <= found.summary["fdr"]) & (r > 0)
    axes.hist(r[known], bins, color=PALE, label="all genes")
    axes.hist(r[sure], bins, color=BLUE, label=f"as predicted, FDR {found.summary['fdr']:g}")
    axes.axvline(0, color=GREY, linewidth=0.5)
    axes.set(xlabel="Pearson's r over outputs", ylabel="genes")
    axes.legend()
    return figure


@charts.styled
def median(found: Evaluation) -> Figure:
    """Draw the measured median against the predicted one."""
    figure, ((axes,),) = charts.framed(_HALF, 2.6)
    charts.points(axes, found.predicted[MEDIAN], found.measured[MEDIAN], BLUE, 3, alpha=0.4)
    axes.set(xlabel="predicted median, log₂ TPM", ylabel="measured")
    return figure
