"""``decode-zoo predict | explain | report``: what a model says of a list of genes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from decode_zoo.cli import runner
from decode_zoo.cli.runner import FILE, OUTPUT, Verb, counted, flag, note, option

if TYPE_CHECKING:
    from decode_zoo.attribution import By
    from decode_zoo.runtime import BackendName, Device


@click.command(cls=Verb)
@runner.model
@runner.genes
@runner.all_genes
@runner.table
@runner.outputs
@runner.features
@runner.fill_missing
@option(
    click.Choice(["auto", "cpu", "cuda"]),
    "--device",
    "With cuda: all of it there, or an error.",
    default="auto",
)
@option(
    click.Choice(["auto", "onnxruntime", "numpy"]), "--backend", "Which computes.", default="auto"
)
@runner.force
def predict(
    model_id: str,
    genes: Path | None,
    all_genes: bool,
    output: Path | None,
    outputs: list[str] | None,
    features_source: str | None,
    fill_missing: bool,
    device: Device,
    backend: BackendName,
    force: bool,
) -> None:
    """Predict expression of the genes in GENES (first column; '-' is stdin).

    Genes are Ensembl ids (with or without version), symbols or aliases. The result has one row for
    each input row, in input order: gene_id, symbol, status, then the outputs.

    \b
    Examples:
      decode-zoo predict --model gtex-tissue-v1 genes.tsv -o predictions.tsv
      printf 'TP53\\nGATA1\\n' | decode-zoo predict --model gtex-tissue-v1 - --outputs Whole_Blood
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.tables import check_output, write_table

    check_output(output, force)
    queries = runner.read_genes(genes, all_genes)
    model = dz.load(model_id)
    own = runner.load_own(features_source)
    bound = model.bind(own, fill_missing=fill_missing)
    table = model.predict(
        queries,
        features=own,
        outputs=outputs,
        fill_missing=fill_missing,
        backend=backend,
        device=device,
    )
    used = model.backend(backend, device)
    write_table(
        table,
        output,
        provenance=runner.record(
            requested_model=model_id, genes=genes, **model.provenance(bound, used)
        ),
        force=force,
        id_columns=list(table.columns[:3]),
        units={item.name: item.unit for item in model.manifest.outputs if item.name in table},
    )
    note(f"{runner.statuses(table['status'])}, {used.name}")
    runner.note_missing(bound.missing)
    if hint := table.attrs["hint"]:
        note(hint)
    runner.note_beside(queries, bound.features)


@click.command(cls=Verb)
@runner.model
@runner.genes
@runner.all_genes
@runner.table
@runner.outputs
@option(
    click.Choice(["class", "regulator", "track", "position"]),
    "--by",
    "What scores are given for; by position, the bins of each track (needs sites.npz).",
    default="regulator",
)
@option(int, "--top", "Only the K strongest per gene and output.", metavar="K")
@flag("--summary", "Only means over genes; not with --top.")
@runner.background
@runner.features
@runner.fill_missing
@runner.force
def explain(
    model_id: str,
    genes: Path | None,
    all_genes: bool,
    output: Path | None,
    outputs: list[str] | None,
    by: By,
    top: int | None,
    summary: bool,
    background: Path | None,
    features_source: str | None,
    fill_missing: bool,
    force: bool,
) -> None:
    """Attribute the predictions for the genes in GENES to regulators.

    Scores (DeepLIFT's rescale rule, in the output's unit) are how much each regulator adds to a
    prediction, compared with a gene without sites. The table is long: gene_id, symbol, output,
    class, regulator[, track[, bin]], score; what is not in it is zero. Beside it, NAME.totals.tsv
    holds each prediction, the reference, the sum of scores and what it misses. Large tables are
    written in chunks: repeat a call that was killed, and it goes on where it stopped.

    \b
    Examples:
      decode-zoo explain --model gtex-tissue-v1 genes.tsv --outputs Liver --top 10
      decode-zoo explain --model gtex-tissue-v1 --all-genes --by track -o scores.parquet
      decode-zoo explain --model gtex-tissue-v1 genes.tsv --summary -o summary.tsv
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo import writer

    selection = writer.Selection(top, summary)
    writer.check_attributions(output, by, selection, force=force)
    target = None if str(output) == "-" else output
    if target is not None:
        runner.check_inputs_kept(writer.totals_path(target))
    queries, against = runner.read_genes(genes, all_genes), runner.read_genes(background)
    explainer = dz.load(model_id).explainer(
        by=by,
        outputs=outputs,
        background=against,
        features=runner.load_own(features_source),
        fill_missing=fill_missing,
    )
    asked = explainer.model.rows_of(queries, explainer.bound)
    if target is None:
        largest = writer.print_attributions(explainer, asked.rows, selection)
    else:
        record = runner.record(
            requested_model=model_id,
            genes=genes,
            not_explained=asked.lost,
            **explainer.description(),
        )
        with runner.bar("explaining", asked.rows.size) as bar:
            largest = writer.write_attributions(
                explainer,
                asked.rows,
                target,
                selection,
                provenance=record,
                force=force,
                progress=bar.update,
            )
    known = explainer.bound.features
    lost = "".join(f", {n} {name}" for name, n in Counter(asked.lost.values()).items())
    note(
        f"{counted(asked.rows.size, known.layout.level)} explained{lost}; "
        f"largest |prediction - reference - sum of scores|: {largest:.1e}"
    )
    runner.note_missing(explainer.bound.missing)
    if asked.hint:
        note(asked.hint)
    runner.note_beside(queries, known)


@click.command(cls=Verb)
@runner.model
@click.argument("genes", type=FILE)
@option(OUTPUT, "-o --output", "The page to write: a name that ends in .html.", required=True)
@option(str, "--title", "Heading of the page (default: the number of genes).")
@option(
    FILE,
    "--study studies",
    "A folder that 'decode-zoo study' made, as a section of the page; may be repeated.",
    multiple=True,
    metavar="DIR",
)
@runner.outputs
@runner.background
@runner.features
@runner.fill_missing
@runner.force
def report(
    model_id: str,
    genes: Path,
    output: Path,
    studies: tuple[Path, ...],
    background: Path | None,
    features_source: str | None,
    force: bool,
    **settings: Any,
) -> None:
    """Write an interactive page about the genes in GENES (first column; '-' is stdin).

    One HTML file that needs no network: predictions as a heat map, the regulators behind them, each
    gene's sites along promoter and RNA, and where all of it comes from. At most 5,000 genes; the
    first 300 (with 54 outputs; more with fewer) are shown one by one.

    \b
    Examples:
      decode-zoo report --model gtex-tissue-v1 genes.tsv -o report.html
      decode-zoo report --model gtex-tissue-v1 genes.tsv --outputs Liver,Lung -o report.html
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.report import build_report, check_page

    check_page(output, force)
    queries, against = runner.read_genes(genes), runner.read_genes(background)
    model = dz.load(model_id)
    own = runner.load_own(features_source)
    with runner.progress("explaining", len(queries)) as advance:
        made = build_report(
            model,
            queries,
            background=against,
            features=own,
            studies=studies,
            progress=advance,
            **settings,
            **runner.origin(
                requested_model=model_id,
                genes=genes,
                background_genes=background,
                studies=[folder / "summary.json" for folder in studies],
            ),
        )
    made.write(output, force=force)
    size = output.stat().st_size / 1e6
    note(f"{output}: {runner.statuses(made.table['status'])}, {size:.1f} MB")
    runner.note_missing(made.missing)
    if made.no_positions:
        note(f"Without scores by position: {made.no_positions}")
    if hint := made.table.attrs["hint"]:
        note(hint)
    runner.note_beside(queries, own or model.features)
