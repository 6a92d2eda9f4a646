"""decode-zoo: predict differential gene expression from regulator binding sites.

>>> import decode_zoo as dz
>>> table = dz.load("gtex-tissue-v1").predict(["TP53", "ENSG00000139618"])

Names are imported when they are first used, so that ``import decode_zoo`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from decode_zoo.core import __version__

if TYPE_CHECKING:
    from decode_zoo.api import (
        coexpression,
        disrupt,
        enrich,
        evaluate,
        explain,
        fetch,
        finetune,
        knockout,
        mediation,
        merge_features,
        models,
        pair,
        predict,
        prepare_cohort,
        report,
        signature,
        test,
        train,
        traits,
    )
    from decode_zoo.cohort.expression import make_targets, read_expression
    from decode_zoo.core.errors import DecodeZooError
    from decode_zoo.features.annotation import override_tss, read_gtf, read_tss_bed
    from decode_zoo.features.building import annotation_of, build_features
    from decode_zoo.features.featureset import FeatureSet
    from decode_zoo.features.genes import read_aliases
    from decode_zoo.features.genome import Genome
    from decode_zoo.features.sites import find_site_files
    from decode_zoo.features.spec import Binning
    from decode_zoo.pages.folders import write_study
    from decode_zoo.pages.plots import plot
    from decode_zoo.zoo.model import Model, load, load_features
    from decode_zoo.zoo.store import Store

_HOME = {
    "Binning": "features.spec",
    "DecodeZooError": "core.errors",
    "FeatureSet": "features.featureset",
    "Genome": "features.genome",
    "Model": "zoo.model",
    "Store": "zoo.store",
    "annotation_of": "features.building",
    "build_features": "features.building",
    "coexpression": "api",
    "disrupt": "api",
    "enrich": "api",
    "evaluate": "api",
    "explain": "api",
    "fetch": "api",
    "find_site_files": "features.sites",
    "finetune": "api",
    "knockout": "api",
    "load": "zoo.model",
    "load_features": "zoo.model",
    "make_targets": "cohort.expression",
    "mediation": "api",
    "merge_features": "api",
    "models": "api",
    "override_tss": "features.annotation",
    "pair": "api",
    "plot": "pages.plots",
    "predict": "api",
    "prepare_cohort": "api",
    "read_aliases": "features.genes",
    "read_expression": "cohort.expression",
    "read_gtf": "features.annotation",
    "read_tss_bed": "features.annotation",
    "report": "api",
    "signature": "api",
    "test": "api",
    "train": "api",
    "traits": "api",
    "write_study": "pages.folders",
}

__all__ = [
    "Binning",
    "DecodeZooError",
    "FeatureSet",
    "Genome",
    "Model",
    "Store",
    "__version__",
    "annotation_of",
    "build_features",
    "coexpression",
    "disrupt",
    "enrich",
    "evaluate",
    "explain",
    "fetch",
    "find_site_files",
    "finetune",
    "knockout",
    "load",
    "load_features",
    "make_targets",
    "mediation",
    "merge_features",
    "models",
    "override_tss",
    "pair",
    "plot",
    "predict",
    "prepare_cohort",
    "read_aliases",
    "read_expression",
    "read_gtf",
    "read_tss_bed",
    "report",
    "signature",
    "test",
    "train",
    "traits",
    "write_study",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'decode_zoo' has no attribute {name!r}")
    return getattr(importlib.import_module(f"decode_zoo.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
