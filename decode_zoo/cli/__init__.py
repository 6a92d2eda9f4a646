"""The command line: thin, so that every verb is also one call in Python.

Importing this costs next to nothing, so that Ctrl-C meets `main` almost from the first moment; the
verbs are imported inside it (`decode_zoo.cli.group`).
"""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]

INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line and exit with the documented codes."""
    try:
        code = _run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        code = INTERRUPTED
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """Run one command; print an error as one, without a traceback, and return its code."""
    import click

    from decode_zoo.cli.group import cli
    from decode_zoo.errors import DecodeZooError

    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in own
    if debug:  # taken anywhere, not only before the verb
        arguments = [
            "--debug",
            *(word for word in own if word != "--debug"),
            *arguments[len(own) :],
        ]
    try:
        cli(arguments, prog_name="decode-zoo", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        if debug:
            raise
        if isinstance(error, DecodeZooError):
            click.echo(f"Error: {error}", err=True)
            return error.exit_code
        if isinstance(error, OSError):
            return _refused(error)
        click.echo(
            f"Internal error: {type(error).__name__}: {error}\n"
            "This is a bug in decode-zoo. Run again with 'decode-zoo --debug …' for a traceback.",
            err=True,
        )
        return 1
    return 0


def _refused(error: OSError) -> int:
    """Say what the operating system refused, and whose fault that is: exit code 2 or 4."""
    import errno

    import click

    from decode_zoo.output import discard_stdout

    where = f"{error.filename}: " if error.filename is not None else ""
    click.echo(f"Error: {where}{error.strerror or error}.", err=True)
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
        return 4
    discard_stdout()
    click.echo("Choose another place for the output, or free some space.", err=True)
    return 2
