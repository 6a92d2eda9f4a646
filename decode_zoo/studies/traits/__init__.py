"""Traits of persons: what expression, its prediction and its regulators have to do with them."""

from decode_zoo.studies.traits.study import FILES, RegulatorGenes, TraitStudy, study_traits

__all__ = ["FILES", "RegulatorGenes", "TraitStudy", "study_traits"]
