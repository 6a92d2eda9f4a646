"""In-silico knock-outs: what predictions change by if a regulator's sites are gone.

Source: Tasaki et al. 2020, Methods, 'In silico knockout experiment'. Every change is that between
two predictions, not an approximation such as an attribution score.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
import pandas as pd

from decode_zoo.attribution.scores import Level
from decode_zoo.core.arrays import BoolArray, FloatArray, IntArray, RealArray, SingleArray
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.core.provenance import provenance
from decode_zoo.core.system import one_core, share_out
from decode_zoo.features.genes import genes_of
from decode_zoo.networks.inputs import BoundFeatures, SparseInputs
from decode_zoo.networks.manifest import Output
from decode_zoo.studies.first_layer import FirstLayer, Precision
from decode_zoo.studies.result import StudyResult
from decode_zoo.zoo.model import Model

__all__ = [
    "STRONGEST",
    "By",
    "Deltas",
    "Effects",
    "Knockout",
    "Progress",
    "Strongest",
    "find_rows",
    "study_knockout",
]

By = Literal["class", "regulator", "track"]

# Rows worked on at a time: a few hundred knock-outs each, a hidden layer of each in memory.
_BLOCK = 16
# Single changes that are kept, regulators of the heat map.
STRONGEST, _SHOWN = 1_000, 30

Progress = Callable[[int, int], object]


@dataclass(frozen=True, repr=False)
class Deltas:
    """What the predictions of some rows change by, knock-out by knock-out."""

    rows: IntArray  # (n,): of the feature set
    indptr: IntArray  # (n + 1,): row i owns knock-outs indptr[i]:indptr[i + 1]
    features: IntArray  # (m,): row of Level.features that is gone; only those with sites
    values: SingleArray  # (m, n_outputs): without minus with its sites

    @property
    def owners(self) -> IntArray:
        """Row of the feature set of each knock-out, shape (m,)."""
        return np.repeat(self.rows, np.diff(self.indptr))


@dataclass(frozen=True, repr=False)
class Knockout:
    """Knocks regulators out, gene by gene. Made by `Knockout.make`."""

    model: Model
    bound: BoundFeatures
    outputs: tuple[Output, ...]
    resolution: Level  # what is knocked out: a class, a regulator with its tracks, or a track
    network: FirstLayer

    @classmethod
    def make(
        cls,
        model: Model,
        *,
        by: By = "regulator",
        outputs: Sequence[str] | None = None,
        precision: Precision = "double",
    ) -> Knockout:
        """Prepare to knock out; all outputs if none are named.

        Changes of a row are independent, to the bit, of other rows in double precision only.
        Raises UsageError if an output is unknown, or the network does not pool exactly.
        """
        chosen = model.numbers_of(outputs)
        with one_core():
            network = FirstLayer.make(model.network.select(chosen), precision)
        return cls(
            model,
            model.bind(),
            tuple(model.manifest.outputs[i] for i in chosen),
            Level.make(model.manifest, by),
            network,
        )

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs."""
        return [output.name for output in self.outputs]

    @property
    def folds(self) -> list[int]:
        """Numbers of the outputs that changes are averaged over: fold changes, or all."""
        folds = [i for i, output in enumerate(self.outputs) if output.kind == "fold_change"]
        return folds or list(range(len(self.outputs)))

    @property
    def origin(self) -> dict[str, Any]:
        """Model and features, for the provenance."""
        return self.model.provenance(self.bound, self.model.backend("numpy"))

    def named(self, rows: IntArray) -> dict[str, list[str]]:
        """Return columns that name rows of the feature set."""
        table, level = self.bound.features.rows, self.bound.features.layout.level
        return {
            f"{level}_id": [table.ids[i] for i in rows],
            "symbol": [table.symbols[i] for i in rows],
        }

    def labels(self, features: IntArray) -> pd.DataFrame:
        """Return rows of ``resolution.features`` as texts."""
        return self.resolution.features.iloc[features].astype(str).reset_index(drop=True)

    def frame(self, deltas: Deltas) -> pd.DataFrame:
        """Return a row a knock-out, a column an output."""
        names = pd.DataFrame(self.named(deltas.owners))
        values = pd.DataFrame(deltas.values, columns=self.output_names)
        return pd.concat([names, self.labels(deltas.features), values], axis=1)

    def find(self, name: str) -> int:
        """Return the row of a regulator (track, class) in ``resolution.features``.

        Raises UsageError if there is none, or several classes have one of that name.
        """
        table = self.resolution.features[~self.resolution.is_mask]
        names = table[table.columns[-1]].astype(str)
        kind, bare = "", name
        if self.resolution.by == "regulator":
            kind, _, bare = name.rpartition(":")
        found = table.index[(names == bare) & ((table["class"].astype(str) == kind) | (not kind))]
        if len(found) == 1:
            return int(found[0])
        if len(found) > 1:
            classes = " or ".join(f"{table['class'][i]}:{bare}" for i in found)
            raise UsageError(f"Several classes have a {bare}.", remedy=f"Name {classes}.")
        close = " or ".join(get_close_matches(bare, names.tolist(), n=3, cutoff=0.6))
        raise UsageError(
            f"Model {self.model.id} has no {self.resolution.by} {name!r}.",
            remedy=f"Is it {close}?" if close else f"See: decode-zoo info {self.model.id}",
        )

    def cells(
        self, rows: IntArray, only: Sequence[int] | None = None
    ) -> tuple[SparseInputs, IntArray]:
        """Return position sums of rows, and what each entry is knocked out with (-1: never).

        `only` has the features that may be knocked out; all but the mask channels if not given.
        """
        cells = self.bound.sum_cells(rows)
        allowed = ~self.resolution.is_mask
        if only is not None:
            allowed &= np.isin(np.arange(allowed.size), list(only))
        feature = self.resolution.of_channel[cells.channels]
        return cells, np.where(allowed[feature], feature, -1)

    def run(self, rows: IntArray, only: Sequence[int] | None = None) -> Iterator[Deltas]:
        """Knock out each feature that has sites on a row, some rows at a time, on all cores."""
        parts = (rows[i : i + _BLOCK] for i in range(0, rows.size, _BLOCK))
        return share_out(lambda part: self._deltas(part, only), parts)

    def _deltas(self, rows: IntArray, only: Sequence[int] | None) -> Deltas:
        cells, feature = self.cells(rows, only)
        stride = len(self.resolution.features)
        keys, group = np.unique(
            np.where(feature >= 0, cells.rows() * stride + feature, -1), return_inverse=True
        )
        first = int(keys[0] == -1) if keys.size else 0
        keys, group = keys[first:], group - first
        hidden, owner = self.network.hidden(cells), keys // stride
        losses = self.network.losses(cells, group, keys.size)
        values = self.network.predict(hidden[owner] + losses) - self.network.predict(hidden)[owner]
        indptr = np.searchsorted(keys, stride * np.arange(rows.size + 1))
        return Deltas(rows, indptr, keys % stride, values.astype(np.float32))

    def apart(
        self, rows: IntArray, only: Sequence[int] | None = None
    ) -> tuple[IntArray, RealArray, RealArray, BoolArray]:
        """Return what rows are made of, for any combination of features to be knocked out.

        Terms, (n_terms,): `only`, ascending, or every feature with sites on any of the rows. First
        hidden layers with all sites, (n_rows, n_units). What they lose with each term,
        (n_rows, n_terms, n_units), and which terms have sites on which row, (n_rows, n_terms).
        """
        cells, feature = self.cells(rows, only)
        terms = np.unique(feature[feature >= 0]) if only is None else np.unique(only)
        place = np.searchsorted(terms, np.maximum(feature, 0))
        group = np.where(feature >= 0, cells.rows() * terms.size + place, -1)
        there = np.zeros((rows.size, terms.size), bool)
        there.ravel()[group[group >= 0]] = True
        losses = self.network.losses(cells, group, there.size)
        return terms, self.network.hidden(cells), losses.reshape(*there.shape, -1), there

    def double(self, rows: IntArray, pairs: Sequence[tuple[int, int]]) -> pd.DataFrame:
        """Knock out pairs of features together on rows that have sites of both.

        A row a gene, pair and output, largest ``interaction`` first: by which both change more
        than the two one by one, both − first − second; zero where the network is linear.
        """
        names = ("change_first", "change_second", "change_both", "interaction")
        columns: list[tuple[Any, ...]] = []
        for start in range(0, rows.size, _BLOCK):
            part = rows[start : start + _BLOCK]
            terms, hidden, losses, there = self.apart(part, [i for pair in pairs for i in pair])
            before = self.network.predict(hidden)
            for pair in pairs:
                one, two = np.searchsorted(terms, pair)
                both = np.flatnonzero(there[:, one] & there[:, two])
                a, b = losses[both, one], losses[both, two]
                first, second, together = (
                    (self.network.predict(hidden[both] + change) - before[both]).ravel()
                    for change in (a, b, a + b)
                )
                output = np.tile(np.arange(len(self.outputs)), both.size)
                row = np.repeat(part[both], len(self.outputs))
                gone = (np.full(row.size, feature) for feature in pair)
                interaction = together - first - second
                columns.append((row, *gone, output, first, second, together, interaction))
        row, one, two, output, *changes = map(np.concatenate, zip(*columns, strict=True))
        labels = self.resolution.features.astype(str).iloc[:, -1].to_numpy()
        table = pd.DataFrame(
            {
                **self.named(row),
                "first": labels[one],
                "second": labels[two],
                "output": np.array(self.output_names, object)[output],
                **dict(zip(names, changes, strict=True)),
            }
        )
        order = np.argsort(-table["interaction"].abs().to_numpy(), kind="stable")
        return table.iloc[order].reset_index(drop=True)


class Effects:
    """Sums of changes over rows."""

    def __init__(self, knockout: Knockout) -> None:
        self._knockout = knockout
        shape = (len(knockout.resolution.features), len(knockout.outputs))
        self.present = np.zeros(shape[0], np.int64)  # rows with sites of each feature
        self.total, self.absolute = np.zeros(shape), np.zeros(shape)

    def add(self, deltas: Deltas) -> None:
        """Add the changes of some rows."""
        self.present += np.bincount(deltas.features, minlength=self.present.size)
        for sums, values in ((self.total, deltas.values), (self.absolute, np.abs(deltas.values))):
            part = np.zeros(sums.shape)
            np.add.at(part, deltas.features, values)
            sums += part

    @property
    def strongest(self) -> IntArray:
        """Features with sites, largest mean absolute change first."""
        kept = np.flatnonzero(self.present > 0)
        return kept[np.argsort(-self._sizes(kept), kind="stable")]

    def means(self, features: IntArray) -> FloatArray:
        """Return mean changes over the rows that have a feature's sites, by output."""
        return np.asarray(self.total[features] / self.present[features, None])

    def _sizes(self, features: IntArray) -> FloatArray:
        means = self.absolute[features] / self.present[features, None]
        return np.asarray(means[:, self._knockout.folds].mean(axis=1))

    def to_frame(self) -> pd.DataFrame:
        """Return a row a feature with sites, strongest first.

        Means are over the rows that have its sites: ``mean_change`` and ``mean_absolute_change``
        over all outputs of fold changes (all, if there are none), then the output that it changes
        most and by how much on average.
        """
        features, folds = self.strongest, self._knockout.folds
        mean = self.means(features)[:, folds]
        top = np.abs(mean).argmax(axis=1)
        table = self._knockout.labels(features)
        table["genes"] = self.present[features]
        table["mean_change"] = mean.mean(axis=1)
        table["mean_absolute_change"] = self._sizes(features)
        table["output"] = np.array(self._knockout.output_names, object)[folds][top]
        table["mean_change_of_output"] = mean[np.arange(len(features)), top]
        return table


class Strongest:
    """The largest of all changes seen so far."""

    def __init__(self, knockout: Knockout) -> None:
        self._knockout = knockout
        self._rows = self._features = self._outputs = np.zeros(0, np.int64)
        self._values = np.zeros(0, np.float32)

    def add(self, deltas: Deltas) -> None:
        """Take in the changes of some rows."""
        flat = deltas.values.ravel()
        least = np.abs(self._values).min() if self._values.size == STRONGEST else 0.0
        chosen = np.flatnonzero(np.abs(flat) > least)
        knockouts, outputs = np.divmod(chosen, max(deltas.values.shape[1], 1))
        values = np.append(self._values, flat[chosen])
        best = np.argsort(-np.abs(values), kind="stable")[:STRONGEST]
        self._values = values[best]
        self._rows = np.append(self._rows, deltas.owners[knockouts])[best]
        self._features = np.append(self._features, deltas.features[knockouts])[best]
        self._outputs = np.append(self._outputs, outputs)[best]

    def to_frame(self) -> pd.DataFrame:
        """Return them, largest first: gene, what was knocked out, output, change."""
        return pd.DataFrame(
            {
                **self._knockout.named(self._rows),
                **self._knockout.labels(self._features),
                "output": np.array(self._knockout.output_names, object)[self._outputs],
                "change": self._values,
            }
        )


def study_knockout(
    model: Model,
    genes: Iterable[str] | None = None,
    *,
    by: By = "regulator",
    outputs: Sequence[str] | None = None,
    regulators: Sequence[str] | None = None,
    double: Sequence[tuple[str, str]] = (),
    keep: Callable[[Iterator[pd.DataFrame], Mapping[str, str]], object] | None = None,
    command: Sequence[str] = ("decode_zoo.studies.knockouts.study_knockout",),
    facts: Mapping[str, object] | None = None,
    progress: Progress = lambda done, total: None,
) -> StudyResult:
    """Knock out each regulator of each gene, one by one.

    All genes, outputs and regulators if none are named; ``RBP:YY1`` where classes share a name.
    Pairs in `double` are knocked out together, too. All changes would not go into memory: `keep`
    takes them while the work goes on, as tables with a row a gene and regulator that has sites on
    it and a column an output, and the outputs' units.
    """
    knockout = Knockout.make(model, by=by, outputs=outputs)
    only = None if regulators is None else [knockout.find(name) for name in regulators]
    pairs = [(knockout.find(one), knockout.find(two)) for one, two in double]
    if any(one == two for one, two in pairs):
        raise UsageError("A pair to knock out together is twice the same.")
    rows, lost = find_rows(knockout, genes)
    effects, strongest = Effects(knockout), Strongest(knockout)

    def seen() -> Iterator[Deltas]:
        done = 0
        for deltas in knockout.run(rows, only):
            effects.add(deltas)
            strongest.add(deltas)
            done += deltas.rows.size
            progress(done, rows.size)
            yield deltas

    if keep is None:
        deque(seen(), maxlen=0)
    else:
        units = {output.name: output.unit for output in knockout.outputs}
        keep(map(knockout.frame, seen()), units)
    if not effects.present.any():
        raise InputError(
            "none of these genes has sites of what is to be knocked out",
            remedy="See which there are: decode-zoo explain --by track",
        )
    tables = {
        "regulators": ("Regulators, over the genes that have their sites", effects.to_frame()),
        "strongest": (f"Largest single changes (up to {STRONGEST:,})", strongest.to_frame()),
    }
    if pairs:
        tables["double"] = (
            "Double knock-outs: interaction is what both change beyond the sum of each",
            knockout.double(rows, pairs),
        )
    numbers = {
        "genes": rows.size,
        "not_knocked_out": lost,
        "knockouts": int(effects.present.sum()),
        "by": by,
        "outputs": knockout.output_names,
        "provenance": provenance(command, **knockout.origin, **(facts or {})),
    }
    return _result(knockout, effects, tables, numbers)


def _result(
    knockout: Knockout,
    effects: Effects,
    tables: Mapping[str, tuple[str, pd.DataFrame]],
    numbers: Mapping[str, Any],
) -> StudyResult:
    table, n_genes, names = tables["regulators"][1], numbers["genes"], knockout.output_names
    regulators = table[knockout.resolution.features.columns[-1]].astype(str).tolist()
    shown = knockout.folds
    drawn = {
        "regulators": regulators[:_SHOWN],
        "outputs": [names[i] for i in shown] if len(names) > 1 else [],
        "means": effects.means(effects.strongest[:_SHOWN])[:, shown],
    }
    return StudyResult(
        "knockout",
        f"Knock-outs of {len(table):,} regulators on {n_genes:,} genes",
        {
            "Model": knockout.model.id,
            "Genes": f"{n_genes:,}",
            "Knock-outs": f"{numbers['knockouts']:,}",
            "Outputs": f"{len(names):,}",
            "Strongest": regulators[0],
        },
        (
            "A change is the prediction without a regulator's sites minus the prediction with "
            "them, worked out exactly for each gene: what the model has learned, no experiment. "
            "Regulators that bind the same places share what they stand for, and each by itself "
            "then changes little.",
            "All changes are in the table deltas: a row a gene and regulator, a column an "
            "output; what is not there has no sites and changes nothing.",
        ),
        tables,
        numbers,
        [
            f"{numbers['knockouts']:,} knock-outs on {n_genes:,} genes; not knocked out: "
            f"{len(numbers['not_knocked_out'])} names without sites or unknown"
        ],
        drawn,
    )


def find_rows(knockout: Knockout, genes: Iterable[str] | None) -> tuple[IntArray, dict[str, str]]:
    """Find the rows of genes, all if none are named, and the status of what has no row."""
    asked = knockout.model.rows_of(genes_of(genes), knockout.bound)
    if not asked.rows.size:
        first = next(iter(asked.lost), "")
        raise InputError(
            f"none of {len(asked.lost)} genes is known, such as {first!r}",
            remedy=asked.hint or "Give Ensembl ids or symbols.",
        )
    return asked.rows, asked.lost
