"""A prepared cohort as a folder: ``expression.tsv.gz``, ``persons.tsv``, a record and a page."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from decode_zoo.cohort.preparation import Cohort
from decode_zoo.cohort.quality import Quality, measure_quality
from decode_zoo.core.errors import InputError
from decode_zoo.core.files import atomic_dir, sha256_of
from decode_zoo.core.provenance import plain, provenance
from decode_zoo.core.tables import write_file
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.pages import html

__all__ = ["EXPRESSION", "PERSONS", "expression_of", "write_cohort"]

EXPRESSION, PERSONS = "expression.tsv.gz", "persons.tsv"
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


def write_cohort(
    cohort: Cohort,
    features: FeatureSet,
    folder: str | os.PathLike[str],
    *,
    inputs: Sequence[Path],
    command: Sequence[str],
    force: bool = False,
) -> Quality:
    """Write a cohort made of the `inputs`, all or nothing, and return what its page shows."""
    with atomic_dir(folder, force) as temporary:
        quality = measure_quality(cohort, features)
        record = provenance(
            command,
            inputs={file.name: sha256_of(file) for file in inputs},
            features={"id": features.name, "sha256": features.sha256},
        )
        page = _page(cohort, quality, {**record, "cohort": cohort.facts})
        write_file(
            cohort.expression.reset_index(),
            temporary / EXPRESSION,
            {},
            ".tsv.gz",
            id_columns=("gene_id",),
        )
        write_file(cohort.persons.reset_index(), temporary / PERSONS, {}, ".tsv", id_columns=())
        content = {"format_version": FORMAT_VERSION, **cohort.facts, "provenance": record}
        text = json.dumps(plain(content), indent=1, ensure_ascii=False)
        (temporary / "record.json").write_text(text + "\n", encoding="utf-8")
        (temporary / "quality.html").write_text(page, encoding="utf-8")
    return quality


def _page(cohort: Cohort, quality: Quality, provenance: Mapping[str, Any]) -> str:
    """Write the page of a prepared cohort; it names persons."""
    html.check_packages("train", "jinja2", "matplotlib")
    from decode_zoo.pages.figures import cohort as figures

    pictures = {
        "libraries": figures.libraries(cohort),
        "components": figures.components(quality),
        "similarity": figures.similarity(quality),
        "length_bias": figures.length_bias(cohort),
    }
    sex = quality.sex
    if sex.calls:
        pictures["sex"] = figures.sex(quality)
    names = [str(name) for name in cohort.persons.index]
    return html.render(
        "cohort.html.j2",
        provenance,
        pictures=pictures,
        facts=cohort.facts,
        genes=cohort.facts["genes"],
        n_genes=cohort.expression.shape[0],
        n_persons=cohort.expression.shape[1],
        quality=quality,
        outliers=[names[i] for i in quality.outliers],
        differing=[(names[i], sex.given[i], sex.calls[i]) for i in sex.differing],
        called={call: sex.calls.count(call) for call in ("female", "male", "unclear")},
    )
