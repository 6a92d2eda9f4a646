"""Processes, as what outlives them names them: on which machine, under which number, since when.

What a killed process leaves can be told from what a living one is at only if it carries the name of
its owner.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from contextlib import suppress
from pathlib import Path

__all__ = ["has_ended", "machine", "started"]


@functools.cache
def machine() -> str:
    """Name what process numbers are unique in: containers may share a host's name."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii"))
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def started(pid: int) -> str:
    """Tell when a process of this machine began: what tells it from a later one of its number.

    Parameters
    ----------
    pid : int

    Returns
    -------
    str
        Ticks since the machine did; "0" where the system does not say.
    """
    return _facts(pid)[1]


def has_ended(where: str, pid: int, since: str = "0") -> bool:
    """Tell whether a process is known to have ended.

    Parameters
    ----------
    where : str
        Its `machine`.
    pid : int
        Its number.
    since : str
        When it `started`; "0" if that is not known.

    Returns
    -------
    bool
        False also if nobody here can know, as of another machine.
    """
    # Windows has no such question, and would kill the process.
    if where != machine() or os.name == "nt":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OverflowError:
        return False
    except OSError:  # it lives, and is of another user
        pass
    state, now = _facts(pid)
    # A zombie has ended, and nobody has asked how.
    return state in ("Z", "X") or ("0" not in (since, now) and since != now)


def _facts(pid: int) -> tuple[str, str]:
    """State and start of a process, as Linux gives them; empty and "0" elsewhere."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
    except OSError:
        return "", "0"
    # The name of the program, in brackets, may hold blanks and brackets itself.
    fields = text.rpartition(")")[2].split()
    return fields[0], fields[19]
