"""Settings: the hyper-parameters of a training by name, as the command line has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from decode_zoo.core.errors import UsageError
from decode_zoo.networks.decode import DecodeConfig
from decode_zoo.networks.families import Config
from decode_zoo.networks.perceptron import PerceptronConfig
from decode_zoo.training.finetune import FinetuneFit
from decode_zoo.training.fit import FitConfig
from decode_zoo.training.members import PerceptronFit

__all__ = ["RECIPES", "Recipe", "default_settings", "read_finetune", "read_settings"]

Value = bool | int | float

# How many networks are trained decides them: nobody should have to say it twice.
_BY_REPEATS = ("members", "seeds")


@dataclass(frozen=True)
class Recipe:
    """Configuration and fit of a family, and how many networks to train unless told otherwise."""

    config: type[Config]
    fit: type[FitConfig | PerceptronFit]
    repeats: int


RECIPES: Mapping[str, Recipe] = {
    "perceptron": Recipe(PerceptronConfig, PerceptronFit, repeats=3),
    "decode": Recipe(DecodeConfig, FitConfig, repeats=10),
}


def default_settings(family: str) -> dict[str, Value]:
    """List the settings of a family (of `RECIPES`) with their defaults."""
    recipe = RECIPES[family]
    every = {**vars(recipe.config()), **vars(recipe.fit())}
    return {name: value for name, value in every.items() if name not in _BY_REPEATS}


def read_settings(
    family: str, texts: Sequence[str] = (), repeats: int | None = None
) -> tuple[Config, FitConfig | PerceptronFit]:
    """Make the hyper-parameters of a training from texts ``NAME=VALUE``.

    Names are those of `default_settings`, whose default decides what a value must be. `repeats`
    networks have the seeds 1, 2, …: candidates of which the best is kept or, in families that have
    members, the members of one. Raises UsageError, which lists the settings, for a wrong name or
    value.
    """
    recipe, given = RECIPES[family], _parse(f"the family {family}", texts, default_settings(family))
    number = recipe.repeats if repeats is None else repeats

    def made(kind: type[Any], **counted: Any) -> Any:
        names = vars(kind())
        own = {name: value for name, value in (given | counted).items() if name in names}
        return kind(**own)

    # The network first: it knows how many members are too many.
    config = made(recipe.config, members=number)
    return config, made(recipe.fit, seeds=tuple(range(1, number + 1)))


def read_finetune(texts: Sequence[str] = (), repeats: int = 1) -> FinetuneFit:
    """Make the hyper-parameters of fine-tuning, as `read_settings` does."""
    defaults = {name: value for name, value in vars(FinetuneFit()).items() if name != "seeds"}
    given: dict[str, Any] = _parse("fine-tuning", texts, defaults)
    return FinetuneFit(**given, seeds=tuple(range(1, repeats + 1)))


def _parse(what: str, texts: Sequence[str], defaults: Mapping[str, Value]) -> dict[str, Value]:
    """Read the settings that are given."""
    found: dict[str, Value] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        try:
            if not equals:
                raise ValueError("a setting is NAME=VALUE")
            if name in _BY_REPEATS:
                raise ValueError(f"--repeats decides the {name}")
            if name not in defaults:
                raise ValueError(f"{what} has no '{name}'")
            if name in found:
                raise ValueError(f"{name} is given twice")
            found[name] = _value_of(value, defaults[name])
        except ValueError as error:
            listed = ", ".join(f"{name}={_text_of(value)}" for name, value in defaults.items())
            raise UsageError(
                f"--set {text}: {error}.",
                remedy=f"Settings of {what.removeprefix('the family ')}, by default: {listed}.",
            ) from None
    return found


def _value_of(text: str, default: Value) -> Value:
    """Read a value of the default's type."""
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise ValueError(f"it must be true or false, not '{text}'")
        return text == "true"
    try:
        value = type(default)(text)
    except ValueError:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise ValueError(f"it must be {kind}, not '{text}'") from None
    if not math.isfinite(value):
        raise ValueError(f"it must be finite, not '{text}'")
    return value


def _text_of(value: Value) -> str:
    """Write a value as it is read."""
    return str(value).lower() if isinstance(value, bool) else str(value)
