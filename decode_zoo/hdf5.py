"""HDF5 files that survive a full disk.

If a write fails, the HDF5 library keeps the file open for good, tries again at the end of the
process and dies of it, whatever Python makes of the error. Here it never sees one, nor Ctrl-C.
"""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Disk", "create_hdf5"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Disk(io.RawIOBase):
    """A new file on a disk that may fill up.

    From the first write that fails on, what is written is kept in memory, so that the library can
    read it back and come to an end. Whoever writes much asks `check` now and then.

    Parameters
    ----------
    path : Path
        Must not exist.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = io.FileIO(path, "x+")
        self._place = self._size = 0
        self._late: list[tuple[int, bytes]] = []
        self._error: OSError | None = None
        self._signals: list[int] = []

    def check(self) -> None:
        """Raise what went wrong, if anything did (OSError), or KeyboardInterrupt if it came."""
        if self._signals:
            raise KeyboardInterrupt
        if self._error is not None:
            raise self._error

    @contextmanager
    def signals_held(self) -> Iterator[None]:
        """Let signals wait: what they raise in the library's calls to this file would be lost."""
        held = {}
        if threading.current_thread() is threading.main_thread():  # no other is struck by them
            for number in _SIGNALS:
                if callable(handler := signal.getsignal(number)):
                    held[number] = handler
                    signal.signal(number, lambda number, frame: self._signals.append(number))
        try:
            yield
        finally:
            for number, handler in held.items():
                signal.signal(number, handler)
            for came in self._signals:
                signal.raise_signal(came)

    def close(self) -> None:
        """Close the file and forget what did not go into it."""
        self._file.close()
        self._late.clear()
        super().close()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, which may lie behind the end."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def truncate(self, size: int | None = None) -> int:
        """Make the file as long as this."""
        self._size = self._place if size is None else size
        self._try(lambda: self._file.truncate(self._size))
        return self._size

    def readinto(self, buffer: Any) -> int:
        """Read what was written, wherever it is."""
        view = memoryview(buffer).cast("B")
        start, stop = self._place, min(self._place + len(view), self._size)
        self._file.seek(start)
        data = bytearray(self._file.read(max(stop - start, 0)) or b"")
        data.extend(bytes(max(stop - start - len(data), 0)))
        for place, part in self._late:
            first, last = max(place, start), min(place + len(part), stop)
            if first < last:
                data[first - start : last - start] = part[first - place : last - place]
        view[: len(data)] = data
        self._place = start + len(data)
        return len(data)

    def write(self, data: Any) -> int:
        """Write all of it, to disk or to memory."""
        part, start = memoryview(data).cast("B"), self._place
        self._place += len(part)
        self._size = max(self._size, self._place)
        if not self._try(lambda: self._put(start, part)):
            self._late.append((start, bytes(part)))
        return len(part)

    def _put(self, start: int, part: memoryview) -> None:
        self._file.seek(start)
        while part:
            part = part[self._file.write(part) :]

    def _try(self, step: Callable[[], object]) -> bool:
        if self._error is None:
            try:
                step()
            except OSError as error:
                self._error = error
        return self._error is None


@contextmanager
def create_hdf5(path: Path) -> Iterator[tuple[Any, Disk]]:
    """Create an HDF5 file.

    Parameters
    ----------
    path : Path
        Must not exist.

    Yields
    ------
    file : h5py.File
    disk : Disk
        What it is written to.

    Raises
    ------
    OSError
        At the end, if not all of it could be written.
    KeyboardInterrupt
        At the end, if that, or SIGTERM, came meanwhile.
    """
    import h5py

    with Disk(path) as disk:
        with disk.signals_held(), h5py.File(disk, "w") as file:
            yield file, disk
        disk.check()
