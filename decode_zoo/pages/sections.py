"""Sections: what a page shows of a study, kept in its folder for reports."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from decode_zoo.core.errors import InputError
from decode_zoo.core.files import read_at_most
from decode_zoo.core.provenance import plain
from decode_zoo.core.schema import from_plain, parse_json
from decode_zoo.pages.html import number, write_text
from decode_zoo.studies.result import StudyResult

__all__ = ["Section", "ShownPicture", "ShownTable", "read_section", "section_of", "write_summary"]

FORMAT_VERSION = 1
SUMMARY = "summary.json"
_SHOWN, _COLUMNS = 20, 12  # rows and columns of a table that a page shows; the file has all
_MOST = 16 << 20  # bytes of a summary and of a picture


@dataclass(frozen=True)
class ShownTable:
    """The first rows and columns of a table, as texts; `n_rows` and `n_columns` are the file's."""

    file: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_rows: int
    n_columns: int


@dataclass(frozen=True)
class ShownPicture:
    """An SVG picture beside the page."""

    file: str
    caption: str


@dataclass(frozen=True)
class Section:
    """What a page shows of a study: a few facts, paragraphs, pictures and tables."""

    study: str  # verb, such as knockout
    title: str
    facts: Mapping[str, str]
    notes: tuple[str, ...]
    pictures: tuple[ShownPicture, ...]
    tables: tuple[ShownTable, ...]


def section_of(result: StudyResult, captions: Mapping[str, str], suffix: str) -> Section:
    """Describe a result and its pictures (file → caption); `suffix` is of the files of tables."""
    return Section(
        result.study,
        result.title,
        dict(result.facts),
        result.notes,
        tuple(ShownPicture(*item) for item in captions.items()),
        tuple(_shown(f"{name}{suffix}", *table) for name, table in result.tables.items()),
    )


def write_summary(folder: Path, section: Section, numbers: Mapping[str, Any]) -> None:
    """Write ``summary.json``: the numbers of a study, and its section of a page."""
    summary = {"format_version": FORMAT_VERSION, **numbers, "section": plain(asdict(section))}
    write_text(folder / SUMMARY, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")


def read_section(folder: str | os.PathLike[str]) -> tuple[Section, dict[str, bytes]]:
    """Read a study's section and its pictures by file; somebody may have changed the folder.

    Raises InputError if it is no folder of a study, or a picture is missing, too large or no SVG.
    """
    path = Path(folder) / SUMMARY
    remedy = "Name a folder that 'decode-zoo study' made."
    if not path.is_file():
        raise InputError(
            f"is no folder of a study: it has no {SUMMARY}", path=folder, remedy=remedy
        )
    try:
        found = parse_json(read_at_most(path, _MOST))
        if not isinstance(found, dict) or "section" not in found:
            raise ValueError("it has no section for a page")
        section = from_plain(Section, found["section"], "section")
    except ValueError as error:
        raise InputError(f"is not what a study wrote: {error}", path=path, remedy=remedy) from None
    pictures = {}
    for picture in section.pictures:
        if Path(picture.file).name != picture.file or not picture.file.endswith(".svg"):
            raise InputError(f"names {picture.file!r} as a picture", path=path, remedy=remedy)
        beside = path.with_name(picture.file)
        data = read_at_most(beside, _MOST)
        if not data.lstrip().startswith((b"<svg", b"<?xml")):
            raise InputError("is no SVG picture", path=beside, remedy=remedy)
        pictures[picture.file] = data
    return section, pictures


def _shown(file: str, caption: str, table: pd.DataFrame) -> ShownTable:
    first = table.iloc[:_SHOWN, :_COLUMNS]
    cells = [[_cell(value) for value in first[column]] for column in first]
    rows = tuple(tuple(row) for row in zip(*cells, strict=True))
    return ShownTable(file, caption, tuple(map(str, first.columns)), rows, *table.shape)


def _cell(value: object) -> str:
    """Write a cell as a page shows it."""
    if value is None or value is pd.NA:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value, ".4g")
    return str(value)
