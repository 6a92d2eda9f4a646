"""The page that shows what a cohort is like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from decode_zoo import html
from decode_zoo.cohort.preparation import Cohort
from decode_zoo.cohort.quality import Quality

__all__ = ["render"]


def render(cohort: Cohort, quality: Quality, provenance: Mapping[str, Any]) -> str:
    """Return the page of a prepared cohort; it names persons."""
    html.check_packages("train", "jinja2", "matplotlib")
    from decode_zoo.cohort import figures

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
