"""SHA-256 of files, the one way in which artifacts and inputs are named exactly."""

from __future__ import annotations

import hashlib
import os
from typing import BinaryIO

__all__ = ["sha256_of", "sha256_of_stream"]

_BLOCK = 1 << 20


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Hash a file block by block, so that its size does not matter.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with open(path, "rb") as file:
        return sha256_of_stream(file)


def sha256_of_stream(file: BinaryIO, most: int | None = None) -> str:
    """Hash what is left of an open file, or the next bytes of it.

    Parameters
    ----------
    file : BinaryIO
    most : int, optional
        Bytes after which to stop, for a file that may grow meanwhile.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    digest, left = hashlib.sha256(), most
    while block := file.read(_BLOCK if left is None else min(_BLOCK, left)):
        digest.update(block)
        left = None if left is None else left - len(block)
    return digest.hexdigest()
