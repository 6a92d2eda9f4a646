"""DeepLIFT's rescale rule in closed form: how much each input adds to each output.

DeepLIFT replaces the slope of a ReLU by the ratio of differences to a reference input: with x the
ReLU's input and r that of the reference, (max(x, 0) - max(r, 0)) / (x - r). Everything else in the
networks is linear, so an input's score is its difference to the reference times a product of
matrices, for all outputs at once, and the scores of a gene add up to the difference of the
predictions. Sources: Shrikumar et al. 2017 (arXiv:1704.02685), section 3.5.1, and, for several
references averaged, Lundberg & Lee 2017 (arXiv:1705.07874).
"""

from __future__ import annotations

from decode_zoo.deeplift.convolution import ConvolutionRule
from decode_zoo.deeplift.dense import slopes
from decode_zoo.deeplift.folded import FoldedRule
from decode_zoo.deeplift.perceptron import PerceptronRule
from decode_zoo.deeplift.scores import Rule, Scores
from decode_zoo.families import Network
from decode_zoo.perceptron import PerceptronNetwork

__all__ = [
    "ConvolutionRule",
    "FoldedRule",
    "PerceptronRule",
    "Rule",
    "Scores",
    "rule_for",
    "slopes",
]


def rule_for(network: Network, *, positions: bool) -> Rule:
    """Choose the rule for a network.

    Parameters
    ----------
    network : DecodeNetwork or PerceptronNetwork
        With the outputs wanted only.
    positions : bool
        Whether places of inputs are bins, not numbers of position sums.
    """
    if isinstance(network, PerceptronNetwork):
        return PerceptronRule(network.fold(), positions=positions)
    if network.config.pools:
        return FoldedRule(network.fold(), positions=positions)
    return ConvolutionRule(network)
