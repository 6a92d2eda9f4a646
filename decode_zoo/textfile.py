"""Tab-separated genomics text (BED, GTF): plain or gzip, read fast, faults found by line."""

from __future__ import annotations

import codecs
import io
import os
import re
from typing import Any

import numpy as np
import pandas as pd

from decode_zoo.errors import InputError
from decode_zoo.files import read_bytes

__all__ = ["read_columns", "read_table", "read_text"]

_NUMBERS = ("start", "end")
_HEADERS = (b"#", b"track", b"browser")
# What int() takes and files mean, within 64 bits.
_WHOLE_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,18}\s*", re.ASCII)


def read_text(path: str | os.PathLike[str]) -> bytes:
    """Bytes of a text file, decompressed, without byte order mark, every line end a newline.

    Raises
    ------
    InputError
        As `files.read_bytes` does, or if the file holds what no text has.
    """
    data = read_bytes(path)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(
            "is UTF-16 text, not UTF-8", path=path, line=1, remedy="Save it as UTF-8 text."
        )
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\r" in data:  # Windows or old Macintosh line ends
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\0" in data:
        line = 1 + data.count(b"\n", 0, data.find(b"\0"))
        raise InputError(
            "is no text (it holds NUL bytes)",
            path=path,
            line=line,
            remedy="Save it as tab-separated UTF-8 text.",
        )
    return data


def read_table(path: str | os.PathLike[str]) -> list[list[str]]:
    """Cells of a small tab-separated table, line by line; quotes are ordinary characters.

    Raises
    ------
    InputError
        If it cannot be read, or is not UTF-8 text.
    """
    try:
        text = read_text(path).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 text ({error})", path=path) from None
    return [line.split("\t") for line in text.removesuffix("\n").split("\n")] if text else []


def _count_header(data: bytes) -> tuple[int, int]:
    """Lines and bytes before the first line of data."""
    lines = position = 0
    while position < len(data):
        end = data.find(b"\n", position)
        end = len(data) if end < 0 else end
        line = data[position:end].strip()
        if line and not line.startswith(_HEADERS):
            break
        lines, position = lines + 1, end + 1
    return lines, position


def read_columns(
    path: str | os.PathLike[str],
    names: tuple[str, ...],
    places: tuple[int, ...],
    *,
    what: str,
    select: tuple[str, str] | None = None,
) -> pd.DataFrame:
    """Read some columns of a headerless tab-separated file.

    Parameters
    ----------
    path : path-like
        The file, with line ends of any system; leading ``#``, ``track`` and ``browser`` lines,
        and ``#`` and blank lines anywhere, are skipped.
    names : tuple of str
        What to call the columns; ``start`` and ``end`` are parsed as whole numbers.
    places : tuple of int
        Their places in the file, counted from 0, ascending.
    what : str
        Name of the format, for messages.
    select : (str, str), optional
        Keep only the lines where the named column has this value (others are not checked).

    Returns
    -------
    DataFrame
        Indexed by line number in the file, counted from 1. Texts are categories, or plain
        objects with `select`. Empty if the file has no data lines.

    Raises
    ------
    InputError
        With the line of the first fault.
    """
    data = read_text(path)
    header, position = _count_header(data)
    data = data[position:]
    if not data.strip():
        return pd.DataFrame({name: [] for name in names})
    texts = object if select else "category"
    try:
        # The fast path; whatever it stumbles over is looked at again, line by line, below. What a
        # number is, it must find out itself: told to expect one, it takes True and 1e3 for one.
        table = pd.read_csv(
            io.BytesIO(data),
            sep="\t",
            header=None,
            usecols=list(places),
            names=list(names),
            dtype={n: texts for n in names if n not in _NUMBERS},
            quoting=3,
            skip_blank_lines=False,
            na_filter=False,
            engine="c",
            low_memory=False,
            float_precision="round_trip",  # the others crash on 1e3999999999
        )
        table.index += header + 1
        if select:
            # Other lines may hold anything there, which makes texts of all the numbers.
            table = table[table[select[0]] == select[1]]
            table = table.assign(**{n: _whole(table[n]) for n in names if n in _NUMBERS})
        strings = {n: set(table[n].unique()) for n in names if n not in _NUMBERS}
        if (
            all(table[n].dtype == np.int64 for n in names if n in _NUMBERS)
            and all(type(text) is str and text for found in strings.values() for text in found)
            and not any(name.startswith("#") for name in strings[names[0]])
        ):
            return table
    except (ValueError, OverflowError):
        pass
    return _read_carefully(data, header, path, names, places, what, select)


def _whole(column: pd.Series[Any]) -> pd.Series[Any]:
    """Turn texts into whole numbers if all of them are plain ones, which pandas does not check."""
    texts = column.tolist()
    plain = all(type(text) is str and 0 < len(text) < 19 for text in texts)
    if plain and set("".join(texts)) <= set("0123456789"):
        return column.astype(np.int64)
    return column


def _read_carefully(
    data: bytes,
    header: int,
    path: str | os.PathLike[str],
    names: tuple[str, ...],
    places: tuple[int, ...],
    what: str,
    select: tuple[str, str] | None,
) -> pd.DataFrame:
    """Line-by-line reader: slower, but it knows where it is."""
    index: list[int] = []
    rows: list[tuple[str | int, ...]] = []
    for number, line in enumerate(data.splitlines(), header + 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        try:
            cells = line.decode("utf-8").split("\t")
        except UnicodeDecodeError:
            raise InputError(f"is not {what} text in UTF-8", path=path, line=number) from None
        if len(cells) <= places[-1]:
            raise InputError(
                f"expected {what} with at least {places[-1] + 1} tab-separated columns, "
                f"found {len(cells)}",
                path=path,
                line=number,
                remedy="Columns are separated by tabs, not spaces." if b" " in line else None,
            )
        values = dict(zip(names, (cells[place] for place in places), strict=True))
        if select and values[select[0]] != select[1]:
            continue
        row: list[str | int] = []
        for name, value in values.items():
            if name not in _NUMBERS:
                row.append(value)
                continue
            if not _WHOLE_NUMBER.fullmatch(value):
                raise InputError(
                    f"{name} is not a whole number: {value[:40]!r}", path=path, line=number
                )
            row.append(int(value))
        index.append(number)
        rows.append(tuple(row))
    table = pd.DataFrame(rows, columns=list(names), index=index)
    texts = object if select else "category"
    return table.astype({n: np.int64 if n in _NUMBERS else texts for n in names})
