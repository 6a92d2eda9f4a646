"""Co-expression of genes over persons: as measured, as predicted, and by what else tells."""

from decode_zoo.studies.coexpression.study import study_coexpression

__all__ = ["study_coexpression"]
