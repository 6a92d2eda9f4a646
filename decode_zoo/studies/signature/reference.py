"""What signatures of perturbed TFs have in common: weights and usual values, and where they lie.

Made by ``python -m benchmarks.signature --fit`` (docs/signature.md).
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from decode_zoo.errors import VerificationError
from decode_zoo.schema import from_plain, parse_json

__all__ = ["Reference", "read_reference"]


@dataclass(frozen=True)
class Reference:
    """What signatures of perturbed TFs have in common.

    Typical number of their genes (`set_size`), genes that they were compared with (`background`),
    weights of ``binding``, ``own`` and ``match``, share of signatures that a gene is in, spread of
    a track's scores over signatures. By track, mean and spread of its scores; by TF, its gene id
    ('' without), and by that id the share of signatures that the gene is in.
    """

    format_version: int
    set_size: float
    background: int
    weights: Mapping[str, float]
    usual_frequency: float
    usual_spread: float
    tracks: Mapping[str, tuple[float, float]]
    regulators: Mapping[str, str]
    frequencies: Mapping[str, float]


@lru_cache(maxsize=1)
def read_reference() -> Reference:
    """Read the reference that the package carries."""
    path = Path(__file__).with_name("reference.json.gz")
    try:
        found = from_plain(Reference, parse_json(gzip.decompress(path.read_bytes())))
    except (OSError, EOFError, ValueError) as error:
        raise VerificationError(
            f"{path} cannot be read ({error}).", remedy="Install decode-zoo again."
        ) from error
    return found
