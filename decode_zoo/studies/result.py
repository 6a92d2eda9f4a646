"""Results: what every study returns. Pages write them into folders, and draw their pictures."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from decode_zoo.core.text import as_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Format", "StudyResult"]

Format = Literal["tsv", "parquet"]  # of tables


@dataclass(frozen=True, repr=False)
class StudyResult:
    """What a study found, in numbers and in words; names of tables are those of their files."""

    study: str  # verb, such as knockout
    title: str
    facts: Mapping[str, str]
    notes: tuple[str, ...]
    tables: Mapping[str, tuple[str, pd.DataFrame]]  # name → caption, table
    numbers: Mapping[str, Any] = field(default_factory=dict)  # the summary's, with its provenance
    lines: Sequence[str] = ()  # what the command line prints
    drawn: Mapping[str, Any] = field(default_factory=dict)  # what pictures show beyond the tables

    def __repr__(self) -> str:
        """Return a line that says what this is."""
        return f"StudyResult({self.study}: {self.title}; {', '.join(self.tables)})"

    def to_frame(self, name: str | None = None) -> pd.DataFrame:
        """Return a table by its name; the first if none is named."""
        return self.tables[name or next(iter(self.tables))][1]

    def _repr_html_(self) -> str:
        name, (caption, table) = next(iter(self.tables.items()))
        others = ", ".join(self.tables)
        first = table.head(10).to_html(index=False, escape=True)
        return as_html(self.title, {**self.facts, "tables": others, name: caption}, first)

    def plot(self, name: str | None = None) -> Figure:
        """Draw a picture by its name; the first if none is named."""
        # The package's public `plot`, by name: pictures stand above what they show.
        package: Any = sys.modules[__name__.partition(".")[0]]
        figure: Figure = package.plot(self, name)
        return figure

    def write(self, folder: str | os.PathLike[str], table_format: Format = "tsv") -> None:
        """Write tables, pictures, a summary and a page into a new folder, all or none."""
        package: Any = sys.modules[__name__.partition(".")[0]]
        package.write_study(self, folder, table_format)
