"""The group of all verbs.

Modules here import nothing heavy at their top; `decode-zoo --help` must not wait for pandas.
"""

from __future__ import annotations

import logging
import sys

import click

import decode_zoo
from decode_zoo.cli.cache import cache
from decode_zoo.cli.cohort import cohort
from decode_zoo.cli.doctor import doctor
from decode_zoo.cli.evaluate import evaluate
from decode_zoo.cli.explain import explain
from decode_zoo.cli.features import features
from decode_zoo.cli.finetune import finetune
from decode_zoo.cli.predict import predict
from decode_zoo.cli.publish import publish
from decode_zoo.cli.report import report
from decode_zoo.cli.study import study
from decode_zoo.cli.train import train
from decode_zoo.cli.zoo import fetch, info, ls, test, verify

__all__ = ["cli"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(decode_zoo.__version__, prog_name="decode-zoo")
@click.option("--debug", is_flag=True, help="Show tracebacks and log messages.")
def cli(debug: bool) -> None:
    """Predict differential gene expression from regulator binding sites.

    Exit codes: 0 done, 2 wrong usage, 3 artifact not available, 4 bad input, 5 failed verification,
    6 device not available, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM, as batch systems
    send it); after the last two, too, nothing half-done is left.
    """
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(name)s: %(message)s" if debug else "%(message)s",
        stream=sys.stderr,
    )


for command in (
    predict,
    explain,
    report,
    features,
    train,
    cohort,
    finetune,
    evaluate,
    study,
    ls,
    info,
    fetch,
    verify,
    test,
    doctor,
    cache,
    publish,
):
    cli.add_command(command)
