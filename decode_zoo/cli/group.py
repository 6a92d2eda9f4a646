"""The group of all verbs.

Modules here import nothing heavy at their top; `decode-zoo --help` must not wait for pandas.
"""

from __future__ import annotations

import logging
import sys

import click

import decode_zoo
from decode_zoo.cli import data, learn, predict, study_relation, study_removal, zoo
from decode_zoo.cli.cache import cache

__all__ = ["cli", "study"]


@click.group(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "show_default": True,
    }
)
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


@cli.group()
def study() -> None:
    """Ask models what regulators do: take their sites away, relate them to lists and to traits."""


for part in (
    study_relation.coexpression,
    study_relation.enrich,
    study_relation.mediation,
    study_relation.signature,
    study_relation.traits,
    study_removal.ablation,
    study_removal.disrupt,
    study_removal.knockout,
    study_removal.pair,
):
    study.add_command(part)

for command in (
    predict.predict,
    predict.explain,
    predict.report,
    data.features,
    data.cohort,
    learn.train,
    learn.finetune,
    learn.evaluate,
    zoo.ls,
    zoo.info,
    zoo.fetch,
    zoo.verify,
    zoo.test,
    zoo.doctor,
    zoo.publish,
    cache,
):
    cli.add_command(command)
