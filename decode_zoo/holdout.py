"""Genes that a model was tested on: which of a feature set's rows it has not seen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from decode_zoo.features import FeatureSet
from decode_zoo.manifest import Manifest

__all__ = ["tested_rows"]

IntArray = npt.NDArray[np.int64]


def tested_rows(manifest: Manifest, features: FeatureSet) -> IntArray | None:
    """Return the rows that a model was tested on, by chromosome or gene by gene, in their order.

    None if the manifest does not tell.
    """
    training, rows = manifest.training, features.rows
    selection = training.get("selection")
    # A split that is not by chromosome names its genes.
    for names, told in (
        (rows.chroms, selection.get("test") if isinstance(selection, Mapping) else None),
        (rows.gene_ids, training.get("test_genes")),
    ):
        if told:
            return np.flatnonzero(np.isin(names, list(told))).astype(np.int64)
    return None
