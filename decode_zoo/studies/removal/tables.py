"""Tables of removals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.studies.findings import Format
from decode_zoo.studies.removal.disruption import Disruption
from decode_zoo.studies.removal.knockout import Deltas, Knockout
from decode_zoo.studies.removal.pair import PairStudy
from decode_zoo.tables import text_rows

__all__ = [
    "STRONGEST",
    "Strongest",
    "across_models",
    "bins_frame",
    "double_frame",
    "last_label",
    "models_frame",
    "regressions",
    "rows_of_labels",
    "sides_frame",
    "write_deltas",
]

IntArray = npt.NDArray[np.int64]

# Single changes that are kept.
STRONGEST = 1_000


def last_label(table: pd.DataFrame) -> str:
    """Return the column that names what was taken away, of the finest resolution."""
    return next(name for name in ("track", "regulator", "class") if name in table)


def rows_of_labels(knockout: Knockout, rows: pd.DataFrame) -> IntArray:
    """Rows of ``resolution.features`` that rows of a table are about."""
    features = knockout.resolution.features.astype(str)
    names = list(features.columns)
    index = pd.MultiIndex.from_frame(features)
    return np.asarray(index.get_indexer(pd.MultiIndex.from_frame(rows[names])), np.int64)


def deltas_frame(knockout: Knockout, deltas: Deltas) -> pd.DataFrame:
    rows = np.repeat(deltas.rows, np.diff(deltas.indptr))
    table = knockout.bound.features.rows
    labels = knockout.resolution.features.iloc[deltas.features].astype(str).reset_index(drop=True)
    labels.insert(0, f"{knockout.bound.features.layout.level}_id", [table.ids[i] for i in rows])
    labels.insert(1, "symbol", [table.symbols[i] for i in rows])
    values = pd.DataFrame(deltas.values, columns=[output.name for output in knockout.outputs])
    return pd.concat([labels, values], axis=1)


def write_deltas(
    path: Path, knockout: Knockout, found: Iterable[Deltas], table_format: Format
) -> None:
    """Write changes as they come; all of them would not go into memory."""
    frames = (deltas_frame(knockout, deltas) for deltas in found)
    if table_format == "tsv":
        with open(path, "xb") as stream:
            for number, frame in enumerate(frames):
                for text in text_rows(frame, "\t", header=number == 0):
                    stream.write(text.encode())
        return
    import pyarrow
    import pyarrow.parquet

    first = next(frames)
    schema = pyarrow.Schema.from_pandas(first, preserve_index=False).with_metadata(
        {"decode_zoo.units": json.dumps({o.name: o.unit for o in knockout.outputs})}
    )
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for frame in chain([first], frames):
            writer.write_table(pyarrow.Table.from_pandas(frame, schema, preserve_index=False))


class Strongest:
    """The largest of all changes seen so far."""

    def __init__(self) -> None:
        self._rows = np.zeros(0, np.int64)
        self._features = np.zeros(0, np.int64)
        self._outputs = np.zeros(0, np.int64)
        self._values = np.zeros(0, np.float32)

    def add(self, deltas: Deltas) -> None:
        """Take in the changes of some rows."""
        flat = deltas.values.ravel()
        least = np.abs(self._values).min() if self._values.size == STRONGEST else 0.0
        chosen = np.flatnonzero(np.abs(flat) > least)
        knockouts, outputs = np.divmod(chosen, max(deltas.values.shape[1], 1))
        rows = np.repeat(deltas.rows, np.diff(deltas.indptr))[knockouts]
        values = np.concatenate([self._values, flat[chosen]])
        best = np.argsort(-np.abs(values), kind="stable")[:STRONGEST]
        self._values = values[best]
        self._rows = np.concatenate([self._rows, rows])[best]
        self._features = np.concatenate([self._features, deltas.features[knockouts]])[best]
        self._outputs = np.concatenate([self._outputs, outputs])[best]

    def to_frame(self, knockout: Knockout) -> pd.DataFrame:
        """Return them, largest first: gene, what was knocked out, output, change."""
        table = knockout.bound.features.rows
        labels = knockout.resolution.features.iloc[self._features].astype(str)
        names = np.array([output.name for output in knockout.outputs], object)
        return pd.DataFrame(
            {
                f"{knockout.bound.features.layout.level}_id": [table.ids[i] for i in self._rows],
                "symbol": [table.symbols[i] for i in self._rows],
                **{name: labels[name].to_numpy() for name in labels},
                "output": names[self._outputs],
                "change": self._values,
            }
        )


def double_frame(
    knockout: Knockout, rows: IntArray, pairs: Sequence[tuple[int, int]]
) -> pd.DataFrame:
    """Return double knock-outs (`Knockout.run_double`) by name, largest interaction first."""
    found = knockout.run_double(rows, pairs)
    table = knockout.bound.features.rows
    labels = knockout.resolution.features.astype(str).iloc[:, -1].to_numpy()
    names = np.array([output.name for output in knockout.outputs], object)
    number = found["row"].to_numpy(np.int64)
    changes = ["change_first", "change_second", "change_both", "interaction"]
    result = pd.DataFrame(
        {
            f"{knockout.bound.features.layout.level}_id": [table.ids[i] for i in number],
            "symbol": [table.symbols[i] for i in number],
            "first": labels[found["first"].to_numpy(np.int64)],
            "second": labels[found["second"].to_numpy(np.int64)],
            "output": names[found["output"].to_numpy(np.int64)],
            **{name: found[name].to_numpy(np.float64) for name in changes},
        }
    )
    order = np.argsort(-result["interaction"].abs().to_numpy(), kind="stable")
    return result.iloc[order].reset_index(drop=True)


def regressions(studies: Sequence[PairStudy]) -> pd.DataFrame:
    """Return the regressions of several models, one below the other."""
    frames = []
    for study in studies:
        frame = study.regression.copy()
        frame.insert(0, "model", study.model_id)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def models_frame(
    regulators: Sequence[PairStudy], places: Sequence[PairStudy], names: Sequence[str]
) -> pd.DataFrame:
    """Return a row a model and kind of removal."""
    kinds = ["regulators"] * len(regulators)
    kinds += [f"bins of {names[i % 2]}" for i in range(len(places))]
    studies = [*regulators, *places]
    return pd.DataFrame(
        {
            "model": [study.model_id for study in studies],
            "persons": [study.n_outputs for study in studies],
            "removed": kinds,
            "rho_intact": [study.intact for study in studies],
            "rho_after_removals": [float(study.rhos.mean()) for study in studies],
            "terms": [len(study.regression) for study in studies],
            "significant": [
                int((study.regression["p.bonferroni"] < 0.05).sum()) for study in studies
            ],
            "r_squared": [study.r_squared for study in studies],
        }
    )


def across_models(table: pd.DataFrame, n_models: int) -> pd.DataFrame:
    """Sum up what models say of each regulator."""
    ranked = table.assign(
        rank=table.groupby("model")["estimate"].transform(lambda e: e.abs().rank(ascending=False)),
        significant=table["p.bonferroni"] < 0.05,
        lost=table["estimate"] < 0,
    )
    found = ranked.groupby(["class", "term", "sites"], sort=False, as_index=False).agg(
        models=("model", "size"),
        significant=("significant", "sum"),
        lost=("lost", "sum"),
        mean_rank=("rank", "mean"),
        mean_estimate=("estimate", "mean"),
    )
    found = found.rename(columns={"lost": "models_that_lose"})
    order = np.lexsort([found["mean_rank"], found["models"] < n_models])
    return found[["term", "class", "sites", *found.columns[3:]]].iloc[order].reset_index(drop=True)


def bins_frame(found: Disruption, rows: Any, names: Sequence[str]) -> pd.DataFrame:
    """Return the changes of a gene bin by bin, a column an output."""
    table = found.bins.copy()
    table.insert(0, "gene_id", rows.ids[found.row])
    table.insert(1, "symbol", rows.symbols[found.row])
    values = pd.DataFrame(found.changes, columns=list(names))
    return pd.concat([table, values], axis=1)


def sides_frame(found: Disruption, rows: Any, names: Sequence[str]) -> pd.DataFrame:
    """Return the changes of a gene if all sites of a side go."""
    table = pd.DataFrame(
        {
            "gene_id": rows.ids[found.row],
            "symbol": rows.symbols[found.row],
            "side": ["promoter", "rna"],
        }
    )
    return pd.concat([table, pd.DataFrame(found.whole, columns=list(names))], axis=1)
