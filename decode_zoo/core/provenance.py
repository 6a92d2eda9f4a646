"""Where a result comes from: versions, arguments, artifacts."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from decode_zoo.core import __version__
from decode_zoo.core.files import sha256_of

__all__ = ["origin_of", "plain", "provenance", "provenance_path"]

_PACKAGES = ("numpy", "scipy", "pandas", "onnxruntime", "onnxruntime-gpu", "tensorflow", "qnorm")


def provenance(command: Sequence[str], **facts: object) -> dict[str, Any]:
    """Describe how a result came about, in what JSON has.

    `facts` are what else a reader must know: sha256s of artifacts, back end, seeds.
    """
    packages = {name: version for name in _PACKAGES if (version := _version(name))}
    return {
        "command": [str(word) for word in command],
        "decode_zoo": _version("decode-zoo") or __version__,
        "python": platform.python_version(),
        "packages": packages,
        "platform": platform.platform(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **plain(facts),
    }


def origin_of(file: Path | None) -> dict[str, str] | None:
    """Return name and sha256 of an input file; None for no file and for standard input."""
    if file is None or str(file) == "-" or not file.is_file():
        return None
    return {"file": file.name, "sha256": sha256_of(file)}


def provenance_path(path: str | os.PathLike[str]) -> Path:
    """Return where the provenance of the output `path` is written."""
    return Path(f"{os.fspath(path)}.provenance.json")


def _version(package: str) -> str | None:
    import importlib.metadata  # which brings the readers of mail along

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def plain(value: object) -> Any:
    """Turn a value into what JSON has; NaN and infinity, which it lacks, into null."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
