"""Tab-separated genomics text (BED, GTF): plain or gzip, read fast, faults found by line."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import os
import re
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from decode_zoo.errors import InputError

__all__ = ["read_bytes", "read_columns", "read_table"]

_NUMBERS = ("start", "end")
_HEADERS = (b"#", b"track", b"browser")
# What int() takes and files mean, within 64 bits.
_WHOLE_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Content of a file, decompressed if it is gzip (told by its magic bytes, not its name).

    Raises
    ------
    InputError
        If it cannot be read, or its gzip stream is damaged.
    """
    try:
        data = Path(path).read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except FileNotFoundError:
        raise InputError("no such file", path=path) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"the gzip stream is damaged ({error})", path=path, remedy="Fetch the file again."
        ) from error
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", path=path) from error


def read_table(path: str | os.PathLike[str]) -> list[list[str]]:
    """Cells of a small tab-separated table, line by line; quotes are ordinary characters.

    Raises
    ------
    InputError
        If it cannot be read, or is not UTF-8 text.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 text ({error})", path=path) from None
    return list(csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))


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
    data = read_bytes(path).removeprefix(codecs.BOM_UTF8)
    if b"\r" in data:  # Windows or old Macintosh line ends
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    header, position = _count_header(data)
    data = data[position:]
    if not data.strip():
        return pd.DataFrame({name: [] for name in names})
    if b"\0" in data:
        line = header + 1 + data.count(b"\n", 0, data.find(b"\0"))
        raise InputError(f"is not {what} text (it holds NUL bytes)", path=path, line=line,
                         remedy="Save it as UTF-8 text.")  # fmt: skip
    texts = object if select else "category"
    try:
        # The fast path; whatever it stumbles over is looked at again, line by line, below. What a
        # number is, it must find out itself: told to expect one, it takes True and 1e3 for one.
        table = pd.read_csv(
            io.BytesIO(data), sep="\t", header=None, usecols=list(places), names=list(names),
            dtype={n: texts for n in names if n not in _NUMBERS},
            quoting=3, skip_blank_lines=False, na_filter=False, engine="c", low_memory=False,
        )  # fmt: skip
        table.index += header + 1
        if select:
            # Other lines may hold anything there, which makes texts of all the numbers.
            table = table[table[select[0]] == select[1]]
            table = table.assign(**{n: pd.to_numeric(table[n]) for n in names if n in _NUMBERS})
        strings = {n: set(table[n].unique()) for n in names if n not in _NUMBERS}
        if (
            all(table[n].dtype == np.int64 for n in names if n in _NUMBERS)
            and not any("" in found for found in strings.values())
            and not any(name.startswith("#") for name in strings[names[0]])
        ):
            return table
    except (ValueError, OverflowError):
        pass
    return _read_carefully(data, header, path, names, places, what, select)


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
