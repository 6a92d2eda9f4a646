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
from decode_zoo.report.packing import steps_for, to_steps

__all__ = ["NONE", "TOP", "Classes", "Detail"]

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
    """Features by class.

    Attributes
    ----------
    names : tuple of str
        In the order of tables; ``mask`` last.
    of_feature : ndarray of int64
        Number of the class of each feature of a resolution by regulator.
    """

    names: tuple[str, ...]
    of_feature: IntArray

    @classmethod
    def of(cls, resolution: Resolution) -> Classes:
        """Find the classes of a resolution's features."""
        codes = resolution.features["class"].astype(str)
        names = tuple(dict.fromkeys(codes))
        return cls(names, codes.map(names.index).to_numpy(np.int64))


@dataclass(frozen=True)
class Detail:
    """Scores of the n genes that are shown one by one.

    Attributes
    ----------
    class_sums : ndarray of float32, shape (n, n_classes, n_outputs)
    top : ndarray of uint16, shape (n, n_outputs, TOP)
        Features (by regulator) by falling absolute score, masks left out; `NONE` where a gene has
        no more.
    steps : ndarray of float32, shape (n, n_outputs)
        What scores of the gene and output are rounded to; below they are whole numbers of it.
    top_scores : ndarray of int16, shape (n, n_outputs, TOP)
    place_counts : ndarray of uint16, shape (n, n_outputs, TOP)
        Bins that each of them has a score in.
    places : ndarray of uint16
        Those bins, one regulator after the other: 2 × bin + (0 on the promoter, 1 on the RNA).
    place_scores : ndarray of int16
        Their scores.
    profile_bins : ndarray of uint16, shape (n, 2)
        Bins of each gene's promoter and RNA.
    profiles : ndarray of int16
        Scores of all regulators together: by gene and output, the promoter's bins, then the RNA's.

    Notes
    -----
    Without positions the last five are empty.
    """

    class_sums: FloatArray
    top: npt.NDArray[np.uint16]
    steps: FloatArray
    top_scores: npt.NDArray[np.int16]
    place_counts: npt.NDArray[np.uint16]
    places: npt.NDArray[np.uint16]
    place_scores: npt.NDArray[np.int16]
    profile_bins: npt.NDArray[np.uint16]
    profiles: npt.NDArray[np.int16]

    @classmethod
    def make(
        cls,
        rows: IntArray,
        regulators: Explainer,
        positions: Explainer | None,
        progress: Callable[[int], object],
    ) -> Detail:
        """Explain genes one by one.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            Rows of the feature set.
        regulators : Explainer
            By regulator.
        positions : Explainer, optional
            By position, of the same outputs.
        progress : callable
            Is told how many genes are done each time.
        """
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

    Parameters
    ----------
    attribution : Attribution
        By position.
    i : int
    regulator : ndarray of int64
        Feature by regulator of each feature by position.
    top : ndarray of int64, shape (n_outputs, TOP)
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
