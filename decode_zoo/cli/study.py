"""``decode-zoo study``: questions that a model helps to answer."""

from __future__ import annotations

import click

from decode_zoo.cli.study_ablation import ablation
from decode_zoo.cli.study_coexpression import coexpression
from decode_zoo.cli.study_enrich import enrich
from decode_zoo.cli.study_mediation import mediation
from decode_zoo.cli.study_removal import disrupt, knockout, pair
from decode_zoo.cli.study_signature import signature
from decode_zoo.cli.study_traits import traits

__all__ = ["study"]


@click.group()
def study() -> None:
    """Ask models what regulators do: take their sites away, relate them to lists and to traits."""


study.add_command(ablation)
study.add_command(coexpression)
study.add_command(disrupt)
study.add_command(enrich)
study.add_command(knockout)
study.add_command(mediation)
study.add_command(pair)
study.add_command(signature)
study.add_command(traits)
