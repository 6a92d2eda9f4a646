"""Removals: what becomes of predictions and of co-expression when sites are taken away."""

from decode_zoo.studies.removal.study import study_disruption, study_knockout, study_pair

__all__ = ["study_disruption", "study_knockout", "study_pair"]
