"""Pictures and page of a trait study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from decode_zoo import html

if TYPE_CHECKING:
    from decode_zoo.studies.traits.study import TraitStudy

__all__ = ["draw", "render"]

_TOP = 20


def draw(study: TraitStudy) -> dict[str, bytes]:
    """Draw the pictures of a trait study as SVG, by name."""
    html.check_packages("studies", "matplotlib")
    from decode_zoo.studies.traits import figures

    drawn = figures.volcanoes, figures.concordance, figures.regulators, figures.heatmap
    return {function.__name__: html.svg_file(function(study)) for function in drawn}


def render(study: TraitStudy, pictures: Mapping[str, bytes]) -> str:
    """Return the page of a trait study with its pictures."""
    html.check_packages("studies", "jinja2")
    return html.render(
        "traits.html.j2",
        study.numbers["provenance"],
        pictures=pictures,
        design=study.design,
        summary=study.numbers,
        tables={
            "Expression": _strongest(study.expression),
            "Prediction": _strongest(study.predicted),
            "Regulators": _strongest(study.regulators),
        },
    )


def _strongest(table: pd.DataFrame) -> list[dict[str, Any]]:
    best = table.sort_values("p", kind="stable").head(_TOP)
    return [{str(key): value for key, value in row.items()} for row in best.to_dict("records")]
