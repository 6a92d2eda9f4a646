"""Cohorts: from counts or TPM of persons to what models are fine-tuned on.

Source: Tasaki et al. 2020, Methods, 'Transcriptome data processing'.
"""

from __future__ import annotations

from decode_zoo.cohort.persons import read_persons
from decode_zoo.cohort.preparation import Cohort, prepare_cohort
from decode_zoo.reader import Grid, read_grid

__all__ = ["Cohort", "Grid", "prepare_cohort", "read_grid", "read_persons"]
