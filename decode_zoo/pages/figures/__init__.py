"""Pictures, one module a kind of result."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from decode_zoo.studies.result import StudyResult

__all__ = ["pictures_of"]


def pictures_of(result: StudyResult) -> dict[str, tuple[str, Figure]]:
    """Draw the pictures of a study's result: name → caption, figure."""
    from decode_zoo.pages.figures import (
        ablation,
        coexpression,
        enrichment,
        mediation,
        removal,
        signature,
        traits,
    )

    draw = {
        "ablation": ablation.pictures,
        "coexpression": coexpression.pictures,
        "disrupt": removal.of_disruption,
        "enrich": enrichment.pictures,
        "knockout": removal.of_knockouts,
        "mediation": mediation.pictures,
        "pair": removal.of_pair,
        "signature": signature.pictures,
        "traits": traits.pictures,
    }
    return draw[result.study](result)
