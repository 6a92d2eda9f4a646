"""The command line: thin, so that every verb is also one call in Python.

Importing this costs next to nothing, so that Ctrl-C meets `main` almost from the first moment; the
verbs are imported inside it (`decode_zoo.cli.group`).
"""

from __future__ import annotations

import atexit
import gc
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

__all__ = ["main"]

# Former spellings, which still work.
_RENAMED = {"--persons": "--samples", "--keep-persons-above": "--keep-samples-above"}
INTERRUPTED = 130
TERMINATED = 143


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as timeout and batch systems send it; what is unfinished goes as after Ctrl-C."""


def main() -> NoReturn:
    """Run the command line and exit with the documented codes."""
    # Imports and tables make objects by the hundred thousand, of which none is garbage yet.
    gc.set_threshold(100_000, 50, 50)
    atexit.register(gc.freeze)  # or Python would look through them all once more before it ends
    try:
        with _terminable():
            code = _run(sys.argv[1:])
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, _Terminated)
        sys.stderr.write("Terminated.\n" if terminated else "Interrupted.\n")
        code = TERMINATED if terminated else INTERRUPTED
    sys.exit(code)


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into an exception, unless whoever started this wants it otherwise."""

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # nothing may stop the cleaning up
        raise _Terminated

    if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _run(arguments: list[str]) -> int:
    """Run one command; print an error as one, without a traceback, and return its code."""
    import click

    from decode_zoo.cli.group import cli
    from decode_zoo.cli.runner import patient_streams
    from decode_zoo.core.errors import DecodeZooError

    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    arguments = [*map(_renamed, own), *arguments[len(own) :]]
    own = arguments[: len(own)]
    debug = "--debug" in own
    if debug:  # taken anywhere, not only before the verb
        kept = [word for word in own if word != "--debug"]
        arguments = ["--debug", *kept, *arguments[len(own) :]]
    with patient_streams():
        try:
            cli(arguments, prog_name="decode-zoo", standalone_mode=False)
        except click.exceptions.Exit as stop:
            return stop.exit_code
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except click.Abort as stop:
            cause = stop.__cause__
            raise cause if isinstance(cause, KeyboardInterrupt) else KeyboardInterrupt from None
        except Exception as error:
            if debug:
                import traceback

                traceback.print_exc()
            if isinstance(error, DecodeZooError):
                click.echo(f"Error: {error}", err=True)
                return error.exit_code
            if isinstance(error, OSError):
                return _refused(error)
            click.echo(
                f"Internal error: {type(error).__name__}: {error}\n"
                "This is a bug in decode-zoo. Run again with 'decode-zoo --debug …' for a "
                "traceback.",
                err=True,
            )
            return 1
    return 0


def _renamed(word: str) -> str:
    """Return the present spelling of an option."""
    name, sign, value = word.partition("=")
    return f"{_RENAMED[name]}{sign}{value}" if name in _RENAMED else word


def _refused(error: OSError) -> int:
    """Print what the operating system refused; return 2 for a disk that is full, else 4."""
    import errno

    import click

    from decode_zoo.core.files import discard_stdout

    where = f"{error.filename}: " if error.filename is not None else ""
    click.echo(f"Error: {where}{error.strerror or error}.", err=True)
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
        return 4
    discard_stdout()
    click.echo("Choose another place for the output, or free some space.", err=True)
    return 2
