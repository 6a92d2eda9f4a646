"""``decode-zoo features | cohort``: what models read, made from a user's own files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from decode_zoo.cli import runner
from decode_zoo.cli.runner import FILE, SOURCE, Verbs, choice, cli, flag, note, option
from decode_zoo.core.errors import UsageError
from decode_zoo.core.text import counted

if TYPE_CHECKING:
    from decode_zoo.features.featureset import FeatureSet


@cli.group(cls=Verbs)
def features() -> None:
    """Make and inspect feature sets (covered bases of genes by tracks)."""


@features.command()
@option(FILE, "--gtf", "Gene models (GENCODE, Ensembl or RefSeq style).")
@option(
    SOURCE,
    "--like",
    "Take gene models, bins and window from a feature set instead, so that the "
    "result can be merged with it.",
)
@option(FILE, "--tss", "BED6 of start sites (id in column 4) for promoters.")
@option(
    FILE,
    "--promoter",
    "Sites on promoters: folder of BED files (stem = track), manifest, or file.",
    multiple=True,
)
@option(FILE, "--rna", "Sites on RNAs: folder, manifest or file.", multiple=True)
@option(
    FILE, "--mirna", "Sites on RNAs, one file whose name column holds the miRNA.", multiple=True
)
@option(
    FILE,
    "--targets",
    "Target genes of TFs, without positions: a GMT file, one experiment a line.",
    multiple=True,
)
@option(
    runner.TEXT,
    "--target-names",
    "How the names of a GMT file's lines are made up, for each file or one for all: "
    "{regulator}, {cell} and {} for the rest, such as '{regulator}_{cell}_{}'.",
    multiple=True,
    metavar="PATTERN",
)
@option(
    FILE,
    "--target-ids",
    "What GMT files call genes, if neither id nor symbol: TSV with alias, gene_id.",
)
@choice(
    "--level", "gene transcript", "A row is a gene (union of its exons) or a transcript.", "gene"
)
@option(str, "--genome", "Name of the assembly.", "hg38")
@option(FILE, "--chrom-sizes", "Chromosome sizes, for assemblies but hg38.")
@option(int, "--bin", "Bin width (bp, nt).", 100)
@option(int, "--upstream", "Promoter window before the TSS.", 2000)
@option(int, "--downstream", "Promoter window after it.", 1000)
@choice(
    "--boundary",
    "clip within",
    "Sites across an exon or window border count with the part inside (clip), or "
    "not at all (within, as the original software did).",
    "clip",
)
@choice(
    "--promoter-strand",
    "ignore match",
    "Whether sites on promoters need the strand of the gene.",
    "ignore",
)
@choice(
    "--rna-strand", "ignore match", "Whether sites on RNAs need the strand of the gene.", "match"
)
@option(FILE, "--aliases", "Other names of genes: TSV with alias, gene_id.")
@runner.folder
@runner.force
def build(
    gtf: Path | None,
    like: str | None,
    tss: Path | None,
    promoter: tuple[Path, ...],
    rna: tuple[Path, ...],
    mirna: tuple[Path, ...],
    targets: tuple[Path, ...],
    target_names: tuple[str, ...],
    target_ids: Path | None,
    level: str,
    genome: str,
    chrom_sizes: Path | None,
    aliases: Path | None,
    output: Path,
    force: bool,
    promoter_strand: str,
    rna_strand: str,
    **window: Any,
) -> None:
    """Build a feature set from gene models and binding sites.

    \b
    Example:
      decode-zoo features build --gtf gencode.gtf.gz --promoter chip/ --rna eclip.tsv -o my-set
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.features.annotation import override_tss, read_gtf, read_tss_bed
    from decode_zoo.features.genes import read_aliases, read_ids
    from decode_zoo.features.genesets import TargetFile
    from decode_zoo.features.genome import Genome, read_chrom_sizes

    if (gtf is None) == (like is None):
        raise UsageError("Give either --gtf or --like.")
    if not (promoter or rna or mirna or targets):
        raise UsageError("Give at least one of --promoter, --rna, --mirna and --targets.")
    if len(target_names) not in (min(1, len(targets)), len(targets)):
        raise UsageError(
            f"There are {len(targets)} --targets and {len(target_names)} --target-names.",
            remedy="Give one pattern for each file in the same order, or one for all.",
        )
    if target_ids and not targets:
        raise UsageError("--target-ids is for --targets, of which there are none.")
    names = read_aliases(aliases) if aliases else {}
    base = None
    if like is not None:
        _refuse_layout_options()
        base = dz.load_features(like)
        genome = base.layout.genome
    assembly = read_chrom_sizes(chrom_sizes, genome) if chrom_sizes else Genome.named(genome)
    if base is not None:
        layout, names = base.layout, {**base.aliases, **names}
        annotation = dz.annotation_of(base, assembly)
    else:
        annotation = read_gtf(gtf, assembly, level=level)  # type: ignore[arg-type]
        layout = dz.Binning(
            **window,
            promoter_stranded=promoter_strand == "match",
            rna_stranded=rna_strand == "match",
        )
    if tss:
        annotation, moved = override_tss(annotation, read_tss_bed(tss, assembly))
        note(f"{moved} of {len(annotation)} promoters moved to measured start sites")
    on_promoters = [file for path in promoter for file in dz.find_site_files(path, "promoter")]
    on_rnas = [file for path in rna for file in dz.find_site_files(path, "rna")]
    for path in mirna:
        on_rnas += dz.find_site_files(path, "rna", by_name=True)
    ids = read_ids(target_ids) if target_ids else None
    patterns = target_names * (len(targets) if len(target_names) == 1 else 1)
    lists = [
        TargetFile(path, pattern, path.name, ids=ids)
        for path, pattern in zip(targets, patterns, strict=True)
    ]
    logging.getLogger("decode_zoo.features.genesets").setLevel(
        logging.INFO
    )  # how many names are known
    with runner.bar("Reading sites", len(on_promoters) + len(on_rnas) + len(lists)) as bar:
        built = dz.build_features(
            annotation,
            assembly,
            {"promoter": on_promoters, "rna": on_rnas},
            output,
            layout=layout,
            aliases=names,
            targets=lists,
            force=force,
            progress=bar.update,
        )
    note(f"{output}: {_summary(built)}")


@features.command("info")
@click.argument("source", type=SOURCE, metavar="ID|DIR")
@flag("--tracks", "List the tracks as a table.")
def show(source: str, tracks: bool) -> None:
    """Describe a feature set."""
    import decode_zoo as dz
    from decode_zoo.features.spec import SIDES

    found = dz.load_features(source)
    if not tracks:
        click.echo("\n".join(describe(found)))
        return
    click.echo("side\ttrack\tregulator\tkind\tcell\tsource")
    for side in SIDES:
        for t in found.side_tracks[side]:
            click.echo(f"{side}\t{t.name}\t{t.regulator}\t{t.kind}\t{t.cell}\t{t.source}")


def describe(features: FeatureSet) -> list[str]:
    """Return lines about what is in a feature set."""
    from decode_zoo.features.sites import describe_tracks

    layout = features.layout
    return [
        f"genome      {layout.genome}",
        f"rows        {counted(len(features), layout.level)}",
        f"window      -{layout.upstream}..+{layout.downstream} bp, bins of {layout.bin}",
        f"boundary    {layout.boundary}",
        *(f"{side:11} {describe_tracks(tracks)}" for side, tracks in features.side_tracks.items()),
        f"built by    decode-zoo {features.builder_version}",
        f"sha256      {features.sha256}",
    ]


@features.command()
@click.argument("base", type=SOURCE, metavar="BASE")
@click.argument("added", type=SOURCE, metavar="ADDED")
@runner.folder
@runner.force
def merge(base: str, added: str, output: Path, force: bool) -> None:
    """Add the tracks of feature set ADDED to those of BASE (ids or folders).

    Both must describe the same gene models; see 'features build --like'.
    """
    import decode_zoo as dz

    merged = dz.merge_features(base, added, output, force=force)
    note(f"{output}: {_summary(merged)}")


def _refuse_layout_options() -> None:
    """Raise UsageError if an option would change the layout, which with --like is the other's."""
    context = click.get_current_context()
    settled = "level genome bin upstream downstream boundary promoter_strand rna_strand tss"
    for name in settled.split():
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} cannot be combined with --like, which settles it.")


def _summary(features: FeatureSet) -> str:
    rows = counted(len(features), features.layout.level)
    promoter, rna = (len(features.tracks(side)) for side in ("promoter", "rna"))
    return f"{rows}, {promoter} promoter and {counted(rna, 'RNA track')}"


@cli.group(cls=Verbs)
def cohort() -> None:
    """Expression of samples: prepare it for fine-tuning."""


@cohort.command()
@click.argument("expression", type=FILE)
@choice(
    "--quantity", "counts tpm log2", "What the values are; log2 is log2(TPM + 0.25).", required=True
)
@option(FILE, "--samples", "Table of samples: names, then traits (TSV or CSV).")
@option(
    SOURCE,
    "--features features_source",
    "Feature set, for gene ids and exonic lengths.",
    "hg38-open-v2",
)
@option(
    runner.NAMES,
    "--covariates",
    "Columns of --samples to regress out of each gene: numbers as slopes, all else as categories. "
    "So are brackets such as 50-59, whose middles 'study traits' takes: give numbers for a slope.",
)
@option(click.FloatRange(min=0), "--min-tpm", "Keep genes above this …", 1.0)
@option(
    click.FloatRange(min=0, max=1, min_open=True),
    "--min-share",
    "… in this share of the samples or more.",
    0.5,
)
@option(
    bool,
    "--length-bias/--no-length-bias",
    "Take out what RNA length explains of each sample's differences.",
    True,
)
@runner.folder
@runner.force
def prepare(
    expression: Path,
    samples: Path | None,
    features_source: str,
    covariates: list[str] | None,
    output: Path,
    force: bool,
    **settings: Any,
) -> Path:
    """Prepare counts, TPM or log2(TPM + 0.25) of samples for fine-tuning.

    EXPRESSION is a matrix of genes × samples or samples × genes: TSV or CSV, plain or gzip,
    Parquet, or AnnData (.h5ad). Genes are named by Ensembl ids or symbols.

    Counts become TPM by exonic lengths; genes above 1 TPM in half of the samples are kept; then
    log2(TPM + 0.25), quantile normalisation, covariates and length bias regressed out, quantile
    normalisation again.

    The folder gets expression.tsv.gz, samples.tsv, record.json and quality.html: a page of library
    sizes, principal components by trait, outliers, sex by expression, and what became of the genes.
    It names samples.

    \b
    Example:
      decode-zoo cohort prepare counts.tsv --quantity counts --samples samples.tsv -o cohort
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.cohort.preparation import prepare_cohort
    from decode_zoo.pages.folders import write_cohort

    features = dz.load_features(features_source)
    prepared = prepare_cohort(
        expression, samples, features, covariates=covariates or (), **settings
    )
    quality = write_cohort(
        prepared,
        features,
        output,
        inputs=[file for file in (expression, samples) if file],
        command=runner.command_line(),
        force=force,
    )
    genes, people = prepared.expression.shape
    facts = prepared.facts
    turned = "; samples were its rows" if facts["transposed"] else ""
    note(
        f"{genes:,} of {facts['genes']['in_the_file']:,} genes kept, "
        f"{counted(people, 'sample')}{turned}"
    )
    if again := facts["genes"].get("duplicate", 0):
        note(f"{counted(again, 'row')} of genes that had one before: added to it")
    if quality.outliers or quality.sex.differing:
        found = [counted(len(quality.outliers), "outlier")]
        if quality.sex.calls and quality.sex.given:
            found.append(f"{len(quality.sex.differing)} of another sex than the table says")
        note(f"look at quality.html: {', '.join(found)}")
    return output
