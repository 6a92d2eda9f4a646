"""What a report shows of single genes: strongest regulators, and where their scores come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from decode_zoo.attribution import Attribution, Resolution
from decode_zoo.explainer import Explainer
from decode_zoo.layout import SIDES

__all__ = ["NONE", "TOP", "Classes", "Detail", "steps_for", "to_steps"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

# Regulators listed of each gene and output.
TOP = 15
# Fills lists of genes with fewer.
NONE = np.iinfo(np.uint16).max

# Genes explained at a time; by position a gene has thousands of scores for each output.
_CHUNK = 32


@dataclass(frozen=True)
class Classes:
    """Features of a resolution by regulator, by class; ``mask`` comes last."""

    names: tuple[str, ...]
    of_feature: IntArray  # number of the class of each feature

    @classmethod
    def of(cls, resolution: Resolution) -> Classes:
        """Find the classes of a resolution's features."""
        codes = resolution.features["class"].astype(str)
        names = tuple(dict.fromkeys(codes))
        return cls(names, codes.map(names.index).to_numpy(np.int64))


@dataclass(frozen=True)
class Detail:
    """Scores of the n genes that are shown one by one; without positions the last five are empty.

    Scores are whole numbers of the step of their gene and output.
    """

    class_sums: FloatArray  # (n, n_classes, n_outputs)
    # Features by falling absolute score, masks left out, NONE where a gene has no more:
    # (n, n_outputs, TOP).
    top: npt.NDArray[np.uint16]
    steps: FloatArray  # (n, n_outputs)
    top_scores: npt.NDArray[np.int16]
    place_counts: npt.NDArray[np.uint16]  # bins that each of them has a score in
    # Those bins, one regulator after the other: 2 × bin + (0 on the promoter, 1 on the RNA).
    places: npt.NDArray[np.uint16]
    place_scores: npt.NDArray[np.int16]
    profile_bins: npt.NDArray[np.uint16]  # of each gene's promoter and RNA: (n, 2)
    # Of all regulators together: by gene and output, the promoter's bins, then the RNA's.
    profiles: npt.NDArray[np.int16]

    @classmethod
    def make(
        cls,
        rows: IntArray,
        regulators: Explainer,
        positions: Explainer | None,
        progress: Callable[[int], object],
    ) -> Detail:
        """Explain rows of the feature set one by one, by regulator and by position."""
        classes = Classes.of(regulators.resolution)
        regulator = None if positions is None else _regulator_of(regulators, positions)
        parts: dict[str, list[npt.NDArray[Any]]] = {}
        for start in range(0, rows.size, _CHUNK):
            chunk = rows[start : start + _CHUNK]
            scores = regulators.explain(chunk)
            placed = None if positions is None else positions.explain(chunk)
            for i in range(chunk.size):
                found = _strongest(scores, i, classes)
                if placed is not None and regulator is not None:
                    found |= _places(placed, i, regulator, found["top"])
                for name, array in _rounded(found).items():
                    parts.setdefault(name, []).append(array)
            progress(chunk.size)
        joined: dict[str, npt.NDArray[Any]] = {}
        for name, kind in _TYPES.items():
            arrays = parts.get(name, [])
            put_together = np.concatenate if name in _RAGGED else np.stack
            joined[name] = put_together(arrays).astype(kind) if arrays else np.zeros(0, kind)
        return cls(**joined)


_TYPES: dict[str, npt.DTypeLike] = {
    "class_sums": np.float32,
    "top": np.uint16,
    "steps": np.float32,
    "top_scores": np.int16,
    "place_counts": np.uint16,
    "places": np.uint16,
    "place_scores": np.int16,
    "profile_bins": np.uint16,
    "profiles": np.int16,
}
_RAGGED = ("places", "place_scores", "profiles")


def _regulator_of(regulators: Explainer, positions: Explainer) -> IntArray:
    """Feature by regulator of each feature by position."""
    keys = ["class", "regulator"]
    names = regulators.resolution.features[keys].astype(str)
    number = {key: i for i, key in enumerate(names.itertuples(index=False, name=None))}
    finer = positions.resolution.features[keys].astype(str)
    return np.array([number[key] for key in finer.itertuples(index=False, name=None)], np.int64)


def _strongest(attribution: Attribution, i: int, classes: Classes) -> dict[str, npt.NDArray[Any]]:
    """Class sums and strongest regulators of the i-th row."""
    own = slice(attribution.indptr[i], attribution.indptr[i + 1])
    feature, scores = attribution.feature[own].astype(np.int64), attribution.scores[own]
    sums = np.zeros((len(classes.names), scores.shape[1]))
    np.add.at(sums, classes.of_feature[feature], scores)
    is_regulator = ~attribution.resolution.is_mask[feature]
    feature, scores = feature[is_regulator], scores[is_regulator]
    best = np.argsort(-np.abs(scores), axis=0, kind="stable")[:TOP]
    lacking = ((0, 0), (0, TOP - len(best)))
    return {
        "class_sums": sums,
        "top": np.pad(feature[best].T, lacking, constant_values=NONE),
        "top_scores": np.pad(np.take_along_axis(scores, best, 0).T, lacking),
    }


def _places(
    attribution: Attribution, i: int, regulator: IntArray, top: IntArray
) -> dict[str, npt.NDArray[Any]]:
    """Bins of the i-th row: those of its strongest regulators, and all regulators together.

    `regulator` is the feature by regulator of each feature by position.
    """
    own = slice(attribution.indptr[i], attribution.indptr[i + 1])
    is_regulator = ~attribution.resolution.is_mask[attribution.feature[own]]
    feature = attribution.feature[own][is_regulator]
    bins = attribution.bin[own][is_regulator].astype(np.int64)
    scores = attribution.scores[own][is_regulator]
    n_outputs = scores.shape[1]
    place = 2 * bins + attribution.resolution.on_rna[feature]
    stride = int(place.max(initial=0)) + 1

    # Tracks of one regulator add up.
    keys, group = np.unique(regulator[feature] * stride + place, return_inverse=True)
    sums = np.zeros((keys.size, n_outputs), np.float32)
    np.add.at(sums, group, scores)
    first, last = np.searchsorted(keys, [top * stride, (top + 1) * stride])
    counts = (last - first).ravel()
    entry = np.repeat(first.ravel(), counts) + np.concatenate(
        [np.zeros(0, np.int64), *(np.arange(count) for count in counts)]
    )
    output = np.repeat(np.arange(n_outputs).repeat(TOP), counts)

    layout = attribution.resolution.layout
    lengths = dict(zip(SIDES, (layout.window, attribution.rna_lengths[i]), strict=True))
    n_bins, profiles = [], []
    for number, side in enumerate(SIDES):
        here = place % 2 == number
        # A background's sites may lie beyond the gene's own end.
        n = max(-(-lengths[side] // layout.bin), 1 + int(bins[here].max(initial=-1)))
        profile = np.zeros((n, n_outputs), np.float32)
        np.add.at(profile, bins[here], scores[here])
        n_bins.append(n)
        profiles.append(profile.T)
    return {
        "place_counts": counts.reshape(top.shape),
        "places": keys[entry] % stride,
        "place_outputs": output,
        "place_scores": sums[entry, output],
        "profile_bins": np.array(n_bins),
        "profiles": np.concatenate(profiles, axis=1),
    }


def _rounded(found: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Round the scores of a gene, those of each output to a step that 16 bits hold."""
    largest = np.abs(found["top_scores"]).max(axis=1, initial=0)
    positional = "places" in found
    if positional:
        np.maximum.at(largest, found["place_outputs"], np.abs(found["place_scores"]))
        np.maximum(largest, np.abs(found["profiles"]).max(axis=1, initial=0), out=largest)
    steps = steps_for(largest)
    rounded = {**found, "steps": steps, "top_scores": to_steps(found["top_scores"], steps[:, None])}
    if positional:
        of_places = steps[found["place_outputs"]]
        rounded["place_scores"] = to_steps(found["place_scores"], of_places)
        rounded["profiles"] = to_steps(found["profiles"], steps[:, None]).ravel()
    return rounded


def steps_for(largest: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Choose what scores are rounded to: 0.0001, or more (0.0002, 0.0005, …) to fit 16 bits."""
    # Up to above the largest number in single precision.
    steps = np.array([float(f"{digit}e{power}") for power in range(-4, 36) for digit in (1, 2, 5)])
    return steps[np.searchsorted(steps, largest / np.iinfo(np.int16).max)]


def to_steps(
    values: npt.NDArray[np.floating], step: npt.NDArray[np.floating]
) -> npt.NDArray[np.int16]:
    """Round to whole numbers of steps."""
    return np.rint(values / step).astype(np.int16)
