"""From a published model and a cohort to a bundle of the cohort's own."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from decode_zoo.cohort.expression import Targets
from decode_zoo.core.arrays import FloatArray, IntArray
from decode_zoo.core.errors import InputError, MissingExtraError, UsageError
from decode_zoo.core.files import atomic_dir, atomic_path, check_files, sha256_of
from decode_zoo.core.reader import Table
from decode_zoo.features.genes import strip_version
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.inputs import align_tracks
from decode_zoo.networks.manifest import BUNDLE_FOLDER, Manifest, Split
from decode_zoo.networks.metrics import auroc, score
from decode_zoo.networks.perceptron import PerceptronNetwork
from decode_zoo.training import import_converters, import_keras
from decode_zoo.training.checkpoints import Checkpoints
from decode_zoo.training.dataset import PARTS, Dataset, SplitRows, known_genes, split_genes
from decode_zoo.training.finetune import FinetuneFit, base_network, finetune_network
from decode_zoo.training.members import PerceptronFit
from decode_zoo.training.model_card import write_card
from decode_zoo.training.pipeline import (
    Description,
    Fitted,
    fit_network,
    predict_part,
    training_versions,
    write_bundle,
)
from decode_zoo.zoo.model import Model

__all__ = [
    "Membership",
    "Transfer",
    "check_membership",
    "cohort_dataset",
    "finetune_bundle",
    "read_split",
    "search_fit",
    "unfinished_folder",
]

_FEWEST_VALIDATION = 20
# Samples that a check of membership holds out.
_HELD_OUT, _FEWEST_HELD_OUT = 0.2, 4
# Validation genes by the sha256 of their data, for models of before manifests had them.
_VALIDATION = "assets/validation-genes.json"

# What a search tries.
_SEARCHED = ("frozen_layers", "learning_rate", "weight_decay", "encoder_dropout", "dense_dropout")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Transfer:
    """What happens around the training."""

    from_scratch: bool = False  # train the base's kind of network anew instead, for comparison
    trials: int = 0  # settings to try before; 0 searches none
    # Keep the outputs of those samples only whose rho on validation genes is above it; "median" is
    # that of all samples (the paper keeps the better half).
    keep_above: float | Literal["median"] | None = None
    # Name outputs P1, P2, … in random order. Who is who goes into a file beside the bundle,
    # ``<bundle>.codes.tsv``.
    anonymise: bool = False
    # Measure whether the model gives away whose expression it was fitted to.
    membership: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be done together."""
        if self.from_scratch and (self.trials or self.membership):
            raise UsageError(
                "Training from scratch is for comparison: it has neither a search nor "
                "a membership check."
            )


def unfinished_folder(folder: str | os.PathLike[str]) -> Path:
    """Where a training keeps how far it is, until the bundle is whole."""
    path = Path(folder)
    return path.with_name(f"{path.name}.unfinished")


def read_split(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read which part each gene is of: gene ids and parts, perhaps below a header.

    Raises InputError if a line does not have both, or a gene occurs twice.
    """
    table, split = Table.read(path, header=False), dict[str, str]()
    remedy = "Give two cells a line, separated by a tab."
    for line, name, part in table.pairs("is not a gene and its part", remedy):
        if line == 1 and part not in PARTS:
            continue
        gene = strip_version(name)
        if gene in split:
            raise InputError(f"gene '{gene}' occurs twice", path=path, line=line)
        split[gene] = part
    return split


def cohort_dataset(
    base: Model, targets: Targets, split: Mapping[str, str] | None = None
) -> Dataset:
    """Join a cohort's targets with the tracks and scales of a model.

    Without `split` (the part of each gene that is to be used), genes are split as the base's were:
    by its chromosomes to test on, and by its own genes for validation.
    """
    manifest, features = base.manifest, base.features
    if (own := manifest.training.selection) is None:
        raise InputError(f"model {base.id} does not say how its genes were split")
    targets, rows = known_genes(features, targets)
    if split is None:
        if not own.test:
            raise UsageError(
                f"The genes of {base.id} were split one by one, so that its split says nothing of "
                "the genes of a cohort: all would be trained on.",
                remedy="Give a split of your own with --split.",
            )
        selection = Split(
            test=own.test,
            absent=own.absent,
            split_seed=own.split_seed,
            validation_fraction=own.validation_fraction,
        )
        parts = split_genes(features, targets, rows, selection)
        if validation := _validation_genes(manifest):
            rest = np.sort(np.concatenate([parts.training, parts.validation]))
            held = np.array([targets.gene_ids[i] in validation for i in rest], np.bool_)
            parts = replace(parts, training=rest[~held], validation=rest[held])
    else:
        for gene, part in split.items():
            if part not in PARTS:
                raise InputError(
                    f"gene {gene}: a part of the split is one of {', '.join(PARTS)}, not '{part}'"
                )
        named = np.flatnonzero([gene in split for gene in targets.gene_ids])
        targets, rows = targets.take(named), rows[named]
        part_of = np.array([split[gene] for gene in targets.gene_ids])
        parts = SplitRows(*(np.flatnonzero(part_of == part) for part in PARTS))
        if not parts.training.size:
            raise InputError(
                "the split leaves no gene for training that has expression and features"
            )
        selection = Split(test=(), split_seed=own.split_seed, validation_fraction=0.0)
    if (count := len(parts.validation)) < _FEWEST_VALIDATION:
        raise InputError(
            f"{count} genes are left for validation; it takes {_FEWEST_VALIDATION} to "
            "know when to stop",
            remedy="Give more genes.",
        )
    inputs = manifest.inputs
    tracks = {side: tuple(track.name for track in inputs[side].tracks) for side in SIDES}
    kernels = {side: inputs[side].kernel for side in SIDES}
    bound = align_tracks(features, tracks, kernels, layout=manifest.layout)
    scale = {side: np.array(inputs[side].scale, np.float64) for side in SIDES}
    outputs = targets.outputs(parts.training)
    return Dataset(selection, targets, rows, parts, tracks, scale, bound, outputs)


def _validation_genes(manifest: Manifest) -> frozenset[str] | None:
    """Genes that a model was selected by, if that is known.

    Encoders remember what they were trained on: on other genes than these, validation would praise
    the base.
    """
    if genes := manifest.training.validation_genes:
        return frozenset(genes)
    known = json.loads(resources.files("decode_zoo.training").joinpath(_VALIDATION).read_bytes())
    for sha256 in (manifest.training.data or {}).values():
        if sha256 in known:
            return frozenset(known[sha256])
    return None


def finetune_bundle(
    base: Model,
    targets: Targets,
    folder: str | os.PathLike[str],
    description: Description,
    *,
    fit: FinetuneFit | None = None,
    transfer: Transfer | None = None,
    split: Mapping[str, str] | None = None,
    tolerance: float = 1e-4,
    force: bool = False,
) -> Model:
    """Fine-tune a perceptron on a cohort and write a bundle, with a card to be filled in.

    Until the bundle is whole, what has been trained is kept beside it (`unfinished_folder`); the
    same call goes on after the last epoch that is there. No byte leaves the machine. What training
    needs, and that the folder can be written, is checked before it starts.
    """
    import_keras()
    import_converters()
    fit, transfer, path = fit or FinetuneFit(), transfer or Transfer(), Path(folder)
    if targets.unit and (
        transfer.keep_above is not None or transfer.anonymise or transfer.membership
    ):
        raise UsageError(
            "Scores of genes are no samples: there is nobody to choose, to name by "
            "codes, or to tell from others."
        )
    network = base_network(base, fit)
    codes, unfinished = path.with_name(f"{path.name}.codes.tsv"), unfinished_folder(path)
    if transfer.anonymise:
        check_files(codes, [codes], force)
    with atomic_dir(path, BUNDLE_FOLDER if force else None) as temporary:
        dataset = cohort_dataset(base, targets, split)
        origin = {"id": base.id, "manifest_sha256": sha256_of(base.locate("manifest.json"))}
        settings = {
            "base": origin,
            "data": dict(description.data),
            "fit": asdict(fit),
            "split": asdict(dataset.selection),
            "dataset": _fingerprint(dataset),
            "versions": training_versions(),
        }
        checkpoints = Checkpoints(unfinished, settings)
        if transfer.trials:
            journal = unfinished / "search.journal"
            fit = search_fit(dataset, network, fit, transfer.trials, journal, checkpoints.key)
            checkpoints = replace(checkpoints, settings={**settings, "fit": asdict(fit)})
        if transfer.from_scratch:
            config = replace(network.config, members=len(fit.seeds))
            fitted = fit_network(dataset, config, PerceptronFit(seeds=fit.seeds))
        else:
            tuned, repeats = finetune_network(dataset, network, fit, checkpoints)
            fitted = Fitted(tuned, fit, repeats, {"mean_of_seeds": list(fit.seeds)})
        kept: dict[str, Any] = {**fitted.kept, "base": origin}
        if transfer.membership:
            found = check_membership(dataset, network, fit)
            kept["membership"] = asdict(found) if found else "too few samples to hold some out"
        columns = _kept_columns(dataset, fitted.network, transfer.keep_above)
        if not targets.unit:
            kept["samples"] = {"fitted": len(dataset.outputs) - 1, "kept": len(columns) - 1}
        if transfer.anonymise:
            secrets.SystemRandom().shuffle(samples := columns[:-1].tolist())
            columns = np.array([*samples, columns[-1]], np.int64)
        dataset = dataset.take_outputs(columns)
        fitted = replace(fitted, network=_take_outputs(fitted.network, columns), kept=kept)
        names = dataset.targets.names[:-1]
        if transfer.anonymise:
            prefix = _code_prefix(names)
            coded = tuple(f"{prefix}{i}" for i in range(1, len(columns)))
            dataset = dataset.rename_outputs((*coded, dataset.targets.names[-1]))
        write_bundle(temporary, dataset, fitted, description, tolerance=tolerance)
        write_card(temporary, path, personal=not targets.unit)
        if transfer.anonymise:
            table = pd.DataFrame({"code": coded, "sample": names})
            with atomic_path(codes) as written:
                table.to_csv(written, sep="\t", index=False)
            _log.info("who is who: %s", codes)
    shutil.rmtree(unfinished, ignore_errors=True)
    features = base.features
    return Model.open(lambda name: path / name, lambda _: features)


def search_fit(
    dataset: Dataset,
    network: PerceptronNetwork,
    fit: FinetuneFit,
    trials: int,
    journal: Path,
    study: str,
) -> FinetuneFit:
    """Try settings, the given ones first; return the best by rho on validation genes.

    Each trial trains one member with the first seed of `fit`; those in the journal count towards
    `trials`, and a search goes on where it was. Another base or other data must have another
    `study`.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise MissingExtraError("optuna", "search") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    found = optuna.create_study(
        storage=storage,
        study_name=study,
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=fit.seeds[0]),
    )
    if not found.trials:
        found.enqueue_trial({name: getattr(fit, name) for name in _SEARCHED})

    def rho(trial: Any) -> float:
        tried = replace(
            fit,
            seeds=fit.seeds[:1],
            frozen_layers=trial.suggest_int("frozen_layers", 0, 1 + network.config.dense_layers),
            learning_rate=trial.suggest_float("learning_rate", 1e-5, 1e-3, log=True),
            weight_decay=trial.suggest_float("weight_decay", 0.01, 3, log=True),
            encoder_dropout=trial.suggest_float("encoder_dropout", 0.1, 0.7),
            dense_dropout=trial.suggest_float("dense_dropout", 0.1, 0.7),
        )
        _, (repeat,) = finetune_network(dataset, network, tried)
        value = repeat.history["rho"][repeat.best_epoch - 1]
        _log.info("trial %d: rho %.4f with %s", trial.number, value, trial.params)
        return value

    finished = [trial for trial in found.trials if trial.state.is_finished()]
    found.optimize(rho, n_trials=max(trials - len(finished), 0))
    return replace(fit, **found.best_params)


def _code_prefix(names: Sequence[str]) -> str:
    """Choose what codes begin with so that no code is the name of another sample."""
    prefix = "P"
    while any(name.startswith(prefix) and name[len(prefix) :].isdigit() for name in names):
        prefix += "P"
    return prefix


def _fingerprint(dataset: Dataset) -> str:
    """Hash what is learned: values, whose they are, and which genes are in which part.

    The same file prepared in another way, or split in another way, is another training.
    """
    targets, split = dataset.targets, dataset.split
    digest = hashlib.sha256("\0".join([*targets.gene_ids, *targets.names]).encode())
    for array in (targets.values, dataset.rows, split.training, split.validation, split.test):
        digest.update(np.ascontiguousarray(array).tobytes() + b"|")
    return digest.hexdigest()


def _kept_columns(
    dataset: Dataset, network: Any, threshold: float | Literal["median"] | None
) -> IntArray:
    """Columns of the samples that are predicted well enough, and of the median."""
    every = np.arange(len(dataset.outputs))
    if threshold is None:
        return every
    rows = dataset.split.validation
    table = score(
        predict_part(dataset, network, rows), dataset.targets.values[rows], dataset.targets.names
    )
    rho = table["spearman"].to_numpy()[:-1]
    least = float(np.nanmedian(rho)) if threshold == "median" else threshold
    good = np.flatnonzero(rho > least)
    if not good.size:
        raise InputError(
            f"no sample has a rho above {least:.3f} on validation genes; the best has "
            f"{np.nanmax(rho):.3f}",
            remedy="Keep more samples.",
        )
    return np.append(good, every[-1])


def _take_outputs(network: Any, columns: IntArray) -> PerceptronNetwork:
    """Return the network with some of its outputs."""
    weights = {
        name: array[..., columns] if "/outputs/" in name else array
        for name, array in network.weights.items()
    }
    return PerceptronNetwork(
        network.config, weights, network.input_scale, network.output_scale[columns]
    )


# --- does a model give away whose expression it was fitted to? --------------------------


@dataclass(frozen=True)
class Membership:
    """How well samples that a model was fitted to are told from others.

    Areas under the ROC curve with 95% intervals, by expression of genes that the model was trained
    on and of others; 0.5 gives nothing away.
    """

    fitted: int
    held_out: int
    trained_genes: tuple[float, float, float]
    other_genes: tuple[float, float, float]


def check_membership(
    dataset: Dataset, network: PerceptronNetwork, fit: FinetuneFit
) -> Membership | None:
    """Fine-tune once more, without a fifth of the samples, and try to tell them from the others.

    Somebody who has a sample's expression compares it with every output. If the best match of those
    fitted to is closer than that of others, membership can be told (Shokri et al. 2017, doi
    10.1109/SP.2017.41, ask the same of classifiers). Takes the first seed. None if there are too
    few samples to hold some out.
    """
    samples = len(dataset.outputs) - 1
    count = max(round(_HELD_OUT * samples), _FEWEST_HELD_OUT)
    if samples < 2 * count:
        return None
    out = np.zeros(samples, np.bool_)
    out[np.random.default_rng(fit.seeds[0]).permutation(samples)[:count]] = True
    _log.info("membership check: without %d of %d samples", count, samples)
    columns = np.append(np.flatnonzero(~out), samples)
    tuned, _ = finetune_network(
        dataset.take_outputs(columns), network, replace(fit, seeds=fit.seeds[:1])
    )
    split = dataset.split
    unseen = np.concatenate([split.validation, split.test])
    found = []
    for part in (split.training, unseen):
        predicted = predict_part(dataset, tuned, part)[:, :-1]
        best = _correlations(dataset.targets.values[part][:, :-1], predicted).max(axis=1)
        found.append(auroc(best, ~out))
    return Membership(int((~out).sum()), count, *found)


def _correlations(measured: FloatArray, predicted: FloatArray) -> FloatArray:
    """Pearson's correlation of each measured column with each predicted one."""
    unit = []
    for values in (measured, predicted):
        centred = values - values.mean(axis=0)
        unit.append(centred / np.maximum(np.linalg.norm(centred, axis=0), 1e-12))
    return np.asarray(unit[0].T @ unit[1])
