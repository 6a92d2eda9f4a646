"""Arrays as text that a page can hold and a script can read back."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["pack", "steps_for", "to_steps"]

_ALIGNMENT = 4  # a typed array of a script starts at a multiple of its item size


def pack(arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[dict[str, list[Any]], str]:
    """Pack arrays of up to four bytes an item into one text.

    Parameters
    ----------
    arrays : Mapping of str to ndarray
        Their shapes are not kept.

    Returns
    -------
    layout : dict of str to [dtype, offset, length]
        dtype as ``uint16``, offset in bytes of the unpacked data, length in items.
    text : str
        Base64 of the gzipped little-endian data.
    """
    layout: dict[str, list[Any]] = {}
    data = bytearray()
    for name, array in arrays.items():
        layout[name] = [array.dtype.name, len(data), array.size]
        data += array.astype(array.dtype.newbyteorder("<")).tobytes()
        data += bytes(-len(data) % _ALIGNMENT)
    # No time in the header: the same numbers, the same text.
    return layout, base64.b64encode(gzip.compress(bytes(data), 6, mtime=0)).decode()


def steps_for(largest: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Choose what scores are rounded to: 0.0001, or more (0.0002, 0.0005, …) to fit 16 bits.

    Parameters
    ----------
    largest : ndarray
        Largest absolute scores.

    Returns
    -------
    ndarray of float64
        A step for each.
    """
    # Above the largest number in single precision.
    steps = np.array([float(f"{digit}e{power}") for power in range(-4, 36) for digit in (1, 2, 5)])
    return steps[np.searchsorted(steps, largest / np.iinfo(np.int16).max)]


def to_steps(
    values: npt.NDArray[np.floating], step: npt.NDArray[np.floating]
) -> npt.NDArray[np.int16]:
    """Round to whole numbers of steps."""
    return np.rint(values / step).astype(np.int16)
