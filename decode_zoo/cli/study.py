"""``decode-zoo study``: questions that a model helps to answer."""

from __future__ import annotations

import click

from decode_zoo.cli.study_traits import traits

__all__ = ["study"]


@click.group()
def study() -> None:
    """Ask a model what goes with traits of persons."""


study.add_command(traits)
