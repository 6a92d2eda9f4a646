"""Enrichment: what the regulators that a model uses most have in common."""

from decode_zoo.studies.enrichment.comparison import compare_lists, gsea, over_representation
from decode_zoo.studies.enrichment.lists import ListedGenes, read_listed_above
from decode_zoo.studies.enrichment.ranking import CLASSES, Ranking, importance, residual_ranks
from decode_zoo.studies.enrichment.scores import mean_scores, read_scores
from decode_zoo.studies.enrichment.study import EnrichmentStudy, Scope, study_enrichment

__all__ = [
    "CLASSES",
    "EnrichmentStudy",
    "ListedGenes",
    "Ranking",
    "Scope",
    "compare_lists",
    "gsea",
    "importance",
    "mean_scores",
    "over_representation",
    "read_listed_above",
    "read_scores",
    "residual_ranks",
    "study_enrichment",
]
