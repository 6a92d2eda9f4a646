"""Pictures of attributions: bars, heat maps, positions and classes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from decode_zoo.attribution.scores import MASK, Attribution, indicator
from decode_zoo.core.arrays import FloatArray, IntArray
from decode_zoo.core.errors import UsageError
from decode_zoo.features.spec import SIDES, Side
from decode_zoo.pages import charts
from decode_zoo.pages.charts import AXIS, CLASSES, DOUBLE, GREY, ORANGE, ROW, SINGLE, SKY, SMALL

__all__ = ["bar", "classes", "heatmap", "positions"]

RNA_LENGTH = "RNA length"  # what the mask channels tell a network
_NAME, _OUTPUT = 1.2, 2.2  # room for names of regulators and of outputs, in inches
_ORDERED = 500  # leaves whose optimal order takes a second; it grows with the cube
_BINS = 100  # columns of bins that can be told apart in half a page
_FEW, _MANY = 10, 5000  # fewer values are dots rather than a violin; more say no more of a density

# What is drawn: rows, outputs, sums


def _choose_rows(attribution: Attribution, genes: Iterable[str] | None) -> IntArray:
    """Find the rows of genes (ids or symbols; ids of transcripts), each once; all by default."""
    if not len(attribution):
        raise UsageError(
            "No gene was explained, so there is nothing to draw.",
            remedy="attribution.not_explained says why.",
        )
    if genes is None:
        return np.arange(len(attribution))
    if isinstance(genes, str):
        raise UsageError("Give a list of genes, not a single string.", remedy=f"genes=[{genes!r}]")
    names = [*attribution.genes.to_numpy(object).T, np.array(attribution.parents, object)]
    found: list[IntArray] = []
    for gene in genes:
        own = np.flatnonzero(np.any([column == gene for column in names], axis=0))
        if not own.size:
            raise UsageError(
                f"Gene '{gene}' is not among those explained.",
                remedy="They are in attribution.genes.",
            )
        found.append(own)
    if not found:
        raise UsageError("The list of genes is empty.")
    return np.unique(np.concatenate(found))


def _comparable_outputs(attribution: Attribution) -> IntArray:
    """Find the outputs in one unit: the fold changes, if there are any."""
    folds = [output.kind == "fold_change" for output in attribution.outputs]
    return np.flatnonzero(folds) if any(folds) else np.arange(len(folds))


def _choose_output(attribution: Attribution, rows: IntArray, output: str | None) -> int:
    """Find an output, or that whose mean prediction differs most from the reference."""
    if output is None:
        chosen = _comparable_outputs(attribution)
        shift = attribution.prediction[rows].mean(axis=0) - attribution.reference
        return int(chosen[np.argmax(np.abs(shift[chosen]))])
    names = [item.name for item in attribution.outputs]
    if output not in names:
        raise UsageError(
            f"There is no output '{output}' among those explained.",
            remedy="They are in attribution.outputs.",
        )
    return names.index(output)


def _strongest(features: IntArray, strength: FloatArray, k: int) -> IntArray:
    """Choose the k features of highest absolute strength, strongest first."""
    if k < 1:
        raise UsageError(f"The number of regulators is at least 1, not {k}.")
    return features[np.argsort(-np.abs(strength[features]), kind="stable")[:k]]


def _add_up(group: npt.NDArray[Any], n_groups: int, scores: npt.NDArray[Any]) -> FloatArray:
    """Add up scores (n, …) by group: (n_groups, …)."""
    return np.asarray(indicator(group, n_groups) @ scores.astype(np.float64))


# What it is called


def _title(attribution: Attribution, rows: IntArray, column: int | None = None) -> str:
    noun = _noun(attribution)
    ids, symbols = (attribution.genes.iloc[rows, i] for i in (0, 1))
    if noun == "gene" and rows.size < 4:
        title = ", ".join(symbol or own for own, symbol in zip(ids, symbols, strict=True))
    elif rows.size == 1:
        title = f"{symbols.iloc[0]} {ids.iloc[0]}"
    else:
        title = f"{rows.size:,} {noun}s"
    return title if column is None else f"{title}: {_spaced(attribution.outputs[column].name)}"


def _noun(attribution: Attribution) -> str:
    """Return what a row is: gene or transcript."""
    return str(attribution.genes.columns[0]).removesuffix("_id")


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _unit(attribution: Attribution, column: int, room: float = 2) -> str:
    return charts.shorten(attribution.outputs[column].unit.replace("log2", "log₂"), room)


def _names(attribution: Attribution, features: IntArray, column: str = "") -> list[str]:
    """Return names of features, at the finest resolution if no column is given."""
    table = attribution.resolution.features
    names = table[column or table.columns[-1]].iloc[features]
    return [charts.shorten(str(name), _NAME) for name in names]


def _classes(attribution: Attribution, features: IntArray) -> list[str]:
    return [str(kind) for kind in attribution.resolution.features["class"].iloc[features]]


def _palette(attribution: Attribution) -> dict[str, str]:
    """Choose the colour of each class."""
    others = itertools.cycle((ORANGE, SKY))
    names = [str(name) for name in attribution.resolution.features["class"].cat.categories]
    return {name: GREY if name == MASK else CLASSES.get(name) or next(others) for name in names}


def _key(palette: Mapping[str, str], kinds: Sequence[str]) -> dict[str, str]:
    """Return the colours of the classes that are drawn."""
    return {name: colour for name, colour in palette.items() if name in kinds}


def _colour_cells(axes: Axes, colours: Sequence[Sequence[str]]) -> None:
    """Draw rows of cells of colours."""
    rgb = [[to_rgb(colour) for colour in row] for row in colours]
    axes.imshow(rgb, aspect="auto", interpolation="none")
    axes.set(xticks=[], yticks=[])
    axes.spines["bottom"].set_visible(False)


# Pictures


@charts.styled
def bar(
    attribution: Attribution,
    *,
    output: str | None = None,
    genes: Iterable[str] | None = None,
    k: int = 20,
) -> Figure:
    """Draw the k strongest regulators of a gene or a signature as bars, highest score on top.

    Above the bars stands how the prediction (for several genes its mean) comes about, scores that
    are not drawn included; beside them in how many of several genes the regulator differs from
    the reference. `genes` are ids or symbols of those over which to take the mean (all by default);
    `output` is by default the fold change whose mean prediction differs most from the reference.
    Bins of scores by position are added up. One column wide.
    """
    rows = _choose_rows(attribution, genes)
    column = _choose_output(attribution, rows, output)
    table, is_mask = attribution.resolution.features, attribution.resolution.is_mask
    owner = attribution.entry_rows()
    kept = np.isin(owner, rows)
    feature = attribution.feature[kept].astype(np.int64)
    mean = _add_up(feature, len(table), attribution.scores[kept, column]) / rows.size
    # A gene counts once, however many bins it has.
    pairs = np.unique(owner[kept] * len(table) + feature)
    n_genes = np.bincount(pairs % len(table), minlength=len(table))
    there = np.flatnonzero((n_genes > 0) & ~is_mask)
    best = _strongest(there, mean, k)
    best = best[np.argsort(-mean[best], kind="stable")]

    shown = float(mean[best].sum())
    parts = {
        "reference": float(attribution.reference[column]),
        f"{best.size} shown": shown,
        f"{there.size - best.size} others": float(mean[there].sum()) - shown,
        RNA_LENGTH: float(mean[is_mask].sum()),
    }
    parts = {name: part for name, part in parts.items() if not name.startswith("0 ")}
    kinds, palette = _classes(attribution, best), _palette(attribution)
    figure = charts.sheet(
        SINGLE,
        ROW * max(best.size, 3) + AXIS + 0.12,
        title=_title(attribution, rows, column),
        lines=_equation(float(attribution.prediction[rows, column].mean()), parts, rows.size),
        key=_key(palette, kinds),
    )
    axes = figure.subplots()
    charts.bars(axes, _names(attribution, best), mean[best], [palette[kind] for kind in kinds])
    several = f"{_noun(attribution)}s"
    if rows.size > 1:
        charts.columns(axes, {several: [f"{count:,}" for count in n_genes[best]]})
    if not best.size:
        charts.say(axes, "no regulators")
    what = "score" if rows.size == 1 else f"mean score over {rows.size:,} {several}"
    charts.value_axis(axes, f"{what} ({_unit(attribution, column, 1)})", mean[best])
    return figure


def _equation(predicted: float, parts: Mapping[str, float], n: int) -> str:
    """Write how parts add up to a prediction."""
    values = np.array([predicted, *parts.values()])
    start = f"{'Prediction' if n == 1 else 'Mean prediction'} {charts.rounded(predicted, values)} ="
    terms = [f"{charts.rounded(value, values)} ({name})" for name, value in parts.items()]
    signed = [f"− {term[1:]}" if term.startswith("−") else f"+ {term}" for term in terms[1:]]
    return " ".join([start, terms[0], *signed])


@charts.styled
def heatmap(attribution: Attribution, *, k: int = 40) -> Figure:
    """Draw mean scores over genes, outputs × the k strongest regulators, both clustered.

    Outputs are compared in one unit: the median is left out where there are fold changes.
    Clusters are Ward's, of Euclidean distances, with leaves in optimal order (up to 500 of them);
    forks are as high as the square roots of the distances. Colours end at the 95th percentile of
    the absolute values; an end of the colour bar is pointed if values lie beyond. Two columns
    wide, wider with more than about 45 regulators, and as high as the outputs need.
    """
    rows = _choose_rows(attribution, None)
    chosen = _comparable_outputs(attribution)
    n_features = len(attribution.resolution.features)
    mean = _add_up(attribution.feature, n_features, attribution.scores[:, chosen]) / rows.size
    present = np.bincount(attribution.feature, minlength=n_features) > 0
    there = np.flatnonzero(present & ~attribution.resolution.is_mask)
    best = _strongest(there, np.abs(mean).mean(axis=1), k)
    regulators, outputs = _Tree.of(mean[best]), _Tree.of(mean[best].T)
    best, chosen = best[regulators.leaves], chosen[outputs.leaves]
    values = mean[best].T[outputs.leaves]

    kinds, palette = _classes(attribution, best), _palette(attribution)
    names = _names(attribution, best)
    labels = [charts.shorten(_spaced(attribution.outputs[i].name), _OUTPUT, SMALL) for i in chosen]
    tree, strip = 0.35, 0.07
    beside = 0.8 + 0.05 * max(map(len, labels))
    cell = min(max((DOUBLE - beside) / max(best.size, 1), 0.1), 0.2)
    width, height = cell * max(best.size, 5), 0.105 * max(chosen.size, 3)
    figure = charts.sheet(
        max(width + beside, SINGLE),
        tree + strip + height + 0.2 + 0.05 * max(map(len, names), default=0),
        title=_title(attribution, rows),
        lines=f"{best.size} of {there.size} regulators",
        key=_key(palette, kinds),
        with_colour_bar=True,
        pad=0.015,
    )
    if not best.size:
        charts.say(figure.subplots(subplot_kw={"xticks": [], "yticks": []}), "no regulators")
        return figure
    ratios = {"width_ratios": [tree, width], "height_ratios": [tree, strip, height]}
    grid = figure.subplots(3, 2, gridspec_kw={"hspace": 0, "wspace": 0, **ratios})
    for unused in grid[:2, 0]:
        unused.set_axis_off()
    axes = grid[2, 1]
    for spine in axes.spines.values():
        spine.set(visible=True, color=GREY)
    image = charts.cells(axes, values)
    axes.yaxis.tick_right()
    charts.label_cells(axes, labels, names)
    regulators.draw(grid[0, 1], upright=True)
    outputs.draw(grid[2, 0], upright=False)
    _colour_cells(grid[1, 1], [[palette[kind] for kind in kinds]])
    what = "score" if rows.size == 1 else "mean score"
    charts.colour_bar(figure, image, values, f"{what} ({_unit(attribution, int(chosen[0]))})")
    return figure


@dataclass(frozen=True)
class _Tree:
    """A clustering: order of its n leaves, and the corners of each fork, (n - 1, 4, 2)."""

    leaves: IntArray
    forks: FloatArray  # position and height

    @classmethod
    def of(cls, vectors: FloatArray) -> _Tree:
        """Cluster rows; fewer than two, or without columns, stay as they are."""
        n = len(vectors)
        if n < 2 or not vectors.size:
            return cls(np.arange(n), np.zeros((0, 4, 2)))
        from scipy.cluster.hierarchy import leaves_list, linkage

        merges = linkage(vectors, "ward", optimal_ordering=n <= _ORDERED)
        leaves = leaves_list(merges).astype(np.int64)
        at = np.zeros((2 * n - 1, 2))
        at[leaves, 0] = np.arange(n)
        forks = np.zeros((n - 1, 4, 2))
        for i, (a, b, height, _) in enumerate(merges):
            low, high = at[int(a)], at[int(b)]
            height = math.sqrt(height)  # or the lower forks could not be told apart
            forks[i] = low, (low[0], height), (high[0], height), high
            at[n + i] = (low[0] + high[0]) / 2, height
        return cls(leaves, forks)

    def draw(self, axes: Axes, *, upright: bool) -> None:
        """Draw it with its root on top, or on the left."""
        across = -0.5, self.leaves.size - 0.5
        highest = 1.02 * float(self.forks[:, :, 1].max(initial=0)) or 1.0
        forks = self.forks if upright else self.forks[:, :, ::-1]
        axes.add_collection(LineCollection(list(forks), colors=GREY, linewidths=0.5))
        if upright:
            axes.set(xlim=across, ylim=(0, highest))
        else:
            axes.set(xlim=(highest, 0), ylim=across[::-1])
        axes.set_axis_off()


@charts.styled
def positions(
    attribution: Attribution, *, gene: str | None = None, output: str | None = None, k: int = 8
) -> Figure:
    """Draw where on the promoter and along the RNA of a gene its scores come from.

    One row a regulator, its tracks added up: the k of highest absolute total on each side. Colours
    are the same on both sides and end at the 95th percentile of the absolute values; an end of
    the colour bar is pointed if values lie beyond. RNAs of more than 100 bins are drawn in wider
    ones, and the axis says so. Scores must be by position; `gene` (id or symbol) is needed if
    several were explained. Two columns wide.
    """
    if attribution.resolution.by != "position":
        raise UsageError(
            f"Scores by {attribution.resolution.by} have no positions.",
            remedy='Explain by="position".',
        )
    rows = _choose_rows(attribution, None if gene is None else [gene])
    if rows.size > 1:
        raise UsageError(
            f"Positions are drawn of one gene, not of {rows.size}.",
            remedy=f"Choose one, such as gene={attribution.genes.iloc[rows[0], 0]!r}.",
        )
    column = _choose_output(attribution, rows, output)
    panels = [_Panel.of(attribution, int(rows[0]), column, side, k) for side in SIDES]
    values = np.concatenate([panel.values.ravel() for panel in panels])
    totals = np.concatenate([panel.totals for panel in panels])
    palette, n = _palette(attribution), max(3, *(len(panel.names) for panel in panels))
    figure = charts.sheet(
        DOUBLE,
        ROW * n + AXIS + 0.25,
        title=_title(attribution, rows, column),
        with_colour_bar=True,
        key=_key(palette, [kind for panel in panels for kind in panel.kinds]),
    )
    grid = figure.subplots(1, 4, width_ratios=[1, 50, 1, 50], gridspec_kw={"wspace": 0})
    image = None
    for (strip, axes), panel in zip((grid[:2], grid[2:]), panels, strict=True):
        axes.set_title(panel.headline(totals), loc="left", pad=11)
        if panel.names:
            _colour_cells(strip, [[palette[kind]] for kind in panel.kinds])
            image = charts.cells(axes, panel.values, values, panel.edges)
            charts.columns(axes, {"total": [charts.rounded(x, totals, "+") for x in panel.totals]})
        else:
            charts.say(axes, "no sites")
        strip.set(xticks=[])
        strip.spines["bottom"].set_visible(False)
        charts.label_rows(strip, panel.names, n)
        axes.hlines(np.arange(1, len(panel.names)) - 0.5, *panel.edges, color="white", linewidth=1)
        panel.describe(axes, n)
    if image is not None:
        charts.colour_bar(figure, image, values, f"score per bin ({_unit(attribution, column)})")
    return figure


@dataclass(frozen=True)
class _Panel:
    """Scores of a gene along one side, by regulator: the r strongest."""

    side: Side
    names: list[str]
    kinds: list[str]
    values: FloatArray  # (r, n_bins)
    totals: FloatArray
    total: float  # of all regulators
    n_regulators: int  # how many there are
    start: int  # first position
    length: int
    width: int  # of a bin

    @classmethod
    def of(cls, attribution: Attribution, row: int, column: int, side: Side, k: int) -> _Panel:
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
        cell, scores = group * shape[1] + place // joined, attribution.scores[own][here, column]
        values = _add_up(cell, shape[0] * shape[1], scores).reshape(shape)
        totals = values.sum(axis=1)
        best = _strongest(np.arange(found.size), totals, k)
        features = feature[first[best]].astype(np.int64)
        return cls(
            side,
            _names(attribution, features, "regulator"),
            _classes(attribution, features),
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
        """Name the side and the total of its regulators, with digits that suit some totals."""
        side = "Promoter" if self.side == "promoter" else f"RNA of {self.length:,} nt"
        if not self.n_regulators:
            return side
        total = charts.rounded(self.total, totals, "+")
        return f"{side}: {self.n_regulators} regulators, total {total}"

    def describe(self, axes: Axes, n: int) -> None:
        """Make the x axis one of positions, and mark the start site."""
        axes.set(xlim=self.edges, ylim=(n - 0.5, -0.5), yticks=[])
        axes.spines["bottom"].set_bounds(self.start, self.start + self.length)
        bins = f"(bins of {self.width:,})"
        if self.side == "rna":
            axes.set_xlabel(f"nt from the 5' end {bins}")
            charts.numbered(axes.xaxis, 4, ",.0f", "5'")
            return
        axes.set_xlabel(f"bp from the start site {bins}")
        charts.numbered(axes.xaxis, 4, "+,.0f", "TSS")
        axes.axvline(0, color="black", linewidth=0.5)
        # An arrow in the direction of transcription, from the start site up and to the right.
        above = axes.get_xaxis_transform()
        figure = axes.figure
        axes.annotate(
            "",
            (0, 1),
            (0, 1),
            xycoords=above + ScaledTranslation(12 / 72, 6 / 72, figure.dpi_scale_trans),
            textcoords=above,
            arrowprops={
                "arrowstyle": "-|>",
                "mutation_scale": 5,
                "connectionstyle": "angle,angleA=90,angleB=180,rad=0",
                "shrinkA": 0,
                "shrinkB": 0,
                "linewidth": 0.6,
                "color": "black",
            },
            annotation_clip=False,
        )


@charts.styled
def classes(attribution: Attribution, *, output: str | None = None) -> Figure:
    """Draw what each class of regulators adds to predictions, as violins over genes.

    On the left sums of scores, with their signs; they are the same at any resolution. On the
    right the share that each class has: its absolute sum among the absolute sums of all classes.
    The length of the RNA, which the mask channels tell a network, is drawn as a class too.
    Violins go from the 1st to the 99th percentile, bars from the first to the third quartile,
    white dots are medians; fewer than ten values are drawn as dots. Without `output` each gene and
    output is one value, the median left out where there are fold changes. One column wide.
    """
    rows = _choose_rows(attribution, None)
    chosen = _comparable_outputs(attribution)
    if output is not None:
        chosen = np.array([_choose_output(attribution, rows, output)])
    kinds = attribution.resolution.features["class"].cat
    n_kinds = len(kinds.categories)
    code = kinds.codes.to_numpy(np.int64)[attribution.feature]
    group = attribution.entry_rows() * n_kinds + code
    sums = _add_up(group, rows.size * n_kinds, attribution.scores[:, chosen])
    present = np.flatnonzero(np.bincount(code, minlength=n_kinds))
    # One row a class, one column a gene and output.
    values = sums.reshape(rows.size, n_kinds, -1).swapaxes(0, 1).reshape(n_kinds, -1)[present]
    whole = np.abs(values).sum(axis=0)
    shares = np.divide(np.abs(values), whole, out=np.zeros_like(values), where=whole > 0)

    palette = _palette(attribution)
    found = [str(kinds.categories[int(i)]) for i in present]
    names = [charts.shorten(RNA_LENGTH if kind == MASK else kind, _NAME) for kind in found]
    one = chosen.size == 1
    figure = charts.sheet(
        SINGLE,
        0.28 * max(present.size, 1) + AXIS + 0.2,
        title=_title(attribution, rows, int(chosen[0]) if one else None),
        lines="" if one else f"{chosen.size} outputs together",
    )
    left, right = figure.subplots(1, 2)
    ends = _violins(left, values, [palette[kind] for kind in found])
    _violins(right, 100 * shares, [palette[kind] for kind in found])
    left.set_title("sum of scores")
    right.set_title("share of absolute sums")
    charts.label_rows(left, names, present.size)
    charts.label_rows(right, [], present.size)
    charts.value_axis(left, _unit(attribution, int(chosen[0]), 1), ends, most=4)
    charts.value_axis(right, "%", np.array([0.0, 100.0]), most=4)
    return figure


def _violins(axes: Axes, rows: FloatArray, colours: Sequence[str]) -> FloatArray:
    """Draw distributions in rows and return their ends."""
    shown = zip(rows, colours, strict=True)
    return np.array([_violin(axes, row, *item) for row, item in enumerate(shown)])


def _violin(axes: Axes, row: int, values: FloatArray, colour: str) -> tuple[float, float]:
    """Draw a distribution in a row and return its ends."""
    if values.size < _FEW:
        rows = np.full(values.size, row)
        axes.plot(values, rows, "o", color=colour, markersize=3.5, markeredgewidth=0, alpha=0.7)
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
        axes.fill_between(at, row - half, row + half, color=colour, alpha=0.6, linewidth=0)
    axes.plot([first, third], [row, row], color="black", linewidth=2.5, solid_capstyle="butt")
    edge: dict[str, Any] = {"markeredgecolor": "black", "markeredgewidth": 0.4}
    axes.plot(median, row, "o", color="white", markersize=2.5, **edge)
    return float(low), float(high)
