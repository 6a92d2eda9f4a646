"""``decode-zoo study knockout | disrupt | pair``: sites are taken away."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from decode_zoo.cli import runner
from decode_zoo.cli.runner import choice, flag, option, study

if TYPE_CHECKING:
    from decode_zoo.studies.result import Format

_by = choice("--by", "class regulator track", "What is taken away at a time.", "regulator")


@study.command()
@runner.model_and_genes
@_by
@option(runner.NAMES, "--regulators", "Knock out only these, e.g. SPI1 or RBP:YY1 (or tracks).")
@option(
    runner.TWO_NAMES,
    "--double",
    "Knock out these two together, too; may be repeated.",
    multiple=True,
)
@runner.new_study
def knockout(
    model_id: str,
    genes: Path | None,
    all_genes: bool,
    table_format: Format,
    output: Path,
    **settings: Any,
) -> Path:
    """Predict how expression changes if regulators lose their sites, one by one.

    For each gene in GENES (first column; '-' is stdin) and each regulator that has sites on it, the
    change of every output: prediction without these sites minus prediction with them, exact. What
    a pair changes beyond the sum of both is in double.tsv.

    The folder holds deltas.tsv (all changes), regulators.tsv (means over genes), strongest.tsv,
    pictures, summary.json and index.html. All genes × all regulators × 54 outputs are more than
    eight million knock-outs: a quarter of an hour on two cores; take --format parquet.

    \b
    Examples:
      decode-zoo study knockout --model gtex-tissue-v1 genes.tsv -o knockout
      decode-zoo study knockout --model gtex-tissue-v1 --all-genes --regulators SPI1 -o spi1
      decode-zoo study knockout --model gtex-tissue-v1 genes.tsv --double HNF4A,CEBPA -o pair
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.core.tables import write_blocks

    queries = runner.read_genes(genes, all_genes)
    with runner.study_folder("knocking out", output, table_format) as folder:
        found = dz.knockout(
            queries,
            model_id,
            keep=partial(write_blocks, folder.path / f"deltas.{table_format}"),
            progress=folder.advance,
            **settings,
            **runner.origin(requested_model=model_id, gene_list=genes),
        )
        folder.write(found)
    return output


@study.command()
@runner.model_and_genes
@runner.new_study
def disrupt(
    model_id: str,
    genes: Path | None,
    all_genes: bool,
    outputs: list[str] | None,
    table_format: Format,
    output: Path,
) -> Path:
    """Predict how expression changes if one bin loses its sites.

    For each gene in GENES (first column; '-' is stdin) and each bin of its promoter and RNA that
    has sites, the change of every output. Experiments of which only target genes are known have no
    positions: they stay. Needs the positions of the feature set (decode-zoo fetch).

    The folder holds bins.tsv, sides.tsv (all sites of a side gone), a picture along promoters and
    RNAs, summary.json and index.html. Random removals for a pair of genes: decode-zoo study pair.

    \b
    Example:
      decode-zoo study disrupt --model gtex-tissue-v1 genes.tsv --outputs Liver -o places
    """  # noqa: D301
    import decode_zoo as dz

    queries = runner.read_genes(genes, all_genes)
    with runner.study_folder("disrupting", output, table_format) as folder:
        found = dz.disrupt(
            queries,
            model_id,
            outputs=outputs,
            progress=folder.advance,
            **runner.origin(requested_model=model_id, gene_list=genes),
        )
        folder.write(found)
    return output


@study.command()
@option(
    runner.SOURCE,
    "--model model_ids",
    "Model whose outputs are samples; may be repeated.",
    required=True,
    multiple=True,
)
@click.argument("genes", type=runner.TWO_GENES)
@_by
@option(runner.POSITIVE, "--removals", "How many random removals.", 10_000)
@choice(
    "--remove-from",
    "both first second",
    "Which gene loses a regulator's sites (the original software: first).",
    "both",
)
@flag("--no-positions", "Remove regulators only, not bins (needs no sites.npz).")
@runner.seed
@runner.new_study
def pair(
    model_ids: tuple[str, ...],
    genes: tuple[str, str],
    no_positions: bool,
    table_format: Format,
    output: Path,
    **settings: Any,
) -> Path:
    """Find which regulators and which bins hold two genes together.

    In each of many removals a random half of the regulators (then, of the bins of one gene) loses
    its sites; the co-expression that models of samples predict (Spearman's rho over samples) is
    regressed on what was removed.

    The folder holds models.tsv, across.tsv (regulators over all models), regression.tsv and
    intervals.tsv with the columns of the original software (term, estimate, std.error, statistic,
    p.value) and Bonferroni's p, pictures, summary.json and index.html.

    \b
    Example:
      decode-zoo study pair LAPTM5,CD53 --model lcl-person-v1 --model gtex-heart-person-v1 -o pair
    """  # noqa: D301
    import decode_zoo as dz

    with runner.study_folder("removing", output, table_format) as folder:
        found = dz.pair(
            genes,
            model_ids,
            positions=not no_positions,
            command=runner.command_line(),
            progress=folder.advance,
            **settings,
        )
        folder.write(found)
    return output
