"""Silence for libraries that write to standard error themselves, past Python."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["quiet"]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MOST = 1 << 16  # bytes


@contextmanager
def quiet(*, unless_it_fails: bool = False) -> Iterator[list[str]]:
    """Keep what is written to the process's standard error to itself for a while.

    ONNX Runtime writes coloured lines there when it finds no GPU, TensorFlow greets, both before
    they could be told not to. Yields a list, which holds those lines without colours once the
    block has ended; with `unless_it_fails`, they are written after all if it raises.
    """
    lines: list[str] = []
    with suppress(OSError, ValueError, AttributeError):  # closed, or none
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # nowhere to write to
        yield lines
        return
    try:
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), 2)
            try:
                yield lines
            except BaseException:
                if unless_it_fails:
                    file.seek(0)
                    os.write(kept, file.read())
                raise
            finally:
                os.dup2(kept, 2)
                file.seek(0)
                text = file.read(_MOST).decode("utf-8", "replace")
                lines += filter(None, map(str.strip, _COLOUR.sub("", text).splitlines()))
    finally:
        os.close(kept)
