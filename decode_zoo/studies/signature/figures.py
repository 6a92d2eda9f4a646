"""Pictures of a signature: its first regulators, and the outputs that explain it best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from decode_zoo.plots.page import AXIS, DOUBLE, MARGIN, ROW, Page, label_rows, styled
from decode_zoo.plots.text import SMALL, TEXT, elided, number, widest

if TYPE_CHECKING:
    from decode_zoo.studies.signature.study import SignatureStudy

__all__ = ["signature"]

FloatArray = npt.NDArray[np.float64]

# Okabe and Ito's blue, vermilion and orange.
_PARTS = {"binding": "#0072B2", "own_gene": "#D55E00", "match": "#E69F00"}
_NAMES = {"binding": "binding", "own_gene": "own gene", "match": "match"}
_MORE, _LESS = "#0072B2", "#D55E00"
_BARS = 20
_HEAD = 0.2  # height of a line above axes
_OUTPUT = 1.5  # widest name of an output, in inches


@styled
def signature(study: SignatureStudy, name: str) -> Figure:
    """Draw the first regulators of a signature, and the outputs that explain it best.

    Parameters
    ----------
    study : SignatureStudy
    name : str
        Of the signature.
    """
    ranks, details, explained = study.of(name)
    used = int(study.genes.set_index("signature")["used"][name])
    height = ROW * _BARS
    page = Page.make(
        DOUBLE,
        _HEAD + height + AXIS,
        title=name,
        lines=[
            f"{used:,} genes among {study.n_background:,};",
            f"the first {min(_BARS, len(ranks))} of {len(ranks):,} regulators,",
            "outputs of the model with AUROC farthest from 0.5",
        ],
        key={_NAMES[part]: colour for part, colour in _PARTS.items()},
    )
    middle = DOUBLE * 0.56
    _regulators(page, ranks.head(_BARS), details.head(_BARS), middle)
    _outputs(page, explained, middle)
    return page.figure


def _regulators(page: Page, ranks: pd.DataFrame, details: pd.DataFrame, end: float) -> None:
    names = [elided(str(regulator), TEXT, 0.9) for regulator in ranks["regulator"]]
    top, left = page.top + _HEAD, MARGIN + 0.04 + widest(names, TEXT)
    page.column(end - 0.46, top, "tracks", [str(n) for n in details["tracks"]])
    page.column(end, top, "q", [_q(q) for q in ranks["q"]])
    axes = page.axes(left, top, end - 0.84 - left, ROW * _BARS)
    values = np.array([details[part] for part in _PARTS], np.float64)
    ends = []
    for sign in (1, -1):
        part = np.where(np.sign(values) == sign, values, 0)
        starts = np.cumsum(part, axis=0) - part
        for row, start, colour in zip(part, starts, _PARTS.values(), strict=True):
            axes.barh(range(len(names)), row, 0.72, left=start, color=colour)
        ends.append(part.sum(axis=0))
    label_rows(axes, names, _BARS)
    page.values_below(axes, np.concatenate(ends), "score")


def _outputs(page: Page, explained: pd.DataFrame, begin: float) -> None:
    far = (explained["auroc"] - 0.5).abs().sort_values(ascending=False, kind="stable").index[:_BARS]
    table = explained.loc[far].sort_values("auroc", ascending=False, kind="stable")
    names = [elided(str(output).replace("_", " "), SMALL, _OUTPUT) for output in table["output"]]
    top, left = page.top + _HEAD, begin + 0.2 + widest(names, SMALL)
    right = DOUBLE - MARGIN
    page.column(right, top, "q", [_q(q) for q in table["q"]])
    axes = page.axes(left, top, right - 0.48 - left, ROW * _BARS)
    auroc = table["auroc"].to_numpy(np.float64)
    colours = [_MORE if value > 0.5 else _LESS for value in auroc]
    axes.barh(range(len(table)), auroc - 0.5, 0.72, left=0.5, color=colours)
    label_rows(axes, names, _BARS)
    axes.tick_params(axis="y", labelsize=SMALL)
    reach = max(float(np.abs(auroc - 0.5).max(initial=0)), 0.05) * 1.06
    axes.set_xlim(
        min(0.5, 0.5 - reach * (auroc < 0.5).any()) - 0.004,
        max(0.5, 0.5 + reach * (auroc > 0.5).any()) + 0.004,
    )
    axes.axvline(0.5, color="black", linewidth=0.5)
    axes.grid(axis="x")
    page.below(axes, "AUROC of the prediction", lambda x: number(x, "g"), right - left)


def _q(value: float) -> str:
    """Write a false discovery rate."""
    return number(value, ".2f" if value >= 0.095 else ".0e")
