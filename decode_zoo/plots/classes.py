"""Classes: what each class of regulators adds to predictions, as violins over genes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decode_zoo.attribution import MASK, Attribution
from decode_zoo.plots.colours import palette_of
from decode_zoo.plots.labels import NAME, RNA_LENGTH, title_of, unit_of
from decode_zoo.plots.page import AXIS, MARGIN, SINGLE, Page, label_rows, styled
from decode_zoo.plots.scores import add_up, choose_output, choose_rows, comparable_outputs
from decode_zoo.plots.text import TEXT, elided, widest

__all__ = ["classes"]

FloatArray = npt.NDArray[np.float64]

_FEW, _MANY = 10, 5000  # fewer values are dots rather than a violin; more say no more of a density


@styled
def classes(attribution: Attribution, *, output: str | None = None) -> Figure:
    """Draw what each class of regulators adds to predictions, as violins over genes.

    On the left sums of scores, with their signs; they are the same at any resolution. On the
    right the share that each class has: its absolute sum among the absolute sums of all classes.
    The length of the RNA, which the mask channels tell a network, is drawn as a class too.
    Violins go from the 1st to the 99th percentile, bars from the first to the third quartile,
    white dots are medians; fewer than ten values are drawn as dots. One column wide.

    Parameters
    ----------
    attribution : Attribution
    output : str, optional
        All together if not given, each gene and output one value; the median is left out where
        there are fold changes.

    Returns
    -------
    Figure

    Raises
    ------
    UsageError
        If nothing or not this output was explained.
    """
    rows = choose_rows(attribution, None)
    chosen = comparable_outputs(attribution)
    if output is not None:
        chosen = np.array([choose_output(attribution, rows, output)])
    kinds = attribution.resolution.features["class"].cat
    n_kinds = len(kinds.categories)
    code = kinds.codes.to_numpy(np.int64)[attribution.feature]
    group = attribution.entry_rows() * n_kinds + code
    sums = add_up(group, rows.size * n_kinds, attribution.scores[:, chosen])
    present = np.flatnonzero(np.bincount(code, minlength=n_kinds))
    # One row a class, one column a gene and output.
    values = sums.reshape(rows.size, n_kinds, -1).swapaxes(0, 1).reshape(n_kinds, -1)[present]
    whole = np.abs(values).sum(axis=0)
    shares = np.divide(np.abs(values), whole, out=np.zeros_like(values), where=whole > 0)

    palette = palette_of(attribution)
    found = [str(kinds.categories[int(i)]) for i in present]
    names = [elided(RNA_LENGTH if kind == MASK else kind, TEXT, NAME) for kind in found]
    one, height = chosen.size == 1, 0.28 * max(present.size, 1)
    page = Page.make(
        SINGLE,
        0.14 + height + AXIS,
        title=title_of(attribution, rows, int(chosen[0]) if one else None),
        lines=[] if one else [f"{chosen.size} outputs together"],
    )
    top, left, between = page.top + 0.14, MARGIN + 0.04 + widest(names, TEXT), 0.2
    width = (SINGLE - MARGIN - 0.1 - left - between) / 2
    unit = unit_of(attribution, int(chosen[0]))
    for data, head, below in (
        (values, "sum of scores", unit),
        (100 * shares, "share of absolute sums", "%"),
    ):
        axes, room = page.axes(left, top, width, height), width + between - 0.02
        page.write(left + width / 2, top - 0.02, elided(head, TEXT, room), va="bottom", ha="center")
        ends = [
            _violin(axes, place, own, palette[kind])
            for place, (own, kind) in enumerate(zip(data, found, strict=True))
        ]
        label_rows(axes, names, max(present.size, 1))
        page.values_below(axes, np.array(ends if data is values else [0.0, 100.0]), below, room)
        left, names = left + width + between, []
    return page.figure


def _violin(axes: Axes, place: int, values: FloatArray, colour: str) -> tuple[float, float]:
    """Draw a distribution in a row and return its ends."""
    if values.size < _FEW:
        axes.plot(
            values,
            np.full(values.size, place),
            "o",
            color=colour,
            markersize=3.5,
            markeredgewidth=0,
            alpha=0.7,
        )
        return float(values.min()), float(values.max())
    low, first, median, third, high = np.quantile(values, [0.01, 0.25, 0.5, 0.75, 0.99])
    if values.size > _MANY:
        values = np.quantile(values, np.linspace(0, 1, _MANY))
    spread = np.ptp(values)
    if high > low and spread > 1e-9 * np.abs(values).max():
        from scipy.stats import gaussian_kde

        at = np.linspace(low, high, 200)
        density = gaussian_kde((values - low) / spread)((at - low) / spread)
        half = 0.42 * density / density.max()
        axes.fill_between(at, place - half, place + half, color=colour, alpha=0.6, linewidth=0)
    axes.plot([first, third], [place, place], color="black", linewidth=2.5, solid_capstyle="butt")
    axes.plot(
        median,
        place,
        "o",
        color="white",
        markersize=2.5,
        markeredgecolor="black",
        markeredgewidth=0.4,
    )
    return float(low), float(high)
