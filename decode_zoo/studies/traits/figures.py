"""Pictures of a trait study: volcanoes, concordance, regulators, regulators by person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decode_zoo.plots.colours import value_cells
from decode_zoo.plots.page import AXIS, DOUBLE, MARGIN, ROW, SINGLE, Page, label_rows, styled
from decode_zoo.plots.text import SMALL, TEXT, elided, number, text_width, widest

if TYPE_CHECKING:
    from decode_zoo.studies.traits.study import TraitStudy

__all__ = ["concordance", "heatmap", "regulators", "volcanoes"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Okabe and Ito's vermilion and blue; what is not related is grey.
_UP, _DOWN, _NEITHER = "#D55E00", "#0072B2", "#B8BEC6"
_LEFT = 0.45  # room of a y axis with its name, in inches
_NAMED = 8  # points with a name
_BARS, _ROWS = 20, 30
_NAME = 1.3  # widest name of a regulator, in inches


@styled
def volcanoes(study: TraitStudy) -> Figure:
    """Draw effects and p values of expression and of its prediction side by side."""
    size, gap = (DOUBLE - 2 * MARGIN - 2 * _LEFT) / 2 - 0.05, 0.1
    page = Page.make(
        DOUBLE,
        0.16 + 2.4 + AXIS,
        title=f"Effect of {study.design.trait}",
        lines=[f"{len(study.expression):,} genes, false discovery rate {study.summary['fdr']:g}"],
        key={"related, higher": _UP, "lower": _DOWN, "not related": _NEITHER},
    )
    left = MARGIN + _LEFT
    for table, head in ((study.expression, "expression"), (study.predicted, "prediction")):
        axes = page.axes(left, page.top + 0.16, size, 2.4)
        page.write(left + size / 2, page.top + 0.12, head, va="bottom", ha="center")
        effect, p = table["effect"].to_numpy(np.float64), table["p"].to_numpy(np.float64)
        # A p value too small to be written is as high as the smallest that is not.
        height = -np.log10(np.maximum(p, p[p > 0].min(initial=1.0)))
        related = (table["q"] <= study.summary["fdr"]).to_numpy()
        _points(axes, effect, height, related, effect)
        reach = 1.08 * float(np.abs(effect).max()) or 1.0
        axes.set(xlim=(-reach, reach), ylim=(0, 1.06 * float(height.max()) or 1.0))
        axes.axvline(0, color="black", linewidth=0.5)
        _framed(axes, "−log₁₀ p" if head == "expression" else "")
        page.below(axes, f"log₂ fold change, {_per(study)}", lambda x: number(x, "g"), size)
        _name_points(axes, size, 2.4, effect, height, _labels(table), table["p"].to_numpy())
        left += size + _LEFT + gap
    return page.figure


@styled
def concordance(study: TraitStudy) -> Figure:
    """Draw the t statistics of expression against those of its prediction."""
    found = study.summary["concordance"]
    low, high = found["interval_95"]
    page = Page.make(
        SINGLE,
        2.6 + AXIS,
        title="t statistics",
        lines=[
            f"Spearman's rho {_rho(found['spearman'])}",
            f"(95% over genes {_rho(low)} to {_rho(high)};",
            f"other persons {_rho(found['other_persons']['mean'])})",
        ],
        key={"expression higher": _UP, "lower": _DOWN, "not related": _NEITHER},
    )
    size = SINGLE - 2 * MARGIN - _LEFT
    axes = page.axes(MARGIN + _LEFT, page.top, size, 2.6)
    actual = study.expression["t"].to_numpy(np.float64)
    predicted = study.predicted["t"].to_numpy(np.float64)
    related = (study.expression["q"] <= study.summary["fdr"]).to_numpy()
    _points(axes, actual, predicted, related, actual)
    axes.axhline(0, color="black", linewidth=0.5)
    axes.axvline(0, color="black", linewidth=0.5)
    axes.margins(0.04)
    _framed(axes, "t of prediction")
    page.below(axes, "t of expression", lambda x: number(x, "g"))
    _name_points(
        axes,
        size,
        2.6,
        actual,
        predicted,
        _labels(study.expression),
        study.expression["p"].to_numpy(),
    )
    return page.figure


@styled
def regulators(study: TraitStudy) -> Figure:
    """Draw the related regulators of largest effect as bars, highest on top."""
    best = _largest(study, _BARS).sort_values("effect", ascending=False, kind="stable")
    names = _regulator_names(study, best, TEXT)
    effect = best["effect"].to_numpy(np.float64)
    related = (best["q"] <= study.summary["fdr"]).to_numpy()
    height = ROW * max(len(best), 3)
    page = Page.make(
        SINGLE,
        height + AXIS,
        title=f"Regulators and {study.design.trait}",
        lines=[f"{len(best)} of {len(study.regulators)},", "the related ones of largest effect"],
        key={"related, higher": _UP, "lower": _DOWN, "not related": _NEITHER},
    )
    left = MARGIN + 0.04 + widest(names, TEXT)
    axes = page.axes(left, page.top, SINGLE - MARGIN - 0.1 - left, height)
    axes.barh(range(len(best)), effect, 0.72, color=_colours(related, effect))
    label_rows(axes, names, max(len(best), 3))
    page.values_below(axes, effect, f"effect on mean score (log₂, {_per(study)})")
    return page.figure


@styled
def heatmap(study: TraitStudy) -> Figure:
    """Draw the scores of the same regulators, and some more, by person, ordered by the trait."""
    trait = study.design.matrix[:, -1]
    order = np.argsort(trait, kind="stable")
    best = _largest(study, _ROWS).sort_values("effect", ascending=False, kind="stable")
    values = study.scores.to_numpy(np.float64)[best.index][:, order]
    deviation = values.std(axis=1, keepdims=True)
    values = (values - values.mean(axis=1, keepdims=True)) / np.where(deviation > 0, deviation, 1)
    names = _regulator_names(study, best, SMALL)
    left = MARGIN + 0.04 + max(widest(names, SMALL), 0.5)
    width, strip, row = DOUBLE - MARGIN - left, 0.09, 0.105
    page = Page.make(
        DOUBLE,
        strip + 0.03 + row * len(names) + 0.3,
        title="Mean scores by person",
        lines=[f"{len(order)} persons, ordered by {study.design.trait}"],
        with_colour_bar=True,
    )
    shade = page.axes(left, page.top, width, strip)
    shade.imshow(trait[order][None], cmap="cividis", aspect="auto", interpolation="none")
    shade.set_yticks([0], [elided(study.design.trait, SMALL, left - MARGIN)], fontsize=SMALL)
    shade.set_xticks([])
    shade.spines["bottom"].set_visible(False)
    axes = page.axes(left, page.top + strip + 0.03, width, row * len(names))
    image = value_cells(axes, values, values)
    axes.set_yticks(range(len(names)), names, fontsize=SMALL)
    axes.set_xticks([])
    page.colour_bar(image, values, "standard deviations")
    ends = study.design.values[int(order[0])], study.design.values[int(order[-1])]
    bottom = page.top + strip + 0.08 + row * len(names)
    for place, text, side in ((left, ends[0], "left"), (left + width, ends[1], "right")):
        page.write(place, bottom, elided(text, SMALL, width / 2), SMALL, ha=side)
    return page.figure


def _rho(value: float | None) -> str:
    return "not known" if value is None else number(value, ".2f")


def _labels(table: pd.DataFrame) -> list[str]:
    """Symbols of genes, or their ids where they have none."""
    return [symbol or name for name, symbol in zip(table["name"], table["symbol"], strict=True)]


def _per(study: TraitStudy) -> str:
    """Say what an effect is by."""
    name = study.design.names[-1]
    return f"by unit of {name}" if name == study.design.trait else name.replace("=", ": ")


def _largest(study: TraitStudy, k: int) -> pd.DataFrame:
    """Choose the k regulators of largest effect, those that are related before others.

    Predictions have no noise of measurement, so that small effects may have the highest t.
    """
    table = study.regulators
    strength = (table["q"] <= study.summary["fdr"]), table["effect"].abs()
    return table.iloc[np.lexsort([-part.to_numpy(np.float64) for part in strength[::-1]])[:k]]


def _regulator_names(study: TraitStudy, rows: pd.DataFrame, size: float) -> list[str]:
    """Names of regulators, with their class where another class has one of the same name."""
    twice = set(study.regulators["name"][study.regulators["name"].duplicated()])
    names = [
        f"{name} ({kind})" if name in twice else str(name)
        for name, kind in zip(rows["name"], rows["class"], strict=True)
    ]
    return [elided(name, size, _NAME) for name in names]


def _colours(related: BoolArray, sign: FloatArray) -> list[str]:
    signs = zip(related, sign, strict=True)
    return [(_UP if value > 0 else _DOWN) if shown else _NEITHER for shown, value in signs]


def _points(axes: Axes, x: FloatArray, y: FloatArray, related: BoolArray, sign: FloatArray) -> None:
    """Draw points, the related ones above; as pixels, since thousands of them are slow to show."""
    order = np.argsort(related, kind="stable")
    colours = np.array(_colours(related, sign), object)[order]
    axes.scatter(x[order], y[order], s=4, c=colours.tolist(), linewidths=0, rasterized=True)


def _framed(axes: Axes, label: str) -> None:
    axes.spines["left"].set_visible(True)
    axes.grid(True)
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.set_ylabel(label, fontsize=TEXT, labelpad=2)


def _name_points(
    axes: Axes,
    width: float,
    height: float,
    x: FloatArray,
    y: FloatArray,
    names: Sequence[str],
    p: FloatArray,
) -> None:
    """Name the points of least p, where the names have room."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    taken: list[tuple[float, float, float]] = []
    for i in np.argsort(p, kind="stable")[:_NAMED]:
        at = width * (x[i] - left) / (right - left)
        up = height * (y[i] - bottom) / (top - bottom)
        long = text_width(names[i], SMALL)
        start = at + 0.04 if at + 0.04 + long < width else at - 0.04 - long
        if start < 0 or any(
            abs(up - other) < 0.11 and start < last and first < start + long
            for first, last, other in taken
        ):
            continue
        taken.append((start, start + long, up))
        axes.text(
            left + (right - left) * start / width,
            y[i],
            names[i],
            fontsize=SMALL,
            va="center_baseline",
        )
