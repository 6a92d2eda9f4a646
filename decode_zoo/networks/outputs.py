"""Which outputs are wanted: some of a model's, and contrasts, each the difference of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from decode_zoo.core.arrays import IntArray, SingleArray
from decode_zoo.core.errors import UsageError
from decode_zoo.networks.families import Network
from decode_zoo.networks.manifest import Manifest, Output

__all__ = ["OutputChoice", "numbers_of"]


def numbers_of(manifest: Manifest, names: str | Sequence[str]) -> IntArray:
    """Return the numbers of outputs; raise UsageError if one is unknown or named twice, or none."""
    names = [names] if isinstance(names, str) else list(names)
    known = [output.name for output in manifest.outputs]
    unknown = [name for name in names if name not in known]
    twice = sorted({name for name in names if names.count(name) > 1})
    if unknown or twice:
        close = get_close_matches(unknown[0], known, 3, 0.5) if unknown else []
        raise UsageError(
            f"Model {manifest.id} {'has no output' if unknown else 'was asked twice for'} "
            f"{', '.join(map(repr, unknown or twice))}.",
            remedy=f"Is it {' or '.join(close)}?"
            if close
            else f"See: decode-zoo info {manifest.id}",
        )
    if not names:
        raise UsageError("The list of outputs is empty.")
    return np.array([known.index(name) for name in names], np.int64)


@dataclass(frozen=True)
class OutputChoice:
    """Some outputs of a model, then contrasts: the first of a pair less the second.

    Fold changes are log2 ratios to one median of the gene, so that their difference is the log2
    ratio of the two tissues. Attributions are linear in the outputs, so they differ alike.
    """

    outputs: tuple[Output, ...]
    first: IntArray  # (n,), numbers of the model's outputs
    second: IntArray  # (n,), number of what is subtracted; -1 for nothing

    @classmethod
    def make(
        cls,
        manifest: Manifest,
        names: str | Sequence[str] | None = None,
        contrasts: Sequence[tuple[str, str]] = (),
    ) -> OutputChoice:
        """Choose outputs by name (all, if neither they nor contrasts are named) and contrasts.

        Raises UsageError as `numbers_of`, and for a pair of one output or of different units.
        """
        if names is None:
            numbers = np.arange(0 if contrasts else len(manifest.outputs))
        else:
            numbers = numbers_of(manifest, names)
        chosen = [manifest.outputs[i] for i in numbers]
        if contrasts and isinstance(contrasts[0], str):
            contrasts = [(contrasts[0], contrasts[1])]  # a single pair
        pairs = np.array([numbers_of(manifest, pair) for pair in contrasts], np.int64).reshape(
            -1, 2
        )
        for one, other in pairs:
            a, b = manifest.outputs[one], manifest.outputs[other]
            if (a.kind, a.unit) != (b.kind, b.unit):
                raise UsageError(
                    f"{a.name} ({a.unit}) and {b.name} ({b.unit}) cannot be contrasted.",
                    remedy="Name two outputs of one unit.",
                )
            chosen.append(Output(f"{a.name} vs {b.name}", a.unit, a.kind, a.scale))
        if len({output.name for output in chosen}) < len(chosen):
            raise UsageError("A contrast is named twice.")
        nothing = np.full(len(numbers), -1, np.int64)
        return cls(
            tuple(chosen),
            np.concatenate([numbers, pairs[:, 0]]),
            np.concatenate([nothing, pairs[:, 1]]),
        )

    def __len__(self) -> int:
        """Return how many are wanted."""
        return len(self.outputs)

    def of(self, predicted: SingleArray) -> SingleArray:
        """Return what is wanted of all outputs of some rows, shape (n_rows, n)."""
        values, pairs = predicted[:, self.first], np.flatnonzero(self.second >= 0)
        values[:, pairs] -= predicted[:, self.second[pairs]]
        return values

    def network(self, network: Network) -> Network:
        """Return the network that gives what is wanted."""
        return network.select(self.first, self.second)
