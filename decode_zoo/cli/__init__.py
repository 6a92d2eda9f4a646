"""The command line: thin, so that every verb is also one call in Python.

Modules here import nothing heavy at their top; `decode-zoo --help` must not wait for pandas.
"""

from __future__ import annotations

import logging
import sys
from typing import NoReturn

import click

import decode_zoo
from decode_zoo.cli.features import features
from decode_zoo.cli.predict import predict
from decode_zoo.cli.train import train
from decode_zoo.cli.zoo import fetch, info, ls, test, verify
from decode_zoo.errors import DecodeZooError

__all__ = ["cli", "main"]

INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(decode_zoo.__version__, prog_name="decode-zoo")
@click.option("--debug", is_flag=True, help="Show tracebacks and log messages.")
def cli(debug: bool) -> None:
    """Predict differential gene expression from regulator binding sites.

    Exit codes: 0 done, 2 wrong usage, 3 artifact not available, 4 bad input, 5 failed verification,
    6 device not available, 130 interrupted.
    """
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(name)s: %(message)s" if debug else "%(message)s",
        stream=sys.stderr,
    )


for command in (predict, features, train, ls, info, fetch, verify, test):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit with the documented codes."""
    debug = "--debug" in sys.argv
    try:
        cli(prog_name="decode-zoo", standalone_mode=False)
        code = 0
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        code = INTERRUPTED
    except DecodeZooError as error:
        if debug:
            raise
        click.echo(f"Error: {error}", err=True)
        code = error.exit_code
    except Exception as error:
        if debug:
            raise
        click.echo(
            f"Internal error: {type(error).__name__}: {error}\n"
            "This is a bug in decode-zoo. Run again with 'decode-zoo --debug …' for a traceback.",
            err=True,
        )
        code = 1
    sys.exit(code)
