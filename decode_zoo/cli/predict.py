"""``decode-zoo predict | explain | report | evaluate``: what a model predicts, why, how well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from decode_zoo.cli import runner
from decode_zoo.cli.runner import FILE, choice, cli, flag, note, option
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.core.text import counted

if TYPE_CHECKING:
    from decode_zoo.attribution.scores import By
    from decode_zoo.features.featureset import FeatureSet
    from decode_zoo.networks.backends import BackendName, Device
    from decode_zoo.studies.evaluation import Evaluation
    from decode_zoo.zoo.model import Model


def _remark(listed: Any, known: FeatureSet, missing: Any, hint: str | None) -> None:
    """Print on stderr what the tables do not say."""
    runner.note_missing(missing)
    if hint:
        note(hint)
    runner.note_beside(listed, known)


@cli.command()
@runner.model
@runner.genes
@runner.all_genes
@runner.table
@runner.outputs
@runner.contrasts
@flag("--spread", "Add the standard deviation over the ensemble's members (OUTPUT sd).")
@runner.features
@runner.fill_missing
@choice("--device", "auto cpu cuda", "With cuda: all of it there, or an error.", "auto")
@choice("--backend", "auto onnxruntime numpy", "Which computes.", "auto")
@runner.force
def predict(
    model_id: str,
    genes: Path | None,
    all_genes: bool,
    output: Path | None,
    outputs: list[str] | None,
    contrasts: tuple[tuple[str, str], ...],
    spread: bool,
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
      decode-zoo predict --model gtex-tissue-v1 genes.tsv --contrast Liver,Lung
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.core.tables import check_output, write_table

    check_output(output, force)
    queries = runner.read_genes(genes, all_genes)
    model = dz.load(model_id)
    own = runner.load_own(features_source)
    bound = model.bind(own, fill_missing=fill_missing)
    table = model.predict(
        queries,
        features=own,
        outputs=outputs,
        contrasts=contrasts,
        spread=spread,
        fill_missing=fill_missing,
        backend=backend,
        device=device,
    )
    used = model.backend(backend, device)
    write_table(
        table,
        output,
        provenance={}
        if runner.is_stdout(output)
        else runner.record(requested_model=model_id, genes=genes, **model.provenance(bound, used)),
        force=force,
        id_columns=list(table.columns[:3]),
        units={item.name: item.unit for item in model.choose(outputs, contrasts).outputs},
    )
    note(f"{runner.statuses(table['status'])}, {used.name}")
    _remark(queries, bound.features, bound.missing, table.attrs["hint"])


@cli.command()
@runner.model
@runner.genes
@runner.all_genes
@runner.table
@runner.outputs
@runner.contrasts
@choice(
    "--by",
    "class regulator track position",
    "What scores are given for; by position, the bins of each track (needs sites.npz).",
    "regulator",
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
    contrasts: tuple[tuple[str, str], ...],
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
      decode-zoo explain --model gtex-tissue-v1 genes.tsv --contrast Liver,Lung --top 10
      decode-zoo explain --model gtex-tissue-v1 --all-genes --by track -o scores.parquet
      decode-zoo explain --model gtex-tissue-v1 genes.tsv --summary -o summary.tsv
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.attribution import writer

    selection = writer.TopK(top, summary)
    writer.check_attributions(output, by, selection, force=force)
    target = None if runner.is_stdout(output) else output
    if target is not None:
        runner.check_inputs_kept(writer.totals_path(target))
    queries, against = runner.read_genes(genes, all_genes), runner.read_genes(background)
    model = dz.load(model_id)
    explainer = model.explainer(
        by=by,
        outputs=outputs,
        contrasts=contrasts,
        background=against,
        features=runner.load_own(features_source),
        fill_missing=fill_missing,
    )
    found = model.rows_of(queries, explainer.bound)
    if target is None:
        largest = writer.print_attributions(explainer, found.rows, selection)
    else:
        record = runner.record(
            requested_model=model_id,
            genes=genes,
            not_explained=found.lost,
            **explainer.description(),
        )
        with runner.bar("explaining", found.rows.size) as bar:
            largest = writer.write_attributions(
                explainer,
                found.rows,
                target,
                selection,
                provenance=record,
                force=force,
                progress=bar.update,
            )
    known = explainer.bound.features
    lost = "".join(f", {n} {name}" for name, n in Counter(found.lost.values()).items())
    note(
        f"{counted(found.rows.size, known.layout.level)} explained{lost}; "
        f"largest |prediction - reference - sum of scores|: {largest:.1e}"
    )
    _remark(queries, known, explainer.bound.missing, found.hint)


@cli.command()
@runner.model
@click.argument("genes", type=FILE)
@option(
    runner.OUTPUT, "-o --output", "The page to write: a name that ends in .html.", required=True
)
@option(str, "--title", "Heading of the page (default: the number of genes).")
@option(
    FILE,
    "--study studies",
    "A folder that 'decode-zoo study' made, as a section of the page; may be repeated.",
    multiple=True,
    metavar="DIR",
)
@runner.outputs
@runner.contrasts
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
    from decode_zoo.pages.report import build_report, check_page

    check_page(output, force)
    queries, against = runner.read_genes(genes), runner.read_genes(background)
    model = dz.load(model_id)
    own = runner.load_own(features_source)
    origin = runner.origin(
        requested_model=model_id,
        genes=genes,
        background_genes=background,
        studies=[folder / "summary.json" for folder in studies],
    )
    with runner.progress("explaining", len(queries)) as advance:
        settings |= {"background": against, "features": own, "studies": studies}
        made = build_report(model, queries, progress=advance, **settings, **origin)
    made.write(output, force=force)
    size = output.stat().st_size / 1e6
    note(f"{output}: {runner.statuses(made.table['status'])}, {size:.1f} MB")
    if made.no_positions:
        note(f"Without scores by position: {made.no_positions}")
    _remark(queries, own or model.features, made.missing, made.table.attrs["hint"])


@cli.command()
@click.argument("expression", type=FILE)
@runner.model
@choice(
    "--scale",
    "tpm log2tpm log2",
    "What a file holds: TPM, log2(TPM + 0.25), or the latter normalised.",
)
@option(
    FILE,
    "--genes",
    "Genes to compare (default: those of the chromosomes that the model was tested on).",
)
@option(
    runner.SOURCE,
    "--against",
    "A model of another tissue; are donors the same in both? Needs --against-expression.",
)
@option(FILE, "--against-expression", "What was measured in that tissue.")
@option(
    FILE, "--donors", "Table of samples and donors (default: the first two fields of GTEx names)."
)
@runner.sample_codes
@option(int, "--seed", "Of bootstrap and permutations.", 0)
@runner.folder
@runner.force
def evaluate(
    expression: Path,
    model_id: str,
    scale: str | None,
    genes: Path | None,
    against: str | None,
    against_expression: Path | None,
    donors: Path | None,
    codes: Path | None,
    seed: int,
    output: Path,
    force: bool,
) -> Path:
    """Compare predictions with measured expression, beside controls.

    EXPRESSION is a folder that 'decode-zoo cohort prepare' made, or a matrix of genes × outputs
    (--scale) whose columns are named as the model's outputs.

    The folder gets outputs.tsv, genes.tsv, matrix.tsv.gz, summary.json and evaluation.html: rho of
    each output over genes, with the measurements of other outputs, of RNA length and the number of
    bound tracks alone; which prediction goes with which output best; the genes that differ between
    outputs as predicted.

    \b
    Example:
      decode-zoo evaluate cohort --model ./lcl-v1 -o lcl-evaluation
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.cohort.samples import read_sample_codes
    from decode_zoo.core.files import atomic_dir
    from decode_zoo.pages.folders import EVALUATION_FOLDER, fill_evaluation
    from decode_zoo.studies.evaluation import donor_concordance

    if (against is None) != (against_expression is None):
        raise UsageError("--against and --against-expression go together.")
    with atomic_dir(output, EVALUATION_FOLDER if force else None) as folder:
        known = None if donors is None else _read_donors(donors)
        named = {} if codes is None else read_sample_codes(codes)
        model = dz.load(model_id)
        found, chosen = evaluated(model, expression, scale, genes, seed, named)
        concordance = None
        if against is not None and against_expression is not None:
            other, _ = evaluated(dz.load(against), against_expression, scale, genes, seed, {})
            concordance = donor_concordance(found, other, known)
        files = (expression, genes, against_expression, donors, codes)
        fill_evaluation(
            found,
            model,
            folder,
            genes=chosen,
            command=runner.command_line(),
            inputs=[runner.measured(file) for file in files if file],
            donors=concordance,
        )
    summary = found.summary
    low, high = summary["interval_95"]
    note(
        f"{counted(summary['outputs'], 'output')}, {summary['genes']:,} genes: Spearman's "
        f"rho {summary['fold_change_spearman']:.3f} ({low:.3f} to {high:.3f}), with other outputs "
        f"{summary['other_outputs_spearman']:.3f}, median {summary['median_spearman']:.3f}"
    )
    return output


def evaluated(
    model: Model,
    expression: Path,
    scale: str | None,
    genes: Path | None,
    seed: int,
    codes: Mapping[str, str],
) -> tuple[Evaluation, str]:
    """Evaluate a model; return also, in words, the genes that were taken."""
    import decode_zoo as dz
    from decode_zoo.networks.manifest import MEDIAN
    from decode_zoo.studies.evaluation import evaluate_model, held_out_genes

    if expression.is_dir():
        file, scale = runner.measured(expression), "log2"
    else:
        file = runner.measured(expression, "--scale tpm|log2tpm|log2", scale=scale)
    targets = dz.make_targets(
        dz.read_expression(file).rename(columns=dict(codes)),
        scale=scale,  # type: ignore[arg-type]
        min_tpm=0,
    )
    ours, theirs = ({*names} - {MEDIAN} for names in (model.outputs, targets.names))
    note(
        f"{model.id} has {counted(len(ours), 'output')}, the matrix {len(theirs)}; "
        f"{len(ours & theirs)} are in both"
    )
    if genes is None:
        names = held_out_genes(model)
        chroms = model.manifest.tested_chromosomes
        listed = ", ".join(f"chr{name}" for name in chroms)
        chosen = f"on {listed}" if chroms else "held out of training"
    else:
        found = model.features.index.resolve(runner.read_genes(genes))
        names = [gene for gene, row in zip(found.gene_ids, found.rows, strict=True) if row >= 0]
        chosen = f"of {genes.name}"
    return evaluate_model(model, targets, names, seed=seed), chosen


def _read_donors(path: Path) -> dict[str, str]:
    """Read donors by sample."""
    donors: dict[str, str] = {}
    for line, sample, donor in runner.read_two_columns(path, "names no sample and its donor"):
        if sample in donors:
            remedy = "Keep one line a sample."
            raise InputError(f"sample '{sample}' occurs twice", path=path, line=line, remedy=remedy)
        donors[sample] = donor
    return donors
