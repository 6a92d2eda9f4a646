"""``decode-zoo study coexpression | mediation | enrich | signature | traits``: what relates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from decode_zoo.cli import runner
from decode_zoo.cli.runner import FILE, POSITIVE, SOURCE, choice, flag, note, option, study
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.core.text import counted

if TYPE_CHECKING:
    from decode_zoo.studies.result import Format, StudyResult
    from decode_zoo.studies.signature import Direction

_OPEN_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
_genes = option(FILE, "--genes", "Genes to study (default: those that the model was tested on).")


@study.command()
@option(
    SOURCE,
    "--model model_ids",
    "Model of samples: id in the registry, or a folder with a bundle. Repeatable.",
    required=True,
    multiple=True,
)
@option(
    FILE,
    "--expression expressions",
    "What was measured of these samples; one a model, in the same order.",
    required=True,
    multiple=True,
    metavar="DIR|FILE",
)
@_genes
@flag("--all-genes", "Study all genes that were measured.")
@option(FILE, "--pairs", "Pairs of genes to look up as well: two columns, separated by tabs.")
@option(
    _OPEN_SHARE,
    "--threshold",
    "Pairs whose measured rho exceeds it, in either direction, are strongly co-expressed.",
    0.7,
)
@option(
    SOURCE, "--tissue-model", "Model of tissues, the rival that knows no sample.", "gtex-tissue-v1"
)
@option(POSITIVE, "--permutations", "Permutations of scores over genes, for comparison.", 100)
@option(POSITIVE, "--resamples", "How often genes are drawn again, for intervals.", 200)
@runner.seed
@runner.new_study
def coexpression(
    model_ids: tuple[str, ...],
    expressions: tuple[Path, ...],
    genes: Path | None,
    all_genes: bool,
    pairs: Path | None,
    tissue_model: str,
    table_format: Format,
    output: Path,
    **settings: Any,
) -> Path:
    """Separate co-expressed genes from others by what is predicted of them.

    Two genes are co-expressed if they rise and fall together over samples (Spearman's rho). Are
    pairs with a high measured rho told from others by their predicted rho? Beside it: predictions
    permuted over genes, the same from predicted tissues, which know no sample, and how alike two
    genes are by RNA length and number of bound tracks.

    --expression is a folder that 'decode-zoo cohort prepare' made, or a matrix of genes × samples
    of log2(TPM + 0.25); samples are matched by name. Of two models, genes in one tissue are also
    compared with genes in the other, over the donors of both (first two fields of GTEx names).

    The folder holds separation, pairs (those of strongest prediction), with --pairs asked_pairs,
    density, summary.json and index.html.

    \b
    Example:
      decode-zoo study coexpression --model lcl-person-v1 --expression cohort -o coexpression
    """  # noqa: D301
    import decode_zoo as dz

    if len(model_ids) != len(expressions):
        raise UsageError(
            f"{counted(len(model_ids), '--model')} and "
            f"{counted(len(expressions), '--expression')} are given.",
            remedy="Give one --expression for each --model, in the same order.",
        )
    files = [runner.measured(path) for path in expressions]
    listed = runner.read_genes(genes, all_genes, needed=False)
    with runner.study_folder("comparing", output, table_format) as folder:
        found = dz.coexpression(
            files,
            model_ids,
            tissue_model,
            genes=listed,
            all_genes=all_genes,
            pairs=None if pairs is None else _read_pairs(pairs),
            progress=folder.advance,
            **settings,
            **runner.origin(requested_models=model_ids, expression=files, genes=genes, pairs=pairs),
        )
        folder.write(found)
    return output


def _read_pairs(path: Path) -> list[tuple[str, str]]:
    """Read pairs of genes."""
    rows = runner.read_two_columns(path, "does not name two genes")
    if pairs := [(one, two) for _, one, two in rows]:
        return pairs
    raise InputError("names no pairs of genes", path=path, remedy=runner.TWO_CELLS)


@study.command()
@click.argument("expression", type=FILE)
@option(runner.TWO_GENES, "--pair", "The two genes.", required=True)
@option(
    SOURCE,
    "--regulators",
    "Regulators to regress out, by symbol or gene id.",
    required=True,
    metavar="NAME,…|FILE",
)
@option(
    SOURCE,
    "--features features_source",
    "Feature set whose TFs and RBPs are what random sets are drawn from.",
    "hg38-open-v2",
)
@option(POSITIVE, "--draws", "Random sets.", 1000)
@runner.seed
@runner.new_study
def mediation(
    expression: Path,
    pair: tuple[str, str],
    regulators: str,
    features_source: str,
    draws: int,
    seed: int,
    table_format: Format,
    output: Path,
) -> Path:
    """Test whether regulators account for the co-expression of two genes.

    EXPRESSION is a folder that 'decode-zoo cohort prepare' made, or a matrix of genes × samples of
    log2(TPM + 0.25). No model is used: the measured expression of the regulators is regressed out
    of that of both genes, and what is left of their squared correlation is compared with what as
    many random regulators leave.

    The folder holds regulators (each alone), random_sets, histogram.svg, summary.json and
    index.html.

    \b
    Example:
      decode-zoo study mediation cohort --pair LAPTM5,CD53 --regulators SPI1,RUNX3 -o mediation
    """  # noqa: D301
    import decode_zoo as dz

    matrix = runner.measured(expression)
    listed = Path(regulators) if Path(regulators).is_file() else None
    with runner.study_folder("", output, table_format) as folder:
        names = runner.read_genes(listed) or runner.NAMES.convert(regulators, None, None)
        found = dz.mediation(
            matrix,
            pair,
            [name for name in names if name],
            features_source,
            draws=draws,
            seed=seed,
            **runner.origin(expression=matrix, regulators=listed),
        )
        folder.write(found)
    return output


@study.command()
@runner.model
@runner.genes
@runner.all_genes
@option(
    FILE,
    "--scores",
    "Take scores that 'decode-zoo explain --summary' wrote (TSV), instead of explaining.",
)
@runner.outputs
@option(FILE, "--gmt gmts", "Gene sets (GMT); may be repeated.", multiple=True)
@option(
    FILE, "--list lists", "A list of genes, such as essential ones; may be repeated.", multiple=True
)
@option(
    (FILE, runner.TEXT, float),
    "--list-above tables",
    "The genes of a table (TSV) with more than X in COLUMN; may be repeated.",
    multiple=True,
    metavar="FILE COLUMN X",
)
@option(
    runner.NAMES,
    "--classes",
    "Regulators to rank: TF+RBP (together), TF, RBP (default: all three).",
)
@option(
    POSITIVE,
    "--top",
    "How many regulators count as the most important (default: a tenth).",
    metavar="K",
)
@option(POSITIVE, "--min-size", "Fewest regulators of a gene set.", 10)
@option(POSITIVE, "--max-size", "Most regulators of a gene set.", 500)
@option(POSITIVE, "--permutations", "Random gene sets of each size.", 10_000)
@option(click.IntRange(0, 2**63 - 1), "--seed", "Of those.", 0)
@runner.new_study
def enrich(
    model_id: str,
    genes: Path | None,
    all_genes: bool,
    scores: Path | None,
    outputs: list[str] | None,
    gmts: tuple[Path, ...],
    lists: tuple[Path, ...],
    tables: tuple[tuple[Path, str, float], ...],
    classes: list[str] | None,
    table_format: Format,
    output: Path,
    **settings: Any,
) -> Path:
    """Find what the regulators that a model uses most have in common.

    Importance of a TF or RBP is its mean absolute score over GENES (first column; '-' is stdin;
    default: the genes that the model was tested on), by output: logarithms, standardised over
    regulators, averaged over outputs, by default the fold changes. Along that ranking gene sets
    are analysed (pre-ranked GSEA), and compared with its top (hypergeometric test); lists of genes
    are compared by Wilcoxon's and Fisher's tests. Only genes that are regulators with sites count.

    A regulator that binds many genes, or has many tracks, is important for that alone: columns
    'given_sites' hold what is left at equal numbers of both.

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
    from decode_zoo.features.genes import read_gene_list
    from decode_zoo.studies import enrichment

    if (genes is not None) + all_genes + (scores is not None) > 1:
        raise UsageError("Give either a file of genes, or --all-genes, or --scores.")
    if not (gmts or lists or tables):
        raise UsageError(
            "There is nothing to compare regulators with.",
            remedy="Give --gmt, --list or --list-above.",
        )
    scope = {"classes": None if classes is None else tuple(classes), **settings}
    enrichment.Scope(**scope).check()
    names = [_stem(path) for path in gmts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"Two files of gene sets are named {twice[0]!r}.", remedy="Rename one.")

    needed = ["gseapy"] if gmts else []
    with runner.study_folder("explaining", output, table_format, *needed) as folder:
        listed = [
            enrichment.ListedGenes(_stem(path), tuple(read_gene_list(path))) for path in lists
        ]
        listed += [enrichment.read_listed_above(*table) for table in tables]
        queries = runner.read_genes(genes)
        model = dz.load(model_id)
        files = {} if scores is None else {"scores": scores}
        found = dz.enrich(
            model,
            genes=queries,
            all_genes=all_genes,
            scores=scores,
            outputs=outputs,
            gene_sets=dict(zip(names, gmts, strict=True)),
            lists=listed,
            progress=folder.advance,
            **scope,
            **runner.origin(
                requested_model=model_id,
                gene_list=genes,
                gene_sets=gmts,
                lists=[*lists, *(path for path, _, _ in tables)],
                **files,
            ),
        )
        folder.write(found)
    if scores is None:
        runner.note_beside(queries, model.features)
    return output


def _stem(path: Path) -> str:
    """Name a list after its file."""
    return "standard input" if str(path) == "-" else path.name.partition(".")[0] or path.name


@study.command()
@click.argument("genes", metavar="[LIST]", required=False, type=FILE)
@option(FILE, "--gmt", "Many signatures (GMT) at once.")
@choice("--direction", "both up down", "Which genes of a table to take.", "both")
@choice("--regulators", "tf rna", "Rank TFs and cofactors, or RBPs and miRNA families.", "tf")
@option(
    FILE,
    "--background",
    "All genes that could have been in the signature (default: those of a table, else all "
    "that code for proteins).",
)
@option(
    SOURCE,
    "--model model_id",
    "Model of fold changes, with whose features genes are compared.",
    "gtex-tissue-v1",
)
@option(
    runner.OUTPUT,
    "-o --output",
    "Ranks alone as .tsv, .tsv.gz, .csv or .parquet; else a new folder.",
    required=True,
    metavar="FILE|DIR",
)
@runner.table_format
@flag("--force", "Replace an existing file (never a folder).")
def signature(
    genes: Path | None,
    gmt: Path | None,
    direction: Direction,
    regulators: Literal["tf", "rna"],
    background: Path | None,
    model_id: str,
    output: Path,
    table_format: Format,
    force: bool,
) -> Path | None:
    """Rank the regulators that account for a list of genes.

    LIST has a gene a line, or is a table whose header names a gene, a log2 fold change and,
    optionally, a p-value, in this order; '-' is stdin (a list). Of a table, the genes with a false
    discovery rate below 0.05, or without p the tenth that changes most, are taken; 600 at most.

    A regulator ranks high if its sites are in the genes more than their RNA length, the number of
    bound factors, open chromatin and expression let expect; if its own gene is among them; and if
    the model predicts the same for its own gene as for them. The table of ranks has the columns
    signature, regulator, rank, score, p and q (under random sets of genes).

    A folder holds ranks.tsv, details.tsv (evidence), explained.tsv (how well each output of the
    model tells the genes from others), genes.tsv, pictures, summary.json and index.html.

    \b
    Examples:
      decode-zoo study signature genes.txt -o my-genes
      decode-zoo study signature table.tsv --direction up -o up.tsv
      decode-zoo study signature --gmt perturbations.gmt -o ranks.tsv
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.core.tables import check_output, write_table
    from decode_zoo.studies.signature import COLUMNS

    source = gmt if genes is None else genes
    if source is None or (genes is not None and gmt is not None):
        raise UsageError("Give either a list of genes or --gmt FILE.")
    if gmt is not None and direction != "both":
        raise UsageError(
            f"Sets of a GMT file do not say which genes go {direction}.",
            remedy="Leave out --direction.",
        )

    def ranked() -> StudyResult:
        from decode_zoo.studies.signature import read_signature, read_signatures

        return dz.signature(
            [read_signature(source, direction)] if gmt is None else read_signatures(source),
            model_id,
            regulators=regulators,
            background=runner.read_genes(background),
            **runner.origin(
                requested_model=model_id,
                genes=genes,
                gmt=gmt,
                direction=direction,
                regulators=regulators,
                background=background,
            ),
        )

    if _is_table(output):
        if table_format == "parquet" and output.suffix.lower() != ".parquet":
            raise UsageError(
                f"{output} is a table of its own format.",
                remedy="--format is for folders; end the name in .parquet.",
            )
        check_output(output, force)
        found = ranked()
        write_table(
            found.to_frame("ranks"),
            output,
            provenance=found.numbers["provenance"],
            force=force,
            id_columns=COLUMNS[:2],
        )
        for line in found.lines:
            note(line)
    else:
        with runner.study_folder("", output, table_format) as folder:
            folder.write(ranked())
    return None if str(output) == "-" else output


def _is_table(output: Path) -> bool:
    """Return by its name whether an output is one table; '-' is standard output."""
    from decode_zoo.core.tables import suffix_of

    try:
        return str(output) == "-" or bool(suffix_of(output))
    except UsageError:
        return False


@study.command()
@runner.model
@click.argument("expression", type=FILE)
@option(FILE, "--samples", "TSV: names of samples, then their traits.")
@runner.sample_codes
@option(runner.TEXT, "--trait", "Column of --samples to study.", required=True)
@option(runner.NAMES, "--covariates", "Columns of --samples that effects are adjusted for.")
@_genes
@flag("--all-genes", "Study all genes of EXPRESSION.")
@choice(
    "--regulator-genes",
    "all de",
    "Average a regulator's scores over all of these genes, or those related to the trait.",
    "all",
)
@option(_OPEN_SHARE, "--fdr", "Largest false discovery rate of what counts as related.", 0.05)
@option(POSITIVE, "--permutations", "Permutations of samples, for comparison.", 200)
@runner.seed
@runner.new_folder
def traits(
    model_id: str,
    expression: Path,
    samples: Path | None,
    codes: Path | None,
    trait: str,
    covariates: list[str] | None,
    genes: Path | None,
    all_genes: bool,
    output: Path,
    **settings: Any,
) -> Path:
    """Relate a trait to expression, its prediction, and regulators.

    EXPRESSION is a folder that 'decode-zoo cohort prepare' made, or a matrix of genes × samples of
    log2(TPM + 0.25), with --samples; MODEL predicts the same samples. Samples are matched by name;
    those who are not in model, matrix and --samples, or lack a value, are left out and counted.

    A trait of numbers, or of brackets such as 50-59, which stand for their middles, is a slope; one
    of two levels is the second, in alphabetical order, against the first. Each gene has a linear
    model of its own, with variances moderated as in limma.

    The folder holds expression.tsv, predicted.tsv and regulators.tsv (effect, mean, t, p, q),
    summary.json with the concordance of expression and prediction, and traits.html.

    \b
    Example:
      decode-zoo study traits --model ./my-cohort-v1 cohort --trait sex --covariates age -o sex
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.cohort.folder import samples_of
    from decode_zoo.cohort.samples import read_sample_codes, read_samples

    matrix_file = runner.measured(expression)
    if samples is None and expression.is_dir():
        samples = samples_of(expression)
    if samples is None:
        raise UsageError("A matrix needs a table of samples.", remedy="--samples FILE")
    listed = runner.read_genes(genes, all_genes, needed=False)
    with runner.study_folder("explaining", output, "tsv", "pylimma") as folder:
        matrix, table = dz.read_expression(matrix_file), read_samples(samples)
        if codes is not None:
            known = read_sample_codes(codes)
            matrix, table = matrix.rename(columns=known), table.rename(index=known)
        found = dz.traits(
            matrix,
            table,
            trait,
            model_id,
            covariates=covariates or (),
            genes=[str(name) for name in matrix.index] if all_genes else listed,
            progress=folder.advance,
            **settings,
            **runner.origin(
                requested_model=model_id,
                expression=matrix_file,
                samples=samples,
                genes=genes,
                codes=codes,
            ),
        )
        folder.write(found)
    return output
