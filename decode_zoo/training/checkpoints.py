"""How far networks in training have come, kept beside a bundle until it is whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from decode_zoo.core.arrays import read_arrays, write_arrays
from decode_zoo.core.errors import InputError
from decode_zoo.core.files import atomic_path

__all__ = ["Checkpoints", "Progress"]

_LOG = "log"


@dataclass(frozen=True)
class Progress:
    """A network after some epochs: its losses, and all arrays that the next epoch depends on."""

    history: dict[str, list[float]]
    seconds: float
    arrays: dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Checkpoints:
    """A folder with a file a network, named by its seed and a hash of all else that decides it."""

    folder: Path
    settings: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Hash of the settings."""
        text = json.dumps(self.settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _path(self, seed: int) -> Path:
        return self.folder / f"seed{seed}.{self.key}.npz"

    def load(self, seed: int) -> Progress | None:
        """Return how far a network has come, if that is there and whole."""
        path = self._path(seed)
        if not path.exists():
            return None
        try:
            arrays = read_arrays(path)
            return Progress(arrays=arrays, **json.loads(str(arrays.pop(_LOG))))
        except (InputError, ValueError, KeyError, TypeError):
            path.unlink()
            return None

    def save(self, seed: int, progress: Progress) -> None:
        """Keep a network in place of what it was before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = json.dumps({"history": progress.history, "seconds": progress.seconds})
        with atomic_path(self._path(seed)) as temporary:
            write_arrays(temporary, {**progress.arrays, _LOG: np.array(log)}, compress=False)
