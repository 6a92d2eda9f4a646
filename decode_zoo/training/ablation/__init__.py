"""Ablation: what predictions lose if genes see the inputs of other genes."""

from decode_zoo.training.ablation.permutation import PermutedDataset, permute
from decode_zoo.training.ablation.study import VARIANTS, Ablation, ablate

__all__ = ["VARIANTS", "Ablation", "PermutedDataset", "ablate", "permute"]
