"""Ablation: what predictions lose if genes see the inputs of other genes."""

from decode_zoo.training.ablation.study import VARIANTS, Ablation, PermutedDataset, ablate, permute

__all__ = ["VARIANTS", "Ablation", "PermutedDataset", "ablate", "permute"]
