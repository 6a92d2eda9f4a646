"""Models: a bundle, its features, and predictions for a list of genes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from decode_zoo.arrays import read_arrays
from decode_zoo.errors import ArtifactError, InputError, UsageError, VerificationError
from decode_zoo.features import SIDES, FeatureSet
from decode_zoo.genes import Resolution
from decode_zoo.manifest import Manifest
from decode_zoo.network import DecodeNetwork
from decode_zoo.runtime import BLOCK, Backend, BackendName, Device, open_backend
from decode_zoo.sites import Side
from decode_zoo.store import Store

__all__ = ["BoundFeatures", "Model", "load", "load_features"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BoundFeatures:
    """A feature set seen through a model's inputs: its tracks, in its order.

    Attributes
    ----------
    features : FeatureSet
    columns : Mapping of Side to ndarray of int64, shape (n_tracks,)
        Column of each of the model's tracks; one past the last for a track that is missing.
    kernels : Mapping of Side to int
        Composite kernel widths of the model.
    missing : Mapping of Side to tuple of str
        Tracks that the feature set lacks.
    """

    features: FeatureSet
    columns: Mapping[Side, IntArray] = field(repr=False)
    kernels: Mapping[Side, int]
    missing: Mapping[Side, tuple[str, ...]]

    def sums(self, rows: IntArray) -> dict[Side, list[sparse.csr_array]]:
        """Position sums of some rows for the model's tracks, in bases."""
        chosen: dict[Side, list[sparse.csr_array]] = {}
        for side, columns in self.columns.items():
            chosen[side] = []
            for matrix in self.features.sums(side, self.kernels[side]):
                part = matrix[rows].astype(np.float32)
                if self.missing[side]:
                    empty = sparse.csr_array((rows.size, 1), dtype=np.float32)
                    part = sparse.csr_array(sparse.hstack([part, empty], format="csr"))
                chosen[side].append(part[:, columns])
        return chosen

    def full(self, row: int) -> dict[Side, FloatArray]:
        """Full matrices of one row, padded by kernel - 1 empty bins on the right."""
        found: dict[Side, FloatArray] = {}
        for side, columns in self.columns.items():
            dense = self.features.matrix(np.array([row]), side, pad=self.kernels[side] - 1)
            if self.missing[side]:
                dense = np.pad(dense, ((0, 0), (0, 0), (0, 1)))
            found[side] = dense[:, :, np.concatenate(([0], 1 + columns))]
        return found


@dataclass(frozen=True)
class Model:
    """A model bundle, ready to predict.

    Open one with `load`.

    Attributes
    ----------
    manifest : Manifest
    locate : callable
        File name → path of a file of the bundle.
    open_features : callable
        Opens the feature set that the model was trained on.
    """

    manifest: Manifest
    locate: Callable[[str], Path] = field(repr=False)
    open_features: Callable[[], FeatureSet] = field(repr=False)

    @classmethod
    def open(
        cls, locate: Callable[[str], Path], open_features: Callable[[str], FeatureSet]
    ) -> Model:
        """Open a bundle whose files a function finds.

        Parameters
        ----------
        locate : callable
            File name → path.
        open_features : callable
            Feature-set id → feature set.
        """
        manifest = Manifest.read(locate)
        return cls(manifest, locate, lambda: open_features(manifest.features["id"]))

    @property
    def id(self) -> str:
        """Id of the model."""
        return self.manifest.id

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs, in column order."""
        return [output.name for output in self.manifest.outputs]

    @cached_property
    def network(self) -> DecodeNetwork:
        """The network's arrays (weights.npz)."""
        manifest = self.manifest
        return DecodeNetwork(
            manifest.network,
            read_arrays(self.locate("weights.npz")),
            {side: np.array(frozen.scale) for side, frozen in manifest.inputs.items()},
            np.array([output.scale for output in manifest.outputs]),
        )

    @cached_property
    def features(self) -> FeatureSet:
        """The feature set that the model was trained on.

        Raises
        ------
        ArtifactError
            If it cannot be had.
        VerificationError
            If it is not the one that the manifest names.
        """
        try:
            features = self.open_features()
        except ArtifactError as error:
            raise ArtifactError(
                f"{error}\n(wanted because model {self.id} was trained on it)",
                remedy="Or give a feature set of your own with --features (Python: features=…).",
            ) from error
        if features.sha256 != self.manifest.features["sha256"]:
            raise VerificationError(
                f"Model {self.id} was trained on another {self.manifest.features['id']}: "
                f"expected sha256 {self.manifest.features['sha256']}, got {features.sha256}."
            )
        return features

    @cached_property
    def _backends(self) -> dict[tuple[BackendName, Device], Backend]:
        return {}

    def backend(self, backend: BackendName = "auto", device: Device = "auto") -> Backend:
        """Open (once) the back end that runs this model (see `runtime.open_backend`)."""
        key = (backend, device)
        if key not in self._backends:
            graph = self.locate("model.onnx")
            self._backends[key] = open_backend(self.network, graph, backend=backend, device=device)
        return self._backends[key]

    def bind(
        self, features: FeatureSet | None = None, *, fill_missing: bool = False
    ) -> BoundFeatures:
        """Match a feature set's tracks to the model's inputs, by name.

        Parameters
        ----------
        features : FeatureSet, optional
            The model's own if not given.
        fill_missing : bool
            Take missing tracks as without sites.

        Raises
        ------
        InputError
            If genome, bins or window are not the model's, or tracks are missing and not filled.
        """
        features = self.features if features is None else features
        # Gene- and transcript-level rows are described in the same way.
        wanted = replace(self.manifest.layout, level=features.layout.level)
        if features.layout != wanted:
            raise InputError(
                f"the feature set does not fit model {self.id}: it is {features.layout}, "
                f"the model needs {wanted}",
                remedy="Build it with the model's genome, bins and window.",
            )
        columns: dict[Side, IntArray] = {}
        missing: dict[Side, tuple[str, ...]] = {}
        for side in SIDES:
            place = {name: i for i, name in enumerate(features.tracks(side))}
            names = [track.name for track in self.manifest.inputs[side].tracks]
            missing[side] = tuple(name for name in names if name not in place)
            columns[side] = np.array([place.get(name, len(place)) for name in names], np.int64)
        absent = [name for side in SIDES for name in missing[side]]
        if absent and not fill_missing:
            raise InputError(
                f"{len(absent)} tracks that model {self.id} needs are not in the feature set: "
                + ", ".join(absent),
                remedy="Add them with 'decode-zoo features merge', or take them as without sites "
                "with --fill-missing.",
            )
        kernels = {side: self.manifest.inputs[side].kernel for side in SIDES}
        return BoundFeatures(features, columns, kernels, missing)

    def predict(
        self,
        genes: Iterable[str] | None = None,
        *,
        features: FeatureSet | None = None,
        outputs: Sequence[str] | None = None,
        fill_missing: bool = False,
        backend: BackendName = "auto",
        device: Device = "auto",
    ) -> pd.DataFrame:
        """Predict expression of genes.

        Parameters
        ----------
        genes : iterable of str, optional
            Ensembl ids (with or without version), symbols or aliases; all genes of the feature
            set if not given.
        features : FeatureSet, optional
            A feature set of your own; the model's own if not given.
        outputs : sequence of str, optional
            Outputs wanted; all if not given.
        fill_missing : bool
            Take tracks that `features` lacks as without sites.
        backend : {"auto", "onnxruntime", "numpy"}
        device : {"auto", "cpu", "cuda"}

        Returns
        -------
        DataFrame
            One row a gene asked for, in their order: ``gene_id, symbol, status``, then the outputs
            as float32 in their units (log2 fold change against the gene's median, log2 TPM).
            ``status`` is ``ok``, ``unknown_gene``, ``ambiguous_symbol``, ``no_features``, or
            ``duplicate_of:<gene_id>`` (with values). Rows without a prediction hold NaN.

        Raises
        ------
        InputError
            If the feature set does not fit the model.
        UsageError
            If an output is unknown, or a single string was given for `genes`.
        """
        if isinstance(genes, str):
            raise UsageError("Give a list of genes, not a single string.",
                             remedy=f"model.predict([{genes!r}])")  # fmt: skip
        names = self.outputs
        unknown = [name for name in outputs or () if name not in names]
        if unknown:
            raise UsageError(f"Model {self.id} has no output {', '.join(unknown)}.",
                             remedy=f"See: decode-zoo info {self.id}")  # fmt: skip
        bound = self.bind(features, fill_missing=fill_missing)
        index = bound.features.index
        queries = bound.features.rows.ids if genes is None else list(genes)
        found = self._resolve(queries, bound.features)
        # Each gene is predicted once, however often it is asked for.
        rows, place = np.unique(found.rows[found.rows >= 0], return_inverse=True)
        predicted = self.predict_rows(rows, bound, self.backend(backend, device))
        values = np.full((len(queries), len(names)), np.nan, np.float32)
        values[found.rows >= 0] = predicted[place]
        table = pd.DataFrame(values, columns=names)
        if outputs is not None:
            table = table[list(outputs)]
        table.insert(0, "gene_id", found.gene_ids)
        table.insert(1, "symbol", found.symbols)
        table.insert(2, "status", found.status)
        table.attrs["hint"] = index.hint(found, queries)
        return table

    def _resolve(self, queries: Sequence[str], features: FeatureSet) -> Resolution:
        """Find genes; those that only the model's own feature set knows have no features here."""
        found = features.index.resolve(queries)
        lost = [i for i, status in enumerate(found.status) if status == "unknown_gene"]
        if not lost or features.sha256 == self.manifest.features["sha256"]:
            return found
        try:
            known = self.features.index.resolve([queries[i] for i in lost])
        except ArtifactError:
            return found
        for i, row, gene, symbol in zip(
            lost, known.rows, known.gene_ids, known.symbols, strict=True
        ):
            if row >= 0:
                found.gene_ids[i], found.symbols[i] = gene, symbol
                found.status[i] = "no_features"
        return found

    def predict_rows(self, rows: IntArray, bound: BoundFeatures, backend: Backend) -> FloatArray:
        """Predict rows of a feature set.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
        bound : BoundFeatures
        backend : Backend

        Returns
        -------
        ndarray of float32, shape (n, n_outputs)
            Independent, to the bit, of which other rows are asked for, and in what order.
        """
        predicted = np.empty((rows.size, len(self.manifest.outputs)), np.float32)
        if self.manifest.pooling != "exact":
            for i, row in enumerate(rows):
                predicted[i] = backend.run(bound.full(int(row)))[0]
            return predicted
        masks = {
            side: bound.features.mask_sums(side, kernel)[rows]
            for side, kernel in bound.kernels.items()
        }
        sums = bound.sums(rows)
        block: dict[Side, FloatArray] = {
            side: np.zeros((BLOCK, bound.kernels[side], 1 + bound.columns[side].size), np.float32)
            for side in SIDES
        }
        for start in range(0, rows.size, BLOCK):
            stop = min(start + BLOCK, rows.size)
            for side, values in block.items():
                values[: stop - start, :, 0] = masks[side][start:stop]
                values[stop - start :] = 0
                for k, matrix in enumerate(sums[side]):
                    values[: stop - start, k, 1:] = matrix[start:stop].toarray()
            predicted[start:stop] = backend.run(block)[: stop - start]
        return predicted

    def check_known_answers(self, backend: Backend) -> float:
        """Recompute the bundle's known answers.

        Returns
        -------
        float
            Largest difference, relative to the scale of its output.

        Raises
        ------
        VerificationError
            If it exceeds 1e-5: these are not the weights or features of this model.
        """
        answers = self.manifest.known_answers
        bound = self.bind()
        rows = np.array([bound.features.row(gene) for gene in answers.genes], np.int64)
        scale = np.array([output.scale for output in self.manifest.outputs])
        off = self.predict_rows(rows, bound, backend) - np.array(answers.values)
        largest = float(np.abs(off / scale).max())
        if not largest <= 1e-5:
            raise VerificationError(
                f"Model {self.id} does not give its known answers with {backend.name}: "
                f"they are off by {largest:.2g} of an output's scale (at most 1e-5 is allowed).",
                remedy="The bundle is damaged or mixed up; fetch it again.",
            )
        return largest

    def provenance(self, bound: BoundFeatures, backend: Backend) -> dict[str, Any]:
        """Return what a result's provenance says of this model."""
        return {
            "model": {"id": self.id, "files": dict(self.manifest.files)},
            "features": {"sha256": bound.features.sha256},
            "missing_tracks": {side: list(names) for side, names in bound.missing.items()},
            "backend": backend.name,
        }


def load(model: str | os.PathLike[str], *, store: Store | None = None) -> Model:
    """Open a model by its id, or from a folder that holds a bundle.

    Parameters
    ----------
    model : str or path-like
        Id in the registry (``gtex-tissue-v1``; without version the newest), or a folder.
    store : Store, optional
        Where artifacts come from; by default bundled files, then the cache, then mirrors.

    Returns
    -------
    Model

    Raises
    ------
    ArtifactError
        If there is no such model, or it cannot be had.
    VerificationError
        If a file is not what the registry or the manifest says.

    Examples
    --------
    >>> import decode_zoo as dz
    >>> model = dz.load("gtex-tissue-v1")
    >>> model.predict(["TP53"])["status"].item()
    'ok'
    """
    folder = Path(model)
    if folder.is_dir():
        return Model.open(lambda name: folder / name, lambda name: load_features(name, store=store))
    store = Store.default() if store is None else store
    artifact = store.registry.resolve(os.fspath(model))
    if artifact.kind != "model":
        raise ArtifactError(f"'{artifact.id}' is a feature set, not a model.",
                            remedy="List the models with: decode-zoo ls")  # fmt: skip
    return Model.open(
        lambda name: store.locate(artifact.id, name),
        lambda name: load_features(name, store=store),
    )


def load_features(features: str | os.PathLike[str], *, store: Store | None = None) -> FeatureSet:
    """Open a feature set by its id, or from a folder.

    Parameters
    ----------
    features : str or path-like
        Id in the registry (``hg38-open-v1``), or a folder.
    store : Store, optional
        As for `load`.

    Raises
    ------
    ArtifactError
        If there is no such feature set, or it cannot be had.
    """
    if Path(features).is_dir():
        return FeatureSet.load(features)
    store = Store.default() if store is None else store
    artifact = store.registry.resolve(os.fspath(features))
    if artifact.kind != "features":
        raise ArtifactError(f"'{artifact.id}' is a model, not a feature set.",
                            remedy="List the feature sets with: decode-zoo ls")  # fmt: skip
    return FeatureSet.open(lambda name: store.locate(artifact.id, name))
