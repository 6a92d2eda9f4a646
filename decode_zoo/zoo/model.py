"""Models: a bundle, its features, and predictions for a list of genes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.core.arrays import FloatArray, IntArray, SingleArray, read_arrays
from decode_zoo.core.errors import (
    ArtifactError,
    DecodeZooError,
    InputError,
    UsageError,
    VerificationError,
)
from decode_zoo.core.files import sha256_of
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.features.genes import GeneMatch
from decode_zoo.features.spec import Side
from decode_zoo.networks.backends import (
    BLOCK,
    Backend,
    BackendName,
    Device,
    NumpyBackend,
    OnnxBackend,
    open_backend,
)
from decode_zoo.networks.families import FAMILIES, Network
from decode_zoo.networks.inputs import BoundFeatures, align_tracks
from decode_zoo.networks.manifest import BUNDLE_FILES, Manifest
from decode_zoo.zoo.store import Store

if TYPE_CHECKING:
    from decode_zoo.attribution.explainer import Explainer
    from decode_zoo.attribution.scores import Attribution, By

__all__ = ["FoundRows", "Model", "is_folder", "load", "load_features"]

# Sizes of made-up inputs, in bases: from less than a site to more than the longest RNA.
_PROBES = (1.0, 1e2, 1e4, 1e7)
# In float32, networks differ by a tenth of it.
_GRAPH_TOLERANCE = 2e-5


class FoundRows(NamedTuple):
    """Rows of a feature set that were asked for."""

    rows: IntArray  # each once, in the order in which they were asked for
    lost: dict[str, str]  # status of what has no row
    hint: str | None  # what may be wrong with those


@dataclass(frozen=True, repr=False)
class Model:
    """A model bundle, ready to predict. Open one with `load`."""

    manifest: Manifest
    locate: Callable[[str], Path]  # file name → path of a file of the bundle
    open_features: Callable[[], FeatureSet]  # opens the feature set that it was trained on

    @classmethod
    def open(
        cls, locate: Callable[[str], Path], open_features: Callable[[str], FeatureSet]
    ) -> Model:
        """Open a bundle: `locate` finds a file by name, `open_features` a feature set by id."""
        manifest = Manifest.read(locate)
        return cls(manifest, locate, lambda: open_features(manifest.features["id"]))

    def __repr__(self) -> str:
        """Return a line that says what this is."""
        return f"Model({self.id}: {len(self.outputs)} outputs, {self.manifest.family})"

    @property
    def id(self) -> str:
        """Id of the model."""
        return self.manifest.id

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs, in column order."""
        return [output.name for output in self.manifest.outputs]

    @property
    def _scale(self) -> FloatArray:
        return np.array([output.scale for output in self.manifest.outputs])

    @cached_property
    def network(self) -> Network:
        """The network's arrays (weights.npz); VerificationError if they are not the manifest's."""
        manifest, path = self.manifest, self.locate("weights.npz")
        try:
            arrays = read_arrays(path)
        except InputError as error:  # the manifest vouches for it: no fault of the user's
            raise VerificationError(error.message, remedy=error.remedy) from error
        return FAMILIES[manifest.family].network(
            manifest.network,  # type: ignore[arg-type]  # of the same family (`Manifest.read`)
            arrays,
            {side: np.array(frozen.scale) for side, frozen in manifest.inputs.items()},
            self._scale,
        )

    @cached_property
    def features(self) -> FeatureSet:
        """The feature set that the model was trained on.

        ArtifactError if it cannot be had, VerificationError if it is not what the manifest names.
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
        """Open (once) the back end that runs this model.

        Raises what `runtime.open_backend` raises, and VerificationError if the graph is damaged or
        not the network of the manifest and weights.
        """
        key = (backend, device)
        if key not in self._backends:
            path = self.locate("model.onnx")
            opened = open_backend(self.network, path, backend=backend, device=device)
            if isinstance(opened, OnnxBackend):
                self._check_graph(opened, path)
            self._check_agreement(opened)
            self._backends[key] = opened
        return self._backends[key]

    def _check_graph(self, opened: OnnxBackend, path: Path) -> None:
        """Refuse a graph whose names and shapes are not the manifest's."""
        named = self.outputs if opened.outputs is None else opened.outputs
        facts: list[tuple[str, object, object]] = [
            ("outputs", *pair) for pair in zip(named, self.outputs, strict=False)
        ]
        facts.append(("outputs", len(named), len(self.outputs)))
        for key, expected in (("id", self.id), ("fingerprint", self.manifest.fingerprint)):
            facts.append((key, opened.metadata.get(key, expected)[:80], expected))
        for side, frozen in self.manifest.inputs.items():
            facts.append((f"{side} channels", opened.channels[side], 1 + len(frozen.tracks)))
        facts.append(("outputs", opened.n_outputs, len(self.outputs)))
        for what, found, wanted in facts:
            if found != wanted:
                raise VerificationError(
                    f"{path} has other {what} than the manifest of {self.id}: {found} instead of "
                    f"{wanted}.",
                    remedy="The bundle is mixed up; fetch it again.",
                )

    def _check_agreement(self, backend: Backend) -> None:
        """Refuse a graph that does not compute what weights.npz says.

        Both are asked for made-up genes, which needs no features: with few sites, as genes are,
        and with anything at all everywhere. Between its ReLUs a network is linear, so what is added
        to it shows in almost any of those; and where inputs are so large that no bias counts, each
        unit is at work in one of a gene and its opposite.
        """
        if isinstance(backend, NumpyBackend):
            return
        # Other genes each time: nobody can make a graph that agrees on these alone.
        random, block = np.random.default_rng(), dict[Side, SingleArray]()
        size = np.repeat(_PROBES, 2)[:, None, None]
        for side, frozen in self.manifest.inputs.items():
            shape = (len(size), frozen.kernel + 1, len(frozen.scale))
            genes = (random.standard_normal(shape) * size).astype(np.float32)
            bound = np.abs(genes) * (random.random(shape) < 0.02)
            block[side] = np.concatenate([genes, -genes, bound.astype(np.float32)])
        found, expected = backend.run(block), self.network.forward(block)
        if found.shape == expected.shape:
            # In a small network terms may cancel, so that one gene alone does not tell how large
            # the rounded numbers were; the four of a size do, and the two with few sites.
            rows = np.abs(expected).max(axis=1).reshape(3, -1, 2)
            dense, few = rows[:2].max(axis=(0, 2)), rows[2].max(axis=1)
            large = np.repeat(np.concatenate([dense, dense, few]), 2)[:, None]
            limit = max(_GRAPH_TOLERANCE, 4 * max(self.manifest.parity.values(), default=0.0))
            if (np.abs(found - expected) <= limit * (self._scale + large)).all():
                return
        raise VerificationError(
            f"The graph and the weights of model {self.id} are of different networks.",
            remedy="The bundle is mixed up; fetch it again.",
        )

    def bind(
        self, features: FeatureSet | None = None, *, fill_missing: bool = False
    ) -> BoundFeatures:
        """Match a feature set's tracks (by default, the model's own) to the inputs, by name.

        Raises InputError if genome, bins or window are not the model's, or tracks are missing and
        not to be filled (taken as without sites), VerificationError if the feature set is the
        model's own and the weights do not give the known answers on it.
        """
        bound = self._bind(features, fill_missing=fill_missing)
        own = bound.features.sha256 == self.manifest.features["sha256"]
        if own and "weights.npz" not in self._proved:
            self._check_answers(bound, self._forward, "weights.npz")
            self._proved.add("weights.npz")
        return bound

    @cached_property
    def _proved(self) -> set[str]:
        """What has given the known answers."""
        return set()

    def _forward(self, rows: IntArray, bound: BoundFeatures) -> FloatArray:
        """Predict few rows with the network as it is written, which costs less than a back end."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self.manifest.pooling == "exact":
                sums = {side: part.dense() for side, part in bound.pooled(rows).items()}
                return self.network.forward(sums)
            full = (bound.full(rows[i : i + 1]) for i in range(rows.size))
            return np.concatenate([self.network.forward(matrices) for matrices in full])

    def _bind(self, features: FeatureSet | None, *, fill_missing: bool = False) -> BoundFeatures:
        inputs = self.manifest.inputs
        return align_tracks(
            self.features if features is None else features,
            {side: [track.name for track in frozen.tracks] for side, frozen in inputs.items()},
            {side: frozen.kernel for side, frozen in inputs.items()},
            layout=self.manifest.layout,
            fill_missing=fill_missing,
        )

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
            One row a gene asked for, in their order: ``gene_id`` (``transcript_id`` with a feature
            set at transcript level, whose rows are asked for by transcript), ``symbol``,
            ``status``, then the outputs as float32 in their units (log2 fold change against the
            gene's median, log2 TPM).
            ``status`` is ``ok``, ``unknown_gene``, ``ambiguous_symbol``, ``no_features``, or
            ``duplicate_of:<gene_id>`` (with values). Rows without a prediction hold NaN.

        Raises
        ------
        InputError
            If the feature set does not fit the model.
        UsageError
            If an output is unknown, or a single string was given for `genes`.
        """
        _check_call(genes, outputs, features)
        chosen = self.numbers_of(outputs)
        bound = self.bind(features, fill_missing=fill_missing)
        queries = bound.features.rows.ids if genes is None else list(genes)
        found = self._resolve(queries, bound.features)
        # Each gene is predicted once, however often it is asked for.
        rows, place = np.unique(found.rows[found.rows >= 0], return_inverse=True)
        predicted = self.predict_rows(rows, bound, self.backend(backend, device))
        values = np.full((len(queries), len(self.outputs)), np.nan, np.float32)
        values[found.rows >= 0] = predicted[place]
        table = pd.DataFrame(values[:, chosen], columns=[self.outputs[i] for i in chosen])
        table.insert(0, f"{bound.features.layout.level}_id", found.gene_ids)
        table.insert(1, "symbol", found.symbols)
        table.insert(2, "status", found.status)
        table.attrs["hint"] = _hint(found, queries, bound.features)
        return table

    def explainer(
        self,
        *,
        by: By = "regulator",
        outputs: Sequence[str] | None = None,
        background: Sequence[str] | None = None,
        features: FeatureSet | None = None,
        fill_missing: bool = False,
    ) -> Explainer:
        """Prepare to explain predictions, some rows at a time (parameters as for `explain`).

        Raises
        ------
        UsageError, InputError, ArtifactError
            As `explain` does.
        """
        from decode_zoo.attribution.explainer import Explainer

        _check_call(None, outputs, features)
        chosen = self.numbers_of(outputs)
        bound = self.bind(features, fill_missing=fill_missing)
        return Explainer.make(self, bound, by, chosen, background)

    def explain(
        self,
        genes: Iterable[str] | None = None,
        *,
        by: By = "regulator",
        outputs: Sequence[str] | None = None,
        background: Sequence[str] | None = None,
        features: FeatureSet | None = None,
        fill_missing: bool = False,
    ) -> Attribution:
        """Attribute the predictions of genes to regulators (DeepLIFT, DeepSHAP).

        Everything is held in memory; for all genes, `decode-zoo explain` writes as it goes.

        Parameters
        ----------
        genes : iterable of str, optional
            As for `predict`. A gene that is asked for twice is explained once.
        by : {"class", "regulator", "track", "position"}
            What scores are given for; by position, each track's bins.
        outputs : sequence of str, optional
            Outputs wanted; all if not given.
        background : sequence of str, optional
            Genes to compare with; scores are averaged over them (DeepSHAP). By default a gene
            without any sites, of the RNA length that the manifest says.
        features, fill_missing
            As for `predict`.

        Returns
        -------
        Attribution
            Scores in the outputs' units. They add up to prediction − reference, both of which are
            in ``totals()``.

        Raises
        ------
        InputError
            If the feature set does not fit the model.
        ArtifactError
            If positions are needed (by position, or for a network with ReLU in its convolutions)
            and the feature set's are not there.
        UsageError
            If an output or a gene of the background is unknown.
        """
        _check_call(genes, outputs, features)  # before anything is opened
        explainer = self.explainer(
            by=by,
            outputs=outputs,
            background=background,
            features=features,
            fill_missing=fill_missing,
        )
        asked = self.rows_of(genes, explainer.bound)
        return replace(explainer.explain(asked.rows), not_explained=asked.lost)

    def rows_of(self, genes: Iterable[str] | None, bound: BoundFeatures) -> FoundRows:
        """Find the rows of genes, each once, in the order in which they are asked for; or all."""
        if genes is None:
            return FoundRows(np.arange(len(bound.features)), {}, None)
        queries = list(genes)
        found = self._resolve(queries, bound.features)
        rows = found.rows[found.rows >= 0]
        _, first = np.unique(rows, return_index=True)
        answers = zip(queries, found.status, found.rows, strict=True)
        lost = {query: status for query, status, row in answers if row < 0}
        return FoundRows(rows[np.sort(first)], lost, _hint(found, queries, bound.features))

    def numbers_of(self, outputs: Sequence[str] | None) -> IntArray:
        """Return the numbers of outputs, all if none are named; UsageError if one is unknown."""
        if outputs is None:
            return np.arange(len(self.outputs))
        names = list(outputs)
        unknown = [name for name in names if name not in self.outputs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if unknown or twice:
            close = get_close_matches(unknown[0], self.outputs, 3, 0.5) if unknown else []
            raise UsageError(
                f"Model {self.id} {'has no output' if unknown else 'was asked twice for'} "
                f"{', '.join(map(repr, unknown or twice))}.",
                remedy=f"Is it {' or '.join(close)}?"
                if close
                else f"See: decode-zoo info {self.id}",
            )
        if not names:
            raise UsageError("The list of outputs is empty.")
        return np.array([self.outputs.index(name) for name in names], np.int64)

    def _resolve(self, queries: Sequence[str], features: FeatureSet) -> GeneMatch:
        """Find genes; those that only the model's own feature set knows have no features here."""
        found = features.index.resolve(queries)
        lost = [i for i, status in enumerate(found.status) if status == "unknown_gene"]
        if not lost or features.sha256 == self.manifest.features["sha256"]:
            return found
        try:
            known = self.features.index.resolve([queries[i] for i in lost])
        except DecodeZooError:  # not needed for an answer, only for a better word than unknown
            return found
        for i, row, gene, symbol in zip(
            lost, known.rows, known.gene_ids, known.symbols, strict=True
        ):
            if row >= 0:
                found.gene_ids[i], found.symbols[i] = gene, symbol
                found.status[i] = "no_features"
        return found

    def predict_rows(self, rows: IntArray, bound: BoundFeatures, backend: Backend) -> SingleArray:
        """Predict rows of a feature set, shape (n, n_outputs).

        Independent, to the bit, of which other rows are asked for, and in what order.
        """
        predicted = np.empty((rows.size, len(self.manifest.outputs)), np.float32)
        if self.manifest.pooling != "exact":
            for i in range(rows.size):
                predicted[i] = backend.run(bound.full(rows[i : i + 1]))[0]
            return predicted
        sides = bound.pooled(rows)
        for start in range(0, rows.size, BLOCK):
            stop = min(start + BLOCK, rows.size)
            block = {side: _filled_up(sums.dense(start, stop)) for side, sums in sides.items()}
            predicted[start:stop] = backend.run(block)[: stop - start]
        return predicted

    def check_known_answers(self, backend: Backend, *, features: FeatureSet | None = None) -> float:
        """Recompute the bundle's known answers; return the largest difference, in output scales.

        `features` is a copy of the feature set that the model was trained on, found by its id if
        not given. VerificationError if the difference exceeds 1e-5 (or twice what was measured at
        export): these are not the weights or features of this model.
        """
        bound = self._bind(features)
        predict = partial(self.predict_rows, backend=backend)
        return self._check_answers(bound, predict, backend.name)

    def _check_answers(
        self,
        bound: BoundFeatures,
        predict: Callable[[IntArray, BoundFeatures], npt.NDArray[np.floating]],
        what: str,
    ) -> float:
        answers = self.manifest.known_answers
        places = bound.features.genes.get_indexer(pd.Index(answers.genes))
        if (places < 0).any():
            lost = [gene for gene, place in zip(answers.genes, places, strict=True) if place < 0]
            raise VerificationError(
                f"Model {self.id} knows the answers for {len(lost)} genes that its feature set "
                f"does not have: {', '.join(lost[:5])}.",
                remedy="The bundle is mixed up; fetch it again.",
            )
        off = predict(places.astype(np.int64), bound) - np.array(answers.values)
        largest = float(np.abs(off / self._scale).max())
        limit = max(1e-5, 2 * max(self.manifest.parity.values(), default=0.0))
        if not largest <= limit:
            raise VerificationError(
                f"Model {self.id} does not give its known answers with {what}: "
                f"they are off by {largest:.2g} of an output's scale (allowed: {limit:.0e}).",
                remedy="The bundle is damaged or mixed up; fetch it again.",
            )
        return largest

    def provenance(self, bound: BoundFeatures, backend: Backend) -> dict[str, Any]:
        """Return what a result's provenance says of this model."""
        manifest = sha256_of(self.locate("manifest.json"))
        return {
            "model": {"id": self.id, "files": {"manifest.json": manifest, **self.manifest.files}},
            "features": {"id": bound.features.name, "sha256": bound.features.sha256},
            "missing_tracks": {side: list(names) for side, names in bound.missing.items()},
            "backend": backend.name,
        }


def _hint(found: GeneMatch, queries: Sequence[str], features: FeatureSet) -> str | None:
    """Return what may be wrong with genes that were not found."""
    if features.layout.level == "transcript" and (found.rows < 0).any():
        return "The rows of this feature set are transcripts: ask for them by transcript id."
    return features.index.hint(found, queries)


def _check_call(genes: object, outputs: object, features: object) -> None:
    """Refuse texts where lists or feature sets are meant."""
    for what, value in (("genes", genes), ("outputs", outputs)):
        if isinstance(value, str):
            raise UsageError(
                f"Give a list of {what}, not a single string.", remedy=f"{what}=[{value!r}]"
            )
    if isinstance(features, (str, os.PathLike)):
        raise UsageError(
            "Give a feature set, not its name.",
            remedy=f"features=decode_zoo.load_features({features!r})",
        )


def _filled_up(values: SingleArray) -> SingleArray:
    """Add empty rows up to the size of a block (see `runtime`)."""
    lacking = BLOCK - len(values)
    return np.pad(values, ((0, lacking), (0, 0), (0, 0))) if lacking else values


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
    store = Store.default() if store is None else store
    name = os.fspath(model)
    if is_folder(name, store):
        locate: Callable[[str], Path] = partial(_in_folder, Path(model))
    else:
        locate = _locator(name, "model", store)
    return Model.open(locate, lambda other: load_features(other, store=store))


def is_folder(name: str, store: Store) -> bool:
    """Check whether a name means a folder; what the registry knows is never shadowed by one."""
    try:
        store.registry.resolve(name)
    except ArtifactError:
        return Path(name).is_dir()
    return False


def _locator(name: str, kind: str, store: Store) -> Callable[[str], Path]:
    """Make a function that finds the files of a published artifact, if it is of this kind."""
    artifact = store.registry.resolve(name)
    if artifact.kind != kind:
        nouns = {"model": "model", "features": "feature set"}
        raise ArtifactError(
            f"'{artifact.id}' is a {nouns[artifact.kind]}, not a {nouns[kind]}.",
            remedy=f"List the {nouns[kind]}s with: decode-zoo ls",
        )
    return partial(store.locate, artifact.id)


def _in_folder(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise ArtifactError(
            f"{folder} is not a whole model bundle: it has no {name}.",
            remedy=f"A bundle has {', '.join(BUNDLE_FILES)}.",
        )
    return path


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
    store = Store.default() if store is None else store
    name = os.fspath(features)
    if is_folder(name, store):
        return FeatureSet.load(features)
    return FeatureSet.open(_locator(name, "features", store))
