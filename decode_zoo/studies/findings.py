"""Findings: what a study found, as a folder of tables and pictures, and as a section of a page."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import pandas as pd

from decode_zoo.errors import InputError, MissingExtraError
from decode_zoo.files import atomic_dir, read_at_most
from decode_zoo.provenance import plain
from decode_zoo.schema import from_plain, parse_json
from decode_zoo.tables import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "SUMMARY",
    "Findings",
    "Format",
    "Section",
    "ShownPicture",
    "ShownTable",
    "check_extras",
    "read_section",
    "section_of",
    "write_summary",
]

Format = Literal["tsv", "parquet"]

FORMAT_VERSION = 1
SUMMARY = "summary.json"
# Rows and columns of a table that a page shows; the file has all.
_SHOWN, _COLUMNS = 20, 12
_PACKAGES = ("matplotlib", "jinja2")
# Of a summary and of a picture, in bytes.
_MOST = 16 << 20


@dataclass(frozen=True)
class ShownTable:
    """The first rows and columns of a table, as texts.

    Attributes
    ----------
    file : str
        Beside the page.
    caption : str
    columns : tuple of str
    rows : tuple of tuple of str
    n_rows, n_columns : int
        Of the file.
    """

    file: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_rows: int
    n_columns: int


@dataclass(frozen=True)
class ShownPicture:
    """A picture.

    Attributes
    ----------
    file : str
        SVG, beside the page.
    caption : str
    """

    file: str
    caption: str


@dataclass(frozen=True)
class Section:
    """What a page says of a study.

    Attributes
    ----------
    study : str
        Verb, such as ``knockout``.
    title : str
    facts : Mapping of str to str
        Name → value, the few that stand at the top.
    notes : tuple of str
        Paragraphs: what was done, and how to read it.
    pictures : tuple of ShownPicture
    tables : tuple of ShownTable
    """

    study: str
    title: str
    facts: Mapping[str, str]
    notes: tuple[str, ...]
    pictures: tuple[ShownPicture, ...]
    tables: tuple[ShownTable, ...]


@dataclass(frozen=True, repr=False)
class Findings:
    """What a study found.

    Attributes
    ----------
    study, title, facts, notes
        As of `Section`.
    tables : Mapping of str to (str, DataFrame)
        Name of the file, without suffix → caption, table.
    pictures : Mapping of str to (str, Figure)
        The same of pictures.
    numbers : Mapping of str to Any
        What else the summary says, ``provenance`` among it.
    """

    study: str
    title: str
    facts: Mapping[str, str]
    notes: tuple[str, ...]
    tables: Mapping[str, tuple[str, pd.DataFrame]]
    pictures: Mapping[str, tuple[str, Figure]] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return a line that says what this is."""
        return f"Findings({self.study}: {self.title}; {', '.join(self.tables)})"

    def write(self, folder: str | os.PathLike[str], table_format: Format = "tsv") -> None:
        """Write all of it into a new folder, or nothing.

        Parameters
        ----------
        folder : path-like
        table_format : {"tsv", "parquet"}

        Raises
        ------
        UsageError
            If the folder exists and is not empty, or cannot be made.
        MissingExtraError
            If a package is missing (`check_extras`).
        """
        check_extras(table_format)
        with atomic_dir(folder) as made:
            self.fill(made, table_format)

    def fill(self, folder: Path, table_format: Format = "tsv") -> None:
        """Write tables, pictures, ``summary.json`` and ``index.html`` into a folder."""
        from decode_zoo.studies.page import render

        record, suffix = plain(self.numbers), f".{table_format}"
        for name, (_, table) in self.tables.items():
            ids = [str(column) for column in table if not _is_numeric(table[column])]
            write_file(table, folder / f"{name}{suffix}", record, suffix, id_columns=ids)
        pictures = {f"{name}.svg": drawn for name, drawn in self.pictures.items()}
        svgs = _write_pictures(folder, {file: figure for file, (_, figure) in pictures.items()})
        section = Section(
            self.study,
            self.title,
            dict(self.facts),
            self.notes,
            tuple(ShownPicture(file, caption) for file, (caption, _) in pictures.items()),
            tuple(_shown(f"{name}{suffix}", *table) for name, table in self.tables.items()),
        )
        write_summary(folder, section, record)
        page = render(section, svgs, record.get("provenance", {}))
        # A name from the command line may hold bytes that are no text.
        (folder / "index.html").write_bytes(page.encode("utf-8", errors="replace"))


def check_extras(table_format: Format = "tsv", *packages: str) -> None:
    """Refuse to begin what could not be ended.

    Parameters
    ----------
    table_format : {"tsv", "parquet"}
    *packages : str
        Packages that the study needs beside those of its page.

    Raises
    ------
    MissingExtraError
        If a package is not installed.
    """
    if table_format not in get_args(Format):
        raise ValueError(f"tables are written as {' or '.join(get_args(Format))}")
    for package in (*packages, *_PACKAGES):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "studies")
    if table_format == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow", "tables")


def section_of(
    study: str,
    title: str,
    facts: Mapping[str, str],
    notes: tuple[str, ...],
    pictures: Mapping[str, str],
    tables: Mapping[str, tuple[str, pd.DataFrame]],
) -> Section:
    """Describe what lies in a folder that is not written by `Findings`.

    Parameters
    ----------
    study, title, facts, notes
        As of `Section`.
    pictures : Mapping of str to str
        File → caption.
    tables : Mapping of str to (str, DataFrame)
        File → caption, table.
    """
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
    text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
    (folder / SUMMARY).write_bytes(text.encode("utf-8", errors="replace"))


def read_section(folder: str | os.PathLike[str]) -> tuple[Section, dict[str, bytes]]:
    """Read what a study's folder has to say, as somebody may have changed it.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    Section
    dict of str to bytes
        Its pictures by file.

    Raises
    ------
    InputError
        If it is no folder of a study, or a picture is missing, too large or no SVG.
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
        data = read_at_most(path.with_name(picture.file), _MOST)
        if not data.lstrip().startswith((b"<svg", b"<?xml")):
            raise InputError("is no SVG picture", path=path.with_name(picture.file), remedy=remedy)
        pictures[picture.file] = data
    return section, pictures


def _write_pictures(folder: Path, figures: Mapping[str, Figure]) -> dict[str, bytes]:
    from decode_zoo.plots.svg import svg_file

    found = {}
    for file, figure in figures.items():
        found[file] = svg_file(figure)
        (folder / file).write_bytes(found[file])
    return found


def _shown(file: str, caption: str, table: pd.DataFrame) -> ShownTable:
    first = table.iloc[:_SHOWN, :_COLUMNS]
    cells = [[_cell(value) for value in first[column]] for column in first]
    rows = tuple(tuple(row) for row in zip(*cells, strict=True))
    return ShownTable(file, caption, tuple(map(str, first.columns)), rows, *table.shape)


def _cell(value: object) -> str:
    """Write a cell as a page shows it."""
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return str(value)


def _is_numeric(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column))
