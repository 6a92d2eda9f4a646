"""The page that shows what a cohort is like; it needs no other file and runs no script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from decode_zoo.cohort.preparation import Cohort
from decode_zoo.cohort.quality import Quality
from decode_zoo.errors import MissingExtraError

__all__ = ["render"]


def render(cohort: Cohort, quality: Quality, provenance: Mapping[str, Any]) -> str:
    """Write the page.

    Parameters
    ----------
    cohort : Cohort
    quality : Quality
    provenance : Mapping of str to Any
        What made it.

    Raises
    ------
    MissingExtraError
        If matplotlib or jinja2 is not installed.
    """
    try:
        import jinja2
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(str(error.name), "train") from None
    from decode_zoo.cohort import figures
    from decode_zoo.plots.svg import svg_element

    pictures = {
        "libraries": figures.libraries(cohort),
        "components": figures.components(quality),
        "similarity": figures.similarity(quality),
        "length_bias": figures.length_bias(cohort),
    }
    if quality.sex.calls:
        pictures["sex"] = figures.sex(quality)
    here = files("decode_zoo.cohort") / "assets"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    styles = [files("decode_zoo.report") / "assets" / name for name in ("style.css", "static.css")]
    names = [str(name) for name in cohort.persons.index]
    text: str = environment.from_string((here / "cohort.html.j2").read_text("utf-8")).render(
        facts=cohort.facts,
        genes=cohort.facts["genes"],
        n_genes=cohort.expression.shape[0],
        n_persons=cohort.expression.shape[1],
        quality=quality,
        outliers=[names[i] for i in quality.outliers],
        differing=[
            (names[i], quality.sex.given[i], quality.sex.calls[i]) for i in quality.sex.differing
        ],
        called={sex: quality.sex.calls.count(sex) for sex in ("female", "male", "unclear")},
        pictures={name: svg_element(figure) for name, figure in pictures.items()},
        style="\n".join(style.read_text("utf-8") for style in styles),
        created=provenance["created"][:10],
        version=provenance["decode_zoo"],
        provenance=json.dumps(provenance, indent=2, ensure_ascii=False),
    )
    return text
