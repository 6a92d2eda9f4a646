"""From a feature set and an expression matrix to a model bundle."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from decode_zoo.cohort.expression import Targets
from decode_zoo.core import __version__
from decode_zoo.core.arrays import FloatArray, IntArray, write_arrays
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.core.files import atomic_dir, sha256_of
from decode_zoo.core.text import check_id
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.features.spec import SIDES, Side
from decode_zoo.networks.backends import NumpyBackend
from decode_zoo.networks.decode import DecodeConfig, DecodeNetwork
from decode_zoo.networks.families import Config, Network, family_of
from decode_zoo.networks.manifest import (
    BUNDLE_FOLDER,
    FrozenInputs,
    KnownAnswers,
    Manifest,
    Split,
    Training,
    fingerprint_of,
)
from decode_zoo.networks.metrics import score, summarise
from decode_zoo.networks.perceptron import PerceptronConfig
from decode_zoo.training import import_converters, import_keras
from decode_zoo.training.dataset import PARTS, Dataset, make_dataset
from decode_zoo.training.export import TOLERANCE, check_parity, export_onnx
from decode_zoo.training.finetune import FinetuneFit
from decode_zoo.training.fit import FitConfig, Repeat, fit_repeats
from decode_zoo.training.members import (
    PerceptronFit,
    fit_members,
    join_members,
    standardisation_of,
)
from decode_zoo.training.model_card import write_card
from decode_zoo.zoo.model import Model

__all__ = [
    "Description",
    "Fitted",
    "best_repeat",
    "fit_network",
    "make_network",
    "predict_part",
    "train_bundle",
    "training_versions",
    "write_bundle",
]

_N_KNOWN_ANSWERS = 16
_N_PARITY_GENES = 1024
_N_FULL_GENES = 64
_CHUNK = 1024
_PACKAGES = ("numpy", "scipy", "keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Description:
    """What a bundle says of itself that no computation can tell."""

    id: str
    title: str
    license: str
    citation: str
    sources: tuple[str, ...]
    features_id: str  # or the name of the feature set's folder
    data: Mapping[str, str]  # sha256 of the files that were trained on, by name
    command: tuple[str, ...]
    commit: str = ""  # of the code, if it was run from a repository

    def __post_init__(self) -> None:
        """Refuse ids that a registry would refuse, before any work is done."""
        check_id(self.id)


@dataclass(frozen=True)
class Fitted:
    """A trained network, all that were trained for it, and which it is made of."""

    network: Network
    fit: FitConfig | PerceptronFit | FinetuneFit
    repeats: tuple[Repeat, ...]
    kept: Mapping[str, Any]  # best_seed or mean_of_seeds


def fit_network(dataset: Dataset, config: Config, fit: FitConfig | PerceptronFit) -> Fitted:
    """Train a network of the family that the hyper-parameters are of."""
    if isinstance(config, DecodeConfig) and isinstance(fit, FitConfig):
        repeats = tuple(fit_repeats(dataset, config, fit))
        best = best_repeat(repeats)
        return Fitted(make_network(dataset, config, best), fit, repeats, {"best_seed": best.seed})
    if isinstance(config, PerceptronConfig) and isinstance(fit, PerceptronFit):
        if len(fit.seeds) != config.members:
            raise UsageError(f"{config.members} members need as many seeds, not {len(fit.seeds)}.")
        inputs = standardisation_of(dataset, config.limit)
        members = tuple(fit_members(dataset, inputs, config, fit))
        network = join_members(dataset, inputs, config, members)
        return Fitted(network, fit, members, {"mean_of_seeds": list(fit.seeds)})
    raise UsageError(
        f"A network of {type(config).__name__} is not trained by {type(fit).__name__}."
    )


def best_repeat(repeats: Sequence[Repeat]) -> Repeat:
    """Return the repeat with the least validation loss."""
    return min(repeats, key=lambda repeat: repeat.validation_loss)


def make_network(dataset: Dataset, config: DecodeConfig, repeat: Repeat) -> DecodeNetwork:
    """Join a repeat's weights with the scales of its dataset."""
    return DecodeNetwork(config, repeat.weights, dataset.scale, dataset.output_scale)


def predict_part(dataset: Dataset, network: Network, part: IntArray) -> FloatArray:
    """Predict some rows of a dataset, in the outputs' units, shape (n, n_outputs)."""
    if not network.config.pools:
        full = (dataset.full(part[i : i + 1]) for i in range(len(part)))
        return np.concatenate([network.forward(x) for x in full])
    folded = network.fold()
    pooled = (dataset.pooled(part[i : i + _CHUNK]) for i in range(0, len(part), _CHUNK))
    return np.concatenate([folded.forward(x) for x in pooled])


def train_bundle(
    features: FeatureSet,
    targets: Targets,
    folder: str | os.PathLike[str],
    description: Description,
    *,
    network: Config | None = None,
    fit: FitConfig | PerceptronFit | None = None,
    selection: Split | None = None,
    tolerance: float = 1e-4,
    force: bool = False,
) -> Model:
    """Train a network on a feature set and write a model bundle, with a card to be filled in.

    `network` and `fit` are the published ones if not given, and of one family. `tolerance` is the
    largest difference between Keras, ONNX Runtime and NumPy in standard deviations of an output:
    published models keep to 1e-5; small data can give networks whose rounding errors in float32
    alone are larger. What training needs, and that the folder can be written, is checked first.
    """
    import_keras()
    import_converters()
    config, fit, path = network or DecodeConfig(), fit or FitConfig(), Path(folder)
    with atomic_dir(folder, BUNDLE_FOLDER if force else None) as temporary:
        dataset = make_dataset(features, targets, config.kernels, selection)
        fitted = fit_network(dataset, config, fit)
        write_bundle(temporary, dataset, fitted, description, tolerance=tolerance)
        write_card(temporary, path)
    return Model.open(lambda name: path / name, lambda _: features)


def write_bundle(
    folder: Path,
    dataset: Dataset,
    fitted: Fitted,
    description: Description,
    *,
    tolerance: float = TOLERANCE,
) -> None:
    """Export a network to an empty folder: weights, graph, manifest; the same gives the same bytes.

    Raises VerificationError if the graph does not agree with the network, InputError if nobody
    could open the bundle.
    """
    network, config = fitted.network, fitted.network.config
    names = [output.name for output in dataset.outputs]
    metadata = {
        "id": description.id,
        "decode_zoo": __version__,
        "outputs": json.dumps(names),
        "fingerprint": fingerprint_of(names, dataset.tracks),
    }
    write_arrays(folder / "weights.npz", network.weights)
    export_onnx(network, folder / "model.onnx", metadata)
    split, ids = dataset.split, np.array(dataset.targets.gene_ids, object)
    training = Training(
        data=dict(description.data),
        selection=dataset.selection,
        fit=asdict(fitted.fit),
        genes={part: len(getattr(split, part)) for part in PARTS},
        validation_genes=tuple(sorted(ids[split.validation])),
        # Chromosomes tell which genes were tested, unless genes were split one by one.
        test_genes=None if dataset.selection.test else tuple(sorted(ids[split.test])),
        **fitted.kept,
        repeats=tuple(repeat.log() for repeat in fitted.repeats),
        versions=training_versions(),
        commit=description.commit,
        command=tuple(description.command),
    )
    manifest = Manifest(
        id=description.id,
        title=description.title,
        family=family_of(config),
        network=config,
        layout=dataset.features.layout,
        inputs={side: _frozen_inputs(dataset, side, network) for side in SIDES},
        outputs=dataset.outputs,
        pooling="exact" if config.pools else "none",
        features={"id": description.features_id, "sha256": dataset.features.sha256},
        training=training,
        metrics=_metrics(dataset, network),
        parity=_parity(dataset, network, folder / "model.onnx", tolerance),
        license=description.license,
        citation=description.citation,
        sources=description.sources,
        known_answers=_known_answers(dataset, network),
        files={name: sha256_of(folder / name) for name in ("weights.npz", "model.onnx")},
    )
    if wrong := manifest.contradictions():
        raise InputError(
            f"the bundle could not be used: {'; '.join(wrong[:5])}",
            remedy="Train on more genes, or name things otherwise.",
        )
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")


def training_versions() -> dict[str, str]:
    """Return the versions of what trains, by package."""
    own = {"decode_zoo": __version__}
    return own | {name: importlib.import_module(name).__version__ for name in _PACKAGES}


def _metrics(dataset: Dataset, network: Network) -> dict[str, Any]:
    """Score validation and test genes (see `metrics.summarise`), and outputs by rho."""
    found: dict[str, Any] = {}
    for part in ("validation", "test"):
        rows = getattr(dataset.split, part)
        if rows.size:
            predicted = predict_part(dataset, network, rows)
            table = score(predicted, dataset.targets.values[rows], dataset.targets.names)
            by_output = dict(zip(table["output"], table["spearman"].round(4), strict=True))
            found[part] = summarise(table) | {"by_output": by_output}
    return found


def _frozen_inputs(dataset: Dataset, side: Side, network: Network) -> FrozenInputs:
    features = dataset.features
    by_name = {track.name: track for track in features.side_tracks[side]}
    training = dataset.rows[dataset.split.training]
    lengths = np.array(features.rows.rna_lengths)[training]
    return FrozenInputs(
        tuple(by_name[name] for name in dataset.tracks[side]),
        tuple(network.input_scale[side].tolist()),
        dataset.bound.kernels[side],
        float(features.layout.window if side == "promoter" else np.median(lengths)),
    )


def _spread(n: int, count: int) -> IntArray:
    """Choose `count` of n rows at most, spread evenly."""
    return np.unique(np.linspace(0, n - 1, min(count, n)).astype(np.int64))


def _parity(dataset: Dataset, network: Network, graph: Path, tolerance: float) -> dict[str, float]:
    genes = _spread(len(dataset.rows), _N_PARITY_GENES)
    same = _spread(genes.size, _N_FULL_GENES)
    pooled = dataset.pooled(genes) if network.config.pools else None
    full = dataset.full(genes[same])
    return check_parity(network, graph, full, pooled, same, tolerance=tolerance)


def _known_answers(dataset: Dataset, network: Network) -> KnownAnswers:
    genes, backend = _spread(len(dataset.rows), _N_KNOWN_ANSWERS), NumpyBackend(network)
    if network.config.pools:
        blocks = [dataset.pooled(genes)]
    else:
        blocks = [dataset.full(genes[i : i + 1]) for i in range(genes.size)]
    values = np.concatenate([backend.run(block) for block in blocks])
    return KnownAnswers(
        tuple(dataset.targets.gene_ids[i] for i in genes),
        tuple(output.name for output in dataset.outputs),
        tuple(tuple(float(v) for v in row) for row in values),
    )
