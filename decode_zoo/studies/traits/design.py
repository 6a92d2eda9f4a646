"""Traits of persons, and how a linear model sees them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.cohort.persons import trait_of
from decode_zoo.errors import InputError, UsageError
from decode_zoo.metrics import determined

__all__ = ["Design", "make_design"]

FloatArray = npt.NDArray[np.float64]

_BRACKET = re.compile(r"([0-9]{1,3})\s*[-–]\s*([0-9]{1,3})")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)


@dataclass(frozen=True)
class Design:
    """A linear model of one trait."""

    trait: str
    persons: tuple[str, ...]  # the m whose trait and covariates are known
    names: tuple[str, ...]  # of the k coefficients; the last one is the trait's
    matrix: FloatArray  # (m, k)
    coding: Mapping[str, str]  # how the trait and each covariate were taken, in words
    values: tuple[str, ...]  # the trait of each person, as the table has it
    incomplete: tuple[str, ...]  # persons left out because a value is missing


def make_design(
    table: pd.DataFrame, persons: Sequence[str], trait: str, covariates: Sequence[str] = ()
) -> Design:
    """Lay out a linear model: an intercept, covariates, and the trait.

    Persons are those to use, all in the table (`decode_zoo.cohort.read_persons`). A column of
    numbers is a slope by unit; one of brackets such as 50-59 a slope by the brackets' middles;
    another one is a contrast of each level against the first in alphabetical order, and as a trait
    has two levels.

    Raises UsageError if there are no such columns, or one is asked for twice, InputError for a
    column that makes no linear model.
    """
    asked = [*covariates, trait]
    if twice := [name for name, times in Counter(asked).items() if times > 1]:
        raise UsageError(
            f"Column '{twice[0]}' is asked for twice.",
            remedy="The trait is no covariate of itself.",
        )
    path, chosen = table.attrs.get("path"), table.loc[list(persons)]
    traits = [trait_of(chosen, name) for name in asked]
    known = [i for i in range(len(chosen)) if all(item.texts[i] for item in traits)]
    incomplete = set(range(len(chosen))).difference(known)
    if not known:
        raise InputError(f"no person has values of {', '.join(asked)}", path=path)
    names, columns, owners, coding = ["intercept"], [np.ones(len(known))], [""], {}
    for item in traits:
        cells = {persons[i]: item.texts[i] for i in known}
        parts, coding[item.name] = _coded(item.name, cells, path, is_trait=item.name == trait)
        names += parts
        columns += list(parts.values())
        owners += [item.name] * len(parts)
    matrix = np.stack(columns, axis=1)
    m, k = matrix.shape
    if m <= k:
        raise InputError(
            f"{m} persons are too few for {k} coefficients ({', '.join(names[:6])}"
            f"{', …' if k > 6 else ''}): at least {k + 1} are needed",
            path=path,
            remedy="Leave out covariates, or bring more persons.",
        )
    for column in determined(matrix):
        others = [name for name in dict.fromkeys(owners[:column]) if name]
        raise InputError(
            f"'{names[column]}' is determined by {', '.join(others)}, so their effects cannot be "
            "told apart",
            path=path,
            remedy="Leave one of these covariates out.",
        )
    return Design(
        trait,
        tuple(persons[i] for i in known),
        tuple(names),
        matrix,
        coding,
        tuple(traits[-1].texts[i] for i in known),
        tuple(persons[i] for i in sorted(incomplete)),
    )


def _coded(
    name: str, cells: Mapping[str, str], path: str | None, *, is_trait: bool
) -> tuple[dict[str, FloatArray], str]:
    """Columns of one trait by the name of their coefficient, and in words what they are."""
    counts = Counter(cells.values())
    levels = sorted(counts)
    if len(levels) == 1:
        raise InputError(
            f"'{name}' has one value only ('{levels[0]}') among the {len(cells)} persons",
            path=path,
            remedy="There is nothing to compare." if is_trait else "Leave this covariate out.",
        )
    numbers = [_number(cell) for cell in cells.values()]
    if None not in numbers:
        text = f"slope by unit of {name}"
        if any(_BRACKET.fullmatch(cell) for cell in levels):
            text += ", taken in the middle of each bracket"
        return {name: np.array(numbers, np.float64)}, text
    if any(number is not None for number in numbers):
        person = list(cells)[numbers.index(None)]
        raise InputError(
            f"column '{name}' mixes numbers and words: '{cells[person]}' (person {person})",
            path=path,
            remedy="Leave a cell empty if the value is not known; begin each level of a category "
            "with a letter.",
        )
    if is_trait and len(levels) > 2:
        raise InputError(
            f"'{name}' has {len(levels)} levels ({', '.join(levels[:5])}"
            f"{', …' if len(levels) > 5 else ''}); a trait is a number or has two",
            path=path,
            remedy="Add a column that says which of two groups a person is in.",
        )
    base, *others = levels
    parts = {
        f"{name}={level}": np.array([cell == level for cell in cells.values()], np.float64)
        for level in others
    }
    listed = ", ".join(f"{level} ({counts[level]})" for level in others[:5])
    more = ", …" if len(others) > 5 else ""
    return parts, f"{listed}{more} against {base} ({counts[base]})"


def _number(cell: str) -> float | None:
    if bracket := _BRACKET.fullmatch(cell):
        low, high = map(int, bracket.groups())
        return (low + high) / 2 if low < high else None
    if not _NUMBER.fullmatch(cell):
        return None
    number = float(cell)
    return number if math.isfinite(number) else None
