"""Options that several verbs share, and what they tell."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from decode_zoo.layout import Side

__all__ = ["all_genes", "background", "features", "fill_missing", "genes", "model", "outputs",
           "split_names", "tell_missing"]  # fmt: skip

model = click.option(
    "--model",
    "model_id",
    required=True,
    metavar="ID|DIR",
    help="Model id in the registry, or a folder with a bundle.",
)
genes = click.argument("genes", required=False, type=click.Path(path_type=Path, allow_dash=True))
all_genes = click.option("--all-genes", is_flag=True, help="Take every gene of the feature set.")
outputs = click.option(
    "--outputs", metavar="NAME,…", help="Only these outputs, e.g. Liver,Whole_Blood."
)
background = click.option(
    "--background",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Genes to compare with, averaged (default: a gene without sites, of median length).",
)
features = click.option(
    "--features",
    "features_source",
    metavar="ID|DIR",
    help="A feature set of your own (default: the model's).",
)
fill_missing = click.option(
    "--fill-missing",
    is_flag=True,
    help="Take tracks that --features lacks as without sites, and report them.",
)


def split_names(text: str | None) -> list[str] | None:
    """Names in a list separated by commas."""
    return None if text is None else [name.strip() for name in text.split(",")]


def tell_missing(missing: Mapping[Side, Sequence[str]]) -> None:
    """Say on stderr which tracks were taken as without sites."""
    for side, names in missing.items():
        if names:
            listed = textwrap.fill(", ".join(names), 100, break_on_hyphens=False)
            click.echo(f"{len(names)} {side} tracks taken as without sites:\n{listed}", err=True)
