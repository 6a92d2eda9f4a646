"""The machine: cores that this process may use, and libraries that write past Python."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TypeVar

from threadpoolctl import threadpool_limits

from decode_zoo.core.errors import MissingExtraError

__all__ = ["allowed_cores", "check_packages", "one_core", "share_out", "silence_stderr"]

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MOST = 1 << 16  # bytes


def allowed_cores() -> int:
    """Return how many cores this process may use; cpusets and batch systems may allow few."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def one_core() -> AbstractContextManager[object]:
    """Let matrix products run on one core each: on several, their last bits depend on how many."""
    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits


def share_out(work: Callable[[_Task], _Result], tasks: Iterable[_Task]) -> Iterator[_Result]:
    """Map a function of many small matrix products over tasks, in threads; keep the order.

    Each task's products run on one core: with threads of their own they would wait for each other
    most of the time, and their last bits could depend on how many there are. `work` releases the
    GIL most of the time, as NumPy does.
    """
    with one_core():
        pool = ThreadPoolExecutor(max_workers=allowed_cores())
        try:
            yield from pool.map(work, tasks)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def silence_stderr(*, unless_it_fails: bool = False) -> Iterator[list[str]]:
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


def check_packages(extra: str, *packages: str) -> None:
    """Raise MissingExtraError, which names EXTRA, if a package is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra)
