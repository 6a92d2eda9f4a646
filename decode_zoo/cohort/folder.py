"""A prepared cohort as a folder: ``expression.tsv.gz``, ``persons.tsv``, and a record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from decode_zoo.cohort.preparation import Cohort
from decode_zoo.core.errors import InputError
from decode_zoo.core.files import FolderKind
from decode_zoo.core.provenance import plain
from decode_zoo.core.tables import write_file

__all__ = ["COHORT_FOLDER", "EXPRESSION", "PERSONS", "expression_of", "fill_cohort"]

EXPRESSION, PERSONS = "expression.tsv.gz", "persons.tsv"
COHORT_FOLDER = FolderKind(("record.json", EXPRESSION, PERSONS, "quality.html"))
FORMAT_VERSION = 1


def expression_of(folder: Path) -> Path:
    """Return where a prepared cohort has its expression."""
    path = folder / EXPRESSION
    if not path.exists():
        raise InputError(
            f"has no {EXPRESSION}",
            path=folder,
            remedy="Name a folder that 'decode-zoo cohort prepare' made.",
        )
    return path


def fill_cohort(cohort: Cohort, folder: Path, record: Mapping[str, Any]) -> None:
    """Write expression, persons and the record into a folder."""
    write_file(
        cohort.expression.reset_index(), folder / EXPRESSION, {}, ".tsv.gz", id_columns=("gene_id",)
    )
    write_file(cohort.persons.reset_index(), folder / PERSONS, {}, ".tsv", id_columns=())
    content = {"format_version": FORMAT_VERSION, **cohort.facts, "provenance": record}
    text = json.dumps(plain(content), indent=1, ensure_ascii=False)
    (folder / "record.json").write_text(text + "\n", encoding="utf-8")
