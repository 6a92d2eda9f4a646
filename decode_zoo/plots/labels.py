"""Labels: what genes, outputs, units and regulators are called in a picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from decode_zoo.attribution import Attribution
from decode_zoo.plots.text import elided

__all__ = [
    "NAME",
    "RNA_LENGTH",
    "classes_of",
    "names_of",
    "noun_of",
    "spaced",
    "title_of",
    "unit_of",
]

IntArray = npt.NDArray[np.int64]

NAME = 1.2  # widest name of a regulator, in inches
RNA_LENGTH = "RNA length"  # what the mask channels tell a network


def title_of(attribution: Attribution, rows: IntArray, column: int | None = None) -> str:
    """Name the genes of some rows, and an output."""
    noun = noun_of(attribution)
    ids, symbols = (attribution.genes.iloc[rows, i] for i in (0, 1))
    if noun == "gene" and rows.size < 4:
        title = ", ".join(symbol or own for own, symbol in zip(ids, symbols, strict=True))
    elif rows.size == 1:
        title = f"{symbols.iloc[0]} {ids.iloc[0]}"
    else:
        title = f"{rows.size:,} {noun}s"
    return title if column is None else f"{title}: {spaced(attribution.outputs[column].name)}"


def noun_of(attribution: Attribution) -> str:
    """Say what a row is."""
    return str(attribution.genes.columns[0]).removesuffix("_id")


def spaced(name: str) -> str:
    """Write the name of an output with spaces."""
    return name.replace("_", " ")


def unit_of(attribution: Attribution, column: int) -> str:
    """Write the unit of an output."""
    return attribution.outputs[column].unit.replace("log2", "log₂")


def names_of(
    attribution: Attribution, features: IntArray, size: float, column: str = ""
) -> list[str]:
    """Names of features, short enough, at the finest resolution if no column is given."""
    table = attribution.resolution.features
    names = table[column or table.columns[-1]].iloc[features]
    return [elided(str(name), size, NAME) for name in names]


def classes_of(attribution: Attribution, features: IntArray) -> list[str]:
    """Classes of features."""
    return [str(kind) for kind in attribution.resolution.features["class"].iloc[features]]
