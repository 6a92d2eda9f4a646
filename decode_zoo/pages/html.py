"""HTML pages that need no network and nothing beside them: templates, style, pictures, policy.

Templates lie in ``assets/``. Every text is escaped, pictures are SVG images in which no script
runs, and the policy of a page allows its own style and script and no request to anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

__all__ = ["asset", "number", "picture_url", "render", "svg_file", "write_text"]


def asset(name: str) -> str:
    """Read a file of ``assets/``."""
    return (files("decode_zoo.pages") / "assets" / name).read_text(encoding="utf-8")


def render(
    template: str,
    provenance: Mapping[str, Any],
    *,
    pictures: Mapping[str, Figure | bytes] | None = None,
    script: str = "",
    **content: Any,
) -> str:
    """Return the page that a template of ``assets/`` makes of some content.

    Templates get ``pictures`` as addresses of images; figures become SVG.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    style = asset("style.css")
    text: str = environment.get_template(template).render(
        content,
        style=style,
        script=script,
        policy=_policy(style, script),
        pictures={name: picture_url(picture) for name, picture in (pictures or {}).items()},
        provenance=provenance,
        provenance_text=json.dumps(provenance, indent=2, ensure_ascii=False),
    )
    return text


def write_text(path: Path, text: str) -> None:
    """Write a text; a name from the command line may hold bytes that are no text."""
    path.write_bytes(text.encode("utf-8", errors="replace"))


def picture_url(picture: Figure | bytes) -> str:
    """Return the address of an image that holds an SVG picture."""
    data = picture if isinstance(picture, bytes) else svg_file(picture)
    return f"data:image/svg+xml;base64,{base64.b64encode(data).decode()}"


def svg_file(figure: Figure) -> bytes:
    """Return a figure as an SVG file; the same figure gives the same bytes.

    Letters are drawn, so that no font is needed.
    """
    import matplotlib

    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "decode-zoo", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def number(value: float | None, form: str = ".3g") -> str:
    """Write a number with a minus sign, zero without, and a dash where there is no number."""
    if value is None or value != value:
        return "–"
    text = format(value, form)
    if not text.strip("+-0.,e%"):
        text = text.lstrip("+-")
    return text.replace("-", "−")


def _policy(style: str, script: str) -> str:
    """Allow a page its own style and script, known by their hashes, and pictures that it holds."""
    allowed = ["default-src 'none'"]
    for kind, text in (("script", script), ("style", style)):
        if text:
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            allowed.append(f"{kind}-src 'sha256-{digest}'")
    return "; ".join([*allowed, "img-src data:", "base-uri 'none'", "form-action 'none'"])
