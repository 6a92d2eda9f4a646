"""JSON and YAML from strangers: strict text, checked against the types of dataclasses."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import yaml

from decode_zoo.core.errors import DecodeZooError, InputError

__all__ = ["from_plain", "line_of", "parse_json", "parse_yaml"]

T = TypeVar("T")

_ESCAPE = re.compile(rb"\\.", re.DOTALL)
# What a terminal would obey: DEL, C1 characters in UTF-8, and escapes of control characters (a
# backslash that another one escapes begins none).
_C1 = re.compile(rb"\xc2[\x80-\x9f]")
_ESCAPED_CONTROL = re.compile(
    rb"(?<!\\)(?:\\\\)*\\(?:[bfr]|u00(?:[189][0-9a-fA-F]|0[0-8b-fB-F]|7[fF]))"
)
# How msgspec names types, and how its messages are told.
_TYPE = re.compile("`([a-z]+)`")
_NAMES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "a mapping of keys to values",
    "array": "a list",
    "null": "nothing",
}
_DEPTH = 12
_LONGEST_KEY = 200
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WHOLE_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def parse_json(text: bytes) -> Any:
    """Parse JSON; refuse with a ValueError what its standard has not, and what could mislead.

    That is: NaN, half a character, a key twice in one object, control characters, deep nesting.
    """
    text = text.removeprefix(codecs.BOM_UTF8)
    try:
        found = msgspec.json.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    # Expressions that begin with no fixed letter are slow, so only where there is a backslash.
    if b"\x7f" in text or _C1.search(text) or (b"\\" in text and _ESCAPED_CONTROL.search(text)):
        raise ValueError("it holds control characters")
    # Of two equal keys msgspec drops one, and its quotes with it.
    if _count_quotes(msgspec.json.encode(found)) < _count_quotes(text):
        json.loads(text, object_pairs_hook=_refuse_twins)
    return found


def _count_quotes(text: bytes) -> int:
    return _ESCAPE.sub(b"", text).count(b'"')


def _refuse_twins(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"the key {key[:60]!r} occurs twice in one object")
        seen.add(key)


def from_plain(kind: type[T], value: object, where: str = "") -> T:
    """Make an object of a type from what JSON or YAML has.

    Types are those of msgspec. A dataclass takes no unknown keys, and as a field's value also a
    dataclass that was made before. A ValueError names the place and what is wrong there:
    ``inputs.rna.scale[3]: expected a number, got text``.
    """
    made: Any = None
    if isinstance(value, dict) and is_dataclass(kind):
        for key in value:
            if key not in kind.__dataclass_fields__:
                raise ValueError(f"{_join(where, key)[:200]}: unknown key {key[:60]!r}")
        if not _is_flat(kind):
            for item in fields(kind):
                if item.name not in value and item.default is item.default_factory is MISSING:
                    raise ValueError(f"{where or 'it'}: the key {item.name!r} is missing")
            hints = _hints(kind)
            made = {
                key: item if is_dataclass(item) else from_plain(hints[key], item, _join(where, key))
                for key, item in value.items()
            }
    try:
        if made is not None:
            return kind(**made)
        if isinstance(value, (dict, list)) and not _is_flat(kind):
            return _items(kind, value, where)  # type: ignore[no-any-return]
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        said, _, inside = str(error).partition(" - at `$")
        place = f"{where}{inside.rstrip('`')}".removeprefix(".") or "it"
        said = _TYPE.sub(lambda name: _NAMES.get(name[1], name[0]), said)
        raise ValueError(f"{place}: {said[0].lower()}{said[1:]}") from None
    except DecodeZooError as error:  # of a dataclass that checks itself
        # Its message may begin with the name of a field.
        is_field = error.message.partition(":")[0] in getattr(kind, "__dataclass_fields__", ())
        raise ValueError(f"{where or 'it'}{'.' if is_field else ': '}{error.message}") from None


def _items(kind: Any, value: dict[str, Any] | list[Any], where: str) -> Any:
    """Make a mapping or tuple that holds dataclasses."""
    inner = get_args(kind)
    if (made := _at_once(kind, inner, value)) is not None:
        return made
    if isinstance(value, dict) and issubclass(get_origin(kind) or kind, Mapping):
        return {
            from_plain(inner[0], key, where): from_plain(inner[1], item, _join(where, key))
            for key, item in value.items()
        }
    if isinstance(value, list) and get_origin(kind) is tuple:
        return tuple(from_plain(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    return msgspec.convert(value, kind)


def _at_once(kind: Any, inner: tuple[Any, ...], value: object) -> Any:
    """Make a tuple of many plain dataclasses in one go; None if that must be done one by one."""
    if not (inner and isinstance(value, list) and is_dataclass(inner[0]) and _is_flat(inner[0])):
        return None
    known = inner[0].__dataclass_fields__.keys()
    if all(isinstance(item, dict) and item.keys() <= known for item in value):
        with suppress(msgspec.ValidationError, DecodeZooError):  # one by one says where it is wrong
            return msgspec.convert(value, kind)
    return None


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


_hints: Callable[[Any], dict[str, Any]] = lru_cache(get_type_hints)


def _flat(kind: Any) -> bool:
    """Return whether no dataclass is within, so that msgspec alone can make the object."""
    parts = _hints(kind).values() if is_dataclass(kind) else get_args(kind)
    return all(not is_dataclass(part) and _is_flat(part) for part in parts)


_is_flat: Callable[[Any], bool] = lru_cache(_flat)


class _Mapping(dict[str, Any]):
    """A mapping in YAML, with the line of each key, counted from 1."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


def parse_yaml(data: bytes) -> Any:
    """Read YAML in UTF-8: mappings with text as keys, lists, texts, whole numbers, truths, null.

    What YAML can do beyond serves only those who want to break a reader: tags that make objects,
    aliases that grow a line into gigabytes, the later of two equal keys winning in silence, ``no``
    meaning false. All of that is an InputError with its line. Depth is bounded before anything is
    built; the size of the text is the caller's business. `line_of` finds the line of a value.
    """
    try:
        text = data.decode("utf-8")
        events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        next(events)  # the stream begins
        if isinstance(next(events), yaml.StreamEndEvent):
            return None
        found = _value(events, next(events), 0)
        next(events)  # the document ends
        more = next(events)
        if not isinstance(more, yaml.StreamEndEvent):
            raise InputError("holds more than one YAML document", line=_line(more))
    except UnicodeDecodeError as error:
        raise InputError(
            "is not UTF-8 text",
            line=data.count(b"\n", 0, error.start) + 1,
            remedy="Save it as UTF-8.",
        ) from None
    except yaml.MarkedYAMLError as error:
        line = getattr(error.problem_mark, "line", -1) + 1 or None
        raise InputError(f"not valid YAML: {error.problem}", line=line) from None
    except yaml.YAMLError as error:  # of unprintable characters
        raise InputError(f"not valid YAML: {error}") from None
    return found


def line_of(found: object, place: str) -> int | None:
    """Return the line of a place such as ``artifacts.x-v1.files``, or of what it is in."""
    line, rest = None, re.sub(r"\[[^]]*\]", "", place) + "."
    while isinstance(found, _Mapping):
        # Keys may have dots in them.
        key = max((key for key in found if rest.startswith(f"{key}.")), key=len, default=None)
        if key is None:
            break
        line, found, rest = found.lines[key], found[key], rest[len(key) + 1 :]
    return line


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _value(events: Iterator[Any], event: Any, depth: int) -> Any:
    """Build a value from its first event and those that follow."""
    line = _line(event)
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise InputError(
            "anchors (&) and aliases (*) are not allowed",
            line=line,
            remedy="Write the text out where it is meant.",
        )
    if event.tag is not None:
        raise InputError("tags (!) are not allowed", line=line)
    if isinstance(event, yaml.ScalarEvent):
        text = event.value
        if event.style:  # what is quoted is text
            return text
        return int(text) if _WHOLE_NUMBER.fullmatch(text) else _WORDS.get(text, text)
    if depth == _DEPTH:
        raise InputError(f"is nested more than {_DEPTH} levels deep", line=line)
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(_value(events, event, depth + 1))
        return items
    found = _Mapping()
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        line = _line(event)
        key = _value(events, event, depth + 1)
        if not isinstance(key, str):
            shown = "a mapping or list" if isinstance(key, (dict, list)) else repr(key)
            raise InputError(f"the key {shown} must be text; put it in quotes", line=line)
        if len(key) > _LONGEST_KEY:
            raise InputError(f"a key of {len(key)} characters, {key[:60]!r}…", line=line)
        if key in found:
            raise InputError(f"duplicate key {key[:60]!r}", line=line)
        found.lines[key] = line
        found[key] = _value(events, next(events), depth + 1)
    return found
