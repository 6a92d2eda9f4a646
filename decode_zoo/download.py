"""Transfers: from one source of several, a URL or a file, to one verified file or to memory.

What arrives for a file goes to a temporary name beside the target, is measured and hashed on its
way, flushed to disk and renamed. Correctness rests on that alone: any number of processes may do it
at once, and no lock is needed, for locks do nothing on many a cluster's file system.
"""

from __future__ import annotations

import hashlib
import heapq
import logging
import os
import platform
import random
import re
import secrets
import shutil
import ssl
import stat
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from decode_zoo import __version__
from decode_zoo.artifact import FileEntry
from decode_zoo.display import masked
from decode_zoo.files import open_plain
from decode_zoo.process import has_ended, machine
from decode_zoo.registry import is_this_machine

__all__ = [
    "NoSourceError",
    "Sink",
    "TransferError",
    "WrongFileError",
    "first_of",
    "is_partial",
    "is_url",
    "leftovers",
    "make_folder",
    "receive",
    "transfer",
]

_TIMEOUT = (10.0, 30.0)  # seconds: to connect, between two packets
_WINDOW = 60.0  # seconds
_LEAST = 1 << 15  # bytes in each window
_BLOCK = 1 << 14  # well below _LEAST, for what has arrived is seen block by block
_REDIRECTS = 5
_RETRIES = 3
_BACKOFF = 1.0  # seconds before the first retry; doubled each time
_PATIENCE = 60.0  # seconds; a source that wants more time is left alone
_ABANDONED = 24 * 3600.0  # seconds
_BUSY = (429, 500, 502, 503, 504)
_PARTIAL = re.compile(
    r"\.[A-Za-z0-9][A-Za-z0-9._-]*\.([0-9a-f]{8})-([0-9]{1,20})-[0-9a-f]{16}\.part"
)

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


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


class WrongFileError(TransferError):
    """A source gave something, and it is not the published file."""


class NoSourceError(Exception):
    """None of several sources gave what was asked for.

    Parameters
    ----------
    errors : mapping of str to TransferError
        What each did.
    """

    def __init__(self, errors: dict[str, TransferError]) -> None:
        super().__init__("; ".join(f"{masked(source)}: {e}" for source, e in errors.items()))
        self.errors = errors


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


def make_folder(root: Path, folder: str) -> None:
    """Make a folder of the cache; where a group may write the cache, it may write this too.

    Parameters
    ----------
    root : Path
        The cache; made as well.
    folder : str
        In it, with slashes.

    Raises
    ------
    OSError
        If it cannot be made.
    """
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
            # Some file systems know no permissions.
            with suppress(OSError):
                path.chmod(stat.S_IMODE(path.stat().st_mode) | shared)


def first_of(
    sources: Sequence[str],
    ask: Callable[[str], _T],
    meanwhile: Callable[[], _T | None] = lambda: None,
) -> _T:
    """Ask sources in order until one gives what is wanted.

    One that is busy or broke off is asked again, as it wishes, but after the others: who has it is
    not waited for while someone else may have it.

    Parameters
    ----------
    sources : sequence of str
        URLs or paths.
    ask : callable
        Called with a source; raises TransferError if that did not give it.
    meanwhile : callable
        Called after each wait; what it gives, if anything, ends the search.

    Returns
    -------
    object
        What `ask` or `meanwhile` gave.

    Raises
    ------
    NoSourceError
        If no source gave it.
    """
    errors: dict[str, TransferError] = {}
    queue = [(0.0, number, 0) for number in range(len(sources))]
    while queue:
        when, number, retries = heapq.heappop(queue)
        source = sources[number]
        if when:
            time.sleep(max(0.0, when - time.monotonic()))
            if (found := meanwhile()) is not None:
                return found
        try:
            return ask(source)
        except TransferError as error:
            errors[source] = error
            if error.wait is None or retries == _RETRIES:
                continue
            if error.wait > _PATIENCE:
                note = f"{error}, to be asked again after {error.wait:.0f} seconds"
                errors[source] = TransferError(note)
                continue
            # Not all at the same time, when many processes were turned away at once.
            wait = error.wait + _BACKOFF * 2**retries * random.uniform(0.5, 1.5)
            _log.warning("%s: %s; asked again in %.1f seconds", masked(source), error, wait)
            heapq.heappush(queue, (time.monotonic() + wait, number, retries + 1))
    raise NoSourceError({source: errors[source] for source in sources})


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
    WrongFileError
        If the source gives something else.
    TransferError
        If it gives nothing, or not all of it.
    OSError
        If the file cannot be written here.
    """
    partial = target.with_name(_partial_name(target.name))
    try:
        with open(partial, "xb") as file:
            receive(source, Sink(file, entry.size, entry, advance))
            file.flush()
            os.fsync(file.fileno())
        _share(partial)
        os.replace(partial, target)
    finally:
        with suppress(OSError):
            partial.unlink()


def _share(path: Path) -> None:
    """Let the group read a file in a folder that it may write, whatever this user's umask is."""
    if path.parent.stat().st_mode & stat.S_IWGRP:
        with suppress(OSError):
            path.chmod(stat.S_IMODE(path.stat().st_mode) | stat.S_IRGRP)


def is_partial(name: str) -> bool:
    """Tell whether a file of this name is a transfer under way, or left by one."""
    return _PARTIAL.fullmatch(name) is not None


def leftovers(folder: Path) -> list[Path]:
    """Find temporary files whose writers are gone, e.g. killed.

    Parameters
    ----------
    folder : Path
        Where to look, folders in it included.

    Returns
    -------
    list of Path
        Files of dead processes of this machine, and all that were not written to for a day: a
        process's number may be that of another one by now.
    """
    return sorted(path for path in folder.rglob(".*.part") if _is_left(path))


def _is_left(path: Path) -> bool:
    name = _PARTIAL.fullmatch(path.name)
    if name is None:
        return False
    if has_ended(name[1], int(name[2])):
        return True
    try:
        return time.time() - path.lstat().st_mtime > _ABANDONED
    except OSError:
        return False


def _partial_name(name: str) -> str:
    return f".{name}.{machine()}-{os.getpid()}-{secrets.token_hex(8)}.part"


class Sink:
    """Takes what arrives, and ends a transfer at the first byte too many.

    Parameters
    ----------
    file : binary file
        To write to.
    limit : int
        Most bytes.
    expected : FileEntry, optional
        What all of it must be.
    advance : callable
        Called with the number of bytes of each block.
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
        self._advance = advance
        self._digest = hashlib.sha256()
        self.expected = expected
        self.received = 0
        self.closed = False
        self.failure: OSError | None = None

    def write(self, block: bytes) -> int:
        """Take a block; its length, as of files."""
        if self.closed:
            raise TransferError("given up")
        if self.received + len(block) > self._limit:
            expected = "the expected " if self.expected else ""
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
        entry, sha256 = self.expected, self._digest.hexdigest()
        if entry is None:
            return
        if self.received != entry.size:
            raise WrongFileError(
                f"not the published file: expected {entry.size} bytes, got {self.received}"
            )
        if sha256 != entry.sha256:
            raise WrongFileError(
                f"not the published file: expected sha256 {entry.sha256}, got {sha256}"
            )


def receive(source: str, sink: Sink) -> None:
    """Write what a source gives to a sink, and check it.

    Parameters
    ----------
    source : str
        URL (http, https, file) or path. Of a link, a pipe or a device nothing is taken. No
        redirect leads from https, or from this machine, to http elsewhere.
    sink : Sink

    Raises
    ------
    WrongFileError
        If the source gives something else.
    TransferError
        If it gives nothing, or not all of it.
    OSError
        If the sink's file cannot be written.
    """
    judge = _Judge(sink.expected)
    try:
        if is_url(source):
            _copy_url(source, sink, judge)
        else:
            _copy_file(source, sink)
        sink.check()
    # Whatever a server, a proxy or a network disk does, the next source may do better.
    except Exception as error:
        if error is sink.failure:
            raise
        message = _reason_of(error) + judge.note
        if isinstance(error, WrongFileError):
            raise WrongFileError(message) from error
        wait = error.wait if isinstance(error, TransferError) else None
        raise TransferError(message, wait) from error


def _reason_of(error: Exception) -> str:
    """Say why a request failed, without the layers that the libraries wrap around it.

    With what to do about a certificate that is not trusted.
    """
    inner: object = error
    if isinstance(error, OSError) and error.args and isinstance(error.args[0], Exception):
        inner = error.args[0]  # of requests: an OSError around what urllib3 raised
    while isinstance(deeper := getattr(inner, "reason", None), Exception):
        inner = deeper
    cause: object = inner
    while not isinstance(cause, ssl.SSLCertVerificationError):
        if not (isinstance(cause, Exception) and cause.args):
            # The host is in the URL that stands before it.
            reason = re.sub(r"^HTTPS?Connection(Pool)?\([^()]*\): ", "", str(inner))
            return masked(reason) or type(error).__name__
        cause = cause.args[0]
    return (
        f"its certificate is not trusted ({cause.verify_message}); if it is of an authority of "
        "your own, name that one's file of certificates in REQUESTS_CA_BUNDLE"
    )


def _copy_url(url: str, sink: Sink, judge: _Judge) -> None:
    import pooch
    import requests
    from urllib3.exceptions import ProtocolError

    download = pooch.HTTPDownloader(
        chunk_size=_BLOCK,
        timeout=_TIMEOUT,
        headers={
            # Some hosts limit clients without a name of their own.
            "User-Agent": f"decode-zoo/{__version__} (Python {platform.python_version()}; "
            f"{platform.system()}) {requests.utils.default_user_agent()}",
            # The sizes are those of the stored files.
            "Accept-Encoding": "identity",
        },
        verify=_authorities(),
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


def _authorities() -> str | bool:
    """Name the certificates to trust, if only OpenSSL's variable does; requests knows the others.

    True leaves it to requests.
    """
    if os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE"):
        return True
    return os.environ.get("SSL_CERT_FILE") or True


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

    def __init__(self, expected: FileEntry | None) -> None:
        self._expected = expected
        self._redirects = 0
        self._url = ""
        self._is_page = False
        self.close: Callable[[], object] = lambda: None

    @property
    def note(self) -> str:
        """What else there is to say about a failure."""
        note = "; it sent a web page, perhaps of a login or a proxy" if self._is_page else ""
        return note + (f" (redirected to {masked(self._url)})" if self._redirects else "")

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
        here, there = urlsplit(response.url), urlsplit(self._url)
        follows = there.scheme == "https" or (
            there.scheme == here.scheme == "http"
            and (is_this_machine(there.hostname) or not is_this_machine(here.hostname))
        )
        if not follows:
            raise TransferError(
                f"a redirect that is not followed, from {here.scheme} to {there.scheme}"
            )
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
        if self._expected is not None:
            size = str(self._expected.size)
            if (length := headers.get("Content-Length", size).strip()) != size:
                raise WrongFileError(f"announced {length} bytes instead of {size}")


def _seconds(retry_after: str) -> float:
    """Read the header Retry-After: seconds or a date; 0 for anything else."""
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", retry_after):
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except (TypeError, ValueError, IndexError):
        return 0.0
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


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
