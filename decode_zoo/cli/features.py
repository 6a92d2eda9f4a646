"""``decode-zoo features``: build, info, merge."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from decode_zoo.cli import options
from decode_zoo.errors import UsageError

if TYPE_CHECKING:
    from decode_zoo.features import FeatureSet
    from decode_zoo.layout import Side
    from decode_zoo.sites import SiteFile

__all__ = ["describe", "features"]


@click.group()
def features() -> None:
    """Make and inspect feature sets (covered bases of genes by tracks)."""


@features.command()
@click.option("--gtf", type=options.FILE, help="Gene models (GENCODE, Ensembl or RefSeq style).")
@click.option(
    "--like",
    type=options.NAME,
    metavar="ID|DIR",
    help="Take gene models, bins and window from a feature set instead, so that the "
    "result can be merged with it.",
)
@click.option(
    "--tss", type=options.FILE, help="BED6 of start sites (id in column 4) for promoters."
)
@click.option(
    "--promoter",
    type=options.FILE,
    multiple=True,
    help="Sites on promoters: folder of BED files (stem = track), manifest, or file.",
)
@click.option(
    "--rna", type=options.FILE, multiple=True, help="Sites on RNAs: folder, manifest or file."
)
@click.option(
    "--mirna",
    type=options.FILE,
    multiple=True,
    help="Sites on RNAs, one file whose name column holds the miRNA.",
)
@click.option(
    "--targets",
    type=options.FILE,
    multiple=True,
    help="Target genes of TFs, without positions: a GMT file, one experiment a line.",
)
@click.option(
    "--target-names",
    type=options.NAME,
    multiple=True,
    metavar="PATTERN",
    help="How the names of a GMT file's lines are made up, for each file or one for all: "
    "{regulator}, {cell} and {} for the rest, such as '{regulator}_{cell}_{}'.",
)
@click.option(
    "--target-ids",
    type=options.FILE,
    help="What GMT files call genes, if neither id nor symbol: TSV with alias, gene_id.",
)
@click.option(
    "--level",
    type=click.Choice(["gene", "transcript"]),
    default="gene",
    show_default=True,
    help="A row is a gene (union of its exons) or a transcript.",
)
@click.option("--genome", default="hg38", show_default=True, help="Name of the assembly.")
@click.option("--chrom-sizes", type=options.FILE, help="Chromosome sizes, for assemblies but hg38.")
@click.option("--bin", "bin_width", default=100, show_default=True, help="Bin width (bp, nt).")
@click.option("--upstream", default=2000, show_default=True, help="Promoter window before the TSS.")
@click.option("--downstream", default=1000, show_default=True, help="Promoter window after it.")
@click.option(
    "--boundary",
    type=click.Choice(["clip", "within"]),
    default="clip",
    show_default=True,
    help="Sites across an exon or window border count with the part inside (clip), or "
    "not at all (within, as the original software did).",
)
@click.option(
    "--promoter-strand", type=click.Choice(["ignore", "match"]), default="ignore", show_default=True
)
@click.option(
    "--rna-strand", type=click.Choice(["ignore", "match"]), default="match", show_default=True
)
@click.option("--aliases", type=options.FILE, help="Other names of genes: TSV with alias, gene_id.")
@click.option("-o", "--output", type=options.FILE, required=True, help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace an existing feature set.")
def build(
    gtf: Path | None,
    like: str | None,
    tss: Path | None,
    promoter: Sequence[Path],
    rna: Sequence[Path],
    mirna: Sequence[Path],
    targets: Sequence[Path],
    target_names: Sequence[str],
    target_ids: Path | None,
    level: str,
    genome: str,
    chrom_sizes: Path | None,
    bin_width: int,
    upstream: int,
    downstream: int,
    boundary: str,
    promoter_strand: str,
    rna_strand: str,
    aliases: Path | None,
    output: Path,
    force: bool,
) -> None:
    """Build a feature set from gene models and binding sites.

    \b
    Example:
      decode-zoo features build --gtf gencode.gtf.gz --promoter chip/ --rna eclip.tsv -o my-set
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.annotation import override_tss, read_gtf, read_tss_bed
    from decode_zoo.builder import annotation_of, read_aliases
    from decode_zoo.genesets import TargetFile, read_ids
    from decode_zoo.genome import Genome, read_chrom_sizes

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
    sources = [gtf, like, tss, chrom_sizes, aliases, target_ids, *promoter, *rna, *mirna, *targets]
    options.check_inputs_kept([output], sources)
    names = read_aliases(aliases) if aliases else {}
    if like is not None:
        _refuse_layout_options()
        base = dz.load_features(like)
        genome, layout = base.layout.genome, base.layout
        assembly = read_chrom_sizes(chrom_sizes, genome) if chrom_sizes else Genome.named(genome)
        annotation, names = annotation_of(base, assembly), {**base.aliases, **names}
    else:
        assembly = read_chrom_sizes(chrom_sizes, genome) if chrom_sizes else Genome.named(genome)
        annotation = read_gtf(gtf, assembly, level=level)  # type: ignore[arg-type]
        layout = dz.Layout(
            bin=bin_width,
            upstream=upstream,
            downstream=downstream,
            boundary=boundary,  # type: ignore[arg-type]
            promoter_stranded=promoter_strand == "match",
            rna_stranded=rna_strand == "match",
        )
    if tss:
        annotation, moved = override_tss(annotation, read_tss_bed(tss, assembly))
        click.echo(
            f"{moved} of {len(annotation)} promoters moved to measured start sites", err=True
        )
    files: dict[Side, list[SiteFile]] = {"promoter": [], "rna": []}
    for source in promoter:
        files["promoter"] += dz.find_site_files(source, "promoter")
    for source in rna:
        files["rna"] += dz.find_site_files(source, "rna")
    for source in mirna:
        files["rna"] += dz.find_site_files(source, "rna", by_name=True)
    ids = read_ids(target_ids) if target_ids else None
    patterns = [*target_names] * (len(targets) if len(target_names) == 1 else 1)
    lists = [
        TargetFile(path, pattern, path.name, ids=ids)
        for path, pattern in zip(targets, patterns, strict=True)
    ]
    logging.getLogger("decode_zoo.genesets").setLevel(logging.INFO)  # says how many are known
    total = sum(map(len, files.values())) + len(lists)
    bar = click.progressbar(length=total, label="Reading sites", file=sys.stderr)
    with bar if sys.stderr.isatty() else nullcontext(), options.named_in_errors(output):
        built = dz.build_features(
            annotation,
            assembly,
            files,
            output,
            layout=layout,
            aliases=names,
            targets=lists,
            force=force,
            progress=bar.update if sys.stderr.isatty() else None,
        )
    click.echo(f"{output}: {_summary(built)}", err=True)


@features.command("info")
@click.argument("source", type=options.NAME, metavar="ID|DIR")
@click.option("--tracks", is_flag=True, help="List the tracks as a table.")
def show(source: str, tracks: bool) -> None:
    """Say what is in a feature set."""
    import decode_zoo as dz
    from decode_zoo.layout import SIDES

    found = dz.load_features(source)
    if tracks:
        click.echo("side\ttrack\tregulator\tkind\tcell\tsource")
        for side in SIDES:
            for t in found.side_tracks[side]:
                click.echo(f"{side}\t{t.name}\t{t.regulator}\t{t.kind}\t{t.cell}\t{t.source}")
        return
    for line in describe(found):
        click.echo(line)


def describe(features: FeatureSet) -> list[str]:
    """Lines that say what is in a feature set."""
    from decode_zoo.sites import describe_tracks

    layout = features.layout
    lines = [
        f"genome      {layout.genome}",
        f"rows        {options.counted(len(features), layout.level)}",
        f"window      -{layout.upstream}..+{layout.downstream} bp, bins of {layout.bin}",
        f"boundary    {layout.boundary}",
    ]
    for side, tracks in features.side_tracks.items():
        lines.append(f"{side:11} {describe_tracks(tracks)}")
    lines.append(f"built by    decode-zoo {features.builder_version}")
    lines.append(f"sha256      {features.sha256}")
    return lines


@features.command()
@click.argument("base", type=options.NAME, metavar="BASE")
@click.argument("added", type=options.NAME, metavar="ADDED")
@click.option("-o", "--output", type=options.FILE, required=True, help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace an existing feature set.")
def merge(base: str, added: str, output: Path, force: bool) -> None:
    """Add the tracks of feature set ADDED to those of BASE (ids or folders).

    Both must describe the same gene models; see 'features build --like'.
    """
    import decode_zoo as dz

    options.check_inputs_kept([output], [base, added])
    sets = dz.load_features(base), dz.load_features(added)
    with options.named_in_errors(output):
        merged = dz.merge_features(*sets, output, force=force)
    click.echo(f"{output}: {_summary(merged)}", err=True)


def _refuse_layout_options() -> None:
    """With --like the layout is the other set's: options that would change it are an error."""
    context = click.get_current_context()
    for name in (
        "level",
        "genome",
        "bin_width",
        "upstream",
        "downstream",
        "boundary",
        "promoter_strand",
        "rna_strand",
        "tss",
    ):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = {"bin_width": "bin"}.get(name, name).replace("_", "-")
            raise UsageError(f"--{option} cannot be combined with --like, which settles it.")


def _summary(features: FeatureSet) -> str:
    rows = options.counted(len(features), features.layout.level)
    promoter, rna = (len(features.tracks(side)) for side in ("promoter", "rna"))
    return f"{rows}, {promoter} promoter and {options.counted(rna, 'RNA track')}"
