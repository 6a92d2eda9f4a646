"""Figures for paper: laid out in inches, with texts that are measured so that none overlap."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.ticker import MaxNLocator

from decode_zoo.plots.text import FONT, SMALL, TEXT, TITLE, elided, number, text_width, widest

__all__ = [
    "AXIS",
    "DOUBLE",
    "GREY",
    "MARGIN",
    "ROW",
    "SINGLE",
    "Page",
    "label_rows",
    "say",
    "styled",
]

FloatArray = npt.NDArray[np.float64]
Call = ParamSpec("Call")
Result = TypeVar("Result")

# In inches.
SINGLE, DOUBLE, MARGIN = 3.5, 7.2, 0.08
ROW = 0.135  # of texts one below the other
AXIS = 0.36  # height of an x axis with its name
COLOUR_BAR, HEADER = 1.6, 0.46  # width and height of what has a colour bar in its corner
GREY = "#6E6E6E"

_STYLE = {
    "text.parse_math": False,  # names are no formulas
    "font.family": FONT,
    "font.size": TEXT,
    "axes.linewidth": 0.5,
    "axes.axisbelow": True,
    "axes.spines.left": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.linewidth": 0.4,
    "grid.color": "#E3E3E3",
    "xtick.labelsize": SMALL,
    "xtick.major.size": 2,
    "xtick.major.width": 0.5,
    "xtick.major.pad": 1.5,
    "ytick.labelsize": TEXT,
    "ytick.major.size": 0,
    "ytick.major.pad": 2,
}


def styled(function: Callable[Call, Result]) -> Callable[Call, Result]:
    """Draw in our style whatever the user's is, and leave the user's as it is."""

    @functools.wraps(function)
    def inner(*args: Call.args, **options: Call.kwargs) -> Result:
        with matplotlib.style.context(_STYLE, after_reset=True):
            return function(*args, **options)

    return inner


def _flow(texts: Sequence[str], gap: float, room: float) -> list[tuple[int, float]]:
    """Put small texts one after the other: line and place of each."""
    places, line, at = [], 0, 0.0
    for text in texts:
        width = text_width(text, SMALL)
        if at and at + width > room:
            line, at = line + 1, 0.0
        places.append((line, at))
        at += width + gap
    return places


@dataclass(frozen=True)
class Page:
    """A figure laid out in inches from its top left corner.

    Attributes
    ----------
    figure : Figure
    width, height : float
    top : float
        Where the part below title, text and key begins.
    """

    figure: Figure
    width: float
    height: float
    top: float

    @classmethod
    def make(
        cls,
        width: float,
        below: float,
        *,
        title: str,
        lines: Sequence[str] = (),
        key: Mapping[str, str] | None = None,
        with_colour_bar: bool = False,
    ) -> Page:
        """Begin a figure with a title, lines of text and a key of colours.

        Parameters
        ----------
        width : float
        below : float
            Height of the part below.
        title : str
        lines : sequence of str
            Put side by side where they fit.
        key : Mapping of str to str, optional
            Colours by name.
        with_colour_bar : bool
            Whether to leave room for a colour bar.
        """
        room = width - 2 * MARGIN - (COLOUR_BAR if with_colour_bar else 0)
        lines = [elided(line, SMALL, room) for line in lines]
        names = [elided(name, SMALL, 1.0) for name in key or {}]
        line_places, name_places = _flow(lines, 0.03, room), _flow(names, 0.3, room - 0.12)
        under_title = MARGIN + 0.16
        under_lines = under_title + 0.11 * max((1 + line for line, _ in line_places), default=0)
        top = under_lines + 0.12 * max((1 + line for line, _ in name_places), default=0) + 0.05
        if with_colour_bar:
            top = max(top, HEADER)
        page = cls(Figure((width, top + below), 200), width, top + below, top)
        FigureCanvasAgg(page.figure)
        page.write(MARGIN, MARGIN, elided(title, TITLE, room), TITLE, weight="bold")
        for line in {line for line, _ in line_places}:
            text = " ".join(t for t, (n, _) in zip(lines, line_places, strict=True) if n == line)
            page.write(MARGIN, under_title + 0.11 * line, text, SMALL, color=GREY)
        for text, colour, (line, at) in zip(names, (key or {}).values(), name_places, strict=True):
            middle = under_lines + 0.12 * line + 0.06
            page.write(MARGIN + at, middle, "■", SMALL, "center_baseline", color=colour)
            page.write(MARGIN + at + 0.11, middle, text, SMALL, "center_baseline")
        return page

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes."""
        box = left / self.width, 1 - (top + height) / self.height
        return self.figure.add_axes((*box, width / self.width, height / self.height))

    def place(self, axes: Axes) -> tuple[float, float, float, float]:
        """Return the left, top, right and bottom of axes."""
        box = axes.get_position()
        return (
            box.x0 * self.width,
            (1 - box.y1) * self.height,
            box.x1 * self.width,
            (1 - box.y0) * self.height,
        )

    def write(
        self, left: float, top: float, text: str, size: float = TEXT, va: str = "top", **style: Any
    ) -> None:
        """Write a text."""
        self.figure.text(
            left / self.width, 1 - top / self.height, text, fontsize=size, va=va, **style
        )

    def column(self, right: float, top: float, head: str, texts: Iterable[str]) -> None:
        """Write a column of texts beside rows."""
        self.write(right, top - 0.01, head, SMALL, "bottom", ha="right", color=GREY)
        for place, text in enumerate(texts):
            middle = top + ROW * (place + 0.5)
            self.write(right, middle, text, SMALL, "center_baseline", ha="right", color=GREY)

    def below(
        self, axes: Axes, label: str, form: Callable[[float], str], room: float | None = None
    ) -> None:
        """Write the numbers of an x axis and its name, in its middle if the page has room."""
        left, _, right, bottom = self.place(axes)
        first, last = axes.get_xlim()
        for n in range(6, 0, -1):
            locator = MaxNLocator(n, steps=[1, 2, 5, 10], min_n_ticks=1)
            ticks = np.asarray(locator.tick_values(first, last))
            ticks = ticks[(ticks >= first) & (ticks <= last)]
            apart = (right - left) * (ticks[1] - ticks[0]) / (last - first) if ticks.size > 1 else 9
            names = [form(x) for x in ticks]
            if widest(names, SMALL) + 0.06 < apart:
                break
        axes.set_xticks(ticks, names)
        label = elided(label, TEXT, room or self.width - 2 * MARGIN)
        half = text_width(label, TEXT) / 2
        middle = min(max((left + right) / 2, MARGIN + half), self.width - MARGIN - half)
        self.write(middle, bottom + 0.16, label, ha="center")

    def values_below(
        self, axes: Axes, values: FloatArray, label: str, room: float | None = None
    ) -> None:
        """Make the x axis one of values around zero."""
        low, high = float(values.min(initial=0)), float(values.max(initial=0))
        if low == high:
            low, high = -1.0, 1.0
        axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
        axes.axvline(0, color="black", linewidth=0.5)
        axes.grid(axis="x")
        self.below(axes, label, lambda x: number(x, "g"), room)

    def colour_bar(self, image: ScalarMappable, values: FloatArray, label: str) -> None:
        """Draw a colour bar in the top right corner, pointed where values are beyond its end."""
        low, high = image.get_clim()
        extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}.get(
            (bool(values.min() < low), bool(values.max() > high)), "both"
        )
        left = self.width - MARGIN - COLOUR_BAR + 0.1
        room = COLOUR_BAR - 0.1
        self.write(left + room / 2, MARGIN, elided(label, SMALL, room), SMALL, ha="center")
        axes = self.axes(left + 0.2, MARGIN + 0.13, room - 0.4, 0.07)
        bar = self.figure.colorbar(
            image, axes, orientation="horizontal", extend=extend, ticks=[low, 0, high]
        )
        bar.ax.xaxis.set_major_formatter(lambda x, _: number(x, "g"))
        bar.outline.set_linewidth(0.5)

    def start_site(self, left: float, top: float) -> None:
        """Draw the arrow of a start site: up from a point, then on in transcription direction."""
        ends = [(left, top), (left + 0.16, top - 0.09)]
        self.figure.add_artist(
            FancyArrowPatch(
                *[(x / self.width, 1 - y / self.height) for x, y in ends],
                transform=self.figure.transFigure,
                arrowstyle="-|>",
                mutation_scale=5,
                connectionstyle="angle,angleA=90,angleB=180,rad=0",
                shrinkA=0,
                shrinkB=0,
                linewidth=0.6,
                color="black",
            )
        )


def label_rows(axes: Axes, names: Sequence[str], n: int) -> None:
    """Name the first of n rows of axes."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(n - 0.5, -0.5)


def say(axes: Axes, text: str) -> None:
    """Write in the middle of axes."""
    axes.text(
        0.5,
        0.5,
        text,
        color=GREY,
        ha="center",
        va="center",
        transform=axes.transAxes,
        bbox={"color": "white", "pad": 1},
    )
