"""JSON from strangers: strict text, checked against the types of dataclasses."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from decode_zoo.errors import UsageError

__all__ = ["from_plain", "parse_json"]

T = TypeVar("T")

_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
# Beyond that, a float no longer tells whole numbers apart, and NumPy's integers end soon after.
_LARGEST = 1 << 53
# What a terminal would obey.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def parse_json(text: bytes) -> Any:
    """Parse JSON as its standard has it.

    Parameters
    ----------
    text : bytes

    Raises
    ------
    ValueError
        If it is not JSON in UTF-8, names a key twice, holds NaN, infinity or half a character, or
        is nested too deeply.
    """
    try:
        found = json.loads(
            text.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
        if b"\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()  # half a character cannot be printed
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the key {name[:60]!r} occurs twice in one object")
            seen.add(name)
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number that JSON has")


def from_plain(kind: type[T], value: object, where: str = "") -> T:
    """Make an object of a type from what JSON has.

    Parameters
    ----------
    kind : type
        ``str``, ``int``, ``float``, ``bool``, ``Any``, a ``Literal``, ``X | None``, a ``tuple[X,
        ...]``, a list or mapping of such, or a dataclass with such fields.
    value : object
        What was read.
    where : str
        Where in the document, for messages: ``inputs.rna.scale``.

    Raises
    ------
    ValueError
        If the value is not of the type: a key is missing or unknown, a text is a number, a number
        is not finite or too large; says where.
    """
    return _make(kind, value, where or "it")  # type: ignore[no-any-return]


def _make(kind: Any, value: object, where: str) -> Any:
    if kind is Any:
        return value
    if kind in _NAMES:
        return _scalar(kind, value, where)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        if not (isinstance(value, str) and value in inner):
            raise ValueError(f"{where} must be one of {', '.join(inner)}, not {_shown(value)}")
        return value
    if is_dataclass(value) and isinstance(value, inner or kind):  # made before, by its kind
        return value
    if origin in (Union, types.UnionType):
        (inner_kind,) = (part for part in inner if part is not type(None))
        return None if value is None else _make(inner_kind, value, where)
    if is_dataclass(kind):
        return _record(kind, value, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        given = _checked(dict, "an object", value, where)
        if _all_are(inner[0], given) and _all_are(inner[1], given.values()):
            return given
        return {
            _make(inner[0], key, f"a key of {where}"): _make(inner[1], item, f"{where}.{key}")
            for key, item in given.items()
        }
    if isinstance(origin, type) and issubclass(origin, Sequence):
        items = _items(inner[0], _checked(list, "a list", value, where), where)
        return items if origin is list else tuple(items)
    raise TypeError(f"{kind!r} has no counterpart in JSON")


def _items(kind: Any, values: list[Any], where: str) -> list[Any]:
    if _all_are(kind, values):
        return values
    return [_make(kind, item, f"{where}[{i}]") for i, item in enumerate(values)]


def _all_are(kind: Any, values: Collection[Any]) -> bool:
    """Tell at once whether all of a long column is as it should be; if not, look at each."""
    if kind not in (str, int) or not set(map(type, values)) <= {kind}:
        return False
    if kind is str:
        return not _CONTROL.search("".join(values))
    return -_LARGEST <= min(values, default=0) <= max(values, default=0) <= _LARGEST


def _scalar(kind: type, value: object, where: str) -> Any:
    allowed = (int, float) if kind is float else (kind,)
    if type(value) not in allowed:
        raise ValueError(f"{where} must be {_NAMES[kind]}, not {_shown(value)}")
    if isinstance(value, str) and _CONTROL.search(value):
        raise ValueError(f"{where} holds control characters")
    if isinstance(value, (int, float)) and not -_LARGEST <= value <= _LARGEST:
        raise ValueError(f"{where} is out of range")
    if kind is float and isinstance(value, int):
        return float(value)
    return value


def _record(kind: Any, value: object, where: str) -> Any:
    given = _checked(dict, "an object", value, where)
    known, required = _fields_of(kind)
    for key in given:
        if key not in known:
            raise ValueError(f"{where} has an unknown key {key[:60]!r}")
    for key in required:
        if key not in given:
            raise ValueError(f"{where} lacks the key {key!r}")
    inside = "" if where == "it" else f"{where}."
    made = {key: _make(known[key], item, inside + key) for key, item in given.items()}
    try:
        return kind(**made)
    except UsageError as error:  # of a dataclass that checks itself
        raise ValueError(f"{where}: {error.message}") from None


@lru_cache
def _fields_of(kind: type) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Types of a dataclass's fields, and the names of those without a default."""
    hints = get_type_hints(kind)
    members = fields(kind)
    required = tuple(
        item.name for item in members if item.default is item.default_factory is MISSING
    )
    return {item.name: hints[item.name] for item in members}, required


def _checked(kind: type, name: str, value: object, where: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{where} must be {name}, not {_shown(value)}")
    return value


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
