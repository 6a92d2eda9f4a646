"""What pictures are made of; sizes are in inches, and constrained layout makes room for names."""

from __future__ import annotations

import functools
import io
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import BboxBase

from decode_zoo.core.arrays import FloatArray
from decode_zoo.pages.html import number

Call = ParamSpec("Call")

SINGLE, DOUBLE = 3.5, 7.2  # widths of columns
ROW, AXIS = 0.135, 0.4  # heights of a row and of an x axis with its name
TITLE, TEXT, SMALL = 8.0, 7.0, 6.0  # sizes of letters in points
_LETTER = 0.6 / 72  # width of a letter, for its size in points
_BAR, _HEADER = 1.6, 0.42  # width of a colour bar, and height of a header that holds one

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, VERMILION, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"
COLOURS = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, BLACK)
CLASSES = {"TF": BLUE, "RBP": VERMILION, "miRNA": GREEN, "chromatin": PINK}
GREY, PALE = "#6E6E6E", "#B8BEC6"  # of texts; of what is not singled out

_STYLE = {
    "text.parse_math": False,  # names are no formulas
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": TEXT,
    "axes.linewidth": 0.5,
    "axes.axisbelow": True,
    "axes.labelpad": 2,
    "axes.titlepad": 3,
    "axes.titlesize": TEXT,
    "axes.spines.left": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 200,
    "grid.linewidth": 0.4,
    "grid.color": "#E3E3E3",
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.handlelength": 0.8,
    "legend.handleheight": 0.8,
    "legend.handletextpad": 0.5,
    "legend.labelspacing": 0.3,
    "legend.borderaxespad": 0,
    "legend.borderpad": 0,
    "xtick.labelsize": SMALL,
    "xtick.major.size": 2,
    "xtick.major.width": 0.5,
    "xtick.major.pad": 1.5,
    "ytick.labelsize": TEXT,
    "ytick.major.size": 0,
    "ytick.major.pad": 2,
}


class Picture(Figure):
    """A figure that a notebook shows by itself, without pyplot."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=160)
        return stream.getvalue()


def styled(function: Callable[Call, Figure]) -> Callable[Call, Figure]:
    """Draw in our style whatever the user's is, and leave the user's as it is."""

    @functools.wraps(function)
    def inner(*args: Call.args, **options: Call.kwargs) -> Figure:
        with matplotlib.style.context(_STYLE, after_reset=True):
            figure = function(*args, **options)
            figure.draw_without_rendering()  # ticks are made when they are first drawn
            return figure

    return inner


def sheet(
    width: float,
    height: float,
    *,
    title: str = "",
    lines: str = "",
    key: Mapping[str, str] | None = None,
    with_colour_bar: bool = False,
    pad: float = 0.04,
) -> Figure:
    """Begin a figure with a header: a title, a text and a key (name → colour).

    `height` is that of the part below the header, where axes are laid out, `pad` inches apart.
    """
    room = width - 0.2 - (_BAR if with_colour_bar else 0)
    title = shorten(title, room, TITLE * 1.1)
    text = textwrap.wrap(lines, int(room / (SMALL * 0.93 * _LETTER)))
    names = [shorten(name, 1.6, SMALL) for name in key or {}]
    longest = max((len(name) for name in names), default=1)
    abreast = max(1, min(len(names), int(room / (0.22 + longest * SMALL * 0.9 * _LETTER))))
    key_rows = -(-len(names) // abreast)
    header = 0.2 * bool(title) + 0.11 * len(text) + 0.12 * key_rows + 0.04
    header = max(header, _HEADER) if with_colour_bar else header
    whole = header + height
    layout = ConstrainedLayoutEngine(
        rect=(0, 0, 1, height / whole), w_pad=pad, h_pad=pad, wspace=pad
    )
    figure = Picture((width, whole), layout=layout)
    FigureCanvasAgg(figure)
    left = 0.08 / width
    figure.text(left, 1 - 0.08 / whole, title, fontsize=TITLE, weight="bold", va="top")
    for i, line in enumerate(text):
        top = 1 - (0.22 + 0.11 * i) / whole
        figure.text(left, top, line, fontsize=SMALL, color=GREY, va="top")
    figure.legend(
        handles=[
            Patch(color=colour, label=name)
            for name, colour in zip(names, (key or {}).values(), strict=True)
        ],
        loc="upper left",
        bbox_to_anchor=(left, 1 - (0.24 + 0.11 * len(text)) / whole),
        ncols=abreast,
    )
    return figure


def framed(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """Begin a figure without a header, of panels with both axes: (rows, columns)."""
    figure = Picture((width, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.spines["left"].set_visible(True)
        axes.tick_params(axis="y", size=2)
    return figure, panels


def shorten(text: str, room: float, size: float = TEXT) -> str:
    """Put a text on one line, and leave out its middle if it has more letters than room."""
    text = " ".join(text.split())
    kept = max(int(room / (size * _LETTER)), 3)
    if len(text) <= kept:
        return text
    return f"{text[: kept - kept // 2 - 1]}…{text[len(text) - kept // 2 :]}"


def rounded(x: float, values: FloatArray, sign: str = "") -> str:
    """Write a number to the digits that the largest of some values deserves."""
    largest = float(np.abs(values).max(initial=0))
    exponent = math.floor(math.log10(largest)) if largest else 0
    if not -4 <= exponent <= 5:
        return number(x, f"{sign}.1e")
    return number(x, f"{sign}.{max(0, 2 - max(exponent, 0), 1 - exponent)}f")


def q_values(values: Iterable[float]) -> list[str]:
    """Write false discovery rates."""
    return [number(value, ".2f" if value >= 0.095 else ".1g") for value in values]


def numbered(axis: Axis, most: int = 6, form: str = "g", zero: str = "0") -> None:
    """Give an axis at most so many intervals, and numbers with a minus sign."""
    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10], min_n_ticks=1))
    axis.set_major_formatter(lambda x, _: number(x, form) if x else zero)


def value_axis(
    axes: Axes, label: str, values: FloatArray, *, zero: float = 0, most: int = 6
) -> None:
    """Make the x axis one of values around zero (or what stands for it), with a grid."""
    finite = values[np.isfinite(values)]
    low, high = float(finite.min(initial=zero)), float(finite.max(initial=zero))
    if low == high:
        low, high = low - 1, high + 1
    axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    axes.axvline(zero, color="black", linewidth=0.5)
    axes.grid(axis="x")
    axes.set_xlabel(label)
    numbered(axes.xaxis, most)


def x_axis(axes: Axes, label: str = "", grid: bool = True) -> None:
    """Make the x axis one of values."""
    axes.grid(grid, axis="x")
    axes.set_xlabel(label)
    numbered(axes.xaxis)


def y_axis(axes: Axes, label: str = "", most: int = 8) -> None:
    """Make the y axis one of values, with a grid."""
    axes.spines["left"].set_visible(True)
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.grid(axis="y")
    axes.set_ylabel(label)
    numbered(axes.yaxis, most)


def label_rows(
    axes: Axes, names: Iterable[object], n: int = 0, size: float = TEXT, room: float = 4
) -> None:
    """Name rows from the top, of n if there are more than names, on so many inches."""
    texts = [shorten(str(name), room, size) for name in names]
    axes.set_yticks(range(len(texts)), texts, fontsize=size)
    axes.set_ylim(max(n, len(texts), 1) - 0.5, -0.5)


def bars(
    axes: Axes,
    names: Iterable[object],
    values: FloatArray,
    colours: Sequence[str] | str,
    *,
    left: float | FloatArray = 0,
    n: int = 3,
    size: float = TEXT,
    room: float = 1.3,
) -> None:
    """Draw horizontal bars in named rows."""
    axes.barh(range(len(values)), values, 0.72, left=left, color=colours)
    label_rows(axes, names, n, size, room)


def columns(axes: Axes, texts: Mapping[str, Iterable[str]]) -> None:
    """Write columns of texts (head → one a row) beside the rows of axes, on their right."""
    at = 2.0
    for head, own in texts.items():
        lines = [head, *own]
        at += 6 + 0.62 * SMALL * max(len(line) for line in lines)
        for row, line in enumerate(lines):
            axes.annotate(
                line,
                (1, row - 1),
                xycoords=axes.get_yaxis_transform(),
                xytext=(at, 0),
                textcoords="offset points",
                fontsize=SMALL,
                color=GREY,
                ha="right",
                va="center",
                annotation_clip=False,
            )


def intervals(
    axes: Axes,
    rows: npt.ArrayLike,
    low: npt.ArrayLike,
    middle: npt.ArrayLike,
    high: npt.ArrayLike,
    colour: str,
) -> None:
    """Draw values as dots, with their intervals."""
    axes.hlines(rows, low, high, color=colour, linewidth=1)
    axes.scatter(middle, rows, s=12, c=colour, linewidths=0, zorder=3)


def points(
    axes: Axes, x: npt.ArrayLike, y: npt.ArrayLike, colours: Any, size: float = 4, **style: Any
) -> None:
    """Draw points as pixels, since thousands of them are slow to show."""
    axes.scatter(x, y, s=size, c=colours, linewidths=0, rasterized=True, **style)


def cells(
    axes: Axes,
    values: FloatArray,
    every: FloatArray | None = None,
    edges: tuple[float, float] | None = None,
) -> AxesImage:
    """Draw cells of values, in colours up to the 95th percentile of every value's size."""
    n_rows, n_columns = values.shape
    first, last = edges or (-0.5, n_columns - 0.5)
    every = values if every is None else every
    sizes = np.abs(every[every != 0])
    limit = float(np.quantile(sizes, 0.95)) if sizes.size else 1.0
    step = 10.0 ** (math.floor(math.log10(limit)) - 1)
    limit = float(f"{math.ceil(limit / step) * step:.2g}")
    return axes.imshow(
        values,
        cmap="RdBu_r",
        norm=Normalize(-limit, limit),
        aspect="auto",
        interpolation="none",
        extent=(first, last, n_rows - 0.5, -0.5),
    )


def label_cells(
    axes: Axes, rows: Iterable[object], columns: Sequence[str] = (), room: float = 4
) -> None:
    """Name the rows and columns of cells."""
    texts = [shorten(str(row), room, SMALL) for row in rows]
    axes.set_yticks(range(len(texts)), texts, fontsize=SMALL)
    axes.set_xticks(range(len(columns)), columns, fontsize=SMALL, rotation=90)
    axes.tick_params(length=0, pad=2)


def colour_bar(figure: Figure, image: ScalarMappable, values: FloatArray, label: str) -> None:
    """Draw a colour bar in the top right corner, pointed where values are beyond its end."""
    low, high = image.get_clim()
    beyond = int(values.min() < low) + 2 * int(values.max() > high)
    extend = ("neither", "min", "max", "both")[beyond]
    width, height = figure.get_size_inches()
    middle = 1 - (_BAR / 2 + 0.03) / width
    text = shorten(label, _BAR, SMALL)
    figure.text(middle, 1 - 0.08 / height, text, fontsize=SMALL, ha="center", va="top")
    half = (_BAR / 2 - 0.25) / width
    axes = figure.add_axes((middle - half, 1 - 0.28 / height, 2 * half, 0.07 / height))
    bar = figure.colorbar(
        image, axes, orientation="horizontal", extend=extend, ticks=[low, 0, high]
    )
    bar.ax.xaxis.set_major_formatter(lambda x, _: number(x, "g"))
    bar.outline.set_linewidth(0.5)


def drop_overlaps(figure: Figure, axes: Axes, texts: Sequence[Text]) -> None:
    """Take texts away that touch earlier ones or the sides of their axes."""
    figure.draw_without_rendering()
    inside = axes.get_window_extent()
    taken: list[BboxBase] = []
    for text in texts:
        box = text.get_window_extent()
        if box.x0 < inside.x0 or box.x1 > inside.x1 or any(box.overlaps(other) for other in taken):
            text.remove()
        else:
            taken.append(box)


def say(axes: Axes, text: str, y: float = 0.5, **style: Any) -> None:
    """Write in the middle of axes."""
    style = {"transform": axes.transAxes, **style, "bbox": {"color": "white", "pad": 1}}
    axes.text(0.5, y, text, color=GREY, ha="center", va="center", **style)
