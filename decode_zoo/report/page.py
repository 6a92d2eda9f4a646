"""From what a report says to one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from decode_zoo.errors import MissingExtraError
from decode_zoo.genesets import TARGETS
from decode_zoo.report.content import Content
from decode_zoo.report.detail import TOP, Classes
from decode_zoo.report.packing import pack
from decode_zoo.studies.findings import Section
from decode_zoo.studies.page import environment, picture_urls

__all__ = ["render"]

_SCRIPTS = (
    "dom",
    "table",
    "charts",
    "heatmap",
    "data",
    "lists",
    "regulators",
    "gene",
    "places",
    "start",
)


def render(
    content: Content,
    title: str,
    provenance: Mapping[str, Any],
    studies: Sequence[tuple[Section, Mapping[str, bytes]]] = (),
) -> str:
    """Write the page.

    Parameters
    ----------
    content : Content
    title : str
    provenance : Mapping
        How the report came about, shown at its end.
    studies : sequence of (Section, Mapping of str to bytes)
        What studies found, with their pictures (`findings.read_section`).

    Raises
    ------
    MissingExtraError
        If jinja2 is not installed.
    """
    if importlib.util.find_spec("jinja2") is None:
        raise MissingExtraError("jinja2", "report")
    here = files("decode_zoo.report") / "assets"
    script = "\n".join((here / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
    style = (here / "style.css").read_text(encoding="utf-8")
    data, numbers = _data(content)
    statuses = Counter(status.partition(":")[0] for status in content.table["status"])
    manifest = content.explainer.model.manifest
    trained_on = manifest.training.get("data")
    template = environment().from_string((here / "page.html.j2").read_text(encoding="utf-8"))
    text: str = template.render(
        title=title,
        manifest=manifest,
        # A bundle from elsewhere need not say how it was trained, nor how good it is.
        test=manifest.metrics.get("test", {}),
        trained_on=trained_on if isinstance(trained_on, dict) else {},
        n_rows=len(content.queries),
        n_genes=len(content.prediction),
        statuses=statuses,
        hint=content.table.attrs["hint"],
        level=content.explainer.bound.features.layout.level,
        features=content.explainer.bound.features,
        missing={side: names for side, names in content.explainer.bound.missing.items() if names},
        background=content.explainer.background,
        has_targets=any(track.kind == TARGETS for track in manifest.inputs["promoter"].tracks),
        n_detail=content.n_detail,
        top=TOP,
        coarsest=float(content.detail.steps.max(initial=0)),
        no_positions=content.no_positions,
        provenance=provenance,
        provenance_text=json.dumps(provenance, indent=2, ensure_ascii=False),
        style=style,
        script=script,
        policy=_policy(style, script),
        data=_json(data),
        numbers=numbers,
        studies=[(section, picture_urls(pictures)) for section, pictures in studies],
    )
    return text


def _policy(style: str, script: str) -> str:
    """Allow the page its own script and style, and no request to anywhere."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    )
    return (
        f"default-src 'none'; script-src 'sha256-{script_hash}'; style-src 'sha256-{style_hash}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _json(value: object) -> str:
    """JSON that stays inside its element, whatever the texts in it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _data(content: Content) -> tuple[dict[str, Any], str]:
    """Texts and layout for the script, and the packed numbers."""
    detail, table, resolution = content.detail, content.table, content.resolution
    classes = Classes.of(resolution)
    n_regulators = int((~resolution.is_mask).sum())
    n = max(content.summary.n_genes, 1)
    layout, numbers = pack(
        {
            "prediction": content.prediction,
            "mean": (content.summary.total / n)[:n_regulators].astype(np.float32),
            "meanAbs": (content.summary.absolute / n)[:n_regulators].astype(np.float32),
            "present": content.summary.present[:n_regulators].astype(np.uint32),
            "geneOrder": content.gene_order.astype(np.uint32),
            "classSums": detail.class_sums,
            "top": detail.top,
            "steps": detail.steps,
            "topScores": detail.top_scores,
            "placeCounts": detail.place_counts,
            "places": detail.places,
            "placeScores": detail.place_scores,
            "profileBins": detail.profile_bins,
            "profiles": detail.profiles,
        }
    )
    rhos = content.explainer.model.manifest.metrics.get("test", {}).get("by_output")
    bins = content.explainer.bound.features.layout
    data = {
        "model": content.explainer.model.id,
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
                "rho": _number(rhos.get(output.name)) if isinstance(rhos, dict) else None,
            }
            for output, reference in zip(content.outputs, content.reference, strict=True)
        ],
        "outputOrder": content.output_order.tolist(),
        "classes": classes.names,
        "regulators": resolution.features["regulator"][:n_regulators].astype(str).tolist(),
        "regulatorClass": classes.of_feature[:n_regulators].tolist(),
        "detail": content.n_detail,
        "perOutput": TOP,
        "positions": content.no_positions is None,
        "bin": bins.bin,
        "upstream": bins.upstream,
        "downstream": bins.downstream,
        "background": len(content.explainer.background),
        "arrays": layout,
    }
    return data, numbers
