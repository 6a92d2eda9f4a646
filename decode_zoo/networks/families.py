"""Families of networks: what a manifest's ``family`` may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from decode_zoo.networks.decode import DecodeConfig, DecodeNetwork
from decode_zoo.networks.perceptron import PerceptronConfig, PerceptronNetwork

__all__ = ["FAMILIES", "Config", "Family", "Network", "family_of"]

Config = DecodeConfig | PerceptronConfig
Network = DecodeNetwork | PerceptronNetwork


@dataclass(frozen=True)
class Family:
    """A kind of network: hyper-parameters, and arrays with what surrounds them."""

    config: type[Config]
    network: type[Network]


# A manifest's family and its hyper-parameters decide all: kernels, shapes, what is not linear.
FAMILIES: Mapping[str, Family] = {
    "decode": Family(DecodeConfig, DecodeNetwork),
    "perceptron": Family(PerceptronConfig, PerceptronNetwork),
}


def family_of(config: Config) -> str:
    """Return the name of the family whose hyper-parameters these are."""
    return next(name for name, family in FAMILIES.items() if type(config) is family.config)
