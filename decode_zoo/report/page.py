"""From the content of a report to one HTML page."""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from decode_zoo import html
from decode_zoo.genesets import TARGETS
from decode_zoo.report.content import TOP, Content, classes_of
from decode_zoo.studies.findings import Section

__all__ = ["pack", "render"]

_SCRIPTS = "dom table charts heatmap data lists regulators gene places start"
_ALIGNMENT = 4  # a typed array of a script starts at a multiple of its item size


def render(
    content: Content,
    title: str,
    provenance: Mapping[str, Any],
    studies: Sequence[tuple[Section, Mapping[str, bytes]]] = (),
) -> str:
    """Return the page, with the sections and pictures of studies (`findings.read_section`)."""
    data, numbers = _data(content)
    bound, manifest = content.explainer.bound, content.explainer.model.manifest
    trained_on = manifest.training.get("data")
    return html.render(
        "report.html.j2",
        provenance,
        script="\n".join(html.asset(f"report/{name}.js") for name in _SCRIPTS.split()),
        title=title,
        manifest=manifest,
        # A bundle from elsewhere need not say how it was trained, nor how good it is.
        test=manifest.metrics.get("test", {}),
        trained_on=trained_on if isinstance(trained_on, dict) else {},
        n_rows=len(content.queries),
        n_genes=len(content.prediction),
        statuses=Counter(status.partition(":")[0] for status in content.table["status"]),
        hint=content.table.attrs["hint"],
        level=bound.features.layout.level,
        features=bound.features,
        missing={side: names for side, names in bound.missing.items() if names},
        background=content.explainer.background,
        has_targets=any(track.kind == TARGETS for track in manifest.inputs["promoter"].tracks),
        n_detail=content.n_detail,
        top=TOP,
        coarsest=float(content.detail["steps"].max(initial=0)),
        no_positions=content.no_positions,
        data=_json(data),
        numbers=numbers,
        studies=[
            (section, {file: html.picture_url(data) for file, data in pictures.items()})
            for section, pictures in studies
        ],
    )


def _json(value: object) -> str:
    """JSON that stays inside its element, whatever the texts in it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _data(content: Content) -> tuple[dict[str, Any], str]:
    """Texts and layout for the script, and the packed numbers."""
    table, explainer = content.table, content.explainer
    resolution = explainer.resolution
    classes, class_of = classes_of(resolution)
    n_regulators = int((~resolution.is_mask).sum())
    n = max(content.summary.n_genes, 1)
    layout, numbers = pack(
        {
            "prediction": content.prediction,
            "mean": (content.summary.total / n)[:n_regulators].astype(np.float32),
            "meanAbs": (content.summary.absolute / n)[:n_regulators].astype(np.float32),
            "present": content.summary.present[:n_regulators].astype(np.uint32),
            "geneOrder": content.gene_order.astype(np.uint32),
            **content.detail,
        }
    )
    rhos = explainer.model.manifest.metrics.get("test", {}).get("by_output")
    rhos = rhos if isinstance(rhos, dict) else {}
    bins = explainer.bound.features.layout
    outputs, references = explainer.outputs, explainer.rule.reference(explainer.references)
    data = {
        "model": explainer.model.id,
        "level": bins.level,
        "queries": content.queries,
        "ids": table.iloc[:, 0].tolist(),
        "symbols": table["symbol"].tolist(),
        "statuses": table["status"].tolist(),
        "gene": content.gene.tolist(),
        "rnaLengths": content.rna_lengths.tolist(),
        "outputs": [
            {
                "name": output.name,
                "unit": output.unit,
                "kind": output.kind,
                "reference": float(reference),
                "rho": _number(rhos.get(output.name)),
            }
            for output, reference in zip(outputs, references, strict=True)
        ],
        "outputOrder": content.output_order.tolist(),
        "classes": classes,
        "regulators": resolution.features["regulator"][:n_regulators].astype(str).tolist(),
        "regulatorClass": class_of[:n_regulators].tolist(),
        "detail": content.n_detail,
        "perOutput": TOP,
        "positions": content.no_positions is None,
        "bin": bins.bin,
        "upstream": bins.upstream,
        "downstream": bins.downstream,
        "background": len(explainer.background),
        "arrays": layout,
    }
    return data, numbers


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def pack(arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[dict[str, list[Any]], str]:
    """Pack arrays, of up to four bytes an item, into one text.

    Returns the layout, name → [dtype such as ``uint16``, offset in bytes, length in items], and
    base64 of the gzipped little-endian data. Shapes are not kept.
    """
    layout: dict[str, list[Any]] = {}
    data = bytearray()
    for name, array in arrays.items():
        layout[name] = [array.dtype.name, len(data), array.size]
        data += array.astype(array.dtype.newbyteorder("<")).tobytes()
        data += bytes(-len(data) % _ALIGNMENT)
    # No time in the header: the same numbers, the same text.
    return layout, base64.b64encode(gzip.compress(bytes(data), 6, mtime=0)).decode()
