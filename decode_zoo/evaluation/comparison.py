"""A model on measured expression: which genes, which outputs, and what becomes of the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from decode_zoo import html
from decode_zoo.errors import InputError, UsageError
from decode_zoo.evaluation.agreement import (
    DonorConcordance,
    Evaluation,
    compare_donors,
    evaluate,
)
from decode_zoo.expression import MEDIAN, Targets
from decode_zoo.files import sha256_of
from decode_zoo.layout import SIDES
from decode_zoo.model import Model
from decode_zoo.provenance import plain, provenance
from decode_zoo.tables import write_file

__all__ = ["donor_concordance", "evaluate_model", "fill_evaluation", "held_out_genes"]

FORMAT_VERSION = 1


def held_out_genes(model: Model) -> list[str]:
    """Return the genes that a model was tested on; raise UsageError if it does not tell."""
    rows = model.manifest.tested_rows(model.features)
    if rows is None:
        raise UsageError(
            f"{model.id} does not say which genes it was tested on, so that only you "
            "can say which it has not seen.",
            remedy="--genes FILE",
        )
    return [model.features.rows.gene_ids[row] for row in rows]


def evaluate_model(
    model: Model, targets: Targets, genes: Sequence[str], *, resamples: int = 200, seed: int = 0
) -> Evaluation:
    """Compare a model's predictions with measured expression on genes that have features."""
    measured = pd.DataFrame(targets.values, targets.gene_ids, list(targets.names))
    outputs = [name for name in targets.names if name in set(model.outputs)]
    if not set(outputs) - {MEDIAN}:
        raise InputError(
            f"no column is an output of {model.id}, whose first are {', '.join(model.outputs[:3])}",
            remedy="Name columns as the model's outputs.",
        )
    features = model.features
    known = set(features.rows.gene_ids) & set(measured.index)
    rows = [gene for gene in dict.fromkeys(genes) if gene in known]
    if len(rows) < 3:
        raise InputError(f"{len(rows)} of {len(genes)} genes have features and a measurement")
    predicted = model.predict(rows)[outputs].set_axis(rows).astype(float)
    place = np.array([features.row(gene) for gene in rows])
    bound = sum(np.diff((features.sums(side)[0][place] > 0).indptr) for side in SIDES)
    return evaluate(
        predicted,
        measured.loc[rows, outputs],
        resamples=resamples,
        seed=seed,
        rna_lengths=np.array(features.rows.rna_lengths)[place],
        bound_tracks=bound,
    )


def donor_concordance(
    one: Evaluation, other: Evaluation, donors: Mapping[str, str] | None = None
) -> dict[str, DonorConcordance]:
    """Compare two tissues of the same donors, as predicted and as measured."""
    return {
        name: compare_donors(
            getattr(one, name).drop(columns=MEDIAN, errors="ignore"),
            getattr(other, name).drop(columns=MEDIAN, errors="ignore"),
            donors,
        )
        for name in ("predicted", "measured")
    }


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
    html.check_packages("explain,report", "jinja2", "matplotlib")
    from decode_zoo.evaluation import figures

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
