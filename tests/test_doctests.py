"""The examples of README and docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "decode_zoo").rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name):
    pytest.importorskip("jinja2")
    found = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS)
    assert (found.failed, found.attempted > 0) == (0, True)


def test_the_readme_shows_what_is_printed():
    path = str(ROOT / "README.md")
    found = doctest.testfile(path, module_relative=False, optionflags=OPTIONS, encoding="utf-8")
    assert (found.failed, found.attempted) == (0, 4)
