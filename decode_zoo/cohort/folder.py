"""A prepared cohort as a folder: ``expression.tsv.gz``, ``samples.tsv``, and a record."""

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

__all__ = ["COHORT_FOLDER", "EXPRESSION", "SAMPLES", "expression_of", "fill_cohort", "samples_of"]

EXPRESSION, SAMPLES = "expression.tsv.gz", "samples.tsv"
_FORMERLY = "persons.tsv"  # the name of SAMPLES before
COHORT_FOLDER = FolderKind(("record.json", EXPRESSION, SAMPLES, _FORMERLY, "quality.html"))
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


def samples_of(folder: Path) -> Path:
    """Return where a prepared cohort has its table of samples."""
    former = folder / _FORMERLY
    return former if former.exists() and not (folder / SAMPLES).exists() else folder / SAMPLES


def fill_cohort(cohort: Cohort, folder: Path, record: Mapping[str, Any]) -> None:
    """Write expression, samples and the record into a folder."""
    write_file(
        cohort.expression.reset_index(), folder / EXPRESSION, {}, ".tsv.gz", id_columns=("gene_id",)
    )
    write_file(cohort.samples.reset_index(), folder / SAMPLES, {}, ".tsv", id_columns=())
    content = {"format_version": FORMAT_VERSION, **cohort.facts, "provenance": record}
    text = json.dumps(plain(content), indent=1, ensure_ascii=False)
    (folder / "record.json").write_text(text + "\n", encoding="utf-8")
