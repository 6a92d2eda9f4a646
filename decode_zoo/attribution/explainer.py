"""From rows of a feature set to attributions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.attribution.rules import Labelled, Rule, Scores, rule_for
from decode_zoo.attribution.scores import Attribution, By, Level, Summary
from decode_zoo.core.arrays import IntArray
from decode_zoo.core.errors import UsageError, VerificationError
from decode_zoo.core.system import one_core, share_out
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.backends import Backend
from decode_zoo.networks.families import Network
from decode_zoo.networks.forward import predict_rows
from decode_zoo.networks.inputs import BoundFeatures, SparseInputs
from decode_zoo.networks.manifest import Manifest, Output
from decode_zoo.networks.outputs import OutputChoice

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

    manifest: Manifest
    backend: Backend
    bound: BoundFeatures
    resolution: Level
    choice: OutputChoice
    rule: Rule
    references: tuple[SparseInputs, ...]
    positions: bool  # whether inputs are bins rather than position sums
    background: tuple[str, ...]  # genes whose mean is the reference; none for the manifest's
    origin: Callable[[], Mapping[str, Any]]  # gives the provenance of model and features

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The outputs that are explained."""
        return self.choice.outputs

    def description(self) -> dict[str, Any]:
        """Return all that scores depend on but the rows, for provenance."""
        return {
            **self.origin(),
            "by": self.resolution.by,
            "outputs": [output.name for output in self.outputs],
            "background": list(self.background) or "manifest",
        }

    @classmethod
    def make(
        cls,
        manifest: Manifest,
        network: Network,
        backend: Backend,
        bound: BoundFeatures,
        *,
        by: By,
        choice: OutputChoice,
        background: IntArray | None = None,
        origin: Callable[[], Mapping[str, Any]] = dict,
    ) -> Explainer:
        """Prepare to explain; the `background` are rows of the bound features.

        Without one the reference is a gene without sites, of the RNA length in the manifest. Raises
        UsageError if `by` is unknown.
        """
        positions = by == "position" or manifest.pooling != "exact"
        with one_core():
            rule = rule_for(choice.network(network), positions=positions)
        if background is None:
            rows = np.zeros(0, np.int64)
            bases = {side: frozen.background for side, frozen in manifest.inputs.items()}
            cells = bound.without_sites(bases, positions=positions)
        else:
            rows = background
            cells = bound.cells(rows, positions=positions)
        return cls(
            manifest,
            backend,
            bound,
            Level.make(manifest, by),
            choice,
            rule,
            tuple(cells.row(i) for i in range(len(cells))),
            positions,
            tuple(bound.features.rows.ids[row] for row in rows),
            origin,
        )

    def explain(self, rows: IntArray) -> Attribution:
        """Explain rows of the feature set.

        Scores are independent, to the bit, of which other rows are asked for, and in what order.
        Raises VerificationError if scores or predictions are not finite.
        """
        n_outputs, stride = len(self.choice), self._stride
        counts, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        scores, sums = [np.zeros((0, n_outputs), np.float32)], [np.zeros((0, n_outputs))]
        for block in share_out(self._scores, self._blocks(rows)):
            counts.append(np.diff(block.indptr))
            labels.append(block.labels)
            with np.errstate(over="ignore", invalid="ignore"):
                scores.append(block.values.astype(np.float32))
            sums.append(block.sums())
        label = np.concatenate(labels)
        predicted = self.choice.of(predict_rows(rows, self.bound, self.backend, self.manifest))
        with one_core():
            reference = self.rule.reference(self.references)
        parts: list[npt.NDArray[np.floating]] = [*scores, *sums, reference]
        if not all(np.isfinite(part).all() for part in parts):
            raise VerificationError(
                f"The weights of model {self.manifest.id} give scores that are not finite."
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
        size = max(1, _SUMMED // (len(self.resolution.features) * len(self.choice)))
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
