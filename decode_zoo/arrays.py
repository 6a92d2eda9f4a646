"""Arrays in ``.npz`` files: no pickles, small types, sparse matrices as three columns."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from decode_zoo.errors import InputError

__all__ = ["CSR_PARTS", "compact", "read_arrays", "store_csr", "stored_csr", "write_arrays"]

IntArray = npt.NDArray[np.int64]

# A sparse matrix is stored as entries a row, their columns, and their values.
CSR_PARTS = ("counts", "tracks", "bases")


def compact(values: npt.NDArray[np.integer[Any]]) -> npt.NDArray[Any]:
    """Store whole numbers, not negative and below 2**32, in the smallest type that holds them.

    Raises
    ------
    OverflowError
        If a number is outside that range.
    """
    top = int(values.max(initial=0))
    if values.min(initial=0) < 0 or top >= 1 << 32:
        raise OverflowError("positions and counts must lie between 0 and 2**32 - 1")
    return values.astype(np.uint16 if top < 1 << 16 else np.uint32)


def store_csr(arrays: dict[str, npt.NDArray[Any]], name: str, matrix: sparse.csr_array) -> None:
    """Put a matrix among `arrays` as ``<name>_counts`` (by row), ``_tracks`` and ``_bases``."""
    arrays[f"{name}_counts"] = compact(np.diff(matrix.indptr))
    arrays[f"{name}_tracks"] = compact(matrix.indices)
    arrays[f"{name}_bases"] = compact(matrix.data)


def stored_csr(
    arrays: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, int]
) -> sparse.csr_array:
    """Get a matrix of int32 that `store_csr` put among `arrays`.

    Raises
    ------
    InputError
        If the arrays do not describe a matrix of this shape.
    """
    counts, tracks, bases = (arrays[f"{name}_{part}"].astype(np.int32) for part in CSR_PARTS)
    fits = counts.shape == shape[:1] and counts.sum() == len(tracks) == len(bases)
    if not fits or tracks.max(initial=0) >= max(shape[1], 1):
        raise InputError(f"a feature set's arrays '{name}' do not fit its {shape[0]} rows and "
                         f"{shape[1]} tracks")  # fmt: skip
    indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    return sparse.csr_array((bases, tracks, indptr), shape=shape)


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
    """Read a ``.npz`` file of plain arrays; pickled objects are refused.

    Raises
    ------
    InputError
        If the file is damaged or holds objects.
    """
    try:
        # Opened here because np.load leaves a file that is no archive open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"cannot be read as arrays ({error})", path=path) from error
