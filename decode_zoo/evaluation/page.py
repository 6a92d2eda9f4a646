"""The page that an evaluation is read on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from decode_zoo import html
from decode_zoo.evaluation.agreement import Evaluation
from decode_zoo.expression import MEDIAN

__all__ = ["render"]


def render(
    found: Evaluation,
    provenance: Mapping[str, Any],
    donors: Mapping[str, Any] | None = None,
) -> str:
    """Return the page of an evaluation.

    The provenance's ``model`` and ``genes`` stand at the top; `donors` is the concordance of two
    tissues, ``predicted`` and ``measured``.
    """
    html.check_packages("explain,report", "jinja2", "matplotlib")
    from decode_zoo.evaluation import figures

    pictures = {"controls": figures.controls(found), "genes": figures.genes(found)}
    if len(found.matrix) > 1:
        pictures["matrix"] = figures.matrix(found)
    if MEDIAN in found.predicted:
        pictures["median"] = figures.median(found)
    return html.render(
        "evaluation.html.j2",
        provenance,
        pictures=pictures,
        summary=found.summary,
        outputs=found.outputs.to_dict("records"),
        donors=donors,
        model=provenance["model"]["id"],
        chosen=provenance["genes"],
    )
