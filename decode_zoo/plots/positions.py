"""Positions: where on promoter and RNA the scores of a gene come from."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decode_zoo.attribution import Attribution
from decode_zoo.errors import UsageError
from decode_zoo.layout import SIDES, Side
from decode_zoo.plots.colours import colour_cells, key_of, palette_of, value_cells
from decode_zoo.plots.labels import classes_of, names_of, title_of, unit_of
from decode_zoo.plots.page import AXIS, DOUBLE, MARGIN, ROW, Page, label_rows, say, styled
from decode_zoo.plots.scores import add_up, choose_output, choose_rows, strongest
from decode_zoo.plots.text import SMALL, TEXT, elided, number, rounded, widest

__all__ = ["Panel", "positions"]

FloatArray = npt.NDArray[np.float64]

_BINS = 100  # columns of bins that can be told apart in half a page


@styled
def positions(
    attribution: Attribution, *, gene: str | None = None, output: str | None = None, k: int = 8
) -> Figure:
    """Draw where on the promoter and along the RNA of a gene its scores come from.

    One row a regulator, its tracks added up: those of highest absolute total on the side. Colours
    are the same on both sides and end at the 95th percentile of the absolute values; an end of
    the colour bar is pointed if values lie beyond. RNAs of more than 100 bins are drawn in wider
    ones, and the axis says so. Two columns wide.

    Parameters
    ----------
    attribution : Attribution
        By position.
    gene : str, optional
        Id or symbol; needed if several were explained.
    output : str, optional
        As for `bar`.
    k : int
        How many regulators a side.

    Returns
    -------
    Figure

    Raises
    ------
    UsageError
        If scores are not by position, nothing, not this output or not this gene was explained,
        or k is below 1.
    """
    if attribution.resolution.by != "position":
        raise UsageError(
            f"Scores by {attribution.resolution.by} have no positions.",
            remedy='Explain by="position".',
        )
    rows = choose_rows(attribution, None if gene is None else [gene])
    if rows.size > 1:
        raise UsageError(
            f"Positions are drawn of one gene, not of {rows.size}.",
            remedy=f"Choose one, such as gene={attribution.genes.iloc[rows[0], 0]!r}.",
        )
    column = choose_output(attribution, rows, output)
    panels = [Panel.of(attribution, int(rows[0]), column, side, k) for side in SIDES]
    values = np.concatenate([panel.values.ravel() for panel in panels])
    totals = np.concatenate([panel.totals for panel in panels])
    palette = palette_of(attribution)
    above, between, strip = 0.3, 0.2, 0.05
    page = Page.make(
        DOUBLE,
        above + ROW * max(1, *(len(panel.names) for panel in panels)) + AXIS,
        title=title_of(attribution, rows, column),
        with_colour_bar=True,
        key=key_of(palette, [kind for panel in panels for kind in panel.kinds]),
    )
    half = (DOUBLE - 2 * MARGIN - between) / 2
    top = page.top + above
    for start, panel in zip((MARGIN, MARGIN + half + between), panels, strict=True):
        height = ROW * max(len(panel.names), 1)
        left = start + 0.04 + widest(panel.names, TEXT)
        added_up = [rounded(x, totals, "+") for x in panel.totals]
        right = start + half - 0.06 - widest(["total", *added_up], SMALL)
        axes = page.axes(left + strip + 0.02, top, right - left - strip - 0.02, height)
        panel.describe(page, axes)
        page.write(start, page.top, elided(panel.headline(totals), TEXT, half))
        if not panel.names:
            say(axes, "no sites")
            continue
        names = page.axes(left, top, strip, height)
        colour_cells(names, [[palette[kind]] for kind in panel.kinds])
        label_rows(names, panel.names, len(panel.names))
        image = value_cells(axes, panel.values, values, panel.edges)
        for place in range(1, len(panel.names)):
            axes.axhline(place - 0.5, color="white", linewidth=1)
        page.column(start + half, top, "total", added_up)
    if values.size:
        page.colour_bar(image, values, f"score per bin ({unit_of(attribution, column)})")
    return page.figure


@dataclass(frozen=True)
class Panel:
    """Scores of a gene along one side, by regulator.

    Attributes
    ----------
    side : Side
    names, kinds : list of str
        Of the r strongest regulators, and their classes.
    values : ndarray of float64, shape (r, n_bins)
    totals : ndarray of float64, shape (r,)
    total : float
        Of all regulators.
    n_regulators : int
        How many there are.
    start, length, width : int
        First position, how many positions there are, and bin width.
    """

    side: Side
    names: list[str]
    kinds: list[str]
    values: FloatArray
    totals: FloatArray
    total: float
    n_regulators: int
    start: int
    length: int
    width: int

    @classmethod
    def of(cls, attribution: Attribution, row: int, column: int, side: Side, k: int) -> Panel:
        """Add up a gene's scores by regulator and bin."""
        resolution, layout = attribution.resolution, attribution.resolution.layout
        own = slice(attribution.indptr[row], attribution.indptr[row + 1])
        feature = attribution.feature[own]
        here = (resolution.on_rna[feature] == (side == "rna")) & ~resolution.is_mask[feature]
        feature, place = feature[here], attribution.bin[own][here]
        groups = resolution.features.groupby(["class", "regulator"], observed=True)
        found, first, group = np.unique(
            groups.ngroup().to_numpy()[feature], return_index=True, return_inverse=True
        )
        promoter = side == "promoter"
        length = layout.window if promoter else attribution.rna_lengths[row]
        # With genes as background, sites of theirs may lie beyond the end of this RNA.
        n_bins = max(-(-length // layout.bin), 1 + int(place.max(initial=0)))
        joined = next(
            n * 10**e for e in itertools.count() for n in (1, 2, 5) if n_bins <= n * 10**e * _BINS
        )
        shape = found.size, -(-n_bins // joined)
        values = add_up(
            group * shape[1] + place // joined,
            shape[0] * shape[1],
            attribution.scores[own][here, column],
        ).reshape(shape)
        totals = values.sum(axis=1)
        best = strongest(np.arange(found.size), totals, k)
        features = feature[first[best]].astype(np.int64)
        return cls(
            side,
            names_of(attribution, features, TEXT, "regulator"),
            classes_of(attribution, features),
            values[best],
            totals[best],
            float(totals.sum()),
            found.size,
            -layout.upstream if promoter else 0,
            length,
            joined * layout.bin,
        )

    @property
    def edges(self) -> tuple[int, int]:
        """Where the first bin begins and the last one ends."""
        return self.start, self.start + self.width * self.values.shape[1]

    def headline(self, totals: FloatArray) -> str:
        """Say what is shown, with digits that suit some totals."""
        side = "Promoter" if self.side == "promoter" else f"RNA of {self.length:,} nt"
        if not self.n_regulators:
            return side
        total = rounded(self.total, totals, "+")
        return f"{side}: {self.n_regulators} regulators, total {total}"

    def describe(self, page: Page, axes: Axes) -> None:
        """Make the x axis one of positions, and mark the start site."""
        bins = f"(bins of {self.width:,})"
        axes.set(xlim=self.edges, yticks=[])
        axes.spines["bottom"].set_bounds(self.start, self.start + self.length)
        if self.side == "rna":
            page.below(
                axes, f"nt from the 5' end {bins}", lambda x: number(x, ",.0f") if x else "5'"
            )
            return
        page.below(
            axes, f"bp from the start site {bins}", lambda x: number(x, "+,.0f") if x else "TSS"
        )
        axes.axvline(0, color="black", linewidth=0.5)
        left, top, right, _ = page.place(axes)
        first, last = self.edges
        page.start_site(left + (right - left) * -first / (last - first), top)
