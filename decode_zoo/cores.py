"""Cores that this process may use, and work shared between them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TypeVar

from threadpoolctl import threadpool_limits

__all__ = ["allowed_cores", "one_core", "share_out"]

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


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
