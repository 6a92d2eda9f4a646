"""From a study to one HTML page that needs nothing else, and runs no script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pandas as pd

from decode_zoo.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from decode_zoo.studies.traits.study import TraitStudy

__all__ = ["draw", "render"]

_TOP = 20


def draw(study: TraitStudy) -> dict[str, Figure]:
    """Draw the pictures of a trait study, by name.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtraError("matplotlib", "studies") from None
    from decode_zoo.studies.traits import figures

    drawn = figures.volcanoes, figures.concordance, figures.regulators, figures.heatmap
    return {function.__name__: function(study) for function in drawn}


def render(study: TraitStudy, pictures: Mapping[str, Figure]) -> str:
    """Write the page of a trait study.

    Parameters
    ----------
    study : TraitStudy
    pictures : Mapping of str to Figure
        From `draw`.

    Raises
    ------
    MissingExtraError
        If jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise MissingExtraError("jinja2", "studies") from None
    from decode_zoo.plots.svg import svg_element

    here = files("decode_zoo.studies.traits") / "assets"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["short"] = _short
    environment.filters["percent"] = _percent
    styles = [files("decode_zoo.report") / "assets" / name for name in ("style.css", "static.css")]
    template = environment.from_string((here / "traits.html.j2").read_text(encoding="utf-8"))
    text: str = template.render(
        design=study.design,
        summary=study.summary,
        pictures={name: svg_element(figure) for name, figure in pictures.items()},
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
