"""How well a model predicts what was measured, beside what needs no model at all."""

from decode_zoo.evaluation.agreement import DonorConcordance, Evaluation, compare_donors, evaluate

__all__ = ["DonorConcordance", "Evaluation", "compare_donors", "evaluate"]
