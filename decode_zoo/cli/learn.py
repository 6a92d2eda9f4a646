"""``decode-zoo train | finetune | evaluate``: new models, and how good they are."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from decode_zoo.cli import runner
from decode_zoo.cli.runner import FILE, NAMES, POSITIVE, SOURCE, Verb, counted, flag, note, option
from decode_zoo.errors import InputError, UsageError

if TYPE_CHECKING:
    from decode_zoo.evaluation.agreement import Evaluation
    from decode_zoo.model import Model

_PARTS = ("training", "validation", "test")


@click.command(cls=Verb)
@option(
    click.Choice(["perceptron", "decode"]),
    "--family",
    "Kind of network, see above.",
    default="perceptron",
)
@option(SOURCE, "--features features_source", "Feature set to learn from.", required=True)
@option(FILE, "--expression", "TSV: gene ids, then one column a tissue or sample.", required=True)
@option(
    click.Choice(["tpm", "log2tpm"]),
    "--scale",
    "Whether values are TPM or log2(TPM + 0.25).",
    required=True,
)
@option(str, "--id", "Id of the new model, with version: my-tissue-v1.", required=True)
@option(str, "--title", "A line that says what it predicts (default: the id).")
@option(str, "--license", "Licence of the model, e.g. CC-BY-4.0.", required=True)
@option(str, "--citation", "What to cite, e.g. 'Doe, unpublished, 2026'.", required=True)
@option(NAMES, "--kinds", "Use only tracks of these kinds.", metavar="KIND,…")
@option(
    str,
    "--test-chrom",
    "Chromosome to test on, never trained or selected on.",
    multiple=True,
    default=["1"],
)
@option(str, "--absent-chrom", "Chromosome to leave out altogether.", multiple=True)
@option(int, "--min-genes", "Drop tracks with sites in fewer training genes.", default=30)
@option(
    click.FloatRange(min=0),
    "--min-tpm",
    "Drop genes that no tissue or sample expresses above this.",
    default=2.0,
)
@option(int, "--split-seed", "Of the choice of validation genes.", default=0)
@option(
    POSITIVE,
    "--repeats",
    "Networks to train: members of a perceptron (default 3), candidates of decode (10).",
    metavar="N",
)
@runner.settings
@runner.folder
@runner.force
def train(
    family: str,
    features_source: str,
    expression: Path,
    scale: str,
    kinds: list[str] | None,
    test_chrom: tuple[str, ...],
    absent_chrom: tuple[str, ...],
    min_genes: int,
    min_tpm: float,
    split_seed: int,
    repeats: int | None,
    settings: tuple[str, ...],
    output: Path,
    force: bool,
    **entry: Any,
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
    from decode_zoo.artifact import check_versioned
    from decode_zoo.training import import_keras
    from decode_zoo.training.dataset import Selection
    from decode_zoo.training.pipeline import Description, train_bundle
    from decode_zoo.training.settings import read_settings

    network, fit = read_settings(family, settings, repeats)
    logging.getLogger("decode_zoo.training").setLevel(logging.INFO)
    features = dz.load_features(features_source)
    if entry["title"] is None:
        entry["title"] = entry["id"]
    _check_entry(features.name, **entry)
    try:
        check_versioned(features.name)
    except InputError:
        note(
            "To be published, this model needs a published feature set, whose id has a version; "
            f"that of {features_source} would be its name, '{features.name}'."
        )
    import_keras()
    targets = dz.make_targets(
        dz.read_expression(expression),
        scale=scale,  # type: ignore[arg-type]
        min_tpm=min_tpm,
    )
    model = train_bundle(
        features,
        targets,
        output,
        Description(
            **entry,
            sources=(expression.name,),
            features_id=features.name,
            data=_hashes(expression),
            command=tuple(runner.command_line()),
        ),
        network=network,
        fit=fit,
        selection=Selection(
            kinds=tuple(kinds) if kinds else None,
            test=test_chrom,
            absent=absent_chrom,
            min_genes=min_genes,
            split_seed=split_seed,
        ),
        force=force,
    )
    _note_metrics(model)
    return output


def _check_entry(features: str, **entry: str) -> None:
    """Raise UsageError for what a registry would not take, before the model is trained."""
    from decode_zoo.training.entry import check_entry

    try:
        check_entry(**entry, features=features)
    except InputError as error:
        remedy = error.remedy or "Otherwise nobody could publish the model."
        raise UsageError(f"--{error.message}.", remedy=remedy) from error


def _hashes(*files: Path | None) -> dict[str, str]:
    from decode_zoo.files import sha256_of

    return {file.name: sha256_of(file) for file in files if file is not None}


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


@click.command(cls=Verb)
@click.argument("cohort", type=FILE)
@option(SOURCE, "--base", "Model to start from; a perceptron.", default="gtex-tissue-v1")
@option(FILE, "--persons", "Table of persons: names, then traits; only if COHORT is a matrix.")
@option(
    click.Choice(["counts", "tpm", "log2"]),
    "--quantity",
    "What a matrix holds; it is then prepared as by 'cohort prepare'.",
)
@option(NAMES, "--covariates", "Columns of --persons that preparation regresses out.")
@option(str, "--id", "Id of the new model (default: the name of DIR, with -v1).")
@option(str, "--title", "A line that says what it predicts.")
@option(str, "--license", "Licence of the model.", default="none: personal data, not to be shared")
@option(str, "--citation", "What to cite.", default="unpublished")
@option(
    FILE,
    "--split split_file",
    "Table of genes and their part: training, validation or test (default: as the base's).",
)
@option(
    click.IntRange(min=1, max=100),
    "--repeats",
    "Members to train; the model is their mean.",
    default=1,
    metavar="N",
)
@runner.settings
@option(
    runner.NATURAL,
    "--search trials",
    "Try N settings first, and take the best (extra 'search').",
    default=0,
    metavar="N",
)
@flag(
    "--from-scratch",
    "Train the base's kind of network anew, for comparison (if stopped, it begins again).",
)
@option(
    str,
    "--keep-persons-above keep_above",
    "Keep only persons whose rho on validation genes is above this.",
    callback=_threshold,
    metavar="median|RHO",
)
@flag(
    "--anonymise",
    "Name persons P1, P2, … in random order; who is who goes into DIR.codes.tsv, which "
    "'evaluate' and 'study traits' take with --codes.",
)
@option(
    bool,
    "--membership-check/--no-membership-check membership",
    "Measure whether the model tells whose expression it was fitted to (one more training).",
    default=True,
)
@runner.folder
@runner.force
def finetune(
    cohort: Path,
    base: str,
    persons: Path | None,
    quantity: str | None,
    covariates: list[str] | None,
    split_file: Path | None,
    repeats: int,
    settings: tuple[str, ...],
    trials: int,
    from_scratch: bool,
    keep_above: Any,
    anonymise: bool,
    membership: bool,
    output: Path,
    force: bool,
    **entry: Any,
) -> Path:
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
    from decode_zoo.cohort import prepare_cohort
    from decode_zoo.training import import_converters, import_keras
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
        keep_above=keep_above,
        anonymise=anonymise,
        membership=membership and not from_scratch,
    )
    logging.getLogger("decode_zoo.training").setLevel(logging.INFO)
    model = dz.load(base)
    features_id = model.manifest.features["id"]
    if entry["id"] is None:
        entry["id"] = _id_of(output)
    if entry["title"] is None:
        entry["title"] = f"Expression of persons, fine-tuned from {model.id}"
    _check_entry(features_id, **entry)
    import_keras()
    import_converters()
    file = runner.measured(
        cohort,
        "--quantity counts|tpm|log2",
        quantity=quantity,
        persons=persons,
        covariates=covariates,
    )
    if quantity is None:
        matrix = dz.read_expression(file)
    else:
        matrix = prepare_cohort(
            file,
            persons,
            model.features,
            quantity=quantity,  # type: ignore[arg-type]
            covariates=covariates or (),
        ).expression
    split = None if split_file is None else _read_split(split_file)
    data = _hashes(file, persons)
    tuned = finetune_bundle(
        model,
        dz.make_targets(matrix, scale="log2"),
        output,
        Description(
            **entry,
            sources=tuple(f"Cohort: {name}" for name in data),
            features_id=features_id,
            data={**data, **_hashes(split_file)},
            command=tuple(runner.command_line()),
        ),
        fit=fit,
        transfer=transfer,
        split=split,
        force=force,
    )
    _note_metrics(tuned)
    return output


def _id_of(output: Path) -> str:
    """Make an id of the name of a folder."""
    words = re.sub(r"[^a-z0-9]+", "-", output.resolve().name.lower()).strip("-") or "cohort"
    return words if re.search(r"-v[1-9][0-9]*$", words) else f"{words}-v1"


def _read_split(path: Path) -> dict[str, str]:
    """Read which part each gene is of: gene ids and parts, perhaps below a header."""
    from decode_zoo.genes import strip_version

    split: dict[str, str] = {}
    for line, name, part in runner.read_two_columns(path, "is not a gene and its part"):
        if line == 1 and part not in _PARTS:
            continue
        gene = strip_version(name)
        if gene in split:
            raise InputError(f"gene '{gene}' occurs twice", path=path, line=line)
        split[gene] = part
    return split


@click.command(cls=Verb)
@click.argument("expression", type=FILE)
@runner.model
@option(
    click.Choice(["tpm", "log2tpm", "log2"]),
    "--scale",
    "What a file holds: TPM, log2(TPM + 0.25), or the latter normalised.",
)
@option(
    FILE,
    "--genes",
    "Genes to compare (default: those of the chromosomes that the model was tested on).",
)
@option(
    SOURCE,
    "--against",
    "A model of another tissue; are donors the same in both? Needs --against-expression.",
)
@option(FILE, "--against-expression", "What was measured in that tissue.")
@option(
    FILE, "--donors", "Table of samples and donors (default: the first two fields of GTEx names)."
)
@runner.codes
@option(int, "--seed", "Of bootstrap and permutations.", default=0)
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
    from decode_zoo.cohort.persons import read_codes
    from decode_zoo.evaluation.comparison import donor_concordance, fill_evaluation
    from decode_zoo.files import atomic_dir

    if (against is None) != (against_expression is None):
        raise UsageError("--against and --against-expression go together.")
    with atomic_dir(output, force) as folder:
        known = None if donors is None else _read_donors(donors)
        named = {} if codes is None else read_codes(codes)
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
    from decode_zoo.evaluation.comparison import evaluate_model, held_out_genes
    from decode_zoo.expression import MEDIAN

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
        chroms = model.manifest.training.get("selection", {}).get("test", ())
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
            raise InputError(
                f"sample '{sample}' occurs twice",
                path=path,
                line=line,
                remedy="Keep one line a sample.",
            )
        donors[sample] = donor
    return donors
