"""Texts: what may be shown, without secrets and control characters, and what names are allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape

from decode_zoo.core.errors import InputError

__all__ = [
    "as_html",
    "brief",
    "check_id",
    "check_versioned",
    "counted",
    "masked",
    "megabytes",
    "output_fault",
    "printable",
    "track_fault",
]

_MOST = 80

# Columns that tables have beside the outputs.
_RESERVED = frozenset({"gene_id", "transcript_id", "symbol", "status"})
_LONGEST = 200
_VERSIONED = re.compile(r".+-v[1-9][0-9]{0,8}")
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
# Windows opens a device instead of a file of such a name, whatever its suffix.
DEVICE_NAME = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


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


def as_html(title: str, facts: Mapping[str, object], table: str = "") -> str:
    """Return a heading and facts as HTML for a notebook, perhaps above a table in HTML."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(key)}</th>"
        f"<td style='text-align:left'>{escape(str(value))}</td></tr>"
        for key, value in facts.items()
    )
    return f"<div><b>{escape(title)}</b><table>{rows}</table>{table}</div>"


def counted(number: int, noun: str) -> str:
    """Join a number and its noun: '1 gene', '2 genes'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def megabytes(size: int) -> str:
    """Return a size in bytes as text."""
    return f"{size / 1e6:.1f} MB"


def track_fault(name: str) -> str | None:
    """Return why a name cannot be that of a track, to stand behind "its name"; None if it can."""
    if not name:
        return "is empty"
    if len(name) > _LONGEST:
        return f"has more than {_LONGEST} characters"
    if not name.isprintable():
        return "holds characters that cannot be printed, such as tabs and line ends"
    if name != name.strip():
        return "begins or ends with a blank"
    return None


def output_fault(name: str) -> str | None:
    """Return why a name cannot be that of an output; None if it can (as `track_fault`)."""
    if "," in name:
        return "holds a comma, at which lists of outputs are split"
    if name in _RESERVED:
        return "is that of another column of the tables"
    return track_fault(name)


def check_id(value: object, where: str = "id") -> None:
    """Raise InputError, which begins with `where`, for what is no id."""
    if not (isinstance(value, str) and _ID.fullmatch(value)) or DEVICE_NAME.fullmatch(value):
        raise InputError(
            f"{where}: {brief(value)} is no id (lowercase letters, digits, '-', first no '-'; "
            "at most 100, and no name of a device)"
        )


def check_versioned(value: object, where: str = "id") -> None:
    """Raise InputError for what is no id with its version at the end, as each published one has.

    Without it, a name could be taken for the newest version of another.
    """
    check_id(value, where)
    if not _VERSIONED.fullmatch(str(value)):
        raise InputError(
            f"{where}: the id {brief(value)} has no version (-v1 or higher)",
            remedy=f"Call it {value}-v1.",
        )
