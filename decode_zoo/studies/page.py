"""From a study to one HTML page that needs nothing else, and runs no script."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pandas as pd

from decode_zoo.errors import MissingExtraError

if TYPE_CHECKING:
    from decode_zoo.studies.traits import TraitStudy

__all__ = ["render"]

_TOP = 20


def render(study: TraitStudy) -> str:
    """Write the page of a trait study.

    Raises
    ------
    MissingExtraError
        If matplotlib or jinja2 is not installed.
    """
    try:
        import jinja2
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(str(error.name), "studies") from None
    from decode_zoo.plots.svg import svg_element
    from decode_zoo.studies import figures

    here = files("decode_zoo.studies") / "assets"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["short"] = _short
    environment.filters["percent"] = _percent
    drawn = figures.volcanoes, figures.concordance, figures.regulators, figures.heatmap
    styles = (files("decode_zoo.report") / "assets" / "style.css", here / "traits.css")
    template = environment.from_string((here / "traits.html.j2").read_text(encoding="utf-8"))
    text: str = template.render(
        design=study.design,
        summary=study.summary,
        pictures={draw.__name__: svg_element(draw(study)) for draw in drawn},
        tables={
            "Expression": _rows(study.expression),
            "Prediction": _rows(study.predicted),
            "Regulators": _rows(study.regulators),
        },
        style="\n".join(style.read_text(encoding="utf-8") for style in styles),
        provenance=json.dumps(study.summary["provenance"], indent=2, ensure_ascii=False),
    )
    return text


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Choose the rows of least p, which the page shows."""
    best = table.sort_values("p", kind="stable").head(_TOP)
    return [{str(key): value for key, value in row.items()} for row in best.to_dict("records")]


def _short(value: float | None, form: str = ".3g") -> str:
    return "–" if value is None else format(value, form).replace("-", "−")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}%"
