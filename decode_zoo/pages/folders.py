"""Folders of results: tables, a summary, pictures and a page, for studies, evaluations, cohorts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from decode_zoo.cohort.folder import COHORT_FOLDER, fill_cohort
from decode_zoo.cohort.preparation import Cohort
from decode_zoo.cohort.quality import Quality, measure_quality
from decode_zoo.core.files import FolderKind, atomic_dir, sha256_of
from decode_zoo.core.provenance import plain, provenance
from decode_zoo.core.system import check_packages
from decode_zoo.core.tables import write_file
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.networks.manifest import MEDIAN
from decode_zoo.pages import html
from decode_zoo.pages.sections import section_of, write_summary
from decode_zoo.studies.evaluation import DonorConcordance, Evaluation
from decode_zoo.studies.result import Format, StudyResult
from decode_zoo.zoo.model import Model

__all__ = [
    "EVALUATION_FOLDER",
    "check_extras",
    "fill_evaluation",
    "fill_study",
    "write_cohort",
    "write_study",
]

FORMAT_VERSION = 1
EVALUATION_FOLDER = FolderKind(
    ("summary.json", "outputs.tsv", "genes.tsv", "matrix.tsv.gz", "evaluation.html")
)
_TOP = 20  # rows of a table on the page of a study of traits
_HEADS = ("Expression", "Prediction", "Regulators")  # of these tables


def check_extras(table_format: Format = "tsv", *packages: str) -> None:
    """Raise MissingExtraError before the work if a package of a study or its page is missing."""
    if table_format not in get_args(Format):
        raise ValueError(f"tables are written as {' or '.join(get_args(Format))}")
    check_packages("studies", *packages, "matplotlib", "jinja2")
    if table_format == "parquet":
        check_packages("tables", "pyarrow")


def write_study(
    result: StudyResult, folder: str | os.PathLike[str], table_format: Format = "tsv"
) -> None:
    """Write what a study found into a new folder, or nothing.

    Raises UsageError if the folder exists and is not empty, or cannot be made, and
    MissingExtraError if a package is missing (`check_extras`).
    """
    check_extras(table_format)
    with atomic_dir(folder) as made:
        fill_study(result, made, table_format)


def fill_study(result: StudyResult, folder: Path, table_format: Format = "tsv") -> None:
    """Write tables, pictures, ``summary.json`` and the page of a study into a folder."""
    from decode_zoo.pages.figures import pictures_of

    record, suffix = plain(result.numbers), f".{table_format}"
    for name, (_, table) in result.tables.items():
        write_file(table, folder / f"{name}{suffix}", record, suffix)
    drawn = pictures_of(result)
    pictures = {f"{name}.svg": html.svg_file(figure) for name, (_, figure) in drawn.items()}
    for file, picture in pictures.items():
        (folder / file).write_bytes(picture)
    captions = {f"{name}.svg": caption for name, (caption, _) in drawn.items()}
    section = section_of(result, captions, suffix)
    write_summary(folder, section, record)
    made = record.get("provenance", {})
    if result.study == "traits":
        page = html.render(
            "traits.html.j2",
            made,
            pictures={Path(file).stem: picture for file, picture in pictures.items()},
            design=result.drawn["study"].design,
            summary=record,
            tables={
                head: table.sort_values("p", kind="stable").head(_TOP).to_dict("records")
                for head, (_, table) in zip(_HEADS, result.tables.values(), strict=True)
            },
        )
        html.write_text(folder / "traits.html", page)
        return
    page = html.render("study.html.j2", made, pictures=pictures, section=section)
    html.write_text(folder / "index.html", page)


def fill_evaluation(
    found: Evaluation,
    model: Model,
    folder: Path,
    *,
    genes: str,
    inputs: Sequence[Path],
    command: Sequence[str],
    donors: Mapping[str, DonorConcordance] | None = None,
) -> None:
    """Write tables, summary and page into a folder; `genes` describes in words which genes."""
    check_packages("explain,report", "jinja2", "matplotlib")
    from decode_zoo.pages.figures import evaluation as figures

    facts = {name: asdict(each) for name, each in (donors or {}).items()}
    record = provenance(
        command,
        model={"id": model.id, "manifest_sha256": sha256_of(model.locate("manifest.json"))},
        genes=genes,
        inputs={file.name: sha256_of(file) for file in inputs},
    )
    pictures = {"controls": figures.controls(found), "genes": figures.genes(found)}
    if len(found.matrix) > 1:
        pictures["matrix"] = figures.matrix(found)
    if MEDIAN in found.predicted:
        pictures["median"] = figures.median(found)
    page = html.render(
        "evaluation.html.j2",
        record,
        pictures=pictures,
        summary=found.summary,
        outputs=found.outputs.to_dict("records"),
        donors=facts or None,
        model=model.id,
        chosen=genes,
    )
    for name, table in (
        ("outputs.tsv", found.outputs),
        ("genes.tsv", found.genes),
        ("matrix.tsv.gz", found.matrix.rename_axis("predicted").reset_index()),
    ):
        suffix = ".tsv.gz" if name.endswith(".gz") else ".tsv"
        write_file(table, folder / name, {}, suffix, id_columns=(str(table.columns[0]),))
    content = {"format_version": FORMAT_VERSION, **found.summary, "provenance": record}
    if facts:
        content["donors"] = facts
    text = json.dumps(plain(content), indent=1, ensure_ascii=False)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")
    (folder / "evaluation.html").write_text(page, encoding="utf-8")


def write_cohort(
    cohort: Cohort,
    features: FeatureSet,
    folder: str | os.PathLike[str],
    *,
    inputs: Sequence[Path],
    command: Sequence[str],
    force: bool = False,
) -> Quality:
    """Write a cohort made of the `inputs`, all or nothing, and return what its page shows."""
    with atomic_dir(folder, COHORT_FOLDER if force else None) as made:
        quality = measure_quality(cohort, features)
        record = provenance(
            command,
            inputs={file.name: sha256_of(file) for file in inputs},
            features={"id": features.name, "sha256": features.sha256},
        )
        page = _cohort_page(cohort, quality, {**record, "cohort": cohort.facts})
        fill_cohort(cohort, made, record)
        (made / "quality.html").write_text(page, encoding="utf-8")
    return quality


def _cohort_page(cohort: Cohort, quality: Quality, provenance: Mapping[str, Any]) -> str:
    """Write the page of a prepared cohort; it names samples."""
    check_packages("train", "jinja2", "matplotlib")
    from decode_zoo.pages.figures import cohort as figures

    pictures = {
        "libraries": figures.libraries(cohort),
        "components": figures.components(quality),
        "similarity": figures.similarity(quality),
        "length_bias": figures.length_bias(cohort),
    }
    sex = quality.sex
    if sex.calls:
        pictures["sex"] = figures.sex(quality)
    names = [str(name) for name in cohort.samples.index]
    return html.render(
        "cohort.html.j2",
        provenance,
        pictures=pictures,
        facts=cohort.facts,
        genes=cohort.facts["genes"],
        n_genes=cohort.expression.shape[0],
        n_samples=cohort.expression.shape[1],
        quality=quality,
        outliers=[names[i] for i in quality.outliers],
        differing=[(names[i], sex.given[i], sex.calls[i]) for i in sex.differing],
        called={call: sex.calls.count(call) for call in ("female", "male", "unclear")},
    )
