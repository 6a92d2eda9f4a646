"""One family of errors: what happened, where, and what to do about it.

Every error carries the exit code that the command line returns for it, so a
workflow can tell a typing mistake from a corrupt download without reading
English.
"""

from __future__ import annotations

import os

__all__ = [
    "ArtifactError",
    "DecodeZooError",
    "DeviceError",
    "InputError",
    "MissingExtraError",
    "UsageError",
    "VerificationError",
]


class DecodeZooError(Exception):
    """Base of every error that decode-zoo raises on purpose.

    Parameters
    ----------
    message : str
        What happened and where.
    remedy : str, optional
        What the user can do about it; printed on a line of its own.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message if remedy is None else f"{message}\n{remedy}")
        self.message = message
        self.remedy = remedy


class UsageError(DecodeZooError):
    """The call itself is wrong: unknown output, conflicting options (exit code 2)."""

    exit_code = 2


class MissingExtraError(UsageError):
    """An optional dependency is not installed (exit code 2).

    Parameters
    ----------
    package : str
        The module that could not be imported.
    extra : str
        The extra of decode-zoo that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"This needs the package '{package}', which is not installed.",
            remedy=f"Install it with: pip install 'decode-zoo[{extra}]'",
        )


class ArtifactError(DecodeZooError):
    """A model or feature set is unknown or cannot be had (exit code 3)."""

    exit_code = 3


class InputError(DecodeZooError):
    """A file or value from the user cannot be used (exit code 4).

    Parameters
    ----------
    message : str
        What is wrong.
    path : str or os.PathLike, optional
        The file it is in.
    line : int, optional
        The line, counted from 1.
    remedy : str, optional
        What the user can do about it.
    """

    exit_code = 4

    def __init__(
        self,
        message: str,
        *,
        path: str | os.PathLike[str] | None = None,
        line: int | None = None,
        remedy: str | None = None,
    ) -> None:
        where = ""
        if path is not None:
            where = os.fspath(path) + (f", line {line}" if line is not None else "") + ": "
        super().__init__(where + message, remedy=remedy)
        self.path = path
        self.line = line


class VerificationError(DecodeZooError):
    """An artifact is not what its registry or manifest says it is (exit code 5)."""

    exit_code = 5


class DeviceError(DecodeZooError):
    """The device that was asked for is not the one that would be used (exit code 6)."""

    exit_code = 6
