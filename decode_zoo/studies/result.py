"""Results: what every study returns. Pages write them into folders, and draw their pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

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
