"""Arrays in ``.npz`` files: no pickles, small types, sparse matrices as three columns."""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from decode_zoo.core.errors import InputError
from decode_zoo.core.files import check_expansion, open_input

if TYPE_CHECKING:
    from scipy import sparse

# A sparse matrix is stored as entries a row, their columns, and their values.
CSR_PARTS = ("counts", "tracks", "bases")

# What NumPy writes for plain arrays, byte for byte: numbers, truth values and texts.
_NPY_1 = b"\x93NUMPY\x01\x00"
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<|](?:b1|[iu][1248]|f[248]|U[1-9][0-9]{0,5}))', "
    rb"'fortran_order': (False|True), 'shape': \(((?:[0-9]{1,10},?(?: (?=[0-9]))?){0,8})\), \} *\n"
)
_ENCRYPTED = 0x1
_BLOCK = 1 << 20

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]
RealArray = npt.NDArray[np.floating[Any]]  # of either precision
BoolArray = npt.NDArray[np.bool_]


def compact(values: npt.NDArray[np.integer[Any]]) -> npt.NDArray[Any]:
    """Store whole numbers from 0 to 2**32 - 1 in the smallest type that holds them."""
    top = int(values.max(initial=0))
    if values.min(initial=0) < 0 or top >= 1 << 32:
        raise OverflowError("positions and counts must lie between 0 and 2**32 - 1")
    return values.astype(np.uint16 if top < 1 << 16 else np.uint32)


def store_csr(arrays: dict[str, npt.NDArray[Any]], name: str, matrix: sparse.csr_array) -> None:
    """Put a matrix among `arrays` as ``<name>_counts`` (by row), ``_tracks`` and ``_bases``."""
    arrays[f"{name}_counts"] = compact(np.diff(matrix.indptr))
    arrays[f"{name}_tracks"] = compact(matrix.indices)
    arrays[f"{name}_bases"] = compact(matrix.data)


@dataclass(frozen=True, eq=False)
class SparseRows:
    """A sparse matrix by rows: row i owns entries ``indptr[i]:indptr[i + 1]``.

    SciPy's matrices would do, but importing them takes as long as all else in a short call.
    """

    indptr: IntArray
    columns: npt.NDArray[np.integer]  # ascending within a row
    values: npt.NDArray[Any]
    n_columns: int

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.indptr) - 1

    def rows(self) -> IntArray:
        """Return the row of each entry."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.indptr))

    def take(self, rows: IntArray) -> SparseRows:
        """Return some rows, in their order."""
        starts = self.indptr[rows]
        counts = self.indptr[rows + 1] - starts
        indptr = np.concatenate(([0], np.cumsum(counts)))
        entries = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], counts)
        return replace(
            self, indptr=indptr, columns=self.columns[entries], values=self.values[entries]
        )

    def choose(self, columns: IntArray) -> SparseRows:
        """Choose columns; one past the last stands for an empty column."""
        n = columns.size
        if n == self.n_columns and (columns == np.arange(n)).all():
            return self
        place = np.full(self.n_columns + 1, -1)
        place[columns] = np.arange(n)
        place[-1] = -1
        found, rows = place[self.columns], self.rows()
        kept = np.flatnonzero(found >= 0)
        # Sums over entries must not depend on the order of the columns.
        kept = kept[np.lexsort((found[kept], rows[kept]))]
        counts = np.bincount(rows[kept], minlength=len(self))
        indptr = np.concatenate(([0], np.cumsum(counts)))
        return SparseRows(indptr, found[kept], self.values[kept], n)

    def less(self, other: SparseRows) -> SparseRows:
        """Subtract a matrix whose entries are all among these; drop what becomes zero."""
        mine, theirs = (m.rows() * self.n_columns + m.columns for m in (self, other))
        place = np.minimum(np.searchsorted(mine, theirs), max(len(mine) - 1, 0))
        if not np.array_equal(mine[place], theirs):
            raise InputError("a feature set's arrays have leading bins without their totals")
        values = self.values.astype(np.int64)
        values[place] -= other.values
        kept = np.flatnonzero(values)
        counts = np.bincount(self.rows()[kept], minlength=len(self))
        indptr = np.concatenate(([0], np.cumsum(counts)))
        return SparseRows(indptr, self.columns[kept], values[kept], self.n_columns)

    def matrix(self) -> sparse.csr_array:
        """Return SciPy's matrix of int32, shape (n_rows, n_columns)."""
        from scipy import sparse

        parts = self.values, self.columns, self.indptr
        data, columns, indptr = (part.astype(np.int32) for part in parts)
        return sparse.csr_array((data, columns, indptr), shape=(len(self), self.n_columns))


def stored_rows(
    arrays: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, int]
) -> SparseRows:
    """Return the matrix that `store_csr` put among `arrays`, if it has this shape."""
    counts, tracks, bases = (_column(arrays, f"{name}_{part}") for part in CSR_PARTS)
    if not (
        counts.shape == shape[:1]
        and counts.sum(dtype=np.int64) == len(tracks) == len(bases)
        and (not len(tracks) or int(tracks.max()) < shape[1])
        and int(bases.max(initial=0)) < 1 << 31
    ):
        raise InputError(
            f"a feature set's arrays '{name}' do not fit its {shape[0]} rows and {shape[1]} tracks"
        )
    indptr = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
    return SparseRows(indptr, tracks, bases, shape[1])


def checked_counts(arrays: Mapping[str, npt.NDArray[Any]], name: str) -> IntArray:
    """Return a column of whole numbers, none of them negative, that `compact` made.

    SciPy and NumPy's fast paths believe what they are given: a negative index reads elsewhere in
    memory.
    """
    return _column(arrays, name).astype(np.int64)


def _column(arrays: Mapping[str, npt.NDArray[Any]], name: str) -> npt.NDArray[Any]:
    column = arrays[name]
    if column.ndim != 1 or column.dtype not in (np.uint16, np.uint32):
        raise InputError(f"a feature set's array '{name}' is no column of counts or positions")
    return column


def write_arrays(
    path: Path, arrays: Mapping[str, npt.NDArray[Any]], *, compress: bool = True
) -> None:
    """Write plain arrays to a new file in ``.npz`` format, whatever its name."""
    # Not every NumPy that we support has the keyword allow_pickle here: an old one would store it
    # as one more array. Its annotation would also claim the names of ours.
    save: Callable[..., None] = np.savez_compressed if compress else np.savez
    with open(path, "xb") as stream:  # given a name, NumPy would add .npz to it
        save(stream, **arrays)


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read a ``.npz`` file of plain arrays: numbers and texts; pickled objects are refused.

    Each array's header must account for every byte that the archive says it has, and all of them
    for what is sensible, before memory is taken. Anything else raises InputError.
    """
    try:
        with open_input(path) as stream, zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            packed = os.fstat(stream.fileno()).st_size
            check_expansion(sum(member.file_size for member in members), packed, path)
            arrays = {_array_name(member): member for member in members}
            if len(arrays) < len(members):
                raise ValueError("two arrays have one name")
            return {name: _read_array(archive, member) for name, member in arrays.items()}
    except (
        ValueError,
        OSError,
        EOFError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        OverflowError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise InputError(f"cannot be read as arrays ({error})", path=path) from error


def _array_name(member: zipfile.ZipInfo) -> str:
    """Return the name of an array in an archive, if the member is one that NumPy writes."""
    name = member.filename
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name[:60]!r} is compressed in a way that NumPy does not use")
    if not name.endswith(".npy") or member.flag_bits & _ENCRYPTED:
        raise ValueError(f"{name[:60]!r} is no array")
    return name.removesuffix(".npy")


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """Read one array; no header is evaluated, and none is believed that the size belies."""
    with cast(zipfile.ZipExtFile, archive.open(member)) as stream:
        start = stream.read(10)
        if start[:8] != _NPY_1:
            raise ValueError(f"{member.filename[:60]!r} is no array in NumPy's format 1.0")
        header = stream.read(int.from_bytes(start[8:], "little"))
        match = _NPY_HEADER.fullmatch(header)
        if match is None:
            raise ValueError(f"{member.filename[:60]!r} is no plain array: {header[:80]!r}")
        kind, by_column, dimensions = match.groups()
        dtype = np.dtype(kind.decode())
        shape = tuple(int(size) for size in dimensions.replace(b",", b" ").split())
        size = math.prod(shape) * dtype.itemsize
        if size != member.file_size - len(start) - len(header):
            raise ValueError(f"{member.filename[:60]!r} is not as long as its shape says")
        array = np.empty(shape, dtype, order="F" if by_column == b"True" else "C")
        if size:
            # A transposed view of an array stored by columns is one by rows, and so a plain buffer.
            plain = array.T if by_column == b"True" else array
            rest = plain.reshape(-1).view(np.uint8).data
            while rest:
                n_read = stream.readinto(rest[:_BLOCK])
                if not n_read:
                    raise EOFError(f"{member.filename[:60]!r} ends too early")
                rest = rest[n_read:]
        if stream.read(1):  # reads to the end, which is where the checksum is compared
            raise ValueError(f"{member.filename[:60]!r} is longer than it says")
        return array
