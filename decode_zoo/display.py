"""What may be shown: text without secrets, without control characters, and not too much of it."""

from __future__ import annotations

import re

__all__ = ["brief", "counted", "masked", "megabytes", "printable"]

_MOST = 80


def masked(text: str) -> str:
    """Hide user, password and query of every URL in a text."""
    # Greedy up to the last '@': rather too much is hidden than half of a password.
    text = re.sub(r"(?<=://)[^\s,]*@", "***@", text)
    return re.sub(r"(\w://[^\s,?#]*)[?#][^\s,)'\"]*", r"\1?***", text)


def printable(text: str) -> str:
    """Write out what a terminal would obey, such as escape sequences and line ends."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def brief(value: object) -> str:
    """Return the text of a value for a message, which a hostile one must not fill."""
    text = repr(value)
    return text if len(text) <= _MOST else f"{text[: _MOST - 3]}…"


def counted(number: int, noun: str) -> str:
    """Join a number and its noun: '1 gene', '2 genes'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def megabytes(size: int) -> str:
    """Return a size in bytes as text."""
    return f"{size / 1e6:.1f} MB"
