"""How well a model predicts what was measured, beside what needs no model at all."""

from __future__ import annotations

from decode_zoo.evaluation.agreement import Evaluation, evaluate
from decode_zoo.evaluation.donors import DonorConcordance, compare_donors

__all__ = ["DonorConcordance", "Evaluation", "compare_donors", "evaluate"]
