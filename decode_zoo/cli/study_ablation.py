"""``decode-zoo study ablation``."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from decode_zoo.cli import options
from decode_zoo.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from decode_zoo.expression import Targets
    from decode_zoo.families import Network
    from decode_zoo.studies.findings import Format
    from decode_zoo.training.dataset import Dataset

    # A data set, how a network is trained on it, and all that decides both.
    Recipe = tuple[Dataset, Callable[[Dataset], Network], dict[str, Any]]

__all__ = ["ablation"]

# As 'decode-zoo train' has it.
_MIN_TPM = 2.0


@click.command()
@click.argument("expression", type=options.FILE)
@click.option(
    "--scale",
    type=click.Choice(["tpm", "log2tpm"]),
    help="Of a matrix: whether values are TPM or log2(TPM + 0.25).",
)
@click.option(
    "--min-tpm",
    type=click.FloatRange(min=0),
    help="Of a matrix: drop genes that no column expresses above this (default 2).",
)
@click.option(
    "--base",
    type=options.NAME,
    metavar="ID|DIR",
    help="Fine-tune this model, as 'decode-zoo finetune' does.",
)
@click.option(
    "--features",
    "features_source",
    type=options.NAME,
    metavar="ID|DIR",
    help="Train from scratch on this feature set, as 'decode-zoo train' does.",
)
@click.option(
    "--family",
    type=click.Choice(["perceptron", "decode"]),
    help="Kind of network (default perceptron).",
)
@click.option("--kinds", metavar="KIND,…", help="Use only tracks of these kinds.")
@click.option(
    "--test-chrom", multiple=True, help="Chromosome to test on, never trained on (default 1)."
)
@click.option("--absent-chrom", multiple=True, help="Chromosome to leave out altogether.")
@click.option(
    "--min-genes",
    type=click.IntRange(min=0),
    help="Drop tracks with sites in fewer training genes (default 30).",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1, max=100),
    default=1,
    show_default=True,
    metavar="N",
    help="Networks to train a variant, as of 'train' and 'finetune'.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A hyper-parameter of 'train' or 'finetune'; may be given several times.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the exchange of inputs, and of the resamples of genes.",
)
@options.table_format
@options.new_folder
def ablation(  # one parameter an option
    expression: Path,
    scale: str | None,
    min_tpm: float | None,
    base: str | None,
    features_source: str | None,
    family: str | None,
    kinds: str | None,
    test_chrom: tuple[str, ...],
    absent_chrom: tuple[str, ...],
    min_genes: int | None,
    repeats: int,
    settings: tuple[str, ...],
    seed: int,
    table_format: Format,
    output: Path,
) -> None:
    """Train anew with RNA, promoter or both inputs exchanged.

    EXPRESSION is a matrix of genes × tissues or samples (--scale), or a folder that 'decode-zoo
    cohort prepare' made. The same network is trained four times with the same settings and seeds:
    on the inputs of genes themselves, and with RNA inputs, promoter inputs or both of other genes
    of the same part of the split. What an exchange costs on test genes is what these inputs tell.

    Either --features trains networks from scratch, or --base fine-tunes a model, whose tracks and
    split are then kept.

    The folder holds outputs.tsv (Spearman's rho of each output and variant), variants.tsv (means,
    with intervals over genes), comparisons.tsv (all pairs: difference with its interval over genes,
    Wilcoxon's paired test over outputs), summary.json, pictures and index.html. A run that is
    stopped keeps the variants that are done in DIR.unfinished; the same command goes on there.

    \b
    Examples:
      decode-zoo study ablation tpm.tsv --scale tpm --features hg38-open-v2 -o tissues
      decode-zoo study ablation cohort --base gtex-tissue-v1 -o persons
    """  # noqa: D301
    from decode_zoo.files import atomic_dir
    from decode_zoo.provenance import plain, provenance
    from decode_zoo.studies.findings import check_extras
    from decode_zoo.training import import_keras
    from decode_zoo.training.ablation import ablate
    from decode_zoo.training.checkpoints import Checkpoints
    from decode_zoo.training.transfer import unfinished_folder

    selected = {
        "kinds": tuple(options.split_names(kinds) or ()),
        "test": test_chrom,
        "absent": absent_chrom,
        "min_genes": min_genes,
    }
    selected = {name: value for name, value in selected.items() if value not in (None, ())}
    if (base is None) == (features_source is None):
        raise UsageError(
            "Give either a feature set to train on (--features) or a model to fine-tune (--base)."
        )
    if base is not None and (family or selected):
        raise UsageError(
            "The base decides the family, the tracks and the split.",
            remedy="Leave out --family, --kinds, --test-chrom, --absent-chrom and "
            "--min-genes, or train from scratch (--features).",
        )
    options.check_inputs_kept([output], [expression, base, features_source])
    check_extras(table_format)
    import_keras()
    logging.getLogger("decode_zoo.training").setLevel(logging.INFO)
    with options.named_in_errors(output), atomic_dir(output) as folder:
        targets, read = _targets(expression, scale, min_tpm)
        dataset, retrain, trained = (
            _from_scratch(
                str(features_source), targets, family or "perceptron", selected, settings, repeats
            )
            if base is None
            else _from_base(base, targets, settings, repeats)
        )
        facts = plain(
            {
                **read,
                "features": {"id": dataset.features.name, "sha256": dataset.features.sha256},
                "selection": asdict(dataset.selection),
                **trained,
            }
        )
        unfinished = unfinished_folder(output)
        found = ablate(dataset, retrain, seed=seed, checkpoints=Checkpoints(unfinished, facts))
        record = provenance(["decode-zoo", *sys.argv[1:]], **facts)
        found.findings({"provenance": record}).fill(folder, table_format)
    shutil.rmtree(unfinished, ignore_errors=True)
    for _, row in found.variants.iterrows():
        click.echo(
            f"{row['variant']}: rho {row['rho']:.3f} ({row['rho_low']:.3f} to "
            f"{row['rho_high']:.3f}), median {row['median_rho']:.3f}",
            err=True,
        )
    click.echo(f"tells more of fold changes: {found.stronger()}", err=True)
    click.echo(str(output))


def _targets(
    expression: Path, scale: str | None, min_tpm: float | None
) -> tuple[Targets, dict[str, Any]]:
    """Read what is to be predicted, and say what it was made of."""
    import decode_zoo as dz
    from decode_zoo.cohort.folder import expression_of
    from decode_zoo.provenance import origin_of

    if expression.is_dir():
        if scale is not None or min_tpm is not None:
            raise UsageError(
                f"{expression} is prepared: --scale and --min-tpm have nothing left to do."
            )
        file = expression_of(expression)
        targets = dz.make_targets(dz.read_expression(file), scale="log2")
        return targets, {"expression": origin_of(file)}
    if scale is None:
        raise UsageError(
            f"Say what {expression} holds: --scale tpm|log2tpm.",
            remedy="Or name a folder that 'decode-zoo cohort prepare' made.",
        )
    limit = _MIN_TPM if min_tpm is None else min_tpm
    matrix = dz.read_expression(expression)
    targets = dz.make_targets(matrix, scale=scale, min_tpm=limit)  # type: ignore[arg-type]
    return targets, {"expression": origin_of(expression), "scale": scale, "min_tpm": limit}


def _from_scratch(
    source: str,
    targets: Targets,
    family: str,
    selected: Mapping[str, Any],
    settings: tuple[str, ...],
    repeats: int,
) -> Recipe:
    """Train as 'decode-zoo train' does."""
    import decode_zoo as dz
    from decode_zoo.training.dataset import Selection, make_dataset
    from decode_zoo.training.pipeline import fit_network
    from decode_zoo.training.settings import read_settings

    network, fit = read_settings(family, settings, repeats)
    features = dz.load_features(source)
    dataset = make_dataset(features, targets, network.kernels, Selection(**selected))
    trained = {"family": family, "network": asdict(network), "fit": asdict(fit)}
    return dataset, lambda variant: fit_network(variant, network, fit).network, trained


def _from_base(base: str, targets: Targets, settings: tuple[str, ...], repeats: int) -> Recipe:
    """Fine-tune as 'decode-zoo finetune' does."""
    import decode_zoo as dz
    from decode_zoo.files import sha256_of
    from decode_zoo.training.finetune import base_network, finetune_network
    from decode_zoo.training.settings import read_finetune
    from decode_zoo.training.transfer import cohort_dataset

    fit = read_finetune(settings, repeats)
    model = dz.load(base)
    network = base_network(model, fit)
    dataset = cohort_dataset(model, targets)
    origin = {"id": model.id, "manifest_sha256": sha256_of(model.locate("manifest.json"))}
    trained = {"base": origin, "fit": asdict(fit)}
    return dataset, lambda variant: finetune_network(variant, network, fit)[0], trained
