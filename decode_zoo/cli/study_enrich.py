"""``decode-zoo study enrich``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from decode_zoo.cli import options
from decode_zoo.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from decode_zoo.model import Asked, Model
    from decode_zoo.studies.enrichment import EnrichmentStudy
    from decode_zoo.studies.findings import Format

__all__ = ["enrich"]


@click.command()
@options.model
@options.genes
@options.all_genes
@click.option(
    "--scores",
    type=options.FILE,
    metavar="FILE",
    help="Take scores that 'decode-zoo explain --summary' wrote (TSV), instead of explaining.",
)
@options.outputs
@click.option(
    "--gmt",
    "gmts",
    type=options.FILE,
    multiple=True,
    metavar="FILE",
    help="Gene sets (GMT); may be repeated.",
)
@click.option(
    "--list",
    "lists",
    type=options.FILE,
    multiple=True,
    metavar="FILE",
    help="A list of genes, such as essential ones; may be repeated.",
)
@click.option(
    "--list-above",
    "tables",
    type=(options.FILE, options.NAME, float),
    multiple=True,
    metavar="FILE COLUMN X",
    help="The genes of a table (TSV) with more than X in COLUMN; may be repeated.",
)
@click.option(
    "--classes",
    metavar="NAME,…",
    help="Regulators to rank: TF+RBP (together), TF, RBP (default: all three).",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    metavar="K",
    help="How many regulators count as the most important (default: a tenth).",
)
@click.option(
    "--min-size",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Fewest regulators of a gene set.",
)
@click.option(
    "--max-size",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Most regulators of a gene set.",
)
@click.option(
    "--permutations",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Random gene sets of each size.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of those."
)
@options.table_format
@options.new_folder
def enrich(  # one parameter an option
    model_id: str,
    genes: Path | None,
    all_genes: bool,
    scores: Path | None,
    outputs: str | None,
    gmts: tuple[Path, ...],
    lists: tuple[Path, ...],
    tables: tuple[tuple[Path, str, float], ...],
    classes: str | None,
    top: int | None,
    min_size: int,
    max_size: int,
    permutations: int,
    seed: int,
    table_format: Format,
    output: Path,
) -> None:
    """Say what the regulators that a model uses most have in common.

    Importance of a TF or RBP is its mean absolute score over GENES (first column; '-' is stdin;
    default: the genes that the model was tested on), by output: logarithms, standardised over
    regulators, averaged over outputs, by default the fold changes. Along that ranking gene sets
    are analysed (pre-ranked GSEA), and compared with its top (hypergeometric test); lists of genes
    are compared by Wilcoxon's and Fisher's tests. Only genes that are regulators with sites count.

    A regulator that binds many genes, or has many tracks, is important for that alone: columns
    'given_sites' say what is left at equal numbers of both.

    The folder holds importance.tsv, gsea.tsv, overrepresented.tsv, lists.tsv, pictures,
    summary.json and index.html.

    \b
    Examples:
      decode-zoo study enrich --model gtex-tissue-v1 --gmt kegg.gmt.gz -o kegg
      decode-zoo explain --model gtex-tissue-v1 genes.tsv --summary -o scores.tsv
      decode-zoo study enrich --model gtex-tissue-v1 --scores scores.tsv --list essential.txt \\
          --list-above exac.tsv pLI 0.99 -o constrained
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.files import atomic_dir
    from decode_zoo.genelist import read_gene_list
    from decode_zoo.genesets import read_gmt
    from decode_zoo.provenance import origin_of, provenance
    from decode_zoo.studies.enrichment import (
        ListedGenes,
        Scope,
        read_listed_above,
        read_scores,
        study_enrichment,
    )
    from decode_zoo.studies.findings import check_extras

    if (genes is not None) + all_genes + (scores is not None) > 1:
        raise UsageError("Give either a file of genes, or --all-genes, or --scores.")
    if not (gmts or lists or tables):
        raise UsageError(
            "There is nothing to compare regulators with.",
            remedy="Give --gmt, --list or --list-above.",
        )
    scope = Scope(
        None if classes is None else tuple(options.split_names(classes) or ()),
        top,
        min_size,
        max_size,
        permutations,
        seed,
    )
    scope.check()
    names = [_stem(path) for path in gmts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"Two files of gene sets are named {twice[0]!r}.", remedy="Rename one.")
    check_extras(table_format, *(["gseapy"] if gmts else []))
    files = [genes, scores, *gmts, *lists, *(path for path, _, _ in tables)]
    options.check_inputs_kept([output], [model_id, *files])
    if sum(str(path) == "-" for path in files) > 1:
        raise UsageError("Only one list of genes can come from standard input.")

    with options.named_in_errors(output), atomic_dir(output) as folder:
        libraries = {name: read_gmt(path) for name, path in zip(names, gmts, strict=True)}
        listed = [ListedGenes(_stem(path), tuple(read_gene_list(path))) for path in lists]
        listed += [read_listed_above(*table) for table in tables]
        queries = None if genes is None else read_gene_list(genes)
        chosen = options.split_names(outputs)
        model = dz.load(model_id)
        facts: dict[str, Any]
        if scores is None:
            found, asked, facts = _explain(model, queries, all_genes, chosen)
        else:
            found, asked = read_scores(scores), None
            facts = {
                **model.provenance(model.bind(), model.backend("numpy")),
                "scores": origin_of(scores),
            }
        study = study_enrichment(
            model,
            found,
            libraries=libraries,
            lists=listed,
            outputs=chosen,
            scope=scope,
            provenance=provenance(
                ["decode-zoo", *sys.argv[1:]],
                requested_model=model_id,
                gene_list=origin_of(genes),
                gene_sets=[origin_of(path) for path in gmts],
                lists=[origin_of(path) for path in (*lists, *(path for path, _, _ in tables))],
                **facts,
            ),
        )
        study.findings().fill(folder, table_format)
    _report(study, asked)
    if asked is not None:
        options.tell_beside(queries, model.features)
    click.echo(str(output))


def _stem(path: Path) -> str:
    """Name a list after its file."""
    return "standard input" if str(path) == "-" else path.name.partition(".")[0] or path.name


def _explain(
    model: Model, queries: list[str] | None, all_genes: bool, outputs: list[str] | None
) -> tuple[pd.DataFrame, Asked, dict[str, Any]]:
    """Scores of the genes that were asked for."""
    from decode_zoo.model import Asked
    from decode_zoo.studies.enrichment import mean_scores
    from decode_zoo.studies.traits.study import tested_rows

    bound = model.bind()
    if queries is not None or all_genes:
        asked = model.rows_of(queries, bound)
    else:
        asked = Asked(tested_rows(model, bound), {}, None)
    with options.progress("explaining") as tell:
        found = mean_scores(model, asked.rows, outputs, tell)
    facts = {
        **model.provenance(bound, model.backend("numpy")),
        "genes": "given" if queries is not None else "all" if all_genes else "tested on",
        "explained": asked.rows.size,
        "not_explained": asked.lost,
    }
    return found, asked, facts


def _report(study: EnrichmentStudy, asked: Asked | None) -> None:
    """Say on stderr what was compared, and what came of it."""
    tell, numbers = partial(click.echo, err=True), study.numbers
    if asked is not None:
        lost = f", {len(asked.lost)} not" if asked.lost else ""
        tell(f"{options.counted(asked.rows.size, 'gene')} explained{lost}")
        if asked.hint:
            tell(asked.hint)
    left = numbers["regulators"]
    others = [f"{n} {kind}" for kind, n in left["of_other_classes"].items()]
    if left["without_gene"]:
        others.append(
            f"{len(left['without_gene'])} without a gene of that name "
            f"({', '.join(left['without_gene'])})"
        )
    if left["without_sites"]:
        others.append(f"{len(left['without_sites'])} without sites")
    if others:
        tell(f"left out of {left['scored']} regulators: {', '.join(others)}")
    for name, told in numbers["rankings"].items():
        tell(
            f"{name}: {told['n']} genes ranked, {told['explained_by_sites'] or 0:.0%} of their "
            "ranks explained by numbers of genes bound and of tracks"
        )
    for name, told in {**numbers["libraries"], **numbers["lists"]}.items():
        if told["unknown"]:
            tell(
                f"{name}: {told['unknown']} of {told['names']} names are unknown genes, such as "
                f"{', '.join(told['such_as'][:3])}"
            )
    for row in study.lists.to_dict("records"):
        on_list = f"{row['list']} ({row['n']} of {row['n'] + row['n_others']} {row['classes']})"
        if row["n"] and row["n_others"]:
            tell(
                f"{on_list}: AUROC {row['auroc']:.3f} (q = {row['q']:.2g}), given sites "
                f"{row['auroc_given_sites']:.3f} (q = {row['q_given_sites']:.2g})"
            )
        else:
            tell(f"{on_list}: not compared")
    if len(study.gsea):
        along, given = ((study.gsea[q] <= 0.05).sum() for q in ("q", "q_given_sites"))
        top = (study.overrepresented["q"] <= 0.05).sum()
        tell(
            f"gene sets of q ≤ 0.05: {along} of {len(study.gsea)} along the ranking, "
            f"{given} given sites, {top} at its top"
        )
