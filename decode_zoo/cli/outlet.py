"""Standard output and error whose reader may leave: what comes then is lost, the work goes on.

`decode-zoo verify --all | head -1` must verify all, and end with the code of what it found.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["patient_streams"]


class _Patient(io.TextIOWrapper):
    """A text stream that goes nowhere once its reader (head, less) has seen enough."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            self._discard()

    def _discard(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)


@contextmanager
def patient_streams() -> Iterator[None]:
    """Make standard output and error patient for a while."""
    streams = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    patient = {
        name: _Patient(
            stream.buffer,
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        for name, stream in streams.items()
        if isinstance(stream, io.TextIOWrapper)  # neither closed nor somebody's own
    }
    for name, stream in patient.items():
        streams[name].flush()
        setattr(sys, name, stream)
    try:
        yield
    finally:
        for name, stream in patient.items():
            setattr(sys, name, streams[name])
            with suppress(OSError):  # detaching would flush, too, and leave it half done
                stream.flush()
            stream.detach()  # or it would close what is under it
