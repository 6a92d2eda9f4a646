"""The person table: who is in the cohort, their traits, and covariates taken from it."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.cohort.grid import first_twice, separator_of
from decode_zoo.errors import InputError, UsageError
from decode_zoo.expression import MEDIAN
from decode_zoo.names import output_fault
from decode_zoo.textfile import read_text

__all__ = ["Trait", "design_of", "match", "read_persons", "standardised", "trait_of"]

FloatArray = npt.NDArray[np.float64]

_MISSING = frozenset({"", "na", "nan", "n/a", "none", "null", "."})
_LARGEST = 1e100  # of what is a measurement; squares of more are no floats
_NAMED = 3  # persons that an error names; more help nobody


@dataclass(frozen=True)
class Trait:
    """A column of the person table.

    Attributes
    ----------
    name : str
    texts : list of str
        One entry a person, empty where missing.
    numbers : ndarray of float64 or None
        NaN where missing; None if it is categorical.
    """

    name: str
    texts: list[str]
    numbers: FloatArray | None

    @property
    def categories(self) -> list[str]:
        """The values that occur, sorted."""
        return sorted(set(self.texts) - {""})

    @property
    def varies(self) -> bool:
        """Whether persons differ in it, however the same number is written."""
        if self.numbers is None:
            return len(self.categories) > 1
        return bool(np.nanmin(self.numbers) < np.nanmax(self.numbers))

    @property
    def kind(self) -> str:
        """Say how it is taken."""
        if self.numbers is not None:
            return "numeric"
        return f"categorical ({len(self.categories)} categories)"


def read_persons(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a person table.

    Parameters
    ----------
    path : path-like
        Tab- or comma-separated text, plain or gzip, with a header; the first column names the
        persons. The header may leave that column blank, as pandas does, or out, as R does.

    Returns
    -------
    DataFrame of str, shape (n_persons, n_traits)
        Texts as they are in the file, indexed by person.

    Raises
    ------
    InputError
        If it cannot be read, a line has more or fewer cells than the header, or a person or column
        occurs twice or has no name.
    """
    try:
        text = read_text(path).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"is not text in UTF-8 ({error})", path=path) from None
    reader = csv.reader(
        io.StringIO(text), delimiter=separator_of(path, text.lstrip("\n").partition("\n")[0])
    )
    try:
        rows = [
            (reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)
        ]
    except csv.Error as error:
        raise InputError(f"is no table ({error})", path=path, line=reader.line_num) from None
    if len(rows) < 2:
        raise InputError(
            "holds no persons",
            path=path,
            remedy="Give a header, and one line a person: its name, then traits.",
        )
    (top, header), *body = rows
    # Separators at the ends of lines are no column that the header lacks.
    if len(header) == len(body[0][1]) - 1 and any(cells[-1] for _, cells in body):
        header = ["", *header]
    header[0] = header[0] or _name_beside(header)
    for line, cells in body:
        if len(cells) != len(header):
            raise InputError(
                f"has {len(cells)} cells, but the header has {len(header)}", path=path, line=line
            )
    seen: dict[str, int] = {}
    for line, (name, *_) in body:
        if not name:
            raise InputError("the person has no name", path=path, line=line)
        if name in seen:
            raise InputError(
                f"person '{name}' occurs twice, first in line {seen[name]}",
                path=path,
                line=line,
                remedy="Keep one line a person.",
            )
        seen[name] = line
    if "" in header:
        raise InputError(
            f"column {header.index('') + 1} has no name",
            path=path,
            line=top,
            remedy="Name it in the header, or take it out; only the first column, of "
            "persons, needs no name.",
        )
    if wrong := first_twice(header):
        raise InputError(
            f"column '{wrong}' occurs twice",
            path=path,
            line=top,
            remedy="Give each column a name of its own.",
        )
    index = pd.Index([cells[0] for _, cells in body], name=header[0], dtype=object)
    frame = pd.DataFrame([cells[1:] for _, cells in body], index=index, columns=header[1:])
    frame.attrs["path"] = os.fspath(path)
    return frame


def _name_beside(header: Sequence[str]) -> str:
    """Name the column of persons as no other is."""
    name = "person"
    while name in header:
        name = f"_{name}"
    return name


def match(given: Sequence[str], persons: pd.DataFrame, path: str) -> npt.NDArray[np.int64]:
    """Find the place of each person of the table among the persons with expression.

    Parameters
    ----------
    given : sequence of str
        Persons with expression.
    persons : DataFrame
        As `read_persons` returns it.
    path : str
        The expression, for messages.

    Returns
    -------
    ndarray of int64, shape (n_persons,)

    Raises
    ------
    InputError
        If a person is in one of them only, occurs twice, or has a name that no output can have.
    """
    if twice := first_twice(given):
        raise InputError(
            f"person '{twice}' occurs twice",
            path=path,
            remedy="Keep one sample a person, or give samples names of their own.",
        )
    table = [str(name) for name in persons.index]
    where = persons.attrs.get("path", "the person table")
    if twice := first_twice(table):
        raise InputError(f"person '{twice}' occurs twice", path=where)
    lacking = (
        ("expression", "in the person table", [n for n in table if n not in set(given)], where),
        (
            "line in the person table",
            "with expression",
            [n for n in given if n not in set(table)],
            path,
        ),
    )
    for what, there, names, file in lacking:
        if names:
            remedy = "Leave such persons out of both, or add them; names must be the same in both."
            if {_mangled(n) for n in table} == {_mangled(n) for n in given}:
                remedy = (
                    "They differ in signs only: R turns '-' and blanks into '.' unless it "
                    "reads with check.names=FALSE. Write them alike."
                )
            raise InputError(
                f"{len(names)} of the persons {there} have no {what}: {_listed(names)}",
                path=file,
                remedy=remedy,
            )
    for name in table:
        fault = "is that of an output which models add" if name == MEDIAN else output_fault(name)
        if fault:
            raise InputError(
                f"person {name[:60]!r}: the name {fault}",
                path=where,
                remedy="Rename the person in both tables.",
            )
    places = {name: place for place, name in enumerate(given)}
    return np.array([places[name] for name in table], np.int64)


def _mangled(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", ".", name.removeprefix("X"))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")


def trait_of(persons: pd.DataFrame, name: str) -> Trait:
    """Take a column of the person table: numbers if all of it is, categories else.

    What is beyond all measurements, infinity among it, is no number.

    Raises
    ------
    UsageError
        If there is no such column.
    """
    if name not in persons.columns:
        there = ", ".join(map(str, persons.columns)) or "none"
        raise UsageError(f"The person table has no column '{name}'.", remedy=f"It has: {there}.")
    texts = ["" if v is None or v != v else str(v).strip() for v in persons[name]]
    texts = ["" if text.lower() in _MISSING else text for text in texts]
    try:
        numbers = np.array([float(text) if text else np.nan for text in texts])
    except ValueError:
        return Trait(name, texts, None)
    given = np.array([text != "" for text in texts])
    measured = bool((np.abs(numbers[given]) <= _LARGEST).all() and given.any())
    return Trait(name, texts, numbers if measured else None)


def standardised(numbers: FloatArray) -> FloatArray:
    """Deviations from the mean in standard deviations; the numbers differ, and none is missing.

    They are divided by the largest before, lest squares of small ones be zero.
    """
    scaled = numbers / np.abs(numbers).max()
    centred = scaled - scaled.mean()
    found: FloatArray = centred / centred.std()
    return found


def design_of(persons: pd.DataFrame, covariates: Sequence[str]) -> tuple[FloatArray, list[Trait]]:
    """Turn covariates into columns to regress on.

    Parameters
    ----------
    persons : DataFrame
    covariates : sequence of str
        Names of its columns.

    Returns
    -------
    design : ndarray of float64, shape (n_persons, n_columns)
        Each column has the mean 0: numbers in standard deviations, categories but the first as 0
        and 1 before that.
    traits : list of Trait

    Raises
    ------
    UsageError
        If there is no such column, or one is named twice.
    InputError
        If a value is missing or beyond all measurements, a covariate is the same for all persons,
        or so many columns are left with so few persons that nothing would remain.
    """
    if twice := first_twice(covariates):
        raise UsageError(f"The covariate '{twice}' is named twice.")
    path = persons.attrs.get("path", "the person table")
    columns: list[FloatArray] = []
    traits = [trait_of(persons, name) for name in covariates]
    for trait in traits:
        if "" in trait.texts:
            person = persons.index[trait.texts.index("")]
            raise InputError(
                f"person '{person}' has no value of the covariate '{trait.name}' "
                f"({trait.texts.count('')} of {len(persons)} persons lack it)",
                path=path,
                remedy="Fill it in, leave such persons out, or drop the covariate.",
            )
        if (place := _beyond(trait)) is not None:
            raise InputError(
                f"person '{persons.index[place]}' has {trait.texts[place][:40]} as the covariate "
                f"'{trait.name}', a number beyond all measurements",
                path=path,
                remedy="Correct it, leave the person out, or drop the covariate.",
            )
        if not trait.varies:
            raise InputError(
                f"the covariate '{trait.name}' is the same for all persons",
                path=path,
                remedy="Drop it.",
            )
        if trait.numbers is not None:
            columns.append(standardised(trait.numbers))
        else:
            texts = np.array(trait.texts)
            columns += [(texts == text).astype(np.float64) for text in trait.categories[1:]]
    design = np.column_stack(columns) if columns else np.empty((len(persons), 0))
    design -= design.mean(axis=0)
    rank = int(np.linalg.matrix_rank(design)) if columns else 0
    if rank and len(persons) - 1 - rank < 2:
        sizes = ", ".join(f"{trait.name}: {trait.kind}" for trait in traits)
        raise InputError(
            f"the covariates have {rank} independent columns, too many for {len(persons)} persons "
            f"({sizes})",
            path=path,
            remedy="Drop covariates; one that differs between all persons, such as an id, is none.",
        )
    return design, traits


def _beyond(trait: Trait) -> int | None:
    """Find the first person whose value keeps a column of numbers from being one."""
    if trait.numbers is not None:
        return None
    try:
        numbers = np.array([float(text) for text in trait.texts])
    except ValueError:
        return None
    return int(np.argmax(~(np.abs(numbers) <= _LARGEST)))
