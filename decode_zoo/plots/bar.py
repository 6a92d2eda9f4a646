"""Bars: the strongest regulators of a gene or a signature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.figure import Figure

from decode_zoo.attribution import Attribution
from decode_zoo.plots.colours import key_of, palette_of
from decode_zoo.plots.labels import RNA_LENGTH, classes_of, names_of, noun_of, title_of, unit_of
from decode_zoo.plots.page import AXIS, MARGIN, ROW, SINGLE, Page, label_rows, say, styled
from decode_zoo.plots.scores import add_up, choose_output, choose_rows, strongest
from decode_zoo.plots.text import SMALL, TEXT, rounded, widest

__all__ = ["bar"]


@styled
def bar(
    attribution: Attribution,
    *,
    output: str | None = None,
    genes: Iterable[str] | None = None,
    k: int = 20,
) -> Figure:
    """Draw the strongest regulators of a gene or a signature as bars, highest score on top.

    Above the bars stands how the prediction (for several genes its mean) comes about, scores that
    are not drawn included; beside them in how many of several genes the regulator differs from
    the reference. One column wide.

    Parameters
    ----------
    attribution : Attribution
        By position, bins are added up.
    output : str, optional
        By default the fold change whose mean prediction differs most from the reference; the
        title names it.
    genes : iterable of str, optional
        Ids or symbols of the genes over which to take the mean; all that were explained if not
        given.
    k : int
        How many regulators: those of highest absolute mean score.

    Returns
    -------
    Figure

    Raises
    ------
    UsageError
        If nothing, not this output or not these genes were explained, or k is below 1.
    """
    rows = choose_rows(attribution, genes)
    column = choose_output(attribution, rows, output)
    table, is_mask = attribution.resolution.features, attribution.resolution.is_mask
    owner = attribution.entry_rows()
    kept = np.isin(owner, rows)
    feature = attribution.feature[kept].astype(np.int64)
    mean = add_up(feature, len(table), attribution.scores[kept, column]) / rows.size
    # A gene counts once, however many bins it has.
    pairs = np.unique(owner[kept] * len(table) + feature)
    n_genes = np.bincount(pairs % len(table), minlength=len(table))
    there = np.flatnonzero((n_genes > 0) & ~is_mask)
    best = strongest(there, mean, k)
    best = best[np.argsort(-mean[best], kind="stable")]

    shown = float(mean[best].sum())
    parts = {
        "reference": float(attribution.reference[column]),
        f"{best.size} shown": shown,
        f"{there.size - best.size} others": float(mean[there].sum()) - shown,
        RNA_LENGTH: float(mean[is_mask].sum()),
    }
    parts = {name: part for name, part in parts.items() if not name.startswith("0 ")}
    names, kinds = names_of(attribution, best, TEXT), classes_of(attribution, best)
    palette = palette_of(attribution)
    counts = [f"{count:,}" for count in n_genes[best]] if rows.size > 1 else []
    several = f"{noun_of(attribution)}s"
    height = ROW * max(best.size, 3)
    page = Page.make(
        SINGLE,
        0.12 + height + AXIS,
        title=title_of(attribution, rows, column),
        lines=_equation(float(attribution.prediction[rows, column].mean()), parts, rows.size),
        key=key_of(palette, kinds),
    )
    top, left = page.top + 0.12, MARGIN + 0.04 + widest(names, TEXT)
    right = SINGLE - MARGIN - 0.1
    if counts:
        page.column(SINGLE - MARGIN, top, several, counts)
        right -= widest([several, *counts], SMALL)
    axes = page.axes(left, top, right - left, height)
    axes.barh(range(best.size), mean[best], 0.72, color=[palette[kind] for kind in kinds])
    label_rows(axes, names, max(best.size, 3))
    if not best.size:
        say(axes, "no regulators")
    what = "score" if rows.size == 1 else f"mean score over {rows.size:,} {several}"
    page.values_below(axes, mean[best], f"{what} ({unit_of(attribution, column)})")
    return page.figure


def _equation(predicted: float, parts: Mapping[str, float], n: int) -> list[str]:
    """Write how parts add up to a prediction, in pieces."""
    values = np.array([predicted, *parts.values()])
    texts = [f"{'Prediction' if n == 1 else 'Mean prediction'} {rounded(predicted, values)}"]
    for name, value in parts.items():
        text = rounded(value, values)
        if len(texts) == 1:
            text = f"= {text}"
        else:
            text = f"− {text[1:]}" if text.startswith("−") else f"+ {text}"
        texts.append(f"{text} ({name})")
    return texts
