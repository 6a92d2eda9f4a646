"""What the choices behind hg38-open-v1 and gtex-tissue-decode-v1 change.

    python -m benchmarks.feature_choices DATA

Prints, on validation genes only (chr1 is not looked at), the score of ridge regression with
measured and with annotated start sites, and with the miRBase predictions added; and what part of
the sites' bases and of the (gene, track) pairs stays with `--boundary within`. DATA is the folder
with annotation/, binding/ and expression/.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from benchmarks.baselines import fit_ridge, log_sums
from conversion.gtex_tissue_decode_v1 import ALPHAS, SELECTION
from decode_zoo.cohort.expression import Targets, make_targets, read_expression
from decode_zoo.features.annotation import Annotation, override_tss, read_gtf, read_tss_bed
from decode_zoo.features.bins import clip_sites, rna_regions
from decode_zoo.features.building import build_features
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.features.genome import Genome
from decode_zoo.features.sites import SiteFile, find_site_files, read_sites
from decode_zoo.networks.decode import DecodeConfig
from decode_zoo.networks.manifest import Split
from decode_zoo.networks.metrics import score, summarise
from decode_zoo.training.dataset import make_dataset


def ridge_score(features: FeatureSet, targets: Targets, selection: Split) -> str:
    """Score of ridge regression on validation genes, the penalty chosen on them too."""
    dataset = make_dataset(features, targets, DecodeConfig().kernels, selection)
    training, validation = dataset.split.training, dataset.split.validation
    scale = np.array([output.scale for output in dataset.outputs])
    y = dataset.targets.values / scale
    x = log_sums(dataset, validation)
    ridge = fit_ridge(log_sums(dataset, training), y[training], x, y[validation], ALPHAS)
    observed = dataset.targets.values[validation]
    found = summarise(score(ridge.predict(x) * scale, observed, dataset.targets.names))
    return f"{found['fold_change_spearman']:.3f}\t{found['median_spearman']:.3f}"


def kept_within(files: list[SiteFile], annotation: Annotation, genome: Genome) -> tuple[float, ...]:
    """Parts of covered bases and of (gene, track) pairs that stay with `--boundary within`."""
    regions = rna_regions(annotation, genome, stranded=True)
    sums = np.zeros((2, 2))
    for file in files:
        sites = read_sites(file, genome, stranded=True)
        for i, boundary in enumerate(("clip", "within")):
            pieces = clip_sites(sites, regions, genome, boundary)
            sums[i] += (pieces.ends - pieces.starts).sum(), np.unique(pieces.rows).size
    return tuple(sums[1] / sums[0])


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(data: Path) -> None:
    """Print both tables."""
    genome = Genome.named("hg38")
    annotated = read_gtf(data / "annotation/gencode.v25.collapsed.hg38.gtf.gz", genome)
    starts = read_tss_bed(data / "annotation/tss.cage.hg38.bed.gz", genome)
    measured, _ = override_tss(annotated, starts)
    files = {
        "promoter": find_site_files(data / "binding/promoter/manifest.tsv.gz", "promoter"),
        "rna": find_site_files(data / "binding/rna/manifest.tsv.gz", "rna"),
    }
    targets = make_targets(read_expression(data / "expression/gtex_tissue_log2tpm.tsv.gz"))
    both = replace(SELECTION, excluded_sources=())
    click.echo("ridge on validation genes\tfold changes\tmedian")
    with tempfile.TemporaryDirectory() as folder:
        cage = build_features(measured, genome, files, Path(folder) / "cage")
        click.echo(f"as published\t{ridge_score(cage, targets, SELECTION)}")
        click.echo(f"with miRBase predictions\t{ridge_score(cage, targets, both)}")
        gtf = build_features(annotated, genome, files, Path(folder) / "gtf")
        click.echo(f"annotated start sites\t{ridge_score(gtf, targets, SELECTION)}")
    click.echo("kept with --boundary within\tbases\tgene-track pairs")
    for kind in ("rbp", "rbp_other"):
        chosen = [file for file in files["rna"] if file.track.kind == kind]
        bases, pairs = kept_within(chosen, measured, genome)
        click.echo(f"{kind}\t{bases:.2f}\t{pairs:.2f}")


if __name__ == "__main__":
    main()
