"""Codes in place of persons' names: who is who beside a bundle that was anonymised."""

from __future__ import annotations

import os

from decode_zoo.errors import InputError
from decode_zoo.textfile import read_table

__all__ = ["read_codes"]

_HEADER = ["code", "person"]


def read_codes(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the table that ``finetune --anonymise`` wrote beside its bundle.

    Parameters
    ----------
    path : path-like
        Tab-separated, header ``code person``.

    Returns
    -------
    dict of str to str
        Person → code.

    Raises
    ------
    InputError
        If the header is another, a cell is empty, or a code or a person is there twice.
    """
    rows = read_table(path)
    if not rows or rows[0] != _HEADER:
        raise InputError(
            "its header must be 'code<TAB>person'",
            path=path,
            line=1,
            remedy="Name the file that finetune --anonymise wrote: DIR.codes.tsv.",
        )
    found: dict[str, str] = {}
    for line, row in enumerate(rows[1:], 2):
        if len(row) != 2 or not all(row):
            raise InputError("a code and a person are needed", path=path, line=line)
        code, person = row
        if person in found or code in found.values():
            raise InputError(
                f"{person if person in found else code!r} is there twice", path=path, line=line
            )
        found[person] = code
    return found
