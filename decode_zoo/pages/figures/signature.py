"""Pictures of a signature: its first regulators, and the outputs that explain it best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from decode_zoo.pages import charts
from decode_zoo.pages.charts import AXIS, BLUE, DOUBLE, ORANGE, ROW, SMALL, VERMILION
from decode_zoo.studies.result import StudyResult

if TYPE_CHECKING:
    from decode_zoo.studies.signature import SignatureStudy

__all__ = ["pictures", "signature"]

_PARTS = {"binding": BLUE, "own_gene": VERMILION, "match": ORANGE}
_BARS = 20


def pictures(result: StudyResult) -> dict[str, tuple[str, Figure]]:
    """Draw the first signatures of a study: name → caption, figure."""
    study, names = result.drawn["study"], result.drawn["names"]
    caption = "the first regulators, and the outputs that explain it best"
    return {
        f"signature-{i + 1}": (f"{name}: {caption}", signature(study, name))
        for i, name in enumerate(names)
    }


@charts.styled
def signature(study: SignatureStudy, name: str) -> Figure:
    """Draw the first regulators of a signature, and the outputs that explain it best."""
    ranks, details, explained = study.of(name)
    used = int(study.genes.set_index("signature")["used"][name])
    figure = charts.sheet(
        DOUBLE,
        0.2 + ROW * _BARS + AXIS,
        title=name,
        lines=f"{used:,} genes among {study.n_background:,}; "
        f"the first {min(_BARS, len(ranks))} of {len(ranks):,} regulators, "
        "outputs of the model with AUROC farthest from 0.5",
        key={part.replace("_", " "): colour for part, colour in _PARTS.items()},
    )
    left, right = figure.subplots(1, 2, width_ratios=[5, 4])

    ranks, details = ranks.head(_BARS), details.head(_BARS)
    values = np.array([details[part] for part in _PARTS], np.float64)
    ends = []
    for sign in (1, -1):  # parts of one sign are put end to end
        part = np.where(np.sign(values) == sign, values, 0)
        starts = np.cumsum(part, axis=0) - part
        for row, start, colour in zip(part, starts, _PARTS.values(), strict=True):
            charts.bars(left, [], row, colour, left=start)
        ends.append(part.sum(axis=0))
    charts.label_rows(left, ranks["regulator"], _BARS, room=0.9)
    tracks = [str(n) for n in details["tracks"]]
    charts.columns(left, {"tracks": tracks, "q": charts.q_values(ranks["q"])})
    charts.value_axis(left, "score", np.concatenate(ends))

    far = (explained["auroc"] - 0.5).abs().sort_values(ascending=False, kind="stable").index[:_BARS]
    table = explained.loc[far].sort_values("auroc", ascending=False, kind="stable")
    names = [str(output).replace("_", " ") for output in table["output"]]
    auroc = table["auroc"].to_numpy(np.float64)
    colours = [BLUE if value > 0.5 else VERMILION for value in auroc]
    charts.bars(right, names, auroc - 0.5, colours, left=0.5, n=_BARS, size=SMALL, room=1.5)
    charts.columns(right, {"q": charts.q_values(table["q"])})
    charts.value_axis(right, "AUROC of the prediction", auroc, zero=0.5, most=4)
    return figure
