"""``decode-zoo finetune``."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from decode_zoo.cli import options
from decode_zoo.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from decode_zoo.model import Model

__all__ = ["finetune"]

_QUANTITIES = ("counts", "tpm", "log2")


def _threshold(ctx: click.Context, param: click.Parameter, value: str | None) -> float | str | None:
    if value is None or value == "median":
        return value
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not -1 <= number < 1:
        raise click.BadParameter("it must be 'median' or a rho below 1, not " + repr(value))
    return number


@click.command()
@click.argument("cohort", type=options.FILE)
@click.option(
    "--base",
    type=options.NAME,
    default="gtex-tissue-v1",
    show_default=True,
    metavar="ID|DIR",
    help="Model to start from; a perceptron.",
)
@click.option(
    "--persons",
    type=options.FILE,
    help="Table of persons: names, then traits; only if COHORT is a matrix.",
)
@click.option(
    "--quantity",
    type=click.Choice(_QUANTITIES),
    help="What a matrix holds; it is then prepared as by 'cohort prepare'.",
)
@click.option(
    "--covariates", metavar="NAME,…", help="Columns of --persons that preparation regresses out."
)
@click.option("--id", "model_id", help="Id of the new model (default: the name of DIR, with -v1).")
@click.option("--title", help="A line that says what it predicts.")
@click.option(
    "--license",
    "license_id",
    default="none: personal data, not to be shared",
    show_default=True,
    help="Licence of the model.",
)
@click.option("--citation", default="unpublished", show_default=True, help="What to cite.")
@click.option(
    "--split",
    "split_file",
    type=options.FILE,
    help="Table of genes and their part: training, validation or test (default: as the base's).",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1, max=100),
    default=1,
    show_default=True,
    metavar="N",
    help="Members to train; the model is their mean.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A hyper-parameter, see above; may be given several times.",
)
@click.option(
    "--search",
    "trials",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Try N settings first, and take the best (extra 'search').",
)
@click.option(
    "--from-scratch",
    is_flag=True,
    help="Train the base's kind of network anew, for comparison (if stopped, it begins again).",
)
@click.option(
    "--keep-persons-above",
    callback=_threshold,
    metavar="median|RHO",
    help="Keep only persons whose rho on validation genes is above this.",
)
@click.option(
    "--anonymise",
    is_flag=True,
    help="Name persons P1, P2, … in random order; who is who goes into DIR.codes.tsv, which "
    "'evaluate' and 'study traits' take with --codes.",
)
@click.option(
    "--membership-check/--no-membership-check",
    "membership",
    default=True,
    show_default=True,
    help="Measure whether the model tells whose expression it was fitted to (one more training).",
)
@click.option(
    "-o",
    "--output",
    type=options.FILE,
    required=True,
    metavar="DIR",
    help="Folder to write the bundle to.",
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
def finetune(  # one parameter an option
    cohort: Path,
    base: str,
    persons: Path | None,
    quantity: str | None,
    covariates: str | None,
    model_id: str | None,
    title: str | None,
    license_id: str,
    citation: str,
    split_file: Path | None,
    repeats: int,
    settings: tuple[str, ...],
    trials: int,
    from_scratch: bool,
    keep_persons_above: float | str | None,
    anonymise: bool,
    membership: bool,
    output: Path,
    force: bool,
) -> None:
    """Fine-tune a model on a cohort: an output a person; write a bundle.

    COHORT is a folder that 'decode-zoo cohort prepare' made, or a matrix of genes × persons to be
    prepared as it does by default (--quantity, --persons).

    The base's encoders stay as they are; the layers above learn, from an output layer that is a
    ridge regression on what the base knows. Genes are split as the base's were. A run that is
    stopped keeps how far it was in DIR.unfinished; the same command goes on there.

    The bundle is used as any other (predict, explain, report, test). What it knows was fitted to
    persons: treat it as you treat their data.

    Hyper-parameters are set by name, as in --set learning_rate=5e-5: frozen_layers (0: all layers
    learn; 1, the default: all but the encoders; 2 and 3: fewer), learning_rate, weight_decay,
    batch_size, max_epochs, patience, input_dropout, encoder_dropout, dense_dropout, median_share.

    \b
    Example:
      decode-zoo cohort prepare counts.tsv --quantity counts --persons persons.tsv -o cohort
      decode-zoo finetune cohort -o lcl-v1
      decode-zoo predict --model ./lcl-v1 genes.tsv
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.training import import_converters, import_keras
    from decode_zoo.training.entry import check_entry
    from decode_zoo.training.pipeline import Description
    from decode_zoo.training.settings import read_finetune
    from decode_zoo.training.transfer import Transfer, finetune_bundle

    if from_scratch and settings:
        raise UsageError(
            "--from-scratch trains with the settings of the base's kind of network; "
            "--set is for fine-tuning.",
            remedy="decode-zoo train takes --set, too.",
        )
    fit = read_finetune(settings, repeats)
    transfer = Transfer(
        from_scratch=from_scratch,
        trials=trials,
        keep_above=keep_persons_above,  # type: ignore[arg-type]
        anonymise=anonymise,
        membership=membership and not from_scratch,
    )
    options.check_inputs_kept([output], [base, cohort, persons, split_file])
    logging.getLogger("decode_zoo.training").setLevel(logging.INFO)
    model = dz.load(base)
    model_id = _id_of(output) if model_id is None else model_id
    title = f"Expression of persons, fine-tuned from {model.id}" if title is None else title
    try:
        check_entry(model_id, title, license_id, citation, model.manifest.features["id"])
    except InputError as error:
        raise UsageError(f"--{error.message}.", remedy=error.remedy) from error
    import_keras()
    import_converters()
    matrix, data = _expression(cohort, persons, quantity, covariates, model)
    split = None
    if split_file is not None:
        split = _read_split(split_file)
        data |= _hashes(split_file)
    description = Description(
        model_id,
        title,
        license_id,
        citation,
        tuple(f"Cohort: {name}" for name in data),
        model.manifest.features["id"],
        data,
        ("decode-zoo", *sys.argv[1:]),
    )
    targets = dz.make_targets(matrix, scale="log2")
    with options.named_in_errors(output):
        tuned = finetune_bundle(
            model,
            targets,
            output,
            description,
            fit=fit,
            transfer=transfer,
            split=split,
            force=force,
        )
    for part in tuned.manifest.metrics:
        click.echo(f"{part}: Spearman's rho {tuned.manifest.spearman_text(part)}", err=True)
    click.echo(str(output))


def _id_of(output: Path) -> str:
    """Make an id of the name of a folder."""
    words = re.sub(r"[^a-z0-9]+", "-", output.resolve().name.lower()).strip("-") or "cohort"
    return words if re.search(r"-v[1-9][0-9]*$", words) else f"{words}-v1"


def _hashes(*files: Path | None) -> dict[str, str]:
    from decode_zoo.files import sha256_of

    return {file.name: sha256_of(file) for file in files if file is not None}


def _expression(
    cohort: Path,
    persons: Path | None,
    quantity: str | None,
    covariates: str | None,
    model: Model,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read what is prepared, or prepare it; with the hashes of what was read."""
    import decode_zoo as dz
    from decode_zoo.cohort.folder import expression_of

    if cohort.is_dir():
        if persons or quantity or covariates:
            raise UsageError(
                f"{cohort} is prepared: --persons, --quantity and --covariates have "
                "nothing left to do."
            )
        path = expression_of(cohort)
        return dz.read_expression(path), _hashes(path)
    if quantity is None:
        raise UsageError(
            f"Say what {cohort} holds: --quantity {'|'.join(_QUANTITIES)}.",
            remedy="Or give a folder that 'decode-zoo cohort prepare' made.",
        )
    from decode_zoo.cohort import prepare_cohort

    prepared = prepare_cohort(
        cohort,
        persons,
        model.features,
        quantity=quantity,  # type: ignore[arg-type]
        covariates=options.split_names(covariates) or (),
    )
    return prepared.expression, _hashes(cohort, persons)


def _read_split(path: Path) -> Mapping[str, str]:
    """Read which part each gene is of: a header, then gene ids and parts."""
    from decode_zoo.genes import strip_version
    from decode_zoo.textfile import read_table

    split: dict[str, str] = {}
    for number, cells in enumerate(read_table(path), 1):
        if len(cells) < 2:
            raise InputError(
                "is not a gene and its part, separated by a tab", path=path, line=number
            )
        if number == 1 and cells[1] not in ("training", "validation", "test"):
            continue
        gene = strip_version(cells[0])
        if gene in split:
            raise InputError(f"gene '{gene}' occurs twice", path=path, line=number)
        split[gene] = cells[1]
    return split
