"""One transfer: from one source, a URL or a file, to one verified file.

What arrives goes to a temporary name beside the target, is measured and hashed on its way, flushed
to disk and renamed. Correctness rests on that alone: any number of processes may do it at once, and
no lock is needed, for locks do nothing on many a cluster's file system.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

from decode_zoo import __version__
from decode_zoo.plainfile import open_plain
from decode_zoo.registry import FileEntry

__all__ = ["TransferError", "is_url", "leftovers", "public", "request_headers", "transfer"]

_TIMEOUT = (10.0, 30.0)  # seconds: to connect, between two packets
_WINDOW = 60.0  # seconds
_LEAST = 1 << 15  # bytes in each window
_BLOCK = 1 << 14  # well below _LEAST, for what has arrived is seen block by block
_REDIRECTS = 5
_ABANDONED = 24 * 3600.0  # seconds
_BUSY = (429, 500, 502, 503, 504)
_PARTIAL = re.compile(r"\..+\.([0-9a-f]{8})-([0-9]+)-[0-9a-f]{16}\.part")


class TransferError(Exception):
    """A source did not give the file; another one may.

    Parameters
    ----------
    message : str
        What the source did.
    wait : float or None
        Seconds after which it is worth asking again; None if it is not.
    """

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def is_url(source: str) -> bool:
    """Tell whether a source is reached over the network.

    Parameters
    ----------
    source : str
        URL, file URL or path.

    Returns
    -------
    bool
        True for http and https.
    """
    return re.match(r"https?://", source, re.IGNORECASE) is not None


def request_headers() -> dict[str, str]:
    """Return the headers of our requests."""
    import requests

    return {
        # Some hosts limit clients without a name of their own.
        "User-Agent": f"decode-zoo/{__version__} (Python {platform.python_version()}; "
        f"{platform.system()}) {requests.utils.default_user_agent()}",
        # The sizes are those of the stored files.
        "Accept-Encoding": "identity",
    }


def public(text: str) -> str:
    """Strip passwords from the URLs in a text, so that it can be shown.

    Parameters
    ----------
    text : str
        A URL, or a message with URLs in it.

    Returns
    -------
    str
        Without what stands between ``://`` and ``@``.
    """
    return re.sub(r"://[^/\s]*@", "://", text)


def transfer(source: str, target: Path, entry: FileEntry, advance: Callable[[int], object]) -> None:
    """Bring a file from one source; `target` is replaced by a verified file or not touched.

    Parameters
    ----------
    source : str
        URL (http, https, file) or path. Of a link, a pipe or a device nothing is taken.
    target : Path
        File to write; its folder exists.
    entry : FileEntry
        What the file must be.
    advance : callable
        Called with the number of bytes of each block.

    Raises
    ------
    TransferError
        If the source does not give this very file.
    OSError
        If it cannot be written here.
    """
    partial = target.with_name(_partial_name(target.name))
    try:
        with open(partial, "xb") as file:
            sink = _Sink(file, entry.size, advance)
            _receive(source, sink, entry)
            file.flush()
            os.fsync(file.fileno())
        if target.parent.stat().st_mode & stat.S_IWGRP:
            # Others of the group are to use the file, whatever this user's umask is.
            with suppress(OSError):
                partial.chmod(stat.S_IMODE(partial.stat().st_mode) | stat.S_IRGRP)
        os.replace(partial, target)
    finally:
        with suppress(OSError):
            partial.unlink()


def leftovers(folder: Path) -> list[Path]:
    """Find temporary files whose writers are gone, e.g. killed.

    Parameters
    ----------
    folder : Path
        Where to look, folders in it included.

    Returns
    -------
    list of Path
        Files of dead processes of this machine, and files of others that were not written
        to for a day.
    """
    return sorted(path for path in folder.rglob(".*.part") if _is_left(path))


def _is_left(path: Path) -> bool:
    name = _PARTIAL.fullmatch(path.name)
    # Windows has no such question, and would kill the process.
    if name and name[1] == _machine() and os.name != "nt":
        try:
            os.kill(int(name[2]), 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            pass
        return False
    try:
        return time.time() - path.lstat().st_mtime > _ABANDONED
    except OSError:
        return False


def _partial_name(name: str) -> str:
    return f".{name}.{_machine()}-{os.getpid()}-{secrets.token_hex(8)}.part"


@functools.cache
def _machine() -> str:
    """Name what process numbers are unique in: containers may share a host's name."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii"))
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


class _Sink:
    """Takes what arrives, and ends a transfer at the first byte too many."""

    def __init__(self, file: IO[bytes], size: int, advance: Callable[[int], object]) -> None:
        self._file = file
        self._size = size
        self._advance = advance
        self.digest = hashlib.sha256()
        self.received = 0
        self.closed = False
        self.failure: OSError | None = None

    def write(self, block: bytes) -> int:
        if self.closed:
            raise TransferError("given up")
        if self.received + len(block) > self._size:
            raise TransferError(f"sent more than the expected {self._size} bytes")
        try:
            self._file.write(block)
        except OSError as error:
            self.failure = error
            raise
        self.digest.update(block)
        self.received += len(block)
        self._advance(len(block))
        return len(block)

    def flush(self) -> None:
        """Leave it to the file; pooch asks after each block."""


def _receive(source: str, sink: _Sink, entry: FileEntry) -> None:
    """Write a source to a sink and compare; TransferError is the source's fault, OSError ours."""
    judge = _Judge(entry.size)
    try:
        if is_url(source):
            _copy_url(source, sink, judge)
        else:
            _copy_file(source, sink)
        if sink.received != entry.size:
            raise TransferError(
                f"not the published file: expected {entry.size} bytes, got {sink.received}"
            )
        if (sha256 := sink.digest.hexdigest()) != entry.sha256:
            raise TransferError(
                f"not the published file: expected sha256 {entry.sha256}, got {sha256}"
            )
    # Whatever a server, a proxy or a network disk does, the next mirror may do better.
    except Exception as error:
        if error is sink.failure:
            raise
        message = public(str(error)) or type(error).__name__
        wait = error.wait if isinstance(error, TransferError) else None
        raise TransferError(message + judge.note, wait) from error


def _copy_url(url: str, sink: _Sink, judge: _Judge) -> None:
    import pooch
    import requests
    from urllib3.exceptions import ProtocolError

    download = pooch.HTTPDownloader(
        chunk_size=_BLOCK,
        timeout=_TIMEOUT,
        headers=request_headers(),
        hooks={"response": judge},
    )

    def work() -> None:
        try:
            download(url, sink, None)
        finally:  # pooch leaves it open when a transfer fails
            judge.close()

    try:
        _watch(work, sink)
    except requests.RequestException as error:
        inner = error.args[0] if error.args else None
        broken = isinstance(inner, ProtocolError)  # not refused, not timed out: reset, cut off
        while isinstance(deeper := getattr(inner, "reason", None), Exception):
            inner = deeper
        raise TransferError(str(inner or error), wait=0.0 if broken else None) from error


def _watch(work: Callable[[], object], sink: _Sink) -> None:
    """Run a transfer in a thread of its own, and leave it when too little arrives.

    The limit between two packets does not hold for the look-up of a name, nor against a server
    that sends a byte now and then.
    """
    failures: list[Exception] = []
    done = threading.Event()

    def run() -> None:
        try:
            work()
        except Exception as error:
            failures.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name="decode-zoo download", daemon=True).start()
    seen = 0
    try:
        while not done.wait(_WINDOW):
            if sink.received - seen < _LEAST:
                raise TransferError(f"too slow: fewer than {_LEAST} bytes in {_WINDOW:g} seconds")
            seen = sink.received
    finally:
        sink.closed = True  # should the thread live on, its next block ends it
    if failures:
        raise failures[0]


class _Judge:
    """Looks at each answer of a server before its body is read."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._redirects = 0
        self._url = ""
        self._is_page = False
        self.close: Callable[[], object] = lambda: None

    @property
    def note(self) -> str:
        """What else there is to say about a failure."""
        note = "; it sent a web page, perhaps of a login or a proxy" if self._is_page else ""
        # Behind the question mark are often signatures, which are secrets of a kind.
        url = re.sub(r"[?#].*", "", public(self._url))
        return note + (f" (redirected to {url})" if self._redirects else "")

    def __call__(self, response: Any, *args: object, **kwargs: object) -> None:
        """Raise TransferError unless the answer can be the file or leads to it."""
        self._url = response.url
        self.close = response.close
        if response.is_redirect:
            self._follow(response)
        else:
            self._accept(response)

    def _follow(self, response: Any) -> None:
        self._redirects += 1
        if self._redirects > _REDIRECTS:
            raise TransferError(f"more than {_REDIRECTS} redirects")
        self._url = urljoin(response.url, response.headers["Location"])
        scheme = urlsplit(self._url).scheme
        if scheme != "https" and (scheme != "http" or urlsplit(response.url).scheme == "https"):
            raise TransferError("a redirect that is not followed, from "
                                f"{urlsplit(response.url).scheme} to {scheme}")  # fmt: skip
        response.close()  # requests would read its body, which may be endless

    def _accept(self, response: Any) -> None:
        headers = response.headers
        self._is_page = headers.get("Content-Type", "").lower().startswith("text/html")
        status = f"{response.status_code} {response.reason or ''}".strip()
        if response.status_code in _BUSY:
            raise TransferError(status, _seconds(headers.get("Retry-After", "")))
        if response.status_code != 200:
            raise TransferError(status)
        # A packed answer of any size can unpack to a thousand times as much.
        if (encoding := headers.get("Content-Encoding", "identity").lower()) != "identity":
            raise TransferError(f"sent the file packed ({encoding}), which was not asked for")
        length = headers.get("Content-Length", str(self._size)).strip()
        if length != str(self._size):
            raise TransferError(f"announced {length} bytes instead of {self._size}")


def _seconds(retry_after: str) -> float:
    """Read the header Retry-After: seconds or a date; 0 for anything else."""
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", retry_after):
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except (TypeError, ValueError, IndexError):
        return 0.0
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())


def _copy_file(source: str, sink: Any) -> None:
    try:
        with open_plain(_local(source)) as file:
            shutil.copyfileobj(file, sink, _BLOCK)
    except FileNotFoundError:
        raise TransferError("no such file") from None


def _local(source: str) -> Path:
    """Turn a file URL or path into a path."""
    if "://" not in source:
        return Path(source).expanduser()
    from urllib.request import url2pathname

    parts = urlsplit(source)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise TransferError("neither a http, https or local file URL nor a folder")
    return Path(url2pathname(parts.path))
