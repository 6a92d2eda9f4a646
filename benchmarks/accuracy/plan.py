"""What is compared: models, their settings, and the pieces of work that they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.controls import VARIANTS
from benchmarks.accuracy.models import (
    Boosting,
    KernelSearch,
    bound_tf_count,
    predict_by_boosting,
    predict_by_bundle,
    predict_by_kernel_ridge,
    predict_by_network,
    predict_by_ridge,
    predict_from_number,
    rna_length,
)
from benchmarks.accuracy.predictions import (
    Predictions,
    best_of,
    mean_of,
    path_of,
    read_predictions,
    side_by_side,
)
from decode_zoo.cohort.expression import Targets
from decode_zoo.core.errors import UsageError
from decode_zoo.core.files import sha256_of
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.features.spec import Side
from decode_zoo.networks.decode import DecodeConfig
from decode_zoo.networks.manifest import MEDIAN, Split
from decode_zoo.networks.perceptron import PerceptronConfig
from decode_zoo.training.dataset import Dataset, make_dataset
from decode_zoo.training.fit import FitConfig
from decode_zoo.training.members import PerceptronFit
from decode_zoo.zoo.model import Model

# Raised when code changes what a model predicts with the same settings.
_VERSION = 1
_ONE_BIN: Mapping[Side, int] = {"promoter": 1, "rna": 1}
# Which variants our network and ridge regression are trained on.
CONTROLS = tuple(name for name in VARIANTS if name)


@dataclass(frozen=True)
class Plan:
    """Data and settings of a comparison.

    Attributes
    ----------
    features : FeatureSet
    targets : Targets
    data : Mapping of str to str
        sha256 of the feature set (features.json) and of the expression matrix.
    selection : Split
        Tracks and split: the same for all models.
    model : Model, optional
        A trained bundle that is "ours"; networks are retrained with its settings for the controls.
        If not given, "ours" is trained here.
    config, fit : PerceptronConfig, PerceptronFit
        Of our networks that are trained here; one is trained for each of the seeds.
    decode, decode_fit : DecodeConfig, FitConfig
        Of the published network.
    alphas : tuple of float
        Penalties of ridge regression.
    kernel : KernelSearch
    boosting : Boosting
    boosted : int
        How many fold changes LightGBM is trained for, evenly chosen; the median comes on top.
    """

    features: FeatureSet
    targets: Targets
    data: Mapping[str, str]
    selection: Split
    model: Model | None = None
    config: PerceptronConfig = field(default_factory=PerceptronConfig)
    fit: PerceptronFit = field(default_factory=lambda: PerceptronFit(seeds=(1, 2)))
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    decode_fit: FitConfig = field(default_factory=lambda: FitConfig(seeds=(1, 2, 3)))
    alphas: tuple[float, ...] = tuple(10.0**k for k in np.arange(1.0, 6.01, 0.25).tolist())
    kernel: KernelSearch = field(default_factory=KernelSearch)
    boosting: Boosting = field(default_factory=Boosting)
    boosted: int = 8

    @cached_property
    def _datasets(self) -> dict[tuple[int, int], Dataset]:
        return {}

    def dataset(self, variant: str = "", kernels: Mapping[Side, int] = _ONE_BIN) -> Dataset:
        """Join features and expression, and take away what the variant goes without."""
        key = kernels["promoter"], kernels["rna"]
        if key not in self._datasets:
            self._datasets[key] = make_dataset(self.features, self.targets, kernels, self.selection)
        return VARIANTS[variant](self._datasets[key])

    @property
    def reference(self) -> str:
        """Name of what our retrained controls are compared with: trained just like them."""
        return "ours" if self.model is None else "ours_retrained"


def plan_for_bundle(plan: Plan, model: Model, seeds: Sequence[int]) -> Plan:
    """Take tracks, split and settings from a trained bundle.

    Raises
    ------
    UsageError
        If it was trained on other data, or is no perceptron.
    """
    manifest = model.manifest
    trained_on = {manifest.features["sha256"], *manifest.training.data.values()}
    if not set(plan.data.values()) <= trained_on:
        raise UsageError(
            f"{manifest.id} was trained on another feature set or expression matrix.",
            remedy="Give those that its manifest names: a comparison needs the same split.",
        )
    if not isinstance(manifest.network, PerceptronConfig):
        raise UsageError(f"{manifest.id} is of the family {manifest.family}, not a perceptron.")
    fit = {k: tuple(v) if isinstance(v, list) else v for k, v in manifest.training.fit.items()}
    return replace(
        plan,
        model=model,
        selection=manifest.training.selection,
        config=manifest.network,
        fit=PerceptronFit(**{**fit, "seeds": tuple(seeds)}),
    )


@dataclass(frozen=True)
class Job:
    """A piece of work, with a file of predictions of its own.

    Attributes
    ----------
    model : str
        What it is a part of.
    piece : str
        Which part (a seed, an output); empty if it is the whole.
    settings : Mapping of str to Any
        All that decides its predictions; plain data.
    make : callable
    """

    model: str
    piece: str
    settings: Mapping[str, Any]
    make: Callable[[], Predictions] = field(compare=False)

    @property
    def name(self) -> str:
        """Of the file."""
        return f"{self.model}.{self.piece}" if self.piece else self.model


def jobs_of(plan: Plan) -> list[Job]:
    """List all pieces of work, the quick ones first; those of one model stand together."""
    return [*_single_jobs(plan), *_ridge_jobs(plan), *_boosting_jobs(plan), *_network_jobs(plan)]


def _job(
    plan: Plan, model: str, piece: str, make: Callable[[], Predictions], **settings: Any
) -> Job:
    shared = {
        "version": _VERSION,
        "model": model,
        "piece": piece,
        "data": dict(plan.data),
        "selection": asdict(plan.selection),
    }
    return Job(model, piece, {**shared, **settings}, make)


def _single_jobs(plan: Plan) -> Iterator[Job]:
    for number in (bound_tf_count, rna_length):
        yield _job(plan, number.__name__, "", partial(_from_number, plan, number))
    if plan.model is not None:
        sha256 = sha256_of(plan.model.locate("manifest.json"))
        yield _job(plan, "ours", "", partial(_from_bundle, plan, plan.model), bundle=sha256)


def _from_number(plan: Plan, number: Callable[..., Any]) -> Predictions:
    return predict_from_number(plan.dataset(), number)


def _from_bundle(plan: Plan, model: Model) -> Predictions:
    return predict_by_bundle(plan.dataset(), model)


def _ridge_jobs(plan: Plan) -> Iterator[Job]:
    def ridge(variant: str) -> Predictions:
        return predict_by_ridge(plan.dataset(variant), plan.alphas)

    for variant in VARIANTS:
        yield _job(
            plan, _varied("ridge", variant), "", partial(ridge, variant), alphas=list(plan.alphas)
        )
    yield _job(
        plan,
        "kernel_ridge",
        "",
        lambda: predict_by_kernel_ridge(plan.dataset(), plan.kernel),
        search=asdict(plan.kernel),
    )


def _boosting_jobs(plan: Plan) -> Iterator[Job]:
    def boost(output: str) -> Predictions:
        return predict_by_boosting(plan.dataset(), output, plan.boosting)

    for output in boosted_outputs(plan.targets.names, plan.boosted):
        yield _job(plan, "lightgbm", output, partial(boost, output), boosting=asdict(plan.boosting))


def boosted_outputs(names: Sequence[str], count: int) -> list[str]:
    """Choose fold changes evenly from all of them, and the median."""
    chosen = np.unique(np.linspace(0, len(names) - 2, min(count, len(names) - 1)).round())
    return [*(names[int(i)] for i in chosen), MEDIAN]


def _network_jobs(plan: Plan) -> Iterator[Job]:
    def decode(seed: int) -> Predictions:
        dataset = plan.dataset("", plan.decode.kernels)
        return predict_by_network(dataset, plan.decode, plan.decode_fit, seed)

    def ours(variant: str, seed: int) -> Predictions:
        return predict_by_network(plan.dataset(variant), plan.config, plan.fit, seed)

    for seed in plan.decode_fit.seeds:
        yield _job(
            plan,
            "decode",
            str(seed),
            partial(decode, seed),
            network=asdict(plan.decode),
            fit=_unseeded(plan.decode_fit),
        )
    network = {**asdict(plan.config), "members": 1}
    for variant in VARIANTS:
        model = _varied("ours", variant) if variant else plan.reference
        for seed in plan.fit.seeds:
            yield _job(
                plan,
                model,
                str(seed),
                partial(ours, variant, seed),
                network=network,
                fit=_unseeded(plan.fit),
            )


def _varied(model: str, variant: str) -> str:
    return f"{model}_{variant}" if variant else model


def _unseeded(fit: FitConfig | PerceptronFit) -> dict[str, Any]:
    """Settings of a training, less its seeds: each is a piece of work of its own."""
    return {name: value for name, value in asdict(fit).items() if name != "seeds"}


def chosen_jobs(jobs: Sequence[Job], patterns: Sequence[str]) -> list[Job]:
    """Choose pieces of work by model or by full name; ``*`` and ``?`` stand for anything.

    Raises
    ------
    UsageError
        If a pattern fits nothing.
    """
    for pattern in patterns:
        if not any(_fits(job, pattern) for job in jobs):
            models = ", ".join(dict.fromkeys(job.model for job in jobs))
            raise UsageError(
                f"There is no step '{pattern}'.", remedy=f"There are: {models}, report."
            )
    return [job for job in jobs if any(_fits(job, pattern) for pattern in patterns)]


def _fits(job: Job, pattern: str) -> bool:
    return fnmatchcase(job.model, pattern) or fnmatchcase(job.name, pattern)


def gather(jobs: Sequence[Job], folder: Path) -> tuple[dict[str, Predictions], list[str]]:
    """Put models together from their pieces.

    Returns
    -------
    models : dict of str to Predictions
        Those of which all pieces are there. ``decode`` is the repeat with the least validation
        loss, ``decode_mean`` the mean of them.
    missing : list of str
        Names of the pieces that are not.
    """
    models: dict[str, Predictions] = {}
    missing: list[str] = []
    for model, group in groupby(jobs, key=lambda job: job.model):
        pieces = list(group)
        paths = [path_of(folder, job.name, job.settings) for job in pieces]
        absent = [job.name for job, path in zip(pieces, paths, strict=True) if not path.exists()]
        missing += absent
        if absent:
            continue
        found = [
            read_predictions(path, job.settings) for job, path in zip(pieces, paths, strict=True)
        ]
        if model == "lightgbm":
            models[model] = side_by_side(found)
        elif model == "decode":
            models[model] = best_of(found)
            models["decode_mean"] = mean_of(found)
        else:
            models[model] = found[0] if not pieces[0].piece else mean_of(found)
    return models, missing
