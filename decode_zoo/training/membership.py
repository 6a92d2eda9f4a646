"""Whether a model gives away whose expression it was fitted to.

Somebody who has a person's expression compares it with every output. If the best match of persons
that the model was fitted to is closer than that of others, membership can be told (Shokri et al.
2017, doi 10.1109/SP.2017.41, ask the same of classifiers).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from decode_zoo.metrics import auroc
from decode_zoo.perceptron import PerceptronNetwork
from decode_zoo.training.dataset import Dataset
from decode_zoo.training.finetune import FinetuneFit, finetune_network
from decode_zoo.training.pipeline import predict_part

__all__ = ["Membership", "check_membership"]

FloatArray = npt.NDArray[np.float64]

_HELD_OUT = 0.2
_FEWEST = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Membership:
    """How well samples that a model was fitted to are told from others.

    `trained_genes` and `other_genes` are the area under the ROC curve and its 95% interval, by
    expression of genes that the model was trained on and of genes that it was not; 0.5 gives
    nothing away.
    """

    fitted: int
    held_out: int
    trained_genes: tuple[float, float, float]
    other_genes: tuple[float, float, float]


def check_membership(
    dataset: Dataset, network: PerceptronNetwork, fit: FinetuneFit
) -> Membership | None:
    """Fine-tune once more, without a fifth of the samples, and try to tell them from the others.

    Takes the first seed. None if there are too few samples to hold some out.
    """
    persons = len(dataset.outputs) - 1
    count = max(round(_HELD_OUT * persons), _FEWEST)
    if persons < 2 * count:
        return None
    out = np.zeros(persons, np.bool_)
    out[np.random.default_rng(fit.seeds[0]).permutation(persons)[:count]] = True
    _log.info("membership check: without %d of %d persons", count, persons)
    columns = np.append(np.flatnonzero(~out), persons)
    tuned, _ = finetune_network(
        dataset.take_outputs(columns), network, replace(fit, seeds=fit.seeds[:1])
    )
    split = dataset.split
    unseen = np.concatenate([split.validation, split.test])
    found = []
    for part in (split.training, unseen):
        predicted = predict_part(dataset, tuned, part)[:, :-1]
        best = _correlations(dataset.targets.values[part][:, :-1], predicted).max(axis=1)
        found.append(auroc(best, ~out))
    return Membership(int((~out).sum()), count, *found)


def _correlations(measured: FloatArray, predicted: FloatArray) -> FloatArray:
    """Pearson's correlation of each measured column with each predicted one."""
    unit = []
    for values in (measured, predicted):
        centred = values - values.mean(axis=0)
        unit.append(centred / np.maximum(np.linalg.norm(centred, axis=0), 1e-12))
    return np.asarray(unit[0].T @ unit[1])
