"""What a report says, before it is a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.attribution import Resolution, Summary
from decode_zoo.errors import ArtifactError, UsageError
from decode_zoo.explainer import Explainer
from decode_zoo.expression import Output
from decode_zoo.features import FeatureSet
from decode_zoo.metrics import leaf_order
from decode_zoo.model import Model
from decode_zoo.report.detail import Detail

__all__ = ["DETAIL", "MAX_PREDICTIONS", "MAX_ROWS", "Content", "collect"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

# A page stays below 10 MB. The first genes are shown one by one, as many as make this many
# genes × outputs: 300 with 54 outputs, all with one.
DETAIL = 16_200
MAX_ROWS = 5_000
MAX_PREDICTIONS = 300_000

_CHUNK = 256  # genes explained at a time


@dataclass(frozen=True)
class Content:
    """What a report says of the genes that were asked for and of those that were explained."""

    queries: tuple[str, ...]
    table: pd.DataFrame  # of Model.predict
    gene: IntArray  # number of the explained gene that each query means, -1 for none
    rna_lengths: IntArray  # in nt, of the explained genes, each once, in the order of queries
    outputs: tuple[Output, ...]
    prediction: FloatArray  # (n_genes, n_outputs)
    reference: npt.NDArray[np.float64]  # (n_outputs,)
    explainer: Explainer  # by regulator
    summary: Summary  # scores by regulator, added up over genes
    gene_order: IntArray  # so that similar ones are neighbours
    output_order: IntArray
    detail: Detail  # of the first genes
    n_detail: int
    no_positions: str | None  # why there are no scores by position

    @property
    def resolution(self) -> Resolution:
        """Return what scores are by: regulators, the mask channels last."""
        return self.explainer.resolution


def collect(
    model: Model,
    genes: Iterable[str],
    *,
    outputs: Sequence[str] | None,
    background: Sequence[str] | None,
    features: FeatureSet | None,
    fill_missing: bool,
    progress: Callable[[int, int], object],
) -> Content:
    """Predict and explain what a report shows; UsageError if that is more than a page holds."""
    if isinstance(genes, str):
        raise UsageError("Give a list of genes, not a single string.", remedy=f"[{genes!r}]")
    queries = tuple(genes)
    common: dict[str, Any] = {
        "outputs": outputs,
        "features": features,
        "fill_missing": fill_missing,
    }
    explainer = model.explainer(by="regulator", background=background, **common)
    _check_size(len(queries), len(explainer.outputs))
    table = model.predict(queries, backend="numpy", **common)
    rows = model.rows_of(queries, explainer.bound).rows
    features = explainer.bound.features
    number = {features.rows.ids[row]: i for i, row in enumerate(rows)}
    gene = np.array([number.get(name, -1) for name in table.iloc[:, 0]], np.int64)
    names = [output.name for output in explainer.outputs]
    first = np.flatnonzero(table["status"] == "ok")
    prediction = table[names].to_numpy(np.float32)[first]

    n_detail = min(rows.size, DETAIL // len(names))
    positions, no_positions = None, None
    if n_detail:
        positions, no_positions = _positions(
            features, lambda: model.explainer(by="position", background=background, **common)
        )
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
    detail = Detail.make(rows[:n_detail], explainer, positions, advance)
    changes = [i for i, output in enumerate(explainer.outputs) if output.kind == "fold_change"]
    others = [i for i in range(len(names)) if i not in changes]
    leaves = leaf_order(prediction[:, changes].T)
    return Content(
        queries=queries,
        table=table,
        gene=gene,
        rna_lengths=np.array(features.rows.rna_lengths, np.int64)[rows],
        outputs=explainer.outputs,
        prediction=prediction,
        reference=explainer.rule.reference(explainer.references),
        explainer=explainer,
        summary=summary,
        gene_order=leaf_order(prediction[:, changes]),
        output_order=np.array([*(changes[i] for i in leaves), *others], np.int64),
        detail=detail,
        n_detail=n_detail,
        no_positions=no_positions,
    )


def _check_size(n_rows: int, n_outputs: int) -> None:
    """Refuse what makes no page that a browser likes to open."""
    if n_rows <= MAX_ROWS and n_rows * n_outputs <= MAX_PREDICTIONS:
        return
    raise UsageError(
        f"A report holds at most {MAX_ROWS:,} genes and {MAX_PREDICTIONS:,} genes × outputs, "
        f"not {n_rows:,} genes × {n_outputs} outputs.",
        remedy="Take fewer genes, or fewer outputs with --outputs; for means over many genes: "
        "decode-zoo explain --summary",
    )


def _positions(
    features: FeatureSet, make: Callable[[], Explainer]
) -> tuple[Explainer | None, str | None]:
    """Prepare scores by position, or return why there are none."""
    try:
        features.pieces("promoter")
    except ArtifactError as error:
        return None, str(error)
    return make(), None
