"""Pictures of attributions, at the width of a paper's columns.

Every function returns a matplotlib `Figure` that is the caller's alone; pyplot is not touched.
Write it with ``figure.savefig("liver.png", dpi=300)``: the same scores give the same bytes. Vector
formats need to be told not to write the date, and SVG not to draw random names::

    figure.savefig("liver.pdf", metadata={"CreationDate": None})
    with matplotlib.rc_context({"svg.hashsalt": "decode-zoo"}):
        figure.savefig("liver.svg", metadata={"Date": None})

In a notebook figures are shown after ``%matplotlib inline``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from decode_zoo.attribution.scores import Attribution
from decode_zoo.core.errors import MissingExtraError, UsageError

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingExtraError("matplotlib", "explain") from error

from decode_zoo.pages.figures.attributions import bar, classes, heatmap, positions

__all__ = ["bar", "classes", "heatmap", "plot", "positions"]


def plot(attribution: Attribution, kind: str = "bar", **options: Any) -> Figure:
    """Draw a picture of an attribution.

    Parameters
    ----------
    attribution : Attribution
        As `Model.explain` returns it.
    kind : {"bar", "heatmap", "positions", "classes"}
        Strongest regulators; outputs × regulators, clustered; one gene's sites along promoter and
        RNA (by position only); contributions of classes.
    **options
        Those of the function of that name in this module.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UsageError
        If there is no such kind, or it cannot be drawn from this attribution.
    MissingExtraError
        If matplotlib is not installed.
    """
    kinds: dict[str, Callable[..., Figure]] = {
        "bar": bar,
        "heatmap": heatmap,
        "positions": positions,
        "classes": classes,
    }
    if kind not in kinds:
        raise UsageError(
            f"There is no picture '{kind}'.", remedy=f"Choose among {', '.join(kinds)}."
        )
    return kinds[kind](attribution, **options)
