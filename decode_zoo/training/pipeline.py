"""From a feature set and an expression matrix to a model bundle."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

import decode_zoo
from decode_zoo.arrays import write_arrays
from decode_zoo.errors import UsageError
from decode_zoo.expression import Targets
from decode_zoo.features import SIDES, FeatureSet
from decode_zoo.manifest import FrozenInputs, KnownAnswers, Manifest
from decode_zoo.metrics import score, summarise
from decode_zoo.model import Model
from decode_zoo.network import DecodeConfig, DecodeNetwork
from decode_zoo.output import atomic_dir
from decode_zoo.runtime import NumpyBackend
from decode_zoo.sites import Side
from decode_zoo.training.dataset import Dataset, make_dataset
from decode_zoo.training.export import check_parity, export_onnx
from decode_zoo.training.fit import FitConfig, Repeat, fit_repeats

__all__ = ["Description", "best_repeat", "evaluate_network", "train_bundle", "write_bundle"]

IntArray = npt.NDArray[np.int64]

_log = logging.getLogger(__name__)

_N_KNOWN_ANSWERS = 16
_N_PARITY_GENES = 1024
_N_FULL_GENES = 64
_PACKAGES = ("numpy", "scipy", "keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Description:
    """What a bundle says of itself that no computation can tell.

    Attributes
    ----------
    id, title, license, citation : str
    sources : tuple of str
    features_id : str
        Id (or folder) of the feature set.
    data : Mapping of str to str
        sha256 of the files that were trained on, by name.
    command : tuple of str
        How it was made.
    """

    id: str
    title: str
    license: str
    citation: str
    sources: tuple[str, ...]
    features_id: str
    data: Mapping[str, str]
    command: tuple[str, ...]


def best_repeat(repeats: Sequence[Repeat]) -> Repeat:
    """Return the repeat with the least validation loss."""
    return min(repeats, key=lambda repeat: repeat.validation_loss)


def make_network(dataset: Dataset, config: DecodeConfig, repeat: Repeat) -> DecodeNetwork:
    """Join a repeat's weights with the scales of its dataset."""
    return DecodeNetwork(
        config,
        repeat.weights,
        {side: inputs.scale for side, inputs in dataset.inputs.items()},
        np.array([output.scale for output in dataset.outputs]),
    )


def predict_part(dataset: Dataset, network: DecodeNetwork, part: IntArray) -> npt.NDArray[Any]:
    """Predict some rows of a dataset, in the outputs' units, shape (n, n_outputs)."""
    if network.config.conv_relu:
        inputs = [dataset.full(part[i : i + 1]) for i in range(len(part))]
    else:
        inputs = [dataset.pooled(part[i : i + 1024]) for i in range(0, len(part), 1024)]
    scale = network.input_scale
    return np.concatenate(
        [network.forward({side: x[side] * scale[side] for side in SIDES}) for x in inputs]
    )


def evaluate_network(dataset: Dataset, network: DecodeNetwork, part: IntArray) -> pd.DataFrame:
    """Score predictions of some rows of a dataset (see `metrics.score`)."""
    predicted = predict_part(dataset, network, part)
    return score(predicted, dataset.targets.values[part], dataset.targets.names)


def train_bundle(
    features: FeatureSet,
    targets: Targets,
    folder: str | os.PathLike[str],
    description: Description,
    *,
    network: DecodeConfig | None = None,
    fit: FitConfig | None = None,
    kinds: Collection[str] | None = None,
    exclude: Collection[str] = (),
    min_genes: int = 30,
    test: Sequence[str] = ("1",),
    absent: Sequence[str] = (),
    split_seed: int = 0,
    force: bool = False,
) -> Model:
    """Train a network on a feature set and write a model bundle.

    Parameters
    ----------
    features : FeatureSet
        With positions (sites.npz).
    targets : Targets
    folder : path-like
        Where to write the bundle; appears whole or not at all.
    description : Description
    network : DecodeConfig, optional
    fit : FitConfig, optional
    kinds, exclude, min_genes, test, absent, split_seed
        See `decode_zoo.training.dataset.make_dataset`.
    force : bool
        Replace an existing bundle.

    Returns
    -------
    Model

    Raises
    ------
    VerificationError
        If the exported graph does not agree with the network.
    """
    config, fit = network or DecodeConfig(), fit or FitConfig()
    if not fit.seeds:
        raise UsageError("Training needs at least one seed.")
    dataset = make_dataset(
        features, targets, kernels=config.kernels, kinds=kinds, exclude=exclude,
        min_genes=min_genes, test=test, absent=absent, split_seed=split_seed,
    )  # fmt: skip
    repeats = list(fit_repeats(dataset, config, fit))
    with atomic_dir(folder, force) as temporary:
        write_bundle(
            temporary, dataset, config, repeats, description,
            {"fit": asdict(fit), "split": {"test": list(test), "absent": list(absent),
             "seed": split_seed}, "min_genes": min_genes},
        )  # fmt: skip
    path = Path(folder)
    return Model.open(lambda name: path / name, lambda _: features)


def write_bundle(
    folder: Path,
    dataset: Dataset,
    config: DecodeConfig,
    repeats: Sequence[Repeat],
    description: Description,
    settings: Mapping[str, Any],
) -> None:
    """Export the best repeat: weights, graph, manifest.

    Parameters
    ----------
    folder : Path
        An existing, empty folder.
    dataset : Dataset
    config : DecodeConfig
    repeats : sequence of Repeat
    description : Description
    settings : Mapping
        Training settings, for the record.

    Raises
    ------
    VerificationError
        If the graph does not agree with the network; nothing must then be published.
    """
    best = best_repeat(repeats)
    network = make_network(dataset, config, best)
    write_arrays(folder / "weights.npz", network.weights)
    export_onnx(
        network, folder / "model.onnx",
        {"id": description.id, "decode_zoo": decode_zoo.__version__,
         "outputs": json.dumps([output.name for output in dataset.outputs])},
    )  # fmt: skip
    scores = {
        part: evaluate_network(dataset, network, rows)
        for part, rows in (("validation", dataset.split.validation), ("test", dataset.split.test))
        if rows.size
    }
    frozen = {side: _frozen_inputs(dataset, side) for side in SIDES}
    manifest = Manifest(
        id=description.id,
        title=description.title,
        family="decode",
        network=config,
        layout=dataset.features.layout,
        inputs=frozen,
        outputs=dataset.outputs,
        pooling="none" if config.conv_relu else "exact",
        features={"id": description.features_id, "sha256": dataset.features.sha256},
        training={
            "data": dict(description.data),
            **settings,
            "genes": {
                part: len(getattr(dataset.split, part))
                for part in ("training", "validation", "test")
            },
            "best_seed": best.seed,
            "repeats": [repeat.log() for repeat in repeats],
            "versions": {"decode_zoo": decode_zoo.__version__}
            | {name: importlib.import_module(name).__version__ for name in _PACKAGES},
            "command": list(description.command),
        },
        metrics={
            part: summarise(table)
            | {"by_output": dict(zip(table["output"], table["spearman"].round(4), strict=True))}
            for part, table in scores.items()
        },
        parity={} if config.conv_relu else _parity(dataset, network, folder / "model.onnx"),
        license=description.license,
        citation=description.citation,
        sources=description.sources,
        known_answers=_known_answers(dataset, network),
        files={
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in ("weights.npz", "model.onnx")
        },
    )
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")


def _frozen_inputs(dataset: Dataset, side: Side) -> FrozenInputs:
    inputs, features = dataset.inputs[side], dataset.features
    by_name = {track.name: track for track in features.side_tracks[side]}
    if side == "promoter":
        background = float(features.layout.window)
    else:
        training = dataset.rows[dataset.split.training]
        background = float(np.median(np.array(features.rows.rna_lengths)[training]))
    return FrozenInputs(
        tuple(by_name[name] for name in inputs.tracks), tuple(inputs.scale.tolist()),
        inputs.kernel, background,
    )  # fmt: skip


def _in_bases(dataset: Dataset, rows: IntArray, *, full: bool) -> dict[Side, Any]:
    """Return inputs of some rows of the targets, unscaled: whole numbers of bases."""
    scaled = dataset.full(rows) if full else dataset.pooled(rows)
    return {
        side: np.rint(scaled[side] * dataset.inputs[side].scale).astype(np.float32)
        for side in SIDES
    }


def _sample(dataset: Dataset, count: int) -> IntArray:
    """Genes spread over the dataset."""
    n = len(dataset.targets.gene_ids)
    return np.unique(np.linspace(0, n - 1, min(count, n)).astype(np.int64))


def _parity(dataset: Dataset, network: DecodeNetwork, graph: Path) -> dict[str, float]:
    genes = _sample(dataset, _N_PARITY_GENES)
    same = np.unique(np.linspace(0, genes.size - 1, min(_N_FULL_GENES, genes.size)).astype(int))
    return check_parity(
        network, graph, _in_bases(dataset, genes, full=False),
        _in_bases(dataset, genes[same], full=True), same,
    )  # fmt: skip


def _known_answers(dataset: Dataset, network: DecodeNetwork) -> KnownAnswers:
    genes = _sample(dataset, _N_KNOWN_ANSWERS)
    backend = NumpyBackend(network)
    if network.config.conv_relu:
        values = np.concatenate(
            [
                backend.run(_in_bases(dataset, genes[i : i + 1], full=True))
                for i in range(len(genes))
            ]
        )
    else:
        values = backend.run(_in_bases(dataset, genes, full=False))
    return KnownAnswers(
        tuple(dataset.targets.gene_ids[i] for i in genes),
        tuple(tuple(float(v) for v in row) for row in values),
    )
