"""What a report says, before it is a page: predictions, regulators, and genes one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.attribution.explainer import Explainer
from decode_zoo.attribution.scores import Attribution, Level, Summary
from decode_zoo.core.arrays import FloatArray, IntArray, SingleArray
from decode_zoo.core.errors import ArtifactError, UsageError
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.features.genes import genes_of
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.metrics import leaf_order
from decode_zoo.zoo.model import Model

__all__ = ["TOP", "Content", "classes_of", "collect", "steps_for", "to_steps"]

Arrays = dict[str, npt.NDArray[Any]]

# A page stays below 10 MB. The first genes are shown one by one, as many as make this many
# genes × outputs: 300 with 54 outputs, all with one.
DETAIL = 16_200
MAX_ROWS = 5_000
MAX_PREDICTIONS = 300_000
TOP = 15  # regulators listed of each gene and output
_NONE = np.iinfo(np.uint16).max  # fills lists of genes with fewer

# Genes explained at a time; by position a gene has thousands of scores for each output.
_CHUNK, _FINE_CHUNK = 256, 32

# Scores of the n genes that are shown one by one, as the page's script knows them. They are whole
# numbers of the step of their gene and output; without positions the last five are empty.
_DETAIL: dict[str, npt.DTypeLike] = {
    "classSums": np.float32,  # (n, n_classes, n_outputs)
    "top": np.uint16,  # features by falling absolute score, no masks: (n, n_outputs, TOP)
    "steps": np.float32,  # (n, n_outputs)
    "topScores": np.int16,
    "placeCounts": np.uint16,  # bins that each of them has a score in
    # Those bins, one regulator after the other: 2 × bin + (0 on the promoter, 1 on the RNA).
    "places": np.uint16,
    "placeScores": np.int16,
    "profileBins": np.uint16,  # of each gene's promoter and RNA: (n, 2)
    # Of all regulators together: by gene and output, the promoter's bins, then the RNA's.
    "profiles": np.int16,
}
_RAGGED = ("places", "placeScores", "profiles")


@dataclass(frozen=True)
class Content:
    """What a report says of the genes that were asked for and of those that were explained."""

    queries: tuple[str, ...]
    table: pd.DataFrame  # of Model.predict
    gene: IntArray  # number of the explained gene that each query means, -1 for none
    rna_lengths: IntArray  # in nt, of the explained genes, each once, in the order of queries
    prediction: SingleArray  # (n_genes, n_outputs)
    explainer: Explainer  # by regulator, the mask channels last
    summary: Summary  # scores by regulator, added up over genes
    gene_order: IntArray  # so that similar ones are neighbours
    output_order: IntArray
    detail: Arrays  # of the first genes (`_DETAIL`)
    n_detail: int
    no_positions: str | None  # why there are no scores by position


def collect(
    model: Model,
    genes: Iterable[str],
    *,
    outputs: Sequence[str] | None,
    contrasts: Sequence[tuple[str, str]],
    background: Sequence[str] | None,
    features: FeatureSet | None,
    fill_missing: bool,
    progress: Callable[[int, int], object],
) -> Content:
    """Predict and explain what a report shows; UsageError if that is more than a page holds."""
    queries = tuple(genes_of(genes) or ())
    common: dict[str, Any] = {
        "outputs": outputs,
        "contrasts": contrasts,
        "features": features,
        "fill_missing": fill_missing,
    }
    explainer = model.explainer(by="regulator", background=background, **common)
    names = [output.name for output in explainer.outputs]
    if len(queries) > MAX_ROWS or len(queries) * len(names) > MAX_PREDICTIONS:
        raise UsageError(
            f"A report holds at most {MAX_ROWS:,} genes and {MAX_PREDICTIONS:,} genes × outputs, "
            f"not {len(queries):,} genes × {len(names)} outputs.",
            remedy="Take fewer genes, or fewer outputs with --outputs; for means over many genes: "
            "decode-zoo explain --summary",
        )
    table = model.predict(queries, backend="numpy", **common)
    rows = model.rows_of(queries, explainer.bound).rows
    features = explainer.bound.features
    number = {features.rows.ids[row]: i for i, row in enumerate(rows)}
    gene = np.array([number.get(name, -1) for name in table.iloc[:, 0]], np.int64)
    first = np.flatnonzero(table["status"] == "ok")
    prediction = table[names].to_numpy(np.float32)[first]

    n_detail = min(rows.size, DETAIL // len(names))
    positions, no_positions = None, None
    if n_detail:
        try:
            features.pieces("promoter")
        except ArtifactError as error:
            no_positions = str(error)
        else:
            positions = model.explainer(by="position", background=background, **common)
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        progress(done, rows.size + n_detail)

    summary = Summary.of(explainer.explain(rows[:0]))
    for start in range(0, rows.size, _CHUNK):
        part = explainer.explain(rows[start : start + _CHUNK])
        summary = summary + Summary.of(part)
        advance(len(part))
    detail = _detail(rows[:n_detail], explainer, positions, advance)
    changes = [i for i, output in enumerate(explainer.outputs) if output.kind == "fold_change"]
    others = [i for i in range(len(names)) if i not in changes]
    leaves = leaf_order(prediction[:, changes].T)
    return Content(
        queries=queries,
        table=table,
        gene=gene,
        rna_lengths=np.array(features.rows.rna_lengths, np.int64)[rows],
        prediction=prediction,
        explainer=explainer,
        summary=summary,
        gene_order=leaf_order(prediction[:, changes]),
        output_order=np.array([*(changes[i] for i in leaves), *others], np.int64),
        detail=detail,
        n_detail=n_detail,
        no_positions=no_positions,
    )


# Genes one by one


def _detail(
    rows: IntArray,
    regulators: Explainer,
    positions: Explainer | None,
    progress: Callable[[int], object],
) -> Arrays:
    """Explain rows of the feature set one by one, by regulator and by position."""
    _, class_of = classes_of(regulators.resolution)
    regulator = None if positions is None else _regulator_of(regulators, positions)
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in _DETAIL}
    for start in range(0, rows.size, _FINE_CHUNK):
        chunk = rows[start : start + _FINE_CHUNK]
        scores = regulators.explain(chunk)
        placed = None if positions is None else positions.explain(chunk)
        for i in range(chunk.size):
            found = _strongest(scores, i, class_of)
            if placed is not None and regulator is not None:
                found |= _places(placed, i, regulator, found["top"])
            for name, array in _rounded(found).items():
                parts[name].append(array)
        progress(chunk.size)
    joined = {}
    for name, kind in _DETAIL.items():
        join = np.concatenate if name in _RAGGED else np.stack
        joined[name] = join(parts[name]).astype(kind) if parts[name] else np.zeros(0, kind)
    return joined


def classes_of(resolution: Level) -> tuple[list[str], IntArray]:
    """Return the classes of features, ``mask`` last, and the number of each feature's."""
    codes = resolution.features["class"].astype(str)
    names = list(dict.fromkeys(codes))
    return names, codes.map(names.index).to_numpy(np.int64)


def _regulator_of(regulators: Explainer, positions: Explainer) -> IntArray:
    """Feature by regulator of each feature by position."""
    keys = ["class", "regulator"]
    names = regulators.resolution.features[keys].astype(str)
    number = {key: i for i, key in enumerate(names.itertuples(index=False, name=None))}
    finer = positions.resolution.features[keys].astype(str)
    return np.array([number[key] for key in finer.itertuples(index=False, name=None)], np.int64)


def _strongest(attribution: Attribution, i: int, class_of: IntArray) -> Arrays:
    """Class sums and strongest regulators of the i-th row."""
    own = slice(attribution.indptr[i], attribution.indptr[i + 1])
    feature, scores = attribution.feature[own].astype(np.int64), attribution.scores[own]
    sums = np.zeros((int(class_of.max()) + 1, scores.shape[1]))
    np.add.at(sums, class_of[feature], scores)
    is_regulator = ~attribution.resolution.is_mask[feature]
    feature, scores = feature[is_regulator], scores[is_regulator]
    best = np.argsort(-np.abs(scores), axis=0, kind="stable")[:TOP]
    lacking = ((0, 0), (0, TOP - len(best)))
    return {
        "classSums": sums,
        "top": np.pad(feature[best].T, lacking, constant_values=_NONE),
        "topScores": np.pad(np.take_along_axis(scores, best, 0).T, lacking),
    }


def _places(attribution: Attribution, i: int, regulator: IntArray, top: IntArray) -> Arrays:
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
        "placeCounts": counts.reshape(top.shape),
        "places": keys[entry] % stride,
        "placeOutputs": output,
        "placeScores": sums[entry, output],
        "profileBins": np.array(n_bins),
        "profiles": np.concatenate(profiles, axis=1),
    }


def _rounded(found: Arrays) -> Arrays:
    """Round the scores of a gene, those of each output to a step that 16 bits hold."""
    output = found.pop("placeOutputs", np.zeros(0, np.int64))
    largest = np.abs(found["topScores"]).max(axis=1, initial=0)
    if "places" in found:
        np.maximum.at(largest, output, np.abs(found["placeScores"]))
        np.maximum(largest, np.abs(found["profiles"]).max(axis=1, initial=0), out=largest)
    steps = steps_for(largest)
    found |= {"steps": steps, "topScores": to_steps(found["topScores"], steps[:, None])}
    if "places" in found:
        found["placeScores"] = to_steps(found["placeScores"], steps[output])
        found["profiles"] = to_steps(found["profiles"], steps[:, None]).ravel()
    return found


def steps_for(largest: npt.NDArray[np.floating]) -> FloatArray:
    """Choose what scores are rounded to: 0.0001, or more (0.0002, 0.0005, …) to fit 16 bits."""
    # Up to above the largest number in single precision.
    steps = np.array([float(f"{digit}e{power}") for power in range(-4, 36) for digit in (1, 2, 5)])
    return steps[np.searchsorted(steps, largest / np.iinfo(np.int16).max)]


def to_steps(
    values: npt.NDArray[np.floating], step: npt.NDArray[np.floating]
) -> npt.NDArray[np.int16]:
    """Round to whole numbers of steps."""
    return np.rint(values / step).astype(np.int16)
