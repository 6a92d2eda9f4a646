"""Texts: how wide they are, and numbers written as such."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

__all__ = ["FONT", "SMALL", "TEXT", "TITLE", "elided", "number", "rounded", "text_width", "widest"]

FloatArray = npt.NDArray[np.float64]

FONT = "DejaVu Sans"  # comes with matplotlib
TITLE, TEXT, SMALL = 8.0, 7.0, 6.0  # sizes in points


def text_width(text: str, size: float) -> float:
    """Width of a text in inches, a little generous: what is drawn is rounded to pixels."""
    font = FontProperties(family=FONT, size=size, weight="bold" if size == TITLE else "normal")
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, False)
    return 1.03 * float(width) / 72 + 0.01


def widest(texts: Iterable[str], size: float) -> float:
    """Width of the widest text in inches."""
    return max((text_width(text, size) for text in texts), default=0.0)


def elided(text: str, size: float, room: float) -> str:
    """Put a text on one line and leave out its middle if it is too wide for the room."""
    whole = short = " ".join(text.split())
    kept = len(whole)
    while kept and (width := text_width(short, size)) > room:
        kept = min(kept - 1, int(kept * room / width))
        short = f"{whole[: kept - kept // 2]}…{whole[len(whole) - kept // 2 :]}"
    return short


def number(x: float, form: str) -> str:
    """Write a number, with a minus sign where there is one; zero has no sign."""
    text = format(x, form)
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def rounded(x: float, values: FloatArray, sign: str = "") -> str:
    """Write a number to the digits that the largest of some values deserves."""
    largest = float(np.abs(values).max(initial=0))
    exponent = math.floor(math.log10(largest)) if largest else 0
    if not -4 <= exponent <= 5:
        return number(x, f"{sign}.1e")
    return number(x, f"{sign}.{max(0, 2 - max(exponent, 0), 1 - exponent)}f")
