"""Models: a bundle, its features, and predictions for a list of genes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from decode_zoo.core.arrays import IntArray, SingleArray, read_arrays
from decode_zoo.core.errors import (
    ArtifactError,
    DecodeZooError,
    InputError,
    UsageError,
    VerificationError,
)
from decode_zoo.core.files import sha256_of
from decode_zoo.core.system import one_core
from decode_zoo.core.text import as_html
from decode_zoo.features.featureset import CARD, POSITIONS, FeatureSet
from decode_zoo.features.genes import GeneMatch, genes_of
from decode_zoo.networks.backends import (
    Backend,
    BackendName,
    Device,
    OnnxBackend,
    SpreadBackend,
    open_backend,
)
from decode_zoo.networks.families import FAMILIES, Network
from decode_zoo.networks.forward import (
    check_agreement,
    check_answers,
    check_graph,
    forward,
    predict_rows,
    scale_of,
)
from decode_zoo.networks.inputs import BoundFeatures, align_tracks
from decode_zoo.networks.manifest import BUNDLE_FILES, Manifest
from decode_zoo.networks.outputs import OutputChoice, numbers_of
from decode_zoo.zoo import answers
from decode_zoo.zoo.artifact import Artifact
from decode_zoo.zoo.store import Store

if TYPE_CHECKING:
    from decode_zoo.attribution.explainer import Explainer
    from decode_zoo.attribution.scores import Attribution, By

__all__ = ["FoundRows", "Model", "is_folder", "load", "load_features", "needed_to_predict"]


class FoundRows(NamedTuple):
    """Rows of a feature set that were asked for."""

    rows: IntArray  # each once, in the order in which they were asked for
    lost: dict[str, str]  # status of what has no row
    hint: str | None  # what may be wrong with those


class Model:
    """A model bundle, ready to predict. Open one with `load`.

    Parameters
    ----------
    manifest : Manifest
        What the bundle says of itself.
    locate : callable
        File name → path of a file of the bundle.
    open_features : callable
        Opens the feature set that the model was trained on.
    """

    def __init__(
        self,
        manifest: Manifest,
        locate: Callable[[str], Path],
        open_features: Callable[[], FeatureSet],
    ) -> None:
        self.manifest = manifest
        self.locate = locate
        self._open_features = open_features
        self._backends: dict[tuple[BackendName, Device], Backend] = {}
        self._source: str | None = None  # what `load` was given
        self._proved = False  # whether the weights gave the known answers

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

    def __dir__(self) -> list[str]:
        """Name what users need; the rest is for the package."""
        return ["explain", "features", "id", "manifest", "outputs", "predict"]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the id or folder, and the hash that must be found again."""
        if self._source is None:
            raise TypeError("Only models that `load` opened can be pickled.")
        return _reload, (self._source, sha256_of(self.locate("manifest.json")))

    def _repr_html_(self) -> str:
        manifest = self.manifest
        shown = ", ".join(self.outputs[:3]) + (", …" if len(self.outputs) > 3 else "")
        facts = {
            "outputs": f"{len(self.outputs)}: {shown}",
            "network": manifest.family,
            "inputs": manifest.features["id"],
            "license": manifest.license,
        }
        facts |= {
            f"rho, {part}": f"{manifest.spearman_text(part)}; {values['n_genes']:,} genes"
            for part, values in manifest.metrics.items()
        }
        return as_html(f"{self.id}: {manifest.title}", facts)

    @property
    def id(self) -> str:
        """Id of the model."""
        return self.manifest.id

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs, in column order."""
        return [output.name for output in self.manifest.outputs]

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
            scale_of(manifest),
        )

    @cached_property
    def features(self) -> FeatureSet:
        """The feature set that the model was trained on.

        ArtifactError if it cannot be had, VerificationError if it is not what the manifest names.
        """
        try:
            features = self._open_features()
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

    def backend(self, backend: BackendName = "auto", device: Device = "auto") -> Backend:
        """Open (once) the back end that runs this model.

        Raises what `backends.open_backend` raises, and VerificationError if the graph is damaged or
        not the network of the manifest and weights.
        """
        key = (backend, device)
        if key not in self._backends:
            path = self.locate("model.onnx")
            opened = open_backend(self.network, path, backend=backend, device=device)
            if isinstance(opened, OnnxBackend):
                check_graph(opened, path, self.manifest)
            check_agreement(opened, self.network, self.manifest)
            self._backends[key] = opened
        return self._backends[key]

    def bind(
        self,
        features: FeatureSet | str | os.PathLike[str] | None = None,
        *,
        fill_missing: bool = False,
    ) -> BoundFeatures:
        """Match a feature set's tracks (by default, the model's own) to the inputs, by name.

        `features` may be an id or a folder. Raises InputError if genome, bins or window are not the
        model's, or tracks are missing and not to be filled (taken as without sites),
        VerificationError if the feature set is the model's own and the weights do not give the
        known answers on it.
        """
        if isinstance(features, (str, os.PathLike)):
            features = load_features(features)
        bound = self._bind(features, fill_missing=fill_missing)
        own = bound.features.sha256 == self.manifest.features["sha256"]
        if own and not self._proved:
            self._prove(bound)
        return bound

    def _prove(self, bound: BoundFeatures) -> None:
        """See that the weights give the known answers, or that they gave them before."""
        files = [bound.features.locate(name) for name in ("features.json", "pooled.npz")]
        files += [self.locate(name) for name in ("manifest.json", "weights.npz")]
        key = answers.key_of(map(sha256_of, files), files)
        if not answers.recall(key):
            # Few rows: as the network is written, which costs less than a back end.
            predict = partial(forward, network=self.network, manifest=self.manifest)
            check_answers(bound, predict, self.manifest, "weights.npz")
            answers.remember(key)
        self._proved = True

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
        genes: Any = None,
        *,
        features: FeatureSet | str | os.PathLike[str] | None = None,
        outputs: str | Sequence[str] | None = None,
        contrasts: Sequence[tuple[str, str]] = (),
        spread: bool = False,
        fill_missing: bool = False,
        backend: BackendName = "auto",
        device: Device = "auto",
    ) -> pd.DataFrame:
        """Predict expression of genes.

        Parameters
        ----------
        genes : list, Index, Series, DataFrame or AnnData, optional
            Ensembl ids (with or without version), symbols or aliases; all genes of the feature
            set if not given. Of a DataFrame its column of genes, else its index; of AnnData
            ``var_names``.
        features : FeatureSet, or its id or folder, optional
            A feature set of your own; the model's own if not given.
        outputs : str or sequence of str, optional
            Outputs wanted; all if neither these nor contrasts are given.
        contrasts : sequence of (str, str)
            Pairs of outputs: a column ``A vs B`` each, A less B. Of two tissues that is the log2
            fold change between them.
        spread : bool
            Add ``<output> sd`` for each output: the standard deviation over the ensemble's members,
            in its unit. Small where they agree, which does not make them right.
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
            If an output is unknown, a single string was given for `genes`, or a single network was
            asked for a spread.
        """
        queries = genes_of(genes)  # before anything is opened
        choice = self.choose(outputs, contrasts)
        bound = self.bind(features, fill_missing=fill_missing)
        queries = bound.features.rows.ids if queries is None else queries
        found = self._resolve(queries, bound.features)
        # Each gene is predicted once, however often it is asked for.
        rows, place = np.unique(found.rows[found.rows >= 0], return_inverse=True)
        predicted = self.predict_rows(rows, bound, self.backend(backend, device))
        columns, wanted = [output.name for output in choice.outputs], choice.of(predicted)
        if spread:
            members = SpreadBackend(choice.network(self.network))
            with one_core():
                apart = predict_rows(rows, bound, members, self.manifest, len(choice))
            columns += [f"{name} sd" for name in columns]
            wanted = np.concatenate([wanted, apart], axis=1)
        values = np.full((len(queries), len(columns)), np.nan, np.float32)
        values[found.rows >= 0] = wanted[place]
        table = pd.DataFrame(values, columns=columns)
        table.insert(0, f"{bound.features.layout.level}_id", found.gene_ids)
        table.insert(1, "symbol", found.symbols)
        table.insert(2, "status", found.status)
        table.attrs["hint"] = _hint(found, queries, bound.features)
        return table

    def explainer(
        self,
        *,
        by: By = "regulator",
        outputs: str | Sequence[str] | None = None,
        contrasts: Sequence[tuple[str, str]] = (),
        background: Sequence[str] | None = None,
        features: FeatureSet | str | os.PathLike[str] | None = None,
        fill_missing: bool = False,
    ) -> Explainer:
        """Prepare to explain predictions, some rows at a time (parameters as for `explain`).

        Raises
        ------
        UsageError, InputError, ArtifactError
            As `explain` does.
        """
        from decode_zoo.attribution.explainer import Explainer

        choice = self.choose(outputs, contrasts)
        bound = self.bind(features, fill_missing=fill_missing)
        rows = None if background is None else self._background_rows(background, bound)
        backend = self.backend("numpy")
        return Explainer.make(
            self.manifest,
            self.network,
            backend,
            bound,
            by=by,
            choice=choice,
            background=rows,
            origin=partial(self.provenance, bound, backend),
        )

    def explain(
        self,
        genes: Any = None,
        *,
        by: By = "regulator",
        outputs: str | Sequence[str] | None = None,
        contrasts: Sequence[tuple[str, str]] = (),
        background: Sequence[str] | None = None,
        features: FeatureSet | str | os.PathLike[str] | None = None,
        fill_missing: bool = False,
    ) -> Attribution:
        """Attribute the predictions of genes to regulators (DeepLIFT, DeepSHAP).

        Everything is held in memory; for all genes, `decode-zoo explain` writes as it goes.

        Parameters
        ----------
        genes : optional
            As for `predict`. A gene that is asked for twice is explained once.
        by : {"class", "regulator", "track", "position"}
            What scores are given for; by position, each track's bins.
        outputs, contrasts
            As for `predict`. Scores of a contrast are those of A less those of B.
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
        queries = genes_of(genes)  # before anything is opened
        explainer = self.explainer(
            by=by,
            outputs=outputs,
            contrasts=contrasts,
            background=background,
            features=features,
            fill_missing=fill_missing,
        )
        found = self.rows_of(queries, explainer.bound)
        return replace(explainer.explain(found.rows), not_explained=found.lost)

    def rows_of(self, genes: Any, bound: BoundFeatures) -> FoundRows:
        """Find the rows of genes, each once, in the order in which they are asked for; or all."""
        queries = genes_of(genes)
        if queries is None:
            return FoundRows(np.arange(len(bound.features)), {}, None)
        found = self._resolve(queries, bound.features)
        rows = found.rows[found.rows >= 0]
        _, first = np.unique(rows, return_index=True)
        answers = zip(queries, found.status, found.rows, strict=True)
        lost = {query: status for query, status, row in answers if row < 0}
        return FoundRows(rows[np.sort(first)], lost, _hint(found, queries, bound.features))

    def choose(
        self,
        outputs: str | Sequence[str] | None = None,
        contrasts: Sequence[tuple[str, str]] = (),
    ) -> OutputChoice:
        """Choose outputs and contrasts as `predict` does."""
        return OutputChoice.make(self.manifest, outputs, contrasts)

    def numbers_of(self, outputs: str | Sequence[str] | None) -> IntArray:
        """Return the numbers of outputs, all if none are named; UsageError if one is unknown."""
        if outputs is None:
            return np.arange(len(self.outputs))
        return numbers_of(self.manifest, outputs)

    def _background_rows(self, names: Sequence[str], bound: BoundFeatures) -> IntArray:
        """Find the rows of a background's genes, all of which must have features."""
        wanted = genes_of(names, "background genes")
        if not wanted:
            raise UsageError("Give a list of genes as background, with one gene at least.")
        found = self.rows_of(wanted, bound)
        if found.lost:
            listed = ", ".join(f"{name} ({why})" for name, why in [*found.lost.items()][:10])
            raise InputError(
                f"{len(found.lost)} genes of the background have no features: {listed}",
                remedy="Leave them out.",
            )
        return found.rows

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
        """Predict rows of a feature set, shape (n, n_outputs) (see `forward.predict_rows`)."""
        return predict_rows(rows, bound, backend, self.manifest)

    def check_known_answers(self, backend: Backend, *, features: FeatureSet | None = None) -> float:
        """Recompute the bundle's known answers; return the largest difference, in output scales.

        `features` is a copy of the feature set that the model was trained on, found by its id if
        not given. VerificationError if the difference exceeds 1e-5 (or twice what was measured at
        export): these are not the weights or features of this model.
        """
        predict = partial(predict_rows, backend=backend, manifest=self.manifest)
        return check_answers(self._bind(features), predict, self.manifest, backend.name)

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
    opened = Model.open(locate, lambda other: load_features(other, store=store))
    opened._source = os.path.abspath(name) if is_folder(name, store) else name
    return opened


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


def _reload(source: str, sha256: str) -> Model:
    """Open a model that was pickled, if it still is the same."""
    model = load(source)
    if (found := sha256_of(model.locate("manifest.json"))) != sha256:
        raise VerificationError(
            f"{source} is not the model that was pickled: expected a manifest of sha256 {sha256}, "
            f"got {found}."
        )
    return model


def needed_to_predict(artifact: Artifact) -> list[str]:
    """Name the files of an artifact that predictions need; not its card nor positions of sites."""
    return [name for name in artifact.files if name not in (CARD, POSITIONS)]


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
