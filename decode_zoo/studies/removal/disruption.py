"""In-silico binding-site disruption: what predictions change by if one bin's sites are gone.

Source: Tasaki et al. 2020, Methods, 'In silico binding-site disruption'; here each bin is taken
away by itself, exactly (`pair.disrupt_pair` has the paper's random removals).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.cores import share_out
from decode_zoo.studies.removal.bins import BinSums
from decode_zoo.studies.removal.knockout import Knockout

__all__ = ["Disruption", "disrupt"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, repr=False)
class Disruption:
    """What the prediction of one row changes by, bin by bin.

    Attributes
    ----------
    row : int
        Of the feature set.
    bins : DataFrame
        ``side`` and ``bin`` (from 0, 5' to 3'), those that have sites with positions; ``start``
        and ``end``: bases from the TSS on the promoter side (negative upstream), from the 5' end
        on the RNA, half open; ``tracks`` that have sites there.
    changes : ndarray of float32, shape (n_bins, n_outputs)
        Prediction without the bin's sites minus prediction with all, in the outputs' units.
    whole : ndarray of float32, shape (2, n_outputs)
        The same if all sites with positions go, on the promoter and on the RNA side.
    """

    row: int
    bins: pd.DataFrame
    changes: FloatArray
    whole: FloatArray


def disrupt(knockout: Knockout, rows: IntArray) -> Iterator[Disruption]:
    """Take each bin's sites away, gene by gene, on all cores.

    Sites of experiments without positions (`genesets.TARGETS`) stay, and so does the mask.

    Parameters
    ----------
    knockout : Knockout
    rows : ndarray of int64, shape (n,)

    Yields
    ------
    Disruption
        Of each row.

    Raises
    ------
    ArtifactError
        If the feature set's positions cannot be had.
    """
    knockout.bound.features.pieces("promoter")  # tells of missing positions before any work
    return share_out(lambda row: _disrupted(knockout, int(row)), rows.tolist())


def _disrupted(knockout: Knockout, row: int) -> Disruption:
    network, features = knockout.network, knockout.bound.features
    found = BinSums.make(knockout, row)
    n = len(found.labels)
    sides = np.array([side for side, _ in found.labels], object)
    kept = np.ones((n + 3, n), bool)
    kept[np.arange(n), np.arange(n)] = False
    kept[n, sides == "promoter"] = False
    kept[n + 1, sides == "rna"] = False
    predicted = network.predict(found.hidden(network, kept))
    changes = predicted[:-1] - predicted[-1]
    layout = features.layout
    places = np.array([place for _, place in found.labels], np.int64)
    offset = np.where(sides == "promoter", -layout.upstream, 0)
    length = np.where(
        sides == "promoter", layout.upstream + layout.downstream, features.rows.rna_lengths[row]
    )
    table = pd.DataFrame(
        {
            "side": sides,
            "bin": places,
            "start": places * layout.bin + offset,
            "end": np.minimum((places + 1) * layout.bin, length) + offset,
            "tracks": found.tracks,
        }
    )
    return Disruption(row, table, changes[:n], changes[n:])
