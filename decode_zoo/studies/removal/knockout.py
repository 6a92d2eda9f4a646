"""In-silico knock-outs: what predictions change by if a regulator's sites are gone.

Source: Tasaki et al. 2020, Methods, 'In silico knockout experiment'. Every change is that between
two predictions, not an approximation such as an attribution score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.attribution import Resolution
from decode_zoo.cores import one_core, share_out
from decode_zoo.errors import UsageError
from decode_zoo.expression import Output
from decode_zoo.inputs import BoundFeatures, Cells
from decode_zoo.model import Model
from decode_zoo.studies.removal.hidden import HiddenNetwork, Precision

__all__ = ["By", "Deltas", "Effects", "Knockout", "Pair"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
By = Literal["class", "regulator", "track"]
# Two regulators, by their rows in `Resolution.features`.
Pair = tuple[int, int]

# Rows worked on at a time: a few hundred knock-outs each, a hidden layer of each in memory.
_BLOCK = 16


@dataclass(frozen=True, repr=False)
class Deltas:
    """What the predictions of some rows change by, knock-out by knock-out.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Of the feature set.
    indptr : ndarray of int64, shape (n + 1,)
        Row i owns knock-outs ``indptr[i]:indptr[i + 1]``.
    features : ndarray of int64, shape (m,)
        Row of ``Resolution.features`` that is knocked out; only those with sites.
    values : ndarray of float32, shape (m, n_outputs)
        Prediction without minus prediction with its sites, in the outputs' units.
    """

    rows: IntArray
    indptr: IntArray
    features: IntArray
    values: FloatArray


@dataclass(frozen=True, repr=False)
class Effects:
    """Sums of changes over rows.

    Attributes
    ----------
    n_rows : int
    present : ndarray of int64, shape (n_features,)
        Rows with sites of each.
    total, absolute : ndarray of float64, shape (n_features, n_outputs)
        Of changes, and of their absolute values.
    """

    n_rows: int
    present: IntArray
    total: npt.NDArray[np.float64]
    absolute: npt.NDArray[np.float64]

    @classmethod
    def of(cls, deltas: Deltas, n_features: int) -> Effects:
        """Add up the changes of some rows."""
        shape = (n_features, deltas.values.shape[1])
        total, absolute = np.zeros(shape), np.zeros(shape)
        np.add.at(total, deltas.features, deltas.values)
        np.add.at(absolute, deltas.features, np.abs(deltas.values))
        present = np.bincount(deltas.features, minlength=n_features).astype(np.int64)
        return cls(deltas.rows.size, present, total, absolute)

    def __add__(self, other: Effects) -> Effects:
        """Add those of other rows."""
        return Effects(
            self.n_rows + other.n_rows,
            self.present + other.present,
            self.total + other.total,
            self.absolute + other.absolute,
        )

    def to_frame(self, resolution: Resolution, outputs: Sequence[Output]) -> pd.DataFrame:
        """Return a row a feature with sites, strongest first.

        Means are over the rows that have its sites: ``mean_change`` and ``mean_absolute_change``
        over all outputs of fold changes (all, if there are none), then the output that it changes
        most and by how much on average.
        """
        kept = np.flatnonzero(self.present > 0)
        folds = [i for i, output in enumerate(outputs) if output.kind == "fold_change"]
        over = folds or list(range(len(outputs)))
        n = self.present[kept, None]
        mean, size = (self.total[kept] / n)[:, over], (self.absolute[kept] / n)[:, over]
        top = np.abs(mean).argmax(axis=1)
        names = np.array([outputs[i].name for i in over], object)
        table = resolution.features.iloc[kept].astype(str).reset_index(drop=True)
        table["genes"] = self.present[kept]
        table["mean_change"] = mean.mean(axis=1)
        table["mean_absolute_change"] = size.mean(axis=1)
        table["output"] = names[top]
        table["mean_change_of_output"] = mean[np.arange(len(kept)), top]
        order = np.argsort(-table["mean_absolute_change"].to_numpy(), kind="stable")
        return table.iloc[order].reset_index(drop=True)


@dataclass(frozen=True, repr=False)
class Knockout:
    """Knocks regulators out, gene by gene. Made by `Knockout.make`.

    Attributes
    ----------
    model : Model
    bound : BoundFeatures
    outputs : tuple of Output
    resolution : Resolution
        What is knocked out: a class of regulators, a regulator with all its tracks, or a track.
    network : HiddenNetwork
    """

    model: Model
    bound: BoundFeatures
    outputs: tuple[Output, ...]
    resolution: Resolution
    network: HiddenNetwork

    @classmethod
    def make(
        cls,
        model: Model,
        *,
        by: By = "regulator",
        outputs: Sequence[str] | None = None,
        bound: BoundFeatures | None = None,
        precision: Precision = "double",
    ) -> Knockout:
        """Prepare to knock out.

        Parameters
        ----------
        model : Model
        by : {"class", "regulator", "track"}
        outputs : sequence of str, optional
            All if not given.
        bound : BoundFeatures, optional
            The model's own features if not given.
        precision : {"double", "single"}
            Of the arithmetic; changes of a row are independent, to the bit, of other rows in double
            precision only.

        Raises
        ------
        UsageError
            If an output is unknown, or the network does not pool exactly.
        """
        chosen = model.numbers_of(outputs)
        with one_core():
            network = HiddenNetwork.make(model.network.select(chosen), precision)
        return cls(
            model,
            model.bind() if bound is None else bound,
            tuple(model.manifest.outputs[i] for i in chosen),
            Resolution.make(model.manifest, by),
            network,
        )

    def find(self, name: str) -> int:
        """Return the row of a regulator (track, class) in ``resolution.features``.

        Raises
        ------
        UsageError
            If there is none, or several classes have one of that name.
        """
        table = self.resolution.features[~self.resolution.is_mask]
        names = table[table.columns[-1]].astype(str)
        kind, _, bare = (
            name.rpartition(":") if self.resolution.by == "regulator" else ("", "", name)
        )
        found = table.index[(names == bare) & ((table["class"].astype(str) == kind) | (not kind))]
        if len(found) == 1:
            return int(found[0])
        if len(found) > 1:
            classes = " or ".join(f"{table['class'][i]}:{bare}" for i in found)
            raise UsageError(f"Several classes have a {bare}.", remedy=f"Name {classes}.")
        close = get_close_matches(bare, names.tolist(), n=3, cutoff=0.6)
        raise UsageError(
            f"Model {self.model.id} has no {self.resolution.by} {name!r}.",
            remedy=f"Is it {' or '.join(close)}?"
            if close
            else f"See: decode-zoo info {self.model.id}",
        )

    def cells(self, rows: IntArray, only: Sequence[int] | None = None) -> tuple[Cells, IntArray]:
        """Return position sums of rows, and what each entry is knocked out with (-1: never).

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
        only : sequence of int, optional
            Features that may be knocked out; all but the mask channels if not given.
        """
        cells = self.bound.sum_cells(rows)
        allowed = ~self.resolution.is_mask
        if only is not None:
            allowed &= np.isin(np.arange(allowed.size), list(only))
        feature = self.resolution.of_channel[cells.channels]
        return cells, np.where(allowed[feature], feature, -1)

    def run(self, rows: IntArray, only: Sequence[int] | None = None) -> Iterator[Deltas]:
        """Knock out each feature that has sites on a row, some rows at a time, on all cores.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
        only : sequence of int, optional
            Features to knock out; all if not given.

        Yields
        ------
        Deltas
            Of a row independent, in double precision to the bit, of which other rows are asked for.
        """
        parts = (rows[i : i + _BLOCK] for i in range(0, rows.size, _BLOCK))
        yield from share_out(lambda part: self._deltas(part, only), parts)

    def _deltas(self, rows: IntArray, only: Sequence[int] | None) -> Deltas:
        cells, feature = self.cells(rows, only)
        stride = len(self.resolution.features)
        keys, group = np.unique(
            np.where(feature >= 0, cells.rows() * stride + feature, -1), return_inverse=True
        )
        first = int(keys[0] == -1) if keys.size else 0
        keys, group = keys[first:], group - first
        hidden = self.network.hidden(cells)
        owner = keys // stride
        losses = self.network.losses(cells, group, keys.size)
        before = self.network.predict(hidden)
        values = self.network.predict(hidden[owner] + losses) - before[owner]
        return Deltas(
            rows,
            np.searchsorted(keys, stride * np.arange(rows.size + 1)),
            keys % stride,
            values.astype(np.float32),
        )

    def run_double(self, rows: IntArray, pairs: Sequence[Pair]) -> pd.DataFrame:
        """Knock out pairs of features on rows that have sites of both.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
        pairs : sequence of (int, int)

        Returns
        -------
        DataFrame
            A row a gene, pair and output: ``row``, ``first``, ``second`` (features), ``output``
            (number), ``change_first``, ``change_second``, ``change_both`` and ``interaction``, by
            which both change more than the two one by one: both − first − second; zero where the
            network is linear between them.
        """
        only = sorted({feature for pair in pairs for feature in pair})
        frames = []
        for start in range(0, rows.size, _BLOCK):
            part = rows[start : start + _BLOCK]
            cells, feature = self.cells(part, only)
            place = np.searchsorted(only, np.maximum(feature, 0))
            group = np.where(feature >= 0, cells.rows() * len(only) + place, -1)
            losses = self.network.losses(cells, group, part.size * len(only))
            losses = losses.reshape(part.size, len(only), -1)
            there = np.zeros((part.size, len(only)), bool)
            there.ravel()[group[group >= 0]] = True
            hidden = self.network.hidden(cells)
            before = self.network.predict(hidden)
            for pair in pairs:
                one, two = np.searchsorted(only, pair)
                both = np.flatnonzero(there[:, one] & there[:, two])
                if not both.size:
                    continue
                base = hidden[both]
                a, b = losses[both, one], losses[both, two]
                changes = [
                    (self.network.predict(base + change) - before[both]).ravel()
                    for change in (a, b, a + b)
                ]
                n = len(self.outputs)
                frames.append(
                    pd.DataFrame(
                        {
                            "row": np.repeat(part[both], n),
                            "first": pair[0],
                            "second": pair[1],
                            "output": np.tile(np.arange(n), both.size),
                            "change_first": changes[0],
                            "change_second": changes[1],
                            "change_both": changes[2],
                            "interaction": changes[2] - changes[0] - changes[1],
                        }
                    )
                )
        columns = [
            "row",
            "first",
            "second",
            "output",
            "change_first",
            "change_second",
            "change_both",
            "interaction",
        ]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
