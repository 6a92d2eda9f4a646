"""Transfers: from one source of several, a URL or a file, to one verified file or to memory.

What arrives for a file goes to a unique temporary name beside the target, is measured and hashed on
its way, flushed to disk and renamed. Correctness rests on that alone, for locks do nothing on many
a cluster's file system; where they work, `in_turn` saves several processes the same work.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import random
import re
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from decode_zoo.core import __version__
from decode_zoo.core.files import open_plain
from decode_zoo.core.text import masked
from decode_zoo.zoo.artifact import FileEntry
from decode_zoo.zoo.registry import is_this_machine

__all__ = [
    "NoSourceError",
    "Sink",
    "TransferError",
    "WrongFileError",
    "first_of",
    "in_turn",
    "is_left",
    "is_partial",
    "is_url",
    "leftovers",
    "local_path",
    "make_folder",
    "receive",
    "transfer",
]

_TIMEOUT = (10.0, 30.0)  # seconds: to connect, between two packets
_WINDOW = 60.0  # seconds
_LEAST = 1 << 15  # bytes in each window
_BLOCK = 1 << 14  # well below _LEAST, for what has arrived is seen block by block
_RETRIES = 3
_BACKOFF = 1.0  # seconds; doubled each time
_PATIENCE = 60.0  # seconds; a source that wants more time is left alone
_TURN = 600.0  # seconds to wait for another process that fetches the same file
_ABANDONED = 24 * 3600.0  # seconds
_BUSY = (429, 500, 502, 503, 504)
# Names that no user gives. Those of former versions have more between name and token.
_PARTIAL = re.compile(r"\.[A-Za-z0-9][A-Za-z0-9._-]*[.-][0-9a-f]{16}\.part")
_LOCK_TOKEN = "0" * 16

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class TransferError(Exception):
    """A source did not give the file; another one may.

    `wait` is the time in seconds after which it is worth asking again; None if it is not.
    """

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class WrongFileError(TransferError):
    """A source gave something, and it is not the published file."""


class NoSourceError(Exception):
    """None of several sources gave what was asked for; `errors` has what each did."""

    def __init__(self, errors: dict[str, TransferError]) -> None:
        super().__init__(*errors.values())
        self.errors = errors


# -- sources and folders ---------------------------------------------------------------------------


def is_url(source: str) -> bool:
    """Return whether a source is reached over the network: http or https, no file URL or path."""
    return re.match(r"https?://", source, re.IGNORECASE) is not None


def local_path(source: str) -> Path:
    """Turn a file URL or path into a path."""
    if "://" not in source:
        return Path(source).expanduser()
    from urllib.request import url2pathname

    parts = urlsplit(source)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise TransferError("neither a http, https or local file URL nor a folder")
    return Path(url2pathname(parts.path))


def make_folder(root: Path, folder: str) -> None:
    """Make a folder of the cache `root`, and that; who may write to the cache may write to it."""
    root.mkdir(parents=True, exist_ok=True)
    shared = root.stat().st_mode & (stat.S_ISGID | stat.S_IRWXG)
    path = root
    for part in folder.split("/"):
        path /= part
        try:
            path.mkdir()
        except FileExistsError:
            continue
        if shared & stat.S_IWGRP:
            _chmod(path, shared)


def _chmod(path: Path, more: int) -> None:
    with suppress(OSError):  # some file systems know no permissions
        path.chmod(stat.S_IMODE(path.stat().st_mode) | more)


def _partial(target: Path, token: str) -> Path:
    return target.with_name(f".{target.name}.{token}.part")


def is_partial(name: str) -> bool:
    """Return whether a file of this name is a transfer under way, or left by one."""
    return _PARTIAL.fullmatch(name) is not None


def is_left(path: Path) -> bool:
    """Return whether a file is what a transfer left: nobody has written to it for a day."""
    try:
        return is_partial(path.name) and time.time() - path.lstat().st_mtime > _ABANDONED
    except OSError:
        return False


def leftovers(folder: Path) -> list[Path]:
    """Find in a folder and those in it what transfers left."""
    return sorted(filter(is_left, folder.rglob("*.part")))


# -- whose turn it is ------------------------------------------------------------------------------


@contextmanager
def in_turn(target: Path) -> Iterator[None]:
    """Let processes that want the same file go one by one, so that the others find it then.

    Without locks, or where someone holds one for long, all go at once, which does no harm.
    """
    from filelock import FileLock, Timeout

    # A name as of a transfer, so that what a killed process leaves is swept up with the rest.
    path = _partial(target, _LOCK_TOKEN)
    lock = FileLock(path)
    held = True
    try:
        lock.acquire(timeout=_TURN)
    except Timeout:
        held = False
    except (OSError, NotImplementedError):  # of a file system without locks
        pass
    try:
        yield
    finally:
        if held:
            with suppress(OSError):
                path.unlink()
            lock.release()


def first_of(sources: Sequence[str], ask: Callable[[str], _T]) -> _T:
    """Ask sources in order until one gives what is wanted, and return that.

    One that is busy or broke off (`ask` raised a TransferError with a time to wait) is asked again,
    but after the others: who has it is not waited for while someone else may have it. Raises
    NoSourceError if none gave it.
    """
    errors: dict[str, TransferError] = {}
    waiting = list(sources)
    for retry in range(_RETRIES + 1):
        for source in waiting:
            try:
                return ask(source)
            except TransferError as error:
                errors[source] = error
        waiting = [source for source in waiting if errors[source].wait is not None]
        if waiting and retry < _RETRIES:
            # With jitter, for many processes may have been turned away at the same time.
            pause = _BACKOFF * (2**retry - 1 + random.random())
            pause = max(pause, *(errors[source].wait or 0.0 for source in waiting))
            for source in waiting:
                said = f"{masked(source)}: {errors[source]}"
                _log.warning("%s; asked again in %.1f seconds", said, pause)
            time.sleep(pause)
    raise NoSourceError({source: errors[source] for source in sources})


# -- one transfer ----------------------------------------------------------------------------------


def transfer(source: str, target: Path, entry: FileEntry, advance: Callable[[int], object]) -> None:
    """Bring a file from one source; `target` is replaced by a verified file or not touched.

    See `receive` for sources and errors. The target's folder exists; `advance` is called with the
    number of bytes of each block.
    """
    partial = _partial(target, secrets.token_hex(8))
    try:
        with open(partial, "xb") as file:
            receive(source, Sink(file, entry.size, entry, advance))
            file.flush()
            os.fsync(file.fileno())
        # In a folder that a group may write it may read, whatever this user's umask is.
        if target.parent.stat().st_mode & stat.S_IWGRP:
            _chmod(partial, stat.S_IRGRP)
        os.replace(partial, target)
    finally:
        with suppress(OSError):
            partial.unlink()


class Sink:
    """Takes what arrives, and ends a transfer at the first byte beyond `limit`.

    All of it must be what is `expected`; `advance` is called with the bytes of each block.
    """

    def __init__(
        self,
        file: IO[bytes],
        limit: int,
        expected: FileEntry | None = None,
        advance: Callable[[int], object] = lambda count: None,
    ) -> None:
        self._file = file
        self._limit = limit
        self._expected = expected
        self._advance = advance
        self._digest = hashlib.sha256()
        self.received = 0
        self.closed = False
        self.failure: OSError | None = None  # of the file

    def write(self, block: bytes) -> int:
        """Take a block; its length, as of files."""
        if self.closed:
            raise TransferError("given up")
        if self.received + len(block) > self._limit:
            expected = "the expected " if self._expected else ""
            raise WrongFileError(f"sent more than {expected}{self._limit} bytes")
        try:
            self._file.write(block)
        except OSError as error:
            self.failure = error
            raise
        self._digest.update(block)
        self.received += len(block)
        self._advance(len(block))
        return len(block)

    def flush(self) -> None:
        """Leave it to the file; pooch asks after each block."""

    def check(self) -> None:
        """Raise WrongFileError unless all that was expected has arrived, and nothing else."""
        if (entry := self._expected) is None:
            return
        sha256 = self._digest.hexdigest()
        if self.received != entry.size:
            difference = f"expected {entry.size} bytes, got {self.received}"
        elif sha256 != entry.sha256:
            difference = f"expected sha256 {entry.sha256}, got {sha256}"
        else:
            return
        raise WrongFileError(f"not the published file: {difference}")


def receive(source: str, sink: Sink) -> None:
    """Write what a source gives to a sink, and check it.

    A source is a URL (http, https, file) or path. Of a link, a pipe or a device nothing is taken.
    No redirect leads from https, or from this machine, to http elsewhere. Raises WrongFileError if
    the source gives something else, TransferError if it gives nothing or not all of it, and
    OSError if the sink's file cannot be written.
    """
    judge = _Judge()
    try:
        if is_url(source):
            _copy_url(source, sink, judge)
        else:
            with open_plain(local_path(source)) as file:
                shutil.copyfileobj(file, sink, _BLOCK)
        sink.check()
    # Whatever a server, a proxy or a network disk does, the next source may do better.
    except Exception as error:
        if error is sink.failure:
            raise
        message = "no such file" if isinstance(error, FileNotFoundError) else _reason_of(error)
        kind = WrongFileError if isinstance(error, WrongFileError) else TransferError
        raise kind(message + judge.note, getattr(error, "wait", None)) from error


def _reason_of(error: Exception) -> str:
    """Return why a request failed, without the layers that the libraries wrap around it."""
    import ssl

    inner: Any = error
    while isinstance(
        deeper := getattr(inner, "reason", None) or next(iter(inner.args), None), Exception
    ):
        inner = deeper
    if isinstance(inner, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({inner.verify_message}); if it is of an authority of "
            "your own, name that one's file of certificates in REQUESTS_CA_BUNDLE"
        )
    # The host is in the URL that stands before it.
    reason = re.sub(r"^HTTPS?Connection(Pool)?\([^()]*\): ", "", str(inner))
    return masked(reason) or type(error).__name__


def _copy_url(url: str, sink: Sink, judge: _Judge) -> None:
    # Not before they are needed: urllib3 opens a socket when it is imported, to look for IPv6.
    import pooch
    import requests
    from urllib3.exceptions import ProtocolError

    # requests knows the other variables; this one is OpenSSL's.
    other = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    authorities = None if other else os.environ.get("SSL_CERT_FILE")
    # Some hosts limit clients without a name of their own.
    name = f"decode-zoo/{__version__} (Python {platform.python_version()}; {platform.system()})"
    download = pooch.HTTPDownloader(
        chunk_size=_BLOCK,
        timeout=_TIMEOUT,
        headers={
            "User-Agent": f"{name} {requests.utils.default_user_agent()}",
            "Accept-Encoding": "identity",  # the sizes are those of the stored files
        },
        verify=authorities or True,
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
        # Not refused, not timed out: reset, cut off.
        broken = bool(error.args) and isinstance(error.args[0], ProtocolError)
        raise TransferError(_reason_of(error), wait=0.0 if broken else None) from error


def _watch(work: Callable[[], object], sink: Sink) -> None:
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

    def __init__(self) -> None:
        self.note = ""  # what else there is to say about a failure
        self.close: Callable[[], object] = lambda: None

    def __call__(self, response: Any, *args: object, **kwargs: object) -> None:
        """Raise TransferError unless the answer can be the file or leads to it."""
        self.close = response.close
        headers = response.headers
        if response.is_redirect:
            url = urljoin(response.url, headers["Location"])
            self.note = f" (redirected to {masked(url)})"
            _check_redirect(response.url, url)
            response.close()  # requests would read its body, which may be endless
            return
        if headers.get("Content-Type", "").lower().startswith("text/html"):
            self.note = f"; it sent a web page, perhaps of a login or a proxy{self.note}"
        status = f"{response.status_code} {response.reason or ''}".strip()
        if response.status_code in _BUSY:
            wait = _asked_wait(response)
            if wait > _PATIENCE:
                raise TransferError(f"{status}, to be asked again after {wait:.0f} seconds")
            raise TransferError(status, wait)
        if response.status_code != 200:
            raise TransferError(status)
        # A packed answer of any size can unpack to a thousand times as much.
        if (encoding := headers.get("Content-Encoding", "identity").lower()) != "identity":
            raise TransferError(f"sent the file packed ({encoding}), which was not asked for")


def _check_redirect(here: str, there: str) -> None:
    before, after = urlsplit(here), urlsplit(there)
    if after.scheme == "https":
        return
    leaves = is_this_machine(before.hostname) and not is_this_machine(after.hostname)
    if leaves or not after.scheme == before.scheme == "http":
        raise TransferError(
            f"a redirect that is not followed, from {before.scheme} to {after.scheme}"
        )


def _asked_wait(response: Any) -> float:
    """Return the seconds in the header Retry-After; 0 if there is none, or it makes no sense."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        return Retry().get_retry_after(response) or 0.0
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0
