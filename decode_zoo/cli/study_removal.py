"""``decode-zoo study knockout | disrupt | pair | ablation``: inputs taken away, or exchanged."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from decode_zoo.cli import runner
from decode_zoo.cli.runner import FILE, NAMES, NATURAL, POSITIVE, SOURCE, Verb, flag, note, option
from decode_zoo.errors import UsageError

if TYPE_CHECKING:
    from decode_zoo.families import Network
    from decode_zoo.studies.findings import Format
    from decode_zoo.training.dataset import Dataset

_by = option(
    click.Choice(["class", "regulator", "track"]),
    "--by",
    "What is taken away at a time.",
    default="regulator",
)


@click.command(cls=Verb)
@runner.model
@runner.genes
@runner.all_genes
@runner.outputs
@_by
@option(NAMES, "--regulators", "Knock out only these, e.g. SPI1 or RBP:YY1 (or tracks).")
@option(
    runner.TWO_NAMES,
    "--double",
    "Knock out these two together, too; may be repeated.",
    multiple=True,
)
@runner.table_format
@runner.new_folder
def knockout(
    model_id: str,
    genes: Path | None,
    all_genes: bool,
    table_format: Format,
    output: Path,
    **settings: Any,
) -> Path:
    """Predict how expression changes if regulators lose their sites, one by one.

    For each gene in GENES (first column; '-' is stdin) and each regulator that has sites on it, the
    change of every output: prediction without these sites minus prediction with them, exact. What
    a pair changes beyond the sum of both is in double.tsv.

    The folder holds deltas.tsv (all changes), regulators.tsv (means over genes), strongest.tsv,
    pictures, summary.json and index.html. All genes × all regulators × 54 outputs are more than
    eight million knock-outs: a quarter of an hour on two cores; take --format parquet.

    \b
    Examples:
      decode-zoo study knockout --model gtex-tissue-v1 genes.tsv -o knockout
      decode-zoo study knockout --model gtex-tissue-v1 --all-genes --regulators SPI1 -o spi1
      decode-zoo study knockout --model gtex-tissue-v1 genes.tsv --double HNF4A,CEBPA -o pair
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.studies.removal import study_knockout

    queries = runner.read_genes(genes, all_genes)
    with runner.study_folder("knocking out", output, table_format) as (folder, advance):
        found = study_knockout(
            dz.load(model_id),
            queries,
            folder,
            table_format=table_format,
            progress=advance,
            **settings,
            **runner.origin(requested_model=model_id, gene_list=genes),
        )
        found.fill(folder, table_format)
    note(
        f"{found.facts['Knock-outs']} knock-outs on {found.facts['Genes']} genes; not knocked out: "
        f"{len(found.numbers['not_knocked_out'])} names without sites or unknown"
    )
    return output


@click.command(cls=Verb)
@runner.model
@runner.genes
@runner.all_genes
@runner.outputs
@runner.table_format
@runner.new_folder
def disrupt(
    model_id: str,
    genes: Path | None,
    all_genes: bool,
    outputs: list[str] | None,
    table_format: Format,
    output: Path,
) -> Path:
    """Predict how expression changes if the sites of one place are gone, bin by bin.

    For each gene in GENES (first column; '-' is stdin) and each bin of its promoter and RNA that
    has sites, the change of every output. Experiments of which only target genes are known have no
    places: they stay. Needs the positions of the feature set (decode-zoo fetch).

    The folder holds bins.tsv, sides.tsv (all sites of a side gone), a picture along promoters and
    RNAs, summary.json and index.html. Random removals for a pair of genes: decode-zoo study pair.

    \b
    Example:
      decode-zoo study disrupt --model gtex-tissue-v1 genes.tsv --outputs Liver -o places
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.studies.removal import study_disruption

    queries = runner.read_genes(genes, all_genes)
    with runner.study_folder("disrupting", output, table_format) as (folder, advance):
        found = study_disruption(
            dz.load(model_id),
            queries,
            outputs=outputs,
            progress=advance,
            **runner.origin(requested_model=model_id, gene_list=genes),
        )
        found.fill(folder, table_format)
    note(
        f"{found.facts['Bins with sites']} bins of {found.facts['Genes']} genes; left out: "
        f"{len(found.numbers['not_disrupted'])} names without sites or unknown"
    )
    return output


@click.command(cls=Verb)
@option(
    SOURCE,
    "--model model_ids",
    "Model whose outputs are persons; may be repeated.",
    required=True,
    multiple=True,
)
@click.argument("genes", type=runner.TWO_GENES)
@_by
@option(POSITIVE, "--removals", "How many random removals.", default=10_000)
@option(
    click.Choice(["both", "first", "second"]),
    "--remove-from",
    "Which gene loses a regulator's sites (the original software: first).",
    default="both",
)
@flag("--no-positions", "Remove regulators only, not bins (needs no sites.npz).")
@runner.seed
@runner.table_format
@runner.new_folder
def pair(
    model_ids: tuple[str, ...],
    genes: tuple[str, str],
    no_positions: bool,
    table_format: Format,
    output: Path,
    **settings: Any,
) -> Path:
    """Find which regulators and which places hold two genes together.

    In each of many removals a random half of the regulators (then, of the bins of one gene) loses
    its sites; the co-expression that models of persons predict (Spearman's rho over persons) is
    regressed on what was removed.

    The folder holds models.tsv, across.tsv (regulators over all models), regression.tsv and
    intervals.tsv with the columns of the original software (term, estimate, std.error, statistic,
    p.value) and Bonferroni's p, pictures, summary.json and index.html.

    \b
    Example:
      decode-zoo study pair LAPTM5,CD53 --model lcl-person-v1 --model gtex-heart-person-v1 -o pair
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.studies.removal import study_pair

    with runner.study_folder("removing", output, table_format) as (folder, advance):
        found = study_pair(
            [dz.load(name) for name in model_ids],
            genes,
            positions=not no_positions,
            command=runner.command_line(),
            progress=advance,
            **settings,
        )
        found.fill(folder, table_format)
    for row in found.tables["models"][1].itertuples():
        note(
            f"{row.model}, {row.removed}: rho {row.rho_intact:.3f} with all sites, "
            f"{row.rho_after_removals:.3f} after removals; {row.significant} of {row.terms} matter"
        )
    return output


@click.command(cls=Verb)
@click.argument("expression", type=FILE)
@option(
    click.Choice(["tpm", "log2tpm"]),
    "--scale",
    "Of a matrix: whether values are TPM or log2(TPM + 0.25).",
)
@option(
    click.FloatRange(min=0),
    "--min-tpm",
    "Of a matrix: drop genes that no column expresses above this (default 2).",
)
@option(SOURCE, "--base", "Fine-tune this model, as 'decode-zoo finetune' does.")
@option(
    SOURCE,
    "--features features_source",
    "Train from scratch on this feature set, as 'decode-zoo train' does.",
)
@option(click.Choice(["perceptron", "decode"]), "--family", "Kind of network (default perceptron).")
@option(NAMES, "--kinds", "Use only tracks of these kinds.", metavar="KIND,…")
@option(str, "--test-chrom", "Chromosome to test on, never trained on (default 1).", multiple=True)
@option(str, "--absent-chrom", "Chromosome to leave out altogether.", multiple=True)
@option(NATURAL, "--min-genes", "Drop tracks with sites in fewer training genes (default 30).")
@option(
    click.IntRange(min=1, max=100),
    "--repeats",
    "Networks to train a variant, as of 'train' and 'finetune'.",
    default=1,
    metavar="N",
)
@option(
    str,
    "--set settings",
    "A hyper-parameter of 'train' or 'finetune'; may be given several times.",
    multiple=True,
    metavar="NAME=VALUE",
)
@option(NATURAL, "--seed", "Of the exchange of inputs, and of the resamples of genes.", default=0)
@runner.table_format
@runner.new_folder
def ablation(
    expression: Path,
    scale: str | None,
    min_tpm: float | None,
    base: str | None,
    features_source: str | None,
    family: str | None,
    kinds: list[str] | None,
    test_chrom: tuple[str, ...],
    absent_chrom: tuple[str, ...],
    min_genes: int | None,
    repeats: int,
    settings: tuple[str, ...],
    seed: int,
    table_format: Format,
    output: Path,
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
      decode-zoo study ablation cohort --base gtex-tissue-v1 -o persons
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.files import sha256_of
    from decode_zoo.provenance import plain
    from decode_zoo.training import import_keras
    from decode_zoo.training.ablation import ablate
    from decode_zoo.training.checkpoints import Checkpoints
    from decode_zoo.training.dataset import Selection, make_dataset
    from decode_zoo.training.finetune import base_network, finetune_network
    from decode_zoo.training.pipeline import fit_network
    from decode_zoo.training.settings import read_finetune, read_settings
    from decode_zoo.training.transfer import cohort_dataset, unfinished_folder

    selected: dict[str, Any] = {
        "kinds": tuple(kinds or ()),
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
    with runner.study_folder("", output, table_format) as (folder, _):
        import_keras()
        logging.getLogger("decode_zoo.training").setLevel(logging.INFO)
        file = runner.measured(expression, "--scale tpm|log2tpm", scale=scale, min_tpm=min_tpm)
        facts: dict[str, Any] = {"expression": file}
        if scale is None:
            targets = dz.make_targets(dz.read_expression(file), scale="log2")
        else:
            facts |= {"scale": scale, "min_tpm": 2.0 if min_tpm is None else min_tpm}
            targets = dz.make_targets(
                dz.read_expression(file),
                scale=scale,  # type: ignore[arg-type]
                min_tpm=facts["min_tpm"],
            )
        if base is None:
            family = family or "perceptron"
            config, fit = read_settings(family, settings, repeats)
            dataset = make_dataset(
                dz.load_features(str(features_source)),
                targets,
                config.kernels,
                Selection(**selected),
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
        found.findings({"provenance": runner.record(**facts)}).fill(folder, table_format)
    shutil.rmtree(unfinished, ignore_errors=True)
    for _, row in found.variants.iterrows():
        note(
            f"{row['variant']}: rho {row['rho']:.3f} ({row['rho_low']:.3f} to "
            f"{row['rho_high']:.3f}), median {row['median_rho']:.3f}"
        )
    note(f"tells more of fold changes: {found.stronger()}")
    return output
