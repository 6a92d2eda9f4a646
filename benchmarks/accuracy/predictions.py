"""Predictions of one model on disk: a file for each piece of work, named by its settings."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from decode_zoo.core.arrays import read_arrays, write_arrays
from decode_zoo.core.errors import InputError
from decode_zoo.core.files import atomic_path

FloatArray = npt.NDArray[np.floating[Any]]

PARTS = ("validation", "test")


@dataclass(frozen=True)
class Predictions:
    """What a model predicts for the genes that it was not trained on.

    Attributes
    ----------
    outputs : tuple of str
        A model need not predict all outputs of the data set.
    genes : Mapping of str to tuple of str
        Gene ids by part (`PARTS`).
    values : Mapping of str to ndarray, shape (n_genes, n_outputs)
        By part, in the outputs' units.
    notes : Mapping of str to Any
        What was chosen on validation genes and how; plain data.
    """

    outputs: tuple[str, ...]
    genes: Mapping[str, tuple[str, ...]]
    values: Mapping[str, FloatArray]
    notes: Mapping[str, Any] = field(default_factory=dict)


def canonical(settings: Mapping[str, Any]) -> str:
    """Return settings as JSON that does not depend on the order they are given in."""
    return json.dumps(settings, sort_keys=True, separators=(",", ":"))


def path_of(folder: Path, name: str, settings: Mapping[str, Any]) -> Path:
    """Return where the predictions of a piece of work lie; other settings, another file."""
    digest = hashlib.sha256(canonical(settings).encode()).hexdigest()
    return folder / f"{re.sub(r'[^0-9A-Za-z._-]+', '_', name)}.{digest[:16]}.npz"


def write_predictions(path: Path, found: Predictions, settings: Mapping[str, Any]) -> None:
    """Write predictions; the file appears whole or not at all."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "outputs": np.array(found.outputs),
        "settings": np.array([canonical(settings)]),
        "notes": np.array([canonical(found.notes)]),
    }
    for part in PARTS:
        arrays[f"{part}_genes"] = np.array(found.genes[part])
        arrays[f"{part}_values"] = np.asarray(found.values[part], np.float32)
    with atomic_path(path) as temporary:
        write_arrays(temporary, arrays)


def read_predictions(path: Path, settings: Mapping[str, Any]) -> Predictions:
    """Read predictions.

    Raises
    ------
    InputError
        If the file is damaged or was made with other settings.
    """
    arrays = read_arrays(path)
    expected = {"outputs", "settings", "notes"}
    expected |= {f"{part}_{kind}" for part in PARTS for kind in ("genes", "values")}
    if arrays.keys() != expected or arrays["settings"].tolist() != [canonical(settings)]:
        raise InputError(
            "was made with other settings than its name says",
            path=path,
            remedy="Remove it, and it is made again.",
        )
    return Predictions(
        tuple(arrays["outputs"].tolist()),
        {part: tuple(arrays[f"{part}_genes"].tolist()) for part in PARTS},
        {part: arrays[f"{part}_values"].astype(np.float64) for part in PARTS},
        json.loads(arrays["notes"][0]),
    )


def make_once(
    folder: Path, name: str, settings: Mapping[str, Any], make: Callable[[], Predictions]
) -> bool:
    """Make predictions unless they are there.

    Returns
    -------
    bool
        Whether they had to be made.
    """
    path = path_of(folder, name, settings)
    if path.exists():
        read_predictions(path, settings)
        return False
    write_predictions(path, make(), settings)
    return True


def _check_same_genes(found: Sequence[Predictions]) -> None:
    if any(other.genes != found[0].genes for other in found):
        raise InputError("pieces of one model are of different genes")


def mean_of(found: Sequence[Predictions]) -> Predictions:
    """Average predictions of networks that differ by seed."""
    _check_same_genes(found)
    values = {part: np.mean([one.values[part] for one in found], axis=0) for part in PARTS}
    return Predictions(
        found[0].outputs, found[0].genes, values, {"mean_of": [dict(one.notes) for one in found]}
    )


def best_of(found: Sequence[Predictions]) -> Predictions:
    """Return the predictions whose notes tell the least validation loss."""
    return min(found, key=lambda one: one.notes["validation_loss"])


def side_by_side(found: Sequence[Predictions]) -> Predictions:
    """Join predictions of different outputs."""
    _check_same_genes(found)
    values = {part: np.hstack([one.values[part] for one in found]) for part in PARTS}
    return Predictions(
        tuple(name for one in found for name in one.outputs),
        found[0].genes,
        values,
        {"outputs": {one.outputs[0]: dict(one.notes) for one in found}},
    )
