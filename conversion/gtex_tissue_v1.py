"""Train and publish gtex-tissue-v1 or gtex-tissue-chromatin-v1.

    python -m conversion.gtex_tissue_v1 gtex-tissue-v1 EXPRESSION zoo/models/gtex-tissue-v1

EXPRESSION is the matrix of log2(TPM + 0.25), genes × 53 GTEx tissues (see the model cards). The
feature set is zoo/features/hg38-open-v2. Settings were chosen on other chromosomes than chr1
(docs/accuracy.md); chr1 is looked at once, at the end, and decides nothing.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import click

from conversion.gtex_tissue_decode_v1 import ROOT, SELECTION, current_commit
from decode_zoo.cohort.expression import make_targets, read_expression
from decode_zoo.core.files import atomic_dir, sha256_of
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.networks.perceptron import PerceptronConfig
from decode_zoo.training.dataset import make_dataset
from decode_zoo.training.members import PerceptronFit
from decode_zoo.training.pipeline import Description, fit_network, write_bundle

FEATURES = "hg38-open-v2"
# All genes that are detected anywhere: users ask for silent ones too.
MIN_TPM = 0.0
BINDING = ("tf", "tf_target", "rbp", "rbp_other", "mirna")
# The enhancer links are ENCODE-rE2G's, not GeneHancer's: an error that the published manifests hold
# for good (ERRATA in publish.py). To be mended with the next version of the models.
SOURCES = (
    "GTEx expression by tissue, v4 to v7, merged (see card)",
    "ENCODE ChIP-seq peaks: HepG2 consensus; uniform peaks of K562, GM12878, HeLa-S3, HUVEC, "
    "IMR90, NHEK",
    "Targets of TFs by gene: ENCODE ChIP-seq 2015, ReMap and ChEA 2016 as collected by ChEA3; "
    "TFEA.ChIP (enhancers linked by GeneHancer)",
    "ENCODE eCLIP peaks (IDR) of K562 and HepG2; older CLIP sets",
    "TargetScan 7.2 conserved miRNA targets, places reconstructed",
)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What sets one of the models apart."""

    title: str
    kinds: tuple[str, ...]
    sources: tuple[str, ...]


RECIPES = {
    "gtex-tissue-v1": Recipe(
        "Tissue expression from regulator binding: TFs, RBPs and miRNAs", BINDING, SOURCES
    ),
    "gtex-tissue-chromatin-v1": Recipe(
        "Tissue expression from regulator binding and chromatin",
        (*BINDING, "histone", "open", "sequence", "rna_modification"),
        (
            *SOURCES,
            "ENCODE histone marks, DNase and FAIRE of the same cell lines; CpG islands (ChromHMM); "
            "m6A, m5C, m1A and pseudouridine sites (RNAModR)",
        ),
    ),
}
CONFIG = PerceptronConfig(members=3)
FIT = PerceptronFit(seeds=tuple(range(1, 1 + CONFIG.members)))


@click.command()
@click.argument("model", type=click.Choice(list(RECIPES)))
@click.argument("expression", type=click.Path(exists=True, path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
def main(model: str, expression: Path, folder: Path, force: bool) -> None:
    """Train all members; write the bundle."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe = RECIPES[model]
    features = FeatureSet.load(ROOT / "zoo/features" / FEATURES)
    selection = dataclasses.replace(SELECTION, kinds=recipe.kinds)
    targets = make_targets(read_expression(expression), min_tpm=MIN_TPM)
    with atomic_dir(folder, force) as temporary:
        dataset = make_dataset(features, targets, CONFIG.kernels, selection)
        fitted = fit_network(dataset, CONFIG, FIT)
        description = Description(
            id=model,
            title=recipe.title,
            license="BSD-3-Clause",
            citation="decode-zoo (see CITATION.cff), after Tasaki S, Gaiteri C, Mostafavi S, Wang "
            "Y. Deep learning decodes the principles of differential gene expression. Nat. Mach. "
            "Intell. 2:376-386 (2020). doi:10.1038/s42256-020-0201-6",
            sources=recipe.sources,
            features_id=FEATURES,
            data={expression.name: sha256_of(expression)},
            command=(
                "python",
                "-m",
                "conversion.gtex_tissue_v1",
                model,
                expression.name,
                f"zoo/models/{folder.name}",
            ),
            commit=current_commit(),
        )
        write_bundle(temporary, dataset, fitted, description)


if __name__ == "__main__":
    main()
