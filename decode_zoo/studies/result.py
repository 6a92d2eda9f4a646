"""Findings: what a study found, as a folder of tables and pictures, and as a section of a page."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import pandas as pd

from decode_zoo.core.errors import InputError
from decode_zoo.core.files import atomic_dir, read_at_most
from decode_zoo.core.provenance import plain
from decode_zoo.core.schema import from_plain, parse_json
from decode_zoo.core.tables import write_file
from decode_zoo.pages.html import check_packages, number, render, svg_file, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Format = Literal["tsv", "parquet"]

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


class StudyResult(Protocol):
    """What every study returns."""

    def fill(self, folder: Path, table_format: Format = "tsv") -> None:
        """Write tables, pictures, summary and page into a folder."""

    def summary(self) -> list[str]:
        """Return the lines that the command line prints after the work."""


@dataclass(frozen=True, repr=False)
class Findings:
    """What a study found; names of tables and pictures are those of the files, without suffix."""

    study: str
    title: str
    facts: Mapping[str, str]
    notes: tuple[str, ...]
    tables: Mapping[str, tuple[str, pd.DataFrame]]  # name → caption, table
    pictures: Mapping[str, tuple[str, Figure]] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)  # the summary's, with its provenance
    lines: Sequence[str] = ()  # what the command line prints

    def __repr__(self) -> str:
        """Return a line that says what this is."""
        return f"Findings({self.study}: {self.title}; {', '.join(self.tables)})"

    def summary(self) -> list[str]:
        """Return the lines that the command line prints after the work."""
        return list(self.lines)

    def write(self, folder: str | os.PathLike[str], table_format: Format = "tsv") -> None:
        """Write all of it into a new folder, or nothing.

        Raises UsageError if the folder exists and is not empty, or cannot be made, and
        MissingExtraError if a package is missing (`check_extras`).
        """
        check_extras(table_format)
        with atomic_dir(folder) as made:
            self.fill(made, table_format)

    def fill(self, folder: Path, table_format: Format = "tsv") -> None:
        """Write tables, pictures, ``summary.json`` and ``index.html`` into a folder."""
        record, suffix = plain(self.numbers), f".{table_format}"
        for name, (_, table) in self.tables.items():
            write_file(table, folder / f"{name}{suffix}", record, suffix)
        pictures = {f"{name}.svg": svg_file(figure) for name, (_, figure) in self.pictures.items()}
        for file, picture in pictures.items():
            (folder / file).write_bytes(picture)
        section = section_of(
            self.study,
            self.title,
            self.facts,
            self.notes,
            {f"{name}.svg": caption for name, (caption, _) in self.pictures.items()},
            {f"{name}{suffix}": table for name, table in self.tables.items()},
        )
        write_summary(folder, section, record)
        made = record.get("provenance", {})
        page = render("study.html.j2", made, pictures=pictures, section=section)
        write_text(folder / "index.html", page)


def check_extras(table_format: Format = "tsv", *packages: str) -> None:
    """Raise MissingExtraError before the work if a package of a study or its page is missing."""
    if table_format not in get_args(Format):
        raise ValueError(f"tables are written as {' or '.join(get_args(Format))}")
    check_packages("studies", *packages, "matplotlib", "jinja2")
    if table_format == "parquet":
        check_packages("tables", "pyarrow")


def section_of(
    study: str,
    title: str,
    facts: Mapping[str, str],
    notes: tuple[str, ...],
    pictures: Mapping[str, str],
    tables: Mapping[str, tuple[str, pd.DataFrame]],
) -> Section:
    """Describe a folder's pictures (file → caption) and tables (file → caption, table)."""
    return Section(
        study,
        title,
        dict(facts),
        notes,
        tuple(ShownPicture(*item) for item in pictures.items()),
        tuple(_shown(file, *table) for file, table in tables.items()),
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
