"""From the section of a study to HTML: a page of its own, or a part of a report."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from decode_zoo.errors import MissingExtraError
from decode_zoo.studies.findings import Section

if TYPE_CHECKING:
    import jinja2

__all__ = ["environment", "picture_urls", "render"]


def environment() -> jinja2.Environment:
    """Make a Jinja environment that knows how to write a section (``section.html.j2``).

    Raises
    ------
    MissingExtraError
        If jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise MissingExtraError("jinja2", "studies") from None
    template = files("decode_zoo.studies") / "assets" / "section.html.j2"
    return jinja2.Environment(
        loader=jinja2.DictLoader({"section.html.j2": template.read_text(encoding="utf-8")}),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def picture_urls(pictures: Mapping[str, bytes]) -> dict[str, str]:
    """Turn SVG files into addresses of images, in which no script runs, wherever they come from."""
    return {
        file: f"data:image/svg+xml;base64,{base64.b64encode(data).decode()}"
        for file, data in pictures.items()
    }


def render(section: Section, pictures: Mapping[str, bytes], provenance: Mapping[str, Any]) -> str:
    """Write the page of a study, which needs nothing beside it, and runs no script.

    Parameters
    ----------
    section : Section
    pictures : Mapping of str to bytes
        Its SVG pictures by file.
    provenance : Mapping
        How the findings came about, shown at the end.
    """
    here = files("decode_zoo.studies") / "assets"
    styles = (files("decode_zoo.report") / "assets" / "style.css", here / "study.css")
    template = environment().from_string((here / "study.html.j2").read_text(encoding="utf-8"))
    text: str = template.render(
        section=section,
        pictures=picture_urls(pictures),
        created=str(provenance.get("created", ""))[:10],
        version=provenance.get("decode_zoo", ""),
        style="\n".join(style.read_text(encoding="utf-8") for style in styles),
        provenance=json.dumps(provenance, indent=2, ensure_ascii=False),
    )
    return text
