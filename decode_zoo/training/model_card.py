"""What publishing will ask of a trained bundle: an entry that registries take, and a card."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from decode_zoo.core.errors import InputError
from decode_zoo.core.files import read_at_most
from decode_zoo.core.text import check_versioned
from decode_zoo.networks.manifest import Manifest
from decode_zoo.zoo.artifact import Artifact, FileEntry, entry_for
from decode_zoo.zoo.cards import BEGIN, CARD, END, model_facts, with_facts
from decode_zoo.zoo.registry import load_registry
from decode_zoo.zoo.store import builtin_registry_path

__all__ = ["check_publishable", "write_card"]

_log = logging.getLogger(__name__)

# The files are not made yet; what they are is not asked.
_NO_FILES = {"manifest.json": FileEntry("0" * 64, 0)}
_MAX_CARD = 1 << 20
_PERSONAL = """
## Personal data

The outputs are samples of people. What this bundle says of genes was fitted to their expression, so
treat the whole folder as you treat the data: share it only with those who may see these.

{membership}
"""
_SKELETON = """# {id}

{title}

{begin}
{end}

## What it is for

To be written: whose questions it answers, about which tissues or samples.

## How good it is

To be written: what the scores above mean, compared with what.

## What it is not for

To be written: what it must not be used for, and what is known to be wrong.

## Data

To be written: where expression and sites come from, under which licences, and who is in them.
"""


def check_publishable(id: str, title: str, license: str, citation: str, features: str) -> None:
    """Raise InputError for a model that could not be published, before it is trained.

    The message begins with the name of what is wrong.
    """
    check_versioned(id)
    Artifact(id, "model", title, license, citation, features, _NO_FILES)
    builtin = load_registry(builtin_registry_path())
    if id in builtin.artifacts or id in builtin.same_as:
        raise InputError(
            f"id: {id} is a model of decode-zoo itself, and an id never changes its meaning",
            remedy="Give it a name of its own.",
        )


def write_card(bundle: Path, former: Path, *, personal: bool = False) -> None:
    """Write the card of a bundle: its facts, and prose that is there already or to be written.

    The prose of the card in `former`, the folder that the bundle replaces, is kept. A new card of a
    `personal` model, whose outputs are people, warns of it.
    """
    manifest = Manifest.read(lambda name: bundle / name)
    try:
        facts = model_facts(manifest, entry_for(bundle))
        if (former / CARD).exists():
            card = read_at_most(former / CARD, _MAX_CARD).decode()
        else:
            card = _SKELETON.format(id=manifest.id, title=manifest.title, begin=BEGIN, end=END)
            if personal:
                card += _PERSONAL.format(membership=_known_of_membership(manifest))
        card = with_facts(card, facts)
    except (InputError, UnicodeDecodeError) as error:
        _log.warning("No card is written: %s", error)
        return
    (bundle / CARD).write_text(card, encoding="utf-8", newline="")


def _known_of_membership(manifest: Manifest) -> str:
    found = manifest.training.membership
    if not isinstance(found, Mapping):
        return "Whether those it was fitted to can be told from others was not measured."
    (seen, *_), (other, *_) = found["trained_genes"], found["other_genes"]
    return (
        f"Can they be told from others? Fitted to {found['fitted']} samples, with "
        f"{found['held_out']} held out: by the best match of expression with an output, the "
        f"area under the ROC curve is {seen:.2f} on genes it was trained on and {other:.2f} on "
        "others (0.5 gives nothing away, 1 everything)."
    )
