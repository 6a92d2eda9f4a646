"""Train and publish a model of persons, or de-prior-v1, from gtex-tissue-v1.

    python -m conversion.person_models lcl-person-v1 EXPRESSION_FOLDER zoo/models/lcl-person-v1

EXPRESSION_FOLDER holds the sources (see the model cards): ``person/`` with matrices and tables of
persons, and ``de_prior.tsv.gz``. Settings were chosen on validation genes (docs/persons.md); chr1
is looked at once, at the end, and decides nothing. gtex-blood-person-v1 is the exception: its
source has chr1 only, which the base never saw, so that it is trained on one part of chr1 and tested
on another.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd
from scipy import special

import decode_zoo as dz
from conversion.gtex_tissue_decode_v1 import current_commit
from conversion.gtex_tissue_v1 import FEATURES, SOURCES
from decode_zoo.cohort.expression import Targets, make_targets
from decode_zoo.cohort.preparation import Cohort, Quantity, prepare_cohort
from decode_zoo.core.files import sha256_of
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.training.finetune import FinetuneFit
from decode_zoo.training.pipeline import Description
from decode_zoo.training.transfer import Transfer, finetune_bundle

BASE = "gtex-tissue-v1"
BINDING = tuple(source for source in SOURCES if not source.startswith("GTEx"))
# A rank of 0 or 1 has no finite logit.
_LARGEST_LOGIT = 10.0
BLOOD_FOLDS = 5
_VALIDATION = 0.1


@dataclass(frozen=True)
class Source:
    """Where the expression of a model comes from."""

    title: str
    file: str
    quantity: Quantity
    source: str

    @property
    def persons(self) -> str:
        """The table of persons."""
        return f"{self.file.split('.')[0]}.persons.tsv.gz"


COHORTS = {
    "lcl-person-v1": Source(
        "Expression of 69 lymphoblastoid cell lines, from regulator binding",
        "lcl_yri69.counts.tsv.gz",
        "counts",
        "RNA-seq counts of lymphoblastoid cell lines, Yoruba (Pickrell et al. 2010; "
        "tweeDEseqCountData, MIT)",
    ),
    "gtex-heart-person-v1": Source(
        "Expression of 60 hearts (GTEx), from regulator binding",
        "gtex_heart60.tpm.tsv.gz",
        "tpm",
        "GTEx heart, 60 samples, 5,000 genes (MultiCoex, MIT)",
    ),
    "gtex-liver-person-v1": Source(
        "Expression of 60 livers (GTEx), from regulator binding",
        "gtex_liver60.tpm.tsv.gz",
        "tpm",
        "GTEx liver, 60 samples, 5,000 genes (MultiCoex, MIT)",
    ),
    "gtex-brain-person-v1": Source(
        "Expression of 60 brain samples (GTEx), from regulator binding",
        "gtex_brain60.tpm.tsv.gz",
        "tpm",
        "GTEx brain, regions mixed, 60 samples, 5,000 genes (MultiCoex, MIT)",
    ),
    "gtex-blood-person-v1": Source(
        "Expression of whole blood of 755 persons (GTEx, chr1 only), from regulator binding",
        "gtex_blood755_chr1.counts.tsv.gz",
        "counts",
        "GTEx whole blood, 755 persons, 3,000 genes of chr1 (QRscore, GPL-3)",
    ),
}
DE_PRIOR = "de-prior-v1"
FIT = FinetuneFit(frozen_layers=0)
FITS = {
    # Two thousand genes more than others: the stronger the penalty, the better its median.
    "lcl-person-v1": FinetuneFit(frozen_layers=0, weight_decay=1.0),
    DE_PRIOR: FinetuneFit(frozen_layers=0, learning_rate=3e-5),
}


def prepared(model: str, folder: Path, features: FeatureSet) -> Cohort:
    """Prepare the cohort of a model; no technical covariates are known of any."""
    source = COHORTS[model]
    return prepare_cohort(
        folder / "person" / source.file,
        folder / "person" / source.persons,
        features,
        quantity=source.quantity,
    )


def de_prior_targets(folder: Path) -> Targets:
    """Logits of the ranks of genes by how often they are differentially expressed."""
    table = pd.read_csv(folder / "de_prior.tsv.gz", sep="\t").drop_duplicates("gene_id")
    with np.errstate(divide="ignore"):
        logits = special.logit(table["DE_Prior_Rank"].to_numpy(np.float64))
    values = np.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT)[:, None]
    return Targets([str(gene) for gene in table["gene_id"]], ("de_prior",), values, "logit of rank")


def blood_split(genes: list[str], features: FeatureSet, fold: int) -> dict[str, str]:
    """Split genes of one chromosome by place: neighbours may be regulated together.

    Parameters
    ----------
    genes : list of str
    features : FeatureSet
    fold : int
        Of `BLOOD_FOLDS` stretches, the one to test on.
    """
    start = {gene: features.rows.tss[features.row(gene)] for gene in genes}
    ordered = sorted(genes, key=start.__getitem__)
    stretches = np.array_split(np.arange(len(ordered)), BLOOD_FOLDS)
    rest = np.concatenate([s for i, s in enumerate(stretches) if i != fold])
    chosen = np.random.default_rng(fold).permutation(rest)
    validation = set(chosen[: round(_VALIDATION * len(rest))].tolist())
    test = set(stretches[fold].tolist())
    return {
        gene: "test" if i in test else "validation" if i in validation else "training"
        for i, gene in enumerate(ordered)
    }


def targets_of(
    model: str, folder: Path, features: FeatureSet
) -> tuple[Targets, Mapping[str, str] | None, dict[str, str]]:
    """Targets of a model, how its genes are split, and the hashes of its sources."""
    if model == DE_PRIOR:
        path = folder / "de_prior.tsv.gz"
        return de_prior_targets(folder), None, {path.name: sha256_of(path)}
    source = COHORTS[model]
    targets = make_targets(prepared(model, folder, features).expression, scale="log2")
    files = [folder / "person" / name for name in (source.file, source.persons)]
    split = None
    if model == "gtex-blood-person-v1":
        split = blood_split(targets.gene_ids, features, 0)
    return targets, split, {file.name: sha256_of(file) for file in files}


@click.command()
@click.argument("model", type=click.Choice([*COHORTS, DE_PRIOR]))
@click.argument("expression", type=click.Path(exists=True, path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
def main(model: str, expression: Path, folder: Path, force: bool) -> None:
    """Train; write the bundle."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    base = dz.load(BASE)
    targets, split, data = targets_of(model, expression, base.features)
    if model == DE_PRIOR:
        title = "How often a gene is differentially expressed, from regulator binding"
        own = "DE prior: genes by how often they are differentially expressed (Crow et al. 2019)"
    else:
        title, own = COHORTS[model].title, COHORTS[model].source
    description = Description(
        id=model,
        title=title,
        license="BSD-3-Clause",
        citation="decode-zoo (see CITATION.cff), after Tasaki S, Gaiteri C, Mostafavi S, Wang Y. "
        "Deep learning decodes the principles of differential gene expression. Nat. Mach. Intell. "
        "2:376-386 (2020). doi:10.1038/s42256-020-0201-6",
        sources=(own, *BINDING),
        features_id=FEATURES,
        data=data,
        command=(
            "python",
            "-m",
            "conversion.person_models",
            model,
            "EXPRESSION",
            f"zoo/models/{folder.name}",
        ),
        commit=current_commit(),
    )
    finetune_bundle(
        base,
        targets,
        folder,
        description,
        fit=FITS.get(model, FIT),
        split=split,
        force=force,
        transfer=Transfer(membership=model != DE_PRIOR),
        tolerance=1e-5,
    )


if __name__ == "__main__":
    main()
