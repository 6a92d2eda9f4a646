"""decode-zoo: predict differential gene expression from regulator binding sites.

>>> import decode_zoo as dz
>>> table = dz.load("gtex-tissue-v1").predict(["TP53", "ENSG00000139618"])

Names are imported when they are first used, so that ``import decode_zoo`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decode_zoo.annotation import override_tss, read_gtf, read_tss_bed
    from decode_zoo.builder import annotation_of, build_features, merge_features
    from decode_zoo.errors import DecodeZooError
    from decode_zoo.expression import make_targets, read_expression
    from decode_zoo.features import FeatureSet
    from decode_zoo.genes import read_aliases
    from decode_zoo.genome import Genome
    from decode_zoo.layout import Layout
    from decode_zoo.model import Model, load, load_features
    from decode_zoo.sites import find_site_files
    from decode_zoo.store import Store

__version__ = "0.1.0"

_HOME = {
    "DecodeZooError": "errors",
    "FeatureSet": "features",
    "Genome": "genome",
    "Layout": "layout",
    "Model": "model",
    "Store": "store",
    "annotation_of": "builder",
    "build_features": "builder",
    "find_site_files": "sites",
    "load": "model",
    "load_features": "model",
    "make_targets": "expression",
    "merge_features": "builder",
    "override_tss": "annotation",
    "read_aliases": "genes",
    "read_expression": "expression",
    "read_gtf": "annotation",
    "read_tss_bed": "annotation",
}

__all__ = [
    "DecodeZooError",
    "FeatureSet",
    "Genome",
    "Layout",
    "Model",
    "Store",
    "__version__",
    "annotation_of",
    "build_features",
    "find_site_files",
    "load",
    "load_features",
    "make_targets",
    "merge_features",
    "override_tss",
    "read_aliases",
    "read_expression",
    "read_gtf",
    "read_tss_bed",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'decode_zoo' has no attribute {name!r}")
    return getattr(importlib.import_module(f"decode_zoo.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
