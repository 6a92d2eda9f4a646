"""JSON and YAML from strangers; registries, manifests and feature sets have their own tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from decode_zoo.core.errors import UsageError
from decode_zoo.core.schema import from_plain, line_of, parse_json, parse_yaml

# Quotes, backslashes and what looks like an escape are what counting of quotes could trip over.
TEXT = st.text(
    st.sampled_from('ab"\\:,{}[]\n\tu0é…😀') | st.characters(codec="ascii", min_codepoint=32)
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(PLAIN, st.booleans(), st.sampled_from([None, 1]))
def test_json_is_read_as_the_standard_library_reads_it(value, ascii_only, indent):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    if "\x7f" not in text and "\\u007f" not in text:
        assert parse_json(text.encode()) == json.loads(text) == value


@pytest.mark.fault
@given(st.dictionaries(TEXT, PLAIN, min_size=1), st.data())
def test_a_key_that_is_there_twice_is_refused(value, data):
    twin = data.draw(st.sampled_from(sorted(value)))
    members = [*value.items(), (twin, data.draw(PLAIN))]
    text = ",".join(f"{json.dumps(key)}:{json.dumps(item)}" for key, item in members)
    with pytest.raises(ValueError, match=r"occurs twice|control characters"):
        parse_json(b'{"outer":[{%s}]}' % text.encode())


@pytest.mark.fault
@pytest.mark.parametrize(
    "text",
    [b"\x7f", b"\xc2\x85", rb"\u001b", rb"\b", rb"\r", rb"\\\u0000", rb"\u009B"],
)
def test_control_characters_are_refused_however_written(text):
    with pytest.raises(ValueError, match="control characters"):
        parse_json(b'{"a": ["' + text + b'"]}')
    assert parse_json(rb'["\\b", "\\u001b", "\u00e9\n\t"]') == ["\\b", "\\u001b", "é\n\t"]


@dataclass(frozen=True)
class Inner:
    size: int
    scale: float = 1.0

    def __post_init__(self):
        if self.size < 0:
            raise UsageError("size: is negative")


@dataclass(frozen=True)
class Outer:
    kind: Literal["x", "y"]
    parts: Mapping[str, tuple[Inner, ...]]
    names: tuple[str, ...] = ()


GOOD: dict[str, Any] = {"kind": "x", "parts": {"a.b": [{"size": 1, "scale": 2}]}}


def test_plain_values_become_dataclasses():
    assert from_plain(Outer, GOOD) == Outer("x", {"a.b": (Inner(1, 2.0),)})
    assert from_plain(Outer, {**GOOD, "parts": {}}, "here").names == ()


@pytest.mark.fault
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "z"}, "kind: invalid enum value 'z'"),
        ({"more": 1}, "more: unknown key 'more'"),
        ({"names": ["a", 1]}, r"names\[1\]: expected text, got a whole number"),
        ({"parts": []}, "parts: expected a mapping of keys to values, got a list"),
        ({"parts": {"a": [{"size": 1}, {}]}}, r"parts\.a\[1\]: .*missing required field `size`"),
        ({"parts": {"a": [{"size": 1, "x": 2}]}}, r"parts\.a\[0\]\.x: unknown key"),
        ({"parts": {"a": [{"size": True}]}}, r"size: expected a whole number, got true or false"),
        ({"parts": {"a": [{"size": 1.0}]}}, r"size: expected a whole number, got a number"),
        ({"parts": {"a": [{"size": 1, "scale": "2"}]}}, "scale: expected a number, got text"),
        ({"parts": {"a": [{"size": -1}]}}, r"parts\.a\[0\]\.size: is negative"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(change, said):
    with pytest.raises(ValueError, match=said):
        from_plain(Outer, {**GOOD, **change})
    with pytest.raises(ValueError, match="the key 'kind' is missing"):
        from_plain(Outer, {"parts": {}})


@given(
    st.recursive(
        st.integers(0, 9) | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)
    )
)
def test_yaml_is_read_as_the_safe_loader_reads_what_is_quoted(value):
    text = json.dumps(value, indent=1, ensure_ascii=False)
    if text.count("{") + text.count("[") < 12 and "\x7f" not in text:
        assert parse_yaml(text.encode()) == yaml.safe_load(text)


def test_lines_of_places_are_found_also_of_keys_with_dots():
    found = parse_yaml(b"a:\n  b.c:\n    d: [1,\n      2]\n  b: 3\n")
    places = {"a": 1, "a.b.c": 2, "a.b.c.d[1]": 3, "a.b": 5, "a.b.c.none": 2, "none": None}
    assert {place: line_of(found, place) for place in places} == places
