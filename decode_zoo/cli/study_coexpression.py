"""``decode-zoo study coexpression``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from decode_zoo.cli import options
from decode_zoo.errors import InputError, UsageError

if TYPE_CHECKING:
    from decode_zoo.studies.findings import Findings, Format

__all__ = ["coexpression"]


@click.command()
@click.option(
    "--model",
    "model_ids",
    type=options.NAME,
    required=True,
    multiple=True,
    metavar="ID|DIR",
    help="Model of persons: id in the registry, or a folder with a bundle. Repeatable.",
)
@click.option(
    "--expression",
    "expressions",
    type=options.FILE,
    required=True,
    multiple=True,
    metavar="DIR|FILE",
    help="What was measured of these persons; one a model, in the same order.",
)
@click.option(
    "--genes",
    type=options.FILE,
    metavar="FILE",
    help="Genes to study (default: those that each model was tested on).",
)
@click.option("--all-genes", is_flag=True, help="Study all genes that were measured.")
@click.option(
    "--pairs",
    type=options.FILE,
    metavar="FILE",
    help="Pairs of genes to look up as well: two columns, separated by tabs.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.7,
    show_default=True,
    help="Pairs whose measured rho exceeds it, in either direction, are strongly co-expressed.",
)
@click.option(
    "--tissue-model",
    type=options.NAME,
    default="gtex-tissue-v1",
    show_default=True,
    metavar="ID|DIR",
    help="Model of tissues, the rival that knows no person.",
)
@click.option(
    "--permutations",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="How often scores are dealt to other genes, for comparison.",
)
@click.option(
    "--resamples",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="How often genes are drawn again, for intervals.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@options.table_format
@options.new_folder
def coexpression(  # one parameter an option
    model_ids: tuple[str, ...],
    expressions: tuple[Path, ...],
    genes: Path | None,
    all_genes: bool,
    pairs: Path | None,
    threshold: float,
    tissue_model: str,
    permutations: int,
    resamples: int,
    seed: int,
    table_format: Format,
    output: Path,
) -> None:
    """Tell co-expressed genes from others by what is predicted of them.

    Two genes are co-expressed if they rise and fall together over persons (Spearman's rho). Are
    pairs with a high measured rho told from others by their predicted rho? Beside it: predictions
    dealt to other genes, the same from predicted tissues, which know no person, and how alike two
    genes are by RNA length and number of bound tracks.

    --expression is a folder that 'decode-zoo cohort prepare' made, or a matrix of genes × persons
    of log2(TPM + 0.25); persons are matched by name. Of two models, genes in one tissue are also
    compared with genes in the other, over the donors of both (first two fields of GTEx names).

    The folder holds separation, pairs (those of strongest prediction), with --pairs asked_pairs,
    density, summary.json and index.html.

    \b
    Example:
      decode-zoo study coexpression --model lcl-person-v1 --expression cohort -o coexpression
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.cohort.folder import EXPRESSION
    from decode_zoo.files import atomic_dir
    from decode_zoo.genelist import read_gene_list
    from decode_zoo.provenance import origin_of
    from decode_zoo.studies.coexpression import study_coexpression
    from decode_zoo.studies.findings import check_extras

    if len(model_ids) != len(expressions):
        raise UsageError(
            f"{options.counted(len(model_ids), '--model')} and "
            f"{options.counted(len(expressions), '--expression')} are given.",
            remedy="Give one --expression for each --model, in the same order.",
        )
    if all_genes and genes is not None:
        raise UsageError("Give either a file of genes or --all-genes.")
    files = [path / EXPRESSION if path.is_dir() else path for path in expressions]
    options.check_inputs_kept([output], [*model_ids, *files, genes, pairs, tissue_model])
    check_extras(table_format)
    with options.named_in_errors(output), atomic_dir(output) as folder:
        asked = None if pairs is None else _read_pairs(pairs)
        listed = None if genes is None else read_gene_list(genes)
        matrices = [dz.read_expression(file) for file in files]
        models = [dz.load(name) for name in model_ids]
        with options.progress("comparing") as tell:
            found = study_coexpression(
                models,
                matrices,
                dz.load(tissue_model),
                genes=listed,
                all_genes=all_genes,
                pairs=asked,
                threshold=threshold,
                permutations=permutations,
                resamples=resamples,
                seed=seed,
                command=["decode-zoo", *sys.argv[1:]],
                facts={
                    "requested_models": list(model_ids),
                    "expression": [origin_of(file) for file in files],
                    "genes": origin_of(genes),
                    "pairs": origin_of(pairs),
                },
                progress=tell,
            )
        found.fill(folder, table_format)
    _report(found)
    click.echo(str(output))


def _read_pairs(path: Path) -> list[tuple[str, str]]:
    from decode_zoo.textfile import read_table

    pairs = []
    for number, cells in enumerate(read_table(path), 1):
        names = [cell.strip() for cell in cells]
        if not any(names):
            continue
        if len(names) < 2 or not (names[0] and names[1]):
            raise InputError(
                "does not name two genes",
                path=path,
                line=number,
                remedy="Give one pair a line, separated by a tab.",
            )
        pairs.append((names[0], names[1]))
    if not pairs:
        raise InputError(
            "names no pairs of genes", path=path, remedy="Give one pair a line, separated by a tab."
        )
    return pairs


def _report(found: Findings) -> None:
    """Say on stderr what was compared, and what came of it."""
    tell = partial(click.echo, err=True)
    for item in found.numbers["comparisons"]:
        noun = "donor" if "donors" in item else "person"
        strong = item["pairs"]["negative"] + item["pairs"]["positive"]
        tell(
            f"{item['comparison']}: {options.counted(item[f'{noun}s']['n'], noun)}, "
            f"{options.counted(item['genes']['n'], 'gene')} {item['genes']['chosen']}, "
            f"{strong:,} of {item['pairs']['n']:,} pairs strongly co-expressed"
        )
        for row in item["scores"]:
            if row["auroc"] == row["auroc"]:  # there are such pairs
                tell(
                    f"  {row['score']}, {row['pairs']}: AUROC {row['auroc']:.3f} "
                    f"({row['low']:.3f} to {row['high']:.3f}), dealt to other genes "
                    f"{row['dealt']:.3f} (p = {row['p']:.2g})"
                )
    for text in found.numbers["left_out"]:
        tell(f"left out: {text}")
