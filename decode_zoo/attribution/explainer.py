"""From rows of a feature set to attributions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.attribution.rules import Labelled, Rule, Scores, rule_for
from decode_zoo.attribution.scores import Attribution, By, Level, Summary
from decode_zoo.core.arrays import IntArray
from decode_zoo.core.errors import InputError, UsageError, VerificationError
from decode_zoo.core.system import one_core, share_out
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.inputs import BoundFeatures, SparseInputs
from decode_zoo.networks.manifest import Output

if TYPE_CHECKING:
    from decode_zoo.zoo.model import Model

__all__ = ["Explainer"]

# Rows that are explained at a time, and inputs that they and their references have at most: enough
# to share the cost of calls, few enough for memory.
BLOCK = 64
_INPUTS = 50_000
# Scores held at a time where they are added up: rows × features × outputs.
_SUMMED = 20_000_000


@dataclass(frozen=True, repr=False)
class Explainer:
    """Explains rows of a feature set, some at a time. Made by `Explainer.make`."""

    model: Model
    bound: BoundFeatures
    resolution: Level
    chosen: IntArray  # numbers of the outputs
    rule: Rule
    references: tuple[SparseInputs, ...]
    positions: bool  # whether inputs are bins rather than position sums
    background: tuple[str, ...] = ()  # genes whose mean is the reference; none for the manifest's

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The outputs that are explained."""
        return tuple(self.model.manifest.outputs[i] for i in self.chosen)

    def description(self) -> dict[str, Any]:
        """Return all that scores depend on but the rows, for provenance."""
        return {
            **self.model.provenance(self.bound, self.model.backend("numpy")),
            "by": self.resolution.by,
            "outputs": [output.name for output in self.outputs],
            "background": list(self.background) or "manifest",
        }

    @classmethod
    def make(
        cls,
        model: Model,
        bound: BoundFeatures,
        by: By,
        chosen: IntArray,
        background: Sequence[str] | None,
    ) -> Explainer:
        """Prepare to explain; genes of the `background` are found among the bound features'.

        Without one the reference is a gene without sites, of the RNA length in the manifest. Raises
        UsageError if `by` is unknown or the background empty, InputError if genes of it have no
        features.
        """
        manifest = model.manifest
        positions = by == "position" or manifest.pooling != "exact"
        with one_core():
            rule = rule_for(model.network.select(chosen), positions=positions)
        if background is None:
            rows = np.zeros(0, np.int64)
            bases = {side: frozen.background for side, frozen in manifest.inputs.items()}
            cells = bound.without_sites(bases, positions=positions)
        else:
            rows = _background_rows(model, bound, background)
            cells = bound.cells(rows, positions=positions)
        return cls(
            model,
            bound,
            Level.make(manifest, by),
            chosen,
            rule,
            tuple(cells.row(i) for i in range(len(cells))),
            positions,
            tuple(bound.features.rows.ids[row] for row in rows),
        )

    def explain(self, rows: IntArray) -> Attribution:
        """Explain rows of the feature set.

        Scores are independent, to the bit, of which other rows are asked for, and in what order.
        Raises VerificationError if scores or predictions are not finite.
        """
        n_outputs, stride = self.chosen.size, self._stride
        counts, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        scores, sums = [np.zeros((0, n_outputs), np.float32)], [np.zeros((0, n_outputs))]
        for block in share_out(self._scores, self._blocks(rows)):
            counts.append(np.diff(block.indptr))
            labels.append(block.labels)
            with np.errstate(over="ignore", invalid="ignore"):
                scores.append(block.values.astype(np.float32))
            sums.append(block.sums())
        label = np.concatenate(labels)
        backend = self.model.backend("numpy")
        predicted = self.model.predict_rows(rows, self.bound, backend)[:, self.chosen]
        with one_core():
            reference = self.rule.reference(self.references)
        parts: list[npt.NDArray[np.floating]] = [*scores, *sums, reference]
        if not all(np.isfinite(part).all() for part in parts):
            raise VerificationError(
                f"The weights of model {self.model.id} give scores that are not finite."
            )
        table, id_column = self.bound.features.rows, f"{self.bound.features.layout.level}_id"
        ids = [table.ids[row] for row in rows]
        return Attribution(
            genes=pd.DataFrame({id_column: ids, "symbol": [table.symbols[row] for row in rows]}),
            outputs=self.outputs,
            resolution=self.resolution,
            indptr=np.concatenate(([0], np.cumsum(np.concatenate(counts)))),
            feature=(label // stride).astype(np.int32),
            bin=(label % stride).astype(np.int32),
            scores=np.concatenate(scores),
            prediction=predicted.astype(np.float64),
            reference=reference,
            sum_of_scores=np.concatenate(sums),
            parents=tuple(table.gene_ids[row] for row in rows),
            rna_lengths=tuple(table.rna_lengths[row] for row in rows),
        )

    def summarise(
        self, rows: IntArray, progress: Callable[[int, int], object] = lambda done, total: None
    ) -> Summary:
        """Explain rows and add their scores up, some rows at a time.

        `progress` is told how many rows are done, and of how many.
        """
        size = max(1, _SUMMED // (len(self.resolution.features) * self.chosen.size))
        total = None
        for start in range(0, rows.size, size):
            part = Summary.of(self.explain(rows[start : start + size]))
            total = part if total is None else total + part
            progress(min(start + size, rows.size), rows.size)
        if total is None:
            raise UsageError("There is no gene to explain.")
        return total

    def _blocks(self, rows: IntArray) -> Iterator[SparseInputs]:
        """Cut rows into blocks of one row at least; how does not show in the scores."""
        cells = self.bound.cells(rows, positions=self.positions)
        sizes = np.diff(cells.indptr) + sum(cells.places.size for cells in self.references)
        start = total = 0
        for row, size in enumerate(sizes.tolist()):
            if row > start and (row - start == BLOCK or total + size > _INPUTS):
                yield cells.part(start, row)
                start, total = row, 0
            total += size
        if start < len(cells):
            yield cells.part(start, len(cells))

    def _scores(self, cells: SparseInputs) -> Scores:
        return self.rule.scores(self._labelled(cells), self._references).not_zero()

    @cached_property
    def _references(self) -> list[Labelled]:
        return [self._labelled(cells) for cells in self.references]

    @cached_property
    def _stride(self) -> int:
        """Labels are feature × stride + bin."""
        if self.resolution.by != "position":
            return 1
        longest = max(int(self.bound.features.n_bins(side).max(initial=0)) for side in SIDES)
        return 1 + max(longest, *(int(cells.places.max(initial=0)) for cells in self.references))

    def _labelled(self, cells: SparseInputs) -> Labelled:
        features = self.resolution.of_channel[cells.channels] * self._stride
        return cells, features + cells.places if self.resolution.by == "position" else features


def _background_rows(model: Model, bound: BoundFeatures, names: Sequence[str]) -> IntArray:
    if isinstance(names, str) or not len(names):
        raise UsageError("Give a list of genes as background, with one gene at least.")
    asked = model.rows_of(names, bound)
    if asked.lost:
        listed = ", ".join(f"{name} ({why})" for name, why in [*asked.lost.items()][:10])
        raise InputError(
            f"{len(asked.lost)} genes of the background have no features: {listed}",
            remedy="Leave them out.",
        )
    return asked.rows
