"""The page that an evaluation is read on; it needs no other file and runs no script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from decode_zoo.errors import MissingExtraError
from decode_zoo.evaluation.agreement import Evaluation
from decode_zoo.expression import MEDIAN

__all__ = ["render"]


def render(
    found: Evaluation,
    provenance: Mapping[str, Any],
    donors: Mapping[str, Any] | None = None,
) -> str:
    """Write the page.

    Parameters
    ----------
    found : Evaluation
    provenance : Mapping of str to Any
        What made it; its ``model`` and ``genes`` are told at the top.
    donors : Mapping of str to Any, optional
        Concordance of two tissues, ``predicted`` and ``measured``.

    Raises
    ------
    MissingExtraError
        If matplotlib or jinja2 is not installed.
    """
    try:
        import jinja2
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(str(error.name), "explain,report") from None
    from decode_zoo.evaluation import figures
    from decode_zoo.plots.svg import svg_element

    pictures = {"controls": figures.controls(found), "genes": figures.genes(found)}
    if len(found.matrix) > 1:
        pictures["matrix"] = figures.matrix(found)
    if MEDIAN in found.predicted:
        pictures["median"] = figures.median(found)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["rho"] = _rho
    here = files("decode_zoo.evaluation") / "assets"
    styles = [files("decode_zoo.report") / "assets" / name for name in ("style.css", "static.css")]
    text: str = environment.from_string((here / "evaluation.html.j2").read_text("utf-8")).render(
        summary=found.summary,
        outputs=found.outputs.to_dict("records"),
        pictures={name: svg_element(figure) for name, figure in pictures.items()},
        donors=donors,
        model=provenance["model"]["id"],
        chosen=provenance["genes"],
        created=provenance["created"][:10],
        version=provenance["decode_zoo"],
        style="\n".join(style.read_text("utf-8") for style in styles),
        provenance=json.dumps(provenance, indent=2, ensure_ascii=False),
    )
    return text


def _rho(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None or value != value else format(value, form).replace("-", "−")
