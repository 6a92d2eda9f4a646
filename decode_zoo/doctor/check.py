"""One finding of the doctor, with nothing secret in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from decode_zoo.display import masked, printable
from decode_zoo.errors import DecodeZooError

__all__ = ["Check", "broken", "exit_code", "ok", "problem", "summary", "warning"]

State = Literal["ok", "warning", "problem"]

# Worst first: wrong numbers, then what stops work, then what may.
_WORST = (5, 6, 3, 4, 2, 1)


@dataclass(frozen=True)
class Check:
    """What was looked at and found.

    Attributes
    ----------
    name : str
    state : {"ok", "warning", "problem"}
    found : str
        For people; one line.
    remedy : str or None
        What to do about it.
    code : int
        Exit code of a problem, 0 otherwise.
    facts : dict
        For programs, in terms that JSON has.
    """

    name: str
    state: State
    found: str
    remedy: str | None = None
    code: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Mask what is secret, whatever text it came in with."""
        for name in ("name", "found", "remedy", "facts"):
            object.__setattr__(self, name, _clean(getattr(self, name)))

    def as_json(self) -> dict[str, Any]:
        """Return it in terms that JSON has."""
        return asdict(self)


def ok(name: str, found: str, remedy: str | None = None, /, **facts: object) -> Check:
    """Report that all is well; a remedy is only advice then."""
    return Check(name, "ok", found, remedy, facts=facts)


def warning(name: str, found: str, remedy: str, /, **facts: object) -> Check:
    """Report what works, but might not for long, or not as fast as it could."""
    return Check(name, "warning", found, remedy, facts=facts)


def problem(name: str, found: str, remedy: str | None, code: int, /, **facts: object) -> Check:
    """Report what makes this installation unhealthy."""
    return Check(name, "problem", found, remedy, code, facts)


def broken(name: str, error: Exception) -> Check:
    """Report a check that an error ended."""
    if isinstance(error, DecodeZooError):
        return problem(name, _one_line(error.message), error.remedy, error.exit_code)
    found = f"this check broke: {type(error).__name__}: {_one_line(str(error))}"
    return problem(name, found, "See what stands above it first; else it is a bug.", 1)


def exit_code(checks: Iterable[Check]) -> int:
    """Return 0 if there is no problem, else the code of the worst."""
    codes = {check.code for check in checks if check.state == "problem"}
    return next((code for code in _WORST if code in codes), 1 if codes else 0)


def summary(checks: Iterable[Check]) -> str:
    """Say in one line how healthy this is."""
    names: dict[str, list[str]] = {"problem": [], "warning": [], "ok": []}
    for check in checks:
        names[check.state].append(check.name)
    parts = [
        f"{len(names[state])} {state}{'s' * (len(names[state]) > 1)} ({', '.join(names[state])})"
        for state in ("problem", "warning")
        if names[state]
    ]
    if names["problem"]:
        return f"Not healthy: {'; '.join(parts)}."
    return f"Healthy{'; ' if parts else ''}{'; '.join(parts)}."


def _safe(text: str) -> str:
    return "\n".join(map(printable, masked(text).split("\n")))


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _safe(value)
    if isinstance(value, Mapping):
        return {_safe(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value


def _one_line(text: str) -> str:
    return " ".join(text.split())
