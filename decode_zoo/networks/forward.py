"""The forward pass over rows of features, and checks that graph, weights and answers agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.core.arrays import FloatArray, IntArray, SingleArray
from decode_zoo.core.errors import VerificationError
from decode_zoo.core.system import one_core
from decode_zoo.features.spec import Side
from decode_zoo.networks.backends import BLOCK, Backend, NumpyBackend, OnnxBackend
from decode_zoo.networks.families import Network
from decode_zoo.networks.inputs import BoundFeatures
from decode_zoo.networks.manifest import Manifest

__all__ = ["check_agreement", "check_answers", "check_graph", "forward", "predict_rows", "scale_of"]

# Sizes of made-up inputs, in bases: from less than a site to more than the longest RNA.
_PROBES = (1.0, 1e2, 1e4, 1e7)
# In float32, networks differ by a tenth of it.
_GRAPH_TOLERANCE = 2e-5


def scale_of(manifest: Manifest) -> FloatArray:
    """Return the scales of the outputs, shape (n_outputs,)."""
    return np.array([output.scale for output in manifest.outputs])


def predict_rows(
    rows: IntArray,
    bound: BoundFeatures,
    backend: Backend,
    manifest: Manifest,
    n_outputs: int | None = None,
) -> SingleArray:
    """Predict rows of a feature set, shape (n, n_outputs); all of the model's, if not given.

    Independent, to the bit, of which other rows are asked for, and in what order.
    """
    width = len(manifest.outputs) if n_outputs is None else n_outputs
    predicted = np.empty((rows.size, width), np.float32)
    if manifest.pooling != "exact":
        for i in range(rows.size):
            predicted[i] = backend.run(bound.full(rows[i : i + 1]))[0]
        return predicted
    sides = bound.pooled(rows)
    for start in range(0, rows.size, BLOCK):
        stop = min(start + BLOCK, rows.size)
        block = {side: _filled_up(sums.dense(start, stop)) for side, sums in sides.items()}
        predicted[start:stop] = backend.run(block)[: stop - start]
    return predicted


def _filled_up(values: SingleArray) -> SingleArray:
    """Add empty rows up to the size of a block (see `backends`)."""
    lacking = BLOCK - len(values)
    return np.pad(values, ((0, lacking), (0, 0), (0, 0))) if lacking else values


def forward(
    rows: IntArray, bound: BoundFeatures, network: Network, manifest: Manifest
) -> FloatArray:
    """Predict few rows with the network as it is written, which costs less than a back end."""
    with np.errstate(over="ignore", invalid="ignore"):
        if manifest.pooling == "exact":
            sums = {side: part.dense() for side, part in bound.pooled(rows).items()}
            return network.forward(sums)
        full = (bound.full(rows[i : i + 1]) for i in range(rows.size))
        return np.concatenate([network.forward(matrices) for matrices in full])


def check_graph(opened: OnnxBackend, path: Path, manifest: Manifest) -> None:
    """Refuse a graph whose names and shapes are not the manifest's."""
    outputs = [output.name for output in manifest.outputs]
    named = outputs if opened.outputs is None else opened.outputs
    facts: list[tuple[str, object, object]] = [
        ("outputs", *pair) for pair in zip(named, outputs, strict=False)
    ]
    facts.append(("outputs", len(named), len(outputs)))
    for key, expected in (("id", manifest.id), ("fingerprint", manifest.fingerprint)):
        facts.append((key, opened.metadata.get(key, expected)[:80], expected))
    for side, frozen in manifest.inputs.items():
        facts.append((f"{side} channels", opened.channels[side], 1 + len(frozen.tracks)))
    facts.append(("outputs", opened.n_outputs, len(outputs)))
    for what, found, wanted in facts:
        if found != wanted:
            raise VerificationError(
                f"{path} has other {what} than the manifest of {manifest.id}: {found} instead of "
                f"{wanted}.",
                remedy="The bundle is mixed up; fetch it again.",
            )


def check_agreement(backend: Backend, network: Network, manifest: Manifest) -> None:
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
    for side, frozen in manifest.inputs.items():
        shape = (len(size), frozen.kernel + 1, len(frozen.scale))
        genes = (random.standard_normal(shape) * size).astype(np.float32)
        bound = np.abs(genes) * (random.random(shape) < 0.02)
        block[side] = np.concatenate([genes, -genes, bound.astype(np.float32)])
    with one_core():  # others would only wait, and that busily
        found, expected = backend.run(block), network.forward(block)
    if found.shape == expected.shape:
        # In a small network terms may cancel, so that one gene alone does not tell how large
        # the rounded numbers were; the four of a size do, and the two with few sites.
        rows = np.abs(expected).max(axis=1).reshape(3, -1, 2)
        dense, few = rows[:2].max(axis=(0, 2)), rows[2].max(axis=1)
        large = np.repeat(np.concatenate([dense, dense, few]), 2)[:, None]
        limit = max(_GRAPH_TOLERANCE, 4 * max(manifest.parity.values(), default=0.0))
        if (np.abs(found - expected) <= limit * (scale_of(manifest) + large)).all():
            return
    raise VerificationError(
        f"The graph and the weights of model {manifest.id} are of different networks.",
        remedy="The bundle is mixed up; fetch it again.",
    )


def check_answers(
    bound: BoundFeatures,
    predict: Callable[[IntArray, BoundFeatures], npt.NDArray[np.floating]],
    manifest: Manifest,
    what: str,
) -> float:
    """Compare known answers with what `predict` gives for rows of bound features.

    Returns the largest difference, in output scales; raises VerificationError if it is too large.
    `what` says in the message what predicts.
    """
    answers = manifest.known_answers
    places = bound.features.genes.get_indexer(pd.Index(answers.genes))
    if (places < 0).any():
        lost = [gene for gene, place in zip(answers.genes, places, strict=True) if place < 0]
        raise VerificationError(
            f"Model {manifest.id} knows the answers for {len(lost)} genes that its feature set "
            f"does not have: {', '.join(lost[:5])}.",
            remedy="The bundle is mixed up; fetch it again.",
        )
    off = predict(places.astype(np.int64), bound) - np.array(answers.values)
    largest = float(np.abs(off / scale_of(manifest)).max())
    limit = max(1e-5, 2 * max(manifest.parity.values(), default=0.0))
    if not largest <= limit:
        raise VerificationError(
            f"Model {manifest.id} does not give its known answers with {what}: "
            f"they are off by {largest:.2g} of an output's scale (allowed: {limit:.0e}).",
            remedy="The bundle is damaged or mixed up; fetch it again.",
        )
    return largest
