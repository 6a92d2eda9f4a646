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
from decode_zoo.records import from_plain, parse_json

__all__ = ["Reference", "read_reference"]


@dataclass(frozen=True)
class Reference:
    """What signatures of perturbed TFs have in common.

    Attributes
    ----------
    format_version : int
    set_size : float
        Typical number of their genes.
    background : int
        Genes that they were compared with.
    weights : Mapping[str, float]
        Of ``binding``, ``own`` and ``match``.
    usual_frequency : float
        Share of signatures that a gene is in.
    usual_spread : float
        Spread of a track's scores over signatures.
    tracks : Mapping[str, tuple of float]
        Track → mean and spread of its scores.
    regulators : Mapping[str, str]
        TF → gene id, '' without; those without a track are ranked by their other evidence.
    frequencies : Mapping[str, float]
        Gene id of a regulator → share of signatures that it is in.
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
    """Read the reference that the package carries.

    Raises
    ------
    VerificationError
        If the installation is damaged.
    """
    path = Path(__file__).with_name("reference.json.gz")
    try:
        found = from_plain(Reference, parse_json(gzip.decompress(path.read_bytes())))
    except (OSError, EOFError, ValueError) as error:
        raise VerificationError(
            f"{path} cannot be read ({error}).", remedy="Install decode-zoo again."
        ) from error
    return found
