"""Pictures of attributions, at the width of a paper's columns.

Every function returns a matplotlib `Figure` that is the caller's alone; pyplot is not touched.
Write it with ``figure.savefig("liver.png", dpi=300)``: the same scores give the same bytes. Vector
formats need to be told not to write the date, and SVG not to draw random names::

    figure.savefig("liver.pdf", metadata={"CreationDate": None})
    with matplotlib.rc_context({"svg.hashsalt": "decode-zoo"}):
        figure.savefig("liver.svg", metadata={"Date": None})

A notebook shows them as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from decode_zoo.attribution.scores import Attribution
from decode_zoo.core.errors import MissingExtraError, UsageError
from decode_zoo.studies.result import StudyResult

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingExtraError("matplotlib", "explain") from error

from decode_zoo.pages.figures import pictures_of
from decode_zoo.pages.figures.attributions import bar, classes, heatmap, positions

__all__ = ["bar", "classes", "heatmap", "plot", "positions"]


def plot(found: Attribution | StudyResult, kind: str | None = None, **options: Any) -> Figure:
    """Draw a picture of an attribution, or of what a study found.

    Parameters
    ----------
    found : Attribution or StudyResult
        As `Model.explain` or a study returns it.
    kind : str, optional
        Of an attribution "bar" (the default: strongest regulators), "heatmap" (outputs ×
        regulators, clustered), "positions" (one gene's sites along promoter and RNA; by position
        only) or "classes" (their contributions); of a study the name of one of its pictures, the
        first if none is named.
    **options
        Of an attribution, those of the function of that name in this module.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UsageError
        If there is no such picture, or it cannot be drawn from this attribution.
    MissingExtraError
        If matplotlib is not installed.
    """
    kinds: dict[str, Callable[..., Figure]] = {
        "bar": bar,
        "heatmap": heatmap,
        "positions": positions,
        "classes": classes,
    }
    if isinstance(found, StudyResult):
        drawn = pictures_of(found)
        kinds = {name: partial(_drawn, figure) for name, (_, figure) in drawn.items()}
    kind = kind or next(iter(kinds))
    if kind not in kinds:
        raise UsageError(
            f"There is no picture '{kind}'.", remedy=f"Choose among {', '.join(kinds)}."
        )
    return kinds[kind](found, **options)


def _drawn(figure: Figure, found: StudyResult) -> Figure:
    return figure
