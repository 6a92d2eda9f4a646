"""In-silico binding-site disruption: what predictions change by if one bin's sites are gone.

Source: Tasaki et al. 2020, Methods, 'In silico binding-site disruption'; here each bin is taken
away by itself, exactly (`pairs.disrupt_pair` has the paper's random removals).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from decode_zoo.core.arrays import BoolArray, IntArray, RealArray, SingleArray
from decode_zoo.core.errors import InputError
from decode_zoo.core.provenance import plain, provenance
from decode_zoo.core.system import share_out
from decode_zoo.features.genesets import TARGETS
from decode_zoo.features.intervals import ranges
from decode_zoo.features.spec import SIDES, Side
from decode_zoo.networks.inputs import first_channels
from decode_zoo.studies.first_layer import FirstLayer
from decode_zoo.studies.knockouts import Knockout, Progress, find_rows
from decode_zoo.studies.result import StudyResult
from decode_zoo.zoo.model import Model

__all__ = ["BinSums", "Disruption", "disrupt", "study_disruption"]

_DRAWN = 6  # genes of the picture

_DRAWN = 6  # genes of the picture


@dataclass(frozen=True, repr=False)
class BinSums:
    """Position sums of one row, in bases, bin by bin."""

    labels: list[tuple[Side, int]]  # bins with sites that have positions: promoter, then RNA
    columns: IntArray  # (n_columns,): those of the network that have anything on this row
    sums: SingleArray  # (n_bins, n_columns): what each bin adds to each sum
    fixed: SingleArray  # (n_columns,): what stays whatever is taken away
    tracks: IntArray  # (n_bins,): how many tracks have sites in each

    @classmethod
    def make(cls, knockout: Knockout, row: int) -> BinSums:
        """Gather the bins of a row; raises ArtifactError if positions cannot be had."""
        network, bound = knockout.network, knockout.bound
        n_channels = network.starts.size
        stays, on_rna = np.zeros(n_channels, bool), np.zeros(n_channels, bool)
        for side, start in first_channels(bound.n_tracks).items():
            tracks = knockout.model.manifest.inputs[side].tracks
            own = slice(start, start + 1 + len(tracks))
            # The mask, and tracks without positions.
            stays[own] = [True, *(track.kind == TARGETS for track in tracks)]
            on_rna[own] = side == "rna"
        cells = bound.bin_cells(np.array([row], np.int64))
        # A bin is in the sums up to its own number; there are as many sums as the kernel is wide.
        counts = np.minimum(cells.places + 1, network.widths[cells.channels])
        entry = np.repeat(np.arange(counts.size), counts)
        columns, at = np.unique(ranges(network.starts[cells.channels], counts), return_inverse=True)
        bases, moving = cells.bases[entry], ~stays[cells.channels]
        fixed = np.bincount(at, bases * ~moving[entry], columns.size)
        stride = 1 + int(cells.places.max(initial=0))
        keys, bins = np.unique(
            (on_rna[cells.channels] * stride + cells.places)[moving], return_inverse=True
        )
        bin_of = np.full(counts.size, -1)
        bin_of[moving] = bins
        sums, moved = np.zeros((keys.size, columns.size), np.float32), moving[entry]
        np.add.at(sums, (bin_of[entry][moved], at[moved]), bases[moved])
        # Two sites of a track in one bin are two entries.
        pairs = np.unique(bins * n_channels + cells.channels[moving])
        return cls(
            [("rna" if key >= stride else "promoter", int(key % stride)) for key in keys],
            columns,
            sums,
            fixed.astype(np.float32),
            np.bincount(pairs // n_channels, minlength=keys.size).astype(np.int64),
        )

    def hidden(self, network: FirstLayer, kept: BoolArray) -> RealArray:
        """Return the first hidden layers with some of the bins, shape (n, n_units).

        `kept`, of shape (n, n_bins), says which.
        """
        sums = kept.astype(np.float32) @ self.sums + self.fixed
        # All other columns are those of a gene without sites.
        kind = network.first.dtype
        rest = network.level(np.zeros(len(network.first), kind)).astype(kind)
        rest[self.columns] = 0
        base = rest @ network.first + network.bias
        level = network.level(sums, self.columns).astype(kind)
        return np.asarray(level @ network.first[self.columns] + base)


@dataclass(frozen=True, repr=False)
class Disruption:
    """What the prediction of one row changes by, bin by bin.

    ``start`` and ``end`` of a bin are bases from the TSS on the promoter side (negative upstream),
    from the 5' end on the RNA, half open.
    """

    row: int  # of the feature set
    bins: pd.DataFrame  # side, bin (from 0, 5' to 3'), start, end, tracks that have sites there
    changes: SingleArray  # (n_bins, n_outputs): without the bin's sites minus with all
    whole: SingleArray  # (2, n_outputs): all sites of promoter, of RNA gone


def disrupt(knockout: Knockout, rows: IntArray) -> Iterator[Disruption]:
    """Take each bin's sites away, gene by gene, on all cores.

    Sites of experiments without positions (`genesets.TARGETS`) stay, and so does the mask. Raises
    ArtifactError, before any work, if positions cannot be had.
    """
    knockout.bound.features.pieces("promoter")
    return share_out(lambda row: _disrupted(knockout, row), rows.tolist())


def _disrupted(knockout: Knockout, row: int) -> Disruption:
    network, features = knockout.network, knockout.bound.features
    found = BinSums.make(knockout, row)
    n = len(found.labels)
    side = np.array([side for side, _ in found.labels], object)
    place = np.array([place for _, place in found.labels], np.int64)
    gone = np.vstack([np.eye(n), *(side == one for one in SIDES), np.zeros(n)]).astype(bool)
    predicted = network.predict(found.hidden(network, ~gone))
    changes = predicted[:-1] - predicted[-1]
    layout, promoter = features.layout, side == "promoter"
    offset = np.where(promoter, -layout.upstream, 0)
    length = np.where(promoter, layout.window, features.rows.rna_lengths[row])
    table = pd.DataFrame(
        {
            "side": side,
            "bin": place,
            "start": place * layout.bin + offset,
            "end": np.minimum((place + 1) * layout.bin, length) + offset,
            "tracks": found.tracks,
        }
    )
    return Disruption(row, table, changes[:n], changes[n:])


def study_disruption(
    model: Model,
    genes: Iterable[str] | None,
    *,
    outputs: Sequence[str] | None = None,
    command: Sequence[str] = ("decode_zoo.studies.disruption.study_disruption",),
    facts: Mapping[str, object] | None = None,
    progress: Progress = lambda done, total: None,
) -> StudyResult:
    """Take each bin's sites away, gene by gene; all genes and outputs if none are named."""
    knockout = Knockout.make(model, outputs=outputs)
    rows, lost = find_rows(knockout, genes)
    bins, sides = list[pd.DataFrame](), list[pd.DataFrame]()
    for found in disrupt(knockout, rows):
        bins.append(_by_place(knockout, found.row, found.bins, found.changes))
        both = pd.DataFrame({"side": list(SIDES)})
        sides.append(_by_place(knockout, found.row, both, found.whole))
        progress(len(bins), rows.size)
    if not any(map(len, bins)):
        raise InputError("none of these genes has sites with positions")
    numbers = {
        "genes": rows.size,
        "not_disrupted": lost,
        "outputs": knockout.output_names,
        "provenance": provenance(command, **knockout.origin, **(facts or {})),
    }
    tables = {
        "bins": ("Changes by bin", pd.concat(bins, ignore_index=True)),
        "sides": ("Changes if all sites with positions go", pd.concat(sides, ignore_index=True)),
    }
    return _result(knockout, tables, plain(numbers))


def _by_place(
    knockout: Knockout, row: int, labels: pd.DataFrame, changes: SingleArray
) -> pd.DataFrame:
    """Return the changes of a gene, a column an output."""
    rows = knockout.bound.features.rows
    gene = pd.DataFrame({"gene_id": rows.ids[row], "symbol": rows.symbols[row]}, index=labels.index)
    return pd.concat([gene, labels, pd.DataFrame(changes, columns=knockout.output_names)], axis=1)


def _result(
    knockout: Knockout, tables: Mapping[str, tuple[str, pd.DataFrame]], numbers: Mapping[str, Any]
) -> StudyResult:
    table, n_outputs, folds = tables["bins"][1], len(knockout.outputs), knockout.folds
    shown = dict(zip(table["gene_id"], table["symbol"], strict=True))
    shown = {gene: shown[gene] or gene for gene in list(shown)[:_DRAWN]}
    drawn = table[table["gene_id"].isin(shown)]
    changes = drawn.iloc[:, -n_outputs:].to_numpy()[:, folds]
    # The largest in either direction tells more than a mean in which tissues cancel.
    largest = changes[np.arange(len(changes)), np.abs(changes).argmax(axis=1)]
    drawn = pd.DataFrame(
        {"gene": drawn["gene_id"], "side": drawn["side"], "bin": drawn["bin"], "change": largest}
    )
    what = "change of the output that changes most (log₂)" if len(folds) > 1 else "change (log₂)"
    return StudyResult(
        "disrupt",
        f"Sites by place: {numbers['genes']:,} genes, {len(table):,} bins",
        {
            "Model": knockout.model.id,
            "Genes": f"{numbers['genes']:,}",
            "Bins with sites": f"{len(table):,}",
            "Outputs": f"{n_outputs:,}",
        },
        (
            "A change is the prediction without the sites of a bin minus the prediction with all "
            "sites, worked out exactly. Experiments of which only target genes are known have no "
            "places, so they stay; where they are many they hide what places matter.",
        ),
        tables,
        numbers,
        [
            f"{len(table):,} bins of {numbers['genes']:,} genes; left out: "
            f"{len(numbers['not_disrupted'])} names without sites or unknown"
        ],
        {"changes": drawn, "genes": shown, "what": what},
    )
