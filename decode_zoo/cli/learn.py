"""``decode-zoo train | finetune | study ablation``: networks are trained."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from decode_zoo.cli import runner
from decode_zoo.cli.runner import FILE, NAMES, SOURCE, choice, cli, flag, note, option
from decode_zoo.core.errors import InputError, UsageError

if TYPE_CHECKING:
    from decode_zoo.networks.families import Network
    from decode_zoo.studies.result import Format
    from decode_zoo.training.dataset import Dataset
    from decode_zoo.zoo.model import Model

_ENTRY = ("id", "title", "license", "citation")
_MIN_TPM = 2.0
_HUNDRED = click.IntRange(min=1, max=100)

_selection = runner.together(
    option(NAMES, "--kinds", "Use only tracks of these kinds.", metavar="KIND,…"),
    option(str, "--test-chrom test", "Chromosome to test on (default 1).", multiple=True),
    option(str, "--absent-chrom absent", "Chromosome to leave out altogether.", multiple=True),
    option(
        runner.NATURAL,
        "--min-genes",
        "Drop tracks with sites in fewer training genes (default 30).",
    ),
    option(
        click.FloatRange(min=0), "--min-tpm", "Drop genes that exceed this nowhere (default 2)."
    ),
)


@cli.command()
@choice("--family", "perceptron decode", "Kind of network, see above.", "perceptron")
@option(SOURCE, "--features features_source", "Feature set to learn from.", required=True)
@option(FILE, "--expression", "TSV: gene ids, then one column a tissue or sample.", required=True)
@choice("--scale", "tpm log2tpm", "Values are TPM or log2(TPM + 0.25).", required=True)
@option(str, "--id", "Id of the new model, with version: my-tissue-v1.", required=True)
@option(str, "--title", "A line that says what it predicts (default: the id).")
@option(str, "--license", "Licence of the model, e.g. CC-BY-4.0.", required=True)
@option(str, "--citation", "What to cite, e.g. 'Doe, unpublished, 2026'.", required=True)
@_selection
@option(int, "--split-seed", "Of the choice of validation genes.", 0)
@option(
    runner.POSITIVE,
    "--repeats",
    "Networks to train: members of a perceptron (default 3), candidates of decode (10).",
    metavar="N",
)
@runner.settings
@runner.folder
@runner.force
def train(
    family: Any,
    features_source: str,
    expression: Path,
    scale: Any,
    min_tpm: float | None,
    repeats: int | None,
    settings: tuple[str, ...],
    output: Path,
    force: bool,
    **given: Any,
) -> Path:
    """Train a model on a feature set and an expression matrix; write a bundle.

    The bundle has all that 'decode-zoo publish' asks for; its card, CARD.md, has headings to be
    filled in. With --force the prose of a former card stays.

    Families: 'perceptron' learns from the square roots of position sums, and predicts the mean of
    its members; 'decode' is the published network, of which the candidate with the least validation
    loss is kept.

    Hyper-parameters are set by name, as in --set epochs=20. Those most often changed:

    \b
      perceptron  encoder_width dense_width dense_dropout learning_rate batch_size epochs
      decode      rna_channels promoter_channels conv_relu dense_width learning_rate max_epochs

    A name that the family does not have lists all that it has, with their defaults.

    \b
    Example:
      decode-zoo train --features my-sites-v1 --expression tpm.tsv --scale tpm --id my-tissue-v1 \\
          --license CC-BY-4.0 --citation 'Doe et al. 2026' -o my-tissue-v1
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.core.text import check_versioned
    from decode_zoo.training.settings import read_settings

    read_settings(family, settings, repeats)  # before anything is read
    logging.getLogger("decode_zoo.training").setLevel(logging.INFO)
    features = dz.load_features(features_source)
    entry = {name: given.pop(name) for name in _ENTRY}
    entry["title"] = entry["id"] if entry["title"] is None else entry["title"]
    _check_entry(features.name, **entry)
    try:
        check_versioned(features.name)
    except InputError:
        note(
            "To be published, this model needs a published feature set, whose id has a version; "
            f"that of {features_source} would be its name, '{features.name}'."
        )
    model = dz.train(
        features,
        expression,
        output,
        scale=scale,
        family=family,
        min_tpm=_MIN_TPM if min_tpm is None else min_tpm,
        repeats=repeats,
        settings=settings,
        force=force,
        command=runner.command_line(),
        **entry,
        **_selected(given),
    )
    _note_metrics(model)
    return output


def _selected(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a selection of tracks and genes that were given."""
    found = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    return {name: value for name, value in found.items() if value not in (None, ())}


def _check_entry(features: str, **entry: str) -> None:
    """Raise UsageError for what a registry would not take, before the model is trained."""
    from decode_zoo.training.model_card import check_publishable

    try:
        check_publishable(**entry, features=features)
    except InputError as error:
        remedy = error.remedy or "Otherwise nobody could publish the model."
        raise UsageError(f"--{error.message}.", remedy=remedy) from error


def _note_metrics(model: Model) -> None:
    for part in model.manifest.metrics:
        note(f"{part}: Spearman's rho {model.manifest.spearman_text(part)}")


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


@cli.command()
@click.argument("cohort", type=FILE)
@option(SOURCE, "--base", "Model to start from; a perceptron.", "gtex-tissue-v1")
@option(FILE, "--samples", "Table of samples: names, then traits; only if COHORT is a matrix.")
@choice("--quantity", "counts tpm log2", "What a matrix holds, which is prepared as by default.")
@option(NAMES, "--covariates", "Columns of --samples that preparation regresses out.")
@option(str, "--id", "Id of the new model (default: the name of DIR, with -v1).")
@option(str, "--title", "A line that says what it predicts.")
@option(str, "--license", "Its licence.", "none: personal data, not to be shared")
@option(str, "--citation", "What to cite.", "unpublished")
@option(
    FILE,
    "--split split_file",
    "Table of genes and their part: training, validation or test (default: as the base's).",
)
@option(_HUNDRED, "--repeats", "Members, whose mean the model is.", 1, metavar="N")
@runner.settings
@option(runner.NATURAL, "--search trials", "Try N settings first (extra 'search').", 0)
@flag("--from-scratch", "Train the base's kind of network anew (if stopped, it begins again).")
@option(
    str,
    "--keep-samples-above keep_above",
    "Keep only samples whose rho on validation genes is above this.",
    callback=_threshold,
    metavar="median|RHO",
)
@flag(
    "--anonymise",
    "Name samples P1, P2, … in random order; who is who goes into DIR.codes.tsv, which "
    "'evaluate' and 'study traits' take with --codes.",
)
@option(
    bool,
    "--membership-check/--no-membership-check membership",
    "Measure whether the model tells whose expression it was fitted to (one more training).",
    True,
)
@runner.folder
@runner.force
def finetune(
    cohort: Path,
    base: str,
    samples: Path | None,
    quantity: Any,
    covariates: list[str] | None,
    split_file: Path | None,
    repeats: int,
    settings: tuple[str, ...],
    from_scratch: bool,
    membership: bool,
    output: Path,
    force: bool,
    **given: Any,
) -> Path:
    """Fine-tune a model on a cohort: an output a sample; write a bundle.

    COHORT is a folder that 'decode-zoo cohort prepare' made, or a matrix of genes × samples to be
    prepared as it does by default (--quantity, --samples).

    The base's encoders stay as they are; the layers above learn, from an output layer that is a
    ridge regression on what the base knows. Genes are split as the base's were. A run that is
    stopped keeps how far it was in DIR.unfinished; the same command goes on there.

    The bundle is used as any other (predict, explain, report, test). What it knows was fitted to
    samples: treat it as you treat their data.

    Hyper-parameters are set by name, as in --set learning_rate=5e-5: frozen_layers (0: all layers
    learn; 1, the default: all but the encoders; 2 and 3: fewer), learning_rate, weight_decay,
    batch_size, max_epochs, patience, input_dropout, encoder_dropout, dense_dropout, median_share.

    \b
    Example:
      decode-zoo cohort prepare counts.tsv --quantity counts --samples samples.tsv -o cohort
      decode-zoo finetune cohort -o lcl-v1
      decode-zoo predict --model ./lcl-v1 genes.tsv
    """  # noqa: D301
    import decode_zoo as dz

    if from_scratch and settings:
        raise UsageError(
            "--from-scratch trains with the settings of the base's kind of network; "
            "--set is for fine-tuning.",
            remedy="decode-zoo train takes --set, too.",
        )
    logging.getLogger("decode_zoo.training").setLevel(logging.INFO)
    model = dz.load(base)
    entry = {name: given.pop(name) for name in _ENTRY}
    told = {name: "x-v1" if value is None else value for name, value in entry.items()}
    _check_entry(model.manifest.features["id"], **told)
    runner.measured(
        cohort,
        "--quantity counts|tpm|log2",
        quantity=quantity,
        samples=samples,
        covariates=covariates,
    )
    tuned = dz.finetune(
        cohort,
        output,
        model,
        quantity=quantity,
        samples=samples,
        covariates=covariates or (),
        split=split_file,
        repeats=repeats,
        settings=settings,
        from_scratch=from_scratch,
        membership=membership,
        force=force,
        command=runner.command_line(),
        **entry,
        **given,
    )
    _note_metrics(tuned)
    return output


@runner.study.command()
@click.argument("expression", type=FILE)
@choice("--scale", "tpm log2tpm", "Of a matrix: values are TPM or log2(TPM + 0.25).")
@option(SOURCE, "--base", "Fine-tune this model, as 'decode-zoo finetune' does.")
@option(SOURCE, "--features features_source", "Train from scratch on this set, as 'train' does.")
@choice("--family", "perceptron decode", "Kind of network (default perceptron).")
@_selection
@option(_HUNDRED, "--repeats", "Networks to train a variant.", 1, metavar="N")
@runner.settings
@option(runner.NATURAL, "--seed", "Of the exchange, and of bootstrap resamples.", 0)
@runner.new_study
def ablation(
    expression: Path,
    scale: Any,
    base: str | None,
    features_source: str | None,
    family: str | None,
    min_tpm: float | None,
    repeats: int,
    settings: tuple[str, ...],
    seed: int,
    table_format: Format,
    output: Path,
    **given: Any,
) -> Path:
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
      decode-zoo study ablation cohort --base gtex-tissue-v1 -o samples
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.core.files import sha256_of
    from decode_zoo.core.provenance import plain
    from decode_zoo.networks.manifest import Split
    from decode_zoo.studies.ablation import ablate
    from decode_zoo.training import import_keras
    from decode_zoo.training.checkpoints import Checkpoints
    from decode_zoo.training.dataset import make_dataset
    from decode_zoo.training.finetune import base_network, finetune_network
    from decode_zoo.training.pipeline import fit_network
    from decode_zoo.training.settings import read_finetune, read_settings
    from decode_zoo.training.transfer import cohort_dataset, unfinished_folder

    selected = _selected(given)
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
    with runner.study_folder("", output, table_format) as folder:
        import_keras()
        for room in ("training", "studies"):
            logging.getLogger(f"decode_zoo.{room}").setLevel(logging.INFO)
        file = runner.measured(expression, "--scale tpm|log2tpm", scale=scale, min_tpm=min_tpm)
        matrix = dz.read_expression(file)
        facts: dict[str, Any] = {"expression": file}
        if scale is None:
            targets = dz.make_targets(matrix, scale="log2")
        else:
            facts |= {"scale": scale, "min_tpm": _MIN_TPM if min_tpm is None else min_tpm}
            targets = dz.make_targets(matrix, scale=scale, min_tpm=facts["min_tpm"])
        if base is None:
            family = family or "perceptron"
            config, fit = read_settings(family, settings, repeats)
            dataset = make_dataset(
                dz.load_features(str(features_source)),
                targets,
                config.kernels,
                Split(**selected),
            )
            trained = {"family": family, "network": asdict(config), "fit": asdict(fit)}

            def retrain(variant: Dataset) -> Network:
                return fit_network(variant, config, fit).network

        else:
            tuning = read_finetune(settings, repeats)
            model = dz.load(base)
            network = base_network(model, tuning)
            dataset = cohort_dataset(model, targets)
            origin = {"id": model.id, "manifest_sha256": sha256_of(model.locate("manifest.json"))}
            trained = {"base": origin, "fit": asdict(tuning)}

            def retrain(variant: Dataset) -> Network:
                return finetune_network(variant, network, tuning)[0]

        facts |= {
            "features": {"id": dataset.features.name, "sha256": dataset.features.sha256},
            "selection": asdict(dataset.selection),
            **trained,
        }
        unfinished = unfinished_folder(output)
        checkpoints = Checkpoints(unfinished, plain(runner.described(facts)))
        found = ablate(dataset, retrain, seed=seed, checkpoints=checkpoints)
        folder.write(found.result({"provenance": runner.record(**facts)}))
    shutil.rmtree(unfinished, ignore_errors=True)
    return output
