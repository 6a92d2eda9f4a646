"""SHA-256 of files, the one way in which artifacts and inputs are named exactly."""

from __future__ import annotations

import hashlib
import os

__all__ = ["sha256_of"]

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
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
