"""Reports: predictions and attributions of a list of genes as one interactive HTML page.

The page needs no network and nothing beside it; it can be mailed, archived and opened years later.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from decode_zoo.core.errors import UsageError
from decode_zoo.core.files import check_files
from decode_zoo.core.provenance import provenance, provenance_path
from decode_zoo.core.system import check_packages
from decode_zoo.core.tables import atomic_output
from decode_zoo.features.genesets import TARGETS
from decode_zoo.pages import html
from decode_zoo.pages.content import TOP, Content, classes_of
from decode_zoo.pages.html import write_text
from decode_zoo.pages.sections import Section

if TYPE_CHECKING:
    import pandas as pd

    from decode_zoo.features.featureset import FeatureSet
    from decode_zoo.features.spec import Side
    from decode_zoo.zoo.model import Model

__all__ = ["Report", "build_report", "check_page", "pack", "render", "write_report"]

_SCRIPTS = "dom table charts heatmap data lists regulators gene places start"
_ALIGNMENT = 4  # a typed array of a script starts at a multiple of its item size


@dataclass(frozen=True, repr=False)
class Report:
    """A report in memory."""

    html: str
    provenance: dict[str, Any]
    table: pd.DataFrame  # of Model.predict, a row a gene asked for, with status
    missing: Mapping[Side, tuple[str, ...]]  # tracks that the feature set lacks
    no_positions: str | None  # why there are no scores by position

    def write(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the page and its provenance beside it, both whole or neither.

        Raises UsageError as `check_page` does, or if the disk refuses the data.
        """
        check_page(path, force)
        with atomic_output(path, self.provenance) as page:
            write_text(page, self.html)


def check_page(path: str | os.PathLike[str], force: bool = False) -> None:
    """Refuse a page that could not be written, before the work is done.

    Raises UsageError for a name without ``.html``, a folder that is missing or not writable, and
    an existing page or provenance unless `force`; MissingExtraError without jinja2.
    """
    check_packages("report", "jinja2")
    if not os.path.basename(path).lower().endswith((".html", ".htm")):
        raise UsageError(
            f"A report is an HTML page; {os.fspath(path)} is not named as one.",
            remedy="End the name of the output in .html",
        )
    check_files(path, (path, provenance_path(path)), force)


def build_report(
    model: Model,
    genes: Iterable[str],
    *,
    outputs: Sequence[str] | None = None,
    contrasts: Sequence[tuple[str, str]] = (),
    background: Sequence[str] | None = None,
    features: FeatureSet | None = None,
    fill_missing: bool = False,
    title: str | None = None,
    studies: Sequence[str | os.PathLike[str]] = (),
    command: Sequence[str] = ("decode_zoo.pages.report.build_report",),
    facts: Mapping[str, object] | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Report:
    """Predict and explain genes, and lay the results out as a page.

    The page lists every gene asked for, with its status; predictions as a heat map; regulators by
    mean score; for single genes the strongest regulators, where on promoter and RNA their scores
    come from, and how scores add up to the prediction; and where all of it comes from. Every table
    can be saved as TSV. Predictions, means and sums by class are in single precision; scores of
    single genes are rounded to 0.0001 (or, if they do not fit 16 bits, to a coarser step that the
    page names).

    So that the page stays below 10 MB, single genes are shown for the first 16,200 / outputs genes
    (300 with 54 outputs), and for each of them and each output the 15 strongest regulators.

    Options are those of `Model.explain`; `studies` are folders that `decode-zoo study` made, each
    a section; `command` and `facts` go into the provenance; `progress` takes how much is done, and
    of how much. Without the feature set's sites.npz there are no scores by position.

    Raises UsageError for more than 5,000 genes or 300,000 genes × outputs, unknown outputs or genes
    of the background; InputError if the feature set does not fit the model or a folder is not of a
    study; MissingExtraError without jinja2.

    Examples
    --------
    >>> import decode_zoo as dz
    >>> from decode_zoo.pages.report import build_report
    >>> report = build_report(dz.load("gtex-tissue-v1"), ["ALB", "nope"], outputs=["Liver"])
    >>> report.table["status"].tolist()
    ['ok', 'unknown_gene']
    """
    check_packages("report", "jinja2")
    from decode_zoo.pages.content import collect
    from decode_zoo.pages.sections import read_section

    sections = [read_section(folder) for folder in studies]
    content = collect(
        model,
        genes,
        outputs=outputs,
        contrasts=contrasts,
        background=background,
        features=features,
        fill_missing=fill_missing,
        progress=progress,
    )
    record = provenance(command, **(facts or {}), **content.explainer.description())
    n, level = len(content.prediction), content.explainer.bound.features.layout.level
    heading = title or f"Regulators of {n:,} {level}{'' if n == 1 else 's'}"
    return Report(
        html=render(content, heading, record, sections),
        provenance=record,
        table=content.table,
        missing=content.explainer.bound.missing,
        no_positions=content.no_positions,
    )


def write_report(
    model: Model,
    genes: Iterable[str],
    path: str | os.PathLike[str],
    *,
    force: bool = False,
    **options: Any,
) -> Report:
    """Build a report (`build_report` takes the options), and write it as `Report.write` does."""
    check_page(path, force)
    report = build_report(
        model, genes, **{"command": ("decode_zoo.pages.report.write_report",), **options}
    )
    report.write(path, force=force)
    return report


def render(
    content: Content,
    title: str,
    provenance: Mapping[str, Any],
    studies: Sequence[tuple[Section, Mapping[str, bytes]]] = (),
) -> str:
    """Return the page, with the sections and pictures of studies (`read_section`)."""
    data, numbers = _data(content)
    bound, manifest = content.explainer.bound, content.explainer.manifest
    return html.render(
        "report.html.j2",
        provenance,
        script="\n".join(html.asset(f"report/{name}.js") for name in _SCRIPTS.split()),
        title=title,
        manifest=manifest,
        # A bundle from elsewhere need not say how it was trained, nor how good it is.
        test=manifest.metrics.get("test", {}),
        trained_on=manifest.training.data or {},
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
    rhos = explainer.manifest.metrics.get("test", {}).get("by_output")
    rhos = rhos if isinstance(rhos, dict) else {}
    bins = explainer.bound.features.layout
    outputs, references = explainer.outputs, explainer.rule.reference(explainer.references)
    data = {
        "model": explainer.manifest.id,
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
