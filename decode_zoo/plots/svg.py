"""Figures as elements of a page."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["svg_element", "svg_file"]

_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_GROUP = re.compile(r'<g id="[^"]*">')


def svg_element(figure: Figure) -> str:
    """Write a figure as an element that can stand beside others in one page.

    The same figure gives the same text; letters are drawn, so that no font is needed.
    """
    text = svg_file(figure).decode()
    # Groups are numbered anew in each figure, and ids are to be unique in the page.
    return _GROUP.sub("<g>", _METADATA.sub("", text[text.index("<svg") :]))


def svg_file(figure: Figure) -> bytes:
    """Write a figure as a file of its own; the same figure gives the same bytes."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "decode-zoo", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue().encode()
