"""The sample table: who is in the cohort, their traits, and covariates taken from it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from decode_zoo.core.arrays import BoolArray, FloatArray, IntArray
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.core.reader import MISSING, Table, first_twice
from decode_zoo.core.text import output_fault
from decode_zoo.networks.manifest import MEDIAN

__all__ = [
    "Trait",
    "design_of",
    "match",
    "read_sample_codes",
    "read_samples",
    "standardised",
    "trait_of",
]

_LARGEST = 1e100  # of what is a measurement; squares of more are no floats
_NAMED = 3  # samples that an error names; more help nobody


@dataclass(frozen=True)
class Trait:
    """A column of the sample table: numbers (NaN where missing), or categories."""

    name: str
    texts: list[str]  # one a sample, empty where missing
    numbers: FloatArray | None  # None if it is categorical

    @property
    def categories(self) -> list[str]:
        """The values that occur, sorted."""
        return sorted(set(self.texts) - {""})

    @property
    def varies(self) -> bool:
        """Whether samples differ in it, however the same number is written."""
        if self.numbers is None:
            return len(self.categories) > 1
        return bool(np.nanmin(self.numbers) < np.nanmax(self.numbers))

    @property
    def kind(self) -> str:
        """How it is taken, in words."""
        if self.numbers is not None:
            return "numeric"
        return f"categorical ({len(self.categories)} categories)"


def read_samples(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a sample table: texts as they are in the file, shape (n_samples, n_traits), by sample.

    The first column names the samples. The header may leave that column blank, as pandas does, or
    out, as R does.
    """
    table = Table.read(path)
    if not (table.header and table.rows):
        raise table.fault(
            "holds no samples",
            remedy="Give a header, and one line a sample: its name, then traits.",
        )
    table.check_width()
    table.check_names()
    rows = list(table.cells())
    seen: dict[str, int] = {}
    for line, (name, *_) in rows:
        if not name:
            raise table.fault("the sample has no name", line)
        if name in seen:
            raise table.fault(
                f"sample '{name}' occurs twice, first in line {seen[name]}",
                line,
                "Keep one line a sample.",
            )
        seen[name] = line
    first, *traits = table.header
    if not first:
        first = "sample"
        while first in traits:
            first = f"_{first}"
    index = pd.Index(list(seen), name=first, dtype=object)
    frame = pd.DataFrame([cells[1:] for _, cells in rows], index=index, columns=traits)
    frame.attrs["path"] = os.fspath(path)
    return frame


def read_sample_codes(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read which code stands for which sample, as ``finetune --anonymise`` wrote it.

    The table has the header ``code sample``; codes are returned by sample.
    """
    table = Table.read(path)
    if table.header not in (["code", "sample"], ["code", "person"]):  # as before
        raise table.fault(
            "its header must be 'code<TAB>sample'",
            1,
            "Name the file that finetune --anonymise wrote: DIR.codes.tsv.",
        )
    found: dict[str, str] = {}
    for line, cells in table.cells():
        if len(cells) != 2 or not all(cells):
            raise table.fault("a code and a sample are needed", line)
        code, sample = cells
        if sample in found or code in found.values():
            raise table.fault(f"{sample if sample in found else code!r} is there twice", line)
        found[sample] = code
    return found


def match(given: Sequence[str], samples: pd.DataFrame, path: str) -> IntArray:
    """Return the place of each sample of the table among those `given`, with expression.

    Raises InputError if one is in one of them only, occurs twice, or has a name that no output can
    have; `path` is the expression's.
    """
    table = [str(name) for name in samples.index]
    place_of = {name: place for place, name in enumerate(given)}
    where = samples.attrs.get("path", "the sample table")
    for names, file in ((given, path), (table, where)):
        if twice := first_twice(names):
            raise InputError(
                f"sample '{twice}' occurs twice",
                path=file,
                remedy="Keep one sample a sample, or give samples names of their own.",
            )
    known = set(table)
    unmeasured = [name for name in table if name not in place_of]
    unknown = [name for name in given if name not in known]
    for what, there, names, file in (
        ("expression", "in the sample table", unmeasured, where),
        ("line in the sample table", "with expression", unknown, path),
    ):
        if names:
            remedy = "Leave such samples out of both, or add them; names must be the same in both."
            if {_mangled(name) for name in table} == {_mangled(name) for name in given}:
                remedy = (
                    "They differ in signs only: R turns '-' and blanks into '.' unless it "
                    "reads with check.names=FALSE. Write them alike."
                )
            listed = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
            raise InputError(
                f"{len(names)} of the samples {there} have no {what}: {listed}",
                path=file,
                remedy=remedy,
            )
    for name in table:
        fault = "is that of an output which models add" if name == MEDIAN else output_fault(name)
        if fault:
            raise InputError(
                f"sample {name[:60]!r}: the name {fault}",
                path=where,
                remedy="Rename the sample in both tables.",
            )
    return np.array([place_of[name] for name in table], np.int64)


def _mangled(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", ".", name.removeprefix("X"))


def trait_of(samples: pd.DataFrame, name: str) -> Trait:
    """Take a column of the sample table: numbers if all of it is, categories else.

    What is beyond all measurements, infinity among it, is no number.
    """
    if name not in samples.columns:
        there = ", ".join(map(str, samples.columns)) or "none"
        raise UsageError(f"The sample table has no column '{name}'.", remedy=f"It has: {there}.")
    texts = ["" if v is None or v != v else str(v).strip() for v in samples[name]]
    texts = ["" if text.lower() in MISSING else text for text in texts]
    numbers, missing = _numbers(texts), np.array([not text for text in texts])
    if numbers is not None and (missing.all() or _beyond(numbers)[~missing].any()):
        numbers = None
    return Trait(name, texts, numbers)


def _beyond(numbers: FloatArray) -> BoolArray:
    return ~(np.abs(numbers) <= _LARGEST)


def _numbers(texts: Sequence[str]) -> FloatArray | None:
    """Return numbers, NaN where missing, if all texts are."""
    try:
        return np.array([float(text) if text else np.nan for text in texts])
    except ValueError:
        return None


def standardised(numbers: FloatArray) -> FloatArray:
    """Return deviations from the mean in standard deviations, of numbers that differ.

    They are divided by the largest before, lest squares of small ones be zero.
    """
    scaled = numbers / np.abs(numbers).max()
    centred = scaled - scaled.mean()
    found: FloatArray = centred / centred.std()
    return found


def design_of(samples: pd.DataFrame, covariates: Sequence[str]) -> tuple[FloatArray, list[Trait]]:
    """Turn covariates into columns to regress on, shape (n_samples, n_columns), each of mean 0.

    Numbers are in standard deviations; categories but the first were 0 and 1.
    """
    if twice := first_twice(covariates):
        raise UsageError(f"The covariate '{twice}' is named twice.")
    path = samples.attrs.get("path", "the sample table")
    columns: list[FloatArray] = []
    traits = [trait_of(samples, name) for name in covariates]
    for trait in traits:
        lacking = trait.texts.count("")
        fault, remedy = "", "Drop it."
        if lacking:
            fault = (
                f"sample '{samples.index[trait.texts.index('')]}' has no value of the covariate "
                f"'{trait.name}' ({lacking} of {len(samples)} samples lack it)"
            )
            remedy = "Fill it in, leave such samples out, or drop the covariate."
        elif trait.numbers is None and (numbers := _numbers(trait.texts)) is not None:
            place = int(np.argmax(_beyond(numbers)))
            fault = (
                f"sample '{samples.index[place]}' has {trait.texts[place][:40]} as the covariate "
                f"'{trait.name}', a number beyond all measurements"
            )
            remedy = "Correct it, leave the sample out, or drop the covariate."
        elif not trait.varies:
            fault = f"the covariate '{trait.name}' is the same for all samples"
        if fault:
            raise InputError(fault, path=path, remedy=remedy)
        if trait.numbers is not None:
            columns.append(standardised(trait.numbers))
        else:
            texts = np.array(trait.texts)
            columns += [(texts == text).astype(np.float64) for text in trait.categories[1:]]
    design = np.column_stack(columns) if columns else np.empty((len(samples), 0))
    design -= design.mean(axis=0)
    rank = int(np.linalg.matrix_rank(design)) if columns else 0
    if rank and len(samples) - 1 - rank < 2:
        sizes = ", ".join(f"{trait.name}: {trait.kind}" for trait in traits)
        raise InputError(
            f"the covariates have {rank} independent columns, too many for {len(samples)} samples "
            f"({sizes})",
            path=path,
            remedy="Drop covariates; one that differs between all samples, such as an id, is none.",
        )
    return design, traits
