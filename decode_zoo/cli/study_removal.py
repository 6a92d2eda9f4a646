"""``decode-zoo study knockout``, ``pair`` and ``disrupt``: sites are taken away."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from decode_zoo.cli import options
from decode_zoo.errors import UsageError

if TYPE_CHECKING:
    from decode_zoo.studies.findings import Format
    from decode_zoo.studies.removal.knockout import By
    from decode_zoo.studies.removal.pair import RemoveFrom

__all__ = ["disrupt", "knockout", "pair"]

_by = click.option(
    "--by",
    type=click.Choice(["class", "regulator", "track"]),
    default="regulator",
    show_default=True,
    help="What is taken away at a time.",
)
_seed = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)


def _two(text: str, what: str) -> tuple[str, str]:
    """Split a pair of names."""
    names = options.split_names(text) or []
    if len(names) != 2 or not all(names):
        raise UsageError(f"{text!r} is no pair of {what}.", remedy="Join two names by a comma.")
    return names[0], names[1]


@click.command()
@options.model
@options.genes
@options.all_genes
@options.outputs
@_by
@click.option(
    "--regulators", metavar="NAME,…", help="Knock out only these, e.g. SPI1 or RBP:YY1 (or tracks)."
)
@click.option(
    "--double",
    multiple=True,
    metavar="NAME,NAME",
    help="Knock out these two together, too; may be repeated.",
)
@options.table_format
@options.new_folder
def knockout(
    model_id: str,
    genes: Path | None,
    all_genes: bool,
    outputs: str | None,
    by: By,
    regulators: str | None,
    double: tuple[str, ...],
    table_format: Format,
    output: Path,
) -> None:
    """Say how predictions change if regulators lose their sites, one by one.

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
    from decode_zoo.files import atomic_dir
    from decode_zoo.genelist import read_gene_list
    from decode_zoo.provenance import origin_of
    from decode_zoo.studies.findings import check_extras
    from decode_zoo.studies.removal import study_knockout

    if all_genes == (genes is not None):
        raise UsageError("Give either a file of genes or --all-genes.")
    pairs = [_two(text, "regulators") for text in double]
    check_extras(table_format)
    options.check_inputs_kept([output], [model_id, genes])
    with options.named_in_errors(output), atomic_dir(output) as folder:
        queries = None if genes is None else read_gene_list(genes)
        with options.progress("knocking out") as tell:
            found = study_knockout(
                dz.load(model_id),
                queries,
                folder,
                by=by,
                outputs=options.split_names(outputs),
                regulators=options.split_names(regulators),
                double=pairs,
                table_format=table_format,
                command=["decode-zoo", *sys.argv[1:]],
                facts={"requested_model": model_id, "gene_list": origin_of(genes)},
                progress=tell,
            )
        found.fill(folder, table_format)
    click.echo(
        f"{found.facts['Knock-outs']} knock-outs on {found.facts['Genes']} genes; not knocked out: "
        f"{len(found.numbers['not_knocked_out'])} names without sites or unknown",
        err=True,
    )
    click.echo(str(output))


@click.command()
@click.option(
    "--model",
    "model_ids",
    type=options.NAME,
    required=True,
    multiple=True,
    metavar="ID|DIR",
    help="Model whose outputs are persons; may be repeated.",
)
@click.argument("genes", type=options.NAME, metavar="GENE,GENE")
@_by
@click.option(
    "--removals",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="How many random removals.",
)
@click.option(
    "--remove-from",
    type=click.Choice(["both", "first", "second"]),
    default="both",
    show_default=True,
    help="Which gene loses a regulator's sites (the original software: first).",
)
@click.option(
    "--no-positions", is_flag=True, help="Remove regulators only, not bins (needs no sites.npz)."
)
@_seed
@options.table_format
@options.new_folder
def pair(
    model_ids: tuple[str, ...],
    genes: str,
    by: By,
    removals: int,
    remove_from: RemoveFrom,
    no_positions: bool,
    seed: int,
    table_format: Format,
    output: Path,
) -> None:
    """Say which regulators and which places hold two genes together.

    In each of many removals a random half of the regulators (then, of the bins of one gene) loses
    its sites; the co-expression that models of persons predict (Spearman's rho over persons) is
    regressed on what was removed.

    The folder holds models.tsv, across.tsv (regulators over all models), regression.tsv and
    intervals.tsv with the columns of the original software (term, estimate, std.error, statistic,
    p.value) and Bonferroni's p, pictures, summary.json and index.html.

    \b
    Example:
      decode-zoo study pair LAPTM5,CD53 --model lcl-person-v1 --model gtex-heart-person-v1 -o pair
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.files import atomic_dir
    from decode_zoo.studies.findings import check_extras
    from decode_zoo.studies.removal import study_pair

    names = _two(genes, "genes")
    check_extras(table_format)
    options.check_inputs_kept([output], model_ids)
    with options.named_in_errors(output), atomic_dir(output) as folder:
        with options.progress("removing") as tell:
            found = study_pair(
                [dz.load(name) for name in model_ids],
                names,
                by=by,
                removals=removals,
                remove_from=remove_from,
                positions=not no_positions,
                seed=seed,
                command=["decode-zoo", *sys.argv[1:]],
                progress=tell,
            )
        found.fill(folder, table_format)
    for row in found.tables["models"][1].itertuples():
        click.echo(
            f"{row.model}, {row.removed}: rho {row.rho_intact:.3f} with all sites, "
            f"{row.rho_after_removals:.3f} after removals; {row.significant} of {row.terms} matter",
            err=True,
        )
    click.echo(str(output))


@click.command()
@options.model
@options.genes
@options.all_genes
@options.outputs
@options.table_format
@options.new_folder
def disrupt(
    model_id: str,
    genes: Path | None,
    all_genes: bool,
    outputs: str | None,
    table_format: Format,
    output: Path,
) -> None:
    """Say how predictions change if the sites of one place are gone, bin by bin.

    For each gene in GENES (first column; '-' is stdin) and each bin of its promoter and RNA that
    has sites, the change of every output. Experiments of which only target genes are known have no
    places: they stay. Needs the positions of the feature set (decode-zoo fetch).

    The folder holds bins.tsv, sides.tsv (all sites of a side gone), a picture along promoters and
    RNAs, summary.json and index.html. Random removals for a pair of genes: decode-zoo study pair.

    \b
    Example:
      decode-zoo study disrupt --model gtex-tissue-v1 genes.tsv --outputs Liver -o places
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.files import atomic_dir
    from decode_zoo.genelist import read_gene_list
    from decode_zoo.provenance import origin_of
    from decode_zoo.studies.findings import check_extras
    from decode_zoo.studies.removal import study_disruption

    if all_genes == (genes is not None):
        raise UsageError("Give either a file of genes or --all-genes.")
    check_extras(table_format)
    options.check_inputs_kept([output], [model_id, genes])
    with options.named_in_errors(output), atomic_dir(output) as folder:
        queries = None if genes is None else read_gene_list(genes)
        with options.progress("disrupting") as tell:
            found = study_disruption(
                dz.load(model_id),
                queries,
                outputs=options.split_names(outputs),
                command=["decode-zoo", *sys.argv[1:]],
                facts={"requested_model": model_id, "gene_list": origin_of(genes)},
                progress=tell,
            )
        found.fill(folder, table_format)
    click.echo(
        f"{found.facts['Bins with sites']} bins of {found.facts['Genes']} genes; left out: "
        f"{len(found.numbers['not_disrupted'])} names without sites or unknown",
        err=True,
    )
    click.echo(str(output))
