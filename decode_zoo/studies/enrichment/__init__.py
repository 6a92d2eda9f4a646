"""Enrichment: what the regulators that a model uses most have in common."""

from decode_zoo.studies.enrichment.inputs import (
    ListedGenes,
    mean_scores,
    read_listed_above,
    read_scores,
)
from decode_zoo.studies.enrichment.study import EnrichmentStudy, Scope, study_enrichment

__all__ = [
    "EnrichmentStudy",
    "ListedGenes",
    "Scope",
    "mean_scores",
    "read_listed_above",
    "read_scores",
    "study_enrichment",
]
