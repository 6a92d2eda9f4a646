"""Reports: predictions and attributions of a list of genes as one interactive HTML page.

The page needs no network and nothing beside it; it can be mailed, archived and opened years later.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from decode_zoo.errors import UsageError
from decode_zoo.files import check_files
from decode_zoo.html import check_packages, write_text
from decode_zoo.provenance import provenance, provenance_path
from decode_zoo.tables import atomic_output

if TYPE_CHECKING:
    import pandas as pd

    from decode_zoo.features import FeatureSet
    from decode_zoo.layout import Side
    from decode_zoo.model import Model

__all__ = ["Report", "build_report", "check_page", "write_report"]


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
    background: Sequence[str] | None = None,
    features: FeatureSet | None = None,
    fill_missing: bool = False,
    title: str | None = None,
    studies: Sequence[str | os.PathLike[str]] = (),
    command: Sequence[str] = ("decode_zoo.report.build_report",),
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
    >>> from decode_zoo.report import build_report
    >>> report = build_report(dz.load("gtex-tissue-v1"), ["ALB", "nope"], outputs=["Liver"])
    >>> report.table["status"].tolist()
    ['ok', 'unknown_gene']
    """
    check_packages("report", "jinja2")
    from decode_zoo.report.content import collect
    from decode_zoo.report.page import render
    from decode_zoo.studies.findings import read_section

    sections = [read_section(folder) for folder in studies]
    content = collect(
        model,
        genes,
        outputs=outputs,
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
        model, genes, **{"command": ("decode_zoo.report.write_report",), **options}
    )
    report.write(path, force=force)
    return report
