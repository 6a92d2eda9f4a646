"""YAML as a registry needs it: mappings, lists and plain values, each with its line.

YAML can do more than a list of files has any use for, and most of it serves only those who want
to break the reader: tags that make objects, aliases that grow a line into gigabytes, the later of
two equal keys winning in silence, ``no`` meaning false. All of that is an error here. The text is
read as a stream of events, so that depth and size are bounded before anything is built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from decode_zoo.errors import InputError

__all__ = ["LIMIT", "Document", "parse"]

# Bytes; a registry of some thousand artifacts.
LIMIT = 1 << 20
_DEPTH = 12
_LONGEST_KEY = 200
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WHOLE_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)

# For each key of a mapping its line, counted from 1, and the lines in its value. Places written
# out would take as much memory as the depth allows times the size of the text.
Lines = Mapping[str, "tuple[int, Lines]"]
_NONE: Lines = {}


@dataclass(frozen=True)
class Document:
    """What a text says.

    Attributes
    ----------
    value : dict, list, str, int, bool or None
        Keys of mappings are text.
    lines : Lines
        Of the keys of the outermost mapping.
    """

    value: Any
    lines: Lines

    def line(self, place: str) -> int | None:
        """Return the line of a place, or of what it is in; None for the whole text.

        Parameters
        ----------
        place : str
            Keys with dots between them (``artifacts.x-v1.files``).
        """
        found, lines, rest = None, self.lines, f"{place}."
        while key := max((k for k in lines if rest.startswith(f"{k}.")), key=len, default=None):
            found, lines = lines[key]
            rest = rest[len(key) + 1 :]
        return found


@dataclass
class _Open:
    """A mapping or list that is being filled."""

    value: dict[str, Any] | list[Any]
    lines: dict[str, tuple[int, Lines]] = field(default_factory=dict)
    key: str | None = None


def parse(data: bytes) -> Document:
    """Read a text in UTF-8 that holds one document.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    Document

    Raises
    ------
    InputError
        If it is anything else: names the line, not the file, which the caller knows.
    """
    reader = _Reader()
    try:
        for event in yaml.parse(_decode(data), Loader=_LOADER):
            reader.take(event)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise InputError(f"not valid YAML: {error.problem}", line=line) from None
    except yaml.YAMLError as error:
        raise InputError(f"not valid YAML: {error}") from None
    return Document(reader.root, reader.lines)


def _decode(data: bytes) -> str:
    if len(data) > LIMIT:
        raise InputError(f"is larger than {LIMIT} bytes, which no registry is")
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise InputError(
            "begins with a byte order mark", line=1, remedy="Save it as UTF-8 without one."
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError("is not UTF-8 text", line=line, remedy="Save it as UTF-8.") from None
    if odd := _UNPRINTABLE.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        raise InputError(f"holds the unprintable character {odd[0]!r}", line=line)
    return text


class _Reader:
    """Builds values from events."""

    def __init__(self) -> None:
        self.root: Any = None
        self.lines: Lines = {}
        self._open: list[_Open] = []
        self._documents = 0

    def take(self, event: Any) -> None:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise InputError(
                "anchors (&) and aliases (*) are not allowed",
                line=line,
                remedy="Write the text out where it is meant.",
            )
        if getattr(event, "tag", None) is not None:
            raise InputError("tags (!) are not allowed", line=line)
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise InputError("holds more than one YAML document", line=line)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._begin({} if isinstance(event, yaml.MappingStartEvent) else [], line)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._open.pop()
        elif isinstance(event, yaml.ScalarEvent):
            # Only what is not quoted can be a number or a truth.
            self._add(event.value if event.style else _plain(event.value), line)

    def _begin(self, value: dict[str, Any] | list[Any], line: int) -> None:
        if len(self._open) == _DEPTH:
            raise InputError(f"is nested more than {_DEPTH} levels deep", line=line)
        opened = _Open(value)
        self._add(value, line, opened.lines)
        self._open.append(opened)

    def _add(self, value: Any, line: int, lines: Lines = _NONE) -> None:
        if not self._open:
            self.root, self.lines = value, lines
            return
        top = self._open[-1]
        if isinstance(top.value, list):
            top.value.append(value)
        elif top.key is not None:
            top.value[top.key] = value
            top.lines[top.key] = top.lines[top.key][0], lines
            top.key = None
        elif not isinstance(value, str):
            shown = "a mapping or list" if isinstance(value, (dict, list)) else repr(value)
            raise InputError(f"the key {shown} must be text; put it in quotes", line=line)
        elif len(value) > _LONGEST_KEY:
            raise InputError(
                f"a key of {len(value)} characters (at most {_LONGEST_KEY}), "
                f"beginning with {value[:60]!r}",
                line=line,
            )
        elif value in top.value:
            raise InputError(f"duplicate key {value[:60]!r}", line=line)
        else:
            top.key = value
            top.lines[value] = line, _NONE


def _plain(text: str) -> str | int | bool | None:
    """Value of a text that is not quoted; all but whole numbers, truths and null is text."""
    if text in _NULLS:
        return None
    if text in _TRUTHS:
        return _TRUTHS[text]
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else text
