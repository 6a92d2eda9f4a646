"""Pictures of a mediation study: what regulators leave of a correlation, and what others leave."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from decode_zoo.pages import charts
from decode_zoo.studies.result import StudyResult

__all__ = ["pictures"]


def pictures(result: StudyResult) -> dict[str, tuple[str, Figure]]:
    """Draw the pictures of a study of mediation."""
    caption = "R2 left by these regulators, and by other sets"
    return {"histogram": (caption, histogram(result))}


@charts.styled
def histogram(result: StudyResult) -> Figure:
    """Draw what random sets leave, and what was found."""
    numbers = result.numbers
    null = result.tables["random_sets"][1]["r2_left"].to_numpy(np.float64)
    grey = "#8A929B"
    colours = {"before": charts.BLUE, "given these regulators": charts.VERMILION}
    figure = charts.sheet(
        charts.SINGLE,
        1.85 + charts.AXIS,
        title=" and ".join(numbers["pair"]),
        lines=f"R² of their expression, p = {numbers['p']:.2g}",
        key={**colours, "other sets": grey},
    )
    axes = figure.subplots()
    found = numbers["r2"], numbers["r2_left"]
    most = 1.05 * max(*found, float(null.max())) or 1.0
    axes.hist(null, bins=40, range=(0, most), color=grey)
    for value, colour in zip(found, colours.values(), strict=True):
        axes.axvline(value, color=colour, linewidth=1.2)
    charts.y_axis(axes, "sets")
    axes.set(xlim=(0, most))
    charts.x_axis(axes, "R² left", grid=False)
    return figure
